"""The HTTP port over real sockets, with the clients one would rather not have."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.core.policy import HttpPolicy
from orderflow.net.http import LOOPBACK_NAMES, Guard, HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.socket

BODY = b"counters\n" * 100
TOKEN = "a-long-token"


class Served:
    """A server that runs, and ways to ask it."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port
        self.accepts: list[str] = []

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def send(self, data: bytes) -> bytes:
        """Everything that comes back."""
        stream = await self.connect()
        async with stream:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                pass  # it has heard enough; what did it say?
            return await read_all(stream)

    async def ask(
        self, *headers: str, line: str = "GET /metrics HTTP/1.1", host: str | None = None
    ) -> tuple[int, bytes]:
        """(status, body)."""
        host = f"127.0.0.1:{self.port}" if host is None else host
        lines = [line, *([f"Host: {host}"] if host else []), *headers, "", ""]
        answer = await self.send("\r\n".join(lines).encode("latin-1"))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body


async def read_all(stream: trio.SocketStream) -> bytes:
    pieces = bytearray()
    try:
        with trio.fail_after(10):
            async for piece in stream:
                pieces += piece
    except trio.BrokenResourceError:
        pass  # cut off
    return bytes(pieces)


@asynccontextmanager
async def serving(
    guard: Guard | None = None, page: Callable[[str], tuple[str, bytes]] | None = None, **limits: float
) -> AsyncIterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=300)
    listener.setblocking(False)
    served: Served

    def metrics(accept: str) -> tuple[str, bytes]:
        served.accepts.append(accept)
        return "text/plain", BODY

    server = HttpServer(listener, {"/metrics": page or metrics}, guard or Guard(), HttpPolicy(**limits))  # type: ignore[arg-type]
    served = Served(server, listener.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        yield served
        nursery.cancel_scope.cancel()


async def test_pages() -> None:
    async with serving() as served:
        assert await served.ask("Accept: text/x") == (200, BODY)
        assert served.accepts == ["text/x"]
        assert await served.ask(line="HEAD /metrics HTTP/1.1") == (200, b"")
        assert await served.ask(line="GET /metrics?x=1 HTTP/1.1") == (200, BODY)
        assert served.server.statistics().served == 4 - 1


@pytest.mark.parametrize(
    "line, status",
    [
        ("GET / HTTP/1.1", 404),
        ("GET /metrics/ HTTP/1.1", 404),
        ("GET /../metrics HTTP/1.1", 404),
        ("GET //metrics HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1", 405),
        ("DELETE /metrics HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 405),
    ],
)
async def test_nothing_else_is_served(line: str, status: int) -> None:
    async with serving() as served:
        assert (await served.ask(line=line))[0] == status
        assert served.accepts == []


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("evil.example:9464", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost:evil", 403),
        ("user@localhost", 403),
        ("10.0.0.1", 403),
        ("[", 403),
    ],
)
async def test_hosts(host: str, status: int) -> None:
    async with serving() as served:
        assert (await served.ask(host=host))[0] == status


async def test_no_host_and_two_hosts() -> None:
    async with serving() as served:
        assert (await served.ask(host=""))[0] == 400
        assert (await served.ask(line="GET /metrics HTTP/1.0", host=""))[0] == 403
        assert (await served.ask("Host: localhost"))[0] in (400, 403)
        assert served.accepts == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost", "http://localhost:1", ""])
async def test_foreign_origins(origin: str) -> None:
    async with serving() as served:
        assert (await served.ask(f"Origin: {origin}", host="localhost"))[0] == 403
        assert (await served.ask("Origin: http://localhost", host="localhost"))[0] == 200
        assert served.server.statistics().refused == {"origin": 1}


@pytest.mark.parametrize(
    "header, status",
    [
        ("X: y", 401),
        (f"Authorization: Bearer {TOKEN}", 200),
        (f"Authorization: bearer{TOKEN}", 401),
        (f"Authorization: Bearer {TOKEN[:-1]}", 401),
        ("Authorization: Bearer \xff", 401),
    ],
)
async def test_tokens(header: str, status: int) -> None:
    async with serving(Guard(token=TOKEN)) as served:
        assert (await served.ask(header))[0] == status


async def test_more_names_and_our_own_address() -> None:
    guard = Guard(names=LOOPBACK_NAMES | {"monitor.example"})
    assert guard.judge([(b"host", b"monitor.example:9464")], "10.1.2.3") == ""
    assert guard.judge([(b"host", b"10.1.2.3")], "10.1.2.3") == ""
    assert guard.judge([(b"host", b"10.1.2.4")], "10.1.2.3") == "host"
    assert guard.judge([(b"host", b"name")], "name") == "host"  # only an address is ours without being named


async def test_websockets_and_http2_get_nothing() -> None:
    upgrade = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 22 + "==",
    )
    async with serving() as served:
        assert (await served.ask(*upgrade))[0] == 403
        assert await served.ask() == (200, BODY)
        assert served.server.statistics().refused == {"websocket": 1}


@pytest.mark.parametrize("way", ["upgraded", "assumed"])
async def test_http2_gets_nothing(way: str) -> None:
    """One connection is one request, and HTTP/2 would carry any number."""
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    path = b"/metrics"
    block = b"\x82\x86\x44" + bytes([len(path)]) + path + b"\x41\x09localhost"  # GET, http, path, authority
    headers = len(block).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01" + block
    async with serving() as served:
        with trio.fail_after(4):  # and not after `timeout_s` only
            if way == "upgraded":
                assert (await served.ask(*upgrade))[0] == 101
            else:
                await served.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + headers)
        assert served.accepts == []
        assert served.server.statistics().refused == {"version": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"A" * 50_000,
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
    ],
    ids=lambda data: repr(data[:30]),
)
async def test_nonsense_ends_that_connection_only(data: bytes) -> None:
    async with serving() as served:
        answer = await served.send(data)
        assert not answer or answer[9:10] == b"4", answer[:200]
        assert await served.ask() == (200, BODY)
        counts = served.server.statistics()
        assert sum(counts.refused.values()) == 1
        assert counts.served == 1


async def test_slow_clients_are_cut_off_and_cost_the_others_nothing() -> None:
    async with serving(timeout_s=0.5, max_connections=20) as served, trio.open_nursery() as nursery:

        async def drip() -> None:
            stream = await served.connect()
            try:
                async with stream:
                    for byte in b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100:
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(0.05)
            except trio.BrokenResourceError:
                ended.append(trio.current_time() - began)

        began = trio.current_time()
        ended: list[float] = []
        for _ in range(10):
            nursery.start_soon(drip)
        async with await served.connect() as silent:
            assert await served.ask() == (200, BODY)
            assert trio.current_time() - began < 0.4
            assert await read_all(silent) == b""
            assert 0.3 < trio.current_time() - began < 3
    assert len(ended) == 10
    assert max(ended) < 3
    assert served.server.statistics().cut >= 10


async def test_clients_that_do_not_read_are_cut_off() -> None:
    huge = bytes(30_000_000)
    async with serving(page=lambda accept: ("text/plain", huge), timeout_s=0.4) as served:
        stream = await served.connect()
        async with stream:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await trio.sleep(1)
            assert len(await read_all(stream)) < len(huge)


async def test_stopping_does_not_wait_for_anybody() -> None:
    """hypercorn shields its sending: a client that does not read must not hold up the end of the program."""
    huge = bytes(30_000_000)
    async with AsyncExitStack() as stack:
        async with serving(page=lambda accept: ("text/plain", huge), timeout_s=60) as served:
            stream = await stack.enter_async_context(await served.connect())
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await stream.receive_some(10)
            began = trio.current_time()
        assert trio.current_time() - began < 1


async def test_too_many_connections() -> None:
    async with serving(max_connections=8, timeout_s=1) as served:
        streams = [await served.connect() for _ in range(200)]
        with trio.fail_after(5):
            while sum(served.server.statistics().refused.values()) < 192:  # noqa: ASYNC110 - real sockets have no event
                await trio.sleep(0.01)
        for stream in streams:
            await trio.aclose_forcefully(stream)
        with trio.fail_after(5):
            while (await served.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"))[9:12] != b"200":  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert served.server.statistics().refused["busy"] >= 192
