"""The whole program on real market data: `orderflow sim --play` serves a recording, `orderflow run` watches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.engine import Engine
from orderflow.core.text import plain_decimal
from orderflow.core.types import BookState, BookUpdate, Category, InstrumentId, Syncing
from tests.recordings import received, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.socket, pytest.mark.slow]

STREAM = "linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz"
KEYS = [InstrumentId(Category.LINEAR, symbol) for symbol in ("BTCUSDT", "SOLUSDT")]


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """Environment variables of an exchange that plays the recording at 40 times its pace."""
    path = recording(f"streams/{STREAM}")
    facts = recording("rest/instruments-info-linear-20260809.json.gz")
    command = [sys.executable, "-m", "orderflow", "sim", "--port", "0", "--play", str(path)]
    options = ["--instruments", str(facts), "--speed", "40", "--json"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["environment"]
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 0


def history() -> tuple[dict[tuple[str, int], tuple[float | None, float | None]], dict[str, Any]]:
    """The recording without sockets: touch by (symbol, u), and the final books."""
    engine = Engine([(key, 200) for key in KEYS])
    codec = FeedCodec(TopicTable(Category.LINEAR))
    touches: dict[tuple[str, int], tuple[float | None, float | None]] = {}
    for key in KEYS:
        engine.apply(Syncing(instrument=key, reason="subscribe", mono_ns=0))
    for _, raw in received(STREAM):
        event = codec.decode(raw, 0, 0)
        if isinstance(event, BookUpdate):
            engine.apply(event)
            levels = engine.books[event.instrument].levels
            touches[event.instrument.symbol, event.u] = (levels.best_bid(), levels.best_ask())
    books = {dump.symbol: dump for dump in engine.dump(plain_decimal)}
    return touches, books


def test_a_run_on_a_recording_agrees_with_it(addresses: dict[str, str], tmp_path: Path) -> None:
    touches, books = history()
    out = tmp_path / "books.json"
    command = [sys.executable, "-m", "orderflow", "run", "--symbol", "BTCUSDT", "--symbol", "SOLUSDT", "--depth", "200"]
    options = ["--interval", "0.1", "--duration", "4", "--log-format", "json", "--book-out", str(out)]
    done = subprocess.run(
        [*command, *options], env={**os.environ, **addresses}, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ticks = [line for line in lines if line["event"] == "tick" and line["state"] == "live"]
    assert len({(tick["symbol"], tick["u"]) for tick in ticks}) > 4, "the book moves while it is watched"
    for tick in ticks:
        assert (tick["bid"], tick["ask"]) == touches[tick["symbol"], tick["u"]]
    assert ticks[-1]["price_decimals"] is not None
    summary = lines[-1]
    assert summary["event"] == "summary"
    assert (summary["gaps"], summary["resyncs"], summary["refused"]) == (0, 0, 0)
    for dump in json.loads(out.read_text()):
        expected = books[dump["symbol"]]
        assert dump["state"] == BookState.LIVE
        assert (dump["u"], dump["seq"]) == (expected.u, expected.seq)
        for side in ("bids", "asks"):
            assert [tuple(level) for level in dump[side]] == getattr(expected, side)
