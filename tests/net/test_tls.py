"""TLS over memory streams, with Trio's own SSLStream at the other end as the oracle."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.core.errors import ConnectFailed
from orderflow.net.tls import TlsStream, start_tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_AUTHORITY = trustme.CA()
_SERVER = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
_AUTHORITY.issue_cert("venue.test").configure_cert(_SERVER)


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context()
    _AUTHORITY.configure_trust(context)
    context.maximum_version = version
    return context


class Counted(trio.abc.HalfCloseableStream):
    """A memory stream that counts what is read from it."""

    def __init__(self, stream: trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]) -> None:
        self._stream = stream
        self.reads = 0
        self.waits = 0
        self.sent: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        self.waits += 1
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.reads += 1
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Pair:
    def __init__(self, client: TlsStream, server: trio.SSLStream[trio.abc.Stream], transport: Counted) -> None:
        self.client = client
        self.server = server
        self.transport = transport


@asynccontextmanager
async def tls_pair(context: ssl.SSLContext) -> AsyncIterator[Pair]:
    ours, theirs = trio.testing.memory_stream_pair()
    transport = Counted(ours)
    server = trio.SSLStream(theirs, _SERVER, server_side=True)
    client: TlsStream | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        client = await start_tls(transport, "venue.test", context)
    yield Pair(client, server, transport)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_all_records_that_have_arrived_come_with_one_read(version: ssl.TLSVersion) -> None:
    async with tls_pair(client_context(version)) as pair:
        await pair.server.send_all(b"first")  # with TLS 1.3 the session tickets come along
        assert await pair.client.receive_some(65_536) == b"first"
        before = pair.transport.reads
        for number in range(50):
            await pair.server.send_all(b"record %d;" % number)
        received = await pair.client.receive_some(65_536)
        assert received == b"".join(b"record %d;" % number for number in range(50))
        assert pair.transport.reads == before + 1


class CountedReads:
    """Of an SSLObject."""

    def __init__(self, ssl_object: ssl.SSLObject) -> None:
        self._ssl = ssl_object
        self.count = 0

    def read(self, length: int) -> bytes:
        self.count += 1
        return self._ssl.read(length)


async def test_a_record_that_came_alone_is_decrypted_with_one_call() -> None:
    """Another would say by an exception that there is nothing more, which costs more than the record."""
    async with tls_pair(client_context()) as pair:
        await pair.server.send_all(b"tickets")
        await pair.client.receive_some()
        reads = CountedReads(pair.client._ssl)
        pair.client._ssl = reads  # type: ignore[assignment]
        await pair.server.send_all(b"alone")
        received: list[bytes] = []

        def take(data: bytes) -> bool:
            received.append(data)
            return True

        pair.client._enter(bytes(await pair.transport.receive_some(65_536)))
        assert pair.client._hand_on(take)
        assert received == [b"alone"]
        assert reads.count == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=40_000), max_size=5), st.integers(1, 70_000))
def test_both_directions_carry_everything(pieces: list[bytes], max_bytes: int) -> None:
    sent = b"".join(pieces)

    async def send(stream: trio.abc.SendStream) -> None:
        for piece in pieces:
            await stream.send_all(piece)

    async def check(stream: trio.abc.ReceiveStream) -> None:
        received = b""
        while len(received) < len(sent):
            received += await stream.receive_some(max_bytes)
        assert received == sent

    async def main() -> None:
        async with tls_pair(client_context()) as pair, trio.open_nursery() as nursery:
            for stream in (pair.client, pair.server):
                nursery.start_soon(send, stream)
                nursery.start_soon(check, stream)

    trio.run(main)


@pytest.mark.parametrize("farewell", [True, False])
async def test_the_end_of_the_stream_comes_after_the_data(farewell: bool) -> None:
    async with tls_pair(client_context()) as pair:
        await pair.server.send_all(b"last words")
        await (pair.server.aclose() if farewell else pair.server.transport_stream.aclose())
        assert await pair.client.receive_some() == b"last words"
        assert await pair.client.receive_some() == b""
        assert await pair.client.receive_some() == b""


async def test_a_forged_record_breaks_the_stream_after_what_was_good() -> None:
    async with tls_pair(client_context()) as pair:
        await pair.server.send_all(b"good")
        await pair.server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await pair.client.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.receive_some()


async def test_reading_in_a_flood_lets_others_run() -> None:
    async with tls_pair(client_context()) as pair:
        await pair.server.send_all(b"x" * 1_000_000)
        async with trio.open_nursery() as nursery:
            laps: list[int] = []

            async def bystander() -> None:
                while True:
                    laps.append(1)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(bystander)
            size = reads = 0
            while size < 1_000_000:
                size += len(await pair.client.receive_some(1000))
                reads += 1
            assert reads > 10
            assert len(laps) >= reads - 1
            nursery.cancel_scope.cancel()


_REFUSED = "certificate of {} refused: "
_CLOSED = "venue.test closed during the TLS handshake"


@pytest.mark.parametrize(
    "host, context, answer, reason, detail",
    [
        ("other.test", client_context(), None, "tls", _REFUSED.format("other.test") + "Hostname mismatch"),
        ("venue.test", ssl.create_default_context(), None, "tls", _REFUSED.format("venue.test") + "unable to get"),
        (
            "venue.test",
            client_context(),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "tls",
            "no TLS with venue.test: WRONG_VERSION_NUMBER",
        ),
        ("venue.test", client_context(), b"", "closed", _CLOSED),
        ("venue.test", client_context(), b"\x16\x03\x03", "closed", _CLOSED),
    ],
)
async def test_a_handshake_that_fails_is_named(
    host: str, context: ssl.SSLContext, answer: bytes | None, reason: str, detail: str
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        if answer is None:
            with pytest.raises(trio.BrokenResourceError):
                await trio.SSLStream(theirs, _SERVER, server_side=True).do_handshake()
            return
        await theirs.receive_some()
        await theirs.send_all(answer)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ConnectFailed) as caught:
            await start_tls(ours, host, context)
        await ours.aclose()
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)


async def test_a_peer_whose_certificate_is_refused_is_told_why() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = trio.SSLStream(theirs, _SERVER, server_side=True)

    async def expect_alert() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.do_handshake()
        assert "ALERT" in str(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_alert)
        with pytest.raises(ConnectFailed):
            await start_tls(ours, "venue.test", ssl.create_default_context())


async def test_a_broken_transport_in_the_handshake_is_a_peer_that_closed() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    ours.receive_stream.close()
    with pytest.raises(ConnectFailed) as caught:
        await start_tls(ours, "venue.test", client_context())
    assert (caught.value.reason, caught.value.detail) == ("closed", _CLOSED)


async def test_nothing_to_send_sends_nothing() -> None:
    async with tls_pair(client_context()) as pair:
        with trio.testing.assert_checkpoints():
            await pair.client.send_all(b"")
        await pair.client.send_all(b"x")
        assert await pair.server.receive_some() == b"x"


async def test_closing_closes_the_transport_without_a_farewell() -> None:
    async with tls_pair(client_context()) as pair:
        await pair.client.aclose()
        assert await pair.server.transport_stream.receive_some() == b""


async def test_room_to_send_is_the_transports_once_nobody_sends() -> None:
    async with tls_pair(client_context()) as pair:
        waited: list[int] = []

        async def wait() -> None:
            await pair.client.wait_send_all_might_not_block()
            waited.append(1)

        async with trio.open_nursery() as nursery, pair.client._send_lock:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not waited
        assert pair.transport.waits == len(waited) == 1


async def test_a_pump_hands_on_until_its_task_is_wanted() -> None:
    async with tls_pair(client_context()) as pair:
        taken: list[bytes] = []

        def feed(data: bytes) -> bool:
            taken.append(data)
            return data.endswith(b"!") or not data

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.client.pump, feed, 1)
            for data in (b"one", b"two", b"three!"):
                await trio.testing.wait_all_tasks_blocked()
                await pair.server.send_all(data)
        assert taken == [b"one", b"two", b"three!"]
        await pair.server.send_all(b"four")
        await pair.server.transport_stream.aclose()
        await pair.client.pump(feed, 1)
        assert taken[3:] == [b"four", b""]


async def test_what_came_before_is_handed_on_without_waiting() -> None:
    """A pump that stopped at one read has nothing left; one that begins asks TLS first."""
    async with tls_pair(client_context()) as pair:
        await pair.server.send_all(b"x" * 10)
        before = pair.transport.reads
        pair.client._enter(bytes(await pair.transport._stream.receive_some()))
        with trio.testing.assert_checkpoints():
            assert (await pair.client.receive_some()).endswith(b"x" * 10)
        assert pair.transport.reads == before


async def test_the_end_is_told_once_a_pump_and_wakes_its_task() -> None:
    async with tls_pair(client_context()) as pair:
        await pair.server.aclose()
        for _ in range(2):
            taken: list[bytes] = []

            def feed(data: bytes, into: list[bytes] = taken) -> bool:
                into.append(data)
                return True

            await pair.client.pump(feed, 1)
            assert taken == [b""]


async def test_a_bad_record_is_answered_with_an_alert() -> None:
    """As soon as there is something good to hand on; else the error says it all."""
    async with tls_pair(client_context()) as pair:
        await pair.server.send_all(b"good")
        await pair.server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await pair.client.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await pair.server.receive_some()
        assert "ALERT" in str(caught.value.__cause__)


@pytest.mark.parametrize("alert", [True, False])
async def test_an_error_right_behind_what_is_good_needs_no_more_bytes_to_be_told(alert: bool) -> None:
    async with tls_pair(client_context()) as pair:
        taken: list[bytes] = []

        def feed(data: bytes) -> bool:
            taken.append(data)
            if not alert:
                pair.client._outgoing.read()
            return False

        await pair.server.send_all(b"good")
        await pair.server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
            await pair.client.pump(feed, 1)
        assert b"".join(taken) == b"good"
        if alert:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await pair.server.receive_some()
            assert "ALERT" in str(caught.value.__cause__)


async def test_what_tls_itself_has_to_say_is_sent_while_a_pump_goes_on() -> None:
    """Such as its answer to a key update, which Python's `ssl` cannot ask for."""
    async with tls_pair(client_context()) as pair, trio.open_nursery() as nursery:

        def feed(data: bytes) -> bool:
            pair.client._outgoing.write(b"said by TLS")
            return False

        before = len(pair.transport.sent)
        nursery.start_soon(pair.client.pump, feed, 1)
        for count in (1, 2):
            await pair.server.send_all(b"data")
            await trio.testing.wait_all_tasks_blocked()
            assert pair.transport.sent[before:] == [b"said by TLS"] * count
        nursery.cancel_scope.cancel()


async def test_writing_after_a_broken_record_is_a_broken_stream() -> None:
    async with tls_pair(client_context()) as pair:
        await pair.server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.send_all(b"x")


async def test_a_lost_transport_is_a_lost_stream() -> None:
    async with tls_pair(client_context()) as pair:
        await pair.transport.aclose()
        for operation in (partial(pair.client.send_all, b"x"), pair.client.receive_some):
            with pytest.raises(trio.ClosedResourceError):
                await operation()
