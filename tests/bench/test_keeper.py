"""What the tuned clients do with messages."""

from __future__ import annotations

import json

import pytest

from orderflow.bench.client import Job, Sheet
from orderflow.bench.frames import Frames
from orderflow.bench.keeper import Keeper, subscription


def _job(count: int, *, stamp: bool = False) -> Job:
    return Job(client="x", url="", depth=50, count=count, stamp=stamp, timeout_s=1)


def test_the_book_of_the_last_message_is_kept() -> None:
    frames, sheet = Frames(50, 8), Sheet()
    keeper = Keeper(_job(30), sheet)
    assert not keeper.take(b'{"success":true,"op":"subscribe"}')
    assert not keeper.take(frames.snapshot)
    deltas = frames.deltas(30)
    assert not any(keeper.take(raw) for raw in deltas[:-1])
    assert sheet.books == {}
    assert keeper.take(deltas[-1])
    (book,) = sheet.books.values()
    bids, asks = frames.book_after(30)
    assert book.bids == sorted(((float(price), float(size)) for price, size in bids.items()), reverse=True)
    assert book.asks == sorted((float(price), float(size)) for price, size in asks.items())


@pytest.mark.parametrize("stamp, stamps", [(True, 5), (False, 0)])
def test_times_are_noted_when_asked_for(stamp: bool, stamps: int) -> None:
    frames, sheet = Frames(50, 8), Sheet()
    keeper = Keeper(_job(5, stamp=stamp), sheet)
    for raw in (frames.snapshot, *frames.deltas(5)):
        keeper.take(raw)
    assert len(sheet.stamps) == stamps
    assert sheet.outcome().messages == 4  # from the first to the last


def test_the_subscription_is_the_exchanges() -> None:
    assert json.loads(subscription(200)) == {"op": "subscribe", "args": ["orderbook.200.BTCUSDT"]}
