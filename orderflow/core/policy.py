"""Every limit and deadline of the program as frozen, typed values with their defaults.

Settings decode into these Structs (see docs/configuration.md), tests shrink them. Durations are seconds.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=1e9)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
TopicKind = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9]{0,30}(\.[A-Za-z0-9]{1,10})?$")]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class BookPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a book is believed."""

    strict_sequence: bool = True  # False: a jump in `u` is counted and warned about, the book stays live
    crossed_hold_s: Seconds = 1.0  # a crossed or locked book that lasts longer is resynced
    stale_after_s: Seconds = 60.0  # silence on one topic before it is probed by a resync


class MetricsPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tick is computed from."""

    levels: Annotated[int, Meta(ge=1, le=1000)] = 10  # N of imbalance and liquidity
    band_bps: Annotated[float, Meta(gt=0, le=10_000)] = 10.0  # half width of the depth band around mid


class LinkPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deadlines and limits of one WebSocket link."""

    open_timeout_s: Seconds = 10.0  # DNS, TCP, TLS and upgrade together
    close_timeout_s: Seconds = 1.0
    send_timeout_s: Seconds = 10.0
    ping_interval_s: Seconds = 20.0
    pong_timeout_s: Seconds = 10.0
    idle_timeout_s: Seconds = 30.0  # no frame of any kind
    ack_timeout_s: Seconds = 5.0
    snapshot_timeout_s: Seconds = 10.0
    refused_retry_s: Seconds = 300.0  # a refused topic is asked for again this rarely
    resync_interval_s: Seconds = 1.0  # at most one resync of a topic in this time ...
    resyncs_per_minute: Count = 6  # ... and this many in 60 s, then reconnect
    max_topics: Count = 200  # topics on one connection before another is opened
    max_args_chars: Count = 21_000  # Bybit's limit on the args of one connection
    max_message_bytes: Count = 4 * 1024 * 1024
    receive_bytes: Count = 65_536


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Full-jitter back-off: delay k is uniform in [0, min(cap, base * 2**k)]."""

    base_s: Seconds = 1.0
    cap_s: Seconds = 60.0
    stable_after_s: Seconds = 60.0  # healthy data for this long resets the back-off
    refused_pause_s: Seconds = 60.0  # first pause after HTTP 403 or 429, doubling
    refused_cap_s: Seconds = 600.0
    attempts_per_window: Count = 100  # over all links
    window_s: Seconds = 300.0


class ClockPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the offset of our clock to the exchange's is learnt (GET /v5/market/time)."""

    interval_s: Seconds = 30.0
    burst: Count = 5  # samples taken at start
    window_s: Seconds = 600.0  # the best round trip of this window is used
    warn_offset_ms: Positive = 500.0


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of the memory channels (docs/architecture.md has each one's overflow policy)."""

    events: Count = 10_000
    alerts: Count = 1_000
    isolated: Count = 1_000  # calls, for each isolated plugin


class WatchPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the program notices that it stood still, and when it gives itself up (exit code 70)."""

    stall_s: Seconds = 2.0  # stood still for longer: said, and no book is believed until it is fresh
    clock_step_s: Seconds = 0.5  # a jump of the wall clock that is said
    hang_s: Seconds = 30.0  # the event loop does not move
    plugin_hang_s: Seconds = 10.0  # one call of a plugin, or one step of loading it
    stop_hang_s: Seconds = 5.0  # stopping


class RecordPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a session is recorded (docs/recording.md)."""

    folder: str = ""  # record every run into this folder; empty: only with --record and `orderflow record`
    rotate_s: Annotated[float, Meta(ge=1, le=1e7)] = 3600.0  # a new file after this long ...
    rotate_mb: Annotated[float, Meta(ge=0.001, le=1e6)] = 256.0  # ... or this much
    flush_s: Annotated[float, Meta(ge=0.05, le=10)] = 0.5  # written and synced this often: what a power cut costs
    level: Annotated[int, Meta(ge=-7, le=19)] = 1  # of zstd; higher: smaller and slower
    queue_frames: Count = 50_000  # messages waiting for the disk; more: a gap
    queue_mb: Annotated[float, Meta(ge=1, le=1e5)] = 32.0  # the same in bytes
    keep_free_mb: Annotated[float, Meta(ge=0, le=1e9)] = 200.0  # less room on the disk: a gap, until there is more
    retry_s: Positive = 5.0  # after trouble with the disk
    topics: tuple[TopicKind, ...] = ()  # recorded beside the books, over connections of their own
    rest_books_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0  # each book over REST this often; 0: never


class HttpPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much clients of an HTTP port of ours may ask for."""

    max_connections: Count = 16  # at once; one more is dropped
    timeout_s: Seconds = 5.0  # one connection, from its first byte to its last
    max_request_bytes: Annotated[int, Meta(ge=256, le=1_000_000)] = 8192  # of a request's head
