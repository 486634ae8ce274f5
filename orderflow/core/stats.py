"""The program's counters as one frozen picture: the `stats` event, the closing summary and /metrics all show this."""

from __future__ import annotations

import msgspec

from orderflow.core.figures import TickQuality


class LinkStats(msgspec.Struct, frozen=True, kw_only=True):
    """One connection since start, over all its attempts."""

    link: str
    up: bool
    connects: int
    losses: dict[str, int]  # by reason
    retry_s: float  # the wait before the next attempt; 0: none is waited for
    frames: int
    refused: dict[str, int]  # messages refused whole, by reason
    topics_refused: int
    acks_missing: int  # answers to subscribe or unsubscribe that did not come in time
    unknown: int  # messages of topics, and answers to requests, that are none of ours


class BookStats(msgspec.Struct, frozen=True, kw_only=True):
    """One book."""

    category: str
    symbol: str
    state: str
    age_s: float | None  # since the last applied update; None: there was none
    gaps: int
    resyncs: dict[str, int]  # by reason
    quality: TickQuality = TickQuality()


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One channel (docs/architecture.md)."""

    channel: str
    depth: int
    peak: int
    overruns: int  # links dropped for `events`, items dropped for the others


class PluginStats(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin."""

    plugin: str
    state: str
    calls: int
    failures: int
    seconds: float  # spent in its calls
    disabled: bool


class RestStats(msgspec.Struct, frozen=True, kw_only=True):
    """The REST client. All 0 before its first request."""

    requests: int
    failures: int
    retries: int
    pauses: int  # times the exchange asked to be left alone (blocked, rate limit)
    held_back: int  # requests not made during such a pause


class OutputStats(msgspec.Struct, frozen=True, kw_only=True):
    """Standard output."""

    lines: int
    dropped: int  # lines a slow reader, or a full disk, did not take
    errors: int  # refused writes


class ServerStats(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP port of /metrics."""

    served: int
    refused: dict[str, int]  # by reason: host, origin, token, method, path, size, websocket, busy
    cut: int  # connections that took too long
    failed: int  # ended by an error inside the HTTP library


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, since start."""

    uptime_s: float
    links: tuple[LinkStats, ...]
    books: tuple[BookStats, ...]
    queues: tuple[QueueStats, ...]
    plugins: tuple[PluginStats, ...]
    rest: RestStats
    output: OutputStats
    server: ServerStats | None  # None: nothing is served
    loop_lag_s: float  # how late the event loop's last beat came
    loop_lag_max_s: float
    stalls: int  # times the program stood still
    stalled_s: float
    clock_steps: int  # times the wall clock was set
    clock_offset_s: float | None  # our wall clock minus the exchange's; None: not known
    clock_error_s: float | None
