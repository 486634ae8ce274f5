"""Percentiles against a sorted list: same rank, at most 1/128 off."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orderflow.core.latency import LatencyHistogram, MessageHops
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
    assert abs(got - exact) <= abs(exact) / 128


@pytest.mark.parametrize("power", range(1, 40))
def test_around_powers_of_two_the_bound_holds_too(power: int) -> None:
    for value in range(2**power - 2, 2**power + 3):
        for sample in (value, -value):
            (got,) = filled([sample, 2**50]).quantiles(0.5)
            assert abs(got - sample) <= value / 128


steps = st.lists(
    st.tuples(st.sampled_from(["record", "record all", "merge", "clear", "ask"]), st.lists(st.integers(-300, 300))),
    max_size=12,
)


@given(steps)
@example([("record", [5]), ("ask", []), ("merge", [7]), ("ask", [])])
@example([("record", [-5, 3]), ("merge", [-7]), ("clear", []), ("record all", [2])])
@example([("record all", [9]), ("merge", [8]), ("record", [0, 4]), ("ask", []), ("clear", []), ("ask", [])])
def test_it_stands_for_what_it_was_given_since_it_was_cleared(story: list[tuple[str, list[int]]]) -> None:
    """However that came, and whoever looked meanwhile."""
    histogram, samples = LatencyHistogram(), list[int]()
    for act, numbers in story:
        if act == "clear":
            histogram.clear()
            samples.clear()
        elif act == "ask":
            assert histogram.maximum == max(samples, default=None)
        else:
            samples += numbers
        if act == "record":
            for number in numbers:
                histogram.record(number)
        elif act == "record all":
            histogram.record_all(numbers.copy())
        elif act == "merge":
            histogram.merge(filled(numbers))
    assert histogram.count == len(samples)
    assert histogram.negative == sum(number < 0 for number in samples)
    assert histogram.maximum == max(samples, default=None)
    assert histogram.percentiles() == filled(samples).percentiles()


def test_milliseconds_are_told_to_the_tenth_of_a_microsecond() -> None:
    assert filled([128, 129, 129]).percentiles().p50 == 0.1285


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


def test_hops_are_the_differences_of_stamps() -> None:
    hops = MessageHops()
    hops.fold(0)
    assert (hops.messages, hops.first_ns, hops.last_ns) == (0, None, None)
    wall_ms = 1_790_000_000_000
    for number, (matched_ms, done_ns) in enumerate([(wall_ms - 4, 2_040_999), (None, None), (wall_ms - 2, 2_020_000)]):
        hops.stamps.append((wall_ms * 1_000_000 + 7_000_999 + number, wall_ms, matched_ms, 2_000_000, done_ns))
    hops.fold(5000)
    assert (hops.messages, hops.first_ns, hops.last_ns) == (3, *(wall_ms * 1_000_000 + 7_000_999 + at for at in (0, 2)))
    assert hops.stamps == []
    assert (hops.gateway_to_socket.count, hops.gateway_to_socket.maximum) == (3, 2001)
    assert (hops.engine_to_gateway.count, hops.engine_to_gateway.maximum) == (2, 4000)
    assert (hops.socket_to_book.count, hops.socket_to_book.maximum) == (2, 40)
    hops.stamps.append((wall_ms * 1_000_000 + 9_000_000, wall_ms, None, 0, None))
    hops.fold(None)
    assert (hops.messages, hops.last_ns) == (4, wall_ms * 1_000_000 + 9_000_000)
    assert hops.gateway_to_socket.count == 3, "nobody noted when it came"


def test_an_interval_begins_with_empty_hands() -> None:
    hops = MessageHops()
    hops.stamps.append((0, 0, 0, 0, 0))
    hops.fold(0)
    hops.stamps.append((0, 0, 0, 0, 0))
    hops.clear()
    hops.fold(0)
    assert [hop.count for hop in (hops.engine_to_gateway, hops.gateway_to_socket, hops.socket_to_book)] == [0, 0, 0]
    assert hops.messages == 1, "of all intervals"
    hops.begin()
    assert (hops.messages, hops.first_ns, hops.last_ns) == (0, None, None)
