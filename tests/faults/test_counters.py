"""The counters of a run: in the `stats` events, in the summary; and the end of a run without an exchange."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.program import Exchange, Program, nowhere

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.socket


def test_stats_while_it_runs_and_at_the_end(tmp_path: Path) -> None:
    quick = ["--set", "stats_interval_s=0.2", "--set", "retry.base_s=0.2", "--set", "retry.cap_s=0.2"]
    with Exchange() as exchange, Program(tmp_path, *exchange.options, *quick, "--interval", "0.2") as program:
        program.until_live()
        stats = program.until(  # live, and a tick was made since
            lambda event: (
                event["event"] == "stats"
                and event["books"][0]["state"] == "live"
                and all(plugin["calls"] for plugin in event["plugins"])
            )
        )
        exchange.close()
        program.until(lambda event: event["event"] == "stats" and event["links"][0]["losses"].get("refused", 0) >= 2)
        program.stop()
    (link,), (book,) = stats["links"], stats["books"]
    assert (link["link"], link["up"], link["connects"], link["losses"]) == ("linear", True, 1, {})
    assert link["frames"] > 0
    assert (book["symbol"], book["state"], book["gaps"], book["resyncs"]) == ("BTCUSDT", "live", 0, {})
    assert [queue["channel"] for queue in stats["queues"]] == ["events", "alerts", "private", "isolated"]
    assert stats["queues"][0]["overruns"] == 0
    assert {plugin["plugin"] for plugin in stats["plugins"]} == {"spread", "latency", "liquidity"}
    assert all(plugin["calls"] and not plugin["disabled"] for plugin in stats["plugins"])
    assert 0 <= stats["loop_lag_s"] <= stats["loop_lag_max_s"] < 2
    summary = program.events[-1]["stats"]
    assert summary["links"][0]["up"] is False
    assert sum(summary["links"][0]["losses"].values()) >= 3
    assert summary["links"][0]["retry_s"] <= 0.2
    assert summary["books"][0]["state"] == "empty"


def test_messages_refused_are_counted_by_reason_wherever_counters_are_told(tmp_path: Path) -> None:
    """Those nobody can read, those with a wrong number, and those that only the book finds wrong."""
    quick = ["--set", "stats_interval_s=0.2", "--interval", "0.2"]
    wanted = {"json": 1, "number": 1, "depth": 1, "restart": 1}
    with Exchange() as exchange, Program(tmp_path, *exchange.options, *quick) as program:
        for fault in ("corrupt:how=json", "corrupt:how=number", "overfull", "restart-delta"):
            program.until(lambda event: event["event"] == "tick" and event["state"] == "live", since=len(program.lines))
            exchange.arm(fault)
            program.until(lambda event: event.get("state") == "suspect", since=len(program.lines))
        program.until(lambda event: event["event"] == "stats" and event["links"][0]["refused"] == wanted)
        assert program.stop()[0] == 0
    summary = program.events[-1]
    assert summary["refused"] == sum(wanted.values())
    assert summary["stats"]["links"][0]["refused"] == wanted
    assert program.stderr.count("message refused: ") == 2


def test_what_rest_asks_and_what_it_is_refused_is_counted(tmp_path: Path) -> None:
    """A blocked address: one request, then it is left alone for a minute, and what is not asked is counted."""
    with Exchange() as exchange:
        exchange.arm("rest-http:status=403")
        rest = ["--set", f"bybit.rest_url={exchange.server.rest_url}", "--set", "stats_interval_s=0.2"]
        with Program(tmp_path, *exchange.options, *rest, "--set", "clock.interval_s=0.2") as program:
            program.until(lambda event: event["event"] == "stats" and event["rest"]["held_back"] >= 2)
            assert program.stop()[0] == 0
    counts = program.events[-1]["stats"]["rest"]
    assert counts["requests"] == counts["failures"]
    assert 1 <= counts["pauses"] <= counts["requests"] <= 2  # both who ask may have asked before the first answer
    assert program.events[-1]["stats"]["output"]["lines"] > 3
    assert program.events[-1]["stats"]["server"] is None


def test_too_long_without_the_exchange(tmp_path: Path) -> None:
    with Program(tmp_path, *nowhere(), "--max-outage", "0.6") as program:
        assert program.end() == 4
    assert program.events[-1]["event"] == "summary"
    assert "could not be reached for 0.6 s" in str(program.events[-1]["notes"])


def test_an_outage_is_counted_from_the_last_link_that_worked(tmp_path: Path) -> None:
    with Exchange() as exchange, Program(tmp_path, *exchange.options, "--max-outage", "0.8") as program:
        program.until_live()
        time.sleep(1.2)
        assert program.process.poll() is None
        began = time.monotonic()
        exchange.close()
        assert program.end() == 4
        assert time.monotonic() - began > 0.5
