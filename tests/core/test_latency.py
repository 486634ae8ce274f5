"""Percentiles against a sorted list: same rank, at most 1/128 off."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.latency import LatencyHistogram
from orderflow.core.types import Percentiles

values = st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=300)


def filled(samples: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in samples:
        histogram.record(value)
    return histogram


def test_nothing_recorded_is_no_number() -> None:
    histogram = LatencyHistogram()
    assert histogram.percentiles() == Percentiles()
    with pytest.raises(ValueError, match="no samples"):
        histogram.quantiles(0.5)


@given(values, st.floats(0.001, 1))
def test_quantiles_are_the_ranked_samples_within_the_bound(samples: list[int], share: float) -> None:
    ranked = sorted(samples)
    exact = ranked[max(0, math.ceil(share * len(samples) - 1e-9) - 1)]
    (got,) = filled(samples).quantiles(share)
    assert abs(got - exact) <= abs(exact) / 128 + 0.5


@given(values, values)
def test_merging_is_recording_both(one: list[int], two: list[int]) -> None:
    merged, other = filled(one), filled(two)
    merged.merge(other)
    assert merged.percentiles() == filled(one + two).percentiles()
    assert merged.negative == sum(value < 0 for value in one + two)
    assert other.count == len(two)


def test_small_values_and_the_maximum_are_exact() -> None:
    histogram = filled([*range(100), 123_457])
    assert histogram.quantiles(0.5) == [50.0]
    assert histogram.percentiles().max == 123.457


def test_many_values_are_folded_on_the_way() -> None:
    histogram = filled([1000] * 5000)
    assert histogram.count == 5000
    assert histogram.percentiles() == Percentiles(count=5000, p50=1.0, p99=1.0, p999=1.0, max=1.0)
    histogram.clear()
    assert histogram.count == 0
