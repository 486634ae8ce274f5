"""A live run against the simulated exchange, recorded with everything: not one value of it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from orderflow.app import Monitor
from orderflow.config.tree import BybitSettings, PluginSettings, Settings
from orderflow.core.policy import RecordPolicy, RetryPolicy
from orderflow.core.types import BookState
from orderflow.hooks.setup import set_up
from orderflow.record.reader import open_recording
from orderflow.record.recorder import Recorder
from orderflow.record.records import Frames, Lost, Opened, RestAnswer, Sent
from orderflow.ui.sink import Output
from orderflow.verify.run import verify
from tests.replay.test_live import SYMBOLS, Kept, all_live, exchange, replay
from tests.verify.tapes import doctor

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.record.records import Record
    from orderflow.sim.server import SimServer

__all__ = ["exchange"]  # the fixture


@pytest.mark.socket
async def test_a_live_recording_verifies_with_0_ppm_and_a_doctored_one_does_not(
    exchange: SimServer, tmp_path: Path
) -> None:
    folder = tmp_path / "tape"
    settings = Settings(
        env="sim",
        symbols=SYMBOLS,
        interval_s=0.5,
        retry=RetryPolicy(base_s=0.05, cap_s=0.05),
        record=RecordPolicy(
            flush_s=0.1,
            keep_free_mb=0,
            topics=("tickers", "orderbook.1", "publicTrade", "allLiquidation", "nonsense"),
            rest_books_s=0.4,
        ),
        plugins=PluginSettings(enabled=()),
        bybit=BybitSettings(public_ws_url=exchange.public_url, private_ws_url="", rest_url=exchange.rest_url),
    )
    live = Kept()
    recorder = Recorder(folder, settings.record)
    with (tmp_path / "out").open("wb") as sink:
        host = set_up(settings.plugins, None).host
        monitor = Monitor(settings, host, live, Output(sink.fileno()), recorder=recorder)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            with trio.fail_after(60):
                await all_live(monitor)
                await trio.sleep(1.5)
                for client in exchange.clients():  # of both kinds: those of the books and those beside
                    if client.endpoint == "linear":
                        client.cut()
                await trio.sleep(0.2)
                await all_live(monitor)
                await trio.sleep(1)
            monitor.stop("test")
    assert set(monitor.engine.states().values()) == {BookState.LIVE}

    records = list(open_recording(folder).records())
    beside = {record.connection: record for record in records if isinstance(record, Opened) and record.topics}
    assert len(beside) == 4  # one a category, and linear's second
    assert len([record for record in records if isinstance(record, Lost) and record.connection in beside]) == 1
    spot = next(opened for opened in beside.values() if opened.category == "spot")
    assert "allLiquidation.BTCUSDT" not in spot.topics
    refused = b"".join(
        raw for record in records if isinstance(record, Frames) and record.connection in beside
        for raw in record.messages if b'"success":false' in raw
    )  # fmt: skip
    assert b"nonsense" in refused
    assert all(record.fed == 0 for record in records if isinstance(record, Frames) and record.connection in beside)
    assert any(isinstance(record, Sent) and record.connection in beside for record in records)
    assert {record.symbol for record in records if isinstance(record, RestAnswer)} == {"BTCUSDT", "ETHUSDT", "BTCUSD"}

    report = verify([folder])
    assert report.clean(), report
    named = {(one.category, one.reference) for one in report.comparisons if one.compared > 20}
    assert {("linear", "tickers.BTCUSDT"), ("linear", "orderbook.1.ETHUSDT"), ("spot", "rest")} <= named
    assert ("spot", "tickers.BTCUSDT") not in named

    again, _ = replay(folder)  # which knows nothing of what came beside
    assert again.last.messages == live.last.messages
    assert [tick.bid for tick in again.ticks] == [tick.bid for tick in live.ticks]

    (tape,) = folder.glob("*.ofr")
    doctor(tape, move_the_first_touch)
    assert verify([tape]).differing > 20


def move_the_first_touch(records: list[Record]) -> None:
    """The first snapshot of a book of depth 50 gets another best bid."""
    head = b'orderbook.50.BTCUSDT","type":"snapshot'
    at = next(
        at
        for at, record in enumerate(records)
        if isinstance(record, Frames) and any(head in raw for raw in record.messages)
    )
    messages = [raw.replace(b'"b":[["', b'"b":[["9', 1) for raw in records[at].messages]  # type: ignore[union-attr]
    records[at] = msgspec.structs.replace(records[at], messages=messages)  # type: ignore[type-var]
