"""A process that is stopped and continued: nothing is believed too early, nobody is blamed for it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.program import Exchange, Program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.socket

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


def test_frozen_and_woken(tmp_path: Path, exchange: Exchange) -> None:
    options = [text for key, value in SHORT.items() for text in ("--set", f"{key}={value}")]
    with Program(tmp_path, *exchange.options, *options) as program:
        program.until_live()
        program.until(lambda event: event["event"] == "tick" and event["state"] == "live")
        program.send(signal.SIGSTOP)
        time.sleep(0.2)  # what it had written is read
        before = len(program.lines)
        time.sleep(1.5)
        program.send(signal.SIGCONT)
        stall = program.until(lambda event: event["event"] == "stall", since=before)
        program.until(lambda event: event["event"] == "feed" and event.get("state") == "live", since=before)
        time.sleep(0.5)  # for ticks to come
        code, _ = program.stop()
    assert code == 0
    assert 1.3 < stall["length_s"] < 5
    after = program.events[before:]
    kinds = [(event["event"], event.get("state")) for event in after if event["event"] in ("stall", "tick", "feed")]
    assert kinds[0] == ("stall", None)  # nothing is shown before it is noticed
    assert kinds[1] == ("feed", "suspect")
    first_tick = next(event for event in after if event["event"] == "tick")
    assert first_tick["state"] != "live" or ("feed", "live") in kinds[: kinds.index(("tick", "live"))]
    assert not [event for event in after if event.get("kind") == "link"]  # nobody was blamed: the link stayed up
    ticks = [event["ts"] for event in after if event["event"] == "tick"]
    assert all(third - first > 60 for first, third in zip(ticks, ticks[2:], strict=False)), ticks  # no burst
    summary = after[-1]
    assert (summary["event"], summary["gaps"], summary["refused"], summary["reconnects"]) == ("summary", 0, 0, 0)
