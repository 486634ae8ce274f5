"""Figures and what they are held against. A figure keeps every round; what is shown is the median round."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QUANTILES: Final = (0.5, 0.99, 0.999)


class Spread(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One round's distribution, in the unit of its figure."""

    count: int
    p50: float
    p99: float
    p999: float
    max: float


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
    rounds: tuple[Spread, ...]
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


LIMITS: Final = (
    Limit(title="message processing", name="message", case="hot", depth=50, statistic="p99", ceiling=100, unit="us"),
    Limit(title="book delta", name="apply", case="hot", depth=50, statistic="p99", ceiling=50, unit="us"),
    Limit(title="imbalance", name="imbalance", case="hot", depth=50, statistic="p99", ceiling=15, unit="us"),
    Limit(title="memory, 1 symbol", name="memory", case="1 symbol", depth=50, statistic="max", ceiling=100, unit="MB"),
    Limit(
        title="memory, 10 symbols", name="memory", case="10 symbols", depth=50, statistic="max", ceiling=100, unit="MB"
    ),
)
"""The mission's limits. The 99th percentile must hold, not only the median; memory is the peak.

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
        if (figure.name, figure.case, figure.depth) == (limit.name, limit.case, limit.depth):
            measured: float = min(getattr(each, limit.statistic) for each in figure.rounds)
            if limit.statistic == "max":
                measured = figure.shown.max
            return Verdict(limit=limit, measured=measured, holds=measured < limit.ceiling)
    return Verdict(limit=limit)


def limit_of(figure: Figure, limits: Sequence[Limit] = LIMITS) -> Limit | None:
    """The limit that is about this figure, hot or cold: cold figures are shown beside it, and not judged."""
    for limit in limits:
        if limit.name == figure.name and limit.depth == figure.depth and limit.case in (figure.case, "hot"):
            return limit
    return None
