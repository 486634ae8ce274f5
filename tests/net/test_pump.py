"""Sockets are read by the event loop, before any task has its turn, and nothing is lost or read twice for it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orderflow.net.pump import SocketPump, _EarlyReader, _of_this_run, pump
from tests.net.test_tcp import make_streams, pair, stream_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderflow.net.tcp import TcpStream


class Feed:
    """Takes what comes; wants its task after `wanted`, or raises `error` then."""

    def __init__(self, wanted: bytes = b"!", error: BaseException | None = None) -> None:
        self.taken: list[bytes] = []
        self._wanted = wanted
        self._error = error
        self.some = trio.Event()

    def __call__(self, data: bytes) -> bool:
        self.taken.append(data)
        self.some.set()
        if data and not data.endswith(self._wanted):
            return False
        if self._error is not None:
            raise self._error
        return True

    async def next(self) -> None:
        with trio.fail_after(5):
            await self.some.wait()
        self.some = trio.Event()


@pytest.fixture
async def streams() -> AsyncIterator[tuple[TcpStream, socket.socket]]:
    client, server = pair()
    async with stream_of(client) as stream:
        with server:
            yield stream, server


Streams = tuple["TcpStream", socket.socket]


@pytest.mark.socket
class TestSockets:
    async def test_what_comes_is_handed_on_until_the_task_is_wanted(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.pump, feed, 100)
            for piece in (b"one", b"two", b"three!"):
                peer.sendall(piece)
                await feed.next()
        assert feed.taken == [b"one", b"two", b"three!"]
        peer.sendall(b"not pumped")
        assert await stream.receive_some() == b"not pumped"
        assert len(feed.taken) == 3

    async def test_a_stream_that_can_pump_does(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        peer.sendall(b"12!")
        with trio.fail_after(5):
            await pump(stream, feed, 2)
        assert feed.taken == [b"12", b"!"]

    async def test_it_can_be_pumped_again(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        for piece in (b"1!", b"2!"):
            peer.sendall(piece)
            with trio.fail_after(5):
                await stream.pump(feed, 100)
        assert feed.taken == [b"1!", b"2!"]

    async def test_no_more_is_read_than_asked_for(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        peer.sendall(b"12345678!")
        with trio.fail_after(5):
            await stream.pump(feed, 4)
        assert feed.taken == [b"1234", b"5678", b"!"]

    async def test_it_is_read_before_any_task_has_its_turn(self, streams: Streams) -> None:
        """A task that was runnable before the bytes came still finds them taken when it runs next."""
        stream, peer = streams
        feed = Feed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.pump, feed, 100)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(20):
                peer.sendall(b"%d" % number)
                await trio.lowlevel.checkpoint()  # one pass
                assert feed.taken[-1] == b"%d" % number
            nursery.cancel_scope.cancel()

    async def test_the_task_comes_back_although_nothing_is_left_to_wake_it(self, streams: Streams) -> None:
        """What the event loop did not see coming, but the pump read: the kernel tells of it no more."""
        stream, peer = streams
        feed = Feed()
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.pump, feed, 100)
                await trio.testing.wait_all_tasks_blocked()
                peer.sendall(b"now!")
                running = stream._pump
                assert isinstance(running, SocketPump)
                running.look()
                assert feed.taken == [b"now!"]
                running.look()  # it wants its task first
        assert feed.taken == [b"now!"]

    async def test_what_goes_wrong_is_raised_in_the_task(self, streams: Streams) -> None:
        stream, peer = streams
        error = OSError("not of the socket")
        peer.sendall(b"bad!")
        with pytest.raises(OSError) as caught, trio.fail_after(5):
            await stream.pump(Feed(error=error), 100)
        assert caught.value is error

    async def test_the_end_is_handed_on_once(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        peer.sendall(b"last")
        peer.close()
        with trio.fail_after(5):
            await stream.pump(feed, 100)
        assert feed.taken == [b"last", b""]

    async def test_a_reset_breaks_it(self, streams: Streams) -> None:
        stream, peer = streams
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(trio.BrokenResourceError) as caught, trio.fail_after(5):
            await stream.pump(Feed(), 100)
        assert isinstance(caught.value.__cause__, ConnectionResetError)

    async def test_cancelled_it_reads_no_more(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.pump, feed, 100)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        peer.sendall(b"later")
        await trio.testing.wait_all_tasks_blocked()
        assert not feed.taken
        assert await stream.receive_some() == b"later"

    async def test_closed_meanwhile_it_says_so_and_reads_no_other_socket_of_that_number(self, streams: Streams) -> None:
        stream, _ = streams
        feed = Feed()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.write(writer, b"somebody else's")
        takes_over = TakesOver(stream, reader)

        async def expect_closed() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.pump(feed, 100)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_closed)
                await trio.testing.wait_all_tasks_blocked()
                trio.lowlevel.add_instrument(takes_over)
                await stream.aclose()
        trio.lowlevel.remove_instrument(takes_over)
        assert takes_over.is_done
        assert os.read(takes_over.number, 100) == b"somebody else's"
        for descriptor in (takes_over.number, reader, writer):
            os.close(descriptor)
        assert not feed.taken
        with pytest.raises(trio.ClosedResourceError):
            await stream.pump(feed, 100)

    async def test_one_task_at_a_time(self, streams: Streams) -> None:
        stream, peer = streams
        feed = Feed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.pump, feed, 100)
            await trio.testing.wait_all_tasks_blocked()
            running = stream._pump
            with pytest.raises(trio.BusyResourceError):
                await stream.pump(Feed(), 100)
            assert stream._pump is running  # or nobody could stop it
            with pytest.raises(trio.BusyResourceError):
                await stream.receive_some()
            peer.sendall(b"mine!")
        assert feed.taken == [b"mine!"]

    async def test_many_streams_at_once(self) -> None:
        feeds = [Feed() for _ in range(5)]
        ends = [pair() for _ in feeds]
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for (client, _), feed in zip(ends, feeds, strict=True):
                    nursery.start_soon(stream_of(client).pump, feed, 100)
                for number, (_, server) in enumerate(ends):
                    server.sendall(b"%d" % number)
                for feed in feeds:
                    await feed.next()
                for _, server in ends:
                    server.sendall(b"!")
        assert [b"".join(feed.taken) for feed in feeds] == [b"%d!" % number for number in range(5)]
        for end in ends:
            for sock in end:
                sock.close()

    async def test_everything_arrives_in_order_beside_a_busy_loop(self, streams: Streams) -> None:
        stream, peer = streams
        peer.setblocking(False)
        sent = os.urandom(2_000_000).replace(b"!", b"?") + b"!"
        feed = Feed()

        async def send() -> None:
            async with stream_of(peer.dup()) as sender:
                await sender.send_all(sent)

        async def spin() -> None:
            while True:
                await trio.lowlevel.checkpoint()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(spin)
                await stream.pump(feed, 65_536)
                nursery.cancel_scope.cancel()
        assert b"".join(feed.taken) == sent


class TakesOver(trio.abc.Instrument):
    """Gives an open file the number of the stream's socket as soon as a task has closed that."""

    def __init__(self, stream: TcpStream, source: int) -> None:
        self._socket = stream._stream.socket
        self._source = source
        self.number = self._socket.fileno()
        self.is_done = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.is_done and self._socket.fileno() < 0:
            os.dup2(self._source, self.number)
            self.is_done = True


@pytest.mark.socket
async def test_nobody_looks_once_nothing_is_pumped(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [pair() for _ in range(3)]
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for client, _ in ends:
                nursery.start_soon(stream_of(client).pump, Feed(), 100)
            for _, server in ends:
                await trio.testing.wait_all_tasks_blocked()
                server.sendall(b"!")
    looks: list[float] = []
    monkeypatch.setattr(_EarlyReader, "after_io_wait", looks.append)
    await trio.testing.wait_all_tasks_blocked()
    assert not looks
    assert not _of_this_run.get()._pumps
    for end in ends:
        for sock in end:
            sock.close()


@pytest.mark.socket
def test_each_run_of_trio_has_a_reader_of_its_own() -> None:
    async def main() -> bytes:
        stream, peer = await make_streams()
        feed = Feed()
        async with stream, peer:
            await peer.send_all(b"x!")
            with trio.fail_after(5):
                await stream.pump(feed, 100)
        return b"".join(feed.taken)

    assert [trio.run(main) for _ in range(2)] == [b"x!", b"x!"]


async def test_a_stream_that_cannot_pump_is_received_from() -> None:
    sender, receiver = trio.testing.memory_stream_one_way_pair()
    feed = Feed()
    stream = trio.StapledStream(sender, receiver)
    for piece in (b"one", b"two!", b"three"):
        await sender.send_all(piece)
        if piece == b"one":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, stream, feed, 100)
                await trio.testing.wait_all_tasks_blocked()
                await sender.send_all(b"and")
                await trio.testing.wait_all_tasks_blocked()
                await sender.send_all(b"two!")
            break
    assert feed.taken == [b"one", b"and", b"two!"]
    await sender.aclose()
    await pump(stream, feed, 100)
    assert feed.taken[-1] == b""
