"""The stream that trio-websocket is given: it hands on handshake and control bytes, and keeps the data for itself.

trio-websocket is good at the upgrade, at answering pings and closes and at sending; but a message received its way
costs fifty times what cutting the frame costs. So the tap sits between it and the real stream, reads large pieces,
cuts text messages out (`frames.py`) and delivers the messages of one read together, stamped once. It also knows what
trio-websocket does not tell: why an upgrade failed, and why a link ended.
"""

from __future__ import annotations

import re
from time import monotonic_ns as _monotonic_ns
from time import time_ns as _time_ns
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection

from orderflow.core.errors import (
    ConnectFailed,
    ConnectionLost,
    OrderflowError,
    ProtocolViolation,
    UpgradeRefused,
)
from orderflow.core.httpdate import retry_after_s
from orderflow.core.text import escape_bytes, escape_text
from orderflow.core.units import NS
from orderflow.net.frames import NO_CLOSE_CODE, FrameCutter
from orderflow.net.pump import pump

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.policy import LinkPolicy

    OnBatch = Callable[[list[bytes], int, int], None]
    Clock = Callable[[], tuple[int, int]]

STALL_S: Final = 1.0
"""A deadline that is noticed this late: the process stood still, and the peer may be blameless."""

MAX_HEAD_BYTES: Final = 16 * 1024
_SHOWN_BYTES: Final = 100

_HEAD_END: Final = re.compile(rb"\n\r?\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_STATUS_START: Final = b"HTTP/1."
_RETRY_AFTER: Final = re.compile(rb"\nretry-after:[ \t]*([!-~](?:[ -~]{0,60}[!-~])?)[ \t]*\r?\n", re.IGNORECASE)
_DATE: Final = re.compile(rb"\ndate:[ \t]*([ -~]{1,40}[!-~])[ \t]*\r?\n", re.IGNORECASE)
_LOCATION: Final = re.compile(rb"\nlocation:[ \t]*([^\r\n]*)", re.IGNORECASE)
_ONLY_ASCII: Final = bytes(range(128)) + b"?" * 128

_TOGETHER: Final = 32
"""Messages of one read that are handed on together: what more of them decode to no longer fits into a core's caches."""
_TOGETHER_NS: Final = 500_000
_CLOCK_ATTEMPTS: Final = 5

_STREAM_ERRORS: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


def read_clocks() -> tuple[int, int]:
    """(wall clock, monotonic clock), both in nanoseconds, of one moment.

    A process that is preempted between two readings would see its clock jump, so readings too far apart are repeated.
    """
    attempts = 1
    while True:
        before_ns, wall_ns, mono_ns = _monotonic_ns(), _time_ns(), _monotonic_ns()
        if mono_ns - before_ns <= _TOGETHER_NS or attempts == _CLOCK_ATTEMPTS:
            return wall_ns, mono_ns
        attempts += 1


class LinkStatistics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counts of one link since it was opened. `last_read_mono_ns`: when anything last came (0: nothing yet)."""

    reads: int
    bytes: int
    messages: int
    control_bytes: int
    last_read_mono_ns: int


class TappedStream(trio.abc.Stream):
    """A stream adapter; after the upgrade, messages go to `on_batch` and only control frames go up.

    The first thing that goes wrong is kept in `failure`, `ended` is set and `drop()` called, which must cancel the
    tasks of this link. `on_batch` is never called before `release()` nor after `retire()`.

    Args:
        stream: the connected stream; whoever made it closes it.
        on_batch: gets (messages of one read, 32 at a time, wall clock ns, monotonic ns); an OrderflowError it raises
            ends the link.
        cutter: judges what comes after the upgrade.
        answer_s: how long messages that came right before a violation may still be answered.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        on_batch: OnBatch,
        policy: LinkPolicy,
        clock: Clock,
        drop: Callable[[], object],
        *,
        cutter: FrameCutter | None = None,
        answer_s: float = 0.0,
    ) -> None:
        self.failure: OrderflowError | None = None
        self.ended = trio.Event()
        self._stream = stream
        self._on_batch = on_batch
        self._clock = clock
        self._drop = drop
        self._receive_bytes = policy.receive_bytes
        self._send_timeout_s = policy.send_timeout_s
        self._cutter = cutter or FrameCutter(policy.max_message_bytes)
        self._answer_s = answer_s
        self._head = bytearray()
        self._after_head = b""
        self._upgraded = False
        self._released = trio.Event()
        self._retired = False
        self._answered = False  # the peer's close frame, by trio-websocket
        self._torn = False  # a send broke off: what we wrote may end in half a frame
        self._reads = self._bytes = self._messages = self._control_bytes = 0
        self._last_read_mono_ns = 0

    def release(self) -> None:
        """The link is handed out: from now on messages may be delivered."""
        self._released.set()

    def retire(self) -> None:
        """The link is being left: nothing that happens from now on is a failure."""
        self._retired = True
        self._on_batch = _to_nobody

    def first_bytes(self) -> str:
        """What the peer answered to the upgrade, escaped and cut short."""
        if not self._head:
            return "nothing received"
        return f"received {escape_bytes(self._head, _SHOWN_BYTES)}"

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            reads=self._reads,
            bytes=self._bytes,
            messages=self._messages,
            control_bytes=self._control_bytes,
            last_read_mono_ns=self._last_read_mono_ns,
        )

    def lost(self) -> OrderflowError:
        """Why nothing more can be sent: the failure, or the peer's close frame."""
        return self.failure or self._goodbye_heard() or ConnectionLost("the link is closed")

    def fail(self, error: OrderflowError) -> OrderflowError:
        """End the link with `error`, unless it has ended already; returns what it ended with."""
        if self.failure is None and not self._retired:
            self.failure = error
            self.ended.set()
            self._drop()
        return self.failure or error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes for trio-websocket: the response head, then control frames only. Never end of stream: the link ends."""
        if not self._upgraded:
            return await self._receive_head()
        if (goodbye := self._goodbye_heard()) is not None:
            # trio-websocket comes back for more, so it has sent its answer to the close frame.
            self._answered = True
            return await self._end(goodbye)
        await self._released.wait()
        data, self._after_head = self._after_head, b""
        try:
            if not (data and self._take(data)):
                await pump(self._stream, self._take, self._receive_bytes)
        except _STREAM_ERRORS as error:
            return await self._end(_reset(error))
        except OrderflowError as error:
            if isinstance(error, ProtocolViolation) and self._answer_s:
                await trio.sleep(self._answer_s)  # what came before it may still be answered
            return await self._end(error)
        return self._take_control()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.failure is not None:
            raise self.failure
        began_s = trio.current_time()
        try:
            await self._stream.send_all(data)
        except _STREAM_ERRORS as error:
            self._torn = True
            if self._upgraded:
                raise self.fail(_reset(error)) from error
            raise self.fail(ConnectFailed("closed before the upgrade was sent", reason="closed")) from error
        except BaseException:
            # Cancelled half-way: the peer can no longer tell where a frame begins.
            self._torn = True
            self.fail(self._broken_off(trio.current_time() - began_s))
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """trio-websocket gives up on the upgrade. The stream itself is closed by whoever made it."""
        self.fail(self._not_an_upgrade("no valid answer to the upgrade"))
        await trio.lowlevel.checkpoint()

    async def say_goodbye(self, code: int) -> None:
        """Send a close frame unless that is pointless, then read on until the peer has closed too.

        To be called under a deadline, after every other task of this link has ended. Reading on matters: closing a
        socket with unread bytes resets the connection, and the peer might never see why.
        """
        if not self._upgraded or self._answered or self._torn or self._is_deaf():
            return
        closer = Connection(ConnectionType.CLIENT)
        try:
            await self._stream.send_all(closer.send(CloseConnection(code=code)))
            while data := bytes(await self._stream.receive_some(self._receive_bytes)):
                if self._cutter.violation is None:
                    self._cutter.feed(data)
                if self._cutter.closed is not None:
                    return
        except _STREAM_ERRORS:
            pass  # gone already: that is what we want

    def _is_deaf(self) -> bool:
        return isinstance(self.failure, ConnectionLost) and self.failure.reason in ("eof", "reset")

    def _take(self, data: bytes) -> bool:
        """Deliver the messages in `data`. Returns: whether control frames came.

        Raises: OrderflowError, which ends the link.
        """
        if not data:
            raise ConnectionLost("end of stream", reason="eof")
        recv_ns, mono_ns = self._clock()
        cutter = self._cutter
        messages = cutter.feed(data)
        self._last_read_mono_ns = mono_ns
        try:
            if len(messages) <= _TOGETHER:
                if messages:
                    self._on_batch(messages, recv_ns, mono_ns)
            else:
                for start in range(0, len(messages), _TOGETHER):
                    self._on_batch(messages[start : start + _TOGETHER], recv_ns, mono_ns)
        finally:  # what is only counted can wait until the books have theirs
            self._reads += 1
            self._bytes += len(data)
            self._messages += len(messages)
        if cutter.violation is not None:
            raise cutter.violation
        return cutter.has_control

    def _take_control(self) -> bytes:
        control = self._cutter.take_control()
        self._control_bytes += len(control)
        return control

    async def _receive_head(self) -> bytes:
        """The whole response head, once it says 101; anything else ends the link at once."""
        head = self._head
        while True:
            try:
                data = await self._stream.receive_some(self._receive_bytes)
            except _STREAM_ERRORS:
                data = b""
            if not data:
                await self._end(ConnectFailed(f"closed during upgrade; {self.first_bytes()}", reason="closed"))
            seen = max(len(head) - 3, 0)
            head += data
            end = _HEAD_END.search(head, seen)
            if (end.end() if end else len(head)) > MAX_HEAD_BYTES or not _may_be_http(head):
                await self._end(self._not_an_upgrade("no HTTP answer"))
            if end is not None:
                return await self._split_head(end.end())

    async def _split_head(self, end: int) -> bytes:
        self._after_head = bytes(self._head[end:])
        del self._head[end:]
        status = _STATUS_LINE.match(self._head)
        if status is None:
            await self._end(self._not_an_upgrade("no HTTP answer"))
        elif status[1] != b"101":
            await self._end(_refusal(self._head, status, self._clock()[0] / NS))
        self._upgraded = True
        # h11 lets other bytes through and wsproto then trips over them; no header that counts may hold one.
        return bytes(self._head).translate(_ONLY_ASCII)

    def _broken_off(self, seconds: float) -> ConnectionLost:
        """Why a send was cancelled that went on for so long."""
        late_s = seconds - self._send_timeout_s
        if late_s > STALL_S:
            return ConnectionLost(f"the program stood still for {late_s:.1f} s in mid-send", reason="stall")
        if late_s >= 0:
            return ConnectionLost(f"could not send for {self._send_timeout_s:g} s", reason="send")
        return ConnectionLost("a send was broken off", reason="send")

    def _not_an_upgrade(self, what: str) -> ConnectFailed:
        return ConnectFailed(f"{what}; {self.first_bytes()}", reason="garbage")

    def _goodbye_heard(self) -> ConnectionLost | None:
        close = self._cutter.closed
        if close is None:
            return None
        said = f": {escape_text(close.reason)}" if close.reason else ""
        what = "close frame without a code" if close.code == NO_CLOSE_CODE else f"close frame {close.code}"
        return ConnectionLost(what + said, code=close.code)

    async def _end(self, error: OrderflowError) -> NoReturn:
        """End the link. `drop()` cancels this task too, unless it is only this stream that is being tested."""
        raise_this = self.fail(error)
        await trio.lowlevel.checkpoint()
        raise raise_this


def _to_nobody(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
    """Takes what comes after the link was left."""


def _reset(error: BaseException) -> ConnectionLost:
    cause = error.__cause__
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    return ConnectionLost(f"connection broken: {escape_text(why)}" if why else "connection broken", reason="reset")


def _may_be_http(head: bytearray) -> bool:
    start = bytes(head[: len(_STATUS_START)])
    return _STATUS_START.startswith(start)


def _refusal(head: bytearray, status: re.Match[bytes], now_s: float) -> UpgradeRefused:
    """What a status other than 101 says; redirects are named, not followed."""
    code = int(status[1])
    phrase = f" {escape_bytes(status[2], 60)}" if status[2] else ""
    detail = f"HTTP {code}{phrase} instead of an upgrade"
    location = _LOCATION.search(head) if 300 <= code < 400 else None
    if location is not None:
        detail += f"; redirects are not followed (to {escape_bytes(location[1], _SHOWN_BYTES)})"
    retry, date = (_field(pattern, head) for pattern in (_RETRY_AFTER, _DATE))
    return UpgradeRefused(code, detail, retry_after_s(retry, date, now_s))


def _field(pattern: re.Pattern[bytes], head: bytearray) -> str:
    found = pattern.search(head)
    return found[1].decode("ascii") if found else ""
