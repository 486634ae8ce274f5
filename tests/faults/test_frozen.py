"""A process that is stopped and continued: nothing is believed too early, nobody is blamed for it."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.program import Exchange, Program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.socket

LINEAR = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "1000PEPEUSDT")
SHORT = {
    "watch.stall_s": 0.5,
    "feed.ping_interval_s": 0.3,
    "feed.pong_timeout_s": 0.8,
    "feed.idle_timeout_s": 0.9,
    "feed.ack_timeout_s": 0.7,
    "feed.snapshot_timeout_s": 0.8,
    "interval_s": 0.1,
}
"""Deadlines so short that any of them would have passed during the freeze."""


def requests(log: Path, op: str) -> list[int]:
    """How many topics each request of this kind named, since the exchange started."""
    told = (json.loads(line) for line in log.read_text().splitlines())
    frames = [json.loads(event["text"]) for event in told if "text" in event]
    return [len(frame["args"]) for frame in frames if frame["op"] == op]


def test_frozen_and_woken(tmp_path: Path) -> None:
    log = tmp_path / "clients.jsonl"
    options = [text for key, value in SHORT.items() for text in ("--set", f"{key}={value}")]
    options += [text for symbol in LINEAR[1:] for text in ("--symbol", symbol)]
    with (
        Exchange(*(f"linear:{symbol}" for symbol in LINEAR), client_log=log) as exchange,
        Program(tmp_path, *exchange.options, *options) as program,
    ):
        for symbol in LINEAR:
            program.until(lambda event, symbol=symbol: event.get("symbol") == symbol and event.get("state") == "live")
        program.until(lambda event: event["event"] == "tick" and event["state"] == "live")
        program.send(signal.SIGSTOP)
        time.sleep(0.2)  # what it had written is read
        before = len(program.lines)
        time.sleep(1.5)
        woken_ms = time.time_ns() // 1_000_000
        program.send(signal.SIGCONT)
        stall = program.until(lambda event: event["event"] == "stall", since=before)
        for symbol in LINEAR:
            program.until(
                lambda event, symbol=symbol: event.get("symbol") == symbol and event.get("state") == "live",
                since=before,
            )
        time.sleep(0.5)  # for ticks to come
        code, _ = program.stop()
        asked = {op: requests(log, op) for op in ("subscribe", "unsubscribe")}
    assert code == 0
    assert 1.3 < stall["length_s"] < 5
    after = [event for event in program.events[before:] if event["ts"] >= woken_ms]  # the rest was on its way
    kinds = [(event["event"], event.get("state")) for event in after if event["event"] in ("stall", "tick", "feed")]
    assert kinds[0] == ("stall", None)  # nothing is shown before it is noticed
    assert kinds[1] == ("feed", "suspect")
    first_tick = next(event for event in after if event["event"] == "tick")
    assert first_tick["state"] != "live" or ("feed", "live") in kinds[: kinds.index(("tick", "live"))]
    assert not [event for event in after if event.get("kind") == "link"]  # nobody was blamed: the link stayed up
    ticks = [event["ts"] for event in after if event["event"] == "tick" and event["symbol"] == LINEAR[0]]
    assert all(third - first > 60 for first, third in zip(ticks, ticks[2:], strict=False)), ticks  # no burst
    assert asked == {"subscribe": [len(LINEAR)] * 2, "unsubscribe": [len(LINEAR)]}  # no storm: all books at once
    summary = after[-1]
    assert (summary["event"], summary["gaps"], summary["refused"], summary["reconnects"]) == ("summary", 0, 0, 0)
