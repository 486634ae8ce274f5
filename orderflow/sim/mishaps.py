"""What happens on a stream in place of an answer to a request (faults of the opening and of REST)."""

from __future__ import annotations

import random
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from orderflow.sim.faults import Mishap

LONGEST_S: Final = 600.0
DRIPPED: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-Wait: " + b"." * 10_000
_HANG_UP: Final = getattr(select, "POLLRDHUP", 0x2000) | select.POLLHUP | select.POLLERR
_LINGER_RESET: Final = struct.pack("ii", 1, 0)


async def play(stream: trio.abc.Stream, mishap: Mishap) -> bool:
    """Let it happen. Returns: True when the request shall be answered after all."""
    match mishap.how:
        case "delay":
            await trio.sleep(mishap.seconds)
            return True
        case "drip":
            await _drip(stream, mishap.seconds)
        case "silent":
            await _until_gone(stream)
        case "garbage":
            await stream.send_all(mishap.data)
            await _until_gone(stream)
        case "reset":
            set_reset(stream)
    return False  # hangup, reset: the stream is closed by whoever serves it


def set_reset(stream: trio.abc.Stream) -> None:
    """From now on closing this stream resets the connection. Streams that are no sockets are closed plainly."""
    raw = getattr(stream, "transport_stream", stream)
    if isinstance(raw, trio.SocketStream):
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)


def hung_up(stream: trio.abc.Stream) -> bool:
    """Whether the peer has closed its side, found out without reading what it sent before."""
    raw = getattr(stream, "transport_stream", stream)
    if not isinstance(raw, trio.SocketStream):
        return False
    poll = select.poll()
    poll.register(raw.socket.fileno(), _HANG_UP)
    return bool(poll.poll(0))


def garbage(size: int, seed: int) -> bytes:
    """Bytes that are no HTTP: control characters among them, never `H` first."""
    return b"\x16\x03\x1b[2J" + random.Random(seed).randbytes(size)


async def _drip(stream: trio.abc.Stream, step_s: float) -> None:
    for byte in DRIPPED:
        await stream.send_all(bytes((byte,)))
        await trio.sleep(step_s)


async def _until_gone(stream: trio.abc.Stream) -> None:
    """Read and forget until the peer has had enough."""
    with trio.move_on_after(LONGEST_S):
        while await stream.receive_some(4096):
            pass
