"""Coverage against an oracle that knows the state of every single millisecond."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.engine import Engine
from orderflow.core.figures import Cause, CauseFigures, Quantiles, TickQuality
from orderflow.core.quality import CauseSum, Coverage, CoverageState, Sums, Tally, cause_of, figures, percent, total
from orderflow.core.types import (
    BookState,
    BookUpdate,
    Category,
    ClockOffset,
    InstrumentId,
    LinkDown,
    Started,
    Stopping,
    Syncing,
    TickDue,
)

MS = 1_000_000
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
EVENTS = [
    (BookState.LIVE, "snapshot"),
    (BookState.LIVE, "snapshot"),
    (BookState.LIVE, "delta"),
    (BookState.SYNCING, "subscribe"),
    (BookState.SUSPECT, "gap"),
    (BookState.SUSPECT, "crossed"),
    (BookState.STALE, "silent"),
    (BookState.EMPTY, "eof"),
    (BookState.EMPTY, "overrun"),
    (BookState.CLOSED, "refused"),
]


@pytest.mark.parametrize(
    "state, reason, cause",
    [
        (BookState.SUSPECT, "gap", Cause.SEQUENCE),
        (BookState.SYNCING, "gap", Cause.SEQUENCE),
        (BookState.SUSPECT, "crossed", Cause.CROSSED),
        (BookState.SUSPECT, "locked", Cause.CROSSED),
        (BookState.SUSPECT, "stall", Cause.STALL),
        (BookState.SUSPECT, "json", Cause.REFUSED),
        (BookState.SUSPECT, "restart", Cause.REFUSED),
        (BookState.SYNCING, "subscribe", Cause.DISCONNECT),
        (BookState.STALE, "silent", Cause.STALE),
        (BookState.EMPTY, "eof", Cause.DISCONNECT),
        (BookState.EMPTY, "refused", Cause.DISCONNECT),  # the connection was, not a message
        (BookState.EMPTY, "overrun", Cause.OVERRUN),
        (BookState.EMPTY, "recording_gap", Cause.RECORDER),
        (BookState.EMPTY, "unrecorded", Cause.UNRECORDED),
        (BookState.CLOSED, "refused", Cause.CLOSED),
    ],
)
def test_causes(state: BookState, reason: str, cause: Cause) -> None:
    assert cause_of(state, reason) is cause


class Gap(NamedTuple):
    cause: Cause
    ms: int
    recovered: bool


def by_the_millisecond(story: list[tuple[int, tuple[BookState, str]]], begin: int, end: int) -> tuple[int, list[Gap]]:
    """(live milliseconds, gaps) between `begin` and `end`, from an array with one entry a millisecond."""
    at: list[tuple[BookState, str]] = [(BookState.EMPTY, "start")] * (end + 1)
    for when, what in story:
        at[when:] = [what] * (end + 1 - when)
    live = sum(state is BookState.LIVE for state, _ in at[begin:end])
    gaps: list[Gap] = []
    ms = 0
    for is_live, run in itertools.groupby(at[: end + 1], key=lambda item: item[0] is BookState.LIVE):
        first, *rest = run
        stop = ms + 1 + len(rest)
        inside = max(0, min(stop, end) - max(ms, begin))
        if not is_live and inside:
            over = stop <= end
            cause = (Cause.START if over else Cause.NEVER) if ms == 0 else cause_of(*first)
            gaps.append(Gap(cause, inside, over and at[stop][1] == "snapshot"))
        ms = stop
    return live, gaps


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from(EVENTS)), max_size=25),
    st.integers(0, 60),
    st.integers(1, 400),
)
def test_as_an_array_of_milliseconds_has_it(
    steps: list[tuple[int, tuple[BookState, str]]], begin: int, length: int
) -> None:
    end = begin + length
    story = [(when, what) for when, (_, what) in zip(itertools.accumulate(ms for ms, _ in steps), steps, strict=True)]
    coverage = Coverage()
    begun = False
    for when, (state, reason) in story:
        if not begun and when > begin:
            coverage.begin(begin * MS)
            begun = True
        if when > end:
            break
        coverage.change(state, reason, when * MS)
    coverage.begin(begin * MS)
    coverage.end(end * MS)
    live, gaps = by_the_millisecond([(when, what) for when, what in story if when <= end], begin, end)

    quality = figures(coverage.sums(end * MS), Tally())
    assert quality.asked_s == pytest.approx(length / 1000)
    assert quality.live_s == pytest.approx(live / 1000)
    assert quality.coverage_pct == pytest.approx(100 * live / length, abs=1e-4)
    found = {one.cause: (one.count, one.seconds, one.longest_s) for one in quality.causes if one.seconds}
    expected: dict[Cause, tuple[int, float, float]] = {}
    for gap in gaps:
        count, seconds, longest = expected.get(gap.cause, (0, 0.0, 0.0))
        expected[gap.cause] = count + 1, round(seconds + gap.ms / 1000, 6), max(longest, gap.ms / 1000)
    assert found == expected
    real = [gap for gap in gaps if gap.cause not in (Cause.START, Cause.NEVER)]
    zero_long = sum(one.count for one in quality.causes if not one.seconds and one.cause is not Cause.START)
    zero_long -= any(not one.seconds and one.cause is Cause.NEVER for one in quality.causes)
    assert quality.gaps - zero_long == len(real)
    assert quality.gap_s == pytest.approx(sum(gap.ms for gap in real) / 1000)
    assert quality.longest_gap_s == max((gap.ms / 1000 for gap in real), default=0.0)
    recovered = sorted(gap.ms for gap in real if gap.recovered)
    if recovered:
        assert quality.recovery_s.max == recovered[-1] / 1000
        assert quality.recovery_s.p50 == pytest.approx(recovered[(len(recovered) - 1) // 2] / 1000, rel=0.01)
    tick = coverage.tick(end * MS)
    assert (tick.coverage_pct, tick.gaps, tick.gap_s) == (quality.coverage_pct, quality.gaps, quality.gap_s)


def test_a_wait_for_the_first_snapshot_is_no_gap() -> None:
    coverage = Coverage()
    coverage.begin(0)
    assert coverage.tick(5 * MS) == TickQuality(coverage_pct=0.0)
    assert [one.cause for one in figures(coverage.sums(5 * MS), Tally()).causes] == [Cause.NEVER]
    coverage.change(BookState.LIVE, "snapshot", 10 * MS)
    assert coverage.tick(40 * MS) == TickQuality(coverage_pct=75.0)
    quality = figures(coverage.sums(40 * MS), Tally())
    assert quality.causes == (CauseFigures(cause=Cause.START, count=1, seconds=0.01, longest_s=0.01),)
    assert (quality.gaps, quality.gaps_per_hour, quality.recovery_s.count) == (0, 0.0, 0)


def test_a_gap_is_named_after_what_began_it_and_counts_while_it_lasts() -> None:
    coverage = Coverage()
    coverage.begin(0)
    coverage.change(BookState.LIVE, "snapshot", 0)
    coverage.change(BookState.SUSPECT, "gap", 1000 * MS)
    coverage.change(BookState.EMPTY, "eof", 1500 * MS)
    assert coverage.tick(2000 * MS) == TickQuality(coverage_pct=50.0, gaps=1, gap_s=1.0, longest_gap_s=1.0)
    coverage.change(BookState.LIVE, "snapshot", 3000 * MS)
    quality = figures(coverage.sums(3600 * MS), Tally())
    assert quality.causes[0] == CauseFigures(cause=Cause.SEQUENCE, count=1, seconds=2.0, longest_s=2.0)
    assert quality.gaps_per_hour == 1000.0
    assert quality.recovery_s.max == 2.0


def test_what_heals_by_itself_is_no_recovery() -> None:
    coverage = Coverage()
    coverage.begin(0)
    coverage.change(BookState.LIVE, "snapshot", 0)
    coverage.change(BookState.SUSPECT, "crossed", 10 * MS)
    coverage.change(BookState.LIVE, "delta", 30 * MS)
    quality = figures(coverage.sums(100 * MS), Tally())
    assert (quality.gaps, quality.gap_s, quality.recovery_s) == (1, 0.02, Quantiles())


def test_time_that_goes_back_counts_as_now_and_nothing_counts_after_the_end() -> None:
    coverage = Coverage()
    coverage.begin(100 * MS)
    coverage.begin(0)  # the first counts
    coverage.change(BookState.LIVE, "snapshot", 50 * MS)
    coverage.change(BookState.STALE, "silent", 200 * MS)
    coverage.change(BookState.LIVE, "delta", 190 * MS)
    coverage.end(300 * MS)
    coverage.change(BookState.EMPTY, "eof", 310 * MS)
    coverage.end(900 * MS)
    quality = figures(coverage.sums(10_000 * MS), Tally())
    assert (quality.asked_s, quality.live_s, quality.gaps, quality.gap_s) == (0.2, 0.2, 1, 0.0)


def test_all_of_it_is_said_only_of_all_of_it() -> None:
    assert percent(1, 1) == 100.0
    assert percent(10**15 - 1, 10**15) == 99.9999
    assert percent(0, 0) is None


def test_before_the_beginning_there_is_nothing_to_say() -> None:
    coverage = Coverage()
    coverage.change(BookState.LIVE, "snapshot", 5)
    assert coverage.tick(10) == TickQuality()
    assert figures(coverage.sums(10), Tally()).coverage_pct is None


def test_a_checkpoint_holds_all_that_ticks_need() -> None:
    coverage, again = Coverage(), Coverage()
    coverage.begin(0)
    coverage.change(BookState.LIVE, "snapshot", 10 * MS)
    coverage.change(BookState.SUSPECT, "gap", 20 * MS)
    again.state = msgspec.json.decode(msgspec.json.encode(coverage.state), type=CoverageState)
    for one in (coverage, again):
        one.change(BookState.LIVE, "snapshot", 30 * MS)
        one.change(BookState.EMPTY, "reset", 40 * MS)
    assert again.tick(50 * MS) == coverage.tick(50 * MS)
    assert again.sums(50 * MS).causes == coverage.sums(50 * MS).causes


def update(u: int, ms: int, *, snapshot: bool = False) -> BookUpdate:
    return BookUpdate(BTC, 50, snapshot, [(100.0, 1.0)], [(101.0, 1.0)], u, u, ms - 5, None, ms * MS, ms * MS)


def test_the_engine_gives_every_figure() -> None:
    engine = Engine([(BTC, 50)])
    engine.apply(Started(recv_ns=1000 * MS, mono_ns=1000 * MS))
    engine.apply(ClockOffset(offset_ms=1.0, error_ms=0.1, mono_ns=0))
    engine.apply(Syncing(instrument=BTC, reason="subscribe", mono_ns=1000 * MS))
    engine.apply_all([update(1, 1100, snapshot=True), update(2, 1200), update(2, 1250), update(4, 1300)])
    engine.apply(TickDue(recv_ns=1350 * MS, mono_ns=1350 * MS))
    engine.apply(Syncing(instrument=BTC, reason="gap", mono_ns=1400 * MS))
    engine.apply(update(9, 1500, snapshot=True))
    engine.apply(Stopping(recv_ns=2000 * MS, mono_ns=2000 * MS))
    last = engine.quality(2000 * MS)
    engine.apply(LinkDown(link="x", instruments=(BTC,), reason="eof", mono_ns=2001 * MS))
    assert engine.quality(9000 * MS) == last
    (quality,) = last
    assert (quality.category, quality.symbol) == ("linear", "BTCUSDT")
    assert (quality.asked_s, quality.live_s, quality.coverage_pct) == (1.0, 0.7, 70.0)
    assert [(one.cause, one.count, one.seconds) for one in quality.causes] == [("sequence", 1, 0.2), ("start", 1, 0.1)]
    assert (quality.messages, quality.jumps, quality.missed, quality.duplicates, quality.resyncs) == (5, 1, 1, 1, 1)
    assert (quality.first_ms, quality.last_ms) == (1100, 1500)
    assert quality.recovery_s.p50 == pytest.approx(0.2, rel=0.01)
    assert (quality.latency_ms.count, quality.latency_ms.max, quality.clock_offset_ms.max) == (5, 4.0, 1.0)
    (tick,) = engine.apply(TickDue(recv_ns=9000 * MS, mono_ns=9000 * MS))
    assert tick.quality == TickQuality(coverage_pct=70.0, gaps=1, gap_s=0.2, longest_gap_s=0.2)  # type: ignore[union-attr]


def test_topics_together() -> None:
    one, two = Sums(), Sums()
    one.asked_ns, one.live_ns = 100, 100
    two.asked_ns, two.live_ns = 300, 0
    tally, other = Tally(), Tally()
    tally.first_ns, tally.last_ns, tally.duplicates = 5 * MS, 9 * MS, 2
    other.first_ns, other.last_ns, other.duplicates = 3 * MS, 4 * MS, 3
    other.latency.record(1000)
    other.messages = 1
    both = total([(one, tally), (two, other), (Sums(), Tally())])
    assert (both.coverage_pct, both.first_ms, both.last_ms, both.duplicates, both.messages) == (25.0, 3, 9, 5, 1)


def test_every_figure_of_topics_together() -> None:
    """What is a count or a time is added, what is a distribution merged."""
    parts = []
    for number in (1, 10):
        coverage, tally = Coverage(), Tally()
        coverage.begin(0)
        coverage.change(BookState.LIVE, "snapshot", 0)
        coverage.change(BookState.SUSPECT, "gap", 1000 * MS)
        coverage.change(BookState.LIVE, "snapshot", (1000 + number) * MS)
        tally.messages, tally.jumps, tally.missed, tally.duplicates = number, 2 * number, 3 * number, 4 * number
        tally.refused, tally.resyncs = 5 * number, 6 * number
        tally.latency.record(7000 * number)
        tally.offsets.record(8000 * number)
        parts.append((coverage.sums(2000 * MS), tally))
    both = total(parts)
    assert (both.messages, both.jumps, both.missed, both.duplicates) == (11, 22, 33, 44)
    assert (both.refused, both.resyncs) == (55, 66)
    assert (both.asked_s, both.gaps, both.gap_s, both.longest_gap_s) == (4.0, 2, 0.011, 0.01)
    assert both.causes == (CauseFigures(cause=Cause.SEQUENCE, count=2, seconds=0.011, longest_s=0.01),)
    assert (both.recovery_s.count, both.recovery_s.max) == (2, 0.01)
    assert (both.latency_ms.count, both.latency_ms.max) == (2, 70.0)
    assert (both.clock_offset_ms.count, both.clock_offset_ms.max) == (2, 80.0)


@pytest.mark.parametrize("live", [False, True])
def test_why_a_topic_is_not_live_from_the_beginning_may_be_known(live: bool) -> None:
    coverage = Coverage()
    if live:
        coverage.change(BookState.LIVE, "snapshot", 0)
    coverage.begin(0, Cause.UNRECORDED)
    assert set(coverage.sums(5 * MS).causes) == (set() if live else {Cause.UNRECORDED})


def test_figures_are_as_exact_as_they_say() -> None:
    sums, tally = Sums(), Tally()
    sums.asked_ns, sums.causes[Cause.STALE] = 7_000_000_000_123_600, CauseSum(count=3, ns=1_234_567_800, longest_ns=1)
    tally.first_ns = 1_790_000_000_123_999_999
    tally.latency.record(-1)
    quality = figures(sums, tally)
    assert (quality.asked_s, quality.gap_s, quality.gaps_per_hour) == (7_000_000.000124, 1.234568, 0.002)
    assert (quality.first_ms, quality.latency_ms.max) == (1_790_000_000_123, -0.001)
