"""Ways to read a socket: Trio's own streams, one that waits first, one that acknowledges at once; ours is in `net`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from orderflow.net.tcp import TcpStream

if TYPE_CHECKING:
    import ssl
    from typing import Any


class WaitingStream(trio.abc.Stream):
    """Waits, then reads, in the task that wants the bytes: `net.tcp.TcpStream` without its pump."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        number = self._stream.socket.fileno()
        while True:
            await trio.lowlevel.wait_readable(number)
            try:
                return os.read(number, max_bytes or 65_536)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class AcknowledgingStream(TcpStream):
    """The program's own, but what is read is acknowledged when the kernel sees fit: within the read."""

    def _acknowledge(self) -> None:
        pass


async def dial_acknowledging(host: str, port: int) -> trio.abc.Stream:
    return AcknowledgingStream(await trio.open_tcp_stream(host, port))


async def dial_waiting(host: str, port: int) -> trio.abc.Stream:
    return WaitingStream(await trio.open_tcp_stream(host, port))


async def dial_trio(host: str, port: int) -> trio.abc.Stream:
    """Trio's own stream, which reads first and waits when there was nothing."""
    return await trio.open_tcp_stream(host, port)


async def dial_trio_tls(context: ssl.SSLContext, host: str, port: int) -> trio.abc.Stream:
    """Trio's own TLS, which hands out a record at a time, over a stream that waits first."""
    transport: Any = await dial_waiting(host, port)
    stream: trio.SSLStream[Any] = trio.SSLStream(transport, context, server_hostname=host, https_compatible=True)
    await stream.do_handshake()
    return stream
