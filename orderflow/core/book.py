"""An order book side by side with what makes it believable: levels, sequence, state.

`Levels` holds prices and sizes and knows nothing else. `Book` is the state machine around it (states in
`core.types.BookState`): it applies what continues the chain of `u`, and leaves `live` for everything that breaks it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

from orderflow.core.latency import MessageHops
from orderflow.core.quality import Coverage
from orderflow.core.types import (
    LIVE,
    BookCounters,
    BookState,
    BookStateChanged,
    BookUpdate,
    InstrumentId,
    Level,
    Output,
    ResyncNeeded,
)

if TYPE_CHECKING:
    from orderflow.core.policy import BookPolicy

_NOTHING: Final[tuple[Output, ...]] = ()


class Side:
    """One side: sizes by price, the best price, and the prices in order.

    Most messages change sizes and prices behind the best, so the order is not kept message by message: `prices` makes
    a SortedList when somebody looks (a tick does). Only the best is exact at all times, because every message is tested
    for a cross. `orderflow bench --only choices` holds this against sorted lists, SortedList and SortedDict (levels).

    Args: none: `best` of an empty side, which no price can cross.
    """

    __slots__ = ("_none", "_prices", "best", "sizes")

    def __init__(self, none: float) -> None:
        self.sizes: dict[float, float] = {}
        self.best = none
        self._none = none
        self._prices: SortedList[float] | None = None  # None: to be made when looked at

    def replace(self, levels: list[Level]) -> None:
        """Forget everything and take these levels."""
        self.sizes.clear()
        self.best = self._none
        self.apply(levels)

    def apply(self, levels: list[Level]) -> int:
        """Set absolute sizes; size 0 deletes. Returns how many deletes named a level that was not held."""
        raise NotImplementedError

    @property
    def prices(self) -> SortedList[float]:
        """All prices, ascending."""
        if self._prices is None:
            self._prices = SortedList(self.sizes)
        return self._prices

    def in_order(self) -> list[float] | SortedList[float]:
        """All prices, ascending, for one look: a plain list costs less to make than a SortedList (50: 1 to 2.5 us)."""
        return sorted(self.sizes) if self._prices is None else self._prices


class Bids(Side):
    """The best is the highest price; 0 when there is none."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0.0)

    def apply(self, levels: list[Level]) -> int:
        sizes, best = self.sizes, self.best
        unknown = 0
        for price, size in levels:
            if size:
                sizes[price] = size
                if price > best:
                    best = price
            elif sizes.pop(price, None) is None:
                unknown += 1
        self.best = best if best in sizes else max(sizes, default=0.0)
        self._prices = None
        return unknown


class Asks(Side):
    """The best is the lowest price; infinite when there is none. As Bids: one `apply` for both costs a fifth more."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(math.inf)

    def apply(self, levels: list[Level]) -> int:
        sizes, best = self.sizes, self.best
        unknown = 0
        for price, size in levels:
            if size:
                sizes[price] = size
                if price < best:
                    best = price
            elif sizes.pop(price, None) is None:
                unknown += 1
        self.best = best if best in sizes else min(sizes, default=math.inf)
        self._prices = None
        return unknown


class Levels:
    """Price levels of both sides."""

    __slots__ = ("ask_side", "bid_side")

    def __init__(self) -> None:
        self.bid_side = Bids()
        self.ask_side = Asks()

    @property
    def bids(self) -> dict[float, float]:
        """Sizes by price, in no order."""
        return self.bid_side.sizes

    @property
    def asks(self) -> dict[float, float]:
        return self.ask_side.sizes

    @property
    def bid_prices(self) -> SortedList[float]:
        """Ascending: the best bid is the last."""
        return self.bid_side.prices

    @property
    def ask_prices(self) -> SortedList[float]:
        """Ascending: the best ask is the first."""
        return self.ask_side.prices

    def replace(self, bids: list[Level], asks: list[Level]) -> None:
        """Forget everything and take these levels. Prices must be unique and sizes positive (`is_plain_snapshot`)."""
        self.bid_side.replace(bids)
        self.ask_side.replace(asks)

    def apply(self, bids: list[Level], asks: list[Level]) -> int:
        """Set absolute sizes; size 0 deletes. Returns how many deletes named a level that was not held."""
        unknown = self.bid_side.apply(bids) if bids else 0
        if asks:
            unknown += self.ask_side.apply(asks)
        return unknown

    def best_bid(self) -> float | None:
        return self.bid_side.best if self.bids else None

    def best_ask(self) -> float | None:
        return self.ask_side.best if self.asks else None

    def top_bid_prices(self, count: int) -> list[float]:
        """The best `count` bid prices, best first; fewer when there are fewer."""
        return self.bid_side.in_order()[: -count - 1 : -1]

    def top_ask_prices(self, count: int) -> list[float]:
        """The best `count` ask prices, best first; fewer when there are fewer."""
        return self.ask_side.in_order()[:count]

    def top_bids(self, count: int) -> list[Level]:
        """The best `count` bids, best first; fewer when there are fewer."""
        sizes = self.bids
        return [(price, sizes[price]) for price in self.top_bid_prices(count)]

    def top_asks(self, count: int) -> list[Level]:
        """The best `count` asks, best first; fewer when there are fewer."""
        sizes = self.asks
        return [(price, sizes[price]) for price in self.top_ask_prices(count)]


def is_plain_snapshot(update: BookUpdate) -> bool:
    """Whether a snapshot can be a book: at most `depth` levels a side, no price twice, no size 0."""
    return all(
        len(side) <= update.depth and len({price for price, _ in side}) == len(side) and all(size for _, size in side)
        for side in (update.bids, update.asks)
    )


class Counters:
    """Mutable twin of core.types.BookCounters."""

    __slots__ = BookCounters.__struct_fields__

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    updates: int
    snapshots: int
    gaps: int
    missed: int
    duplicates: int
    early_deltas: int
    unknown_deletes: int
    restarts: int
    crossed: int
    locked: int
    refused: int
    resyncs: int
    reconnects: int

    def freeze(self) -> BookCounters:
        return BookCounters(**{name: getattr(self, name) for name in self.__slots__})


class Book:
    """One instrument's book and how far it may be believed.

    Every method takes the time it happened at and returns what must be told: state changes, and a need to resync.
    `chained` is true while each message continued the last: only then are deltas applied. A book that is crossed is
    `suspect` but stays chained, because the next message may right it.
    """

    __slots__ = (
        "_asked",
        "_contradicted_ns",
        "_policy",
        "_unsure_ns",
        "chained",
        "counters",
        "coverage",
        "depth",
        "hops",
        "instrument",
        "last_mono_ns",
        "levels",
        "reason",
        "refusals",
        "seq",
        "state",
        "u",
    )

    def __init__(self, instrument: InstrumentId, depth: int, policy: BookPolicy) -> None:
        self.instrument = instrument
        self.depth = depth
        self.levels = Levels()
        self.state = BookState.EMPTY
        self.reason = "start"
        self.chained = False
        self.u: int | None = None
        self.seq: int | None = None
        self.last_mono_ns: int | None = None  # when the last message was applied (its receive stamp)
        self.counters = Counters()
        self.refusals: dict[str, int] = {}  # messages this book refused itself, by reason
        self.hops = MessageHops()
        self.coverage = Coverage()
        self._policy = policy
        self._contradicted_ns: int | None = None  # crossed or locked since
        self._unsure_ns: int | None = None  # when it last ceased to be live, for the time to recover
        self._asked = False  # a resync was asked for and has not gone out yet

    # --- messages

    def apply(self, update: BookUpdate) -> tuple[Output, ...]:
        """Apply one message, or count why not.

        A message is applied whole or not at all, except that a delta which leaves more levels than the depth is
        found out only afterwards: the book then leaves `live` and is resynced.
        """
        if update.snapshot:
            return self._snapshot(update)
        if not self.chained:
            self.counters.early_deltas += 1
            return _NOTHING
        u = update.u
        if u - 1 != self.u:
            broken = self._out_of_order(update)
            if broken is not None:
                return broken
        counters, levels = self.counters, self.levels
        bids, asks = levels.bid_side, levels.ask_side
        unknown = bids.apply(update.bids) if update.bids else 0
        if update.asks:
            unknown += asks.apply(update.asks)
        if unknown:
            counters.unknown_deletes += unknown
        counters.updates += 1
        self.u = u
        self.seq = update.seq
        self.last_mono_ns = update.mono_ns
        if len(bids.sizes) > self.depth or len(asks.sizes) > self.depth:
            return self._refuse("depth", update.mono_ns)
        # The crossed test is exact per message; everything else waits for a tick.
        if bids.best < asks.best and self.state is LIVE:
            if self._contradicted_ns is not None:
                self._contradicted_ns = None
            return _NOTHING
        return self._judge(update.mono_ns, "delta")

    def _snapshot(self, update: BookUpdate) -> tuple[Output, ...]:
        if not is_plain_snapshot(update):
            is_too_deep = max(len(update.bids), len(update.asks)) > update.depth
            return self._refuse("depth" if is_too_deep else "shape", update.mono_ns)
        counters = self.counters
        counters.updates += 1
        counters.snapshots += 1
        if update.u == 1:
            counters.restarts += 1
        self.levels.replace(update.bids, update.asks)
        self.u = update.u
        self.seq = update.seq
        self.last_mono_ns = update.mono_ns
        self.chained = True
        self._asked = False
        return self._judge(update.mono_ns, "snapshot")

    def _out_of_order(self, update: BookUpdate) -> tuple[Output, ...] | None:
        """What a delta means whose `u` is not the next. None: go on and apply it."""
        counters = self.counters
        if update.u == 1:  # a restart must come as a snapshot (bybit-v5.md 3.1 rule 3)
            return self._refuse("restart", update.mono_ns)
        assert self.u is not None  # it is chained
        missed = update.u - self.u - 1
        if missed < 0:
            counters.duplicates += 1
            return _NOTHING
        counters.gaps += 1
        counters.missed += missed
        if not self._policy.strict_sequence:
            return None
        return self.distrust("gap", update.mono_ns, f"{missed} missed before u {update.u}", refused=False)

    def _judge(self, mono_ns: int, reason: str) -> tuple[Output, ...]:
        """The state that follows from the best prices, after a message was applied."""
        bid, ask = self.levels.best_bid(), self.levels.best_ask()
        if bid is None or ask is None or bid < ask:
            self._contradicted_ns = None
            return self._become(LIVE, reason, mono_ns)
        if self._contradicted_ns is None:
            self._contradicted_ns = mono_ns
            if bid > ask:
                self.counters.crossed += 1
            else:
                self.counters.locked += 1
        if bid == ask:  # a legal transient: spread 0 is a valid value
            return self._become(LIVE, reason, mono_ns)
        return self._become(BookState.SUSPECT, "crossed", mono_ns)

    # --- what happens around the messages

    def _refuse(self, reason: str, mono_ns: int) -> tuple[Output, ...]:
        """A message that could be read and is wrong all the same."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        return self.distrust(reason, mono_ns)

    def distrust(self, reason: str, mono_ns: int, detail: str = "", *, refused: bool = True) -> tuple[Output, ...]:
        """Leave `live` until a snapshot comes and ask for a resync (once until one goes out)."""
        if refused:
            self.counters.refused += 1
        if self.state is BookState.EMPTY or self.state is BookState.CLOSED:
            return _NOTHING
        self.chained = False
        changed = self._become(BookState.SUSPECT, reason, mono_ns, detail)
        return (*changed, *self._ask(reason))

    def syncing(self, reason: str, mono_ns: int) -> tuple[Output, ...]:
        """A subscribe went out. A `stale` book keeps that name until something comes: nothing else is known of it."""
        self._asked = False
        if reason not in ("subscribe", "retry"):
            self.counters.resyncs += 1
        if self.state is BookState.STALE:
            return _NOTHING
        self.chained = False
        return self._become(BookState.SYNCING, reason, mono_ns)

    def link_down(self, reason: str, mono_ns: int) -> tuple[Output, ...]:
        self.chained = False
        self._contradicted_ns = None
        if self.state is BookState.EMPTY:  # never was up, or one more attempt failed: the newest reason counts
            self.reason = reason
        return self._become(BookState.EMPTY, reason, mono_ns)

    def close(self, reason: str, mono_ns: int, detail: str = "") -> tuple[Output, ...]:
        self.chained = False
        return self._become(BookState.CLOSED, reason, mono_ns, detail)

    def check(self, mono_ns: int) -> tuple[Output, ...]:
        """Time passed: resync what stayed crossed or locked, probe what fell silent."""
        if not self.chained or self.last_mono_ns is None:
            return _NOTHING
        if self._contradicted_ns is not None and mono_ns - self._contradicted_ns > self._policy.crossed_hold_s * 1e9:
            bid, ask = self.levels.best_bid(), self.levels.best_ask()
            self._contradicted_ns = None
            return self.distrust("locked" if bid == ask else "crossed", mono_ns, refused=False)
        if self.state is not BookState.STALE and mono_ns - self.last_mono_ns > self._policy.stale_after_s * 1e9:
            return (*self._become(BookState.STALE, "silent", mono_ns), *self._ask("silent"))
        return _NOTHING

    def _ask(self, reason: str) -> tuple[Output, ...]:
        if self._asked:
            return _NOTHING
        self._asked = True
        return (ResyncNeeded(instrument=self.instrument, reason=reason),)

    def _become(self, state: BookState, reason: str, mono_ns: int, detail: str = "") -> tuple[Output, ...]:
        old = self.state
        if state is old:
            return _NOTHING
        if state is LIVE and self._unsure_ns is not None:
            detail = f"after {(mono_ns - self._unsure_ns) / 1e9:.3f} s"
        elif old is LIVE:
            self._unsure_ns = mono_ns
        self.state = state
        self.reason = "" if state is LIVE else reason
        self.coverage.change(state, reason, mono_ns)
        return (
            BookStateChanged(
                instrument=self.instrument, old=old, new=state, reason=reason, mono_ns=mono_ns, detail=detail
            ),
        )
