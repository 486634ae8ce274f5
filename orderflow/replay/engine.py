"""One recorded session through a fresh engine and fresh plugins: the order of a live run, without its clock.

What waited in the event queue when a timer fired is known by number, so every event reaches the engine exactly where
it did live. Pure apart from what plugins do: no clock, no file, no output; a `Sink` is told everything.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.engine import Engine
from orderflow.core.errors import WireError
from orderflow.core.types import (
    BookStateChanged,
    BookUpdate,
    InstrumentId,
    LinkDown,
    LinkUp,
    MetricsTick,
    Started,
    Summary,
    TickDue,
    TimerDue,
)
from orderflow.core.units import NS
from orderflow.hooks.specs import StartInfo
from orderflow.record.images import restore_checkpoint
from orderflow.record.reader import BlockStart, Damage
from orderflow.record.records import (
    ALL_BOOKS,
    FED_ALL,
    FED_NOTHING,
    Checkpoint,
    Control,
    Fed,
    Frames,
    Gap,
    Given,
    Link,
    Opened,
    Refused,
    Session,
    Tick,
    Timer,
    WireEvent,
    decode_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orderflow.core.types import Alert, Event, FeedChange, Output
    from orderflow.hooks.host import PluginHost
    from orderflow.record.reader import Item

TIMER_NS: Final = NS // 10  # of recordings that hold no timers (imports)
MAX_SILENCE_NS: Final = 3600 * NS  # over a longer hole in such a recording no timers are made up
MAX_PENDING: Final = 200_000
_TOPIC_FIRST: Final = b'{"topic":"'
"""How the exchange writes messages; what somebody wrote anew (imports) must be decoded to tell its topic."""


class Sink(Protocol):
    """Told what a replay gives, in order. Times are the recording's wall clock, ms."""

    def start(self, session: Session, instruments: tuple[InstrumentId, ...], interval_s: float) -> None: ...
    def tick(self, tick: MetricsTick) -> None: ...
    def alert(self, alert: Alert) -> None: ...
    def feed(self, change: FeedChange, ts: int) -> None: ...
    def trouble(self, trouble: Damage | Gap) -> None: ...
    def summary(self, summary: Summary, ts: int) -> None: ...


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What of a recording is replayed, and how.

    Args:
        symbols: instruments, `BTCUSDT` meaning that symbol in every category; empty: all.
        interval_s: another tick interval than the recorded one; None: the recorded ticks.
        book, metrics: fields of those policies that differ from the recorded ones.
    """

    symbols: frozenset[str] = frozenset()
    interval_s: float | None = None
    book: dict[str, object] = {}
    metrics: dict[str, object] = {}

    def wants(self, instrument: InstrumentId) -> bool:
        return not self.symbols or instrument.symbol in self.symbols or str(instrument) in self.symbols


class _Connection:
    """Of one recorded connection: its codec, which knows just the wanted topics, and how their messages begin."""

    def __init__(self, opened: Opened, wanted: Iterable[InstrumentId]) -> None:
        table = TopicTable(opened.category, learn=False)
        kept = {key.symbol for key in wanted if key.category is opened.category}
        self.heads: tuple[bytes, ...] = ()
        for symbol, depth in opened.books:
            if symbol in kept:
                topic = table.add_book(InstrumentId(opened.category, symbol), depth)
                self.heads += (f'{{"topic":"{topic}"'.encode(),)
        self.all = len(self.heads) == len(opened.books)
        self.codec = FeedCodec(table)

    def wanted(self, messages: list[bytes]) -> list[bytes]:
        """Without those of other books."""
        if self.all:
            return messages
        return [raw for raw in messages if raw.startswith(self.heads) or not raw.startswith(_TOPIC_FIRST)]


class SessionReplay:
    """Feeds the records of one session to an engine and plugins of its own."""

    def __init__(self, session: Session, choice: Choice, host: PluginHost, sink: Sink) -> None:
        self.session = session
        self.messages = 0
        self._unreadable = 0  # messages the run refused, whatever it made of that
        self.undecodable = 0  # messages the engine once got and this program cannot read
        self.last_recv_ns = session.started_ns
        self.last_mono_ns = 0
        self._choice = choice
        self._host = host
        self._sink = sink
        self._instruments = session.instruments
        self._wanted = tuple(key for key in session.instruments if choice.wants(key))
        self.interval_s = choice.interval_s or session.interval_s
        self.engine = Engine(
            [(key, session.depth) for key in self._wanted],
            msgspec.structs.replace(session.book, **choice.book),
            msgspec.structs.replace(session.metrics, **choice.metrics),
            received=session.received,
        )
        self._connections: dict[int, _Connection] = {}
        self._links: set[str] = set()
        self._beside: set[int] = set()  # connections that the engine never heard of
        self._opened = self._alerts = 0
        self._pending: deque[Frames | Control | tuple[Frames, list[int | WireEvent]]] = deque()
        self._items = 0  # queue items recorded so far
        self._applied = 0
        self._sure = True  # the engine is as it was live
        self._begun = False
        self._own_ticks = choice.interval_s is not None or not session.timed
        self._tick_due_ns: int | None = None
        self._timer_due_ns: int | None = None
        self._first_mono_ns: int | None = None
        self._handlers: dict[type, Callable[..., None]] = {
            Frames: self._frames,
            Timer: self._timer,
            Tick: self._tick,
            Control: self._control,
            Fed: self._fed,
            Refused: self._refused,
            Given: self._given,
            Link: self._link,
            Opened: self._open,
            Gap: self._gap,
            Checkpoint: self._checkpoint,
            BlockStart: self._block,
            Damage: self._damage,
        }

    def start(self) -> None:
        session = self.session
        self._sink.start(session, self._wanted, self.interval_s)
        self._host.start(
            StartInfo(
                version=session.version,
                env=session.env,
                instruments=self._wanted,
                depth=session.depth,
                interval_s=self.interval_s,
                ts=session.started_ns // 1_000_000,
            )
        )

    def take(self, item: Item) -> None:
        """One record."""
        handler = self._handlers.get(type(item))
        if handler is None:
            return
        try:
            if not self._begun:
                self._begin(item)
            handler(item)
        except ValueError:  # an event of a kind this version does not know
            self.undecodable += 1

    def _begin(self, item: Item) -> None:
        """Topics are asked for from `Started` on; a recording without it (imports, a file out of the middle) from its
        first time on.
        """
        if isinstance(item, Given):
            self._begun = any(name == Started.__name__ for name, _ in item.events)
            return
        mono_ns = getattr(item, "mono_ns", None)
        repeated = isinstance(item, Opened) and not self._sure  # says when it was opened, long before this file
        if mono_ns is not None and not repeated:
            self._begun = True
            self._apply([Started(recv_ns=getattr(item, "recv_ns", self.last_recv_ns), mono_ns=mono_ns)])

    def finish(self) -> None:
        """No more comes: the closing summary, to plugins and sink."""
        if not self.session.timed:
            self._apply_until(self._items)
        ts = self.last_recv_ns // 1_000_000
        summary = self._summary()
        self._host.stop(summary)
        self._host.close()
        self._sink.summary(summary, ts)

    # --- frames and what was queued

    def _frames(self, record: Frames) -> None:
        if record.connection in self._beside:
            return
        self.messages += len(record.messages)
        if not self.session.timed:
            self._make_time(record.recv_ns, record.mono_ns)
        if record.fed == FED_NOTHING:
            self._count_refused(record, record.messages)
            return
        self._items += 1
        self._pending.append(record)
        if not self.session.timed:
            if record.fed == FED_ALL:
                self._apply_until(self._items)
        elif len(self._pending) > MAX_PENDING:  # no timer in sight: a recording that lies must not fill the memory
            self._apply_until(self._items - MAX_PENDING // 2)

    def _fed(self, record: Fed) -> None:
        if self._pending and isinstance(frames := self._pending[-1], Frames):
            fed = {item for item in record.items if isinstance(item, int)}
            self._count_refused(frames, [raw for index, raw in enumerate(frames.messages) if index not in fed])
            self._pending[-1] = (frames, record.items)

    def _control(self, record: Control) -> None:
        self._items += 1
        self._pending.append(record)

    def _refused(self, record: Refused) -> None:
        self._items -= 1
        if self._pending:
            self._pending.pop()

    def _apply_until(self, applied: int) -> None:
        """Give the engine what it had got of the queue by then."""
        pending = self._pending
        while self._applied < applied and pending:
            self._applied += 1
            entry = pending.popleft()
            if type(entry) is Frames:
                self._apply_frames(entry)
            elif type(entry) is Control:
                self._apply([decode_event(event) for event in entry.events])
            else:
                self._apply_noted(*entry)  # type: ignore[misc]  # the only other kind

    def _apply_frames(self, record: Frames) -> None:
        connection = self._connections.get(record.connection)
        if connection is None:
            return
        recv_ns, mono_ns = record.recv_ns, record.mono_ns
        self.last_recv_ns, self.last_mono_ns = recv_ns, mono_ns
        decode = connection.codec.decode
        apply_all = self.engine.apply_all
        for raw in connection.wanted(record.messages):
            try:
                event = decode(raw, recv_ns, mono_ns)
            except WireError:
                self.undecodable += 1
                continue
            if type(event) is BookUpdate:
                if outputs := apply_all((event,)):
                    self._tell(outputs)
            else:
                self._apply(event if isinstance(event, list) else [event])  # type: ignore[list-item]  # one event

    def _count_refused(self, record: Frames, unfed: list[bytes]) -> None:
        """Of messages that gave the engine nothing: those that could not be read. The rest are acks and the like."""
        connection = self._connections.get(record.connection)
        if connection is None:
            return
        for raw in connection.wanted(unfed):
            try:
                connection.codec.decode(raw, record.recv_ns, record.mono_ns)
            except WireError:
                self._unreadable += 1

    def _apply_noted(self, record: Frames, items: list[int | WireEvent]) -> None:
        self.last_recv_ns, self.last_mono_ns = record.recv_ns, record.mono_ns
        for item in items:
            if isinstance(item, int):
                if 0 <= item < len(record.messages):
                    self._apply_frames(msgspec.structs.replace(record, messages=[record.messages[item]]))
            else:
                self._apply([decode_event(item)])

    def _apply(self, events: Iterable[Event]) -> None:
        engine = self.engine
        for event in events:
            if isinstance(event, (LinkUp, LinkDown)):
                kept = tuple(key for key in event.instruments if key in engine.books)
                event = msgspec.structs.replace(event, instruments=kept)
            key = getattr(event, "instrument", None)
            if key is None or key in engine.books:
                self._tell(engine.apply(event))

    def _tell(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, BookStateChanged):
                self._sink.feed(output, self.last_recv_ns // 1_000_000)
                self._host.feed_change(output)

    # --- time

    def _timer(self, record: Timer) -> None:
        self._apply_until(record.applied)
        self._tell(self.engine.apply(TimerDue(mono_ns=record.mono_ns)))
        if self._own_ticks:
            recv_ns = self.last_recv_ns + max(0, record.mono_ns - self.last_mono_ns) if self.last_mono_ns else 0
            self._tick_if_due(recv_ns, record.mono_ns)

    def _tick(self, record: Tick) -> None:
        self._apply_until(record.applied)
        if self._own_ticks:
            return
        if record.book == ALL_BOOKS:
            self._give_ticks(record.recv_ns, record.mono_ns)
        elif not 0 <= record.book < len(self._instruments):
            self.undecodable += 1
        elif (instrument := self._instruments[record.book]) in self.engine.books:
            self._give_ticks(record.recv_ns, record.mono_ns, instrument)

    def _tick_if_due(self, recv_ns: int, mono_ns: int) -> None:
        """Ticks on a grid of our own: another interval than the recorded, or none was recorded."""
        if not recv_ns:
            return
        if self._tick_due_ns is None:
            self._tick_due_ns = mono_ns + round(self.interval_s * NS)
        if mono_ns >= self._tick_due_ns:
            late = mono_ns - self._tick_due_ns
            step = round(self.interval_s * NS)
            self._tick_due_ns += step * (1 + late // step)
            self._give_ticks(recv_ns, mono_ns)

    def _make_time(self, recv_ns: int, mono_ns: int) -> None:
        """The timers and ticks that would have come before a message, in a recording that holds none."""
        if self._timer_due_ns is None or mono_ns - self._timer_due_ns > MAX_SILENCE_NS:
            self._timer_due_ns = mono_ns + TIMER_NS
        self._apply_until(self._items)
        while self._timer_due_ns <= mono_ns:
            due_ns = self._timer_due_ns
            self._timer_due_ns += TIMER_NS
            self._tell(self.engine.apply(TimerDue(mono_ns=due_ns)))
            self._tick_if_due(recv_ns - (mono_ns - due_ns), due_ns)

    def _give_ticks(self, recv_ns: int, mono_ns: int, instrument: InstrumentId | None = None) -> None:
        self.last_recv_ns, self.last_mono_ns = recv_ns, mono_ns
        if self._first_mono_ns is None:
            self._first_mono_ns = mono_ns
        for tick in self.engine.apply(TickDue(recv_ns=recv_ns, mono_ns=mono_ns, instrument=instrument)):
            if isinstance(tick, MetricsTick):
                self._sink.tick(tick)
                for alert in self._host.tick(tick):
                    self._alerts += 1
                    self._sink.alert(alert)

    # --- links

    def _given(self, record: Given) -> None:
        self._apply_until(record.applied)
        self._apply([decode_event(event) for event in record.events])

    def _link(self, record: Link) -> None:
        self._apply_until(record.applied)
        self._sink.feed(record.change, record.change.ts)
        self._host.feed_change(record.change)

    def _open(self, record: Opened) -> None:
        if record.topics:
            self._beside.add(record.connection)
        elif record.connection not in self._connections:
            self._connections[record.connection] = _Connection(record, self._wanted)
            self._opened += 1
            self._links.add(record.link)

    # --- holes

    def _block(self, record: BlockStart) -> None:
        if record.items != self._items:
            self._doubt()
            self._items = self._applied = record.items

    def _damage(self, record: Damage) -> None:
        self._sink.trouble(record)
        if record.reason != "torn":  # after which nothing comes, or a file that says itself what it follows on
            self._doubt()

    def _gap(self, record: Gap) -> None:
        self._sink.trouble(record)
        self._doubt()
        self._items = self._applied = self._items + record.items

    def _doubt(self) -> None:
        """Something is missing here: no book is believed until a snapshot or a checkpoint comes."""
        self._apply_until(self._items)
        self._pending.clear()
        self._sure = False
        down = LinkDown(link="recording", instruments=self._wanted, reason="recording_gap", mono_ns=self.last_mono_ns)
        self._tell(self.engine.apply(down))

    def _checkpoint(self, record: Checkpoint) -> None:
        if self._sure:
            return  # we know all that and more
        self._pending.clear()
        self._items = self._applied = record.applied
        self.last_recv_ns, self.last_mono_ns = record.recv_ns, record.mono_ns
        restore_checkpoint(self.engine, record)
        self._sure = True

    # --- the end

    def _summary(self) -> Summary:
        engine = self.engine
        recv_ns, mono_ns = self.last_recv_ns, self.last_mono_ns
        ticks = tuple(engine.view(key, 1, recv_ns, mono_ns).tick for key in engine.books)
        notes = list(self._host.notes())
        if self.undecodable:
            notes.append(f"{self.undecodable} messages could not be read by this version of the program")
        return Summary(
            uptime_s=(recv_ns - self.session.started_ns) / NS,
            messages=self.messages,
            refused=self._unreadable + sum(sum(book.refusals.values()) for book in engine.books.values()),
            gaps=sum(tick.counters.gaps for tick in ticks),
            resyncs=sum(tick.counters.resyncs for tick in ticks),
            reconnects=self._opened - len(self._links),
            alerts=self._alerts,
            books=ticks,
            hops=engine.total_latency(),
            clock=engine.clock_offset,
            notes=tuple(notes),
            quality=engine.quality(mono_ns),
        )
