"""Ways take turns with the same work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orderflow.bench.choices.turns import Pace, shuffled, take_turns
from orderflow.bench.ratios import find_ratios

if TYPE_CHECKING:
    import pytest


def test_every_way_gets_the_same_work_in_turns() -> None:
    seen: list[tuple[str, int]] = []
    ways = {name: lambda work, name=name: seen.append((name, work)) for name in ("ours", "other")}
    figures = take_turns("choice", ways, lambda number: number, Pace(rounds=2, turns=3, messages=5), depth=50)
    assert [figure.case for figure in figures] == ["ours", "other"]
    assert all((figure.stage, len(figure.rounds)) == ("choices", 2) for figure in figures)
    for name in ways:
        assert [work for way, work in seen if way == name] == list(range(7))  # one to warm up
        assert [name for name, _ in seen[2:]][::2].count(name) > 0  # sometimes the first
    assert Pace(2, 3, 5).total == 7 * 5


def test_nobody_always_comes_behind_the_same() -> None:
    orders = [tuple(shuffled("abc", number)) for number in range(40)]
    assert len(set(orders)) == 6
    assert orders == [tuple(shuffled("abc", number)) for number in range(40)]


def test_a_round_is_the_median_of_its_turns_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    us = iter([0, 0, 0, 20, 0, 9000, 0, 30])  # begin and end of the turn that warms up, and of three
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(us) * 1000)
    (figure,) = take_turns("choice", {"ours": lambda _: None}, bool, Pace(1, 3, 10), depth=50)
    assert figure.rounds[0].p50 == 3.0
    assert figure.unit == "us"


def test_ours_is_held_against_every_other_way_of_its_choice() -> None:
    pace = Pace(rounds=1, turns=1, messages=1)
    ways = {name: lambda _: None for name in ("ours", "other", "third")}
    figures = take_turns("choice", ways, bool, pace, 50) + take_turns("choice", ways, bool, pace, 200)
    found = [(ratio.case, ratio.against, ratio.depth) for ratio in find_ratios(figures)]
    assert found == [("ours", way, depth) for depth in (50, 200) for way in ("other", "third")]
