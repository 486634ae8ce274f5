"""One WebSocket client of the exchange (requests.py reads the request head before).

Outgoing data frames of a server are unmasked, so a ready frame goes to any number of clients as the same bytes: what a
push tick leaves for a client is joined and sent in one go. Client frames and control frames go through wsproto.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio
from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from orderflow.sim import mishaps
from orderflow.sim.venue import Attach, Detach, Send, Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from orderflow.sim.faults import Faults
    from orderflow.sim.venue import Action, Session

RECEIVE_BYTES: Final = 65_536
CLIENT_MESSAGE_BYTES: Final = 1024 * 1024
LINGER_S: Final = 1.0
GONE_POLL_S: Final = 0.1
RESET_DELAY_S: Final = 0.05
PARTING_S: Final = 5.0


def text_frame(message: bytes) -> bytes:
    """One unmasked RFC 6455 text frame."""
    size = len(message)
    if size < 126:
        return bytes((0x81, size)) + message
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + message
    return struct.pack("!BBQ", 0x81, 127, size) + message


class HttpResponse(Protocol):
    """What the REST side answers (rest.Response)."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...

    @property
    def body(self) -> bytes: ...


class House(Protocol):
    """The server as a connection sees it."""

    faults: Faults
    buffer_bytes: int

    def open_session(self, target: str, connection_id: str) -> tuple[str, Session] | None:
        """Endpoint name and protocol session for a WebSocket path; None: no such path (404)."""

    def new_connection_id(self) -> str: ...

    def now_ms(self) -> int: ...

    def attach(self, peer: Client, topic: str) -> None: ...

    def detach(self, peer: Client, topic: str) -> None: ...

    def joined(self, peer: Client) -> None: ...

    def left(self, peer: Client) -> None: ...

    def respond(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> HttpResponse: ...

    def control(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, *, local: bool
    ) -> HttpResponse:
        """Requests to the control port; `local`: from this machine."""

    def note(self, connection_id: str, event: str, **facts: Any) -> None:
        """One line for the log of what clients do."""


class Client:
    """One WebSocket client: a bounded outgoing buffer, a session, the topics it gets."""

    def __init__(
        self, house: House, stream: trio.abc.Stream, endpoint: str, connection_id: str, session: Session
    ) -> None:
        self.endpoint = endpoint
        self.connection_id = connection_id
        self.topics: dict[str, None] = {}
        self.too_slow = False
        self.sent_bytes = 0
        self._sent_seen = 0
        self.opened_s = trio.current_time()
        self._house = house
        self._stream = stream
        self._session = session
        self._wire = WebSocket(ConnectionType.SERVER)
        self._pending: list[bytes] = []
        self._unsent = 0
        self._work = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._parts: list[str] = []
        self._part_chars = 0
        self._frozen = ""  # or "deaf", "mute"
        self._mum = False  # nothing is sent any more
        self._parting = False  # our close frame is out, the client's is awaited
        self._last_act: Callable[[], Awaitable[None]] | None = None

    # --- outgoing ---

    @property
    def unsent(self) -> int:
        """Bytes that wait for this client."""
        return self._unsent

    def deliver(self, topic: str, frame: bytes) -> None:
        """Queue one ready frame. A client that lets its buffer run over is dropped, not waited for."""
        if self._mum:
            return
        self._unsent += len(frame)
        if self._unsent > self._house.buffer_bytes:
            self.too_slow = True
            self.cut()
            return
        self._pending.append(frame)
        self._work.unpark()

    def cut(self) -> None:
        """Drop the connection without a close frame."""
        self._scope.cancel()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        mishaps.set_reset(self._stream)
        self.cut()

    def say_close(self, code: int, reason: str, *, finish: bool) -> None:
        """Send a close frame; `finish`: then wait for the client's, as RFC 6455 has it."""
        if finish:
            self._control(CloseConnection(code=code, reason=reason))
            self._mum = self._parting = True
        else:
            payload = struct.pack("!H", code) + reason.encode()
            self.deliver("", bytes((0x88, len(payload))) + payload)

    def half_close(self) -> None:
        """Send what waits, then end of stream; go on listening. (TLS has no such thing: there it is the end.)"""
        self._finally(b"", self._end_stream)

    def tear(self, frame: bytes) -> None:
        """Send what waits and the first half of `frame`, then reset."""
        self._finally(frame[: len(frame) // 2], self._reset_soon)

    def ping(self) -> None:
        self._control(Ping())

    def freeze(self, *, deaf: bool) -> None:
        """Send nothing from now on. Deaf: read nothing either; otherwise read it and ignore it."""
        self._frozen = "deaf" if deaf else "mute"

    def thaw(self) -> None:
        """Send what has gathered, and listen again."""
        self._frozen = ""
        self._work.unpark()

    async def wait_below(self, size: int) -> None:
        """Until at most `size` bytes wait for this client, or it is gone."""
        while self._unsent > size and not self._scope.cancel_called:
            await self._drained.park()

    async def _send_pending(self) -> None:
        while True:
            while not self._pending or self._frozen:
                await self._work.park()
            batch = b"".join(self._pending)
            self._pending.clear()
            await self._stream.send_all(batch)
            self._unsent -= len(batch)
            self.sent_bytes += len(batch)
            self._drained.unpark_all()
            if self._last_act is not None and not self._pending:
                act, self._last_act = self._last_act, None
                await act()

    def _finally(self, data: bytes, act: Callable[[], Awaitable[None]]) -> None:
        """Do something once everything up to `data` is sent; nothing is sent after it."""
        if self._last_act is None and not self._mum:
            self._last_act = act
            self._pending.append(data)
            self._unsent += len(data)
            self._mum = True
            self._work.unpark()

    async def _end_stream(self) -> None:
        if isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()
        else:
            self.cut()

    async def _reset_soon(self) -> None:
        await trio.sleep(RESET_DELAY_S)  # a reset overtakes bytes that the client has not read yet
        self.reset()

    # --- incoming ---

    async def serve(self, trailing: bytes) -> None:
        """Run this connection to its end. `trailing`: bytes that came behind the request head."""
        self._house.joined(self)
        try:
            with self._scope:
                await self._run(trailing)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # clients go away without a word; that is how connections end
        finally:
            self._scope.cancel()
            self._drained.unpark_all()
            self._house.left(self)

    async def _run(self, trailing: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_pending)
            data: bytes | bytearray = trailing
            while self._take(data, nursery):
                data = await self._receive()
                if not data:
                    break
            with trio.move_on_after(LINGER_S):
                await self.wait_below(0)
            nursery.cancel_scope.cancel()

    async def _receive(self) -> bytes | bytearray:
        """What the client sent, as far as we listen; b"" when it is gone."""
        while True:
            await self._listening()
            data: bytes | bytearray = b""
            with trio.move_on_after(PARTING_S if self._parting else math.inf):
                data = await self._stream.receive_some(RECEIVE_BYTES)
            await self._listening()  # frozen while we waited: what came then is heard later
            if not data or not self._frozen:
                return data

    async def _listening(self) -> None:
        """Until we are not deaf, or the client has gone."""
        while self._frozen == "deaf" and not mishaps.hung_up(self._stream):  # noqa: ASYNC110 - no event
            await trio.sleep(GONE_POLL_S)

    def _take(self, data: bytes | bytearray, nursery: trio.Nursery) -> bool:
        """Handle what arrived; False when the conversation is over."""
        try:
            if data:
                self._wire.receive_data(bytes(data))
            for event in self._wire.events():
                self._handle(event, nursery)
        except RemoteProtocolError as error:
            self._house.note(self.connection_id, "violation", detail=str(error))
            if error.event_hint is not None:
                self._control(error.event_hint)
            return False
        return self._wire.state is ConnectionState.OPEN or (
            self._parting and self._wire.state is ConnectionState.LOCAL_CLOSING
        )

    def _handle(self, event: object, nursery: trio.Nursery) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._gather(event, nursery)
            case Ping():
                self._house.note(self.connection_id, "ping")
                self._control(event.response())
            case Pong():
                self._house.note(self.connection_id, "pong")
            case CloseConnection():
                self._house.note(self.connection_id, "close", code=event.code, reason=event.reason or "")
                if self._wire.state is ConnectionState.REMOTE_CLOSING:
                    self._control(event.response())
                elif self._wire.state is ConnectionState.OPEN:  # wsproto's way to report a broken frame
                    self._control(CloseConnection(code=event.code, reason=event.reason))

    def _gather(self, event: TextMessage | BytesMessage, nursery: trio.Nursery) -> None:
        """Join fragments; binary is read as text, as Bybit's JSON decoder would."""
        part = event.data if isinstance(event, TextMessage) else bytes(event.data).decode("utf-8", "replace")
        self._parts.append(part)
        self._part_chars += len(part)
        if self._part_chars > CLIENT_MESSAGE_BYTES:
            self._control(CloseConnection(code=1009, reason="message too big"))
        elif event.message_finished:
            text = "".join(self._parts)
            self._parts, self._part_chars = [], 0
            self._answer(text, nursery)

    def _answer(self, text: str, nursery: trio.Nursery) -> None:
        self._house.note(self.connection_id, "text", text=text)
        faults = self._house.faults
        actions = faults.request(self, text) if faults.active else None
        if actions is None:
            actions = self._session.receive(text, self._house.now_ms())
            if faults.active:
                actions = faults.actions(self, actions)
        self._carry_out(actions, nursery)

    def _control(self, event: Any) -> None:
        try:
            frame = self._wire.send(event)
        except LocalProtocolError:
            return  # the closing handshake is over, nothing may be sent any more
        self.deliver("", frame)

    # --- actions ---

    def _carry_out(self, actions: Sequence[Action], nursery: trio.Nursery) -> None:
        """Everything up to the first wait happens now, the rest in a task of its own."""
        for index, action in enumerate(actions):
            match action:
                case Wait():
                    nursery.start_soon(self._carry_out_later, action.seconds, actions[index + 1 :], nursery)
                    return
                case Send():
                    self.deliver("", text_frame(action.text))
                case Attach():
                    self._attach(action.topic)
                case Detach():
                    self.topics.pop(action.topic, None)
                    self._house.detach(self, action.topic)

    async def _carry_out_later(self, seconds: float, actions: Sequence[Action], nursery: trio.Nursery) -> None:
        await trio.sleep(seconds)
        self._carry_out(actions, nursery)

    def _attach(self, topic: str) -> None:
        """Unless the client has unsubscribed while a delayed snapshot was on its way."""
        if topic in self._session.topics:
            self.topics[topic] = None
            self._house.attach(self, topic)

    def excuse(self, ms: int) -> None:
        """So much of its silence was ours: we stood still and could not listen."""
        self._session.active_ms += ms

    def expired(self, now_ms: int) -> bool:
        """Whether the venue would cut this connection for silence; what was sent to it counts as life."""
        if self.sent_bytes != self._sent_seen:
            self._sent_seen = self.sent_bytes
            self._session.active_ms = now_ms
        return self._session.expired(now_ms)
