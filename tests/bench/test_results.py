"""Percentiles, rounds, limits."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.bench.results import LIMITS, Figure, Limit, Spread, judge, limit_of, single, spread

CEILING = Limit(title="apply", name="apply", case="hot", depth=50, statistic="p99", ceiling=50, unit="us")


def _figure(*p99s: float, case: str = "hot", depth: int | None = 50, name: str = "apply") -> Figure:
    rounds = tuple(Spread(count=100, p50=1.0, p99=p99, p999=p99, max=p99 * 2) for p99 in p99s)
    return Figure(stage="book", name=name, case=case, unit="us", rounds=rounds, depth=depth)


@pytest.mark.parametrize(
    "samples, p50, p99, p999, top",
    [
        ([7_000], 7, 7, 7, 7),
        ([1_000, 2_000], 1, 2, 2, 2),
        ([3_000, 1_000, 2_000], 2, 3, 3, 3),
        ([n * 1_000 for n in range(1, 1001)], 500, 990, 999, 1000),
    ],
)
def test_percentiles_are_samples_in_microseconds(
    samples: list[int], p50: float, p99: float, p999: float, top: float
) -> None:
    found = spread(samples)
    assert (found.count, found.p50, found.p99, found.p999, found.max) == pytest.approx(
        (len(samples), p50, p99, p999, top)
    )


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_a_percentile_is_the_least_sample_that_enough_do_not_exceed(samples: list[int]) -> None:
    found = spread(samples, scale=1)
    for share, value in ((0.5, found.p50), (0.99, found.p99), (0.999, found.p999)):
        assert value in samples
        assert sum(sample <= value for sample in samples) >= share * len(samples) - 1e-9
        assert sum(sample < value for sample in samples) < share * len(samples)


def test_no_samples_are_no_spread() -> None:
    with pytest.raises(ValueError, match="no samples"):
        spread([])


def test_the_median_round_is_shown_with_the_worst_maximum() -> None:
    shown = _figure(10, 90, 20).shown
    assert (shown.count, shown.p99, shown.max) == (300, 20, 180)


def test_the_worst_of_what_should_be_much_is_the_least() -> None:
    rounds = tuple(single(rate) for rate in (300.0, 100.0, 200.0))
    figure = Figure(stage="flood", name="m", case="c", unit="msg/s", rounds=rounds, more_is_better=True)
    assert (figure.shown.p50, figure.shown.max) == (200, 100)
    assert not figure.is_distribution


@pytest.mark.parametrize("p99, holds", [(49.9, True), (50.0, False), (51.0, False)])
def test_a_limit_holds_only_below_its_ceiling(p99: float, holds: bool) -> None:
    (verdict,) = judge([_figure(p99)], [CEILING])
    assert verdict.holds is holds
    assert verdict.measured == p99


def test_a_time_is_judged_by_its_quietest_round() -> None:
    (verdict,) = judge([_figure(300, 20, 90)], [CEILING])
    assert (verdict.measured, verdict.holds) == (20, True)
    (verdict,) = judge([_figure(300, 200, 900)], [CEILING])
    assert verdict.measured == 200
    assert verdict.holds is False


@pytest.mark.parametrize("figure", [_figure(99, case="cold"), _figure(99, depth=200), _figure(99, name="decode")])
def test_figures_a_limit_is_not_about_do_not_judge_it(figure: Figure) -> None:
    (verdict,) = judge([figure], [CEILING])
    assert verdict.holds is None
    assert verdict.measured is None


def test_cold_figures_are_shown_beside_the_limit() -> None:
    assert limit_of(_figure(1, case="cold"), [CEILING]) == CEILING
    assert limit_of(_figure(1, depth=1000), [CEILING]) is None


def test_the_missions_limits_are_all_there() -> None:
    promised = {(limit.title.partition(",")[0], limit.ceiling, limit.unit) for limit in LIMITS}
    assert promised == {
        ("message processing", 100, "us"),
        ("book delta", 50, "us"),
        ("imbalance", 15, "us"),
        ("memory", 100, "MB"),
        ("memory", 60, "MB"),
        ("start to first live book", 0.6, "s"),
        ("orderflow --help", 0.15, "s"),
        ("recording", 10, "%"),
        ("replay", 20, "us"),
        ("100 symbols", 30, "%"),
        ("700 symbols", 100, "ms"),
    }


def test_a_limit_may_be_about_one_rate() -> None:
    limit = msgspec.structs.replace(CEILING, case="program", rate=4000.0)
    figures = [
        msgspec.structs.replace(_figure(p99, case="program"), rate=rate) for p99, rate in ((99, 9000.0), (9, 4000.0))
    ]
    (verdict,) = judge(figures, [limit])
    assert (verdict.measured, verdict.holds) == (9, True)


@pytest.mark.parametrize("medians, noise", [([5.0], 0), ([4.0, 5.0, 6.0], 0.4), ([0.0, 0.0], 0)])
def test_noise_is_how_far_the_rounds_lie_apart(medians: list[float], noise: float) -> None:
    figure = Figure(stage="s", name="n", case="c", unit="us", rounds=tuple(map(single, medians)))
    assert figure.noise == pytest.approx(noise)
