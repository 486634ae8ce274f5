"""Ratios and what was promised of them."""

from __future__ import annotations

import pytest

from orderflow.bench.ratios import GOALS, Goal, find_ratios
from orderflow.bench.results import Figure, Spread, single


def flood(client: str, *rates: float, depth: int = 50) -> Figure:
    rounds = tuple(map(single, rates))
    return Figure(
        stage="flood", name="messages", case=client, unit="msg/s", rounds=rounds, depth=depth, more_is_better=True
    )


def paced(client: str, *p50s: float, name: str = "sent to book") -> Figure:
    rounds = tuple(Spread(count=9, p50=p50, p99=p50 * 4, p999=p50 * 5, max=p50 * 9) for p50 in p50s)
    return Figure(stage="paced", name=name, case=client, unit="us", rounds=rounds, depth=50, rate=500.0)


def test_more_is_better_for_messages_and_worse_for_times() -> None:
    figures = [flood("orderflow", 90), flood("plain", 20), paced("orderflow", 100), paced("plain", 250)]
    found = {(ratio.name, ratio.statistic): ratio.value for ratio in find_ratios(figures)}
    assert found == {("messages", "p50"): 4.5, ("sent to book", "p50"): 2.5, ("sent to book", "p99"): 2.5}


def test_a_ratio_is_the_median_of_the_rounds_in_which_both_took_their_turn() -> None:
    (ratio,) = find_ratios([flood("orderflow", 100, 50, 90), flood("plain", 20, 10, 30)])
    assert (ratio.value, ratio.least, ratio.most) == (5, 3, 5)  # the machine was half as fast in the second round


@pytest.mark.parametrize("rate, holds", [(40.0, True), (39.9, False)])
def test_a_promise_is_judged(rate: float, holds: bool) -> None:
    goal = Goal("flood", "messages", "orderflow", "plain", "p50", 4.0)
    (ratio,) = find_ratios([flood("orderflow", rate), flood("plain", 10)], [goal])
    assert (ratio.floor, ratio.holds) == (4.0, holds)
    (deeper,) = find_ratios([flood("orderflow", rate, depth=200), flood("plain", 10, depth=200)], [goal])
    assert (deeper.floor, deeper.holds) == (None, None)


def test_nobody_is_compared_with_the_server_or_across_depths() -> None:
    assert find_ratios([paced("orderflow", 100), paced("server", 1, name="server late")]) == []
    assert find_ratios([flood("orderflow", 100), flood("plain", 10, depth=200)]) == []
    assert find_ratios([flood("plain", 10)]) == []


def test_ticks_are_held_against_none() -> None:
    def beside(case: str, p99: float) -> Figure:
        rounds = (Spread(count=9, p50=100, p99=p99, p999=p99, max=p99),)
        return Figure(stage="scale", name="sent to book", case=case, unit="us", rounds=rounds, depth=50, rate=500.0)

    figures = [beside("50 symbols, no ticks", 300), beside("50 symbols, ticks every 0.1 s", 900)]
    assert [(ratio.statistic, ratio.value, ratio.holds) for ratio in find_ratios(figures)] == [
        ("p50", 1.0, None), ("p99", 0.333, False),
    ]  # fmt: skip


def test_the_promises_beside_others_are_all_there() -> None:
    assert {(goal.against, round(goal.floor, 2)) for goal in GOALS} == {
        ("plain", 4.0), ("cryptofeed", 3.0), ("cryptofeed", 1.0), ("picows", 0.77), ("50 symbols, no ticks", 0.5),
    }  # fmt: skip
