"""Receiving ahead of one's turn: a socket is read as soon as the event loop has looked, before any task runs.

Between the moment the event loop wakes up and the moment the task that waits for a socket is resumed lie the rest of
Trio's pass and the resumption of five nested coroutines. A message that comes alone finds cold caches, and there that
is a sixth of all we do with it. But Trio calls instruments as soon as it has looked for news. So one of them reads the
sockets that are being pumped, and hands what came to synchronous code that takes it. What has to be awaited, errors and
the end of the stream stay with the task.

Everything still happens in Trio's thread, one thing at a time, and every task has its turn in the same pass.
"""

from __future__ import annotations

from abc import abstractmethod
from os import read as _read
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    Feed = Callable[[bytes], bool]
    """Takes what came, b"" at the end of the stream. Returns: whether the task is wanted, and nothing more until then.
    It runs outside of any task: it never waits."""


class PumpedStream(trio.abc.Stream):
    """A stream that can hand on what comes without a task being resumed for it."""

    @abstractmethod
    async def pump(self, feed: Feed, max_bytes: int) -> None:
        """See `pump`; streams that gather what they hand on need not look at `max_bytes`."""


async def pump(stream: trio.abc.Stream, feed: Feed, max_bytes: int) -> None:
    """Hand what comes on any `stream`, so much at a time, to `feed`, until that wants its task.

    Raises: what `feed` raises, and what the stream's `receive_some` would.
    """
    if isinstance(stream, PumpedStream):
        await stream.pump(feed, max_bytes)
    else:
        while not feed(bytes(await stream.receive_some(max_bytes))):
            pass


class SocketPump:
    """One socket: a task waits for it (`run`), the event loop reads it (`look`).

    Args:
        number: the socket's file descriptor. `stop` must be called before it is closed.
        afterwards: called when what a read brought has been handed on.
    """

    __slots__ = ("_afterwards", "_error", "_feed", "_is_over", "_max_bytes", "_number", "_waiting")

    def __init__(self, number: int, feed: Feed, max_bytes: int, afterwards: Callable[[], object] = bool) -> None:
        self._number = number
        self._afterwards = afterwards
        self._feed = feed
        self._max_bytes = max_bytes
        self._is_over = False
        self._error: BaseException | None = None
        self._waiting = trio.CancelScope()

    async def run(self) -> None:
        """Until `feed` wants its task, or `stop`. Raises: what `feed` raises; trio.BrokenResourceError."""
        early = _early_reader()
        early.add(self)
        try:
            with self._waiting:
                while not self._is_over:
                    await trio.lowlevel.wait_readable(self._number)  # what woke us was read before it returns
        finally:
            early.remove(self)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def look(self) -> None:
        """Read and hand on, if there is anything. Never raises: what goes wrong is told by `run`."""
        if self._is_over:
            return
        try:
            try:
                data = _read(self._number, self._max_bytes)
            except BlockingIOError:
                return
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
            is_wanted = self._feed(data)
            self._afterwards()
            if not is_wanted:
                return
        except BaseException as error:  # noqa: BLE001 - `run` raises it, in the task
            self._error = error
        self.stop()

    def stop(self) -> None:
        """Read no more; `run` returns. What was read may have been all the kernel had to tell of: hence the scope."""
        self._is_over = True
        self._waiting.cancel(reason="the task is wanted")


class _EarlyReader(trio.abc.Instrument):
    """Lets every pump look, once a pass, when Trio has looked. Installed while there are pumps."""

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


_of_this_run: Final[trio.lowlevel.RunVar[_EarlyReader]] = trio.lowlevel.RunVar("early reader")


def _early_reader() -> _EarlyReader:
    try:
        return _of_this_run.get()
    except LookupError:
        _of_this_run.set(_EarlyReader())
        return _of_this_run.get()
