"""`orderflow plugins list|new|check` as functions."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.core.errors import ConfigError
from orderflow.hooks.commands import (
    check_plugins,
    format_check,
    format_list,
    format_new,
    list_plugins,
    new_plugin,
)
from tests.hooks.choice import choose
from tests.hooks.plugin_files import tick_hook, write_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "plugins"


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("a_file", "a_file cannot be written to: it is a file; give another --folder"),
        ("a_file/inside", "a_file/inside cannot be written to: not a directory; give another --folder"),
        (" ", "--folder: got an empty name, expected a folder"),
    ],
)
def test_new_says_what_stands_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("x")
    with pytest.raises(ConfigError) as caught:
        new_plugin("whale", place)
    assert str(caught.value) == f"plugins new: {says}"


def test_list_names_what_runs_what_could_and_what_cannot(folder: Path) -> None:
    write_plugin(folder, "bad", text="x = 1\n")
    write_plugin(folder, "idle", text="raise SystemExit\n")
    listing = list_plugins(choose(("spread", "bad"), folder), BUNDLED)
    states = {plugin.name: str(plugin.state) for plugin in listing.plugins}
    assert states == {
        "spread": "active",
        "bad": "refused",
        "latency": "available",
        "liquidity": "available",
        "idle": "available",
    }
    spread = listing.plugins[0]
    assert (spread.hooks, spread.version) == (("orderflow_tick",), "1.0")
    assert spread.config["raise_above"] == 0.8
    text = format_list(listing)
    assert all(name in text for name in states)
    assert all(line.isprintable() for line in text.splitlines())
    assert msgspec.json.decode(msgspec.json.encode(listing))["plugins"][0]["name"] == "spread"


def test_new_writes_a_plugin_that_checks_and_whose_tests_pass(folder: Path) -> None:
    new = new_plugin("whale", folder, taken=("spread",))
    assert new.notes == ()
    report = check_plugins(choose(()), None, [new.plugin])
    assert report.ok
    assert report.plugins[0].alerts > 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), new.test]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False)
    assert (done.returncode, "3 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_new_works_as_its_last_lines_say(folder: Path) -> None:
    import tomllib

    new = new_plugin("whale", folder)
    text = format_new(new, ("spread",))
    block = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    table = tomllib.loads(block)["default"]["plugins"]
    listing = list_plugins(choose(table["enabled"], *map(Path, table["folders"])), BUNDLED)
    assert [(plugin.name, str(plugin.state)) for plugin in listing.plugins][:2] == [
        ("spread", "active"),
        ("whale", "active"),
    ]


def test_new_makes_what_others_cannot_write_to_whatever_the_umask(tmp_path: Path, open_umask: None) -> None:
    new = new_plugin("whale", tmp_path / "fresh")
    for path in (new.folder, new.plugin, new.test):
        assert not stat.S_IMODE(Path(path).stat().st_mode) & 0o022
    assert new.notes == ()


def test_new_says_when_its_folder_cannot_be_used(folder: Path) -> None:
    folder.chmod(0o777)
    (note,) = new_plugin("whale", folder).notes
    assert f"chmod go-w {folder}" in note


@pytest.mark.parametrize("name", ["", "Whale", "../whale", "a/b", "test_x", "enabled", "spread", "w\x1b", "1st"])
def test_new_refuses_names(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        new_plugin(name, folder, taken=("spread",))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("existing", ["whale.py", "test_whale.py"])
def test_new_never_overwrites(folder: Path, existing: str) -> None:
    (folder / existing).write_text("mine")
    with pytest.raises(ConfigError, match="left as it is"):
        new_plugin("whale", folder)
    assert [path.name for path in folder.iterdir()] == [existing]
    assert (folder / existing).read_text() == "mine"


def test_new_in_a_place_that_is_no_folder(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(ConfigError):
        new_plugin("whale", folder / "file")


def test_check_of_what_is_bundled_and_enabled() -> None:
    report = check_plugins(choose(("spread", "latency", "liquidity")), BUNDLED)
    assert report.ok
    assert [plugin.name for plugin in report.plugins] == ["latency", "liquidity", "spread"]
    assert format_check(report).count("ok ") == 3


BAD = {
    "raises": (tick_hook("raise ValueError('no')"), "ValueError"),
    "raises on missing values": (tick_hook("return [] if tick.spread_pct > 1 else None"), "TypeError"),
    "returns nonsense": (tick_hook("return 7"), "returned 7"),
    "raises at stop": ("@hookimpl\ndef orderflow_stop(self, summary): 1 / 0\n", "ZeroDivisionError"),
    "raises on private": ("@hookimpl\ndef orderflow_private(self, message): 1 / 0\n", "ZeroDivisionError"),
    "does not load": ("x = = 1", "SyntaxError"),
}


@pytest.mark.parametrize("body, says", BAD.values(), ids=BAD.keys())
def test_check_finds_it(folder: Path, body: str, says: str) -> None:
    write_plugin(folder, "bad", body)
    write_plugin(folder, "good")
    report = check_plugins(choose(()), None, [folder])
    assert not report.ok
    verdicts = {plugin.name: plugin.problems for plugin in report.plugins}
    assert verdicts["good"] == ()
    assert says in " ".join(verdicts["bad"])
    assert "FAIL  bad" in format_check(report)


def test_check_judges_settings_and_duplicates_too(folder: Path, tmp_path: Path) -> None:
    write_plugin(folder, "spread")
    report = check_plugins(choose(("sprea",), folder, tables={"latncy": {}}), BUNDLED)
    assert not report.ok
    text = format_check(report)
    for part in ("plugins.enabled", "did you mean 'spread'", "plugins.latncy", "2 plugins named 'spread'"):
        assert part in text


@pytest.mark.parametrize("name", ["no.py", "no", "notes.txt"])
def test_check_of_a_path_that_is_no_plugin(folder: Path, name: str) -> None:
    (folder / "notes.txt").write_text("")
    report = check_plugins(choose(()), None, [folder / name])
    assert not report.ok
    assert report.plugins == ()


def test_check_uses_the_plugins_table(folder: Path) -> None:
    path = write_plugin(folder, "good")
    assert check_plugins(choose(()), None, [path]).ok
    assert not check_plugins(choose((), tables={"good": {"limit": -1}}), None, [path]).ok
