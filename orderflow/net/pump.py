"""Receiving without waiting for one's turn: a socket is read as soon as the event loop has looked, before any task runs.

Between the moment the event loop wakes up and the moment the task that waits for a socket is resumed lie the rest of
Trio's pass and the resumption of five coroutines: of a message that comes alone, into cold caches, that is a fifth of
its way to the book. Trio calls instruments right after it has looked for news, so one of them reads the sockets of all
pumps then, and hands what came to the synchronous code that wants it. The task only sees to what is left: errors, the
end, and what has to be awaited.

Nothing else changes: everything still happens in Trio's thread, one thing at a time, and tasks have their turn after.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    Feed = Callable[[bytes], bool]
    """Takes what came, b"" at the end of the stream; tells whether its task is wanted. Never waits."""


@runtime_checkable
class Pumped(Protocol):
    """A stream that can hand on what comes without resuming a task for it."""

    async def pump(self, feed: Feed, max_bytes: int) -> None: ...


async def pump(stream: trio.abc.ReceiveStream, feed: Feed, max_bytes: int) -> None:
    """Hand all that comes on `stream` to `feed`, until that wants its task or raises.

    Raises: what `feed` raises, and the stream's errors.
    """
    if isinstance(stream, Pumped):
        await stream.pump(feed, max_bytes)
    else:
        while not feed(bytes(await stream.receive_some(max_bytes))):
            pass


class SocketPump:
    """One socket that is read by whoever comes first: the event loop (`look`) or the task that waits (`run`).

    Args: number: the file descriptor; it must not be closed before `stop`.
    """

    __slots__ = ("_error", "_feed", "_has_looked", "_is_over", "_max_bytes", "_number", "_scope")

    def __init__(self, number: int, feed: Feed, max_bytes: int) -> None:
        self._number = number
        self._feed = feed
        self._max_bytes = max_bytes
        self._is_over = False
        self._has_looked = False  # something came since the task last waited
        self._error: BaseException | None = None
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Until `feed` wants its task, or `stop`. Raises: what `feed` raises; OSError."""
        looker = _looker()
        looker.add(self)
        try:
            with self._scope:
                while not self._is_over:
                    self._has_looked = False
                    await trio.lowlevel.wait_readable(self._number)
                    if not self._has_looked:
                        self.look()
        finally:
            self._is_over = True
            looker.remove(self)
        if self._error is not None:
            raise self._error

    def look(self) -> None:
        """Read and hand on, if there is anything. Never raises: what goes wrong is `run`'s to tell."""
        if self._is_over:
            return
        try:
            data = os.read(self._number, self._max_bytes)
            self._has_looked = True
            if not self._feed(data):
                return
        except BlockingIOError:
            return
        except BaseException as error:  # noqa: BLE001 - raised by the task
            self._error = error
        self.stop()

    def stop(self) -> None:
        """Nothing is read from now on; the task goes on."""
        self._is_over = True
        self._scope.cancel(reason="the task is wanted")


class _Looker(trio.abc.Instrument):
    """Looks at every pump once Trio has looked at the sockets. Installed while there are pumps."""

    def __init__(self) -> None:
        self._pumps: tuple[SocketPump, ...] = ()

    def add(self, pump: SocketPump) -> None:
        if not self._pumps:
            trio.lowlevel.add_instrument(self)
        self._pumps = (*self._pumps, pump)

    def remove(self, pump: SocketPump) -> None:
        self._pumps = tuple(other for other in self._pumps if other is not pump)
        if not self._pumps:
            trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        for pump in self._pumps:
            pump.look()


_the_looker: trio.lowlevel.RunVar[_Looker] = trio.lowlevel.RunVar("looker")


def _looker() -> _Looker:
    """The one of this run of Trio."""
    try:
        return _the_looker.get()
    except LookupError:
        looker = _Looker()
        _the_looker.set(looker)
        return looker
