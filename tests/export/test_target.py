from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderflow.core.errors import ConfigError
from orderflow.export.target import Abandoned, new_folder

if TYPE_CHECKING:
    from pathlib import Path


def fill(out: Path, error: BaseException) -> None:
    with new_folder(out) as folder:
        (folder / "a").touch()
        raise error


def test_it_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("x")
        assert not out.exists()
    assert (out / "a" / "b").read_text() == "x"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out"):
        pass
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    assert (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("error", [Abandoned, KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_one_that_does_not_end_well(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fill(tmp_path / "out", error())
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "full", "link"):
        with pytest.raises(ConfigError, match="is there already"), new_folder(tmp_path / name):
            pytest.fail("it must not begin")
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_disk_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"), new_folder(tmp_path / "file" / "out"):
        pytest.fail("it must not begin")
    with pytest.raises(ConfigError, match="No space left"):
        fill(tmp_path / "out", OSError(28, "No space left on device", "part"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
