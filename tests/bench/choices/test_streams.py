"""A stream that waits, then reads, is a stream."""

from __future__ import annotations

import pytest
import trio

from orderflow.bench.choices.streams import WaitingStream


@pytest.mark.socket
async def test_it_carries_bytes_both_ways_to_the_end() -> None:
    ours, theirs = trio.socket.socketpair()
    stream, peer = WaitingStream(trio.SocketStream(ours)), trio.SocketStream(theirs)
    async with stream, peer:
        await peer.send_all(b"forth")
        assert await stream.receive_some(2) + await stream.receive_some() == b"forth"
        await stream.send_all(b"back")
        await stream.wait_send_all_might_not_block()
        assert await peer.receive_some() == b"back"
        await peer.send_eof()
        assert await stream.receive_some() == b""
