"""The clock offset: worked examples, and the promise that the truth lies within the error bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.core.clock import STEP_TOLERANCE_NS, OffsetEstimator, TimeSample

if TYPE_CHECKING:
    from orderflow.core.types import ClockOffset

MS = 1_000_000
T0 = 1_790_000_000_000 * MS
MONO0 = 5_000_000 * MS


def sample(
    at_ns: int, there_ns: int, back_ns: int, offset_ns: int, *, resolution_ns: int = 1, step_ns: int = 0
) -> TimeSample:
    """A question asked `at_ns` after the start, with the given ways, by a clock `offset_ns` ahead of the exchange's."""
    server = T0 + at_ns + there_ns
    return TimeSample(
        sent_ns=T0 + at_ns + offset_ns,
        sent_mono_ns=MONO0 + at_ns,
        received_ns=T0 + at_ns + there_ns + back_ns + offset_ns + step_ns,
        received_mono_ns=MONO0 + at_ns + there_ns + back_ns,
        server_ns=server - server % resolution_ns,
        resolution_ns=resolution_ns,
    )


def known(offset: ClockOffset | None) -> ClockOffset:
    assert offset is not None
    return offset


@pytest.mark.parametrize(
    "there, back, offset, resolution, expected_ms, error_ms",
    [
        (20, 20, 0, 1, 0.0, 20.0),
        (20, 20, 250 * MS, 1, 250.0, 20.0),
        (20, 20, -3_000 * MS, 1, -3000.0, 20.0),
        (40, 0, 0, 1, -20.0, 20.0),  # all on the way there: the midpoint is 20 ms before the stamp
        (0, 40, 0, 1, 20.0, 20.0),
        (20, 20, 0, MS, -0.5, 20.5),  # stamps cut to ms: half a ms early on average
    ],
)
def test_one_sample(there: int, back: int, offset: int, resolution: int, expected_ms: float, error_ms: float) -> None:
    got = known(OffsetEstimator(600).add(sample(0, there * MS, back * MS, offset, resolution_ns=resolution)))
    assert got.offset_ms == pytest.approx(expected_ms, abs=1e-5)
    assert got.error_ms == pytest.approx(error_ms, abs=1e-5)


def test_the_smallest_round_trip_is_believed() -> None:
    estimator = OffsetEstimator(600, drift_ppm=0)
    estimator.add(sample(0, 50 * MS, 10 * MS, 0))
    best = known(estimator.add(sample(1000 * MS, 6 * MS, 4 * MS, 0)))
    after = known(estimator.add(sample(2000 * MS, 200 * MS, 10 * MS, 0)))
    assert best.error_ms == pytest.approx(5.0, abs=1e-5)
    assert (after.offset_ms, after.error_ms) == (best.offset_ms, best.error_ms)
    assert after.mono_ns > best.mono_ns


def test_the_window_slides() -> None:
    estimator = OffsetEstimator(60, drift_ppm=0)
    estimator.add(sample(0, MS, MS, 0))
    got = known(estimator.add(sample(61_000 * MS, 30 * MS, 30 * MS, 0)))
    assert got.error_ms == pytest.approx(30.0, abs=1e-5)
    assert estimator.current(MONO0 + 200_000 * MS) is None


def test_age_widens_the_bound_until_a_fresh_sample_wins() -> None:
    estimator = OffsetEstimator(600, drift_ppm=100)
    first = known(estimator.add(sample(0, MS, MS, 0)))
    aged = known(estimator.current(first.mono_ns + 100_000 * MS))
    assert aged.error_ms == pytest.approx(first.error_ms + 10.0)
    fresh = known(estimator.add(sample(100_000 * MS, 5 * MS, 5 * MS, 0)))
    assert fresh.error_ms == pytest.approx(5.0, abs=1e-5)


def test_a_set_clock_empties_the_window() -> None:
    estimator = OffsetEstimator(600)
    estimator.add(sample(0, MS, MS, 0))
    got = known(estimator.add(sample(1000 * MS, 50 * MS, 50 * MS, 3_600_000 * MS)))
    assert got.offset_ms == pytest.approx(3_600_000.0)
    assert got.error_ms == pytest.approx(50.0, abs=1e-5)
    assert estimator.steps == 1


def test_a_clock_set_during_the_question_is_no_sample() -> None:
    estimator = OffsetEstimator(600)
    estimator.add(sample(0, MS, MS, 0))
    assert estimator.add(sample(1000 * MS, MS, MS, 0, step_ns=-5_000 * MS)) is None
    assert estimator.steps == 1
    assert known(estimator.add(sample(2000 * MS, MS, MS, -5_000 * MS))).offset_ms == pytest.approx(-5000.0)
    assert estimator.steps == 1


def test_nothing_known_at_first() -> None:
    estimator = OffsetEstimator(600)
    assert estimator.current(MONO0) is None
    assert estimator.add(sample(0, MS, MS, 0, step_ns=-5_000 * MS)) is None
    assert estimator.steps == 1


WAY_NS = st.integers(0, 3_000 * MS)
QUESTIONS = st.lists(st.tuples(st.integers(1, 120_000 * MS), WAY_NS, WAY_NS), min_size=1, max_size=12)


@settings(deadline=None)  # a loaded machine is no failure
@given(
    questions=QUESTIONS,
    offset_ns=st.integers(-(10**13), 10**13),
    resolution_ns=st.sampled_from([1, 1000, MS]),
    small_step_ns=st.integers(-STEP_TOLERANCE_NS, STEP_TOLERANCE_NS),
)
def test_the_truth_lies_within_the_bound(
    questions: list[tuple[int, int, int]], offset_ns: int, resolution_ns: int, small_step_ns: int
) -> None:
    """However unequal the two ways, and even when the clock moved by less than what counts as a step."""
    estimator, at_ns = OffsetEstimator(600), 0
    for pause, there, back in questions:
        at_ns += pause
        got = known(estimator.add(sample(at_ns, there, back, offset_ns, resolution_ns=resolution_ns)))
        assert abs(got.offset_ms - offset_ns / 1e6) <= got.error_ms + 1e-6
        at_ns += there + back
    stepped = sample(at_ns, 1, 1, offset_ns, resolution_ns=resolution_ns, step_ns=small_step_ns)
    got = known(estimator.add(stepped))
    assert abs(got.offset_ms - (offset_ns + small_step_ns) / 1e6) <= got.error_ms + 1e-6


@settings(deadline=None)  # a loaded machine is no failure
@given(questions=QUESTIONS, drift_ppm=st.floats(-100, 100))
def test_the_bound_holds_while_the_clocks_drift(questions: list[tuple[int, int, int]], drift_ppm: float) -> None:
    estimator, at_ns = OffsetEstimator(600, drift_ppm=100), 0
    for pause, there, back in questions:
        at_ns += pause
        stamp_at = at_ns + there
        drifted = sample(at_ns, there, back, 0)
        server_ns = drifted.server_ns - int(stamp_at * drift_ppm * 1e-6)
        at_ns += there + back
        got = known(
            estimator.add(
                TimeSample(
                    sent_ns=drifted.sent_ns,
                    sent_mono_ns=drifted.sent_mono_ns,
                    received_ns=drifted.received_ns,
                    received_mono_ns=drifted.received_mono_ns,
                    server_ns=server_ns,
                    resolution_ns=1,
                )
            )
        )
        true_ms = at_ns * drift_ppm * 1e-6 / 1e6
        assert abs(got.offset_ms - true_ms) <= got.error_ms + (there + back) * 1e-4 / 1e6 + 1e-5
