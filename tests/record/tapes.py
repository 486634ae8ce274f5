"""Recordings made for tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orderflow.core.policy import RecordPolicy
from orderflow.core.types import Category, InstrumentId, LinkUp, Syncing
from orderflow.record.format import Encoder
from orderflow.record.records import ALL_BOOKS, Control, End, Opened, Session, encode_event
from orderflow.record.writer import RecordingWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
T0 = 1_790_000_000_000_000_000
M0 = 1_000_000_000
POLICY = RecordPolicy(keep_free_mb=0)


def session(**more: object) -> Session:
    fields: dict[str, object] = {
        "session": "ab",
        "version": "1",
        "env": "sim",
        "instruments": [BTC],
        "depth": 50,
        "interval_s": 1.0,
        "started_ns": T0,
    }
    return Session(**{**fields, **more})  # type: ignore[arg-type]


def opened(connection: int = 1) -> Opened:
    return Opened(
        connection=connection,
        link="linear",
        category=Category.LINEAR,
        url="wss://x/linear",
        books=[("BTCUSDT", 50)],
        recv_ns=T0,
        mono_ns=M0,
    )


def book(u: int, kind: str = "delta", bid: str = "100.1", ask: str = "100.2", size: str = "1") -> bytes:
    """A book message of BTCUSDT, depth 50."""
    return (
        f'{{"topic":"orderbook.50.BTCUSDT","type":"{kind}","ts":1790000000000,"data":{{"s":"BTCUSDT",'
        f'"b":[["{bid}","{size}"]],"a":[["{ask}","{size}"]],"u":{u},"seq":{u}}},"cts":1790000000000}}'
    ).encode()


def begin(encoder: Encoder, **more: object) -> None:
    """What every session begins with, up to its subscription."""
    encoder.note(session(**more))
    encoder.note(opened())
    encoder.items += 1
    events = [
        LinkUp(link="linear", instruments=(BTC,), mono_ns=M0),
        Syncing(instrument=BTC, reason="subscribe", mono_ns=M0),
    ]
    encoder.note(Control(events=[encode_event(event) for event in events]))


def write_tape(
    folder: Path,
    batches: Sequence[Sequence[bytes]],
    *,
    per_block: int = 5,
    tick_books: Sequence[int] = (ALL_BOOKS,),
    **more: object,
) -> Path:
    """A closed recording: a batch every 50 ms, a timer every 100 ms, ticks every second. Returns: its file."""
    writer = RecordingWriter(folder, POLICY, os.urandom(16), clock=lambda: T0)
    writer.rotate(None)
    encoder = Encoder()
    begin(encoder, **more)
    for number, messages in enumerate(batches, 1):
        later = number * 50_000_000
        encoder.frames(1, list(messages), T0 + later, M0 + later)
        if number % 2 == 0:
            encoder.timer(encoder.items, M0 + later)
        if number % 20 == 0:
            for number_of_book in tick_books:
                encoder.tick(encoder.items, T0 + later, M0 + later, number_of_book)
        if number % per_block == 0:
            writer.write(encoder.take())
    encoder.note(End(reason="stopped"))
    writer.close(encoder.take())
    (path,) = (path for path in folder.iterdir() if path.suffix == ".ofr")
    return path


def simple_tape(folder: Path, count: int = 60, **more: object) -> Path:
    """A snapshot and `count` deltas, one by one."""
    deltas = [[book(u, size=str(u % 7 + 1))] for u in range(11, 11 + count)]
    return write_tape(folder, [[book(10, "snapshot")], *deltas], **more)
