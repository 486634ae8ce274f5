"""TcpStream is a Trio stream like any other, over real sockets."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

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
