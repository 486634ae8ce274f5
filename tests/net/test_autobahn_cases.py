"""The cases of the Autobahn test suite for clients, played from a table over memory streams.

The suite itself runs against `open_ws` by `tests/peers/autobahn_client.py` (docs/testing.md has the results); it needs
Python 2, so this table keeps its cases in every run. A case is what the server sends; expected are the messages
delivered, the pongs heard, and the code of the close frame we send: 1000 or the server's own code when all was well.
Octets are sent whole and chopped, which must make no difference.

Every case is played twice. **As delivered**, the link reads on and answers nothing, and its own limits hold: binary
messages are refused (1003), fragments and sizes are limited (1008, 1009). **Strict**, it is set up as in the run of
the suite (binary taken, limits wide) and sends every message back, which the suite wants to see before the close frame.
"""

from __future__ import annotations

import contextlib
import math
import struct
from typing import NamedTuple

import pytest
import trio
import trio.testing
from wsproto.events import CloseConnection, Message, Pong

from orderflow.core.errors import ConnectionLost, ProtocolViolation
from orderflow.net.frames import BinaryMessage, FrameCutter
from tests.net.test_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.net.test_ws import Venue, linked

GOODBYE = frame(CLOSE, struct.pack("!H", 1000))
HELLO = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
_WHOLE_CHOP = 997  # bytes a piece of what is too long to be sent octet by octet


class Case(NamedTuple):
    """One case. `code`: of the close frame that ends it, from us."""

    name: str
    stream: bytes
    messages: tuple[bytes, ...] = ()
    pongs: tuple[bytes, ...] = ()
    code: int = 1000
    goodbye: bytes = b""  # the server's close frame, when all is said


def fine(name: str, stream: bytes, *messages: bytes, pongs: tuple[bytes, ...] = ()) -> Case:
    """What is delivered; the server then closes normally."""
    return Case(name, stream, messages, pongs, goodbye=GOODBYE)


def refused(name: str, stream: bytes, code: int, *messages: bytes) -> Case:
    """`messages` came before the break; nothing after it counts."""
    return Case(name, stream, messages, (), code)


def text(*parts: bytes, opcode: int = TEXT) -> bytes:
    """One message in these fragments."""
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if number else opcode, part, fin=number == last) for number, part in enumerate(parts)
    )


def more(payload: bytes, *, fin: bool) -> bytes:
    return frame(CONTINUATION, payload, fin=fin)


def octets(payload: bytes) -> list[bytes]:
    return [payload[at : at + 1] for at in range(len(payload))]


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


SIZES = (0, 125, 126, 127, 128, 65_535, 65_536)
FRAMING = [fine(f"1.1 text of {size}", text(b"*" * size), b"*" * size) for size in SIZES]
BINARY_REFUSED = [refused(f"1.2 binary of {size}", frame(BINARY, b"\xfe" * size), 1003) for size in SIZES]
BINARY_TAKEN = [fine(f"1.2 binary of {size}", frame(BINARY, b"\xfe" * size), b"\xfe" * size) for size in SIZES]

ODD = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
TEN = tuple(b"payload-%d" % number for number in range(10))
PINGS = [
    fine("2.1 without payload", frame(PING), pongs=(b"",)),
    fine("2.2 text", frame(PING, b"Hello, world!"), pongs=(b"Hello, world!",)),
    fine("2.3 binary", frame(PING, ODD), pongs=(ODD,)),
    fine("2.4 of 125, 2.6 in octets", frame(PING, b"\xfe" * 125), pongs=(b"\xfe" * 125,)),
    refused("2.5 of 126", frame(PING, b"\xfe" * 126), 1002),
    fine("2.7 unasked pong", frame(PONG)),
    fine("2.8 unasked pong with payload", frame(PONG, b"unsolicited")),
    fine("2.9 unasked pong, then a ping", frame(PONG, b"unsolicited") + frame(PING, b"ping"), pongs=(b"ping",)),
    fine("2.10 ten, 2.11 in octets", b"".join(frame(PING, payload) for payload in TEN), pongs=TEN),
]

HI = b"Hello, world!"
RESERVED = [
    refused("3.1 RSV 1", frame(TEXT, HI, rsv=1), 1002),
    refused("3.2 RSV 2 after a good one", text(HI) + frame(TEXT, HI, rsv=2) + frame(PING), 1002, HI),
    refused("3.3 RSV 3 after a good one", text(HI) + frame(TEXT, HI, rsv=3) + frame(PING), 1002, HI),
    refused("3.4 RSV 4 after a good one", text(HI) + frame(TEXT, HI, rsv=4) + frame(PING), 1002, HI),
    refused("3.5 binary, RSV 5", frame(BINARY, ODD, rsv=5), 1002),
    refused("3.6 ping, RSV 6", frame(PING, HI, rsv=6), 1002),
    refused("3.7 close, RSV 7", frame(CLOSE, rsv=7), 1002),
]

OPCODES = [
    *(refused(f"4 opcode {opcode}", frame(opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *(
        refused(f"4 opcode {opcode} between", text(HI) + frame(opcode, HI) + frame(PING), 1002, HI)
        for opcode in (5, 6, 7, 13, 14, 15)
    ),
]

ONE, TWO = b"fragment1", b"fragment2"
FRAGMENTS = [
    refused("5.1 ping in two", frame(PING, ONE, fin=False) + more(TWO, fin=True), 1002),
    refused("5.2 pong in two", frame(PONG, ONE, fin=False) + more(TWO, fin=True), 1002),
    fine("5.3 - 5.5 in two", text(ONE, TWO), ONE + TWO),
    fine(
        "5.6 - 5.8 with a ping between",
        frame(TEXT, ONE, fin=False) + frame(PING, b"ping") + more(TWO, fin=True),
        ONE + TWO,
        pongs=(b"ping",),
    ),
    refused("5.9 - 5.11 end of nothing", more(ONE, fin=True) + text(HI), 1002),
    refused("5.12 - 5.14 middle of nothing", more(ONE, fin=False) + text(HI), 1002),
    refused("5.15 middle after an end", text(ONE, TWO) + more(b"3", fin=False) + text(b"4"), 1002, ONE + TWO),
    refused("5.16 twice a middle of nothing", (more(ONE, fin=False) + text(ONE, TWO)) * 2, 1002),
    refused("5.17 twice an end of nothing", (more(ONE, fin=True) + text(ONE, TWO)) * 2, 1002),
    refused("5.18 both are beginnings", frame(TEXT, ONE, fin=False) + text(TWO), 1002),
    fine(
        "5.19, 5.20 five and two pings",
        frame(TEXT, b"1", fin=False) + more(b"2", fin=False) + frame(PING, b"a")
        + more(b"3", fin=False) + more(b"4", fin=False) + frame(PING, b"b") + more(b"5", fin=True),
        b"12345",
        pongs=(b"a", b"b"),
    ),
]  # fmt: skip

SURROGATE, BEYOND = b"\xed\xa0\x80", b"\xf4\x90\x80\x80"
VALID = (
    *(b"hello" + char.encode() + b"world" for char in "$¢€\U00024b62"),  # 6.5
    KOSME,
    *(KOSME[:end] for end in (2, 5, 7, 9)),  # 6.6
    *(b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"),  # 6.7
    *(b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"),  # 6.9
    *(b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd"),  # 6.11
    *(b"\xef\xbf\xbe", b"\xf0\x9f\xbf\xbe", b"\xf3\xbf\xbf\xbf"),  # 6.22: no characters, but UTF-8
    *(b"\xef\xbf" + bytes((last,)) for last in range(0xB9, 0xC0)),  # 6.23
)
CUT_OFF = (
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
)
INVALID = (
    *(KOSME[:end] for end in (1, 3, 4, 6, 8)),  # 6.6
    *(b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"),  # 6.8
    *(b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf", BEYOND),  # 6.10, 6.11
    *((b"\x80\xbf" * 3)[:length] for length in range(1, 7)),  # 6.12
    *(b"\xbf", bytes(range(0x80, 0xBF))),
    *(
        b"".join(bytes((first, 0x20)) for first in range(*span))  # 6.13
        for span in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ),
    *CUT_OFF,  # 6.14
    b"".join(CUT_OFF),  # 6.15
    *(b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"),  # 6.16
    *(b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"),  # 6.17
    *(b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"),  # 6.18
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"),  # 6.19
    *(b"\xed" + pair for pair in (b"\xa0\x80", b"\xad\xbf", b"\xae\x80", b"\xaf\xbf", b"\xb0\x80", b"\xbf\xbf")),
    *(b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf"),  # 6.20, 6.21
)
UTF8 = [
    fine("6.1.1 empty", text(b""), b""),
    fine("6.1.2 empty in three", text(b"", b"", b""), b""),
    fine("6.1.3 empty around a middle", text(b"", b"middle", b""), b"middle"),
    fine("6.2.1 valid", text(HELLO), HELLO),
    fine("6.2.2 cut between characters", text(HELLO[:12], HELLO[12:]), HELLO),
    fine("6.2.3 octet by octet", text(*octets(HELLO)), HELLO),
    fine("6.2.4 octet by octet", text(*octets(KOSME)), KOSME),
    refused("6.3.1 invalid", text(KOSME + SURROGATE + b"edited"), 1007),
    refused("6.3.2 octet by octet", text(*octets(KOSME + SURROGATE + b"edited")), 1007),
    refused("6.4.1 not a word after the bad frame", text(KOSME, BEYOND, b"edited")[: -len(b"edited") - 2], 1007),
    refused("6.4.2 bad across frames", text(KOSME + BEYOND[:1], BEYOND[1:], b"edited")[: -len(b"edited") - 2], 1007),
    refused(
        "6.4.3 not a word after the bad octets of a frame", text(KOSME + BEYOND + b"edited")[: -len(b"edited")], 1007
    ),
    refused(
        "6.4.4 nor after the octet that spoils them",
        text(KOSME + BEYOND + b"edited")[: -len(BEYOND[2:] + b"edited")],
        1007,
    ),
    *(fine(f"6.5 - 6.23 valid {good.hex()}", text(good), good) for good in VALID),
    *(refused(f"6.6 - 6.21 invalid {bad.hex()[:40]}", text(bad), 1007) for bad in INVALID),
]

CLOSES = [
    fine("7.1.1 after a message", text(HI), HI),
    Case("7.1.2 two closes", GOODBYE * 2),
    Case("7.1.3 a ping after it", GOODBYE + frame(PING)),
    Case("7.1.4 a message after it", GOODBYE + text(HI)),
    Case("7.1.5 in mid-message", frame(TEXT, ONE, fin=False) + GOODBYE + more(TWO, fin=True)),
    Case("7.3.1 empty", frame(CLOSE), code=1005),
    refused("7.3.2 half a code", frame(CLOSE, b"\x03"), 1002),
    Case("7.3.4 with a reason", close(1000, HELLO)),
    Case("7.3.5 longest reason", close(1000, b"*" * 123)),
    refused("7.3.6 reason too long", frame(CLOSE, b"\x03\xe8" + b"*" * 124), 1002),
    refused("7.5.1 reason is not UTF-8", close(1000, KOSME + SURROGATE + b"edited"), 1007),
    *(
        Case(f"7.7 code {code}", close(code), code=code)
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    ),
    *(
        refused(f"7.9, 7.13 code {code}", close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535)
    ),
]

K, M = 1 << 10, 1 << 20


def pieces(size: int, piece: int, opcode: int = TEXT) -> bytes:
    """A message of `size` in fragments of `piece`, and an empty last one, as the suite sends it."""
    return text(*[b"*" * piece] * (size // piece), b"", opcode=opcode)


BIG = [
    *(fine(f"9.1 text of {size}", text(b"*" * size), b"*" * size) for size in (64 * K, 256 * K, M, 4 * M)),
    *(fine(f"9.3 in fragments of {piece}", pieces(4 * M, piece), b"*" * 4 * M) for piece in (16 * K, 256 * K, 4 * M)),
    fine("9.7 a thousand messages", text(b"*" * 64) * 1000, *[b"*" * 64] * 1000),
    fine("10.1.1 fragments of 1300", text(*[b"*" * 1300] * 50, b"*" * 536), b"*" * 65_536),
]
TOO_BIG = [
    refused("9.1.5 text of 8 MiB", text(b"*" * 8 * M), 1009),
    refused("9.2 binary", frame(BINARY, b"*" * 64 * K), 1003),
    *(refused(f"9.3 in fragments of {piece}", pieces(4 * M, piece), 1008) for piece in (64, 256, K, 4 * K)),
]
TAKEN_WHEN_ASKED = [
    fine("9.1.5 text of 8 MiB", text(b"*" * 8 * M), b"*" * 8 * M),
    fine("9.2 binary", frame(BINARY, b"\xfe" * M), b"\xfe" * M),
    *(fine(f"9.3 in fragments of {piece}", pieces(M, piece), b"*" * M) for piece in (64, K)),
    fine("9.4 binary in fragments", pieces(M, K, BINARY), b"*" * M),
]

CASES = [*FRAMING, *PINGS, *RESERVED, *OPCODES, *FRAGMENTS, *UTF8, *CLOSES]


class Server:
    """Plays a case, sent in pieces of so many bytes, and keeps what the client says."""

    def __init__(self, case: Case, piece: int, *, wants_echo: bool) -> None:
        self.echoes: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close_codes: list[int] = []
        self._case = case
        self._piece = piece
        self._wants_echo = wants_echo

    async def __call__(self, venue: Venue) -> None:
        await venue.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say, venue)
            await self._listen(venue)
            await venue.stream.aclose()

    async def _say(self, venue: Venue) -> None:
        stream = self._case.stream + (b"" if self._is_waiting() else self._case.goodbye)
        # A client that is done need not wait for the rest.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for at in range(0, len(stream), self._piece):
                await venue.stream.send_all(stream[at : at + self._piece])

    def _is_waiting(self) -> bool:
        return self._wants_echo and len(self.echoes) < len(self._case.messages)

    async def _listen(self, venue: Venue) -> None:
        parts: list[bytes] = []
        while (event := await venue.hear()) is not None:
            if isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, Message):
                parts.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    self.echoes.append(b"".join(parts))
                    parts.clear()
                    if not self._is_waiting():
                        await venue.stream.send_all(self._case.goodbye)
            elif isinstance(event, CloseConnection):
                self.close_codes.append(event.code)
                return


class Client:
    """Takes what comes and, if strict, sends it back: the client of the suite's run."""

    def __init__(self, *, strict: bool) -> None:
        self.messages: list[bytes] = []
        self._strict = strict
        self._echo, self._heard = trio.open_memory_channel[bytes](math.inf)

    def on_batch(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        self.messages += messages
        for message in messages if self._strict else ():
            self._echo.send_nowait(message)

    async def converse(self, server: Server) -> None:
        """Raises: why the link ended."""
        cutter = FrameCutter(16 * M, max_fragments=M, binary=True) if self._strict else None
        async with linked(server, self.on_batch, cutter=cutter, answer_s=1.0 if self._strict else 0.0) as link:
            async for message in self._heard:
                await link.send(message if isinstance(message, BinaryMessage) else message.decode())


async def play(case: Case, piece: int, *, strict: bool) -> None:
    """Send the case and compare everything that can be seen from outside."""
    server, client = Server(case, piece, wants_echo=strict), Client(strict=strict)
    with pytest.raises((ConnectionLost, ProtocolViolation)) as caught:
        await client.converse(server)
    assert client.messages == list(case.messages)
    assert server.echoes == (client.messages if strict else [])
    assert (server.pongs, server.close_codes) == (list(case.pongs), [case.code])
    if isinstance(caught.value, ProtocolViolation):
        assert caught.value.close_code == case.code


def named(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named([*CASES, *BINARY_REFUSED])
async def test_a_case_of_the_suite_whole_and_in_octets(case: Case, autojump_clock: trio.testing.MockClock) -> None:
    await play(case, len(case.stream), strict=False)
    await play(case, 1 if len(case.stream) < 1000 else _WHOLE_CHOP, strict=False)


@named([*CASES, *BINARY_TAKEN])
async def test_a_case_of_the_suite_strictly(case: Case, autojump_clock: trio.testing.MockClock) -> None:
    await play(case, len(case.stream), strict=True)


@named([*BIG, *TOO_BIG])
async def test_limits_of_the_suite_and_ours(case: Case, autojump_clock: trio.testing.MockClock) -> None:
    await play(case, 64 * K, strict=False)


@named(TAKEN_WHEN_ASKED)
async def test_limits_can_be_wider(case: Case, autojump_clock: trio.testing.MockClock) -> None:
    await play(case, 64 * K, strict=True)
