"""The command line as a user meets it: mistakes are named in one line, nothing is a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from orderflow.cli import main
from orderflow.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory for commands that run in our own process, whose signals are left as they were."""
    for name in list(os.environ):
        if name.startswith("ORDERFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Watchdog, "start", lambda self: None)  # no loop of ours beats: it would end the tests
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def orderflow(capsys: pytest.CaptureFixture[str], *words: str) -> Done:
    """A command in our own process. One that runs although it should not ends soon."""
    try:
        code = main([*words, "--duration", "1"] if words[0] in ("run", "demo") else words)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    return Done(code, *capsys.readouterr())


def orderflow_process(cwd: Path, *words: str) -> Done:
    env = {key: value for key, value in os.environ.items() if not key.startswith("ORDERFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "orderflow", *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def check_mistake(done: Done, named: str) -> None:
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demo", "--set", "sim.host=203.0.113.1"], "sim.host"),
        (["demo", "--book-out", "/"], "--book-out"),
        (["demo", "--book-out", "missing/books.json"], "--book-out"),
        (["run", "--symbol", "option:BTC-26MAR27-90000-C"], "options are out of scope"),
        (["run", "--symbol", "B\x1b[2JTC"], "symbols"),
        (["run", "--set", "depth"], "--set"),
        (["run", "--env", "moon"], "moon"),
        (["run", "--config", "nowhere.toml"], "nowhere.toml"),
        (["plugins", "new", "../evil"], "evil"),
        (["config", "show", "--set", "feed.ping_interval_s=-1"], "ping_interval_s"),
    ],
)
def test_mistakes_are_named_with_exit_code_2(
    words: list[str], named: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_mistake(orderflow(capsys, *words), named)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demo", "--view", "live"], "--view"),  # behind plugins and watchdog, just before the loop
        (["run", "--set", "depth"], "--set"),  # before anything
        (["run", "--env"], "--env"),  # by argparse
    ],
)
def test_so_they_are_by_a_process(words: list[str], named: str, tmp_path: Path) -> None:
    check_mistake(orderflow_process(tmp_path, *words), named)


def test_settings_and_plugin_tables_are_judged_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "settings.toml").write_text(
        "[default.feed]\nopen_timeout_s = -1\n[default.plugins.spread]\nraise_above = -0.1\nrais_above = 3\n"
    )
    for words in (["config", "check"], ["demo"]):
        done = orderflow(capsys, *words)
        assert done.returncode == 2
        for origin, key in (
            ("settings.toml:2", "open_timeout_s"),
            ("settings.toml:4", "plugins.spread.raise_above"),
            ("settings.toml", "plugins.spread.rais_above"),
        ):
            assert any(origin in line and key in line for line in done.stderr.splitlines()), done.stderr


@pytest.mark.parametrize("words", [["config", "show"], ["plugins", "list"], ["plugins", "check"]], ids=" ".join)
def test_data_commands_print_json(words: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = orderflow(capsys, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = orderflow(capsys, "completion", shell)
    assert done.returncode == 0
    for word in ("demo", "doctor", "plugins", "bench"):
        assert word in done.stdout


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from orderflow.cli import build_parser; build_parser('').format_help();"
        "print([name for name in ('trio', 'msgspec', 'rich', 'httpx', 'dynaconf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr
