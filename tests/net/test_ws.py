"""Links over memory streams with the clock under test control, and over real sockets where only those will do."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trio_websocket
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage
from wsproto.utilities import generate_accept_token

from orderflow.core.errors import (
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    FatalFeedError,
    FeedOverrun,
    HeartbeatLost,
    MisuseError,
    ProtocolViolation,
    UpgradeRefused,
)
from orderflow.core.policy import LinkPolicy
from orderflow.net.dial import Endpoint, make_ssl_context, parse_endpoint
from orderflow.net.ws import WebSocketLink, open_ws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from orderflow.net.frames import FrameCutter

POLICY = LinkPolicy()
URL = "ws://venue.test/v5/public/linear?x=1"
PING, PONG = b"\x89\x01p", b"\x8a\x01p"


def text_frame(text: str | bytes) -> bytes:
    return frame(0x81, text.encode() if isinstance(text, str) else text)


def frame(first: int, payload: bytes) -> bytes:
    if len(payload) <= 125:
        return bytes((first, len(payload))) + payload
    return struct.pack("!BBH", first, 126, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(0x88, struct.pack("!H", code) + reason.encode())


class Venue:
    """The server's end of a link, by hand: what it hears is parsed by wsproto, what it says is bytes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.request = b""
        self._ear = Connection(ConnectionType.SERVER)
        self._heard: deque[Event] = deque()

    async def read_request(self) -> None:
        while b"\r\n\r\n" not in self.request:
            data = await self.stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("the client went without asking")
            self.request += data

    async def accept(self, then: bytes = b"", *, token: bytes | None = None, header: bytes = b"") -> None:
        await self.read_request()
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", self.request)
        assert key is not None
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        token = token if token is not None else generate_accept_token(key[1])
        await self.stream.send_all(answer + header + b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n" + then)

    async def hear(self) -> Event | None:
        """The next thing the client says; None when it has closed the stream."""
        while not self._heard:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._ear.receive_data(data)
            self._heard.extend(self._ear.events())
        return self._heard.popleft()


class Recorder(trio.abc.Stream):
    """Keeps what is written instead of passing it on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.written = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Inbox:
    """An `on_batch` that keeps what it gets."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[bytes], int, int]] = []
        self._arrived = trio.Event()

    def __call__(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        self.batches.append((messages, recv_ns, mono_ns))
        self._arrived.set()
        self._arrived = trio.Event()

    @property
    def messages(self) -> list[bytes]:
        return [message for batch, _, _ in self.batches for message in batch]

    async def wait_for(self, count: int) -> None:
        while len(self.messages) < count:
            await self._arrived.wait()


Script = "Callable[[Venue], Awaitable[object]]"


def ignore(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
    """An `on_batch` for tests that are about something else."""


@asynccontextmanager
async def linked(
    script: Script,
    on_batch: Callable[[list[bytes], int, int], None] = ignore,
    policy: LinkPolicy = POLICY,
    *,
    cutter: FrameCutter | None = None,
    answer_s: float = 0.0,
) -> AsyncIterator[WebSocketLink]:
    """A link to a venue that plays `script` on the other end of a memory stream, then waits for the client to go."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(host: str, port: int) -> trio.abc.Stream:
        return ours

    async def play() -> None:
        await script(Venue(theirs))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        error: Exception | None = None
        try:
            async with open_ws(URL, on_batch, policy, dial=dial, cutter=cutter, answer_s=answer_s) as link:
                yield link
        except Exception as caught:  # noqa: BLE001 - handed on, outside of this nursery's group
            error = caught
    if error is not None:
        raise error


# --- an open link -------------------------------------------------------------------------------------------------


async def test_messages_of_one_read_come_as_one_batch_with_one_stamp(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox()
    ticks = iter(range(1, 100))

    async def script(venue: Venue) -> None:
        await venue.accept()
        await venue.stream.send_all(text_frame("a") + PING + text_frame("b" * 300) + text_frame("c")[:1])
        await inbox.wait_for(2)
        await venue.stream.send_all(text_frame("c")[1:])

    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(host: str, port: int) -> trio.abc.Stream:
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Venue(theirs))
        async with open_ws(URL, inbox, POLICY, dial=dial, clock=lambda: (next(ticks), next(ticks))) as link:
            await inbox.wait_for(3)
            statistics = link.statistics()
    assert [batch for batch, _, _ in inbox.batches] == [[b"a", b"b" * 300], [b"c"]]
    assert [stamps for _, *stamps in inbox.batches] == [[1, 2], [3, 4]]
    assert (statistics.reads, statistics.messages, statistics.bytes) == (2, 3, 3 + 3 + 304 + 3)
    assert (statistics.control_bytes, statistics.last_read_mono_ns) == (3, 4)


@pytest.mark.parametrize("count", [1, 32, 33, 64, 100])
async def test_a_long_read_is_handed_on_in_parts_with_its_one_stamp(
    count: int, autojump_clock: trio.testing.MockClock
) -> None:
    inbox = Inbox()
    texts = [f"message {number}".encode() for number in range(count)]
    async with linked(partial(Venue.accept, then=b"".join(map(text_frame, texts))), inbox) as link:
        await inbox.wait_for(count)
        assert link.statistics().messages == count
    assert inbox.messages == texts
    assert [len(batch) for batch, _, _ in inbox.batches] == [32] * (count // 32) + [count % 32] * (count % 32 > 0)
    assert len({(recv_ns, mono_ns) for _, recv_ns, mono_ns in inbox.batches}) == 1


async def test_a_link_that_ends_within_a_read_hands_on_no_more_of_it(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox()

    def overrun(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        inbox(messages, recv_ns, mono_ns)
        if len(inbox.batches) == 2:
            raise FeedOverrun("queue full")

    with pytest.raises(FeedOverrun):
        async with linked(partial(Venue.accept, then=text_frame("x") * 100), overrun):
            await trio.sleep_forever()
    assert len(inbox.messages) == 64


async def test_the_upgrade_asks_for_what_the_url_says(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    asked: list[object] = []

    async def dial(host: str, port: int) -> trio.abc.Stream:
        asked.append((host, port))
        return ours

    venue = Venue(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.accept)
        async with open_ws("ws://venue.test:9000/p/q?r=1", ignore, POLICY, dial=dial, extra_headers=[("X-A", "b")]):
            pass
    assert asked == [("venue.test", 9000)]
    assert venue.request.startswith(b"GET /p/q?r=1 HTTP/1.1\r\nHost: venue.test:9000\r\n")
    assert b"\r\nX-A: b\r\n" in venue.request


async def test_data_right_behind_the_upgrade_waits_for_the_block(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox()
    async with linked(partial(Venue.accept, then=text_frame("early") + text_frame("bird")), inbox):
        assert inbox.batches == []
        await inbox.wait_for(2)
    assert [batch for batch, _, _ in inbox.batches] == [[b"early", b"bird"]]


async def test_what_is_sent_arrives_and_leaving_says_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[Event | None] = []

    async def script(venue: Venue) -> None:
        await venue.accept()
        heard.append(await venue.hear())
        heard.append(await venue.hear())
        await venue.stream.send_all(text_frame("late") + close_frame(1000))
        heard.append(await venue.hear())

    inbox = Inbox()
    began = trio.current_time()
    async with linked(script, inbox) as link:
        await link.send("hello é")
    assert heard == [TextMessage(data="hello é"), CloseConnection(code=1000, reason=""), None]
    assert trio.current_time() == began
    assert inbox.batches == []


async def test_non_ascii_in_the_answer_does_not_matter(autojump_clock: trio.testing.MockClock) -> None:
    async with linked(partial(Venue.accept, header="Server: é\r\n".encode())) as link:
        assert link.statistics().messages == 0


async def test_an_answer_in_single_bytes_is_understood(autojump_clock: trio.testing.MockClock) -> None:
    async def script(venue: Venue) -> None:
        stream = venue.stream
        venue.stream = Recorder(stream)
        await venue.accept(then=text_frame("x" * 200))
        for byte in venue.stream.written:
            await stream.send_all(bytes((byte,)))
            await trio.testing.wait_all_tasks_blocked()

    inbox = Inbox()
    async with linked(script, inbox):
        await inbox.wait_for(1)
    assert inbox.messages == [b"x" * 200]


# --- opening fails ------------------------------------------------------------------------------------------------


async def opening_error(script: Script) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with linked(script):
            pytest.fail("the link opened")
    return caught.value


async def says(answer: bytes, venue: Venue) -> None:
    """Answer the upgrade with `answer` and keep the connection open until the client closes it."""
    await venue.read_request()
    await venue.stream.send_all(answer)
    assert await venue.hear() is None


async def test_silence_ends_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    error = await opening_error(partial(says, b""))
    assert error.reason == "timeout"
    assert error.detail == "no answer to upgrade after 10 s; nothing received"
    assert trio.current_time() - began == pytest.approx(10)


async def test_frozen_while_opening_nobody_is_blamed(autojump_clock: trio.testing.MockClock) -> None:
    """The answer may be in the socket, or on its way; the deadline passed while nobody looked."""

    async def freeze(venue: Venue) -> None:
        await venue.read_request()
        autojump_clock.jump(60)
        with contextlib.suppress(trio.BrokenResourceError):
            await venue.hear()

    error = await opening_error(freeze)
    assert error.reason == "stall"
    assert error.detail == "the program stood still for 50.0 s while connecting"


async def test_dripping_ends_at_the_deadline_with_the_first_bytes(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(venue: Venue) -> None:
        await venue.stream.send_all(b"HTTP/1.1 101\x1b[2J\r\n")
        try:
            while True:
                await trio.sleep(0.5)
                await venue.stream.send_all(b"X")
        except trio.BrokenResourceError:
            return

    began = trio.current_time()
    error = await opening_error(drip)
    assert error.reason == "timeout"
    assert r"received HTTP/1.1 101\x1b[2J\r\n" in error.detail
    assert "\x1b" not in error.detail
    assert 10 <= trio.current_time() - began <= 10.5  # the venue notices at its next byte


@pytest.mark.parametrize("url, stage", [(URL, "no connection"), ("wss://venue.test/", "no TLS handshake")])
async def test_the_deadline_covers_dialling_and_tls(
    url: str, stage: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        if url == URL:
            await trio.sleep_forever()
        return trio.testing.memory_stream_pair()[0]

    with pytest.raises(ConnectFailed) as caught:
        async with open_ws(url, ignore, POLICY, dial=dial):
            pytest.fail("the link opened")
    assert caught.value.reason == "timeout"
    assert caught.value.detail.startswith(stage)
    assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"H\n\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 1011 X\r\n\r\n",
        b"HTTP/1.1 101 X\r\nA: " + b"x" * 20_000,
        b"HTTP/1.1 101 X\r\nA: " + b"x" * 17_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n",
        b"HTTP/1.1 101 X\r\nbad header\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
    ],
)
async def test_nonsense_is_refused_at_once(answer: bytes, autojump_clock: trio.testing.MockClock) -> None:
    error = await opening_error(partial(says, answer))
    assert error.reason == "garbage"
    assert "received" in error.detail
    assert error.detail.isprintable()
    assert len(error.detail) < 600
    assert trio.current_time() == 0


async def test_the_reason_for_refusing_an_answer_is_named(autojump_clock: trio.testing.MockClock) -> None:
    error = await opening_error(partial(Venue.accept, token=b"forged"))
    assert "Bad accept token" in error.detail


@pytest.mark.parametrize(
    "header", [b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"Sec-WebSocket-Protocol: \xe9\r\n"]
)
async def test_answers_to_what_was_not_asked_are_refused(header: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async def script(venue: Venue) -> None:
        await venue.accept(header=header)
        assert await venue.hear() is None

    assert (await opening_error(script)).reason == "garbage"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switch"])
async def test_hanging_up_is_reported_at_once(answer: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async def hang_up(venue: Venue) -> None:
        await venue.read_request()
        await venue.stream.send_all(answer)
        await venue.stream.aclose()

    error = await opening_error(hang_up)
    assert error.reason == "closed"
    assert error.detail.startswith("closed during upgrade")
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "answer, status, retry_after_s, text",
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 503, None, "HTTP 503 Service Unavailable instead"),
        (b"HTTP/1.0 403 Forbidden\r\nContent-Length: 5\r\n\r\nno!!!", 403, None, "HTTP 403"),
        (b"HTTP/1.1 403\r\n\r\n", 403, None, "HTTP 403 instead"),
        (b"HTTP/1.1 429 Slow\r\nretry-AFTER:  120\r\nX: y\r\n\r\n", 429, 120.0, "HTTP 429"),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: -5\r\n\r\n", 429, None, "HTTP 429"),
        (b"HTTP/1.1 429 Slow\nRetry-After: 7\n\n", 429, 7.0, "HTTP 429"),
        (
            b"HTTP/1.1 429 Slow\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\n"
            b"Retry-After: Mon, 21 Sep 2026 14:15:20 GMT \r\n\r\n",
            429,
            120.0,
            "HTTP 429",
        ),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: Mon, 21 Sep 2009 14:15:20 GMT\r\n\r\n", 429, 0.0, "HTTP 429"),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: \xff7\r\n\r\n", 429, None, "HTTP 429"),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: " + b"9" * 500 + b"\r\n\r\n", 429, None, "HTTP 429"),
        (b"HTTP/1.1 302 Found\r\nLocation: wss://evil/\x1b[2J\r\n\r\n", 302, None, r"to wss://evil/\x1b[2J"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, None, "HTTP 200"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 100, None, "HTTP 100"),
    ],
)
async def test_another_status_is_a_refusal_at_once(
    answer: bytes, status: int, retry_after_s: float | None, text: str, autojump_clock: trio.testing.MockClock
) -> None:
    error = await opening_error(partial(says, answer))
    assert isinstance(error, UpgradeRefused)
    assert (error.status, error.retry_after_s, error.reason) == (status, retry_after_s, "status")
    assert text in error.detail
    assert error.detail.isprintable()
    assert trio.current_time() == 0


heads = st.builds(
    lambda status, lines: status + b"".join(line + b"\r\n" for line in lines) + b"\r\n",
    st.sampled_from((b"HTTP/1.1 101 X\r\n", b"HTTP/1.1 101\r\n", b"HTTP/1.0 101 X\r\n", b"")),
    st.lists(
        st.one_of(
            st.sampled_from((b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: \xff")),
            st.builds(
                lambda name, value: name + b": " + value,
                st.sampled_from((b"Connection", b"Sec-WebSocket-Extensions", b"Sec-WebSocket-Protocol", b"Te")),
                st.binary(max_size=10),
            ),
            st.binary(max_size=20),
        ),
        max_size=6,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.one_of(heads, st.binary(max_size=60)))
def test_no_answer_gets_anything_but_our_errors_out(answer: bytes) -> None:
    async def main() -> None:
        error = await opening_error(partial(says, answer))
        assert error.detail.isprintable()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# --- the link ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said, code, detail",
    [
        (close_frame(1001, "bye\x1b[2J\u202e"), 1001, r"close frame 1001: bye\x1b[2J\u202e"),
        (close_frame(1000), 1000, "close frame 1000"),
        (close_frame(1013, "later"), 1013, "close frame 1013: later"),
        (close_frame(4999), 4999, "close frame 4999"),
        (b"\x88\x00", 1005, "close frame without a code"),
    ],
)
async def test_a_close_frame_is_answered_and_reported_at_once(
    said: bytes, code: int, detail: str, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[Event | None] = []

    async def script(venue: Venue) -> None:
        await venue.accept()
        await venue.stream.send_all(text_frame("last") + said + text_frame("after"))
        heard.append(await venue.hear())
        heard.append(await venue.hear())  # it leaves TCP open: we close our side

    inbox = Inbox()
    with pytest.raises(ConnectionLost) as caught:
        async with linked(script, inbox) as link:
            await link.wait_closed()
    assert (caught.value.code, caught.value.reason, caught.value.detail) == (code, "closed", detail)
    assert inbox.messages == [b"last"]
    assert isinstance(heard[0], CloseConnection)
    assert (heard[0].code, heard[1]) == (code, None)
    assert trio.current_time() == 0


@pytest.mark.parametrize("tail", [b"", text_frame("x" * 300)[:100], b"\x81"])
async def test_end_of_stream_cancels_the_block(tail: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async def script(venue: Venue) -> None:
        await venue.accept(then=text_frame("one") + tail)
        await venue.stream.aclose()

    inbox = Inbox()
    with pytest.raises(ConnectionLost) as caught:
        async with linked(script, inbox):
            await trio.sleep_forever()  # a block that does not watch the link must not outlive it
    assert (caught.value.reason, caught.value.code) == ("eof", None)
    assert inbox.messages == [b"one"]


async def test_a_half_closed_peer_is_left_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async def script(venue: Venue) -> None:
        await venue.accept()
        assert isinstance(venue.stream, trio.StapledStream)
        await venue.stream.send_eof()
        assert await venue.hear() is None

    with pytest.raises(ConnectionLost):
        async with linked(script) as link:
            await link.wait_closed()
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "bad, code",
    [
        (frame(0x81, b"\xff"), 1007),
        (frame(0x81 | 0x40, b"x"), 1002),
        (b"\x81\x81\0\0\0\0x", 1002),
        (b"\x81\x7e\xff\xff", 1009),
        (frame(0x82, b"x"), 1003),
        (close_frame(1006), 1002),
    ],
)
async def test_a_violation_closes_with_its_code(bad: bytes, code: int, autojump_clock: trio.testing.MockClock) -> None:
    heard: list[Event | None] = []

    async def script(venue: Venue) -> None:
        await venue.accept()
        await venue.stream.send_all(text_frame("good") + bad + text_frame("after") * 10)
        heard.append(await venue.hear())
        await venue.stream.aclose()

    inbox = Inbox()
    with pytest.raises(ProtocolViolation) as caught:
        async with linked(script, inbox, LinkPolicy(max_message_bytes=60_000)) as link:
            await link.wait_closed()
    assert caught.value.close_code == code
    assert inbox.messages == [b"good"]
    assert heard == [CloseConnection(code=code, reason="")]
    assert trio.current_time() == 0


async def test_an_error_of_ours_in_the_callback_ends_the_link(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[Event | None] = []

    async def script(venue: Venue) -> None:
        await venue.accept(then=text_frame("flood"))
        heard.append(await venue.hear())
        await venue.stream.send_all(close_frame(1000))

    def overrun(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        raise FeedOverrun("queue full")

    with pytest.raises(FeedOverrun):
        async with linked(script, overrun):
            await trio.sleep_forever()
    assert heard == [CloseConnection(code=1000, reason="")]


async def test_a_bug_in_the_callback_keeps_flying(autojump_clock: trio.testing.MockClock) -> None:
    def bug(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with linked(partial(Venue.accept, then=text_frame("x")), bug) as link:
            await link.wait_closed()


# --- leaving ------------------------------------------------------------------------------------------------------


async def test_a_peer_that_never_answers_our_close_costs_the_close_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(venue: Venue) -> None:
        await venue.accept()
        assert await venue.hear() == CloseConnection(code=1000, reason="")
        assert await venue.hear() is None

    async with linked(script):
        pass
    assert trio.current_time() == pytest.approx(POLICY.close_timeout_s)


async def test_a_peer_that_floods_on_after_our_close_costs_no_more(autojump_clock: trio.testing.MockClock) -> None:
    async def script(venue: Venue) -> None:
        await venue.accept()
        try:
            while True:
                await venue.stream.send_all(text_frame("x"))
                await trio.sleep(0.01)
        except trio.BrokenResourceError:
            return

    async with linked(script):
        pass
    assert trio.current_time() == pytest.approx(POLICY.close_timeout_s, abs=0.02)


async def test_cancelling_from_outside_says_goodbye_too(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[Event | None] = []

    async def script(venue: Venue) -> None:
        await venue.accept()
        heard.append(await venue.hear())
        await venue.stream.send_all(close_frame(1000))
        heard.append(await venue.hear())

    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(host: str, port: int) -> trio.abc.Stream:
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Venue(theirs))
        with trio.move_on_after(5) as scope:
            async with open_ws(URL, ignore, POLICY, dial=dial) as link:
                await link.wait_closed()
    assert scope.cancelled_caught
    assert heard == [CloseConnection(code=1000, reason=""), None]
    assert trio.current_time() == pytest.approx(5)


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.0])
async def test_cancelled_while_opening_leaves_nothing_behind(
    after_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep(0.5)
        return ours

    with trio.move_on_after(after_s) as scope:
        async with open_ws(URL, ignore, POLICY, dial=dial):
            pytest.fail("the link opened")
    assert scope.cancelled_caught
    if after_s > 0.5:
        venue = Venue(theirs)
        await venue.read_request()
        assert await venue.hear() is None


@pytest.mark.parametrize("steps", range(30))
async def test_a_cancel_at_any_step_closes_the_stream_in_time(
    steps: int, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    ended: list[float] = []

    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async def script() -> None:
        venue = Venue(theirs)
        try:
            await venue.accept(then=text_frame("a") + PING)
            while await venue.hear() is not None:
                pass
        except trio.BrokenResourceError:
            pass
        ended.append(trio.current_time())

    async def cancel() -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            nursery.start_soon(script)
            async with open_ws(URL, ignore, POLICY, dial=dial) as link:
                while True:
                    await link.send("x")
        await ours.aclose()  # as the one who dialled, in case that had not come to an end
    assert scope.cancelled_caught
    assert ended[0] <= POLICY.close_timeout_s


async def test_the_single_error_of_a_block_leaves_ungrouped(autojump_clock: trio.testing.MockClock) -> None:
    async def fail(error: Exception) -> None:
        raise error

    lost = HeartbeatLost("no pong in 10 s")
    with pytest.raises(HeartbeatLost) as caught:  # noqa: PT012 - the block is what is tested
        async with linked(Venue.accept), trio.open_nursery() as nursery:
            nursery.start_soon(fail, lost)
            await trio.sleep_forever()
    assert caught.value is lost
    with pytest.raises(ValueError, match="mine"):
        async with linked(Venue.accept):
            raise ValueError("mine")


async def test_of_several_core_errors_the_final_one_counts_and_bugs_are_never_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with pytest.raises(FatalFeedError):
        async with linked(Venue.accept):
            raise ExceptionGroup("both", [HeartbeatLost("a"), ExceptionGroup("", [FatalFeedError("b")])])
    with pytest.raises(ExceptionGroup) as caught:
        async with linked(Venue.accept):
            raise ExceptionGroup("both", [HeartbeatLost("a"), ZeroDivisionError()])
    assert caught.value.subgroup(ZeroDivisionError) is not None


# --- sending to a peer that does not read -------------------------------------------------------------------------


@asynccontextmanager
async def deaf_link(policy: LinkPolicy = POLICY, then: bytes = b"") -> AsyncIterator[WebSocketLink]:
    """A link whose peer reads nothing after the upgrade; its sends never finish."""
    ours, theirs = trio.testing.lockstep_stream_pair()

    async def dial(host: str, port: int) -> trio.abc.Stream:
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Venue(theirs).accept, then)
        error: Exception | None = None
        try:
            async with open_ws(URL, ignore, policy, dial=dial) as link:
                yield link
        except Exception as caught:  # noqa: BLE001 - handed on, outside of this nursery's group
            error = caught
    if error is not None:
        raise error


async def test_a_send_that_takes_too_long_drops_the_link(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ConnectionLost) as caught:
        async with deaf_link(LinkPolicy(send_timeout_s=3)) as link:
            await link.send("x")
    assert (caught.value.reason, caught.value.detail) == ("send", "could not send for 3 s")
    assert trio.current_time() == pytest.approx(3)  # and no close frame after half a frame


async def test_frozen_in_mid_send_the_link_goes_but_the_peer_is_not_blamed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with pytest.raises(ConnectionLost) as caught:  # noqa: PT012 - the block is what is tested
        async with deaf_link(LinkPolicy(send_timeout_s=3)) as link, trio.open_nursery() as nursery:
            nursery.start_soon(link.send, "x")
            await trio.sleep(1)
            autojump_clock.jump(100)
    assert (caught.value.reason, caught.value.detail) == ("stall", "the program stood still for 98.0 s in mid-send")


async def test_a_cancelled_send_drops_the_link(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ConnectionLost) as caught:  # noqa: PT012 - the block is what is tested
        async with deaf_link() as link:
            with trio.move_on_after(2):
                await link.send("x")
            await trio.sleep_forever()
    assert caught.value.reason == "send"
    assert trio.current_time() == pytest.approx(2)


async def test_leaving_while_the_peer_reads_nothing_takes_the_close_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with deaf_link():
        pass
    assert trio.current_time() == pytest.approx(POLICY.close_timeout_s)


async def test_leaving_while_a_pong_is_under_way_is_no_failure(autojump_clock: trio.testing.MockClock) -> None:
    async with deaf_link(then=PING):
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 0  # half a frame has left: nothing more can be said


async def test_sending_on_a_lost_link_names_the_loss(autojump_clock: trio.testing.MockClock) -> None:
    async def script(venue: Venue) -> None:
        await venue.accept()
        await venue.stream.send_all(close_frame(1012, "restart"))

    with pytest.raises(ConnectionLost) as caught:  # noqa: PT012 - the block is what is tested
        async with linked(script) as link:
            try:
                await link.wait_closed()
            except ConnectionLost:
                with pytest.raises(ConnectionLost, match="1012: restart"):
                    await link.send("x")
                raise
    assert caught.value.code == 1012


# --- URLs, certificates -------------------------------------------------------------------------------------------


def test_urls_are_taken_apart() -> None:
    assert parse_endpoint("wss://h.example/a/b?c=d") == Endpoint("h.example", 443, "/a/b?c=d", True)
    assert parse_endpoint("ws://127.0.0.1:9000") == Endpoint("127.0.0.1", 9000, "/", False)
    assert parse_endpoint("wss://h.example:443/").host_header == "h.example"
    assert parse_endpoint("ws://h.example:443/").host_header == "h.example:443"
    assert parse_endpoint("ws://[::1]:80/").host_header == "[::1]"
    assert parse_endpoint("ws://[::1]:81/").host_header == "[::1]:81"


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://h/", "h:1/", "ws:///x", "ws://h:99999/", "ws://h:0/", "ws://h:x/", "ws://h/a b", "ws://h/é"),
        *("ws://é.example/", "ws://h/#f", "ws://[::1/", "ws://h\x1b/", "wss://.h/", "wss://a..b/"),
    ],
)
def test_other_urls_are_misuse(url: str) -> None:
    with pytest.raises(MisuseError) as caught:
        parse_endpoint(url)
    assert str(caught.value).isprintable()


def test_a_password_in_a_url_is_refused_without_being_shown() -> None:
    with pytest.raises(MisuseError) as caught:
        parse_endpoint("wss://me:hunter2@h.example/")
    assert "hunter2" not in str(caught.value)


def test_the_default_context_verifies(tmp_path: Path) -> None:
    context = make_ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    bad = tmp_path / "ca.pem"
    bad.write_text("no PEM")
    for path in (bad, tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match="ca_file"):
            make_ssl_context(str(path))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


# --- real sockets -------------------------------------------------------------------------------------------------

Handler = "Callable[[trio_websocket.WebSocketRequest], Awaitable[None]]"


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, context)
        server = await nursery.start(serve)
        yield server.port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw_serving(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def real_opening_error(url: str, context: ssl.SSLContext | None = None) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with open_ws(url, ignore, POLICY, ssl_context=context):
            pytest.fail("the link opened")
    return caught.value


async def flood(request: trio_websocket.WebSocketRequest) -> None:
    """Send without end, with a ping every 100 messages; the link is ended from the other side."""
    connection = await request.accept()
    try:
        for number in range(100_000):
            await connection.send_message(f"message {number}")
            if number % 100 == 0:
                with trio.fail_after(9):
                    await connection.ping()
    except trio_websocket.ConnectionClosed:
        return


@pytest.mark.socket
@pytest.mark.parametrize("tls", [False, True])
async def test_pings_are_answered_and_others_run_in_a_flood(tls: bool, authority: trustme.CA) -> None:
    inbox = Inbox()
    laps = 0

    async def bystander() -> None:
        nonlocal laps
        while True:
            await trio.lowlevel.checkpoint()
            laps += 1

    client = make_ssl_context()
    authority.configure_trust(client)
    async with serving(flood, server_context(authority, "localhost") if tls else None) as port:
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/"
        async with open_ws(url, inbox, POLICY, ssl_context=client if tls else None), trio.open_nursery() as nursery:
            nursery.start_soon(bystander)
            with trio.fail_after(10):
                await inbox.wait_for(350)
            nursery.cancel_scope.cancel()
    messages = inbox.messages
    assert messages == [b"message %d" % number for number in range(len(messages))]
    assert len(messages) > 301  # the pings after 0, 100, 200 and 300 were answered
    assert laps > 10


@pytest.mark.socket
@pytest.mark.parametrize("trusted, names", [(True, ("other.test",)), (False, ("localhost",))])
async def test_a_certificate_that_does_not_fit_is_never_accepted(
    trusted: bool, names: tuple[str, ...], authority: trustme.CA
) -> None:
    client = make_ssl_context()
    if trusted:
        authority.configure_trust(client)
    async with serving(flood, server_context(authority, *names)) as port:
        with trio.fail_after(9):
            error = await real_opening_error(f"wss://localhost:{port}/", client)
    assert error.reason == "tls"
    assert "certificate of localhost refused" in error.detail
    assert ("localhost" in error.detail.split(":", 1)[1]) == trusted


@pytest.mark.socket
@pytest.mark.parametrize("answer, reason", [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls"), (b"", "closed")])
async def test_no_tls_is_never_plain_text(answer: bytes, reason: str) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    async with raw_serving(handler) as port:
        with trio.fail_after(9):
            assert (await real_opening_error(f"wss://localhost:{port}/")).reason == reason


@pytest.mark.socket
async def test_a_closed_port_is_refused() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets this port meanwhile
        error = await real_opening_error(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
    assert error.reason == "refused"


async def test_failures_of_the_resolver_are_named() -> None:
    class NoNames(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: object, **kwargs: object) -> list[object]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *args: object) -> tuple[str, str]:
            raise NotImplementedError

    before = trio.socket.set_custom_hostname_resolver(NoNames())
    try:
        error = await real_opening_error("wss://stream.test/")
    finally:
        trio.socket.set_custom_hostname_resolver(before)
    assert error.reason == "dns"
    assert error.detail == "stream.test: Name or service not known"


@pytest.mark.socket
@pytest.mark.parametrize("upgraded", [False, True])
async def test_a_reset_is_reported_at_once_also_in_mid_frame(upgraded: bool) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        venue = Venue(stream)
        if upgraded:
            await venue.accept(then=text_frame("x" * 300)[:50])
            assert isinstance(await venue.hear(), TextMessage)
        else:
            await venue.read_request()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async def open_and_wait(port: int) -> None:
        async with open_ws(f"ws://127.0.0.1:{port}/", ignore, POLICY) as link:
            await link.send("go")
            await link.wait_closed()

    async with raw_serving(handler) as port:
        with trio.fail_after(9), pytest.raises(ConnectionLost if upgraded else ConnectFailed) as caught:
            await open_and_wait(port)
    assert caught.value.reason == ("reset" if upgraded else "closed")


@pytest.mark.socket
async def test_the_right_code_reaches_a_peer_that_keeps_sending() -> None:
    heard: list[Event | None] = []

    async def handler(stream: trio.SocketStream) -> None:
        venue = Venue(stream)
        await venue.accept(then=text_frame(b"\xff") + text_frame("x" * 1000) * 2000)
        heard.append(await venue.hear())
        await stream.aclose()

    async with raw_serving(handler) as port:
        with trio.fail_after(9), pytest.raises(ProtocolViolation):
            async with open_ws(f"ws://127.0.0.1:{port}/", ignore, POLICY) as link:
                await link.wait_closed()
    assert heard == [CloseConnection(code=1007, reason="")]
