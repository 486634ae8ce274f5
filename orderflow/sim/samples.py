"""Recorded books and trades as `sim/meters.py` wants them: V5 book topics, the old v2 protocol, trade files."""

from __future__ import annotations

import csv
import gzip
from typing import TYPE_CHECKING

import msgspec

from orderflow.sim.meters import Frame
from orderflow.sim.recordings import read_recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orderflow.core.types import Level


class _BookData(msgspec.Struct):
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]


class _Book(msgspec.Struct):
    type: str
    ts: int
    data: _BookData


class _OldLevel(msgspec.Struct):
    price: float
    side: str
    size: float = 0.0


class _OldDelta(msgspec.Struct):
    delete: list[_OldLevel]
    update: list[_OldLevel]
    insert: list[_OldLevel]


class _OldSnapshot(msgspec.Struct):
    order_book: list[_OldLevel]


class _OldHead(msgspec.Struct):
    topic: str = ""
    type: str = ""
    timestamp_e6: str = "0"
    data: msgspec.Raw = msgspec.Raw(b"{}")


def read_frames(path: Path, topic: str) -> Iterator[Frame]:
    """The frames of one book topic: `orderbook.*` of V5, `orderBookL2_*` of v2.

    Raises: ConfigError or OSError when the file cannot be read; msgspec.MsgspecError when a frame is none.
    """
    if not topic.startswith("orderbook."):
        yield from _read_legacy(path, topic)
        return
    for message in read_recording(path):
        if message.topic == topic:
            book = msgspec.json.decode(message.raw, type=_Book, strict=False)
            yield Frame(book.ts, book.type == "snapshot", book.data.b, book.data.a)


def read_trades(path: Path) -> list[tuple[int, float, bool]]:
    """(ms, size, taker bought) of a gzipped trade file with columns `ts_ms,price,qty,side,...`."""
    with gzip.open(path, "rt") as lines:
        return [(int(row["ts_ms"]), float(row["qty"]), row["side"] == "Buy") for row in csv.DictReader(lines)]


def _read_legacy(path: Path, topic: str) -> Iterator[Frame]:
    """`time: text` lines with lists of deleted, updated and inserted levels, at most every 20 ms."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            text = line.partition(": ")[2]
            if f'"{topic}"' not in text[:60]:
                continue
            head = msgspec.json.decode(text, type=_OldHead)
            if head.topic == topic:
                yield _old_frame(head)


def _old_frame(head: _OldHead) -> Frame:
    snapshot = head.type == "snapshot"
    if snapshot:
        rows = msgspec.json.decode(head.data, type=_OldSnapshot, strict=False).order_book
    else:
        delta = msgspec.json.decode(head.data, type=_OldDelta, strict=False)
        rows = [*delta.delete, *delta.update, *delta.insert]
    return Frame(int(head.timestamp_e6) / 1000, snapshot, _one_side(rows, "Buy"), _one_side(rows, "Sell"))


def _one_side(rows: Iterable[_OldLevel], side: str) -> list[Level]:
    return [(row.price, row.size) for row in rows if row.side == side]
