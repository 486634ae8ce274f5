"""Figures and what they are held against. A figure keeps every round; what is shown is the median round."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Key = tuple[str, str, str, int | None, float | None]
"""stage, name, case, depth, rate"""
QUANTILES: Final = (0.5, 0.99, 0.999)


_Measured = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]  # a slope may be negative, by noise


class Spread(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One round's distribution, in the unit of its figure."""

    count: int
    p50: _Measured
    p99: _Measured
    p999: _Measured
    max: _Measured


def spread(nanoseconds: Iterable[int], scale: float = 1e-3) -> Spread:
    """Percentiles of samples in nanoseconds, in microseconds unless `scale` says otherwise.

    A percentile is the smallest sample that so many samples do not exceed. Raises: ValueError without samples.
    """
    ordered = sorted(nanoseconds)
    if not ordered:
        raise ValueError("no samples")
    p50, p99, p999 = (ordered[math.ceil(share * len(ordered)) - 1] * scale for share in QUANTILES)
    return Spread(count=len(ordered), p50=p50, p99=p99, p999=p999, max=ordered[-1] * scale)


def single(value: float) -> Spread:
    """A round that gave one value."""
    return Spread(count=1, p50=value, p99=value, p999=value, max=value)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured thing over all rounds.

    Args:
        case: hot, cold, a client's name, or what else tells figures of one name apart.
        rate: messages/s while it was measured; None: back to back.
        depth: of the book; None where there is none.
    """

    stage: str
    name: str
    case: str
    unit: str
    rounds: Annotated[tuple[Spread, ...], msgspec.Meta(min_length=1)]
    depth: int | None = None
    rate: float | None = None
    more_is_better: bool = False

    @property
    def shown(self) -> Spread:
        """Median over the rounds of each percentile; the greatest maximum (the least, where more is better)."""
        rounds = self.rounds
        worst = min if self.more_is_better else max
        return Spread(
            count=sum(each.count for each in rounds),
            p50=median(each.p50 for each in rounds),
            p99=median(each.p99 for each in rounds),
            p999=median(each.p999 for each in rounds),
            max=worst(each.max for each in rounds),
        )

    @property
    def key(self) -> Key:
        """What makes it the same figure in another run."""
        return self.stage, self.name, self.case, self.depth, self.rate

    @property
    def noise(self) -> float:
        """From the least median of a round to the greatest, as a share of the shown one."""
        medians = [each.p50 for each in self.rounds]
        shown = median(medians)
        return (max(medians) - min(medians)) / abs(shown) if shown else 0.0

    @property
    def is_distribution(self) -> bool:
        """Whether a round is many samples, so that its percentiles mean something."""
        return any(each.count > 1 for each in self.rounds)


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A promise of the program about one figure. `statistic`: which part of it must be below `ceiling`."""

    title: str
    name: str
    case: str
    depth: int | None
    statistic: str
    ceiling: float
    unit: str
    rate: float | None = None


def _limit(
    title: str, name: str, case: str, statistic: str, ceiling: float, unit: str, *,
    depth: int | None = 50, rate: float | None = None,
) -> Limit:  # fmt: skip
    return Limit(
        title=title, name=name, case=case, depth=depth, statistic=statistic, ceiling=ceiling, unit=unit, rate=rate
    )


LIMITS: Final = (
    _limit("message processing", "message", "hot", "p99", 100, "us"),
    _limit("book delta", "apply", "hot", "p99", 50, "us"),
    _limit("imbalance", "imbalance", "hot", "p99", 15, "us"),
    _limit("memory, 1 symbol", "memory", "1 symbol", "max", 100, "MB"),
    _limit("memory, 10 symbols", "memory", "10 symbols", "max", 100, "MB"),
    _limit("memory, 10 symbols at depth 200", "memory", "10 symbols", "max", 60, "MB", depth=200),
    _limit("start to first live book", "first live book", "", "p50", 0.6, "s", depth=None),
    _limit("orderflow --help", "orderflow --help", "", "p50", 0.15, "s", depth=None),
    _limit("recording", "share of the run", "recorder", "p50", 10, "%", rate=5000),
    _limit("replay, 50,000 deltas/s", "delta", "replayed", "p50", 20, "us"),
    _limit("100 symbols", "processor share", "100 symbols, ticks every 1 s", "p50", 30, "%", rate=1000),
    _limit("700 symbols", "sent to book", "700 symbols, ticks every 1 s", "p99", 100, "ms", rate=4000),
    _limit("700 symbols, peak", "sent to book", "700 symbols, ticks every 1 s", "p99", 100, "ms", rate=9000),
)
"""What was promised. The 99th percentile must hold, not only the median; memory is the peak.

A time is judged by its quietest round: what else runs on the machine only ever adds, at the 99th percentile most of
all. What is shown beside it is the median round."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`measured` and `holds` are None when the figure was not measured in this run."""

    limit: Limit
    measured: float | None = None
    holds: bool | None = None


def judge(figures: Sequence[Figure], limits: Sequence[Limit] = LIMITS) -> list[Verdict]:
    """Hold figures against limits, one verdict a limit."""
    return [_judge_one(figures, limit) for limit in limits]


def _judge_one(figures: Sequence[Figure], limit: Limit) -> Verdict:
    for figure in figures:
        if limit.case == figure.case and limit_of(figure, [limit]) is limit:
            measured: float = min(getattr(each, limit.statistic) for each in figure.rounds)
            if limit.statistic == "max":
                measured = figure.shown.max
            return Verdict(limit=limit, measured=measured, holds=measured < limit.ceiling)
    return Verdict(limit=limit)


def limit_of(figure: Figure, limits: Sequence[Limit] = LIMITS) -> Limit | None:
    """The limit that is about this figure, hot or cold: cold figures are shown beside it, and not judged."""
    for limit in limits:
        same = (limit.name, limit.depth, limit.unit) == (figure.name, figure.depth, figure.unit)
        if same and (limit.case == "hot" or (limit.case, limit.rate) == (figure.case, figure.rate)):
            return limit
    return None
