"""The live backend: which topics exist, what is shared, and that the same seed gives the same day."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.account import Account
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.exchange import ExchangeBackend
from orderflow.sim.market import Exchange
from orderflow.sim.venue import Verdict

if TYPE_CHECKING:
    from orderflow.sim.backend import TrueBook

START = 1_790_000_000_000
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
KNOWN, NO_HANDLER, BAD_SYMBOL = Verdict.KNOWN, Verdict.NO_HANDLER, Verdict.BAD_SYMBOL
TOPICS = ["orderbook.1.BTCUSDT", "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT"]


class Listener:
    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("backends only return messages")


def backend(seed: int = 3) -> ExchangeBackend:
    known = catalogue_by_id()
    exchange = Exchange((known[BTC], known[InstrumentId(Category.SPOT, "ETHUSDT")]), seed, START)
    return ExchangeBackend(exchange, START, Account(exchange, seed, START))


def a_day(seed: int, wake_every_ms: int) -> list[bytes]:
    """Everything published in four seconds to a process that wakes this rarely."""
    house = backend(seed)
    messages = [message for topic in TOPICS for message in house.attach("linear", topic, Listener(), START)]
    messages += house.attach("private", "order", Listener(), START)
    for now in range(START, START + 4001, wake_every_ms):
        while house.next_ms() <= now:
            messages += [message for _, pushed in house.step(now) for message in pushed]
    return messages


def test_same_seed_same_day_however_late_the_process_wakes() -> None:
    day = a_day(3, 10)
    assert len(day) > 100
    assert a_day(3, 10) == day
    assert a_day(3, 800) == day
    assert a_day(4, 10) != day


@pytest.mark.parametrize(
    "category, topic, verdict",
    [
        ("linear", "orderbook.1000.BTCUSDT", KNOWN),
        ("linear", "kline.M.BTCUSDT", KNOWN),
        ("linear", "allLiquidation.BTCUSDT", KNOWN),
        ("spot", "orderbook.200.ETHUSDT", KNOWN),
        ("spot", "allLiquidation.ETHUSDT", NO_HANDLER),
        ("spot", "orderbook.50.BTCUSDT", BAD_SYMBOL),
        ("linear", "orderbook.50.btcusdt", BAD_SYMBOL),
        ("linear", "orderbook.500.BTCUSDT", NO_HANDLER),
        ("linear", "orderbook.050.BTCUSDT", NO_HANDLER),
        ("linear", "orderbook.BTCUSDT", NO_HANDLER),
        ("linear", "orderbook", NO_HANDLER),
        ("linear", "kline.7.BTCUSDT", NO_HANDLER),
        ("linear", "publicTrade.x.BTCUSDT", NO_HANDLER),
        ("linear", "publicTrade.", BAD_SYMBOL),
        ("linear", "order", NO_HANDLER),
        ("linear", "", NO_HANDLER),
    ],
)
def test_which_topics_exist(category: str, topic: str, verdict: Verdict) -> None:
    assert backend().verdict(Category(category), topic) is verdict


def test_subscribers_share_one_publisher_and_nobody_polls_for_nobody() -> None:
    house = backend()
    one, two = Listener(), Listener()
    house.attach("linear", "orderbook.50.BTCUSDT", one, START)
    house.attach("linear", "orderbook.50.BTCUSDT", two, START)
    pushed = [push for _ in range(20) for push in house.step(START + 10_000)]
    assert {publisher.topic for publisher, _ in pushed} == {"orderbook.50.BTCUSDT"}
    assert all(set(publisher.subscribers) == {one, two} for publisher, _ in pushed)
    house.detach("linear", "orderbook.50.BTCUSDT", one)
    house.detach("linear", "orderbook.50.BTCUSDT", two)
    assert [push for _ in range(20) for push in house.step(START + 10_000)] == []


def levels(book: TrueBook) -> tuple[object, object]:
    return book.bids, book.asks


def test_a_paused_market_stands_still_and_goes_on_from_there() -> None:
    house = backend()
    house.set_paused(True)
    before = house.true_book(BTC, 50)
    for _ in range(100):
        house.step(START + 1000)
    assert house.true_book(BTC, 50) == before
    house.set_paused(False)
    never_paused = backend()
    for slot in range(1, 200):
        house.step(START + 1000 + slot * 10)
        never_paused.step(START + slot * 10)
        assert levels(house.true_book(BTC, 50)) == levels(never_paused.true_book(BTC, 50))
    assert levels(house.true_book(BTC, 50)) != levels(before)
    assert house.true_book(BTC, 50).cts == never_paused.true_book(BTC, 50).cts + 1000


@pytest.mark.parametrize("hours", [0.001, 1, 1000])
def test_a_halt_costs_nothing_and_leaves_no_burst(hours: float) -> None:
    """However long it was: the same history later, and each topic says at most what its cadence allows."""
    house, undisturbed = backend(), backend()
    late_ms = int(hours * 3_600_000) // 10 * 10
    seen: list[bytes] = []
    house.attach("linear", "orderbook.50.BTCUSDT", Listener(), START)
    assert house.halt(START + late_ms)
    for slot in range(1, 101):
        for _, messages in house.step(START + late_ms + slot * 10):
            seen += messages
        undisturbed.step(START + slot * 10)
    assert house.step(START + late_ms + 1000) == []  # nothing is owed
    assert len(seen) <= 50
    assert levels(house.true_book(BTC, 50)) == levels(undisturbed.true_book(BTC, 50))


def test_a_late_subscriber_of_trades_gets_no_old_ones() -> None:
    house = backend()
    first = Listener()
    house.attach("linear", "publicTrade.BTCUSDT", first, START)
    publisher = house.publisher("linear", "publicTrade.BTCUSDT")
    market = house.exchange.markets[BTC]
    market.submit(True, 5)
    house.exchange.markets[BTC].submit(False, 5)
    events = house.exchange.advance(START + 10)
    publisher.add([trade for event in events for trade in event.trades])  # type: ignore[attr-defined]
    house.detach("linear", "publicTrade.BTCUSDT", first)
    assert house.attach("linear", "publicTrade.BTCUSDT", Listener(), START) == []
    assert publisher.poll(START + 10) == []


def test_the_topics_of_one_market_agree() -> None:
    house = backend()
    for topic in TOPICS[:2]:
        house.attach("linear", topic, Listener(), START)
    touch: dict[str, list[list[str]]] = {}
    for _ in range(400):
        for publisher, messages in house.step(START + 10_000):
            if publisher.topic == TOPICS[0]:
                touch = json.loads(messages[-1])["data"]
    house.set_paused(True)
    for _ in range(30):
        house.step(START + 10_000)
    book = house.true_book(BTC, 1)
    assert [touch["b"][0][0], touch["a"][0][0]] == [book.bids[0][0], book.asks[0][0]]
    assert house.ticker_rows(Category.LINEAR, "BTCUSDT")[0]["bid1Size"].rstrip("0") == book.bids[0][1].rstrip("0")
