"""One client's socket: reads the request head, then serves REST (keep-alive) or one WebSocket.

Outgoing data frames of a server are unmasked, so a ready frame goes to any number of clients as the same bytes: what a
push tick leaves for a client is joined and sent in one go. Client frames and control frames go through wsproto.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import h11
import trio
from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from orderflow.sim.faults import Faults, Refusal
from orderflow.sim.venue import Attach, Detach, Send, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.sim.venue import Action, Session

RECEIVE_BYTES: Final = 65_536
CLIENT_MESSAGE_BYTES: Final = 1024 * 1024
HEAD_TIMEOUT_S: Final = 10.0
KEEP_ALIVE_S: Final = 75.0
LINGER_S: Final = 1.0
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


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

    # --- outgoing ---

    @property
    def unsent(self) -> int:
        """Bytes that wait for this client."""
        return self._unsent

    def deliver(self, topic: str, frame: bytes) -> None:
        """Queue one ready frame. A client that lets its buffer run over is dropped, not waited for."""
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

    async def wait_below(self, size: int) -> None:
        """Until at most `size` bytes wait for this client, or it is gone."""
        while self._unsent > size and not self._scope.cancel_called:
            await self._drained.park()

    async def _send_pending(self) -> None:
        while True:
            if not self._pending:
                await self._work.park()
            batch = b"".join(self._pending)
            self._pending.clear()
            await self._stream.send_all(batch)
            self._unsent -= len(batch)
            self.sent_bytes += len(batch)
            self._drained.unpark_all()

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
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    break
            with trio.move_on_after(LINGER_S):
                await self.wait_below(0)
            nursery.cancel_scope.cancel()

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
        return self._wire.state is ConnectionState.OPEN

    def _handle(self, event: object, nursery: trio.Nursery) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._gather(event, nursery)
            case Ping():
                self._control(event.response())
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
        actions: Sequence[Action] = self._session.receive(text, self._house.now_ms())
        if self._house.faults.active:
            actions = self._house.faults.actions(self, actions)
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

    def expired(self, now_ms: int) -> bool:
        """Whether the venue would cut this connection for silence; what was sent to it counts as life."""
        if self.sent_bytes != self._sent_seen:
            self._sent_seen = self.sent_bytes
            self._session.active_ms = now_ms
        return self._session.expired(now_ms)


# --- HTTP -----------------------------------------------------------------------------------------------------------


async def serve_stream(house: House, stream: trio.abc.Stream) -> None:
    """One accepted TCP (or TLS) connection, from its first byte to its end."""
    try:
        await _serve_requests(house, stream, h11.Connection(h11.SERVER, max_incomplete_event_size=32_768))
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass  # the client is gone
    finally:
        await trio.aclose_forcefully(stream)


async def _serve_requests(house: House, stream: trio.abc.Stream, http: h11.Connection) -> None:
    timeout_s = HEAD_TIMEOUT_S
    while True:
        try:
            with trio.move_on_after(timeout_s) as patience:
                request, body = await _read_request(stream, http)
            if patience.cancelled_caught or request is None:
                return
        except h11.RemoteProtocolError as error:
            await _refuse(stream, http, Refusal(error.error_status_hint))
            return
        target = request.target.decode("latin-1")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        refusal = house.faults.refuse(target) if house.faults.active else None
        if refusal is not None:
            await _refuse(stream, http, refusal)
            return
        if _wants_upgrade(headers):
            await _serve_websocket(house, stream, http, target, dict(headers))
            return
        response = house.respond(request.method.decode("latin-1"), target, headers, body)
        await stream.send_all(_encode(http, response))
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return
        http.start_next_cycle()
        timeout_s = KEEP_ALIVE_S


async def _read_request(stream: trio.abc.Stream, http: h11.Connection) -> tuple[h11.Request | None, bytes]:
    """The next request with its body; None when the client closed. For an upgrade the body is left alone."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > CLIENT_MESSAGE_BYTES:
                raise h11.RemoteProtocolError("body too big", error_status_hint=413)
        else:  # end of message, paused behind an upgrade, or closed
            return request, bytes(body)


def _wants_upgrade(headers: Sequence[tuple[str, str]]) -> bool:
    return any(name == "upgrade" and value.lower() == "websocket" for name, value in headers)


async def _serve_websocket(
    house: House, stream: trio.abc.Stream, http: h11.Connection, target: str, headers: dict[str, str]
) -> None:
    key = headers.get("sec-websocket-key", "")
    if headers.get("sec-websocket-version") != "13" or not key:
        await _refuse(stream, http, Refusal(426, (("Sec-WebSocket-Version", "13"),)))
        return
    connection_id = house.new_connection_id()
    opened = house.open_session(target, connection_id)
    if opened is None:
        house.note(connection_id, "refused", target=target)
        await _refuse(stream, http, Refusal(404))
        return
    endpoint, session = opened
    accept = base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest())
    answer = h11.InformationalResponse(
        status_code=101,
        headers=[(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", accept)],
    )
    await stream.send_all(http.send(answer) or b"")
    house.note(connection_id, "open", target=urlsplit(target).path)
    await Client(house, stream, endpoint, connection_id, session).serve(http.trailing_data[0])
    house.note(connection_id, "end")


async def _refuse(stream: trio.abc.Stream, http: h11.Connection, refusal: Refusal) -> None:
    if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        await stream.send_all(_encode(http, refusal, close=True))


def _encode(http: h11.Connection, response: HttpResponse | Refusal, *, close: bool = False) -> bytes:
    headers = [*response.headers, ("Content-Length", str(len(response.body)))]
    if close:
        headers.append(("Connection", "close"))
    head = http.send(h11.Response(status_code=response.status, headers=headers)) or b""
    data = http.send(h11.Data(data=response.body)) or b""
    return head + data + (http.send(h11.EndOfMessage()) or b"")
