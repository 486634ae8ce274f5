"""The chronicle of a topic agrees with its figures, whatever happens, and stays small."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.figures import NO_GAPS, Cause, GapSeen
from orderflow.core.quality import Coverage, Tally, figures
from orderflow.core.timeline import WORST_LAST, Chronicle, GapLog, Timeline
from orderflow.core.types import BookState
from tests.core.test_quality import EVENTS, MS

ALL = [*EVENTS, (BookState.EMPTY, "recording_gap"), (BookState.EMPTY, "unrecorded")]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(ALL)), max_size=80),
    st.integers(0, 60),
    st.sampled_from([None, Cause.UNRECORDED]),
    st.sampled_from([8, 1000]),
)
def test_gaps_and_stretches_add_up_to_the_figures(
    steps: list[tuple[int, tuple[BookState, str]]], begin: int, cause: Cause | None, limit: int
) -> None:
    coverage, chronicle = Coverage(), Chronicle(limit, 1000)
    when, begun = 0, False
    for step, (state, reason) in steps:
        when += step
        if when >= begin and not begun:
            begun = True
            coverage.begin(begin * MS, cause)
            chronicle.begin(begin * MS, cause)
        coverage.change(state, reason, when * MS)
        chronicle.change(state, reason, "", when * MS)
    if not begun:
        coverage.begin(begin * MS, cause)
        chronicle.begin(begin * MS, cause)
    end = max(when, begin) + 5
    coverage.end(end * MS)
    chronicle.end(end * MS)

    quality = figures(coverage.sums(end * MS), Tally())
    gaps = chronicle.gaps.gaps()
    assert len(gaps) == quality.gaps
    assert round(sum(gap.seconds for gap in gaps), 6) == quality.gap_s
    assert max((gap.seconds for gap in gaps), default=0.0) == quality.longest_gap_s
    counts = {one.cause: one.count for one in quality.causes if one.cause not in NO_GAPS}
    assert {name: sum(gap.cause is name for gap in gaps) for name in counts} == counts
    assert [gap.from_ms for gap in gaps] == sorted(gap.from_ms for gap in gaps)

    stretches = chronicle.timeline.stretches()
    assert len(stretches) <= limit
    assert (stretches[0].from_ms, stretches[-1].to_ms) == (begin, end)
    assert all(one.to_ms == two.from_ms for one, two in itertools.pairwise(stretches))
    assert round(sum(one.lost_s for one in stretches), 6) == round(quality.asked_s - quality.live_s, 6)
    assert {one.state for one in stretches} <= set(WORST_LAST)


def test_a_short_gap_shows_however_long_the_recording_is() -> None:
    timeline = Timeline(100)
    for second in range(10_000):
        timeline.add("live", second * 1000 * MS, (second * 1000 + 990) * MS)
        timeline.add("suspect" if second == 5000 else "stale", (second * 1000 + 990) * MS, (second + 1) * 1000 * MS)
    stretches = timeline.stretches()
    assert len(stretches) <= 100
    assert [one.state for one in stretches].count("suspect") == 1
    assert round(sum(one.lost_s for one in stretches), 3) == 100.0
    assert all(one.parts > 1 for one in stretches[:20])


def test_long_stretches_stay_themselves_among_short_ones() -> None:
    timeline = Timeline(20)
    timeline.add("live", 0, 1_000_000 * MS)
    for number in range(100):
        at = 1_000_000 + number * 2
        timeline.add("suspect", at * MS, (at + 1) * MS)
        timeline.add("live", (at + 1) * MS, (at + 2) * MS)
    first, *_ = timeline.stretches()
    assert (first.state, first.parts, first.to_ms) == ("live", 1, 1_000_000)


def gap(number: int) -> GapSeen:
    return GapSeen(from_ms=number, to_ms=number + 1, seconds=0.0, cause=Cause.STALE, reason="silent")


def test_the_longest_gaps_are_kept() -> None:
    log = GapLog(3)
    for number, ns in enumerate([5, 1, 9, 7, 7, 2]):
        log.add(gap(number), ns)
    assert [one.from_ms for one in log.gaps()] == [2, 3, 4]
    assert log.left_out == 3
