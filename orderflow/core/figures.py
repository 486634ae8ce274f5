"""Figures of data quality as frozen values: ticks, summaries and reports show these (docs/quality.md)."""

from __future__ import annotations

import enum

import msgspec


class Cause(enum.StrEnum):
    """Why a topic could not be believed for a while: what began it."""

    START = "start"  # waiting for the first snapshot
    NEVER = "never"  # the first snapshot never came
    SEQUENCE = "sequence"  # update numbers jumped
    DISCONNECT = "disconnect"  # the link was lost
    OVERRUN = "overrun"  # the link was dropped: more came than could be handled
    STALE = "stale"  # silence
    CROSSED = "crossed"  # bid above ask, or equal to it for too long
    REFUSED = "refused"  # a message that cannot be
    STALL = "stall"  # the program stood still
    CLOSED = "closed"  # the exchange refused the topic
    RECORDER = "recorder"  # the recording has a hole
    UNRECORDED = "unrecorded"  # nobody recorded


NO_GAPS = frozenset({Cause.START, Cause.NEVER})
"""Time that is not covered, and yet no gap: nothing had begun that could be interrupted."""


class CauseFigures(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that began with one cause."""

    cause: Cause
    count: int
    seconds: float
    longest_s: float


class Quantiles(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A distribution; the unit is the field's that holds it. All None when there were no samples."""

    count: int = 0
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None


class TickQuality(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a tick says of its topic's quality since the run began."""

    coverage_pct: float | None = None  # None: no time has passed yet
    gaps: int = 0
    gap_s: float = 0.0
    longest_gap_s: float = 0.0


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """One topic's figures, or those of all topics together (`category` and `symbol` are then "").

    Seconds are seconds of our monotonic clock, `_ms` is our wall clock in milliseconds since 1970.
    """

    category: str = ""
    symbol: str = ""
    coverage_pct: float | None = None  # None: no time was asked for
    asked_s: float = 0.0
    live_s: float = 0.0
    gaps: int = 0
    gaps_per_hour: float | None = None
    gap_s: float = 0.0
    longest_gap_s: float = 0.0
    causes: tuple[CauseFigures, ...] = ()  # longest time first
    messages: int = 0
    first_ms: int | None = None  # receive time of the first and the last message
    last_ms: int | None = None
    jumps: int = 0  # in the update numbers
    missed: int = 0
    duplicates: int = 0
    refused: int = 0
    resyncs: int = 0
    recovery_s: Quantiles = Quantiles()
    latency_ms: Quantiles = Quantiles()
    clock_offset_ms: Quantiles = Quantiles()


# --- the report on a recording ------------------------------------------------------------------------------------


class GapSeen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One gap. `to_ms` None: it lasted until the end of what was looked at. `reason` and `detail` are as they were
    told and may hold text from outside.
    """

    from_ms: int
    to_ms: int | None
    seconds: float
    cause: Cause
    reason: str
    detail: str = ""


class Stretch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A piece of a timeline. `state` is a book's, or `unrecorded`; the worst of them where `parts` short ones were put
    together, of which `lost_s` were not live.
    """

    state: str
    from_ms: int
    to_ms: int
    parts: int
    lost_s: float


class TopicReport(msgspec.Struct, frozen=True, kw_only=True):
    """One topic: its figures, its longest gaps in the order of time, its timeline."""

    quality: Quality
    gaps: tuple[GapSeen, ...]
    gaps_left_out: int
    stretches: tuple[Stretch, ...]


class GapReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `orderflow gaps` found. `troubles`: places of the recording that are missing or cannot be read, as text."""

    from_ms: int
    to_ms: int
    sessions: int
    files: int
    bytes: int
    total: Quality
    topics: tuple[TopicReport, ...]
    troubles: tuple[str, ...]
    troubles_left_out: int
