"""What order books and trades look like, in numbers: the same meter for recordings and for the simulator."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.core.types import Level


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One book message of either side: absolute sizes, 0 deletes; a snapshot replaces the book."""

    ms: float
    snapshot: bool
    bids: Sequence[Level]
    asks: Sequence[Level]


class BookStats(msgspec.Struct, frozen=True, kw_only=True):
    """What one book topic looks like. Shares are of deltas; sizes in coin, or contracts on inverse."""

    frames_per_s: float
    levels_mean: float  # changed levels per delta
    levels_p50: float
    levels_p90: float
    one_sided: float
    touch_price: float  # share of deltas that change best bid or best ask
    touch_any: float  # ... or their sizes
    inserts: float  # share of changed levels that are new
    spread_1_tick: float  # share of deltas after which the spread is the smallest one seen
    size_p50: float  # of the levels in the window
    size_p90: float


class TradeStats(msgspec.Struct, frozen=True, kw_only=True):
    """What trades look like. A burst is all trades of one side in one millisecond: mostly one taker order."""

    trades_per_s: float
    bursts_per_s: float
    fills_mean: float  # trades per burst
    fills_p90: float
    fills_p99: float
    same_ms: float  # share of trades that share the millisecond of the trade before
    same_side: float  # share of bursts with the side of the burst before
    gap_p50_ms: float  # between bursts
    second_p90: float  # trades in a second that nine in ten seconds stay below
    size_p50: float
    size_mean: float


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of `values` lies; 0 of nothing."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else 0.0


class BookMeter:
    """Keeps a book from frames and counts what they change."""

    def __init__(self) -> None:
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        self._touch: tuple[Level, Level] | None = None
        self._times: list[float] = []
        self._levels: list[float] = []
        self._spreads: list[float] = []
        self._sizes: list[float] = []
        self._counts: Counter[str] = Counter()

    def add(self, frame: Frame) -> None:
        self._times.append(frame.ms)
        if frame.snapshot:
            self._bids, self._asks = dict(frame.bids), dict(frame.asks)
            self._sizes += [*self._bids.values(), *self._asks.values()]
        else:
            self._counts["inserted"] += _apply(self._bids, frame.bids) + _apply(self._asks, frame.asks)
        touch = self._best()
        if not frame.snapshot:
            self._count(frame, touch)
        self._touch = touch

    def _best(self) -> tuple[Level, Level] | None:
        if not self._bids or not self._asks:
            return None
        bid, ask = max(self._bids), min(self._asks)
        return (bid, self._bids[bid]), (ask, self._asks[ask])

    def _count(self, frame: Frame, touch: tuple[Level, Level] | None) -> None:
        self._levels.append(len(frame.bids) + len(frame.asks))
        self._counts["one_sided"] += not frame.bids or not frame.asks
        self._counts["any"] += touch != self._touch
        if touch is not None and self._touch is not None:
            self._counts["price"] += (touch[0][0], touch[1][0]) != (self._touch[0][0], self._touch[1][0])
            self._spreads.append(round(touch[1][0] - touch[0][0], 9))

    def stats(self) -> BookStats:
        """The statistics so far.

        Raises: ValueError when there were not at least two frames, one of them a delta.
        """
        if not self._levels or len(self._times) < 2:
            raise ValueError("no deltas to measure")
        deltas = len(self._levels)
        smallest = min(self._spreads, default=0.0)
        return BookStats(
            frames_per_s=deltas * 1000 / max(1.0, self._times[-1] - self._times[0]),
            levels_mean=statistics.fmean(self._levels),
            levels_p50=quantile(self._levels, 0.5),
            levels_p90=quantile(self._levels, 0.9),
            one_sided=self._counts["one_sided"] / deltas,
            touch_price=self._counts["price"] / deltas,
            touch_any=self._counts["any"] / deltas,
            inserts=self._counts["inserted"] / max(1.0, sum(self._levels)),
            spread_1_tick=sum(spread <= smallest * 1.001 for spread in self._spreads) / max(1, len(self._spreads)),
            size_p50=quantile(self._sizes, 0.5),
            size_p90=quantile(self._sizes, 0.9),
        )


def _apply(side: dict[float, float], levels: Iterable[Level]) -> int:
    """Apply one side of a delta. Returns: how many levels are new."""
    before, deleted = len(side), 0
    for price, size in levels:
        if size:
            side[price] = size
        else:
            deleted += side.pop(price, None) is not None
    return len(side) - before + deleted


def trade_stats(trades: Sequence[tuple[int, float, bool]], seconds: float) -> TradeStats:
    """Statistics of (ms, size, taker bought), in order of time, seen over so many seconds."""
    bursts = Counter((ms, buy) for ms, _, buy in trades)
    keys = list(bursts)
    pairs = list(pairwise(keys))
    per_second = Counter(ms // 1000 for ms, _, _ in trades)
    quiet = [0] * max(0, int(seconds) - len(per_second))
    fills, sizes = list(bursts.values()), [size for _, size, _ in trades]
    together = sum(one[0] == two[0] for one, two in pairwise(trades))
    return TradeStats(
        trades_per_s=len(trades) / seconds,
        bursts_per_s=len(bursts) / seconds,
        fills_mean=statistics.fmean(fills) if fills else 0.0,
        fills_p90=quantile(fills, 0.9),
        fills_p99=quantile(fills, 0.99),
        same_ms=together / max(1, len(trades) - 1),
        same_side=sum(one[1] == two[1] for one, two in pairs) / max(1, len(pairs)),
        gap_p50_ms=quantile([two[0] - one[0] for one, two in pairs], 0.5),
        second_p90=quantile([*per_second.values(), *quiet], 0.9),
        size_p50=quantile(sizes, 0.5),
        size_mean=statistics.fmean(sizes) if sizes else 0.0,
    )
