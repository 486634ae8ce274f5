"""Where plugins are looked for, and which folders and files are trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orderflow.config.tree import PluginSettings
from orderflow.hooks.discovery import RESERVED, Origin, Source, access_fault, discover, mode_fault, name_fault
from orderflow.hooks.problems import ProblemKind
from tests.hooks.plugin_files import write_plugin


def test_the_order_is_bundled_then_folders_and_names_are_sorted(tmp_path: Path, folder: Path) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir(mode=0o755)
    for place, name in ((bundled, "z"), (bundled, "b"), (folder, "a"), (folder, "c")):
        write_plugin(place, name)
    catalogue = discover(bundled, [folder], entry_points=False)
    assert [(source.name, source.origin) for source in catalogue.sources] == [
        ("b", Origin.BUNDLED),
        ("z", Origin.BUNDLED),
        ("a", Origin.FOLDER),
        ("c", Origin.FOLDER),
    ]


def test_what_is_no_plugin_file_is_passed_over(folder: Path) -> None:
    for name in ("test_whale", "conftest", "_private", "Upper", "a-b", "enabled", "whale"):
        write_plugin(folder, name)
    (folder / "notes.txt").write_text("")
    (folder / "sub").mkdir()
    assert discover(None, [folder], entry_points=False).names == ("whale",)


def test_a_folder_named_twice_counts_once(folder: Path) -> None:
    write_plugin(folder, "whale")
    catalogue = discover(None, [folder, f"{folder}/../{folder.name}"], entry_points=False)
    assert len(catalogue.named("whale")) == 1


def test_the_bundled_folder_named_once_more_gives_no_duplicates(folder: Path, tmp_path: Path) -> None:
    write_plugin(folder, "whale")
    (tmp_path / "link").symlink_to(folder)
    catalogue = discover(folder, [folder, tmp_path / "link"], entry_points=False)
    assert [(source.name, source.origin) for source in catalogue.sources] == [("whale", Origin.BUNDLED)]


def test_the_working_directory_is_never_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(folder, "whale")
    monkeypatch.chdir(folder)
    assert discover(None, [], entry_points=False).sources == ()
    catalogue = discover(None, ["", "  "], entry_points=False)
    assert catalogue.sources == ()
    wrong = "plugins.folders: got an empty name, expected a folder"
    assert [str(problem) for problem in catalogue.problems] == [wrong, wrong]
    assert {problem.kind for problem in catalogue.problems} == {ProblemKind.SETTINGS}


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_a_folder_others_may_write_to(folder: Path, mode: int) -> None:
    write_plugin(folder, "whale")
    folder.chmod(mode)
    catalogue = discover(None, [folder], entry_points=False)
    assert catalogue.sources == ()
    (problem,) = catalogue.problems
    assert str(problem) == f"plugins.folders: {folder} is writable by others; run: chmod go-w {folder}"
    folder.chmod(0o755)
    assert discover(None, [folder], entry_points=False).problems == ()


def test_a_bundled_folder_is_as_trusted_as_the_program(folder: Path) -> None:
    write_plugin(folder, "whale").chmod(0o664)  # what git makes of it under umask 002
    folder.chmod(0o775)
    assert discover(folder, [], entry_points=False).names == ("whale",)


def test_a_folder_that_everybody_could_swap_for_another(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir(mode=0o755)
    inner.chmod(0o755)
    assert access_fault(inner) == ""
    folder.chmod(0o757)
    assert access_fault(inner) == f"{folder} is writable by everybody; run: chmod o-w {folder}"
    folder.chmod(0o1757)
    assert access_fault(inner) == ""


def test_a_link_is_judged_by_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    path = write_plugin(real, "whale")
    link = folder / "whale.py"
    link.symlink_to(path)
    real.chmod(0o777)
    assert "real is writable by everybody" in access_fault(link)
    real.chmod(0o755)
    assert access_fault(link) == ""
    path.chmod(0o666)
    assert "chmod go-w" in access_fault(link)


@pytest.mark.parametrize("uid, ok", [(0, True), (os.geteuid(), True), (os.geteuid() + 1234, False)])
def test_the_owner_is_root_or_the_user(uid: int, ok: bool) -> None:
    status = os.stat_result((0o100644, 0, 0, 1, uid, 0, 0, 0, 0, 0))
    assert (mode_fault(Path("x.py"), status) == "") is ok


@pytest.mark.parametrize(("uid", "ok"), [(0, True), (1234, True), (1, False)])
def test_a_user_who_is_not_root_trusts_root(monkeypatch: pytest.MonkeyPatch, uid: int, ok: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    status = os.stat_result((0o100644, 0, 0, 1, uid, 0, 0, 0, 0, 0))
    assert (mode_fault(Path("x.py"), status) == "") is ok


def test_a_home_folder_of_nobody() -> None:
    (problem,) = discover(None, ["~no_such_user_here/x"], entry_points=False).problems
    assert problem.text == "~no_such_user_here/x: no such home folder"


def test_the_home_folder_may_be_named_by_its_sign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    path = write_plugin(folder, "whale")
    (source,) = discover(None, [f"~/{folder.name}"], entry_points=False).sources
    assert source.path == str(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = discover(None, [tmp_path / "no\x1b"], entry_points=False).problems
    assert problem.text == rf"{tmp_path}/no\x1b: no such folder"
    (tmp_path / "file").write_text("")
    (problem,) = discover(None, [tmp_path / "file"], entry_points=False).problems
    assert problem.text == f"{tmp_path}/file: no such folder"
    assert discover(tmp_path / "gone", [], entry_points=False).sources == ()


def test_where_a_plugin_is_for_people() -> None:
    assert Source(name="x", origin=Origin.FOLDER, path="/p/x.py").where == "/p/x.py"
    assert Source(name="x", origin=Origin.ENTRY_POINT, entry_point="a:B").where == "a:B"
    assert Source(name="x", origin=Origin.TEST) == Source(
        name="x", origin=Origin.TEST, path="", entry_point="", version=""
    )
    assert list(Origin) == ["bundled", "folder", "entry_point", "test"]


ENTRY_POINTS = """\
[orderflow.plugins]
whale = pkg:Whale
minnow = pkg:Minnow
[other.plugins]
not_ours = pkg:Other
"""


def test_entry_points_come_last_by_name_with_the_version_of_their_distribution(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "pkg-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pkg\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.setattr("sys.path", [str(info.parent)])
    path = write_plugin(folder, "zander")
    assert discover(None, [folder], entry_points=True).sources == (
        Source(name="zander", origin=Origin.FOLDER, path=str(path)),
        Source(name="minnow", origin=Origin.ENTRY_POINT, entry_point="pkg:Minnow", version="1.2"),
        Source(name="whale", origin=Origin.ENTRY_POINT, entry_point="pkg:Whale", version="1.2"),
    )


def test_names_are_listed_once_in_the_order_they_were_found(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    for place, name in ((folder, "b"), (folder, "c"), (other, "a"), (other, "b")):
        write_plugin(place, name)
    catalogue = discover(None, [folder, other], entry_points=False)
    assert catalogue.names == ("b", "c", "a")
    assert [source.path for source in catalogue.named("b")] == [str(folder / "b.py"), str(other / "b.py")]
    assert catalogue.named("d") == ()


def test_a_loop_of_links_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert access_fault(tmp_path / "loop").startswith(f"{tmp_path}/loop: ")


def test_what_is_not_there_cannot_be_trusted(tmp_path: Path) -> None:
    assert access_fault(tmp_path / "gone.py") == f"{tmp_path}/gone.py: No such file or directory"


@pytest.mark.parametrize(
    ("mode", "uid", "text"),
    [
        (0o100644, os.geteuid(), ""),
        (0o100664, os.geteuid(), "x.py is writable by others; run: chmod go-w x.py"),
        (0o100646, os.geteuid(), "x.py is writable by others; run: chmod go-w x.py"),
        (
            0o100666,
            os.geteuid() + 5,
            f"x.py belongs to another user (uid {os.geteuid() + 5}); make it yours: chown {os.geteuid()} x.py",
        ),
    ],
)
def test_what_is_said_of_owners_and_permissions(mode: int, uid: int, text: str) -> None:
    status = os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))
    assert mode_fault(Path("x.py"), status) == text


def test_no_plugin_can_take_the_name_of_a_setting() -> None:
    assert set(PluginSettings.__struct_fields__) == RESERVED
    assert all(name_fault(name) for name in RESERVED)
    assert name_fault("whale_2") == ""
