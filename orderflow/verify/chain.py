"""One book topic recomputed from its messages, and judged where references name a state between two of them.

A book topic shows some of the book's states: each of its messages is the state at its `seq`. A reference at `seq` s is
therefore compared with the last state up to s, and with the next one. It must equal the last where that is s itself,
and one of both otherwise. Where it equals neither, it may be a state that the topic left out, because it sends the
outcome of a push interval and not what happened within. But such a state does not last: when one reference after the
other insists on it, while the book speaks or while it is silent, the book is wrong.

Messages are applied `LAG_NS` late, so that references that come a little later than they were true still find the state
they speak of. That bounds the memory: what waits is never older.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from orderflow.bybit.topics import PUSH_INTERVAL_MS
from orderflow.core.book import Levels, is_plain_snapshot
from orderflow.core.units import NS
from orderflow.verify.references import Touch, Whole
from orderflow.verify.results import Example

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.types import BookUpdate, InstrumentId, Level
    from orderflow.verify.references import Reference
    from orderflow.verify.results import BookResult, Comparison

LAG_NS: Final = NS
MAX_WAITING: Final = 20_000  # messages or references of one topic; more: the oldest are done at once
PUSHES: Final = 2  # for so many push intervals a topic may be silent about a state that comes and goes
INSISTS_PRICE: Final = 2  # so many of the book's states in a row are contradicted with the same price ...
INSISTS_SIZE: Final = 5  # ... or, at the same price, with the same size
_DEFAULT_PUSH_MS: Final = 100  # of depths that are no more

_by_seq: Final = attrgetter("seq")
_Best = tuple["Level | None", "Level | None"]


class _Streak:
    """References in a row that contradict a side of the book with the same value."""

    __slots__ = ("count", "seq", "since_ms", "value")

    def __init__(self) -> None:
        self.count = 0
        self.seq = -1
        self.since_ms = 0
        self.value: Level | None = None

    def end(self) -> None:
        self.value = None

    def add(self, value: Level, book: Level | None, seq: int, at_ms: int) -> None:
        """Args: seq: of the book's state. Where the price is wrong, the size may change meanwhile."""
        wrong_price = book is None or book[0] != value[0]
        before = self.value
        if before is None or (before[0] != value[0] if wrong_price else before != value):
            self.count, self.since_ms = 0, at_ms
        if not self.count or seq != self.seq:
            self.count += 1
        self.seq, self.value = seq, value

    def insists(self, book: Level | None, *, silent_ms: float | None, reach_ms: int) -> bool:
        """Whether the book cannot have been right: it spoke several times in between, or was silent for too long."""
        wrong_price = book is None or self.value is None or book[0] != self.value[0]
        if self.count >= (INSISTS_PRICE if wrong_price else INSISTS_SIZE):
            return True
        return silent_ms is not None and silent_ms > reach_ms


class BookChain:
    """One topic on one connection.

    Args:
        compare: the comparison with a reference of this name; tick: the instrument's price step, if known.
    """

    def __init__(
        self,
        instrument: InstrumentId,
        depth: int,
        result: BookResult,
        compare: Callable[[str], Comparison],
        tick: Callable[[], float | None],
    ) -> None:
        self.instrument = instrument
        self.depth = depth
        self.waits = True  # for references; there is no need to where there are none
        self.broken_ns: int | None = None  # since when a gap waits for its snapshot
        self._result = result
        self._compare = compare
        self._tick = tick
        self._levels = Levels()
        self._proven = False
        self._u = self._seq = -1
        self._waiting: deque[BookUpdate] = deque()
        self._references: list[Reference] = []
        self._streaks: dict[tuple[str, str], _Streak] = {}
        self._suspects: dict[str, dict[tuple[str, float], float]] = {}  # levels that the last whole reference denied
        self._reach_ms = PUSHES * PUSH_INTERVAL_MS.get(depth, _DEFAULT_PUSH_MS)

    # --- in

    def update(self, update: BookUpdate) -> None:
        self._result.messages += 1
        if not self.waits and not self._waiting:
            self._step(update)
            return
        self._waiting.append(update)
        self._advance(update.mono_ns)

    def refer(self, reference: Reference) -> None:
        references = self._references
        if references and reference.seq < references[-1].seq:
            insort(references, reference, key=_by_seq)
        else:
            references.append(reference)
        self._advance(reference.mono_ns)

    def adopt(self, u: int | None, seq: int | None, bids: list[Level], asks: list[Level]) -> None:
        """Take a book out of a checkpoint where there is none to go on from."""
        self.flush()
        if not self._proven and u is not None:
            self._levels.replace(bids, asks)
            self._u, self._seq, self._proven = u, seq or 0, True

    def doubt(self) -> None:
        """Something is missing from here on."""
        self.flush()
        self._proven = False
        self.broken_ns = None

    def flush(self) -> None:
        """Do all that waits."""
        while self._waiting:
            self._step(self._waiting.popleft())
        self._settle(len(self._references))

    def _advance(self, mono_ns: int) -> None:
        waiting, limit_ns = self._waiting, mono_ns - LAG_NS
        while waiting and (waiting[0].mono_ns <= limit_ns or len(waiting) > MAX_WAITING):
            self._step(waiting.popleft())
        references = self._references
        if references and not waiting:
            old = next((at for at, one in enumerate(references) if one.mono_ns > limit_ns), len(references))
            self._settle(max(old, len(references) - MAX_WAITING))

    # --- states

    def _step(self, update: BookUpdate) -> None:
        """From one state to the next: what refers to the time between is judged by both."""
        count = 0
        for reference in self._references:
            if reference.seq >= update.seq:
                break
            count += 1
        due = self._references[:count]
        if count:
            del self._references[:count]
        goes_on = update.snapshot or (self._proven and update.u == self._u + 1)
        if not goes_on:
            self._break(update)
        if not (self._proven and goes_on):
            self._unjudged(due)
            due = []
        for reference in due:
            if type(reference) is Whole:
                self._judge_whole(reference, update)
        before = self._best() if due else (None, None)
        if goes_on:
            self._apply(update)
        for reference in due:
            if type(reference) is Touch:
                self._judge_touch(reference, before, self._best(), update.exchange_ms)
        if goes_on:
            self._u, self._seq = update.u, update.seq

    def _settle(self, count: int) -> None:
        """References behind which nothing came: the book stood still."""
        due = self._references[:count]
        del self._references[:count]
        if not self._proven:
            self._unjudged(due)
            return
        for reference in due:
            if type(reference) is Touch:
                self._judge_touch(reference, self._best(), None, None)
            elif type(reference) is Whole:
                self._judge_whole(reference, None)

    def _break(self, update: BookUpdate) -> None:
        result = self._result
        if self._proven and update.u <= self._u:
            result.duplicates += 1
            return
        if self._proven:
            result.gaps += 1
            self._proven = False
            self.broken_ns = update.mono_ns
        result.unproven += 1

    def _apply(self, update: BookUpdate) -> None:
        result, levels = self._result, self._levels
        if update.snapshot:
            result.snapshots += 1
            self._proven = is_plain_snapshot(update)
            self.broken_ns = None
            levels.replace(update.bids, update.asks)
        else:
            result.unknown_deletes += levels.apply(update.bids, update.asks)
        bids, asks = levels.bid_side, levels.ask_side
        if bids.best > asks.best:
            result.crossed += 1
        if len(bids.sizes) > self.depth or len(asks.sizes) > self.depth:
            result.too_deep += 1

    def _best(self) -> _Best:
        bids, asks = self._levels.bid_side, self._levels.ask_side
        bid, ask = bids.best, asks.best
        return ((bid, bids.sizes[bid]) if bids.sizes else None, (ask, asks.sizes[ask]) if asks.sizes else None)

    # --- judging

    def _unjudged(self, references: list[Reference]) -> None:
        for reference in references:
            self._compare(reference.name).unjudged += 1

    def _judge_touch(self, reference: Touch, before: _Best, after: _Best | None, next_ms: int | None) -> None:
        exact = reference.exact and reference.seq == self._seq
        if reference.seq < self._seq:
            self._unjudged([reference])  # too late: that state is gone
            return
        comparison = self._compare(reference.name)
        soon = next_ms is not None and next_ms - reference.at_ms <= self._reach_ms
        for at, side in enumerate(("bid", "ask")):
            value = (reference.bid, reference.ask)[at]
            if value is None:
                continue
            comparison.compared += 1
            streak = self._streaks.setdefault((reference.name, side), _Streak())
            if value == before[at] or (not exact and after is not None and value == after[at]):
                streak.end()
                continue
            streak.add(value, before[at], self._seq, reference.at_ms)
            silent_ms = None if soon else reference.at_ms - streak.since_ms
            if exact or streak.insists(before[at], silent_ms=silent_ms, reach_ms=self._reach_ms):
                self._differs(comparison, reference, side, before[at], value)
            else:
                comparison.between += 1

    def _judge_whole(self, reference: Whole, update: BookUpdate | None) -> None:
        """Level by level, as far down as all that is compared goes."""
        if reference.seq < self._seq and not reference.own:
            self._unjudged([reference])
            return
        comparison = self._compare(reference.name)
        exact = reference.seq == self._seq or reference.own
        after = None if exact else update
        suspects, self._suspects[reference.name] = self._suspects.get(reference.name, {}), {}
        levels = self._levels
        for side, sizes, told, rows, down in (
            ("bid", levels.bids, reference.bids, after.bids if after else [], True),
            ("ask", levels.asks, reference.asks, after.asks if after else [], False),
        ):
            changed = dict(rows)
            if after is not None and after.snapshot:
                changed = {price: changed.get(price, 0.0) for price in (*sizes, *changed)}
            values = dict(told)
            for price in _reach(sizes, values, down=down):
                comparison.compared += 1
                value, size = values.get(price, 0.0), sizes.get(price, 0.0)
                if value in (size, changed.get(price, size)):
                    continue
                self._suspects[reference.name][side, price] = value
                if exact or suspects.get((side, price)) == value:  # and the one before said so too
                    book = (price, size) if size else None
                    self._differs(comparison, reference, side, book, (price, value) if value else None)
                else:
                    comparison.between += 1

    def _differs(
        self, comparison: Comparison, reference: Reference, side: str, book: Level | None, told: Level | None
    ) -> None:
        tick = self._tick()
        ticks = abs(told[0] - book[0]) / tick if tick and told is not None and book is not None else 0.0
        example = Example(at_ms=reference.at_ms, seq=reference.seq, side=side, book=book, reference=told)
        comparison.differs(example, round(ticks, 3))


def _reach(sizes: dict[float, float], told: dict[float, float], *, down: bool) -> list[float]:
    """The prices that both must know of: down to where the shallower of the two ends."""
    if not sizes or not told:
        return []
    if down:
        edge = max(min(sizes), min(told))
        return [price for price in {**sizes, **told} if price >= edge]
    edge = min(max(sizes), max(told))
    return [price for price in {**sizes, **told} if price <= edge]
