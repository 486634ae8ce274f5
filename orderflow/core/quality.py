"""How much of the time a topic could be believed, and why not: one reducer for live runs, replays and reports.

`Coverage` is told state changes with their times and knows no clock; `Tally` holds what was counted and measured.
Together they become `figures.Quality`. Definitions: docs/quality.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.figures import NO_GAPS, Cause, CauseFigures, Quality, Quantiles, TickQuality
from orderflow.core.latency import LatencyHistogram
from orderflow.core.types import LIVE, BookState
from orderflow.core.units import NS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.core.book import Book

RECORDER_REASON: Final = "recording_gap"
"""What a replay says to books where its recording has a hole."""
UNRECORDED_REASON: Final = "unrecorded"

_BY_REASON: Final = {
    "gap": Cause.SEQUENCE,
    "crossed": Cause.CROSSED,
    "locked": Cause.CROSSED,
    "stall": Cause.STALL,
    "silent": Cause.STALE,
    "overrun": Cause.OVERRUN,
    "subscribe": Cause.DISCONNECT,  # asked for afresh, and nothing was wrong with the book
    RECORDER_REASON: Cause.RECORDER,
    UNRECORDED_REASON: Cause.UNRECORDED,
}
_BY_STATE: Final = {
    BookState.EMPTY: Cause.DISCONNECT,
    BookState.CLOSED: Cause.CLOSED,
    BookState.STALE: Cause.STALE,
}


def cause_of(state: BookState, reason: str) -> Cause:
    """What a book's leaving `live` for `state` with `reason` counts as; `reason` is a BookStateChanged's."""
    if state is BookState.CLOSED:
        return Cause.CLOSED
    return _BY_REASON.get(reason) or _BY_STATE.get(state, Cause.REFUSED)


class CauseSum(msgspec.Struct, gc=False):
    """Count, total and longest of the stretches with one cause; ns."""

    count: int = 0
    ns: int = 0
    longest_ns: int = 0

    def add(self, count: int, ns: int, longest_ns: int) -> None:
        self.count += count
        self.ns += ns
        self.longest_ns = max(self.longest_ns, longest_ns)


class CoverageState(msgspec.Struct):
    """All that `Coverage` remembers of time, as a recording's checkpoint holds it."""

    begun_ns: int | None = None  # None: nobody asked yet
    since_ns: int = 0  # of the stretch that is running
    live: bool = False
    cause: Cause = Cause.START  # of the stretch that is running, if it is not live
    live_ns: int = 0  # of stretches that are over, like `causes`
    causes: dict[Cause, CauseSum] = {}


class Sums:
    """Time of one topic, or of several added up."""

    __slots__ = ("asked_ns", "causes", "live_ns", "recovery")

    def __init__(self) -> None:
        self.asked_ns = self.live_ns = 0
        self.causes: dict[Cause, CauseSum] = {}
        self.recovery = LatencyHistogram()

    def add(self, other: Sums) -> None:
        self.asked_ns += other.asked_ns
        self.live_ns += other.live_ns
        self.recovery.merge(other.recovery)
        for cause, sums in other.causes.items():
            self.causes.setdefault(cause, CauseSum()).add(sums.count, sums.ns, sums.longest_ns)


class Coverage:
    """One topic's time, live and not. Times are ns of any one clock and may go back a little: they then count as now.

    A stretch that is not live is named after what began it, whatever happens within. Nothing is counted before `begin`
    and after `end`; state changes before `begin` are remembered. Costs nothing per message.
    """

    __slots__ = ("_ended_ns", "_recovery", "state")

    def __init__(self) -> None:
        self.state = CoverageState()
        self._recovery = LatencyHistogram()
        self._ended_ns: int | None = None

    def begin(self, at_ns: int, cause: Cause | None = None) -> None:
        """From here on the topic is asked for; the first call counts. `cause`: why it is not live, if not known."""
        state = self.state
        if state.begun_ns is not None:
            return
        state.begun_ns = state.since_ns = at_ns
        if cause is not None:
            state.cause = cause

    def change(self, new: BookState, reason: str, at_ns: int) -> None:
        """The book is in another state now."""
        live = new is LIVE
        state = self.state
        if live is state.live or self._ended_ns is not None:
            return
        if state.begun_ns is not None:
            at_ns = max(at_ns, state.since_ns)
            self._close(at_ns - state.since_ns, recovered=reason == "snapshot")
            state.since_ns = at_ns
        state.live = live
        if not live:
            state.cause = cause_of(new, reason)

    def _close(self, ns: int, *, recovered: bool) -> None:
        state = self.state
        if state.live:
            state.live_ns += ns
            return
        if not ns and state.cause in NO_GAPS:
            return  # it did not have to wait
        state.causes.setdefault(state.cause, CauseSum()).add(1, ns, ns)
        if recovered and state.cause not in _NOT_RECOVERED:
            self._recovery.record(ns // 1000)

    def end(self, at_ns: int) -> None:
        """From here on nobody asks any more; the first call counts."""
        if self._ended_ns is None:
            self._ended_ns = max(at_ns, self.state.since_ns)

    def sums(self, at_ns: int) -> Sums:
        """Everything up to `at_ns`, the stretch that is running included."""
        state = self.state
        sums = Sums()
        if state.begun_ns is None:
            return sums
        now_ns = max(at_ns, state.since_ns) if self._ended_ns is None else self._ended_ns
        sums.asked_ns = now_ns - state.begun_ns
        sums.live_ns = state.live_ns
        sums.recovery.merge(self._recovery)
        for cause, one in state.causes.items():
            sums.causes[cause] = CauseSum(one.count, one.ns, one.longest_ns)
        running_ns = now_ns - state.since_ns
        if state.live:
            sums.live_ns += running_ns
        else:
            cause = Cause.NEVER if state.cause is Cause.START else state.cause
            sums.causes.setdefault(cause, CauseSum()).add(1, running_ns, running_ns)
        return sums

    def tick(self, at_ns: int) -> TickQuality:
        """The few of these figures that every tick has."""
        sums = self.sums(at_ns)
        gaps = _gaps_of(sums)
        return TickQuality(
            coverage_pct=percent(sums.live_ns, sums.asked_ns),
            gaps=gaps.count,
            gap_s=_seconds(gaps.ns),
            longest_gap_s=_seconds(gaps.longest_ns),
        )


_NOT_RECOVERED: Final = NO_GAPS | {Cause.RECORDER, Cause.UNRECORDED}


class Tally:
    """What one topic's messages came to, or those of several topics and sessions added up."""

    __slots__ = (
        *("messages", "jumps", "missed", "duplicates", "refused", "resyncs"),
        *("first_ns", "last_ns", "latency", "offsets"),
    )

    def __init__(self) -> None:
        self.messages = self.jumps = self.missed = self.duplicates = self.refused = self.resyncs = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.latency = LatencyHistogram()  # us, as `offsets`
        self.offsets = LatencyHistogram()

    def add(self, other: Tally) -> None:
        self.messages += other.messages
        self.jumps += other.jumps
        self.missed += other.missed
        self.duplicates += other.duplicates
        self.refused += other.refused
        self.resyncs += other.resyncs
        if other.first_ns is not None and other.last_ns is not None:
            self.first_ns = other.first_ns if self.first_ns is None else min(self.first_ns, other.first_ns)
            self.last_ns = other.last_ns if self.last_ns is None else max(self.last_ns, other.last_ns)
        self.latency.merge(other.latency)
        self.offsets.merge(other.offsets)


def tally_of(book: Book, latency: LatencyHistogram, offsets: LatencyHistogram) -> Tally:
    """Args: latency: of the book's messages up to the interval that is running; offsets: our clock's, of the run."""
    tally = Tally()
    counters, hops = book.counters, book.hops
    tally.jumps, tally.missed, tally.duplicates = counters.gaps, counters.missed, counters.duplicates
    tally.refused, tally.resyncs = counters.refused, counters.resyncs
    tally.messages, tally.first_ns, tally.last_ns = hops.messages, hops.first_ns, hops.last_ns
    tally.latency.merge(latency)
    tally.latency.merge(hops.gateway_to_socket)
    tally.offsets.merge(offsets)
    return tally


def figures(sums: Sums, tally: Tally, category: str = "", symbol: str = "") -> Quality:
    """All figures of one topic, or of what was added up."""
    gaps = _gaps_of(sums)
    return Quality(
        category=category,
        symbol=symbol,
        coverage_pct=percent(sums.live_ns, sums.asked_ns),
        asked_s=_seconds(sums.asked_ns),
        live_s=_seconds(sums.live_ns),
        gaps=gaps.count,
        gaps_per_hour=round(gaps.count * 3600 * NS / sums.asked_ns, 3) if sums.asked_ns else None,
        gap_s=_seconds(gaps.ns),
        longest_gap_s=_seconds(gaps.longest_ns),
        causes=_causes(sums),
        messages=tally.messages,
        first_ms=_ms(tally.first_ns),
        last_ms=_ms(tally.last_ns),
        jumps=tally.jumps,
        missed=tally.missed,
        duplicates=tally.duplicates,
        refused=tally.refused,
        resyncs=tally.resyncs,
        recovery_s=_quantiles(sums.recovery, 1e6),
        latency_ms=_quantiles(tally.latency, 1e3),
        clock_offset_ms=_quantiles(tally.offsets, 1e3),
    )


def total(parts: Iterable[tuple[Sums, Tally]]) -> Quality:
    """The figures of several topics together: times and counts are added, distributions merged."""
    all_sums, all_tally = Sums(), Tally()
    for sums, tally in parts:
        all_sums.add(sums)
        all_tally.add(tally)
    return figures(all_sums, all_tally)


def percent(part: int, whole: int) -> float | None:
    """To four decimals, never rounded up: 100.0 means all of it. None of nothing."""
    return part * 1_000_000 // whole / 10_000 if whole > 0 else None


def _gaps_of(sums: Sums) -> CauseSum:
    gaps = CauseSum()
    for cause, one in sums.causes.items():
        if cause not in NO_GAPS:
            gaps.add(one.count, one.ns, one.longest_ns)
    return gaps


def _causes(sums: Sums) -> tuple[CauseFigures, ...]:
    ordered = sorted(sums.causes.items(), key=lambda item: (-item[1].ns, item[0]))
    return tuple(
        CauseFigures(cause=cause, count=one.count, seconds=_seconds(one.ns), longest_s=_seconds(one.longest_ns))
        for cause, one in ordered
    )


def _quantiles(histogram: LatencyHistogram, per_unit: float) -> Quantiles:
    """Args: per_unit: microseconds in the unit wanted."""
    top = histogram.maximum
    if top is None:
        return Quantiles()
    p50, p90, p99 = (round(value / per_unit, 6) for value in histogram.quantiles(0.5, 0.9, 0.99))
    return Quantiles(count=histogram.count, p50=p50, p90=p90, p99=p99, max=top / per_unit)


def _seconds(ns: int) -> float:
    return round(ns / NS, 6)


def _ms(ns: int | None) -> int | None:
    return None if ns is None else ns // 1_000_000
