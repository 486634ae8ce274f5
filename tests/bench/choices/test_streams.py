"""Streams that read, or acknowledge, otherwise are streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.bench.choices.streams import AcknowledgingStream, WaitingStream

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.socket
@pytest.mark.parametrize("kind", [WaitingStream, AcknowledgingStream])
async def test_it_carries_bytes_both_ways_to_the_end(kind: Callable[[trio.SocketStream], trio.abc.Stream]) -> None:
    ours, theirs = trio.socket.socketpair()
    stream, peer = kind(trio.SocketStream(ours)), trio.SocketStream(theirs)
    async with stream, peer:
        await peer.send_all(b"forth")
        assert await stream.receive_some(2) + await stream.receive_some() == b"forth"
        await stream.send_all(b"back")
        await stream.wait_send_all_might_not_block()
        assert await peer.receive_some() == b"back"
        await peer.send_eof()
        assert await stream.receive_some() == b""
