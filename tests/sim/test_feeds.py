"""Book topics: exact windows, counters, cadence, key order and number formats."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.feeds import BookPublisher, NumberText, TouchPublisher, difference, first_u
from orderflow.sim.market import Exchange

LINEAR = InstrumentId(Category.LINEAR, "BTCUSDT")
START = 1_790_000_000_000


class Source:
    """A book the test changes by hand."""

    def __init__(self) -> None:
        self.version, self.seq, self.last_ms = 1, 100, 1000
        self.bids: dict[int, int] = {100: 1, 99: 2, 98: 3}
        self.asks: dict[int, int] = {101: 1, 102: 2, 103: 3}

    def put(self, *, bids: dict[int, int] | None = None, asks: dict[int, int] | None = None) -> None:
        self.bids = {t: n for t, n in (self.bids | (bids or {})).items() if n}
        self.asks = {t: n for t, n in (self.asks | (asks or {})).items() if n}
        self.version, self.seq, self.last_ms = self.version + 1, self.seq + 7, self.last_ms + 5

    def top(self, depth: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return sorted(self.bids.items(), reverse=True)[:depth], sorted(self.asks.items())[:depth]


class Listener:
    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("publishers only return messages")


def publisher(source: Source, depth: int = 50) -> BookPublisher:
    return BookPublisher(LINEAR, depth, source, NumberText(str, str), 10)


def one(messages: list[bytes]) -> dict[str, Any]:
    (message,) = messages
    decoded: dict[str, Any] = json.loads(message)
    return decoded


def test_a_subscriber_gets_the_window_and_then_the_differences() -> None:
    source = Source()
    book = publisher(source)
    first = one(book.first(2000))
    book.subscribers[Listener()] = None
    assert (first["type"], first["data"]["u"], first["data"]["seq"], first["cts"]) == ("snapshot", 10, 100, 1000)
    assert first["data"]["b"] == [["100", "1"], ["99", "2"], ["98", "3"]]
    source.put(bids={99: 0, 97: 4}, asks={101: 9})
    assert book.poll(2020) == [
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":2020,"data":{"s":"BTCUSDT","b":[["99","0"],["97","4"]],'
        b'"a":[["101","9"]],"u":11,"seq":107},"cts":1005}'
    ]
    assert book.poll(2040) == []


def test_a_late_subscriber_gets_what_was_published_so_that_the_next_delta_fits() -> None:
    source = Source()
    book = publisher(source)
    book.first(2000)
    book.subscribers[Listener()] = None
    source.put(bids={100: 5})
    late = one(book.first(2001))
    assert (late["data"]["u"], late["data"]["b"][0]) == (10, ["100", "1"])
    delta = one(book.poll(2020))
    assert (delta["data"]["u"], delta["data"]["b"]) == (11, [["100", "5"]])


def test_an_idle_topic_catches_up_when_somebody_comes() -> None:
    source = Source()
    book = publisher(source)
    source.put(bids={100: 5})
    source.put(bids={100: 6})
    snapshot = one(book.first(3000))
    assert (snapshot["data"]["u"], snapshot["data"]["b"][0]) == (11, ["100", "6"])
    assert book.view(3000).u == 11


def test_levels_leaving_and_entering_the_window() -> None:
    source = Source()
    book = publisher(source, 200)
    book.depth = 2
    book.bids, book.asks = {100: 1, 99: 2}, {101: 1, 102: 2}
    source.put(bids={105: 1})
    assert one(book.poll(1))["data"]["b"] == [["105", "1"], ["99", "0"]]
    source.put(bids={105: 0})
    assert one(book.poll(2))["data"]["b"] == [["105", "0"], ["99", "2"]]
    source.put(bids={98: 77})  # outside the window
    assert book.poll(3) == []


def test_level_one_is_all_snapshots_and_repeats_after_three_seconds() -> None:
    source = Source()
    touch = TouchPublisher(LINEAR, source, NumberText(str, str), 5)
    assert touch.first(0)[0].startswith(b'{"topic":"orderbook.1.BTCUSDT","ts":0,"type":"snapshot"')
    touch.subscribers[Listener()] = None
    assert touch.poll(2990) == []
    assert one(touch.poll(3000))["data"]["u"] == 5
    source.put(bids={99: 50})  # not the touch
    assert touch.poll(3010) == []
    source.put(bids={100: 2})
    changed = one(touch.poll(3020))
    assert (changed["type"], changed["data"]["u"], changed["data"]["b"]) == ("snapshot", 6, [["100", "2"]])


def test_spot_writes_ts_before_type_and_a_restart_begins_at_one() -> None:
    spot = BookPublisher(InstrumentId(Category.SPOT, "BTCUSDT"), 50, Source(), NumberText(str, str), 9)
    assert spot.first(7)[0].startswith(b'{"topic":"orderbook.50.BTCUSDT","ts":7,"type":"snapshot","data":')
    assert json.loads(spot.restart(8))["data"]["u"] == 1


@pytest.mark.parametrize("depth, interval", [(1, 10), (50, 20), (200, 100), (1000, 200)])
def test_a_topic_is_due_once_an_interval(depth: int, interval: int) -> None:
    book = publisher(Source(), depth)
    due = [now for now in range(START, START + 2000, 10) if book.due(now)]
    assert len(due) == 2000 // interval
    assert {b - a for a, b in itertools.pairwise(due)} == {interval}


@pytest.mark.parametrize(
    "category, symbol, price, size",
    [(Category.LINEAR, "BTCUSDT", "65114.20", "0.320"), (Category.SPOT, "BTCUSDT", "65114.2", "0.00032")],
)
def test_numbers_are_padded_on_contracts_and_trimmed_on_spot(
    category: Category, symbol: str, price: str, size: str
) -> None:
    item = catalogue_by_id()[InstrumentId(category, symbol)]
    spot = category is Category.SPOT
    number = NumberText(item.price_trimmed if spot else item.price_text, item.size_trimmed if spot else item.size_text)
    assert number.levels([(item.ticks("65114.2"), 320)]) == f'[["{price}","{size}"]]'
    assert number.size(0) == "0"


sides = st.dictionaries(st.integers(1, 30), st.integers(1, 5), max_size=10)


@given(sides, sides)
def test_the_difference_turns_one_window_into_the_other(old: dict[int, int], new: dict[int, int]) -> None:
    patched = dict(old)
    for ticks, lots in difference(old, new):
        assert lots or ticks in old
        if lots:
            patched[ticks] = lots
        else:
            del patched[ticks]
    assert patched == new


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([50, 200]))
def test_a_client_that_applies_every_message_has_the_market(seed: int, depth: int) -> None:
    item = catalogue_by_id()[LINEAR]
    exchange = Exchange((item,), seed, START)
    market = exchange.markets[LINEAR]
    book = BookPublisher(LINEAR, depth, market, NumberText(item.price_text, item.size_text), 1)
    messages = book.first(START)
    book.subscribers[Listener()] = None
    for now in range(START, START + 3000, 10):
        exchange.advance(now)
        if book.due(now):
            messages += book.poll(now)
    messages += book.poll(START + 3000)
    client: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    last_u = 0
    for message in map(json.loads, messages):
        assert message["cts"] <= message["ts"]
        assert last_u in (0, message["data"]["u"] - 1)
        last_u = message["data"]["u"]
        for side, levels in client.items():
            for price, size in message["data"][side]:
                if size == "0":
                    del levels[price]
                else:
                    levels[price] = size
            assert len(levels) <= depth
    bids, asks = market.top(depth)
    assert client["b"] == {item.price_text(t): item.size_text(n) for t, n in bids}
    assert client["a"] == {item.price_text(t): item.size_text(n) for t, n in asks}
    assert len(messages) > 10


def test_counters_start_apart() -> None:
    topics = [f"orderbook.{depth}.{symbol}" for depth in (1, 50, 200) for symbol in ("BTCUSDT", "ETHUSDT")]
    assert len({first_u(Category.LINEAR, topic) for topic in topics}) == len(topics)


def test_remembered_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.sim.feeds.CACHED_TEXTS", 10)
    number = NumberText(str, str)
    assert [number.price(n) for n in range(50)] == [str(n) for n in range(50)]
    assert [number.size(n) for n in range(50)] == [str(n) for n in range(50)]
    assert len(number._prices) <= 12
