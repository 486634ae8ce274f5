"""A run against an earlier one."""

from __future__ import annotations

import msgspec
import pytest

from orderflow.bench.compare import compare
from orderflow.bench.results import Figure, Spread, single


def figure(*medians: float, **changes: object) -> Figure:
    rounds = tuple(Spread(count=100, p50=p50, p99=p50 * 2, p999=p50 * 3, max=p50 * 4) for p50 in medians)
    made = Figure(stage="book", name="apply", case="hot", unit="us", rounds=rounds, depth=50)
    return msgspec.structs.replace(made, **changes)


def test_less_time_is_better() -> None:
    (change,) = compare([figure(2.0)], [figure(3.0)])
    assert (change.before, change.now, change.ratio, change.p99_ratio) == (3.0, 2.0, 1.5, 1.5)


def test_more_messages_are_better() -> None:
    now, before = (
        figure(rounds=(single(rate),), stage="flood", name="messages", more_is_better=True) for rate in (90.0, 60.0)
    )
    (change,) = compare([now], [before])
    assert (change.ratio, change.p99_ratio) == (1.5, None)


@pytest.mark.parametrize(
    "now, before, matters",
    [([2.0], [2.1], True), ([2.0, 2.4, 2.2], [2.1], False), ([2.0], [1.9, 2.1, 2.4], False), ([1.0], [1.9, 2.4], True)],
)
def test_a_ratio_within_the_spread_of_the_rounds_says_nothing(
    now: list[float], before: list[float], matters: bool
) -> None:
    (change,) = compare([figure(*now)], [figure(*before)])
    assert change.matters is matters


def test_the_noisier_run_counts() -> None:
    (change,) = compare([figure(1.0, 1.0)], [figure(1.0, 1.5, 2.0)])
    assert change.noise == pytest.approx(0.667, abs=0.001)


@pytest.mark.parametrize(
    "changes", [{"depth": 200}, {"case": "cold"}, {"rate": 50.0}, {"name": "decode"}, {"stage": "x"}]
)
def test_only_the_same_figure_is_compared(changes: dict[str, object]) -> None:
    assert compare([figure(1.0)], [figure(1.0, **changes)]) == []


def test_other_units_are_not_compared() -> None:
    assert compare([figure(1.0)], [figure(1.0, unit="ms")]) == []


def test_next_to_nothing_does_not_matter() -> None:
    assert [compare([figure(1.0)], [figure(then)])[0].matters for then in (1.01, 1.03, 0.99, 0.97)] == [
        False, True, False, True,
    ]  # fmt: skip


def test_nothing_is_compared_with_zero() -> None:
    assert compare([figure(1.0)], [figure(0.0)]) == []
    assert compare([figure(0.0)], [figure(1.0)]) == []
