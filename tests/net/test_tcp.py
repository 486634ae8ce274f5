"""TcpStream is a Trio stream like any other, over real sockets."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orderflow.net import tcp
from orderflow.net.tcp import TcpStream

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.socket


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


def stream_of(sock: socket.socket) -> TcpStream:
    sock.setblocking(False)
    return TcpStream(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))


async def make_streams() -> tuple[TcpStream, TcpStream]:
    client, server = pair()
    return stream_of(client), stream_of(server)


async def test_it_keeps_the_rules_of_a_stream() -> None:
    await trio.testing.check_two_way_stream(make_streams, None)


async def test_a_read_brings_all_there_is_up_to_its_limit() -> None:
    stream, peer = await make_streams()
    async with stream, peer:
        await peer.send_all(b"x" * 100)
        assert await stream.receive_some(60) == b"x" * 60
        assert await stream.receive_some() == b"x" * 40


async def test_a_reset_breaks_the_stream() -> None:
    client, server = pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    async with stream_of(client) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_woken_for_nothing_it_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Callable[[int, int], bytes]] = [nothing_there, nothing_there, os.read]
    stream, peer = await make_streams()
    async with stream, peer:
        await peer.send_all(b"there")
        monkeypatch.setattr("orderflow.net.tcp.os", Reads(reads))
        assert await stream.receive_some(10) == b"there"
    assert not reads


def nothing_there(number: int, max_bytes: int) -> bytes:
    raise BlockingIOError


class Reads:
    """`os` with these reads, one after the other."""

    def __init__(self, reads: list[Callable[[int, int], bytes]]) -> None:
        self._reads = reads

    def read(self, number: int, max_bytes: int) -> bytes:
        return self._reads.pop(0)(number, max_bytes)


async def test_a_closed_stream_lets_others_run_before_it_says_so() -> None:
    stream, peer = await make_streams()
    await peer.aclose()
    await stream.aclose()
    with trio.testing.assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


# --- acknowledging


def unacknowledged(sock: socket.socket) -> int:
    """Segments that the other end has not acknowledged: tcpi_unacked of the kernel's tcp_info, behind 24 bytes."""
    count: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 24)[0]
    return count


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="TCP_QUICKACK is Linux's")
async def test_what_is_read_is_acknowledged_once_it_is_handed_on_and_not_before() -> None:
    client, server = pair()
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seen: list[int] = []
    taken = trio.Event()

    def feed(data: bytes) -> bool:
        nonlocal taken
        seen.append(unacknowledged(server))
        taken.set()
        return data.endswith(b"!")

    with server:
        async with stream_of(client) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.pump, feed, 65_536)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(40):  # past the first sixteen, which a new connection acknowledges at once
                server.sendall(b"x" * (600 if number % 7 else 6000))
                with trio.fail_after(5):
                    await taken.wait()
                taken = trio.Event()
                await trio.testing.wait_all_tasks_blocked()
                assert unacknowledged(server) == 0
            server.sendall(b"!")
    assert seen[0] == seen[-2] == 1
    assert seen.count(1) > 30, seen


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="TCP_QUICKACK is Linux's")
async def test_a_socket_that_was_closed_meanwhile_is_not_acknowledged() -> None:
    client, server = pair()
    with server:
        stream = stream_of(client)
        await stream.aclose()
        stream._acknowledge()


async def test_where_the_platform_cannot_defer_it_nothing_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_QUICKACK", None)
    client, server = pair()
    with server:
        async with stream_of(client) as stream:
            server.sendall(b"1!")
            with trio.fail_after(5):
                await stream.pump(lambda data: data.endswith(b"!"), 10)
