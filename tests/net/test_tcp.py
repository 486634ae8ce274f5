"""TcpStream is a Trio stream like any other, over real sockets."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
import trio.testing

from orderflow.net.tcp import TcpStream

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
