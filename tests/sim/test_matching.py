"""The matching engine by table, and against a naive book that is a plain list of orders."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from orderflow.core.errors import MisuseError
from orderflow.sim.matching import Fill, MatchingBook, OrderStatus, TimeInForce

BUY, SELL = True, False
GTC, IOC, FOK, POST = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.POST_ONLY


def book_of(*orders: tuple[bool, int, int]) -> MatchingBook:
    book = MatchingBook()
    for buy, lots, price in orders:
        book.submit(buy, lots, price)
    return book


def traded(fills: tuple[Fill, ...]) -> list[tuple[int, int, int]]:
    return [(fill.maker_id, fill.price, fill.lots) for fill in fills]


def test_the_best_price_trades_first_and_then_the_oldest_order() -> None:
    book = book_of((SELL, 5, 102), (SELL, 5, 101), (SELL, 5, 101))
    placed = book.submit(BUY, 12, 105, owner="me")
    assert traded(placed.fills) == [(2, 101, 5), (3, 101, 5), (1, 102, 2)]
    assert placed.status is OrderStatus.FILLED
    assert book.top_levels() == ([], [(102, 3)])
    assert placed.fills[0].taker_owner == "me"
    assert [fill.maker_left for fill in placed.fills] == [0, 0, 3]


@pytest.mark.parametrize(
    "tif, price, status, filled, resting",
    [
        (GTC, 101, OrderStatus.RESTING, 5, 3),
        (GTC, 100, OrderStatus.RESTING, 0, 8),
        (IOC, 101, OrderStatus.CANCELLED, 5, 0),
        (IOC, 100, OrderStatus.CANCELLED, 0, 0),
        (FOK, 101, OrderStatus.CANCELLED, 0, 0),
        (FOK, 102, OrderStatus.FILLED, 8, 0),
        (POST, 101, OrderStatus.REJECTED, 0, 0),
        (POST, 100, OrderStatus.RESTING, 0, 8),
        (GTC, None, OrderStatus.FILLED, 8, 0),
    ],
)
def test_time_in_force(tif: TimeInForce, price: int | None, status: OrderStatus, filled: int, resting: int) -> None:
    book = book_of((SELL, 5, 101), (SELL, 5, 102))
    placed = book.submit(BUY, 8, price, tif)
    assert (placed.status, placed.filled, placed.resting) == (status, filled, resting)


def test_a_market_order_takes_what_there_is_and_never_rests() -> None:
    book = book_of((BUY, 5, 100))
    assert book.submit(SELL, 9).filled == 5
    assert book.submit(SELL, 9).status is OrderStatus.CANCELLED
    assert book.top_levels() == ([], [])


def test_reduce_keeps_the_place_in_the_queue_and_replace_loses_it() -> None:
    book = book_of((BUY, 5, 100), (BUY, 5, 100))
    assert book.reduce(1, 2) == 3
    assert traded(book.submit(SELL, 1).fills) == [(1, 100, 1)]
    assert book.replace(1, 4, 100) is not None
    assert traded(book.submit(SELL, 6).fills) == [(2, 100, 5), (1, 100, 1)]


def test_replacing_across_the_spread_trades() -> None:
    book = book_of((BUY, 5, 100), (SELL, 3, 101))
    placed = book.replace(1, 5, 101)
    assert placed is not None
    assert traded(placed.fills) == [(2, 101, 3)]
    assert book.top_levels() == ([(101, 2)], [])


def test_orders_that_are_not_resting_cannot_be_changed() -> None:
    book = book_of((BUY, 5, 100))
    assert (book.cancel(99), book.reduce(99, 1), book.replace(99, 1, 1)) == (0, 0, None)
    assert book.reduce(1, 5) == 0


def test_misuse_is_refused() -> None:
    book = book_of((BUY, 5, 100))
    for call in (
        lambda: book.submit(BUY, 0, 100),
        lambda: book.submit(BUY, 1, 0),
        lambda: book.reduce(1, 0),
        lambda: book.replace(1, 0, 5),
    ):
        with pytest.raises(MisuseError):
            call()


def test_changes_count_only_changes() -> None:
    book = book_of((BUY, 5, 100))
    before = book.changes
    book.submit(BUY, 5, 99, IOC)
    book.submit(SELL, 5, 100, POST)
    book.submit(SELL, 9, 100, FOK)
    book.cancel(77)
    assert book.changes == before
    book.submit(SELL, 1, 100)
    assert book.changes == before + 1


class Resting(NamedTuple):
    id: int
    buy: bool
    price: int
    lots: int


class NaiveBook:
    """The oracle: all orders in one list in order of arrival; every question is a search through it."""

    def __init__(self) -> None:
        self.orders: list[Resting] = []

    def candidates(self, buy: bool, limit: int | None) -> list[Resting]:
        """Makers an order of this side may trade with, in the order in which it must."""
        makers = [
            order
            for order in self.orders
            if order.buy is not buy and (limit is None or (order.price <= limit if buy else order.price >= limit))
        ]
        return sorted(makers, key=lambda order: order.price if buy else -order.price)  # stable: time stays

    def submit(self, order_id: int, buy: bool, lots: int, price: int | None, tif: TimeInForce) -> list[tuple[int, int]]:
        makers = self.candidates(buy, price)
        if (tif is POST and makers) or (tif is FOK and sum(maker.lots for maker in makers) < lots):
            return []
        fills: list[tuple[int, int]] = []
        for maker in makers:
            if lots:
                size = min(lots, maker.lots)
                lots -= size
                fills.append((maker.id, size))
                self.shrink(maker.id, maker.lots - size)
        if lots and price is not None and tif in (GTC, POST):
            self.orders.append(Resting(order_id, buy, price, lots))
        return fills

    def shrink(self, order_id: int, lots: int) -> None:
        kept = [order._replace(lots=lots) if order.id == order_id else order for order in self.orders]
        self.orders = [order for order in kept if order.lots]

    def find(self, order_id: int) -> Resting | None:
        return next((order for order in self.orders if order.id == order_id), None)

    def levels(self, buy: bool) -> list[tuple[int, int]]:
        sizes: dict[int, int] = {}
        for order in self.orders:
            if order.buy is buy:
                sizes[order.price] = sizes.get(order.price, 0) + order.lots
        return sorted(sizes.items(), reverse=buy)


SIZES = st.integers(1, 20)
PRICES = st.integers(95, 105)


class MatchingMachine(RuleBasedStateMachine):
    """Any sequence of orders, cancels and amends leaves both books the same."""

    placed = Bundle("placed")

    def __init__(self) -> None:
        super().__init__()
        self.book = MatchingBook()
        self.naive = NaiveBook()
        self.came_in = self.gone = 0  # lots, to see that none appear or vanish

    @rule(target=placed, buy=st.booleans(), lots=SIZES, price=st.none() | PRICES, tif=st.sampled_from(TimeInForce))
    def submit(self, buy: bool, lots: int, price: int | None, tif: TimeInForce) -> int:
        expected_tif = IOC if price is None and tif is not FOK else tif
        placed = self.book.submit(buy, lots, price, expected_tif)
        fills = self.naive.submit(placed.order_id, buy, lots, price, expected_tif)
        assert [(fill.maker_id, fill.lots) for fill in placed.fills] == fills
        assert all(fill.taker_id == placed.order_id and fill.taker_buy is buy for fill in placed.fills)
        self.came_in += placed.resting
        self.gone += placed.filled
        return placed.order_id

    @rule(target=placed, order_id=placed)
    def cancel(self, order_id: int) -> object:
        order = self.naive.find(order_id)
        lots = self.book.cancel(order_id)
        assert lots == (order.lots if order else 0)
        self.naive.shrink(order_id, 0)
        self.gone += lots
        return multiple()

    @rule(order_id=placed, lots=SIZES)
    def reduce(self, order_id: int, lots: int) -> None:
        order = self.naive.find(order_id)
        taken = self.book.reduce(order_id, lots)
        assert taken == (max(0, order.lots - lots) if order else 0)
        if taken:
            self.naive.shrink(order_id, lots)
        self.gone += taken

    @rule(order_id=placed, lots=SIZES, price=PRICES)
    def replace(self, order_id: int, lots: int, price: int) -> None:
        order = self.naive.find(order_id)
        placed = self.book.replace(order_id, lots, price)
        assert (placed is None) is (order is None)
        if placed is None or order is None:
            return
        self.naive.shrink(order_id, 0)
        fills = self.naive.submit(order_id, order.buy, lots, price, GTC)
        assert [(fill.maker_id, fill.lots) for fill in placed.fills] == fills
        self.came_in += placed.resting
        self.gone += placed.filled + order.lots

    @invariant()
    def books_agree(self) -> None:
        assert self.book.top_levels() == (self.naive.levels(BUY), self.naive.levels(SELL))

    @invariant()
    def queues_keep_the_order_of_arrival(self) -> None:
        for side in (self.book.bids, self.book.asks):
            for price, queue in side.queues.items():
                same = [order.id for order in self.naive.orders if order.buy is side.buy and order.price == price]
                assert [order.id for order in queue] == same

    @invariant()
    def never_crossed(self) -> None:
        bid, ask = self.book.best_bid(), self.book.best_ask()
        assert bid is None or ask is None or bid < ask

    @invariant()
    def no_lot_appears_or_vanishes(self) -> None:
        resting = sum(order.lots for order in self.book.orders.values())
        assert resting == self.came_in - self.gone


TestMatchingMachine = MatchingMachine.TestCase
TestMatchingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
