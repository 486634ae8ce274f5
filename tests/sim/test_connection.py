"""One client's socket over memory streams: heads, upgrades, frames, limits. Time jumps."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.connection import text_frame
from orderflow.sim.exchange import ExchangeBackend
from orderflow.sim.faults import Faults, Refusal
from orderflow.sim.market import Exchange
from orderflow.sim.server import ServerPolicy, SimServer
from orderflow.sim.venue import SessionPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = 1_790_000_000_000
TOPIC = "orderbook.50.BTCUSDT"
UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SUBSCRIBE = json.dumps({"op": "subscribe", "args": [TOPIC]})


@asynccontextmanager
async def running(faults: Faults | None = None, **policy: Any) -> AsyncIterator[SimServer]:
    """A server without a port: streams are handed to it."""
    item = catalogue_by_id()[InstrumentId(Category.LINEAR, "BTCUSDT")]
    backend = ExchangeBackend(Exchange((item,), 1, START), START)
    server = SimServer(backend, ServerPolicy(start_ms=START, **policy), faults or Faults(), tls=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        nursery.start_soon(server.cut_silent_clients)
        yield server
        nursery.cancel_scope.cancel()


class WsClient:
    """A plain WebSocket client over one end of a memory stream pair."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self.stream = stream
        self.wire = Connection(ConnectionType.CLIENT)
        self.events: list[Any] = []

    async def send(self, event: Message | Ping | CloseConnection) -> None:
        await self.stream.send_all(self.wire.send(event))

    async def event(self) -> Any:
        """The next frame; text as decoded JSON; None at the end of the stream."""
        while not self.events:
            data = await self.stream.receive_some(65_536)
            if not data:
                return None
            self.wire.receive_data(bytes(data))
            self.events += self.wire.events()
        event = self.events.pop(0)
        return json.loads(event.data) if isinstance(event, TextMessage) else event

    async def until(self, key: str, value: object) -> dict[str, Any]:
        while True:
            message = await self.event()
            if isinstance(message, dict) and message.get(key) == value:
                return message


def pair(server: SimServer, nursery: trio.Nursery) -> trio.StapledStream[Any, Any]:
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(server.serve_stream, theirs)
    return ours


@asynccontextmanager
async def connected(server: SimServer, path: bytes = b"/v5/public/linear") -> AsyncIterator[WsClient]:
    async with trio.open_nursery() as nursery:
        stream = pair(server, nursery)
        await stream.send_all(UPGRADE % path)
        head = bytes(await stream.receive_some(65_536))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        yield WsClient(stream)
        await stream.aclose()


async def ask(server: SimServer, request: bytes) -> bytes:
    async with trio.open_nursery() as nursery:
        stream = pair(server, nursery)
        await stream.send_all(request)
        with trio.move_on_after(0.5):
            return bytes(await stream.receive_some(65_536))
    raise AssertionError("no answer")


@given(st.binary(max_size=70_000))
def test_frames_are_what_a_websocket_client_reads(payload: bytes) -> None:
    message = json.dumps(payload.hex()[: len(payload)]).encode()
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(text_frame(message))
    parts = [event for event in client.events() if isinstance(event, TextMessage)]
    assert "".join(part.data for part in parts).encode() == message
    assert parts[-1].message_finished


async def test_a_book_comes_before_its_ack_and_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, connected(server) as client:
        await client.send(TextMessage(data=SUBSCRIBE))
        snapshot = await client.event()
        assert (snapshot["topic"], snapshot["type"]) == (TOPIC, "snapshot")
        assert (await client.event())["op"] == "subscribe"
        delta = await client.event()
        assert (delta["type"], delta["data"]["u"]) == ("delta", snapshot["data"]["u"] + 1)
        assert delta["cts"] <= delta["ts"]


async def test_unsubscribing_stops_the_data(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, connected(server) as client:
        await client.send(TextMessage(data=SUBSCRIBE))
        await client.until("op", "subscribe")
        await client.send(TextMessage(data=SUBSCRIBE.replace("subscribe", "unsubscribe")))
        await client.until("op", "unsubscribe")
        with trio.move_on_after(5) as quiet:
            await client.event()
        assert quiet.cancelled_caught


async def test_a_delayed_snapshot_is_not_sent_to_someone_who_left(autojump_clock: trio.testing.MockClock) -> None:
    async with running(session=SessionPolicy(snapshot_delay_s=1.0)) as server, connected(server) as client:
        await client.send(TextMessage(data=SUBSCRIBE))
        await client.send(TextMessage(data=SUBSCRIBE.replace("subscribe", "unsubscribe")))
        assert (await client.event())["op"] == "unsubscribe"
        assert (await client.event())["op"] == "subscribe"
        with trio.move_on_after(5) as quiet:
            await client.event()
        assert quiet.cancelled_caught


async def test_control_frames_and_fragments(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, connected(server) as client:
        await client.send(Ping(payload=b"here"))
        assert (await client.event()) == Pong(payload=bytearray(b"here"))
        await client.send(TextMessage(data='{"op":', message_finished=False))
        await client.send(Ping(payload=b"between"))
        await client.send(TextMessage(data='"ping"}'))
        assert (await client.event()) == Pong(payload=bytearray(b"between"))
        assert (await client.event())["ret_msg"] == "pong"
        await client.send(BytesMessage(data=b'{"op":"ping"}'))
        assert (await client.event())["ret_msg"] == "pong"
        await client.send(CloseConnection(code=1000, reason="bye"))
        closed = await client.event()
        assert (closed.code, closed.reason) == (1000, "bye")
        assert await client.event() is None


async def test_broken_frames_end_the_connection_with_a_code(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, connected(server) as client:
        await client.stream.send_all(b"\xf1\x80\0\0\0\0")  # reserved bits
        closed = await client.event()
        assert isinstance(closed, CloseConnection)
        assert closed.code == 1002


async def test_a_client_that_does_not_read_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with running(buffer_bytes=20_000) as server:
        async with trio.open_nursery() as nursery:
            ours, theirs = trio.testing.lockstep_stream_pair()  # nothing is buffered below the server
            nursery.start_soon(server.serve_stream, theirs)
            await ours.send_all(UPGRADE % b"/v5/public/linear")
            await ours.receive_some(65_536)
            await ours.send_all(Connection(ConnectionType.CLIENT).send(TextMessage(data=SUBSCRIBE)))
            await trio.sleep(30)
        statistics = server.statistics()
        assert (statistics.dropped_slow, statistics.clients) == (1, 0)


async def test_silent_private_connections_are_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, connected(server, b"/v5/private?max_active_time=30s") as client:
        began = trio.current_time()
        assert await client.event() is None
        assert 30 <= trio.current_time() - began <= 32
        assert server.statistics().cut_idle == 1


@pytest.mark.parametrize("path", [b"/v5/public/option", b"/v5/public/spread", b"/v5/nope", b"/v5/public/", b"/"])
async def test_paths_without_a_socket(path: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server:
        assert (await ask(server, UPGRADE % path)).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ((UPGRADE % b"/v5/public/linear").replace(b"Version: 13", b"Version: 8"), 426),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + b"y" * 1_100_000, 413),
    ],
)
async def test_request_heads(request_bytes: bytes, status: int, autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server:
        assert (await ask(server, request_bytes)).startswith(b"HTTP/1.1 %d " % status)


async def test_rest_connections_are_kept_alive(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, trio.open_nursery() as nursery:
        stream = pair(server, nursery)
        for _ in range(3):
            await stream.send_all(b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b'"retCode":0' in bytes(await stream.receive_some(65_536))
        assert server.statistics().requests == 3
        assert await stream.receive_some(1) == b""  # after 75 s of nothing


async def test_a_head_that_never_ends_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as server, trio.open_nursery() as nursery:
        stream = pair(server, nursery)
        await stream.send_all(b"GET / HT")
        began = trio.current_time()
        assert await stream.receive_some(1) == b""
        assert trio.current_time() - began == pytest.approx(10)


class Spoiler(Faults):
    """A fault catalogue of three, to prove the seam."""

    active = True

    def refuse(self, target: str) -> Refusal | None:
        return Refusal(503, (("Retry-After", "7"),)) if "spot" in target else None

    def actions(self, peer: Any, actions: Any) -> Any:
        return actions[:-1] if len(actions) > 1 else actions  # the ack is lost

    def messages(self, peer: Any, topic: str, messages: Any) -> Any:
        return [message.replace(b'"s":"BTCUSDT"', b'"s":"SPOILED"') for message in messages]

    def clock_offset_ms(self) -> int:
        return 5000


async def test_faults_have_their_seam(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Spoiler()) as server:
        refused = await ask(server, UPGRADE % b"/v5/public/spot")
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 7" in refused
        async with connected(server) as client:
            await client.send(TextMessage(data=SUBSCRIBE))
            for kind in ("snapshot", "delta"):
                message = await client.event()
                assert (message["type"], message["data"]["s"]) == (kind, "SPOILED")
        time_answer = await ask(server, b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n\r\n")
        assert json.loads(time_answer.split(b"\r\n\r\n")[1])["time"] >= START + 5000


async def test_what_clients_do_is_logged(tmp_path: Any, autojump_clock: trio.testing.MockClock) -> None:
    path = tmp_path / "clients.jsonl"
    async with running(client_log=path) as server:
        with server.logging_clients():
            async with connected(server) as client:
                await client.send(TextMessage(data='{"op":"ping"}'))
                await client.event()
            await ask(server, b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n\r\n")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["event"] for record in records] == ["open", "text", "end", "request"]
    assert records[1]["text"] == '{"op":"ping"}'
    assert len({record["conn"] for record in records[:3]}) == 1
