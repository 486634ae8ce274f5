"""One accepted connection: reads request heads, then serves REST (keep-alive), the control port or one WebSocket."""

from __future__ import annotations

import base64
import hashlib
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import h11
import trio

from orderflow.sim import mishaps
from orderflow.sim.connection import CLIENT_MESSAGE_BYTES, RECEIVE_BYTES, Client
from orderflow.sim.control import CONTROL_PATH
from orderflow.sim.faults import Mishap, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.sim.connection import House, HttpResponse

HEAD_TIMEOUT_S: Final = 10.0
KEEP_ALIVE_S: Final = 75.0
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def serve_stream(house: House, stream: trio.abc.Stream) -> None:
    """One accepted TCP (or TLS) connection, from its first byte to its end."""
    try:
        await _serve_requests(house, stream, h11.Connection(h11.SERVER, max_incomplete_event_size=32_768))
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:  # the client is gone
        if isinstance(error.__cause__, ssl.SSLError):
            house.note("", "tls", detail=error.__cause__.reason or "")
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
        method = request.method.decode("latin-1")
        if target.startswith(CONTROL_PATH):
            response = house.control(method, target, headers, body, local=_is_local(stream))
            await stream.send_all(_encode(http, response, close=True))
            return
        if house.faults.active and not await _survives(house, stream, http, target):
            return
        if _wants_upgrade(headers):
            await _serve_websocket(house, stream, http, target, dict(headers))
            return
        response = house.respond(method, target, headers, body)
        await stream.send_all(_encode(http, response))
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return
        http.start_next_cycle()
        timeout_s = KEEP_ALIVE_S


async def _survives(house: House, stream: trio.abc.Stream, http: h11.Connection, target: str) -> bool:
    """Let the faults of opening and REST have their go; True when the request shall still be answered."""
    botch = house.faults.refuse(target)
    if isinstance(botch, Refusal):
        house.note("", "botched", target=target, how=str(botch.status))
        await _refuse(stream, http, botch)
        return False
    if isinstance(botch, Mishap):
        house.note("", "botched", target=target, how=botch.how)
        return await mishaps.play(stream, botch)
    return True


def _is_local(stream: trio.abc.Stream) -> bool:
    """Whether the client sits on this machine (memory streams do)."""
    raw = getattr(stream, "transport_stream", stream)
    if not isinstance(raw, trio.SocketStream):
        return True
    address = str(raw.socket.getpeername()[0])
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


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
    client = Client(house, stream, endpoint, connection_id, session)
    await client.serve(http.trailing_data[0])
    house.note(connection_id, "end", sent_bytes=client.sent_bytes, too_slow=client.too_slow)


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
