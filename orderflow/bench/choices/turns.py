"""Taking turns: every way of a choice does the same work alternately, so that what else the machine does meets all."""

from __future__ import annotations

import time
from random import Random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from orderflow.bench.options import CHOICES
from orderflow.bench.results import Figure, Spread, single

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Ways = Mapping[str, Callable[["T"], object]]
    """Name -> what takes a turn's work; ours comes first."""

T = TypeVar("T")


class Pace(NamedTuple):
    """So many rounds of so many turns of each way, of so many messages each."""

    rounds: int
    turns: int
    messages: int

    @property
    def total(self) -> int:
        """How many messages each way gets, the first turn included, which only warms up."""
        return (1 + self.rounds * self.turns) * self.messages


def shuffled(names: Iterable[str], number: int) -> list[str]:
    """In another order each time, the same in every run: nobody always comes behind the same."""
    found = list(names)
    Random(number).shuffle(found)
    return found


def take_turns(name: str, ways: Ways[T], work: Callable[[int], T], pace: Pace, depth: int) -> list[Figure]:
    """Microseconds a message of each way.

    Args: work: makes that of a turn, by its number from 0; each way gets the same.
    Returns: a figure a way; a round's value is the median of its turns.
    """
    rounds: dict[str, list[Spread]] = {way: [] for way in ways}
    _turn(ways, list(ways), work(0))
    for number in range(pace.rounds):
        took: dict[str, list[int]] = {way: [] for way in ways}
        for turn in range(pace.turns):
            at = number * pace.turns + turn
            for way, span in _turn(ways, shuffled(ways, at), work(1 + at)).items():
                took[way].append(span)
        for way, spans in took.items():
            rounds[way].append(single(median(spans) / pace.messages / 1000))
    return [
        Figure(stage=CHOICES, name=name, case=way, unit="us", rounds=tuple(spreads), depth=depth)
        for way, spreads in rounds.items()
    ]


def _turn(ways: Ways[T], order: list[str], work: T) -> dict[str, int]:
    """Nanoseconds that each took."""
    clock = time.perf_counter_ns
    took: dict[str, int] = {}
    for name in order:
        take = ways[name]
        began = clock()
        take(work)
        took[name] = clock() - began
    return took
