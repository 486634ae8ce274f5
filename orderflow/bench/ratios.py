"""How many times better one figure is than another of the same run.

Clients are held against each other, ticks against none, and other ways of doing something against ours.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from orderflow.bench.options import CHOICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderflow.bench.results import Figure

OURS: Final = "orderflow"
BUSY: Final = "busy poll"
"""orderflow with `busy_poll`: beside the others where messages come with time in between."""
SERVER: Final = "server"
"""The case of a figure that is nobody's."""


class Goal(NamedTuple):
    """A promise: at least `floor` times as good as `against`."""

    stage: str
    name: str
    case: str
    against: str
    statistic: str
    floor: float
    rate: float | None = None
    depth: int = 50


_TICKS: Final = ("50 symbols, ticks every 0.1 s", "50 symbols, no ticks")
GOALS: Final = (
    Goal("flood", "messages", OURS, "plain", "p50", 4.0),
    Goal("flood", "messages", OURS, "cryptofeed", "p50", 3.0),
    Goal("paced", "sent to book", OURS, "cryptofeed", "p50", 1.0, rate=500),
    Goal("paced", "sent to book", OURS, "picows", "p50", 1 / 1.3, rate=500),
    Goal("paced", "sent to book", BUSY, "picows", "p50", 1 / 1.3, rate=500),
    Goal("tls", "messages", OURS, "plain", "p50", 4.0),
    Goal("tls", "messages", OURS, "cryptofeed", "p50", 3.0),
    Goal("tls", "sent to book", OURS, "cryptofeed", "p50", 1.0, rate=500),
    Goal("tls", "sent to book", BUSY, "picows", "p50", 1 / 1.3, rate=500),
    Goal("scale", "sent to book", *_TICKS, "p99", 0.5, rate=500),
)
"""What was promised beside others, at depth 50; and that ticks leave the feed alone: at most twice its p99."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """`case` beside `against`; more than 1 is better.

    Args:
        value: the median over the rounds, in each of which both took their turn; least and most: of a round.
        floor: what was promised, None for nothing; holds: whether the value is that.
    """

    stage: str
    name: str
    case: str
    against: str
    statistic: str
    depth: int | None
    rate: float | None
    value: float
    least: float
    most: float
    floor: float | None = None
    holds: bool | None = None


def find_ratios(figures: Sequence[Figure], goals: Sequence[Goal] = GOALS) -> list[Ratio]:
    """Every comparison there is in these figures, in their order."""
    ratios = []
    for figure in figures:
        for ours, statistics in _compared_with(figure, figures):
            mine = _find(figures, figure, ours)
            if mine is not None:
                ratios += [_ratio(mine, figure, statistic, goals) for statistic in statistics]
    return ratios


def _compared_with(figure: Figure, figures: Sequence[Figure]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(case, statistics) of what this figure is held against."""
    if figure.stage in ("flood", "paced", "tls") and figure.case != SERVER:
        statistics = ("p50", "p99") if figure.is_distribution else ("p50",)
        if figure.case not in (OURS, BUSY):
            yield OURS, statistics
        if figure.case != BUSY:
            yield BUSY, statistics
    if figure.stage == CHOICES and (ours := _first_way(figure, figures)) != figure.case:
        yield ours, ("p50", "p99") if figure.is_distribution else ("p50",)
    if (figure.stage, figure.name, figure.case) == ("scale", "sent to book", _TICKS[1]):
        yield _TICKS[0], ("p50", "p99")


def _first_way(figure: Figure, figures: Sequence[Figure]) -> str:
    """Of a choice, the way that comes first is ours."""
    choice = figure.stage, figure.name, figure.depth, figure.rate
    return next(each.case for each in figures if (each.stage, each.name, each.depth, each.rate) == choice)


def _find(figures: Sequence[Figure], beside: Figure, case: str) -> Figure | None:
    stage, name, _, depth, rate = beside.key
    return next((figure for figure in figures if figure.key == (stage, name, case, depth, rate)), None)


def _ratio(mine: Figure, other: Figure, statistic: str, goals: Sequence[Goal]) -> Ratio:
    pairs = [(getattr(a, statistic), getattr(b, statistic)) for a, b in zip(mine.rounds, other.rounds, strict=False)]
    rounds = [a / b if mine.more_is_better else b / a for a, b in pairs if a and b] or [1.0]
    value = median(rounds)
    floor = _floor(mine, other, statistic, goals)
    return Ratio(
        stage=mine.stage,
        name=mine.name,
        case=mine.case,
        against=other.case,
        statistic=statistic,
        depth=mine.depth,
        rate=mine.rate,
        value=round(value, 3),
        least=round(min(rounds), 3),
        most=round(max(rounds), 3),
        floor=floor,
        holds=None if floor is None else value >= floor,
    )


def _floor(mine: Figure, other: Figure, statistic: str, goals: Sequence[Goal]) -> float | None:
    wanted = (*mine.key, other.case, statistic)
    for goal in goals:
        if (goal.stage, goal.name, goal.case, goal.depth, goal.rate, goal.against, goal.statistic) == wanted:
            return goal.floor
    return None
