from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from orderflow.config.files import MAX_BYTES, FileProblem, insecure_reason, read_settings, readable_by_others

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, *, secret: bool = False) -> object:
    file = read_settings(path, "x.toml", required=True, secret=secret)
    assert file is not None
    return file.data


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[A]\n\nB = 1\n")
    file = read_settings(tmp_path / "x", "x", required=True)
    assert file is not None
    assert (file.data, file.lines) == ({"A": {"B": 1}}, {("a",): 1, ("a", "b"): 3})


def test_a_link_is_followed(tmp_path: Path) -> None:
    """Mounted configuration usually is one."""
    (tmp_path / "real").write_text("a = 1")
    (tmp_path / "link").symlink_to("real")
    assert read(tmp_path / "link") == {"a": 1}


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa = 1\nb = 2")
    assert read(tmp_path / "x") == {"a": 1, "b": 2}


def test_missing_is_a_problem_only_when_required(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "x", "x", required=False) is None
    with pytest.raises(FileProblem, match="x: no such file"):
        read_settings(tmp_path / "x", "x", required=True)


@pytest.mark.parametrize(
    "raw, problem",
    [
        (b"a = 1\nb = \xff\n", "x.toml:2: not UTF-8"),
        (b"\xff\xfea\x00=\x001\x00", "x.toml:1: not UTF-8"),
        (b"a = 1\nb = [1,\n", "x.toml:3: not TOML"),
        (b"#" * (MAX_BYTES + 1), "longer than"),
        (b"a = 2026-13-45", "x.toml:1: not TOML"),
    ],
)
def test_unusable_content(tmp_path: Path, raw: bytes, problem: str) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(FileProblem, match=problem):
        read(tmp_path / "x")


def test_neither_folders_pipes_nor_devices_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileProblem, match="cannot be read"):
            read(path)
    with pytest.raises(FileProblem, match="not a regular file"):
        read(type(tmp_path)("/dev/zero"))
    with pytest.raises(FileProblem, match="cannot be read"):
        read(tmp_path / "a\0b")


@pytest.mark.parametrize("raw", [b"a = CANARY", b"a = 'CANARY", b"a = '\x00CANARY'", b"CANARY", b"a = 1\na = 'CANARY'"])
def test_a_problem_of_a_secrets_file_quotes_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(FileProblem) as caught:
        read(tmp_path / "x", secret=True)
    assert str(caught.value).rpartition(": ")[2] == "syntax error"


@pytest.mark.parametrize("mode, open_to_others", [(0o600, False), (0o640, True), (0o604, True), (0o620, True)])
def test_readable_by_others(tmp_path: Path, mode: int, open_to_others: bool) -> None:
    file = tmp_path / "x"
    file.touch()
    file.chmod(mode)
    assert readable_by_others(file) is open_to_others
    assert not readable_by_others(tmp_path / "none")


@pytest.mark.parametrize(
    "folder_mode, file_mode, reason",
    [
        (0o755, 0o644, None),
        (0o700, 0o600, None),
        (0o755, 0o646, "can be written by anyone; run: chmod o-w"),
        (0o757, 0o644, "can be written by anyone; run: chmod o-w"),
        (0o1777, 0o644, None),  # a sticky folder: only the owner may replace what is in it
        (0o1777, 0o666, "can be written by anyone"),
    ],
)
def test_who_could_have_written(tmp_path: Path, folder_mode: int, file_mode: int, reason: str | None) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "x"
    file.touch()
    file.chmod(file_mode)
    folder.chmod(folder_mode)
    found = insecure_reason(file)
    assert found is None if reason is None else reason in (found or "")


def test_a_link_is_judged_by_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to("open")
    assert "can be written by anyone" in (insecure_reason(tmp_path / "link") or "")


def test_what_cannot_be_checked_is_not_trusted(tmp_path: Path) -> None:
    assert "cannot be checked" in (insecure_reason(tmp_path / "none") or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_others_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.touch()
    os.chown(file, 12345, 12345)
    assert "belongs to another user (uid 12345)" in (insecure_reason(file) or "")
    os.chown(file, 0, 12345)
    file.chmod(0o664)
    assert "can be written by its group; run: chmod g-w" in (insecure_reason(file) or "")
