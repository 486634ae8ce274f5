"""A connected TCP socket as a Trio stream, made for receiving with little delay."""

from __future__ import annotations

import os
import socket
from operator import index
from typing import TYPE_CHECKING, Final

import trio

from orderflow.net.pump import PumpedStream, SocketPump

if TYPE_CHECKING:
    from orderflow.net.pump import Feed

_DEFAULT_BYTES: Final = 65_536
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)  # Linux


class TcpStream(PumpedStream):
    """A `trio.SocketStream` that waits before it reads.

    SocketStream reads first and waits when there was nothing: of a message that is waited for, that is a system call in
    vain, an exception and two context managers between the wake-up and its bytes. Waiting first costs a pass of the
    scheduler when there is more already, which a flood has once in a hundred messages.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._pump: SocketPump | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is None:
            max_bytes = _DEFAULT_BYTES
        elif index(max_bytes) < 1:
            raise ValueError("max_bytes must be >= 1")
        while True:
            number = await self._number()
            await trio.lowlevel.wait_readable(number)
            try:
                return os.read(number, max_bytes)
            except BlockingIOError:
                pass  # woken for nothing
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def pump(self, feed: Feed, max_bytes: int) -> None:
        """See `net.pump.pump`."""
        number = await self._number()
        if self._pump is not None:
            raise trio.BusyResourceError("another task is already receiving")
        self._acknowledge()
        self._pump = SocketPump(number, feed, max_bytes, self._acknowledge)
        try:
            await self._pump.run()
        finally:
            self._pump = None
        if self._stream.socket.fileno() < 0:
            raise trio.ClosedResourceError("another task closed this socket")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        if self._pump is not None:
            self._pump.stop()  # its number may soon be another socket's
        await self._stream.aclose()

    def _acknowledge(self) -> None:
        """Send the acknowledgement of what was read, and leave the next one to the next call.

        Left alone, Linux sends it within the read that empties the socket: half of the time such a read takes, spent
        while the message waits (`orderflow bench --only choices`, acknowledged by the read). Should nobody call, it
        sends it after 40 ms.
        """
        if _QUICKACK is not None:
            option = self._stream.socket.setsockopt
            try:
                option(socket.IPPROTO_TCP, _QUICKACK, 1)
                option(socket.IPPROTO_TCP, _QUICKACK, 0)
            except OSError:
                pass  # the socket was closed meanwhile

    async def _number(self) -> int:
        number = self._stream.socket.fileno()
        if number < 0:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this socket was already closed")
        return number
