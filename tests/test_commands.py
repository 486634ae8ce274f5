"""The command line as a user meets it: mistakes are named in one line, nothing is a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def orderflow(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("ORDERFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "orderflow", *words],
        cwd=cwd,
        env={**env, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demo", "--view", "live"], "--view"),
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
def test_mistakes_are_named_with_exit_code_2(words: list[str], named: str, tmp_path: Path) -> None:
    done = orderflow(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert not done.stdout


def test_settings_and_plugin_tables_are_judged_together(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        "[default.feed]\nopen_timeout_s = -1\n[default.plugins.spread]\nraise_above = -0.1\nrais_above = 3\n"
    )
    for words in (["config", "check"], ["demo", "--duration", "1"]):
        done = orderflow(*words, cwd=tmp_path)
        assert done.returncode == 2
        for place, key in (
            ("settings.toml:2", "open_timeout_s"),
            ("settings.toml:4", "plugins.spread.raise_above"),
            ("settings.toml", "plugins.spread.rais_above"),
        ):
            assert any(place in line and key in line for line in done.stderr.splitlines()), done.stderr


def test_data_commands_print_json(tmp_path: Path) -> None:
    import json

    for words in (["config", "show", "--json"], ["plugins", "list", "--json"], ["plugins", "check", "--json"]):
        done = orderflow(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell: str, tmp_path: Path) -> None:
    done = orderflow("completion", shell, cwd=tmp_path)
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
