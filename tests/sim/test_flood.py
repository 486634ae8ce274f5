"""Ready-made deltas: an endless exact book, on schedule."""

from __future__ import annotations

import json
import math

import pytest

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.flood import FloodBackend, Loop
from orderflow.sim.venue import Verdict

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
TOPIC = "orderbook.50.BTCUSDT"


class Listener:
    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("backends only return messages")


@pytest.mark.parametrize("category", [Category.LINEAR, Category.SPOT])
def test_the_loop_closes_exactly(category: Category) -> None:
    loop = Loop(catalogue_by_id()[InstrumentId(category, "BTCUSDT")], 50, 7, 40)
    first = json.loads(loop.first(0)[0])
    book = {side: dict(map(tuple, first["data"][side])) for side in "ba"}
    start = {side: dict(levels) for side, levels in book.items()}
    for n in range(2 * len(loop.pieces)):
        message = json.loads(loop.next(1_790_000_000_000 + n, 5_000 + n))
        assert message["data"]["u"] == first["data"]["u"] + 1 + n
        for side, levels in book.items():
            for price, size in message["data"][side]:
                if size == "0":
                    del levels[price]
                else:
                    levels[price] = size
            assert len(levels) <= 50
    assert book == start


def test_a_rate_is_kept_and_seq_tells_the_schedule() -> None:
    loop = Loop(catalogue_by_id()[BTC], 50, 7, 20)
    backend = FloodBackend([loop], 500.0, monotonic_us=lambda: 1_000_000)
    assert backend.next_ms() == math.inf
    backend.attach("linear", TOPIC, Listener(), 100)
    sent = [json.loads(message) for _, messages in backend.step(109.9) for message in messages]
    assert [message["data"]["seq"] for message in sent] == [1_000_000 + 2000 * n for n in range(5)]
    assert backend.next_ms() == 110
    backend.set_paused(True)
    assert backend.next_ms() == math.inf


def test_a_flood_is_always_due() -> None:
    loop = Loop(catalogue_by_id()[BTC], 50, 7, 20)
    backend = FloodBackend([loop], None)
    listener = Listener()
    backend.attach("linear", TOPIC, listener, 100)
    assert backend.patient
    assert sum(len(messages) for _, messages in backend.step(100)) > 50
    truth = backend.true_book(BTC, 50)
    view = backend.book_view(Category.LINEAR, "BTCUSDT", 100)
    assert view is not None
    assert [float(p) for p, _ in view.bids] == [float(p) for p, _ in truth.bids]
    backend.detach("linear", TOPIC, listener)
    assert backend.next_ms() == math.inf
    assert backend.verdict(Category.LINEAR, "orderbook.200.BTCUSDT") is Verdict.NO_HANDLER
