"""The book state machine: a table of every outcome, and a Hypothesis machine against a plain dict."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orderflow.core.book import Book, Levels
from orderflow.core.policy import BookPolicy
from orderflow.core.types import (
    BookState,
    BookStateChanged,
    BookUpdate,
    Category,
    InstrumentId,
    Level,
    Output,
    ResyncNeeded,
)

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
S = 1_000_000_000
BIDS: list[Level] = [(99.0, 1.0), (98.0, 2.0)]
ASKS: list[Level] = [(101.0, 1.5), (102.0, 2.5)]


def update(
    u: int,
    bids: list[Level] | None = None,
    asks: list[Level] | None = None,
    *,
    snapshot: bool = False,
    at: int = 0,
    depth: int = 50,
) -> BookUpdate:
    return BookUpdate(BTC, depth, snapshot, bids or [], asks or [], u, u * 7, 1000, 999, at, at)


def live_book(policy: BookPolicy | None = None, depth: int = 50, u: int = 10) -> Book:
    book = Book(BTC, depth, policy or BookPolicy())
    book.syncing("subscribe", 0)
    book.apply(update(u, BIDS[:depth], ASKS[:depth], snapshot=True, depth=depth))
    assert book.state is BookState.LIVE
    return book


def states(outputs: tuple[Output, ...]) -> list[BookState]:
    return [output.new for output in outputs if isinstance(output, BookStateChanged)]


def resyncs(outputs: tuple[Output, ...]) -> list[str]:
    return [output.reason for output in outputs if isinstance(output, ResyncNeeded)]


# --- levels


def test_levels_come_best_first() -> None:
    levels = Levels()
    levels.replace(BIDS, ASKS)
    assert levels.top_bids(10) == BIDS
    assert levels.top_asks(1) == ASKS[:1]
    assert levels.apply([(99.5, 3.0), (98.0, 0.0)], [(101.0, 0.0)]) == 0
    assert levels.top_bids(10) == [(99.5, 3.0), (99.0, 1.0)]
    assert levels.best_ask() == 102.0


def test_levels_that_were_never_set_are_empty() -> None:
    levels = Levels()
    assert (list(levels.bid_prices), list(levels.ask_prices)) == ([], [])
    assert (levels.best_bid(), levels.best_ask()) == (None, None)
    assert levels.apply([(0.5, 1.0)], []) == 0
    assert (levels.best_bid(), levels.top_bids(2)) == (0.5, [(0.5, 1.0)])


def test_no_price_crosses_an_empty_side() -> None:
    levels = Levels()
    assert (levels.bid_side.best, levels.ask_side.best) == (0.0, float("inf"))
    levels.replace([(0.5, 1.0)], [(0.6, 1.0)])
    assert levels.apply([(0.5, 0.0)], [(0.6, 0.0)]) == 0
    assert (levels.bid_side.best, levels.ask_side.best) == (0.0, float("inf"))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_top_is_as_many_levels_as_asked_for(count: int) -> None:
    levels = Levels()
    bids = [(9.0, 1.0), (8.0, 2.0), (7.0, 3.0)]
    asks = [(10.0, 1.0), (11.0, 2.0), (12.0, 3.0)]
    levels.replace(bids[::-1], asks[::-1])
    assert (levels.top_bids(count), levels.top_asks(count)) == (bids[:count], asks[:count])


@pytest.mark.parametrize(
    ("bids", "asks", "unknown"),
    [([], [(101.0, 0.0)], 0), ([(99.0, 0.0)], [], 0), ([], [(7.0, 0.0)], 1), ([(7.0, 0.0)], [], 1)],
)
def test_unknown_deletes_are_counted_by_side(bids: list[Level], asks: list[Level], unknown: int) -> None:
    levels = Levels()
    levels.replace(BIDS, ASKS)
    assert levels.apply(bids, asks) == unknown


def test_deleting_an_unknown_level_changes_nothing_and_is_counted() -> None:
    book = live_book()
    assert book.apply(update(11, [(90.0, 0.0)], [(200.0, 0.0)])) == ()
    assert book.counters.unknown_deletes == 2
    assert book.levels.top_bids(9) == BIDS
    assert book.state is BookState.LIVE
    assert book.apply(update(12, [], [(200.0, 0.0)])) == book.apply(update(13, [(99.0, 4.0)])) == ()
    assert book.counters.unknown_deletes == 3, "a side that is not told of has none"


# --- sequence


def test_a_book_is_live_from_its_snapshot_on() -> None:
    book = Book(BTC, 50, BookPolicy())
    assert (book.state, book.reason) == (BookState.EMPTY, "start")
    assert states(book.syncing("subscribe", 0)) == [BookState.SYNCING]
    assert book.apply(update(4, [(1.0, 1.0)])) == ()
    assert book.counters.early_deltas == 1
    assert not book.levels.bids
    assert states(book.apply(update(5, BIDS, ASKS, snapshot=True))) == [BookState.LIVE]
    assert book.apply(update(6, [(99.0, 4.0)])) == ()
    assert (book.u, book.counters.updates, book.counters.snapshots) == (6, 2, 1)


def test_a_delta_before_anything_was_asked_for_is_early() -> None:
    book = Book(BTC, 50, BookPolicy())
    assert book.apply(update(1, BIDS)) == ()
    assert (book.counters.early_deltas, book.levels.bids) == (1, {})


def test_a_delta_brings_its_numbers_and_its_time() -> None:
    book = live_book()
    book.apply(update(11, [(99.0, 4.0)], at=50 * S))
    assert (book.u, book.seq, book.last_mono_ns) == (11, 77, 50 * S)
    assert book.check(110 * S) == (), "heard of 60 s ago, which is not too long"
    assert book.state is BookState.LIVE


@pytest.mark.parametrize(("jump", "missed"), [(12, 1), (20, 9), (10**12, 10**12 - 11)])
def test_a_gap_leaves_live_and_asks_once_for_a_resync(jump: int, missed: int) -> None:
    book = live_book()
    outputs = book.apply(update(jump, [(99.0, 9.0)]))
    assert states(outputs) == [BookState.SUSPECT]
    assert resyncs(outputs) == ["gap"]
    assert (book.counters.gaps, book.counters.missed, book.counters.refused) == (1, missed, 0)
    assert book.levels.bids[99.0] == 1.0, "the delta after the gap must not be applied"
    assert book.apply(update(jump + 1, [(99.0, 9.0)])) == ()
    assert book.counters.early_deltas == 1
    assert states(book.syncing("gap", S)) == [BookState.SYNCING]
    assert book.counters.resyncs == 1
    assert states(book.apply(update(500, BIDS, ASKS, snapshot=True, at=2 * S))) == [BookState.LIVE]
    assert book.counters.gaps == 1


def test_a_relaxed_book_counts_the_gap_and_goes_on() -> None:
    book = live_book(BookPolicy(strict_sequence=False))
    assert book.apply(update(15, [(99.0, 9.0)])) == ()
    assert book.state is BookState.LIVE
    assert (book.counters.gaps, book.counters.missed, book.u) == (1, 4, 15)
    assert book.levels.bids[99.0] == 9.0


@pytest.mark.parametrize("u", [10, 9, 2])
def test_a_repeated_or_older_delta_is_ignored_and_counted(u: int) -> None:
    book = live_book()
    assert book.apply(update(u, [(99.0, 9.0)])) == ()
    assert book.counters.duplicates == 1
    assert book.levels.bids[99.0] == 1.0
    assert book.apply(update(11, [(99.0, 7.0)])) == ()
    assert book.levels.bids[99.0] == 7.0


def test_a_delta_with_u_1_is_not_trusted() -> None:
    book = live_book()
    outputs = book.apply(update(1, [(99.0, 9.0)]))
    assert (states(outputs), resyncs(outputs)) == ([BookState.SUSPECT], ["restart"])
    assert book.levels.bids[99.0] == 1.0


@pytest.mark.parametrize("u", [1, 3, 10, 4000])
def test_a_snapshot_in_mid_stream_replaces_and_numbering_starts_from_it(u: int) -> None:
    book = live_book()
    assert book.apply(update(u, [(50.0, 1.0)], [(51.0, 1.0)], snapshot=True)) == ()
    assert (book.u, book.seq) == (u, u * 7)
    assert book.levels.top_bids(9) == [(50.0, 1.0)]
    assert book.counters.restarts == (u == 1)
    assert book.apply(update(u + 1, [(49.0, 1.0)])) == ()
    assert book.levels.top_bids(9) == [(50.0, 1.0), (49.0, 1.0)]
    assert book.counters.gaps == 0


def test_level_1_repeats_are_fresh_news_of_an_unchanged_book() -> None:
    book = live_book(depth=1)
    for at in (3 * S, 6 * S):
        assert book.apply(update(10, BIDS[:1], ASKS[:1], snapshot=True, depth=1, at=at)) == ()
    assert book.last_mono_ns == 6 * S
    assert book.counters.gaps == 0


# --- contradictions


def test_a_passing_cross_is_held_back_and_heals() -> None:
    book = live_book()
    outputs = book.apply(update(11, [(101.5, 1.0)], at=S))
    assert (states(outputs), resyncs(outputs)) == ([BookState.SUSPECT], [])
    assert book.reason == "crossed"
    assert book.check(S + S // 2) == ()
    (healed,) = book.apply(update(12, [(101.5, 0.0)], at=2 * S))
    assert isinstance(healed, BookStateChanged)
    assert (healed.new, healed.reason, healed.detail) == (BookState.LIVE, "delta", "after 1.000 s")
    assert book.check(9 * S) == ()
    assert book.counters.crossed == 1


def test_a_book_may_begin_locked() -> None:
    book = Book(BTC, 50, BookPolicy())
    book.syncing("subscribe", 0)
    assert states(book.apply(update(5, [(100.0, 1.0)], [(100.0, 1.0)], snapshot=True, at=S))) == [BookState.LIVE]
    assert (book.counters.locked, book.counters.crossed) == (1, 0)
    assert book.check(2 * S) == (), "held for just as long as it may"
    assert resyncs(book.check(2 * S + 1)) == ["locked"]


def test_a_lasting_cross_is_resynced_once() -> None:
    book = live_book()
    book.apply(update(11, [(101.5, 1.0)], at=S))
    outputs = book.check(2 * S + 1)
    assert resyncs(outputs) == ["crossed"]
    assert book.check(9 * S) == ()
    assert book.apply(update(12, [(101.5, 0.0)], at=3 * S)) == (), "the chain is broken: only a snapshot helps"
    assert book.state is BookState.SUSPECT


def test_a_locked_book_is_valid_at_first_and_resynced_when_it_stays() -> None:
    book = live_book()
    assert book.apply(update(11, [(101.0, 1.0)], at=S)) == ()
    assert book.state is BookState.LIVE
    assert book.counters.locked == 1
    assert book.apply(update(12, [(101.0, 2.0)], at=S + 5)) == ()
    assert book.counters.locked == 1, "one lock, however many messages it lasts"
    assert resyncs(book.check(2 * S + 1)) == ["locked"]


def test_a_lock_that_passes_is_forgotten() -> None:
    book = live_book()
    book.apply(update(11, [(101.0, 1.0)], at=S))
    book.apply(update(12, [(101.0, 0.0)], at=S + 1))
    assert book.check(3 * S) == ()
    assert book.state is BookState.LIVE


# --- refused messages


@pytest.mark.parametrize(
    ("bids", "asks", "reason"),
    [
        ([(99.0, 1.0), (98.0, 1.0), (97.0, 1.0)], [], "depth"),
        ([], [(1.0 + i, 1.0) for i in range(3)], "depth"),
        ([(99.0, 1.0), (99.0, 2.0)], [], "shape"),
        ([(99.0, 0.0)], [(101.0, 1.0)], "shape"),
    ],
)
def test_a_snapshot_that_cannot_be_a_book_is_refused_whole(bids: list[Level], asks: list[Level], reason: str) -> None:
    book = live_book(depth=2)
    outputs = book.apply(update(20, bids, asks, snapshot=True, depth=2))
    assert (states(outputs), resyncs(outputs)) == ([BookState.SUSPECT], [reason])
    assert book.levels.top_bids(9) == BIDS
    assert book.counters.refused == 1


def test_a_delta_that_leaves_more_levels_than_the_depth_ends_trust() -> None:
    book = live_book(depth=2)
    assert resyncs(book.apply(update(11, [(97.0, 1.0)], depth=2))) == ["depth"]
    assert book.state is BookState.SUSPECT


def test_what_the_book_itself_refuses_is_counted_by_reason() -> None:
    book = live_book(depth=2)
    snapshots = [BIDS[:1] * 2, [(99.0, 0.0)], [(price, 1.0) for price in (9.0, 8.0, 7.0)]]
    for levels in snapshots:
        book.apply(update(20, levels, ASKS, snapshot=True, depth=2))
    book.distrust("json", 1)
    book.apply(update(30, BIDS, ASKS, snapshot=True, depth=2))
    book.apply(update(1, depth=2))
    assert book.refusals == {"shape": 2, "depth": 1, "restart": 1}
    counted = book.counters.freeze()
    assert (counted.refused, counted.snapshots, counted.updates, counted.gaps) == (5, 2, 2, 0)


def test_distrust_asks_again_only_after_a_resync_went_out() -> None:
    book = live_book()
    assert resyncs(book.distrust("json", 1)) == ["json"]
    assert resyncs(book.distrust("json", 2)) == []
    book.syncing("json", 3)
    assert resyncs(book.distrust("json", 4)) == ["json"], "the answer to the resync was bad too"
    assert book.counters.refused == 3


@pytest.mark.parametrize("state", ["empty", "closed"])
def test_nobody_resyncs_a_book_that_is_not_wanted(state: str) -> None:
    book = Book(BTC, 50, BookPolicy())
    if state == "closed":
        book.close("refused", 0)
    assert book.distrust("json", 1) == ()
    assert book.state == state


@pytest.mark.parametrize("side", ["bids", "asks"])
def test_a_book_may_be_as_deep_as_its_depth_and_no_deeper(side: str) -> None:
    book = live_book(depth=3)
    extra: list[Level] = [(97.0, 1.0), (96.0, 1.0)] if side == "bids" else [(103.0, 1.0), (104.0, 1.0)]
    for u, level, asked in ((11, extra[0], []), (12, extra[1], ["depth"])):
        message = update(u, [level], [], depth=3) if side == "bids" else update(u, [], [level], depth=3)
        assert resyncs(book.apply(message)) == asked
    assert book.counters.refused == 1


# --- silence and links


def test_silence_is_probed_once_and_ends_with_anything_new() -> None:
    book = live_book()
    assert book.check(60 * S) == ()
    outputs = book.check(60 * S + 1)
    assert (states(outputs), resyncs(outputs), book.reason) == ([BookState.STALE], ["silent"], "silent")
    assert book.check(99 * S) == ()
    assert book.syncing("silent", 99 * S) == (), "nothing new is known: it stays stale"
    assert states(book.apply(update(11, [(99.0, 2.0)], at=100 * S))) == [BookState.LIVE]


def test_a_lost_link_empties_trust_at_once() -> None:
    book = live_book()
    (change,) = book.link_down("eof", 5 * S)
    assert isinstance(change, BookStateChanged)
    assert (change.old, change.new, change.reason) == (BookState.LIVE, BookState.EMPTY, "eof")
    assert book.check(999 * S) == ()
    assert book.apply(update(11, [(99.0, 2.0)])) == ()
    assert book.state is BookState.EMPTY


def test_time_to_recover_is_told() -> None:
    book = live_book()
    book.apply(update(20, at=S))
    book.syncing("gap", S)
    (change,) = book.apply(update(40, BIDS, ASKS, snapshot=True, at=S + S // 4))
    assert isinstance(change, BookStateChanged)
    assert change.detail == "after 0.250 s"
    (change, _) = book.apply(update(50, at=9 * S))
    assert isinstance(change, BookStateChanged)
    assert change.detail == "9 missed before u 50"
    (change,) = book.syncing("gap", 10 * S)
    assert isinstance(change, BookStateChanged)
    assert change.detail == ""
    (change,) = book.apply(update(60, BIDS, ASKS, snapshot=True, at=11 * S))
    assert isinstance(change, BookStateChanged)
    assert change.detail == "after 2.000 s"


def test_an_empty_side_is_a_book() -> None:
    book = live_book()
    assert book.apply(update(11, [(99.0, 0.0), (98.0, 0.0)])) == ()
    assert book.state is BookState.LIVE
    assert book.levels.best_bid() is None


# --- any drop, duplicate or reorder is detected or harmless

prices = st.integers(1, 12)
sizes = st.integers(0, 3)
sides = st.lists(st.tuples(prices, sizes), max_size=4)


class Exchange:
    """A plain dict book with exact numbering: the oracle."""

    def __init__(self) -> None:
        self.u = 100
        self.bids: dict[float, float] = {10.0: 1.0}
        self.asks: dict[float, float] = {30.0: 1.0}

    def change(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> BookUpdate:
        changes: list[list[Level]] = []
        for side, rows, shift in ((self.bids, bids, 0), (self.asks, asks, 20)):
            told: dict[float, float] = {}
            for price, size in rows:
                key = float(price + shift)
                if size or key in side:
                    told[key] = float(size)
                if size:
                    side[key] = float(size)
                else:
                    side.pop(key, None)
            changes.append(list(told.items()))
        self.u += 1
        return update(self.u, *changes)

    def snapshot(self) -> BookUpdate:
        return update(self.u, list(self.bids.items()), list(self.asks.items()), snapshot=True)


class FaultyLine(RuleBasedStateMachine):
    """Deltas of an exchange over a line that loses, repeats and swaps them. A live book is the exchange's book.

    Loss is only seen with the next message, so the book is compared when it has heard of the newest change.
    """

    @initialize()
    def start(self) -> None:
        self.exchange = Exchange()
        self.book = Book(BTC, 50, BookPolicy())
        self.book.syncing("subscribe", 0)
        self.sent: list[BookUpdate] = []
        self.heard = self.exchange.u
        self.deliver(self.exchange.snapshot())

    def deliver(self, message: BookUpdate) -> None:
        self.book.apply(message)
        self.heard = max(self.heard, message.u)

    @rule(bids=sides, asks=sides)
    def change(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        self.sent.append(self.exchange.change(bids, asks))
        self.deliver(self.sent[-1])

    @rule(bids=sides, asks=sides)
    def lose(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        self.sent.append(self.exchange.change(bids, asks))

    @rule(data=st.data())
    @precondition(lambda self: self.sent)
    def repeat(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.sampled_from(self.sent)))

    @rule(one=sides, two=sides)
    def swap(self, one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
        first, second = self.exchange.change(one, []), self.exchange.change([], two)
        self.sent += [first, second]
        self.deliver(second)
        self.deliver(first)

    @rule()
    def resync(self) -> None:
        self.book.syncing("gap", 0)
        self.deliver(self.exchange.snapshot())

    @invariant()
    def a_live_book_is_right(self) -> None:
        if self.book.state is BookState.LIVE and self.heard == self.exchange.u:
            assert self.book.levels.bids == self.exchange.bids
            assert self.book.levels.asks == self.exchange.asks

    @invariant()
    def sorted_prices_are_the_dicts_keys(self) -> None:
        assert list(self.book.levels.bid_prices) == sorted(self.book.levels.bids)
        assert list(self.book.levels.ask_prices) == sorted(self.book.levels.asks)

    @invariant()
    def the_best_prices_are_exact_without_looking(self) -> None:
        levels = self.book.levels
        assert levels.best_bid() == max(levels.bids, default=None)
        assert levels.best_ask() == min(levels.asks, default=None)


TestFaultyLine = FaultyLine.TestCase
TestFaultyLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_attempt_that_failed_gives_the_reason_of_an_empty_book() -> None:
    book = Book(BTC, 50, BookPolicy())
    assert book.link_down("refused", 5) == ()
    assert (book.state, book.reason) == (BookState.EMPTY, "refused")


# --- one thing after another, as mutation testing found it unwatched


@pytest.mark.parametrize(("reason", "counted"), [("subscribe", 0), ("retry", 0), ("gap", 1), ("no_snapshot", 1)])
def test_what_counts_as_a_resync(reason: str, counted: int) -> None:
    book = Book(BTC, 50, BookPolicy())
    book.syncing(reason, 0)
    assert book.counters.resyncs == counted


def test_a_snapshot_that_comes_by_itself_ends_the_waiting_for_a_resync() -> None:
    book = live_book()
    book.distrust("json", 1)
    (change,) = book.apply(update(50, BIDS, ASKS, snapshot=True, at=2))
    assert isinstance(change, BookStateChanged)
    assert (change.new, change.reason) == (BookState.LIVE, "snapshot")
    assert resyncs(book.distrust("json", 3)) == ["json"]


@pytest.mark.parametrize(("bids", "asks"), [([], ASKS), (BIDS, []), ([], [])])
def test_a_snapshot_may_have_empty_sides(bids: list[Level], asks: list[Level]) -> None:
    book = Book(BTC, 50, BookPolicy())
    book.syncing("subscribe", 0)
    assert states(book.apply(update(5, bids, asks, snapshot=True))) == [BookState.LIVE]


def test_nothing_is_applied_between_a_subscribe_and_its_snapshot() -> None:
    book = live_book()
    book.syncing("gap", 1)
    assert book.apply(update(11, [(99.0, 9.0)])) == ()
    assert (book.state, book.levels.bids[99.0]) == (BookState.SYNCING, 1.0)


def test_nothing_is_applied_to_a_closed_book() -> None:
    book = live_book()
    assert states(book.close("refused", 1)) == [BookState.CLOSED]
    assert book.apply(update(11, [(99.0, 9.0)])) == ()
    assert book.check(999 * S) == ()
    assert (book.state, book.levels.bids[99.0]) == (BookState.CLOSED, 1.0)


@pytest.mark.parametrize("between", ["a new link", "a resync"])
def test_a_lock_is_timed_anew_after(between: str) -> None:
    book = live_book()
    locked: list[Level] = [(100.0, 1.0)]
    book.apply(update(11, [(101.0, 1.0)], at=S))
    if between == "a new link":
        book.link_down("eof", 2 * S)
    else:
        assert resyncs(book.check(3 * S)) == ["locked"]
        assert book.counters.refused == 0, "the messages were fine"
    book.syncing("locked", 99 * S)
    book.apply(update(20, locked, locked, snapshot=True, at=100 * S))
    assert book.counters.locked == 2
    assert book.check(101 * S) == ()
    assert resyncs(book.check(101 * S + 1)) == ["locked"]


def test_a_book_asks_once_about_a_silence() -> None:
    book = live_book()
    assert resyncs(book.check(61 * S)) == ["silent"]
    book.syncing("silent", 61 * S)
    assert book.check(1000 * S) == (), "the link asks again"
    assert book.state is BookState.STALE
    book.apply(update(11, at=1000 * S))
    assert book.state is BookState.LIVE, "the chain was never broken"
    assert book.check(1060 * S) == ()
    assert resyncs(book.check(1061 * S)) == ["silent"], "silent anew"
