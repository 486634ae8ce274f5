"""TLS for the client's side of one stream, made for receiving.

`trio.SSLStream` hands out one TLS record per call, with a scheduler pass each. A venue writes a record per message,
so under load that costs more than everything else about a message. This stream decrypts every record that one socket
read brought before it returns. Certificates and names are checked by the `ssl` module, in the handshake.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trio

from orderflow.core.errors import ConnectFailed
from orderflow.core.text import escape_text
from orderflow.net.pump import PumpedStream, pump

if TYPE_CHECKING:
    from orderflow.net.pump import Feed

_RECORD_BYTES = 16_384
_READ_BYTES = 65_536
_STREAM_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError)


async def start_tls(transport: trio.abc.Stream, host: str, context: ssl.SSLContext) -> TlsStream:
    """Do the TLS handshake as a client of `host` on `transport`, which the caller closes whatever happens.

    Raises: ConnectFailed: tls with the certificate error itself, or closed.
    """
    stream = TlsStream(transport, host, context)
    try:
        await stream.do_handshake()
    except ssl.SSLError as error:
        raise _handshake_failed(host, error) from error
    except _STREAM_ERRORS as error:
        raise ConnectFailed(f"{host} closed during the TLS handshake", reason="closed") from error
    return stream


class TlsStream(PumpedStream):
    """Made by `start_tls`. One task may send while another receives. Errors are those of any Trio stream.

    A peer that closes TCP without TLS's farewell is an ordinary end of stream, and so are we: a WebSocket has its own.
    """

    def __init__(self, transport: trio.abc.Stream, host: str, context: ssl.SSLContext) -> None:
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._send_lock = trio.StrictFIFOLock()
        self._over: ssl.SSLError | None = None  # nothing more can be read; may be just an end without a farewell

    async def do_handshake(self) -> None:
        """Raises: ssl.SSLError, or the transport's errors."""
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush_quietly()
                raise
            else:
                return await self._flush()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """All that can be decrypted without waiting, once there is anything; b"" at the end of the stream.

        That is what one read of the transport brought (64 KiB): `max_bytes` is not looked at.
        """
        received = b""

        def take(data: bytes) -> bool:
            nonlocal received
            received = data
            return True

        await self.pump(take, _READ_BYTES)
        return received

    async def pump(self, feed: Feed, max_bytes: int) -> None:
        """See `net.pump.pump`."""
        await trio.lowlevel.checkpoint()
        is_wanted = self._hand_on(feed)

        def take(data: bytes) -> bool:
            nonlocal is_wanted
            self._enter(data)
            is_wanted = self._hand_on(feed)
            return is_wanted or self._outgoing.pending > 0 or self._over is not None

        while True:
            if self._outgoing.pending:
                await self._flush_quietly()  # an answer of TLS itself: to a key update, or an alert
            if is_wanted:
                return
            if self._over is None:
                await pump(self._transport, take, _READ_BYTES)
            else:
                is_wanted = self._hand_on(feed)  # the error that came right behind what was good

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not data:
            await trio.lowlevel.checkpoint()
            return
        try:
            self._ssl.write(data)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        async with self._send_lock:
            await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _decrypt(self) -> tuple[bytes, bool]:
        """(what has arrived, whether the stream has ended). An error waits until what came before it was fetched."""
        pieces: list[bytes] = []
        ended = False
        read, keep = self._ssl.read, pieces.append
        try:
            if self._over is None:
                piece = read(_RECORD_BYTES)
                if piece and not self._incoming.pending:  # it came alone: to ask for more would cost an exception
                    return piece, False
                while piece:
                    keep(piece)
                    piece = read(_RECORD_BYTES)
                ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._over = error
        if self._over is not None and not pieces:
            if not _is_end(self._over):
                raise trio.BrokenResourceError from self._over
            ended = True
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), ended

    def _hand_on(self, feed: Feed) -> bool:
        """What has arrived, and the end. Returns: whether `feed` wants its task."""
        data, ended = self._decrypt()
        if data and feed(data):
            return True
        return ended and feed(b"")

    async def _fill(self) -> None:
        self._enter(bytes(await self._transport.receive_some(_READ_BYTES)))

    def _enter(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        """Send what TLS has ready. Taken out under the lock, so that records leave in their order."""
        async with self._send_lock:
            if data := self._outgoing.read():
                await self._transport.send_all(data)

    async def _flush_quietly(self) -> None:
        """Where the peer need not learn, and a broken transport shows itself at the next read."""
        try:
            await self._flush()
        except _STREAM_ERRORS:
            pass


def _handshake_failed(host: str, error: ssl.SSLError) -> ConnectFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectFailed(f"certificate of {host} refused: {escape_text(error.verify_message)}", reason="tls")
    if _is_end(error):
        return ConnectFailed(f"{host} closed during the TLS handshake", reason="closed")
    return ConnectFailed(f"no TLS with {host}: {escape_text(error.reason or str(error))}", reason="tls")


def _is_end(error: ssl.SSLError) -> bool:
    ends = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return isinstance(error, ends) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
