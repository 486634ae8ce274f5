"""Plugins in the whole program, against an exchange that writes down what it is sent: the feed does not suffer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.program import Exchange, Program
from tests.hooks.plugin_files import tick_hook, write_plugin

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.socket

QUICK = ["--interval", "0.4", "--set", "feed.ping_interval_s=0.4", "--set", "feed.pong_timeout_s=0.4"]
SLEEPS = tick_hook("import time; time.sleep(0.2)", "return [notice(tick, 'slept', 'm')]")
LOOPS = tick_hook("while True: pass")


def start(tmp_path: Path, exchange: Exchange, body: str, *options: str) -> Program:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    write_plugin(folder, "bad", body)
    write_plugin(folder, "good")
    plugins = ["--set", "plugins.folders=plugins", "--set", "plugins.enabled=bad,good"]
    return Program(tmp_path, *exchange.options, *plugins, *QUICK, *options)


def pings(log: Path) -> int:
    """How many the exchange was sent."""
    texts = [json.loads(line).get("text", "{}") for line in log.read_text().splitlines()]
    return sum(json.loads(text).get("op") == "ping" for text in texts)


@pytest.mark.parametrize(
    ("body", "options"),
    [(SLEEPS, []), (LOOPS, ["--set", "plugins.isolated=bad", "--set", "plugins.isolated_answer_s=0.5"])],
    ids=["sleeps in every tick", "loops, isolated"],
)
def test_pings_stay_on_time_and_the_other_plugin_gets_its_ticks(tmp_path: Path, body: str, options: list[str]) -> None:
    log = tmp_path / "clients.jsonl"
    with Exchange(client_log=log) as exchange, start(tmp_path, exchange, body, *options) as program:
        since = 0
        for _ in range(5):
            program.until(lambda event: event["event"] == "alert" and event["plugin"] == "good", since=since)
            since = len(program.lines)
        code, _ = program.stop()
    assert code == 0
    assert pings(log) >= 3
    changes = [event for event in program.events if event["event"] == "feed"]
    assert [change for change in changes if change.get("state") == "down"] == []  # no pong was missed
    summary: dict[str, Any] = program.events[-1]
    assert summary["reconnects"] == 0
    assert summary["resyncs"] == 0


def test_wrong_settings_of_a_plugin_stop_it_before_anything_is_connected(tmp_path: Path) -> None:
    log = tmp_path / "clients.jsonl"
    wrong = ["--set", "plugins.good.limit=-1", "--set", "plugins.isolated=bad", "--set", "plugins.bad.lmit=2"]
    with Exchange(client_log=log) as exchange, start(tmp_path, exchange, SLEEPS, *wrong) as program:
        assert program.end() == 2
    assert program.lines == []
    assert [json.loads(line) for line in log.read_text().splitlines()] == []
    assert "plugins.good.limit" in program.stderr
    assert "plugins.bad.lmit: unknown setting; did you mean 'limit'?" in program.stderr
