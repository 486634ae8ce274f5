"""`orderflow plugins list|new|check` as functions."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from orderflow.core.errors import ConfigError
from orderflow.hooks.commands import (
    DEFAULT_FOLDER,
    Checked,
    CheckReport,
    Listing,
    NewPlugin,
    check_plugins,
    format_check,
    format_list,
    format_new,
    list_plugins,
    new_plugin,
)
from orderflow.hooks.problems import Problem
from orderflow.hooks.records import PluginState, PluginStatistics
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


# --- as text


def plugin(name: str, state: PluginState = PluginState.ACTIVE, **fields: Any) -> PluginStatistics:
    known = {"version": "", "where": f"/p/{name}.py", "origin": "folder", "hooks": ()}
    return PluginStatistics(**{**known, **fields}, name=name, state=state)


LISTING = Listing(
    plugins=(
        plugin(
            "whale",
            version="1.0",
            hooks=("orderflow_start", "orderflow_tick"),
            failures=12,
            mean_ms=0.12345,
            isolated=True,
            config={"limit": 1.5, "clear": None, "severity": "info\x1b"},
        ),
        plugin("x", PluginState.AVAILABLE),
    ),
    problems=(Problem(plugin="bad", text="no good", path="/p/bad.py", line=3),),
)
LISTED = """\
name   version  state             hooks        failures  mean      file
whale  1.0      active, isolated  start, tick  12        0.123 ms  /p/whale.py
    limit=1.5 severity=info\\x1b
x      -        available         -            0         -         /p/x.py
problem: /p/bad.py:3: plugin bad: no good"""


def test_the_listing_as_text() -> None:
    assert format_list(LISTING) == LISTED


REPORT = CheckReport(
    plugins=(
        Checked(name="good", where="/p/good.py", alerts=1, mean_ms=0.12345),
        Checked(name="slow", where="/p/slow.py", alerts=2, mean_ms=30.0, warnings=("2 calls took longer",)),
        Checked(name="bad", where="/p/bad.py", problems=("first", "second")),
    ),
    problems=("of nobody",),
)
REPORTED = """\
ok    good  /p/good.py, 1 alert, 0.123 ms a call
ok    slow  /p/slow.py, 2 alerts, 30.000 ms a call
      warning: 2 calls took longer
FAIL  bad  /p/bad.py
      first
      second
FAIL  of nobody"""


def test_the_report_as_text() -> None:
    assert format_check(REPORT) == REPORTED
    assert format_check(CheckReport(plugins=())) == "no plugins found"


@pytest.mark.parametrize(("plugins", "problems", "ok"), [(1, 0, True), (2, 0, True), (3, 0, False), (1, 1, False)])
def test_warnings_do_not_fail_a_check(plugins: int, problems: int, ok: bool) -> None:
    assert CheckReport(plugins=REPORT.plugins[:plugins], problems=REPORT.problems[:problems]).ok is ok


NEW = NewPlugin(name="whale", plugin="p/whale.py", test="p/test_whale\x1b.py", folder="/p", notes=("mind this",))
TOLD = """\
wrote p/whale.py
wrote p/test_whale\\x1b.py
note: mind this
check it:   orderflow plugins check p/whale.py
test it:    pytest p/test_whale\\x1b.py
enable it, in settings.toml:
    [default.plugins]
    enabled = ["spread", "whale"]
    folders = ["/p"]"""


def test_what_was_written_as_text() -> None:
    assert format_new(NEW, ("spread",)) == TOLD


def test_new_names_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    new = new_plugin("big_whale")
    assert DEFAULT_FOLDER == "my_plugins"
    folder = Path("my_plugins")
    assert (new.name, new.folder, new.notes) == ("big_whale", "my_plugins", ())
    assert (new.plugin, new.test) == (str(folder / "big_whale.py"), str(folder / "test_big_whale.py"))
    assert (folder / "big_whale.py").read_text().startswith('"""Big whale: alerts while')
    assert "pytest my_plugins/test_big_whale.py" in (folder / "test_big_whale.py").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("name", "says"),
    [("spread", "there is a plugin 'spread' already"), ("enabled", "'enabled' is a setting of [plugins]")],
)
def test_new_says_why_a_name_cannot_be_used(folder: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        new_plugin(name, folder, taken=iter(("spread",)))
    assert str(caught.value).startswith(f"plugins new: {says}")


# --- check, in numbers


def test_what_a_check_counts(folder: Path) -> None:
    body = tick_hook(
        "self.seen.append(1)", "if len(self.seen) % 2: raise ValueError('odd')", "yield notice(tick, 'r', 'm')"
    )
    path = write_plugin(folder, "half", body)
    (half,) = check_plugins(choose(()), None, [path]).plugins
    assert (half.name, half.where, half.hooks, half.alerts) == ("half", str(path), ("orderflow_tick",), 7)
    line = path.read_text().splitlines().index("        if len(self.seen) % 2: raise ValueError('odd')") + 1
    assert half.problems == (f"8 of 15 calls failed, last: ValueError: odd (line {line})",)
    assert half.warnings == ()
    assert half.mean_ms is not None
    assert half.max_ms is not None
    assert 0 < half.mean_ms <= half.max_ms


def test_every_hook_is_run_in_the_order_of_a_run(folder: Path) -> None:
    arguments = {"start": "info", "stop": "summary", "feed_change": "change", "alert": "alert", "private": "message"}
    hooks = [
        f"@hookimpl\ndef orderflow_{hook}(self, {argument}):\n    self.seen.append('{hook}')\n"
        for hook, argument in arguments.items()
        if hook != "stop"
    ]
    stop = "@hookimpl\ndef orderflow_stop(self, summary):\n    raise ValueError(' '.join(self.seen))\n"
    path = write_plugin(folder, "all", "".join(hooks) + stop + tick_hook("self.seen.append('tick')"))
    (checked,) = check_plugins(choose(()), None, [path]).plugins
    order = " ".join(("start", *["tick"] * 15, "feed_change", "feed_change", "private"))
    assert f"last: ValueError: {order} (line" in checked.problems[0]


def test_a_plugin_that_fails_too_often_would_be_disabled(folder: Path) -> None:
    path = write_plugin(folder, "bad", tick_hook("raise ValueError('no')"))
    (bad,) = check_plugins(choose((), max_failures=3), None, [path]).plugins
    assert len(bad.problems) == 1
    assert bad.problems[0].startswith("it would be disabled: orderflow_tick failed 3 times in a row")


def test_slow_calls_are_a_warning(folder: Path) -> None:
    body = "@hookimpl\ndef orderflow_start(self, info):\n    import time\n    time.sleep(0.01)\n"
    path = write_plugin(folder, "slow", body)
    report = check_plugins(choose((), budget_ms=1.5), None, [path])
    assert report.ok
    assert report.plugins[0].warnings == ("1 call took longer than 1.5 ms",)


def test_a_check_of_everything_names_each_problem_once(folder: Path, tmp_path: Path) -> None:
    """What is wrong with a plugin is in its own line, what is wrong with the settings below all of them."""
    bad = write_plugin(folder, "bad", text="x = 1\n")
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    for place in (folder, other):
        write_plugin(place, "twin")
    report = check_plugins(choose(("bad", "nobody"), folder, other, tmp_path / "gone"), None)
    assert [one.name for one in report.plugins] == ["bad", "twin", "twin"]
    assert len(report.plugins[0].problems) == 1
    assert report.plugins[0].where == str(bad)
    assert report.plugins[0].hooks == ()
    gone, nobody, twins = report.problems
    assert gone == f"plugins.folders: {tmp_path / 'gone'}: no such folder"
    assert nobody.startswith("plugins.enabled: no plugin 'nobody'")
    assert twins == "there are 2 plugins named 'twin'; neither could be enabled"


def test_enabled_twins_are_reported_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    for place in (folder, other):
        write_plugin(place, "twin")
    report = check_plugins(choose(("twin",), folder, other), None)
    (problem,) = report.problems
    assert "there are 2 plugins of this name, none is used" in problem


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no.py", "no such plugin file or folder"),
        ("notes.txt", "no such plugin file or folder"),
        ("test_x.py", "'test_x' is a name of test files and cannot be a plugin's"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(folder: Path, name: str, says: str) -> None:
    for existing in ("notes.txt", "test_x.py"):
        (folder / existing).write_text("")
    report = check_plugins(choose(()), None, [folder / name])
    assert (report.plugins, report.problems) == ((), (f"{folder / name}: {says}",))


def test_a_folder_others_may_write_to_is_a_problem_of_the_check(folder: Path) -> None:
    write_plugin(folder, "whale")
    folder.chmod(0o777)
    report = check_plugins(choose(()), None, [folder])
    assert report.plugins == ()
    assert report.problems == (f"plugins.folders: {folder} is writable by others; run: chmod go-w {folder}",)


def test_what_is_available_is_told_as_it_was_found(folder: Path) -> None:
    path = write_plugin(folder, "idle", text="raise SystemExit\n")
    (idle,) = list_plugins(choose((), folder), None).plugins
    assert idle == plugin("idle", PluginState.AVAILABLE, where=str(path))
