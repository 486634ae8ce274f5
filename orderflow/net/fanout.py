"""Channels with a written overflow policy (docs/architecture.md lists them all)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import trio

from orderflow.core.errors import FeedOverrun

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.types import Event

T = TypeVar("T")


class QueueStatistics(msgspec.Struct, frozen=True, kw_only=True):
    depth: int
    peak: int
    overruns: int


class EventQueue:
    """Links -> book task. One item per socket read, carrying all its events; bounded by events, not items.

    When full: FeedOverrun ends the link that is feeding, and its books start afresh. A lost delta is a wrong book, so
    nothing is ever dropped in silence. What a link says about itself (`put_control`) always gets in.

    While nothing waits, a read's events need not pass through the scheduler either: `hand_to` names who takes them at
    once, within `put_nowait` (`orderflow bench --only choices` shows what that saves). The order stays: as soon as
    something waits, everything behind it waits too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The channel wakes the book task; the items stand beside it, because one that the channel has already handed to
        # a task that has not run yet could not be taken back by `take_all`. They are bounded below, by events.
        self._send, self._receive = trio.open_memory_channel[None](1)
        self._items: deque[list[Event]] = deque()
        self._depth = self._peak = self._overruns = 0
        self._take: Callable[[list[Event]], None] | None = None

    def hand_to(self, take: Callable[[list[Event]], None] | None) -> None:
        """Who takes events while none wait, or nobody. `take` must not put anything."""
        self._take = take

    def put_nowait(self, events: list[Event]) -> None:
        """Raises: FeedOverrun, and what `take` raises."""
        if self._take is not None and not self._depth:
            self._take(events)
            return
        depth = self._depth + len(events)
        if depth > self._limit:
            self._overruns += 1
            raise FeedOverrun(f"{self._depth} events wait for the book task, limit {self._limit}")
        self._depth = depth
        if depth > self._peak:
            self._peak = depth
        self._put(events)

    def put_control(self, events: list[Event]) -> None:
        """Queue events that must not be lost: link and subscription changes, a handful each."""
        self._depth += len(events)
        self._put(events)

    def _put(self, events: list[Event]) -> None:
        self._items.append(events)
        try:
            self._send.send_nowait(None)
        except trio.WouldBlock:
            pass  # it will be woken

    async def receive(self) -> list[list[Event]]:
        """Every item that waits, oldest first: one at a time, a flood, whose reads are several items, would outrun.

        Raises: trio.EndOfChannel after `close` once all is drained.
        """
        while True:
            await self._receive.receive()
            if self._items:  # else `take_all` was here in the meantime
                items = list(self._items)
                self._items.clear()
                self._depth = 0
                return items

    def take_all(self) -> list[Event]:
        """Everything that waits, oldest first, without waiting."""
        events = [event for item in self._items for event in item]
        self._items.clear()
        self._depth = 0
        return events

    def close(self) -> None:
        """No more events come; what is queued is still handed out."""
        self._send.close()

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(depth=self._depth, peak=self._peak, overruns=self._overruns)


class Latest(Generic[T]):
    """One value, replaced by the newest (conflation): for views, where only the latest matters.

    A reader that went away costs nobody anything: what is put then goes nowhere.
    """

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[T](1)

    def put(self, value: T) -> None:
        try:
            self._send.send_nowait(value)
        except trio.WouldBlock:
            self._receive.receive_nowait()
            self._send.send_nowait(value)
        except trio.BrokenResourceError:
            pass  # the reader closed its end

    @property
    def receiver(self) -> trio.MemoryReceiveChannel[T]:
        return self._receive

    def close(self) -> None:
        self._send.close()


class DropOldest(Generic[T]):
    """A bounded queue that makes room by dropping its oldest item, and counts what it dropped."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._some = trio.Event()
        self._closed = False
        self._peak = 0
        self.dropped = 0

    def put(self, item: T) -> None:
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._peak = max(self._peak, len(self._items))
        self._some.set()

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(depth=len(self._items), peak=self._peak, overruns=self.dropped)

    def close(self) -> None:
        self._closed = True
        self._some.set()

    async def receive(self) -> T:
        """The oldest item. Raises: trio.EndOfChannel after `close` once all is handed out."""
        while not self._items:
            if self._closed:
                raise trio.EndOfChannel
            self._some = trio.Event()
            await self._some.wait()
        await trio.lowlevel.checkpoint()
        return self._items.popleft()

    def receive_more(self, limit: int) -> list[T]:
        """What else waits, oldest first, at most so many; without waiting."""
        return [self._items.popleft() for _ in range(min(limit, len(self._items)))]
