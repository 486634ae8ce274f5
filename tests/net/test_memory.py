"""A hostile peer that sends without end costs bounded memory, over real sockets, and is told why it is left."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio

from orderflow.core.errors import OrderflowError
from orderflow.core.policy import LinkPolicy
from orderflow.net.ws import open_ws
from tests.net.test_frames import CONTINUATION, PING, TEXT, frame
from tests.net.test_ws import Venue, ignore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.socket

MIB: Final = 1 << 20
POLICY: Final = LinkPolicy(max_message_bytes=MIB, open_timeout_s=1, close_timeout_s=0.2)
SENT: Final = 24 * MIB  # at most; what is refused earlier is not sent to the end
BOUND: Final = 4 * MIB  # one message, one read, and what both take on their way


class Flood(NamedTuple):
    """Args: upgraded: whether it begins behind a good upgrade; first, then: what is sent, `then` again and again."""

    name: str
    first: bytes
    then: bytes
    reason: str
    upgraded: bool = True
    total: int = SENT


BLOCK: Final = b"x" * 65_536
FLOODS: Final = (
    Flood("head", b"HTTP/1.1 101 Switching Protocols\r\nX: ", BLOCK, "garbage", upgraded=False),
    Flood("nonsense", b"", BLOCK, "garbage", upgraded=False),
    Flood("declared", b"\x81\x7f" + struct.pack("!Q", 2**62), BLOCK, "protocol"),
    Flood("fragments", frame(TEXT, BLOCK, fin=False), frame(CONTINUATION, BLOCK, fin=False), "protocol"),
    Flood("small fragments", frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"x", fin=False) * 100, "protocol"),
    Flood("empty fragments", frame(TEXT, fin=False), frame(CONTINUATION, fin=False) * 100, "protocol"),
    Flood("no UTF-8", frame(TEXT, b"\xff" * MIB)[:500_000], BLOCK, "protocol"),
    Flood("good messages", b"", frame(TEXT, BLOCK[:60_000]), "eof"),
    Flood("pings", b"", frame(PING, b"x" * 125) * 50, "eof", total=MIB // 8),
)


def parts(flood: Flood) -> Iterator[bytes]:
    yield flood.first
    for _ in range(0, flood.total, max(len(flood.then), 4096)):
        yield flood.then


async def serve(flood: Flood, stream: trio.SocketStream) -> None:
    async with trio.open_nursery() as nursery:
        with contextlib.suppress(trio.BrokenResourceError):
            if flood.upgraded:
                await Venue(stream).accept()
            nursery.start_soon(drain, stream)
            for part in parts(flood):
                await stream.send_all(part)
        await stream.aclose()


async def drain(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some():
            pass


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
async def test_a_peer_without_end_costs_no_memory(flood: Flood) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, partial(serve, flood), 0, host="127.0.0.1"))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        tracemalloc.start()
        try:
            with pytest.raises(OrderflowError) as caught:
                async with open_ws(url, ignore, POLICY) as link:
                    await link.wait_closed()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()
    reasons = ("eof", "reset") if flood.reason == "eof" else (flood.reason,)  # it may close with our pongs unread
    assert caught.value.reason in reasons
    assert peak < BOUND
