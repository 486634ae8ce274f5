"""The frame cutter against hand-made frames and against wsproto as the oracle.

Differences to wsproto, all on purpose (see frames.py): binary messages are refused (1003), messages, fragments and
empty fragments are limited (1009, 1008), and a reserved or mask bit and half a surrogate are refused before the rest of
the header or the character has come.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from orderflow.core.errors import MisuseError, ProtocolViolation
from orderflow.net.frames import BinaryMessage, CloseFrame, FrameCutter

LIMIT = 1000
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = False) -> bytes:
    """One server frame with the shortest length encoding."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    if len(payload) <= 125:
        head = bytes((first, bit | len(payload)))
    elif len(payload) <= 0xFFFF:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    return head + (b"\0\0\0\0" if mask else b"") + payload


class Outcome(NamedTuple):
    messages: list[bytes]
    control: bytes
    refused: int | None  # close code
    closed: bool


def cut(stream: bytes, cuts: list[int] | None = None, **limits: int) -> Outcome:
    """Feed `stream` to a new cutter, cut at the given places."""
    cutter = FrameCutter(**{"max_message_bytes": LIMIT, **limits})
    messages: list[bytes] = []
    control = b""
    for piece in pieces(stream, cuts or []):
        if cutter.violation is not None:
            break
        messages += cutter.feed(piece)
        control += cutter.take_control()
    code = cutter.violation.close_code if cutter.violation else None
    return Outcome(messages, control, code, cutter.closed is not None)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def wsproto_says(stream: bytes) -> Outcome:
    """The same stream through wsproto's frame protocol as a client."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(stream)
    messages: list[bytes] = []
    control = b""
    parts: list[str] = []
    try:
        for got in protocol.received_frames():
            if got.opcode is Opcode.TEXT:
                parts.append(got.payload)
                if got.message_finished:
                    messages.append("".join(parts).encode())
                    parts.clear()
            elif got.opcode is Opcode.CLOSE:
                code, reason = got.payload
                payload = b"" if code == 1005 else struct.pack("!H", code) + reason.encode()
                control += frame(CLOSE, payload)
                return Outcome(messages, control, None, True)
            elif got.opcode in (Opcode.PING, Opcode.PONG):
                control += frame(got.opcode, bytes(got.payload))
    except ParseFailed as error:
        return Outcome(messages, control, int(error.code), False)
    return Outcome(messages, control, None, False)


# --- streams ------------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.sampled_from((125, 126, 127, 300)).map(lambda size: b"x" * size),
    st.just("Σ€𝄞".encode() * 20),
)
control_frames = st.builds(frame, st.sampled_from((PING, PONG)), st.binary(max_size=125))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One text message, whole or in fragments cut anywhere (within characters too), with control frames between."""
    text = draw(texts)
    cuts = draw(st.lists(st.integers(0, 400), max_size=4))
    parts = pieces(text, cuts)
    stream = b""
    for number, part in enumerate(parts):
        stream += frame(CONTINUATION if number else TEXT, part, fin=number == len(parts) - 1)
        if number < len(parts) - 1:
            stream += draw(st.one_of(st.just(b""), control_frames))
    return stream


closes = st.one_of(
    st.just(frame(CLOSE)),
    st.builds(
        lambda code, reason: frame(CLOSE, struct.pack("!H", code) + reason.encode()[:120]),
        st.sampled_from((1000, 1001, 1008, 1011, 1013, 3000, 3999, 4000, 4999)),
        st.text("abc ", max_size=120),
    ),
)
valid_streams = st.builds(
    lambda items, close: b"".join(items) + close,
    st.lists(st.one_of(messages(), control_frames), max_size=8),
    st.one_of(st.just(b""), closes),
)
odd_frames = st.builds(
    lambda first, length, tail: bytes((first,)) + length + tail,
    st.integers(0, 255),
    st.one_of(
        st.integers(0, 255).map(lambda n: bytes((n,))),
        st.integers(0, 0xFFFF).map(lambda n: struct.pack("!BH", 126, n)),
        st.sampled_from((0, 125, 0xFFFF, 0x10000, 2**63, 2**64 - 1)).map(lambda n: struct.pack("!BQ", 127, n)),
    ),
    st.binary(max_size=130),
)
odd_closes = st.binary(max_size=12).map(lambda payload: frame(CLOSE, payload))
any_streams = st.lists(
    st.one_of(messages(), control_frames, odd_frames, odd_closes, closes, st.binary(max_size=30)), max_size=6
).map(b"".join)
cut_places = st.lists(st.integers(0, 5000), max_size=12)


@given(valid_streams, cut_places)
def test_valid_streams_give_what_wsproto_gives(stream: bytes, cuts: list[int]) -> None:
    assert cut(stream, cuts) == wsproto_says(stream)


@settings(max_examples=20)
@given(valid_streams)
def test_cut_at_every_byte(stream: bytes) -> None:
    assert cut(stream, list(range(len(stream)))) == cut(stream)


@given(any_streams, cut_places)
def test_whatever_wsproto_refuses_is_refused(stream: bytes, cuts: list[int]) -> None:
    ours, theirs = cut(stream, cuts), wsproto_says(stream)
    if theirs.refused is None and ours.refused is None:
        assert ours == theirs
        return
    # A refusal of ours may come sooner; up to there both have seen the same.
    assert ours.messages == theirs.messages[: len(ours.messages)]
    assert theirs.control.startswith(ours.control)
    if ours.refused in (1003, 1008, 1009):
        return  # limits that wsproto does not have
    if theirs.refused is not None:
        assert ours.refused == theirs.refused
    else:
        assert is_soon_refused(stream, ours)


def is_soon_refused(stream: bytes, ours: Outcome) -> bool:
    """wsproto still waits for the length of a header, or for the end of a character, that cannot be right any more."""
    tails = (b"\xff" * 10, frame(CONTINUATION))
    return ours.refused in (1002, 1007) and any(wsproto_says(stream + tail).refused == ours.refused for tail in tails)


@given(any_streams, cut_places)
def test_cuts_do_not_change_the_outcome(stream: bytes, cuts: list[int]) -> None:
    assert cut(stream, cuts) == cut(stream)


def test_a_real_wsproto_server_is_understood() -> None:
    server = Connection(ConnectionType.SERVER)
    stream = b"".join(
        (
            server.send(TextMessage(data="ab", message_finished=False)),
            server.send(Ping(payload=b"1")),
            server.send(TextMessage(data="cdé")),
            server.send(TextMessage(data="x" * 70_000)),
            server.send(Pong(payload=b"2")),
            server.send(CloseConnection(code=1001, reason="bye")),
        )
    )
    cutter = FrameCutter(100_000)
    assert cutter.feed(stream) == ["abcdé".encode(), b"x" * 70_000]
    assert cutter.take_control() == frame(PING, b"1") + frame(PONG, b"2") + frame(CLOSE, b"\x03\xe9bye")
    assert cutter.take_control() == b""
    assert cutter.closed == CloseFrame(1001, "bye")


# --- single rules -------------------------------------------------------------------------------------------------

GOOD = frame(TEXT, b"good")


@pytest.mark.parametrize(
    "bad, code",
    [
        (frame(TEXT, b"x", rsv=4), 1002),
        (frame(TEXT, b"x", rsv=2), 1002),
        (frame(TEXT, b"x", rsv=1), 1002),
        (frame(PING, rsv=4), 1002),
        (frame(TEXT, b"x", mask=True), 1002),
        (frame(PING, mask=True), 1002),
        (frame(0x3), 1002),
        (frame(0x7), 1002),
        (frame(0xB), 1002),
        (frame(0xF), 1002),
        (frame(PING, fin=False), 1002),
        (frame(CLOSE, fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(CONTINUATION, b"x", fin=False), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(BINARY, b"b"), 1002),
        (b"\x81\x7e\x00\x7d" + b"x" * 125, 1002),
        (b"\x81\x7f" + struct.pack("!Q", 0xFFFF), 1002),
        (b"\x81\x7f" + struct.pack("!Q", 2**63), 1002),
        (frame(BINARY, b"x"), 1003),
        (frame(BINARY, b"x", fin=False), 1003),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),  # a surrogate
        (frame(TEXT, b"\xc0\xaf"), 1007),  # overlong
        (frame(TEXT, "é".encode()[:1]), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"x"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION), 1007),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, struct.pack("!H", 999)), 1002),
        (frame(CLOSE, struct.pack("!H", 1004)), 1002),
        (frame(CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(CLOSE, struct.pack("!H", 1006)), 1002),
        (frame(CLOSE, struct.pack("!H", 1015)), 1002),
        (frame(CLOSE, struct.pack("!H", 2999)), 1002),
        (frame(CLOSE, struct.pack("!H", 5000)), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(TEXT, b"x" * (LIMIT + 1)), 1009),
        (b"\x81\x7e\xff\xff", 1009),
        (b"\x81\x7f" + struct.pack("!Q", 2**62), 1009),
        (frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 401)[:4], 1009),
        (frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) * 4, 1008),
        (frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 2, 1008),
    ],
)
def test_a_broken_rule_ends_the_stream_after_what_came_before(bad: bytes, code: int) -> None:
    cutter = FrameCutter(LIMIT, max_fragments=5, max_empty_fragments=2)
    assert cutter.feed(GOOD + frame(PING) + bad + GOOD) == [b"good"]
    assert cutter.violation is not None
    assert cutter.violation.close_code == code
    assert cutter.take_control() == frame(PING)
    with pytest.raises(ProtocolViolation):
        cutter.feed(GOOD)


def test_limits_are_inclusive() -> None:
    most = frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"y" * 400)
    assert cut(frame(TEXT, b"x" * LIMIT) + most).messages == [b"x" * LIMIT, b"x" * 600 + b"y" * 400]
    assert cut(frame(TEXT, "é".encode() * 500)).refused is None
    fragments = frame(TEXT, fin=False) + frame(CONTINUATION) + frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b")
    assert cut(fragments, max_fragments=2, max_empty_fragments=1).messages == [b"", b"ab"]


def test_empty_fragments_are_counted_only_in_a_row() -> None:
    rhythm = frame(CONTINUATION, fin=False) + frame(CONTINUATION, b"x", fin=False)
    stream = frame(TEXT, fin=False) + rhythm * 50 + frame(CONTINUATION)
    assert cut(stream, max_empty_fragments=2).messages == [b"x" * 50]


def test_control_frames_wait_until_they_are_taken() -> None:
    cutter = FrameCutter(LIMIT)
    assert not cutter.has_control
    cutter.feed(frame(PING, b"1") + GOOD + frame(PONG))
    assert cutter.has_control
    assert cutter.take_control() == frame(PING, b"1") + frame(PONG)
    assert not cutter.has_control
    assert cutter.take_control() == b""


def test_nothing_is_delivered_after_a_close_frame() -> None:
    stream = GOOD + frame(CLOSE, struct.pack("!H", 1001)) + GOOD + frame(PING) + b"\xff\xff"
    for cuts in ([], list(range(len(stream)))):
        assert cut(stream, cuts) == Outcome([b"good"], frame(CLOSE, struct.pack("!H", 1001)), None, True)


def test_a_message_in_single_bytes_costs_neither_memory_nor_time() -> None:
    class Counting(FrameCutter):
        looked_at = 0

        def _cut(self, data: bytes, messages: list[bytes]) -> None:
            self.looked_at += len(data)
            super()._cut(data, messages)

    cutter = Counting(200_000)
    stream = frame(PING, b"p" * 125) + frame(TEXT, b"x" * 100_000)
    assert all(not cutter.feed(stream[place : place + 1]) for place in range(len(stream) - 1))
    assert cutter.feed(stream[-1:]) == [b"x" * 100_000]
    assert cutter.looked_at <= 100_000 + 127 * 128 // 2 + 10 * 11 // 2  # headers and control frames begin afresh


def test_the_message_under_way_is_kept_once() -> None:
    cutter = FrameCutter(200_000)
    cutter.feed(frame(TEXT, b"x" * 100_000)[:-1])
    assert (len(cutter._rest), len(cutter._message.payload)) == (0, 99_999)  # type: ignore[union-attr] # it is there


# --- one read that is one frame: what comes outside a burst takes a shorter way --------------------------------------


def read_by_read(*reads: bytes, limit: int = LIMIT) -> Outcome:
    """Each argument comes as one read."""
    cutter = FrameCutter(limit)
    messages: list[bytes] = []
    control = b""
    for read in reads:
        if cutter.violation is not None:
            break
        messages += cutter.feed(read)
        control += cutter.take_control()
    code = cutter.violation.close_code if cutter.violation else None
    return Outcome(messages, control, code, cutter.closed is not None)


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 255, 256, 300, 511, 512, LIMIT - 1, LIMIT])
def test_a_read_that_is_one_frame(size: int) -> None:
    text = b"a" + b"x" * (size - 2) + b"z" if size > 1 else b"y" * size
    both = [text, text]
    assert read_by_read(frame(TEXT, text), frame(TEXT, text)).messages == both
    assert read_by_read(frame(TEXT, text), GOOD, frame(TEXT, text)).messages == [text, b"good", text]
    assert read_by_read(frame(TEXT, text) + GOOD[:3], GOOD[3:], frame(TEXT, text)).messages == [text, b"good", text]
    assert read_by_read(frame(TEXT, text)[:-1], frame(TEXT, text)[-1:], frame(TEXT, text)).messages == both
    assert read_by_read(frame(TEXT, text) + b"\x81").messages == [text]


@pytest.mark.parametrize("size", [LIMIT + 1, 5000])
def test_a_read_that_is_one_frame_above_the_limit(size: int) -> None:
    assert read_by_read(frame(TEXT, b"x" * size)) == Outcome([], b"", 1009, False)


def test_a_read_that_is_one_frame_of_other_text() -> None:
    good, bad = "é".encode() * 200, b"x" * 200 + b"\xff"
    assert read_by_read(frame(TEXT, good), frame(TEXT, good)).messages == [good, good]
    assert read_by_read(frame(TEXT, good), frame(TEXT, bad)) == Outcome([good], b"", 1007, False)


@pytest.mark.parametrize(
    "length, messages, refused",
    [
        (0, [], 1002),
        (125, [], 1002),
        (199, [b"x" * 199], None),  # and the beginning of nonsense behind it
        (201, [], None),
        (456, [], None),  # its low byte says 200
    ],
)
def test_a_read_whose_length_says_otherwise(length: int, messages: list[bytes], refused: int | None) -> None:
    """It is no whole frame, or more than one, or wrong."""
    read = struct.pack("!BBH", 0x81, 126, length) + b"x" * 200
    assert read_by_read(read) == Outcome(messages, b"", refused, False)


@pytest.mark.parametrize("declared", [1 << 8 | 0xFF, 2 << 8 | 1], ids=hex)
def test_neither_byte_of_the_length_counts_for_the_other(declared: int) -> None:
    assert read_by_read(struct.pack("!BBH", 0x81, 126, declared) + b"x" * 0x101) == Outcome([], b"", None, False)


@pytest.mark.parametrize("declared", [0x00C8, 0x01C8, 0x7DC8])
def test_the_form_of_the_length_is_no_part_of_it(declared: int) -> None:
    """The read is as long as if the octet that says how the length is written were the first of the length."""
    read = struct.pack("!BBH", 0x81, 126, declared) + b"\x0a" * 0x7EC8
    assert read_by_read(read, limit=1 << 16) == Outcome([b"\x0a" * declared], b"", 1002, False)


@pytest.mark.parametrize(
    ("head", "refused"),
    [(0x01, None), (0x80, 1002), (0x82, 1003), (0x83, 1002), (0x88, 1002), (0x89, 1002), (0x91, 1002), (0xC1, 1002)],
)
def test_a_read_that_is_one_frame_of_something_else(head: int, refused: int | None) -> None:
    read = bytes((head, 126)) + struct.pack("!H", 200) + b"x" * 200
    assert read_by_read(read) == Outcome([], b"", refused, False)


def test_a_read_that_is_one_masked_frame() -> None:
    assert read_by_read(struct.pack("!BBH", 0x81, 0xFE, 200) + b"x" * 200) == Outcome([], b"", 1002, False)


def test_a_read_of_very_many_short_messages() -> None:
    texts = [b"%d" % number for number in range(100_000, 110_000)]
    assert read_by_read(b"".join(frame(TEXT, text) for text in texts), limit=1 << 20).messages == texts


def test_a_read_that_is_one_frame_where_none_may_be() -> None:
    whole = frame(TEXT, b"x" * 200)
    assert read_by_read(frame(TEXT, b"a", fin=False), whole) == Outcome([], b"", 1002, False)
    assert read_by_read(frame(CLOSE), whole) == Outcome([], frame(CLOSE), None, True)
    cutter = FrameCutter(LIMIT)
    cutter.feed(frame(BINARY))
    with pytest.raises(ProtocolViolation):
        cutter.feed(whole)


def test_a_read_that_looks_like_one_frame_and_is_in_the_middle_of_another() -> None:
    """Text may hold the octets of a header, behind the first octet of a character that the last read ended with."""
    inner = frame(TEXT, b"x" * 0x141)
    text = b"\xc4" + inner  # "\u0101~\x01A" and on
    stream = frame(TEXT, text)
    cut_at = stream.index(inner)
    assert read_by_read(stream[:cut_at], stream[cut_at:]).messages == [text]
    length, payload = b"\x81\x7e", b"\x01\x41" + b"x" * (0x817E - 2)
    at = 2 + 0x141
    assert read_by_read(b"\x81\x7e", length + payload[:at], payload[at:], limit=40_000).messages == [payload]


# --- text that is spoilt in mid-frame (Autobahn 6.3, 6.4) ----------------------------------------------------------

SPOILT = [b"\xff", b"\xc0", b"\xe0\x9f", b"\xed\xa0", b"\xed\xbf", b"\xf0\x8f", b"\xf4\x90", b"\xf5", b"\xe2\x82A"]


@pytest.mark.parametrize("bad", SPOILT, ids=bytes.hex)
@pytest.mark.parametrize("before", [b"", b"ascii", "κόσμε".encode()], ids=["first", "ascii", "greek"])
@pytest.mark.parametrize("fin", [True, False], ids=["last", "fragment"])
def test_the_octet_that_spoils_a_text_ends_it(bad: bytes, before: bytes, fin: bool) -> None:
    """Octet by octet: fine up to it, refused with it, though the frame goes on for long."""
    payload = before + bad
    stream = frame(TEXT, payload + b"x" * 1000, fin=fin)
    cutter = FrameCutter(2000)
    until = stream.index(payload) + len(payload) - 1
    for place in range(until):
        assert cutter.feed(stream[place : place + 1]) == []
        assert cutter.violation is None
    cutter.feed(stream[until : until + 1])
    assert cutter.violation is not None
    assert cutter.violation.close_code == 1007


@pytest.mark.parametrize("bad", SPOILT, ids=bytes.hex)
def test_text_may_be_spoilt_across_fragments(bad: bytes) -> None:
    stream = frame(TEXT, b"a" + bad[:1], fin=False) + frame(CONTINUATION, bad[1:] + b"x" * 300)
    assert cut(stream[: 2 + 2 + 4 + len(bad) - 1]).refused == 1007


def test_text_may_end_a_frame_but_not_the_message_within_a_character() -> None:
    begun = frame(TEXT, "€".encode()[:2], fin=False)
    assert cut(begun).refused is None
    assert cut(begun + frame(CONTINUATION, "€".encode()[2:])).messages == ["€".encode()]
    assert cut(begun + frame(CONTINUATION)).refused == 1007


# --- binary messages, for who asks for them ------------------------------------------------------------------------


def test_binary_messages_are_told_from_text() -> None:
    cutter = FrameCutter(LIMIT, binary=True)
    odd = b"\xff\xfe\x00"
    stream = (
        frame(BINARY, odd) + GOOD + frame(BINARY, odd, fin=False) + frame(CONTINUATION, odd) + frame(TEXT, "é".encode())
    )
    got = cutter.feed(stream)
    assert got == [odd, b"good", odd * 2, "é".encode()]
    assert [type(message) is BinaryMessage for message in got] == [True, False, True, False]


def test_binary_messages_have_the_limits_of_text() -> None:
    def refused(stream: bytes) -> int:
        cutter = FrameCutter(LIMIT, max_fragments=3, binary=True)
        cutter.feed(stream)
        return cutter.violation.close_code if cutter.violation else 0

    assert refused(frame(BINARY, b"\xff" * LIMIT)) == 0
    assert refused(frame(BINARY, b"\xff" * (LIMIT + 1))) == 1009
    assert refused(frame(BINARY, fin=False) + frame(CONTINUATION, b"x", fin=False) * 2) == 1008


@pytest.mark.parametrize("limits", [{"max_message_bytes": 0}, {"max_fragments": 0}, {"max_empty_fragments": 0}])
def test_limits_are_positive(limits: dict[str, int]) -> None:
    with pytest.raises(MisuseError):
        FrameCutter(**{"max_message_bytes": 1, **limits})


# --- borders, as mutation testing found them unwatched ------------------------------------------------------------


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, *range(1007, 1014), 3000, 3001, 3500, 4000, 4998, 4999], ids=str
)
def test_close_codes_that_may_be_sent_are_understood(code: int) -> None:
    cutter = FrameCutter(LIMIT)
    cutter.feed(frame(CLOSE, struct.pack("!H", code) + b"why"))
    assert (cutter.closed, cutter.violation) == (CloseFrame(code, "why"), None)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1014, 1015, 2999, 5000, 65_535], ids=str)
def test_close_codes_that_may_not_be_sent_are_refused(code: int) -> None:
    assert cut(frame(CLOSE, struct.pack("!H", code))).refused == 1002


def test_a_close_frame_without_a_code_is_told_as_1005() -> None:
    cutter = FrameCutter(LIMIT)
    cutter.feed(frame(CLOSE))
    assert cutter.closed == CloseFrame(1005, "")


@pytest.mark.parametrize("count, refused", [(1023, None), (1024, 1008)])
def test_the_default_limit_of_fragments(count: int, refused: int | None) -> None:
    """`count` fragments that are not the last."""
    stream = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) * (count - 1) + frame(CONTINUATION)
    assert cut(stream, max_message_bytes=5000).refused == refused


@pytest.mark.parametrize("count, refused", [(16, None), (17, 1008)])
def test_the_default_limit_of_empty_fragments(count: int, refused: int | None) -> None:
    stream = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, fin=False) * count + frame(CONTINUATION)
    assert cut(stream).refused == refused


@pytest.mark.parametrize("size", [0, 1, 2, 123, 124, 125, 126, 127, 0xFFFE, 0xFFFF, 0x10000, 0x10001])
@pytest.mark.parametrize("fin", [True, False], ids=["whole", "fragmented"])
def test_every_form_of_the_length_at_its_borders(size: int, fin: bool) -> None:
    """Followed by more, and cut behind each byte of the header."""
    stream = frame(TEXT, b"x" * size, fin=fin) + (b"" if fin else frame(CONTINUATION)) + GOOD
    for place in (0, 1, 2, 3, 4, 9, 10, 11):
        assert cut(stream, [place], max_message_bytes=size + 4).messages == [b"x" * size, b"good"]


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("size", [124, 125])
def test_the_longest_control_frame_passes(opcode: int, size: int) -> None:
    assert cut(frame(opcode, b"x" * size)) == Outcome([], frame(opcode, b"x" * size), None, False)


@pytest.mark.parametrize("size", [0, 124, 125])
def test_a_16_bit_length_that_was_not_needed_is_refused(size: int) -> None:
    assert cut(struct.pack("!BBH", 0x81, 126, size) + b"x" * size).refused == 1002


@pytest.mark.parametrize("size", [0, 126, 0xFFFE, 0xFFFF])
def test_a_64_bit_length_that_was_not_needed_is_refused(size: int) -> None:
    assert cut(struct.pack("!BBQ", 0x81, 127, size) + b"x" * size, max_message_bytes=0x10000).refused == 1002


def test_invalid_text_is_refused_on_both_paths() -> None:
    """The fast path needs 4 bytes; a frame of 3 takes the slow one, and nothing of either is delivered."""
    assert cut(frame(TEXT, b"\xff")) == Outcome([], b"", 1007, False)
    assert cut(frame(TEXT, b"\xff") + GOOD) == Outcome([], b"", 1007, False)


def test_what_is_judged_is_forgotten() -> None:
    """Neither what followed a close frame nor a whole frame is kept."""
    cutter = FrameCutter(LIMIT)
    cutter.feed(GOOD)
    assert cutter._rest == b""
    cutter.feed(frame(CLOSE) + GOOD[:3])
    assert cutter._rest == b""


@pytest.mark.parametrize("size", [126, 300, 0x10000])
@pytest.mark.parametrize("behind", range(1, 11))
def test_a_header_may_break_off_behind_other_frames(size: int, behind: int) -> None:
    stream = GOOD + frame(TEXT, b"x" * size)
    assert cut(stream, [len(GOOD) + behind], max_message_bytes=size).messages == [b"good", b"x" * size]


@pytest.mark.parametrize("size", [5, 124, 125])
@pytest.mark.parametrize("start", [b"\0\1", b"\0\x7e", b"\1\0"])
def test_text_that_looks_like_a_length_is_text(size: int, start: bytes) -> None:
    text = start + b"x" * (size - len(start))
    assert cut(frame(TEXT, text) + GOOD * 100).messages == [text] + [b"good"] * 100


@pytest.mark.parametrize("size", [256, 260, 300])
def test_a_frame_and_the_start_of_a_message_are_never_taken_for_one(size: int) -> None:
    """All plain ASCII from the first payload on, and together as long as a length read wrongly might say."""
    first = frame(TEXT, b"x" * size)
    for rest in range(2, 700):
        assert read_by_read(first + _fragments(rest)).messages == [b"x" * size]


def _fragments(length: int) -> bytes:
    """A message under way: so many bytes of frames, none of them the last."""
    frames = b""
    while length - len(frames) >= 2:
        size = min(120, length - len(frames) - 2)
        frames += frame(CONTINUATION if frames else TEXT, b"y" * size, fin=False)
    return frames
