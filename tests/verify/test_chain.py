"""What a reference between two messages means: agreement, a moment the topic left out, or a wrong book."""

from __future__ import annotations

import pytest

from orderflow.core.types import BookUpdate, Category, InstrumentId, Level, TickerUpdate
from orderflow.verify.chain import MAX_WAITING, BookChain
from orderflow.verify.references import TickerTouch, Touch, Whole
from orderflow.verify.results import BookResult, Comparison

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
MS = 1_000_000


class Desk:
    """A chain of depth 50, its comparison, and a clock in ms."""

    def __init__(self) -> None:
        self.result = BookResult(category="linear", topic="orderbook.50.BTCUSDT")
        self.told = Comparison(category="linear", book="", reference="", examples=[])
        self.chain = BookChain(BTC, 50, self.result, lambda name: self.told, lambda: 0.5)
        self.u = 0

    def book(
        self,
        seq: int,
        at_ms: int,
        bids: list[Level],
        asks: list[Level] | None = None,
        *,
        snapshot: bool = False,
        skip: int = 0,
    ) -> None:
        self.u += 1 + skip
        update = BookUpdate(BTC, 50, snapshot, bids, asks or [], self.u, seq, at_ms, at_ms, at_ms * MS, at_ms * MS)
        self.chain.update(update)

    def begin(self) -> None:
        self.book(10, 0, [(100.0, 1.0), (99.0, 5.0)], [(101.0, 1.0)], snapshot=True)

    def touch(self, seq: int, at_ms: int, bid: Level, *, exact: bool = True) -> None:
        self.chain.refer(Touch("x", seq, at_ms, at_ms * MS, bid, None, exact))

    def whole(self, seq: int, at_ms: int, bids: list[Level], asks: list[Level]) -> None:
        self.chain.refer(Whole("x", seq, at_ms, at_ms * MS, bids, asks))

    def verdict(self) -> tuple[int, int, int, int]:
        """(compared, differing, between, unjudged)."""
        self.chain.flush()
        told = self.told
        return told.compared, told.differing, told.between, told.unjudged


@pytest.mark.parametrize(
    "seq, bid, exact, expected",
    [
        (10, (100.0, 1.0), True, (1, 0, 0, 0)),  # the state itself
        (10, (100.0, 2.0), True, (1, 1, 0, 0)),  # the very same state cannot be another
        (10, (100.0, 2.0), False, (1, 0, 0, 0)),  # a ticker's place in the sequence is not that exact
        (15, (100.0, 1.0), True, (1, 0, 0, 0)),  # still the last
        (15, (100.0, 2.0), True, (1, 0, 0, 0)),  # already the next
        (15, (100.0, 3.0), True, (1, 0, 1, 0)),  # neither: in between
        (20, (100.0, 1.0), True, (1, 1, 0, 0)),
        (20, (100.0, 2.0), True, (1, 0, 0, 0)),
        (25, (100.0, 2.0), True, (1, 0, 0, 0)),  # nothing came after
        (5, (100.0, 1.0), True, (0, 0, 0, 1)),  # before there was a book
    ],
)
def test_one_touch(seq: int, bid: Level, exact: bool, expected: tuple[int, ...]) -> None:
    desk = Desk()
    desk.begin()
    desk.book(20, 20, [(100.0, 2.0)])
    desk.touch(seq, 15, bid, exact=exact)
    assert desk.verdict() == expected


def test_the_order_of_arrival_plays_no_part() -> None:
    desk = Desk()
    desk.touch(15, 15, (100.0, 2.0))
    desk.touch(10, 15, (100.0, 1.0))
    desk.begin()
    desk.book(20, 20, [(100.0, 2.0)])
    desk.book(30, 40, [(100.0, 3.0)])
    desk.touch(25, 35, (100.0, 3.0))
    desk.touch(20, 35, (100.0, 2.0))
    assert desk.verdict() == (4, 0, 0, 0)


def test_a_size_that_comes_and_goes_is_no_difference() -> None:
    desk = Desk()
    desk.begin()
    for number in range(50):  # the book is silent, for nothing lasts
        desk.touch(11 + 2 * number, 10 + 100 * number, (100.0, 7.0))
        desk.touch(12 + 2 * number, 20 + 100 * number, (100.0, 1.0))
    assert desk.verdict() == (100, 0, 50, 0)


def test_a_value_that_lasts_while_the_book_is_silent_differs() -> None:
    desk = Desk()
    desk.begin()
    for number, at_ms in enumerate((100, 110, 140, 141, 300)):
        desk.touch(11 + number, at_ms, (100.0, 7.0))
    assert desk.verdict() == (5, 2, 3, 0)  # longer than two push intervals, from 141 ms on
    assert desk.told.worst_ticks == 0


def test_a_price_that_lasts_while_the_book_speaks_differs() -> None:
    desk = Desk()
    desk.begin()
    for number in range(4):
        desk.touch(11 + 10 * number, 10 + 20 * number, (99.0, 5.0 + number), exact=False)
        desk.book(20 + 10 * number, 20 + 20 * number, [(98.0, number + 1.0)])
    assert desk.verdict() == (4, 3, 1, 0)
    assert desk.told.worst_ticks == 2
    assert desk.told.examples[0].book == (100.0, 1.0)


def test_references_to_one_moment_between_two_messages_count_once() -> None:
    desk = Desk()
    desk.begin()
    for number in range(6):
        desk.touch(11 + number, 5 + number, (100.5, 1.0))
    desk.book(20, 20, [(98.0, 1.0)])
    assert desk.verdict() == (6, 0, 6, 0)


def test_a_size_that_lasts_while_the_book_speaks_differs_after_a_while() -> None:
    desk = Desk()
    desk.begin()
    for number in range(6):
        desk.touch(11 + 10 * number, 10 + 20 * number, (100.0, 7.0), exact=False)
        desk.book(20 + 10 * number, 20 + 20 * number, [(98.0, number + 1.0)])
    assert desk.verdict() == (6, 2, 4, 0)


def test_behind_a_gap_nothing_is_judged_until_a_snapshot() -> None:
    desk = Desk()
    desk.begin()
    desk.book(20, 20, [(100.0, 2.0)], skip=1)
    desk.touch(15, 15, (100.0, 9.0))
    desk.touch(25, 25, (100.0, 9.0))
    desk.book(30, 40, [(100.0, 4.0)])
    desk.book(40, 60, [(100.0, 5.0)], [(101.0, 1.0)], snapshot=True)
    desk.touch(45, 65, (100.0, 5.0))
    assert desk.verdict() == (1, 0, 0, 2)
    result = desk.result
    assert (result.gaps, result.unproven, result.snapshots, result.duplicates) == (1, 2, 2, 0)


def test_a_message_twice_is_counted_and_changes_nothing() -> None:
    desk = Desk()
    desk.begin()
    desk.book(20, 20, [(100.0, 2.0)])
    desk.u -= 1
    desk.book(20, 21, [(100.0, 3.0)])
    desk.touch(22, 22, (100.0, 2.0))
    assert desk.verdict() == (1, 0, 0, 0)
    assert (desk.result.duplicates, desk.result.gaps) == (1, 0)


def test_a_reference_that_comes_too_late_is_not_judged() -> None:
    desk = Desk()
    desk.begin()
    desk.book(20, 20, [(100.0, 2.0)])
    desk.book(30, 5000, [(100.0, 3.0)])  # what came a second before is done
    desk.touch(15, 5000, (100.0, 9.0))
    assert desk.verdict() == (0, 0, 0, 1)


def test_nothing_waits_for_ever() -> None:
    desk = Desk()
    desk.begin()
    for number in range(MAX_WAITING + 100):  # all at the same instant
        desk.touch(11 + number, 10, (100.0, 1.0))
    desk.chain.refer(Touch("x", 10**9, 5000, 5000 * MS, (100.0, 1.0), None, True))
    assert desk.told.compared >= MAX_WAITING
    assert len(desk.chain._references) == 1
    for number in range(MAX_WAITING + 100):
        desk.book(10**6 + number, 6000, [(100.0, 1.0)])
    assert len(desk.chain._waiting) <= MAX_WAITING


# --- whole books ----------------------------------------------------------------------------------------------------

BIDS: list[Level] = [(100.0, 1.0), (99.0, 5.0)]
ASKS: list[Level] = [(101.0, 1.0)]


@pytest.mark.parametrize(
    "seq, bids, expected",
    [
        (10, BIDS, (3, 0, 0, 0)),
        (10, [(100.0, 1.0), (99.0, 4.0)], (3, 1, 0, 0)),
        (10, [(100.0, 1.0), (99.5, 2.0), (99.0, 5.0)], (4, 1, 0, 0)),  # one that the book does not have
        (10, [*BIDS, (98.0, 9.0)], (3, 0, 0, 0)),  # deeper than the book goes
        (10, [(100.0, 1.0)], (2, 0, 0, 0)),  # not as deep
        (15, [(100.0, 2.0), (99.0, 5.0)], (3, 0, 0, 0)),  # one level is already the next state's
        (15, [(100.0, 1.0), (99.0, 4.0)], (3, 0, 1, 0)),  # once: it may have come and gone
    ],
)
def test_one_whole_book(seq: int, bids: list[Level], expected: tuple[int, ...]) -> None:
    desk = Desk()
    desk.begin()
    desk.book(20, 20, [(100.0, 2.0)])
    desk.whole(seq, 15, bids, ASKS)
    assert desk.verdict() == expected


def test_a_level_that_two_books_in_a_row_deny_differs() -> None:
    desk = Desk()
    desk.begin()
    for number in range(3):
        desk.whole(11 + 10 * number, 10 + 20 * number, [(100.0, 1.0), (99.0, 4.0)], ASKS)
        desk.book(20 + 10 * number, 20 + 20 * number, [], [(102.0, number + 1.0)])
    assert desk.verdict()[1:] == (2, 1, 0)


# --- tickers --------------------------------------------------------------------------------------------------------


def ticker(*, snapshot: bool, cs: int | None = 7, **fields: float) -> TickerUpdate:
    return TickerUpdate(instrument=BTC, snapshot=snapshot, exchange_ms=1, cross_seq=cs, recv_ns=0, mono_ns=0, **fields)


def test_a_ticker_carries_forward_what_its_deltas_leave_out() -> None:
    state = TickerTouch()
    assert state.update("t", ticker(snapshot=False, bid=1.0, bid_size=1.0)) is None  # nothing to go on from
    touch = state.update("t", ticker(snapshot=True, bid=1.0, bid_size=2.0, ask=3.0, ask_size=4.0))
    assert touch is not None
    assert (touch.bid, touch.ask) == ((1.0, 2.0), (3.0, 4.0))
    touch = state.update("t", ticker(snapshot=False, ask=3.5, ask_size=1.0))
    assert touch is not None
    assert (touch.bid, touch.ask, touch.exact) == ((1.0, 2.0), (3.5, 1.0), False)
    assert state.update("t", ticker(snapshot=False, cs=None)) is None
    state.forget()
    assert state.update("t", ticker(snapshot=False, bid=1.0, bid_size=1.0)) is None


def test_a_spot_ticker_has_no_touch() -> None:
    assert TickerTouch().update("t", ticker(snapshot=True, last=5.0)) is None
