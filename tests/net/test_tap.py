"""The tap by itself, on a stream that says what a test has written down; whole links are in test_ws.py."""

from __future__ import annotations

import errno
import struct
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orderflow.core.errors import ConnectFailed, ConnectionLost, FeedOverrun, ProtocolViolation, UpgradeRefused
from orderflow.core.policy import LinkPolicy
from orderflow.net.frames import FrameCutter
from orderflow.net.tap import MAX_HEAD_BYTES, LinkStatistics, TappedStream

if TYPE_CHECKING:
    from collections.abc import Callable

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
PING = b"\x89\x01p"
Said = bytes | BaseException


class Peer(trio.abc.Stream):
    """Says these pieces, one a read; keeps what it is sent."""

    def __init__(self, *says: Said) -> None:
        self.says = deque(says)
        self.asked: list[int | None] = []
        self.heard: list[bytes] = []
        self.refuses: BaseException | None = None
        self.takes_s = 0.0
        self.waits = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(max_bytes)
        assert self.says, "more was read than there is"
        said = self.says.popleft()
        if isinstance(said, BaseException):
            raise said
        return said

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(self.takes_s)
        if self.refuses is not None:
            raise self.refuses
        self.heard.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        self.waits += 1

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Tap:
    """A tapped stream and what came of it; the clocks show 10, 20, ... and a hundred more."""

    def __init__(
        self,
        *says: Said,
        on_batch: Callable[[list[bytes]], None] | None = None,
        cutter: FrameCutter | None = None,
        answer_s: float = 0.0,
    ) -> None:
        self.peer = Peer(*says)
        self.batches: list[tuple[list[bytes], int, int]] = []
        self.drops = 0
        self._on_batch = on_batch
        self._now_ns = 0
        policy = LinkPolicy(send_timeout_s=5.0, receive_bytes=1000, max_message_bytes=100_000)
        self.stream = TappedStream(
            self.peer, self.take, policy, self.clock, self.drop, cutter=cutter, answer_s=answer_s
        )

    def clock(self) -> tuple[int, int]:
        self._now_ns += 10
        return self._now_ns, self._now_ns + 100

    def take(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        self.batches.append((messages, recv_ns, mono_ns))
        if self._on_batch is not None:
            self._on_batch(messages)

    def drop(self) -> None:
        self.drops += 1

    async def upgraded(self) -> TappedStream:
        self.stream.release()
        assert await self.stream.receive_some() == UPGRADE
        return self.stream


def text(payload: bytes) -> bytes:
    assert len(payload) < 126
    return bytes((0x81, len(payload))) + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return bytes((0x88, 2 + len(reason))) + struct.pack("!H", code) + reason


async def ended_by(tap: Tap) -> tuple[str, str]:
    """The next read ends the link. Returns: (reason, detail) of why."""
    with pytest.raises((ConnectFailed, ConnectionLost)) as caught:
        await tap.stream.receive_some()
    assert caught.value is tap.stream.failure
    assert tap.stream.lost() is tap.stream.failure
    assert tap.stream.ended.is_set()
    assert tap.drops == 1
    return caught.value.reason, caught.value.detail


# --- the upgrade


@pytest.mark.parametrize("cuts", [(), (5,), (1, 2, 3), (len(UPGRADE) - 1,), (len(UPGRADE) - 3,), (30, 40)])
async def test_the_head_comes_whole_however_it_is_cut(cuts: tuple[int, ...]) -> None:
    borders = [0, *cuts, len(UPGRADE)]
    tap = Tap(*(UPGRADE[start:end] for start, end in pairwise(borders)))
    await tap.upgraded()
    assert tap.peer.asked == [1000] * (len(cuts) + 1)
    assert tap.stream.first_bytes().startswith("received HTTP/1.1 101 Switching")


async def test_what_comes_behind_the_head_waits_for_the_release() -> None:
    tap = Tap(UPGRADE + text(b"early"), text(b"late") + PING)
    assert await tap.stream.receive_some() == UPGRADE
    async with trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await tap.stream.receive_some())

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert (tap.batches, got) == ([], [])
        tap.stream.release()
    assert tap.batches == [([b"early"], 10, 110), ([b"late"], 20, 120)]
    assert got == [PING]


async def test_what_h11_lets_through_becomes_a_question_mark() -> None:
    tap = Tap(UPGRADE.replace(b"\r\n\r\n", b"\r\nX: \x80\xff\x7f\r\n\r\n"))
    assert b"X: ??\x7f\r\n" in await tap.stream.receive_some()


@pytest.mark.parametrize("head", [b"HTTP/1.1 101\n\n", b"HTTP/1.0 101 \r\n\n", b"HTTP/1.1 101 x\n\r\n"])
async def test_line_ends_are_what_they_are(head: bytes) -> None:
    assert await Tap(head).stream.receive_some() == head


@pytest.mark.parametrize(
    ("says", "reason", "detail"),
    [
        ((b"",), "closed", "closed during upgrade; nothing received"),
        ((b"HTTP/1.1 1", b""), "closed", "closed during upgrade; received HTTP/1.1 1"),
        ((b"HT", trio.BrokenResourceError()), "closed", "closed during upgrade; received HT"),
        ((trio.ClosedResourceError(),), "closed", "closed during upgrade; nothing received"),
        ((b"HTTQ",), "garbage", "no HTTP answer; received HTTQ"),
        ((b"HTTP/2.0 101\r\n\r\n",), "garbage", r"no HTTP answer; received HTTP/2.0 101\r\n\r\n"),
        ((b"HTTP/1.1 1010\r\n\r\n",), "garbage", r"no HTTP answer; received HTTP/1.1 1010\r\n\r\n"),
        ((b"HTTP/1.1 001\r\n\r\n",), "garbage", r"no HTTP answer; received HTTP/1.1 001\r\n\r\n"),
        ((b"SSH-2.0\r\n\r\nHTTP/1.1",), "garbage", r"no HTTP answer; received SSH-2.0\r\n\r\nHTTP/1.1"),
    ],
)
async def test_what_is_no_upgrade_is_shown(says: tuple[Said, ...], reason: str, detail: str) -> None:
    assert await ended_by(Tap(*says)) == (reason, detail)


async def test_what_is_shown_of_an_answer_is_escaped_and_cut_short() -> None:
    tap = Tap(b"HTTP/1.1 \x1b", b"x" * 100, b"")
    await ended_by(tap)
    assert tap.stream.first_bytes() == r"received HTTP/1.1 \x1b" + "x" * 74 + "… [110 bytes]"


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
async def test_a_head_is_bounded(extra: int, fits: bool) -> None:
    assert MAX_HEAD_BYTES == 16_384
    head = UPGRADE[:-2] + b"X: " + b"x" * (MAX_HEAD_BYTES + extra - len(UPGRADE) - 5) + b"\r\n\r\n"
    assert len(head) == MAX_HEAD_BYTES + extra
    tap = Tap(head + text(b"behind"))
    if fits:
        assert await tap.stream.receive_some() == head
    else:
        reason, detail = await ended_by(tap)
        assert reason == "garbage"
        assert detail.startswith("no HTTP answer; received HTTP/1.1 101 ")


async def test_a_head_without_end_is_bounded() -> None:
    tap = Tap(b"HTTP/1.1 101 ", b"x" * (MAX_HEAD_BYTES - 13), b"x")
    assert (await ended_by(tap))[0] == "garbage"
    assert len(tap.peer.asked) == 3


async def refusal(answer: bytes) -> UpgradeRefused:
    tap = Tap(answer)
    with pytest.raises(UpgradeRefused) as caught:
        await tap.stream.receive_some()
    assert tap.stream.failure is caught.value
    return caught.value


@pytest.mark.parametrize(
    ("head", "detail"),
    [
        (b"503 Service Unavailable", "HTTP 503 Service Unavailable instead of an upgrade"),
        (b"200", "HTTP 200 instead of an upgrade"),
        (b"200 ", "HTTP 200 instead of an upgrade"),
        (b"403 \x1bno", r"HTTP 403 \x1bno instead of an upgrade"),
        (b"301 Moved\r\nLocation: /a", "HTTP 301 Moved instead of an upgrade; redirects are not followed (to /a)"),
        (b"300 x\r\nlocation:\t/a b", "HTTP 300 x instead of an upgrade; redirects are not followed (to /a b)"),
        (b"399 x\r\nLocation:", "HTTP 399 x instead of an upgrade; redirects are not followed (to )"),
        (b"400 x\r\nLocation: /a", "HTTP 400 x instead of an upgrade"),
        (b"299 x\r\nLocation: /a", "HTTP 299 x instead of an upgrade"),
        (b"302 x\r\nX-Location: /a", "HTTP 302 x instead of an upgrade"),
    ],
)
async def test_a_refusal_says_what_the_peer_said(head: bytes, detail: str) -> None:
    error = await refusal(b"HTTP/1.1 " + head + b"\r\n\r\nbody\nlocation: /b\n")
    assert (error.status, error.detail, error.retry_after_s) == (int(head[:3]), detail, None)


async def test_what_a_refusal_shows_is_cut_short() -> None:
    error = await refusal(b"HTTP/1.1 302 " + b"p" * 61 + b"\r\nLocation: " + b"l" * 101 + b"\r\n\r\n")
    assert f"HTTP 302 {'p' * 48}… [61 bytes] instead" in error.detail
    assert error.detail.endswith(f"(to {'l' * 87}… [101 bytes])")


_AT_2 = b"Thu, 01 Jan 1970 00:00:02 GMT"


@pytest.mark.parametrize(
    ("fields", "after_s"),
    [
        (b"Retry-After: 7", 7.0),
        (b"RETRY-AFTER:\t7\t", 7.0),
        (b"X: 1\r\nretry-after:0", 0.0),
        (b"X-Retry-After: 7", None),
        (b"Retry-After: " + _AT_2 + b"\r\nDate: Thu, 01 Jan 1970 00:00:01 GMT", 1.0),
        (b"Retry-After: " + _AT_2, pytest.approx(2.0)),
        (b"Retry-After: later", None),
        (b"Retry-After: " + b"0" * 62, None),
        (b"Retry-After: 7\x80", None),
    ],
)
async def test_how_long_a_refusal_asks_to_wait(fields: bytes, after_s: float | None) -> None:
    """Without a date of the peer's, by our clock: it shows 10 ns after the epoch."""
    assert (await refusal(b"HTTP/1.1 429 x\r\n" + fields + b"\r\n\r\n")).retry_after_s == after_s


# --- what comes


async def test_messages_are_delivered_and_control_frames_go_up() -> None:
    tap = Tap(UPGRADE, text(b"1") + text(b"2"), text(b"3") + PING, close(1000))
    stream = await tap.upgraded()
    assert stream.statistics() == LinkStatistics(reads=0, bytes=0, messages=0, control_bytes=0, last_read_mono_ns=0)
    assert await stream.receive_some() == PING
    assert tap.batches == [([b"1", b"2"], 10, 110), ([b"3"], 20, 120)]
    assert stream.statistics() == LinkStatistics(reads=2, bytes=12, messages=3, control_bytes=3, last_read_mono_ns=120)
    assert await stream.receive_some() == close(1000)
    assert stream.statistics() == LinkStatistics(reads=3, bytes=16, messages=3, control_bytes=7, last_read_mono_ns=130)
    assert tap.peer.asked == [1000] * 4


async def test_a_read_without_a_whole_message_delivers_nothing() -> None:
    tap = Tap(UPGRADE, text(b"12")[:3], text(b"12")[3:] + PING)
    await (await tap.upgraded()).receive_some()
    assert tap.batches == [([b"12"], 20, 120)]


@pytest.mark.parametrize(("count", "sizes"), [(32, [32]), (33, [32, 1]), (64, [32, 32]), (70, [32, 32, 6])])
async def test_many_messages_are_delivered_in_parts_of_one_stamp(count: int, sizes: list[int]) -> None:
    pieces = [b"%d" % number for number in range(count)]
    tap = Tap(UPGRADE, b"".join(map(text, pieces)) + PING)
    await (await tap.upgraded()).receive_some()
    assert [len(batch) for batch, _, _ in tap.batches] == sizes
    assert [piece for batch, _, _ in tap.batches for piece in batch] == pieces
    assert {stamps for _, *stamps in map(tuple, tap.batches) for stamps in [tuple(stamps)]} == {(10, 110)}
    assert tap.stream.statistics().messages == count


@pytest.mark.parametrize("count", [1, 40])
async def test_what_takes_messages_may_end_the_link_and_the_read_is_counted(count: int) -> None:
    error = FeedOverrun("full")

    def refuse(messages: list[bytes]) -> None:
        raise error

    tap = Tap(UPGRADE, text(b"x") * count, on_batch=refuse)
    stream = await tap.upgraded()
    with pytest.raises(FeedOverrun) as caught:
        await stream.receive_some()
    assert caught.value is stream.failure is error
    assert len(tap.batches) == 1
    assert stream.statistics() == LinkStatistics(
        reads=1, bytes=3 * count, messages=count, control_bytes=0, last_read_mono_ns=110
    )


def reset(why: str | None = "Connection reset by peer") -> trio.BrokenResourceError:
    error = trio.BrokenResourceError()
    if why is not None:
        error.__cause__ = OSError(errno.ECONNRESET, why)
    return error


@pytest.mark.parametrize(
    ("says", "reason", "detail"),
    [
        (b"", "eof", "end of stream"),
        (reset(), "reset", "connection broken: Connection reset by peer"),
        (reset("\x1b"), "reset", r"connection broken: \x1b"),
        (reset(""), "reset", "connection broken"),
        (reset(None), "reset", "connection broken"),
        (trio.ClosedResourceError(), "reset", "connection broken"),
    ],
)
async def test_the_end_has_its_name(says: Said, reason: str, detail: str) -> None:
    tap = Tap(UPGRADE, says)
    await tap.upgraded()
    assert await ended_by(tap) == (reason, detail)


async def test_a_violation_comes_after_the_good_messages_of_its_read(autojump_clock: trio.testing.MockClock) -> None:
    tap = Tap(UPGRADE, text(b"good") + b"\xff\xff", answer_s=3.0)
    stream = await tap.upgraded()
    with pytest.raises(ProtocolViolation):
        await stream.receive_some()
    assert [batch for batch, _, _ in tap.batches] == [[b"good"]]
    assert trio.current_time() == 3.0
    assert isinstance(stream.failure, ProtocolViolation)
    assert stream.statistics().messages == 1


async def test_only_a_violation_waits_for_answers(autojump_clock: trio.testing.MockClock) -> None:
    tap = Tap(UPGRADE, b"", answer_s=3.0)
    await tap.upgraded()
    assert (await ended_by(tap))[0] == "eof"
    assert trio.current_time() == 0.0


@pytest.mark.parametrize(
    ("frame", "code", "detail"),
    [
        (close(1000), 1000, "close frame 1000"),
        (close(1001, b"bye\x1b"), 1001, r"close frame 1001: bye\x1b"),
        (b"\x88\x00", 1005, "close frame without a code"),
    ],
)
async def test_the_peers_goodbye_ends_the_link_once_it_was_answered(frame: bytes, code: int, detail: str) -> None:
    tap = Tap(UPGRADE, frame)
    stream = await tap.upgraded()
    assert await stream.receive_some() == frame
    assert stream.failure is None
    lost = stream.lost()
    assert isinstance(lost, ConnectionLost)
    assert (lost.code, lost.detail, lost.reason) == (code, detail, "closed")
    assert await ended_by(tap) == ("closed", detail)
    await stream.say_goodbye(1000)
    assert tap.peer.heard == []  # trio-websocket has answered


# --- leaving


async def test_the_first_failure_counts() -> None:
    tap = Tap()
    assert tap.stream.lost().detail == "the link is closed"
    first, second = ConnectionLost("first"), ConnectionLost("second")
    assert tap.stream.fail(first) is first
    assert tap.stream.fail(second) is first
    assert (tap.stream.failure, tap.stream.lost(), tap.drops) == (first, first, 1)


async def test_nothing_is_a_failure_of_a_link_that_is_left() -> None:
    tap = Tap(UPGRADE, text(b"late"), b"")
    stream = await tap.upgraded()
    stream.retire()
    error = ConnectionLost("late")
    assert stream.fail(error) is error
    with pytest.raises(ConnectionLost, match="end of stream"):
        await stream.receive_some()
    assert (stream.failure, tap.drops, stream.ended.is_set(), tap.batches) == (None, 0, False, [])


async def test_giving_up_on_the_upgrade_is_a_failure() -> None:
    tap = Tap()
    with trio.testing.assert_checkpoints():
        await tap.stream.aclose()
    assert tap.stream.failure is not None
    assert (tap.stream.failure.reason, tap.stream.failure.detail) == (
        "garbage",
        "no valid answer to the upgrade; nothing received",
    )


# --- sending


async def test_what_is_sent_goes_through() -> None:
    tap = Tap(UPGRADE)
    await tap.stream.send_all(b"ask")
    await (await tap.upgraded()).send_all(b"more")
    await tap.stream.wait_send_all_might_not_block()
    assert (tap.peer.heard, tap.peer.waits) == ([b"ask", b"more"], 1)


async def test_on_a_link_that_has_ended_nothing_is_sent() -> None:
    tap = Tap()
    error = tap.stream.fail(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost) as caught:
        await tap.stream.send_all(b"x")
    assert caught.value is error
    assert tap.peer.heard == []


@pytest.mark.parametrize("error", [reset(), trio.ClosedResourceError()])
@pytest.mark.parametrize("upgraded", [False, True])
async def test_a_send_that_fails_ends_the_link(error: BaseException, upgraded: bool) -> None:
    tap = Tap(UPGRADE)
    if upgraded:
        await tap.upgraded()
    tap.peer.refuses = error
    with pytest.raises((ConnectFailed, ConnectionLost)) as caught:
        await tap.stream.send_all(b"x")
    assert caught.value is tap.stream.failure
    assert caught.value.__cause__ is error
    assert caught.value.reason == ("reset" if upgraded else "closed")
    if not upgraded:
        assert caught.value.detail == "closed before the upgrade was sent"
    tap.peer.refuses = None
    await tap.stream.say_goodbye(1000)
    assert tap.peer.heard == []


@pytest.mark.parametrize(
    ("seconds", "reason", "detail"),
    [
        (4.9, "send", "a send was broken off"),
        (5.0, "send", "could not send for 5 s"),
        (6.0, "send", "could not send for 5 s"),
        (6.25, "stall", "the program stood still for 1.2 s in mid-send"),
    ],
)
async def test_a_send_that_is_broken_off_ends_the_link(
    autojump_clock: trio.testing.MockClock, seconds: float, reason: str, detail: str
) -> None:
    tap = Tap(UPGRADE)
    await tap.upgraded()
    tap.peer.takes_s = 100.0
    with trio.move_on_after(seconds):
        await tap.stream.send_all(b"half a frame")
    assert tap.stream.failure is not None
    assert (tap.stream.failure.reason, tap.stream.failure.detail) == (reason, detail)
    tap.peer.takes_s = 0.0
    await tap.stream.say_goodbye(1000)
    assert tap.peer.heard == []  # nobody could tell where it begins


# --- the goodbye


def masked_close(sent: bytes) -> int:
    assert (sent[0], sent[1]) == (0x88, 0x82)
    return int.from_bytes(bytes(value ^ key for value, key in zip(sent[6:], sent[2:6], strict=False)), "big")


@pytest.mark.parametrize(
    "ends",
    [
        (b"",),
        (text(b"one more"), PING, b""),
        (close(1000), b"never read"),
        (text(b"x") + close(1001), b"never read"),
        (b"\xff\xff", text(b"what"), b""),
        (reset(),),
        (trio.ClosedResourceError(),),
    ],
)
async def test_a_goodbye_is_said_and_its_answer_waited_for(ends: tuple[Said, ...]) -> None:
    tap = Tap(UPGRADE, *ends)
    stream = await tap.upgraded()
    stream.retire()
    with trio.fail_after(5):
        await stream.say_goodbye(1009)
    (sent,) = tap.peer.heard
    assert masked_close(sent) == 1009
    assert list(tap.peer.says) == ([b"never read"] if ends[-1] == b"never read" else [])
    assert tap.batches == []
    assert set(tap.peer.asked) == {1000}


async def test_before_the_upgrade_there_is_no_goodbye() -> None:
    tap = Tap(UPGRADE)
    await tap.stream.say_goodbye(1000)
    assert tap.peer.heard == []


@pytest.mark.parametrize(("says", "deaf"), [(b"", True), (reset(), True), (b"\xff\xff", False)])
async def test_who_has_gone_hears_no_goodbye(says: Said, deaf: bool) -> None:
    tap = Tap(UPGRADE, says, b"")
    stream = await tap.upgraded()
    with pytest.raises((ConnectionLost, ProtocolViolation)):
        await stream.receive_some()
    await stream.say_goodbye(1002)
    assert len(tap.peer.heard) == (0 if deaf else 1)


async def test_a_link_we_fail_otherwise_says_goodbye() -> None:
    tap = Tap(UPGRADE, b"")
    stream = await tap.upgraded()
    stream.fail(ConnectionLost("too slow", reason="send"))
    await stream.say_goodbye(1000)
    assert len(tap.peer.heard) == 1


@pytest.mark.parametrize(("size", "fits"), [(100_000, True), (100_001, False)])
async def test_messages_are_as_long_as_the_policy_allows(size: int, fits: bool) -> None:
    tap = Tap(UPGRADE, b"\x81\x7f" + size.to_bytes(8, "big") + b"x" * size + PING)
    stream = await tap.upgraded()
    if fits:
        assert await stream.receive_some() == PING
    else:
        with pytest.raises(ProtocolViolation):
            await stream.receive_some()


async def test_the_cutter_may_be_another() -> None:
    tap = Tap(UPGRADE, text(b"four"), cutter=FrameCutter(3))
    stream = await tap.upgraded()
    with pytest.raises(ProtocolViolation) as caught:
        await stream.receive_some()
    assert caught.value.close_code == 1009
