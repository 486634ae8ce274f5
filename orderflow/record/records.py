"""What a recording consists of, as values. Frames and times are binary; everything rarer is a JSON note."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from orderflow.core import types
from orderflow.core.policy import BookPolicy, MetricsPolicy
from orderflow.core.quality import CoverageState  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.core.types import BookCounters, BookState, Category, ClockOffset, Event, Instrument, InstrumentId, Level

ALL_BOOKS: Final = -1
FED_NOTHING: Final = 0
FED_ALL: Final = 1
FED_AS_NOTED: Final = 2
"""What the engine got of a batch: nothing (acks, pongs), every message decoded, or what the Fed note after it says."""


class Frames(msgspec.Struct, frozen=True, gc=False):
    """The text messages of one socket read, verbatim, with that read's stamps."""

    connection: int
    fed: int
    recv_ns: int
    mono_ns: int
    messages: list[bytes]


class Timer(msgspec.Struct, frozen=True, gc=False):
    """The engine was given `TimerDue` after it had applied `applied` queue items."""

    applied: int
    mono_ns: int


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The engine was given `TickDue` after it had applied `applied` queue items.

    `book`: for which one, counted from 0 in the session's `instruments`; ALL_BOOKS for every one.
    """

    applied: int
    recv_ns: int
    mono_ns: int
    book: int = ALL_BOOKS


# --- notes --------------------------------------------------------------------------------------------------------


class _Note(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """Base of the JSON records; fields from later versions are ignored."""


class Session(_Note, frozen=True, kw_only=True, tag="session"):
    """First record of every file: what is needed to make the same engine again.

    `timed`: the recording holds the times of timers and ticks; False (imports): a replay makes them. `clock`: what the
    times of messages are: `receive`, or `exchange` (imports) where nobody noted when they came; None: `receive` if
    `timed`, else `exchange`.
    """

    session: str
    version: str  # of the program
    env: str
    instruments: list[InstrumentId]
    depth: int
    interval_s: float
    book: BookPolicy = BookPolicy()
    metrics: MetricsPolicy = MetricsPolicy()
    started_ns: int
    timed: bool = True
    source: str = "live"
    clock: str | None = None
    plugins: list[str] = []

    @property
    def received(self) -> bool:
        """Whether the times of messages are when they came; if not, no latency is to be had from them."""
        return self.timed if self.clock is None else self.clock == "receive"


class Opened(_Note, frozen=True, kw_only=True, tag="opened"):
    """A connection is up; frames carry its number, which is never used again in the session."""

    connection: int
    link: str
    category: Category
    url: str
    books: list[tuple[str, int]]  # symbol, depth
    recv_ns: int
    mono_ns: int
    topics: list[str] = []  # of a connection that is only listened to: the engine gets nothing of it


class Lost(_Note, frozen=True, kw_only=True, tag="lost"):
    """A connection ended. `reason` is the counter's word, `detail` for people and untrusted."""

    connection: int
    reason: str
    detail: str
    recv_ns: int
    mono_ns: int


class Sent(_Note, frozen=True, kw_only=True, tag="sent"):
    """A text message of ours that went out."""

    connection: int
    text: str
    recv_ns: int
    mono_ns: int


WireEvent = tuple[str, msgspec.Raw]
"""(name of the event's type, its fields)."""


class Control(_Note, frozen=True, kw_only=True, tag="control"):
    """One queue item of events that are not in any message: links, subscriptions, instruments, clock offsets."""

    events: list[WireEvent]


class Fed(_Note, frozen=True, kw_only=True, tag="fed"):
    """What the engine got of the batch just before: numbers stand for its messages as decoded, the rest are events."""

    items: list[int | WireEvent]


class Refused(_Note, frozen=True, kw_only=True, tag="refused"):
    """The event queue was full: the last queue item never reached the engine."""


class Given(_Note, frozen=True, kw_only=True, tag="given"):
    """The engine was given these events past the queue, after `applied` queue items."""

    applied: int
    events: list[WireEvent]


class Link(_Note, frozen=True, kw_only=True, tag="link"):
    """What plugins and people were told of a connection, after `applied` queue items."""

    applied: int
    change: types.LinkChanged


class Gap(_Note, frozen=True, kw_only=True, tag="gap"):
    """Here the recorder let something go. `items`: queue items among it; a checkpoint follows."""

    reason: str
    from_ns: int
    to_ns: int
    frames: int
    bytes: int
    items: int
    detail: str = ""


class BookImage(msgspec.Struct, frozen=True, kw_only=True):
    """One book whole, best level first."""

    instrument: InstrumentId
    state: BookState
    reason: str
    u: int | None
    seq: int | None
    last_mono_ns: int | None
    bids: list[Level]
    asks: list[Level]
    counters: BookCounters = BookCounters()
    coverage: CoverageState | None = None  # None: of a version that did not keep it


class Checkpoint(_Note, frozen=True, kw_only=True, tag="checkpoint"):
    """All the engine knows, after `applied` queue items: where a reader can begin who has not seen what came before."""

    applied: int
    recv_ns: int
    mono_ns: int
    books: list[BookImage]
    facts: list[Instrument] = []
    offset: ClockOffset | None = None


class RestAnswer(_Note, frozen=True, kw_only=True, tag="rest"):
    """An order book that was asked for over REST, as the exchange sent it. Stamps: when its last byte was here."""

    category: Category
    symbol: str
    body: str
    sent_ns: int
    recv_ns: int
    mono_ns: int


class End(_Note, frozen=True, kw_only=True, tag="end"):
    """Last record of a file that was closed in order: `rotated`, `stopped`, or `trouble` with the disk."""

    reason: str


Note = Session | Opened | Lost | Sent | Control | Fed | Refused | Given | Link | Gap | Checkpoint | RestAnswer | End
Record = Frames | Timer | Tick | Note

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Note)
_KNOWN: Final = frozenset(
    {
        "session",
        "opened",
        "lost",
        "sent",
        "control",
        "fed",
        "refused",
        "given",
        "link",
        "gap",
        "checkpoint",
        "rest",
        "end",
    }
)


class _Tag(msgspec.Struct):
    t: str


_tag: Final = msgspec.json.Decoder(_Tag)


def encode_note(note: Note) -> bytes:
    return _encoder.encode(note)


def decode_note(data: bytes) -> Note | None:
    """None: a kind of note this version does not know. Raises: ValueError."""
    try:
        note: Note = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        try:
            known = _tag.decode(data).t in _KNOWN
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            known = True
        if known:
            raise ValueError(f"a note cannot be read: {error}") from None
        return None
    return note


# --- events inside notes ------------------------------------------------------------------------------------------

_EVENTS: Final[dict[str, Any]] = {
    kind.__name__: msgspec.json.Decoder(kind)
    for kind in (
        types.BookUpdate,
        types.Trade,
        types.Liquidation,
        types.TickerUpdate,
        types.Syncing,
        types.Distrust,
        types.LinkUp,
        types.LinkDown,
        types.TopicRefused,
        types.Instrument,
        types.ClockOffset,
        types.ClockStepped,
        types.Started,
        types.Stopping,
    )
}


def encode_event(event: Event) -> WireEvent:
    return type(event).__name__, msgspec.Raw(_encoder.encode(event))


def decode_event(wire: WireEvent) -> Event:
    """Raises: ValueError."""
    name, fields = wire
    decoder = _EVENTS.get(name)
    if decoder is None:
        raise ValueError(f"an unknown event {name[:40]!r}")
    try:
        event: Event = decoder.decode(fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"an event {name} cannot be read: {error}") from None
    return event
