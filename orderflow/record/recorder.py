"""The recorder: told by the feed and the book task what passes, and never in their way.

What they say is put together at once as bytes (about a microsecond a message) and waits in memory; one task hands it
to a thread that compresses, writes and syncs. When the thread cannot follow, or the disk is full, what comes is counted
instead, and a gap is written as soon as there is room: with a checkpoint, so that a replay goes on behind it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.errors import FeedOverrun, WireError
from orderflow.core.types import BookUpdate, TickDue, TimerDue
from orderflow.net.fanout import EventQueue
from orderflow.net.tap import read_clocks
from orderflow.record.format import Chunk, Encoder
from orderflow.record.images import take_checkpoint
from orderflow.record.records import (
    ALL_BOOKS,
    FED_ALL,
    FED_AS_NOTED,
    FED_NOTHING,
    Control,
    End,
    Fed,
    Gap,
    Given,
    Link,
    Lost,
    Opened,
    Refused,
    Sent,
    Session,
    WireEvent,
    encode_event,
)
from orderflow.record.writer import RecordingWriter, WriterStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orderflow.core.engine import Engine
    from orderflow.core.policy import RecordPolicy
    from orderflow.core.types import Category, Event, InstrumentId, LinkChanged
    from orderflow.record.records import Note, RestAnswer

    Clock = Callable[[], tuple[int, int]]

log = logging.getLogger(__name__)

_MB: Final = 1_000_000
_BLOCK_BYTES: Final = 2 * _MB  # so much is written at once, without waiting for the next turn
_LONG_BYTES: Final = 32 * _MB


class RecorderStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start. `lost_frames`: messages in gaps; `gap`: the reason of the gap that is open, or ""."""

    frames: int
    lost_frames: int
    gaps: int
    gap: str
    seconds: float
    writer_cpu_s: float
    writer: WriterStatistics


class GapNews(msgspec.Struct, frozen=True, kw_only=True):
    """A gap began (`frames` still 0) or ended."""

    reason: str
    detail: str
    began: bool
    frames: int = 0
    seconds: float = 0.0


def _ignore(news: GapNews) -> None:
    """Nobody wants to know."""


class _OpenGap:
    """A gap that is still growing."""

    def __init__(self, reason: str, detail: str, from_ns: int, items_before: int) -> None:
        self.reason = reason
        self.detail = detail
        self.from_ns = from_ns
        self.items_before = items_before
        self.frames = self.bytes = 0


class Recorder:
    """Records one run into one folder. Making it takes the folder's lock; start `run`, and `close` it in the end.

    Args:
        clock: (wall ns, monotonic ns).

    Raises: ConfigError when somebody else records into the folder, or nobody can.
    """

    def __init__(self, folder: Path, policy: RecordPolicy, clock: Clock = read_clocks) -> None:
        self.applied = 0  # queue items the engine has had
        self._policy = policy
        self._clock = clock
        self._notify: Callable[[GapNews], None] = _ignore
        self._session_id = os.urandom(16)
        self._writer = RecordingWriter(folder, policy, self._session_id)
        self._encoder = Encoder()
        self._engine: Engine | None = None
        self._session: Session | None = None
        self._book_numbers: dict[InstrumentId | None, int] = {None: ALL_BOOKS}
        self._open: dict[int, Opened] = {}
        self._connections = 0
        self._gap: _OpenGap | None = None
        self._may_resume = False
        self._head_due = False  # a file was opened that has no head yet
        self._wake = trio.Event()
        self._is_closing = False
        self._ended = trio.Event()  # `run`, or it has not begun
        self._ended.set()
        self._retry_at = 0.0
        self._lost_frames = self._gaps = 0
        self._writer_cpu_ns = 0
        self._began = time.monotonic()
        self._max_frames = policy.queue_frames
        self._max_bytes = int(policy.queue_mb * _MB)
        self._room_frames, self._room_bytes = self._max_frames, self._max_bytes  # less what the thread has in hand

    def begin(self, engine: Engine, session: Session, notify: Callable[[GapNews], None] = _ignore) -> None:
        """The run starts: what is recorded from now on needs this to be replayed.

        Args: engine: to picture its books after a gap and at the beginning of each file; notify: told when gaps begin
            and end.
        """
        self._engine = engine
        self._notify = notify
        self._session = msgspec.structs.replace(session, session=self._session_id.hex())
        self._book_numbers |= {instrument: number for number, instrument in enumerate(session.instruments)}
        self._encoder.stamp(session.started_ns)
        self._head(resumed=False)

    def make_queue(self, limit: int) -> EventQueue:
        """The event queue of the run: what is put into it is recorded."""
        return RecordedQueue(limit, self)

    @property
    def folder(self) -> str:
        return str(self._writer.folder)

    def statistics(self) -> RecorderStatistics:
        return RecorderStatistics(
            frames=self._writer.statistics().frames,
            lost_frames=self._lost_frames + (self._gap.frames if self._gap else 0),
            gaps=self._gaps,
            gap=self._gap.reason if self._gap else "",
            seconds=time.monotonic() - self._began,
            writer_cpu_s=self._writer_cpu_ns / 1e9,
            writer=self._writer.statistics(),
        )

    # --- what passes (never waits, never raises)

    def connection(
        self,
        link: str,
        category: Category,
        url: str,
        books: Sequence[tuple[InstrumentId, int]],
        topics: Sequence[str] = (),
    ) -> ConnectionTap:
        """A tap for a connection about to be made. Args: topics: it is only listened to, for these."""
        self._connections += 1
        return ConnectionTap(self, self._connections, link, category, url, books, topics)

    def batch(self, tap: ConnectionTap, messages: list[bytes], recv_ns: int, mono_ns: int, events: list[Event]) -> None:
        """The messages of one socket read and what the protocol made of them, before that is queued."""
        encoder = self._encoder
        if self._gap is not None:
            self._count_lost(messages, bool(events))
            return
        if encoder.frames_waiting + len(messages) > self._room_frames or encoder.size > self._room_bytes:
            self._begin_gap("behind", "the disk does not keep up", encoder.items)
            self._count_lost(messages, bool(events))
            return
        if len(events) == 1 == len(messages) and type(events[0]) is BookUpdate:  # nearly all of them
            fed = FED_ALL
        else:
            fed = _how_fed(messages, events)
        encoder.frames(tap.number, messages, recv_ns, mono_ns, fed)
        if fed == FED_AS_NOTED:
            encoder.note(Fed(items=tap.explain(messages, recv_ns, mono_ns, events)))
        if encoder.size > _BLOCK_BYTES:
            self._wake.set()

    def refused(self) -> None:
        """The event queue did not take the last batch."""
        self._encoder.items -= 1
        self._note(Refused())

    def control(self, events: Sequence[Event]) -> None:
        """Events are queued that are in no message."""
        self._encoder.items += 1
        self._note(Control(events=[encode_event(event) for event in events]))

    def item_applied(self) -> None:
        """The engine has had one more queue item."""
        self.applied += 1
        if self._gap is not None:
            self._try_resume()

    def given(self, event: Event) -> None:
        """The engine is given an event past the queue: a timer, a tick, a doubt."""
        kind = type(event)
        if self._gap is not None:
            self._try_resume()
        if self._gap is not None:
            return
        if kind is TimerDue:
            self._encoder.timer(self.applied, event.mono_ns)  # type: ignore[union-attr]  # told by `kind`
        elif kind is TickDue:
            book = self._book_numbers[event.instrument]  # type: ignore[union-attr]  # told by its kind
            self._encoder.tick(self.applied, event.recv_ns, event.mono_ns, book)  # type: ignore[union-attr]  # told by its kind
        else:
            self._note(Given(applied=self.applied, events=[encode_event(event)]))

    def link_changed(self, change: LinkChanged) -> None:
        """People and plugins are told of a link."""
        self._note(Link(applied=self.applied, change=change))

    def opened(self, note: Opened) -> None:
        self._open[note.connection] = note
        self._note(note)

    def lost(self, note: Lost) -> None:
        self._open.pop(note.connection, None)
        self._note(note)

    def sent(self, note: Sent) -> None:
        self._note(note)

    def rest(self, note: RestAnswer) -> None:
        """A book came over REST."""
        self._note(note)
        self._encoder.stamp(note.recv_ns)

    def _note(self, note: Note) -> None:
        if self._gap is None:
            self._encoder.note(note)

    # --- gaps

    def _begin_gap(self, reason: str, detail: str, items_before: int) -> None:
        self._gap = _OpenGap(reason, detail, self._encoder.last_ns or self._clock()[0], items_before)
        self._may_resume = False
        self._gaps += 1
        self._wake.set()
        log.error("recording: gap: %s (%s)", detail, reason)
        self._notify(GapNews(reason=reason, detail=detail, began=True))

    def _count_lost(self, messages: list[bytes], queued: bool) -> None:
        gap = self._gap
        assert gap is not None
        gap.frames += len(messages)
        gap.bytes += sum(map(len, messages))
        if queued:
            self._encoder.items += 1

    def _lose(self, chunk: Chunk, reason: str, detail: str) -> None:
        """A chunk could not be written: it is a gap, and so is everything that waits behind it."""
        waiting = self._encoder.take()
        if self._gap is None:
            self._begin_gap(reason, detail, chunk.items)
        gap = self._gap
        assert gap is not None
        gap.reason, gap.detail = reason, detail
        gap.items_before = min(gap.items_before, chunk.items)
        gap.from_ns = min(gap.from_ns, chunk.first_ns or gap.from_ns)
        gap.frames += chunk.frames + waiting.frames
        gap.bytes += chunk.size + waiting.size
        self._may_resume = False
        self._retry_at = trio.current_time() + self._policy.retry_s

    def _try_resume(self) -> None:
        """End the gap where the engine has had all there is, so that a checkpoint tells the whole story."""
        if self._may_resume and self.applied == self._encoder.items:
            self._end_gap()

    def _end_gap(self) -> None:
        assert self._gap is not None
        gap, self._gap = self._gap, None
        self._may_resume = False
        recv_ns = self._clock()[0]
        note = Gap(
            reason=gap.reason,
            from_ns=gap.from_ns,
            to_ns=recv_ns,
            frames=gap.frames,
            bytes=gap.bytes,
            items=self._encoder.items - gap.items_before,
            detail=gap.detail,
        )
        self._head(resumed=True, gap=note)
        self._lost_frames += gap.frames
        seconds = max(0.0, (recv_ns - gap.from_ns) / 1e9)
        log.warning("recording goes on: %d messages of %.1f s are missing", gap.frames, seconds)
        self._notify(GapNews(reason=gap.reason, detail=gap.detail, began=False, frames=gap.frames, seconds=seconds))

    def _head(self, *, resumed: bool, gap: Gap | None = None) -> None:
        """What a reader needs who begins here: the session, the open connections, the books."""
        encoder, session, engine = self._encoder, self._session, self._engine
        assert session is not None
        assert engine is not None
        recv_ns, mono_ns = self._clock()
        if gap is None or self._head_due:
            encoder.note(session)
        if gap is not None:
            encoder.note(gap)
        for opened in self._open.values():
            encoder.note(opened)
        if (resumed or encoder.items) and self.applied == encoder.items:
            encoder.note(take_checkpoint(engine, self.applied, recv_ns, mono_ns))
        encoder.stamp(recv_ns)
        self._head_due = False

    # --- the task

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is recorded, until it is closed or cancelled."""
        self._ended = trio.Event()
        task_status.started()
        try:
            with contextlib.suppress(OSError):
                await trio.to_thread.run_sync(self._writer.seal_orphans)
            while not self._is_closing:
                with trio.move_on_after(self._policy.flush_s):
                    await self._wake.wait()
                self._wake = trio.Event()
                await self._flush()
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Write the rest and end the file. To be called once, under a deadline: it waits for what `run` is writing.

        Cancelling `run` instead would lose what it had taken in hand and not given to its thread yet.
        """
        self._is_closing = True
        self._wake.set()
        await self._ended.wait()
        if not self._writer.is_open:
            await (self._rotate() if self._gap is None else self._reopen())
        if self._gap is not None and self._writer.is_open:
            self._end_gap()
        self._encoder.note(End(reason="stopped"))
        chunk = self._encoder.take()
        try:
            await trio.to_thread.run_sync(self._writer.close, chunk, abandon_on_cancel=True)
        except OSError as error:
            log.error("recording: the end could not be written: %s", error.strerror or error)

    async def _flush(self) -> None:
        writer = self._writer
        if self._gap is None:
            if writer.rotation_due:
                await self._rotate()
            elif self._encoder.records:
                await self._write(self._encoder.take())
            return
        if self._encoder.records:  # behind: what came before the gap is still good
            await self._write(self._encoder.take())
        elif writer.is_open:
            self._may_resume = True
        elif trio.current_time() >= self._retry_at:
            await self._reopen()

    async def _rotate(self) -> None:
        """A new file; its head is put together in this very moment, so that nothing falls between the two."""
        first = self._writer.statistics().files == 0
        if first:
            try:
                await self._work(self._writer.rotate, None)
            except OSError as error:
                self._lose(self._encoder.take(), "disk", error.strerror or str(error))
            return
        self._encoder.note(End(reason="rotated"))
        last = self._encoder.take()
        self._head(resumed=False)
        try:
            await self._work(self._writer.rotate, last)
        except OSError as error:
            self._lose(last, "disk", error.strerror or str(error))

    async def _reopen(self) -> None:
        try:
            await self._work(self._writer.rotate, None)
        except OSError:
            self._retry_at = trio.current_time() + self._policy.retry_s
        else:
            self._head_due = self._may_resume = True

    async def _write(self, chunk: Chunk) -> None:
        try:
            await self._work(self._writer.write, chunk)
        except OSError as error:
            self._lose(chunk, "disk", error.strerror or str(error))

    async def _work(self, job: Callable[[Chunk], None] | Callable[[Chunk | None], None], chunk: Chunk | None) -> None:
        """One job for the writer, in a thread."""

        def timed() -> None:
            began = time.thread_time_ns()
            try:
                job(chunk)  # type: ignore[arg-type]  # `write` is never given None
            finally:
                self._writer_cpu_ns += time.thread_time_ns() - began

        if chunk is not None:
            self._room_frames = self._max_frames - chunk.frames
            self._room_bytes = self._max_bytes - chunk.size
        try:
            await trio.to_thread.run_sync(timed, abandon_on_cancel=True)  # a disk that hangs must not hold the end
        finally:
            self._room_frames, self._room_bytes = self._max_frames, self._max_bytes


def _how_fed(messages: list[bytes], events: list[Event]) -> int:
    """Every message of ours gives at most one BookUpdate: as many of them as messages are just those."""
    if not events:
        return FED_NOTHING
    if len(events) != len(messages):
        return FED_AS_NOTED
    for event in events:
        if type(event) is not BookUpdate:
            return FED_AS_NOTED
    return FED_ALL


class ConnectionTap:
    """What one connection tells the recorder (net.feed.FeedTap)."""

    def __init__(
        self,
        recorder: Recorder,
        number: int,
        link: str,
        category: Category,
        url: str,
        books: Sequence[tuple[InstrumentId, int]],
        topics: Sequence[str] = (),
    ) -> None:
        self.number = number
        self._recorder = recorder
        self._link = link
        self._category = category
        self._url = url
        self._books = books
        self._topics = topics
        self._codec: FeedCodec | None = None
        self.batch = partial(recorder.batch, self)  # no more than a call on the feed's way

    def opened(self) -> None:
        recv_ns, mono_ns = self._recorder._clock()
        self._recorder.opened(
            Opened(
                connection=self.number,
                link=self._link,
                category=self._category,
                url=self._url,
                books=[(instrument.symbol, depth) for instrument, depth in self._books],
                recv_ns=recv_ns,
                mono_ns=mono_ns,
                topics=list(self._topics),
            )
        )

    def sent(self, text: str) -> None:
        recv_ns, mono_ns = self._recorder._clock()
        self._recorder.sent(Sent(connection=self.number, text=text, recv_ns=recv_ns, mono_ns=mono_ns))

    def lost(self, reason: str, detail: str) -> None:
        recv_ns, mono_ns = self._recorder._clock()
        self._recorder.lost(
            Lost(connection=self.number, reason=reason, detail=detail, recv_ns=recv_ns, mono_ns=mono_ns)
        )

    def explain(self, messages: list[bytes], recv_ns: int, mono_ns: int, events: list[Event]) -> list[int | WireEvent]:
        """Which messages the engine got, and what besides. Rare: batches with acks, refusals or bad messages in them.

        What a message decodes to is compared with what the protocol handed on, in order; a message that it left out
        (of a subscription that is being left) is so left out here.
        """
        codec = self._codec = self._codec or make_codec(self._category, self._books)
        items: list[int | WireEvent] = []
        at = 0
        for number, raw in enumerate(messages):
            try:
                decoded = codec.decode(raw, recv_ns, mono_ns)
            except WireError:
                continue
            found = list(decoded) if isinstance(decoded, list) else [decoded]
            for start in range(at, len(events) - len(found) + 1):
                if found and events[start : start + len(found)] == found:
                    items += [encode_event(event) for event in events[at:start]]
                    items.append(number)
                    at = start + len(found)
                    break
        return items + [encode_event(event) for event in events[at:]]


def make_codec(category: Category, books: Sequence[tuple[InstrumentId, int]]) -> FeedCodec:
    """A codec that knows the topics of one connection."""
    table = TopicTable(category, learn=False)
    for instrument, depth in books:
        table.add_book(instrument, depth)
    return FeedCodec(table)


class RecordedQueue(EventQueue):
    """An event queue whose control events and refusals are recorded."""

    def __init__(self, limit: int, recorder: Recorder) -> None:
        super().__init__(limit)
        self._recorder = recorder

    def put_nowait(self, events: list[Event]) -> None:
        try:
            super().put_nowait(events)
        except FeedOverrun:
            self._recorder.refused()
            raise

    def take_all(self) -> list[Event]:
        waiting = len(self._items)
        events = super().take_all()  # applied at once by whoever asks
        self._recorder.applied += waiting
        return events

    def put_control(self, events: list[Event]) -> None:
        self._recorder.control(events)
        super().put_control(events)
