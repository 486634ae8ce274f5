"""Cutting a server's WebSocket byte stream into messages: RFC 6455, the client's receiving side, without any I/O.

This is the hot path of the whole program, so it handles only what it must: complete text messages come out as `bytes`
and control frames pass through untouched for the WebSocket library to answer. The common frame (whole, unfragmented,
ASCII text) costs one header look-up and one slice; everything else takes the slow path, one frame per call.

Rules follow wsproto, the oracle of the tests. Differences, all on purpose: binary messages are refused unless asked for
(1003; the venue speaks JSON text only), sizes, fragments and empty fragments are limited (1009, 1008), and reserved
bits and masks are refused before the rest of the header is there. Text that cannot become UTF-8 any more (1007) is
refused with the octet that spoils it, in mid-frame too.
"""

from __future__ import annotations

import codecs
from struct import Struct
from typing import Final, NamedTuple

from orderflow.core.errors import MisuseError, ProtocolViolation

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_CONTROLS: Final = frozenset((_CLOSE, 0x9, 0xA))
_OPCODES: Final = _CONTROLS | {_CONTINUATION, _TEXT, _BINARY}

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F

# The first two bytes of a final, unmasked text frame, read as one number.
_TEXT_SHORT: Final = 0x8100  # + length, up to 125
_TEXT_MEDIUM: Final = 0x817E  # a 16-bit length follows
_MEDIUM_FIRST: Final = 0x81
_MEDIUM_SECOND: Final = 0x7E

_read_two_shorts: Final = Struct("!HH").unpack_from
_read_short: Final = Struct("!H").unpack_from
_read_quad: Final = Struct("!Q").unpack_from
_SURROGATES: Final = b"\xed\xa0"  # the first of them begins so, the last b"\xed\xbf"
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")

_CLOSE_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1014), *range(3000, 5000)))
NO_CLOSE_CODE: Final = 1005
"""The code of a close frame that carries none (RFC 6455, 7.1.5)."""


class CloseFrame(NamedTuple):
    """What the peer's close frame said. `reason` is the peer's text and untrusted."""

    code: int
    reason: str


class BinaryMessage(bytes):
    """A message that came as binary; given out only by a cutter that was told to take them."""


class FrameCutter:
    """Cuts frames out of what a server sends after the upgrade.

    `feed` returns the text messages completed by its bytes, in order. Then look at

    - `take_control()`: complete control frames (ping, pong, close) verbatim, in their own order;
    - `closed`: the close frame, once there was one; whatever follows it is ignored;
    - `violation`: set when the peer broke a rule. Messages before the break have been returned; nothing follows it,
      and feeding more raises it.

    Memory stays within `max_message_bytes` for the message under way, one control frame, and one read.

    Args:
        max_message_bytes: the largest message, in bytes, fragments added up (1009).
        max_fragments: the most frames one message may come in (1008).
        max_empty_fragments: the most empty ones of these in a row (1008).
        binary: give out binary messages too, as BinaryMessage, instead of refusing them (1003).
    """

    def __init__(
        self,
        max_message_bytes: int,
        *,
        max_fragments: int = 1024,
        max_empty_fragments: int = 16,
        binary: bool = False,
    ) -> None:
        if min(max_message_bytes, max_fragments, max_empty_fragments) < 1:
            raise MisuseError("limits of a FrameCutter are at least 1")
        self.violation: ProtocolViolation | None = None
        self.closed: CloseFrame | None = None
        self._limit = max_message_bytes
        self._max_fragments = max_fragments
        self._max_empty = max_empty_fragments
        self._binary = binary
        self._rest = b""  # an incomplete header or control frame
        self._control: list[bytes] = []
        self._message: _Message | None = None  # whose frames or bytes are not all there
        self._missing = 0  # bytes of its frame under way that are still to come
        self._final = False  # whether that frame is its last
        self._is_fresh = True  # nothing is under way and nothing has ended: what comes begins with a frame

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; returns the messages they complete, text as valid UTF-8, oldest first.

        Raises: the stored ProtocolViolation, when there was one before.
        """
        # One read, one frame, one message: what comes outside a burst. It runs with cold caches, where every byte code
        # counts and a method of `bytes` counts for several (docs/performance.md): so the header is told by its bytes.
        length = len(data) - 4
        if (
            125 < length <= self._limit
            and self._is_fresh
            and data[0] == _MEDIUM_FIRST
            and data[1] == _MEDIUM_SECOND
            and data[2] << 8 | data[3] == length
        ):
            message = data[4:]
            if message.isascii():
                return [message]
        messages = self._cut_all(data)
        self._is_fresh = not self._rest and self._message is None and self.closed is None and self.violation is None
        return messages

    def _cut_all(self, data: bytes) -> list[bytes]:
        if self.violation is not None:
            raise self.violation
        messages: list[bytes] = []
        if self.closed is not None:
            return messages
        if self._rest:
            data = self._rest + data
            self._rest = b""
        try:
            if self._message is not None and self._missing > len(data):  # the middle of a long frame
                self._message.add(data)
                self._missing -= len(data)
            else:
                self._cut(data, messages)
        except ProtocolViolation as violation:
            self.violation = violation
        return messages

    @property
    def has_control(self) -> bool:
        """Whether control frames wait to be taken."""
        return bool(self._control)

    def take_control(self) -> bytes:
        """The complete control frames since the last call, verbatim; b"" when there were none."""
        frames = b"".join(self._control)
        self._control.clear()
        return frames

    def _cut(self, data: bytes, messages: list[bytes]) -> None:
        """Append the messages that `data` completes to `messages`, and keep what is incomplete."""
        limit = self._limit
        deliver = messages.append
        end = len(data)
        position = self._on_payload(data, 0, messages) if self._missing else 0
        while position < end:
            # The fast path: at least 4 bytes, so that one look-up reads both forms of the header that matter.
            if end - position >= 4 and self._message is None:
                head, length = _read_two_shorts(data, position)
                if head == _TEXT_MEDIUM and length > 125:
                    start = position + 4
                elif _TEXT_SHORT <= head < _TEXT_MEDIUM:
                    start = position + 2
                    length = head - _TEXT_SHORT
                else:
                    start = 0
                stop = start + length
                if start and stop <= end and length <= limit:
                    message = data[start:stop]
                    if not message.isascii():
                        _check_text(message)
                    deliver(message)
                    position = stop
                    continue
            stop = self._cut_one(data, position, messages)
            if not stop:
                self._rest = data[position:]
                break
            position = stop
            if self.closed is not None:
                break

    def _cut_one(self, data: bytes, position: int, messages: list[bytes]) -> int:
        """Handle the frame at `position`, whatever it is; returns how far, or 0: more is needed to begin with it."""
        available = len(data) - position
        if available < 2:
            return 0
        first, second = data[position], data[position + 1]
        self._check_head(first, second)
        header, length = _payload_length(data, position, second)
        if header > available:
            return 0
        opcode = first & _OPCODE
        start, stop = position + header, position + header + length
        if opcode in _CONTROLS:
            if stop > len(data):
                return 0
            self._on_control(opcode, data[position:stop], data[start:stop])
            return stop
        self._begin_data(opcode, length, final=bool(first & _FINAL))
        return self._on_payload(data, start, messages)

    def _check_head(self, first: int, second: int) -> None:
        """Everything the first two bytes of a frame can do wrong."""
        opcode = first & _OPCODE
        if opcode not in _OPCODES:
            raise ProtocolViolation(1002, f"unknown opcode {opcode:#x}")
        if first & _RESERVED:
            raise ProtocolViolation(1002, "reserved bit set without an extension")
        if second & _MASKED:
            raise ProtocolViolation(1002, "masked frame from the server")
        if opcode in _CONTROLS:
            if not first & _FINAL:
                raise ProtocolViolation(1002, "fragmented control frame")
            if second & _LENGTH > 125:
                raise ProtocolViolation(1002, "control frame longer than 125 bytes")
        elif opcode == _CONTINUATION:
            if self._message is None:
                raise ProtocolViolation(1002, "continuation of nothing")
        elif self._message is not None:
            raise ProtocolViolation(1002, "new message inside a fragmented one")
        elif opcode == _BINARY and not self._binary:
            raise ProtocolViolation(1003, "binary message; only text is understood")

    def _on_control(self, opcode: int, frame: bytes, payload: bytes) -> None:
        if opcode == _CLOSE:
            self.closed = _parse_close(payload)
        self._control.append(frame)

    def _begin_data(self, opcode: int, length: int, *, final: bool) -> None:
        """A data frame's header is complete: refuse a message by its declared length, before its bytes are there."""
        message = self._message
        if message is None:
            message = self._message = _Message(is_text=opcode == _TEXT)
        total = length + len(message.payload)
        if total > self._limit:
            raise ProtocolViolation(1009, f"message of at least {total} bytes; the limit is {self._limit}")
        message.frames += 1
        message.empty_in_a_row = 0 if length else message.empty_in_a_row + 1
        self._missing = length
        self._final = final

    def _on_payload(self, data: bytes, start: int, messages: list[bytes]) -> int:
        """Bytes of the data frame under way, from `start` on; returns where they end."""
        message = self._message
        assert message is not None
        piece = data[start : start + self._missing]
        message.add(piece)
        self._missing -= len(piece)
        if not self._missing:
            if self._final:
                messages.append(message.finish())
                self._message = None
            elif message.frames >= self._max_fragments:
                raise ProtocolViolation(1008, f"message in more than {self._max_fragments} fragments")
            elif message.empty_in_a_row > self._max_empty:
                raise ProtocolViolation(1008, f"more than {self._max_empty} empty fragments in a row")
        return start + len(piece)


class _Message:
    """A message under way. One bytearray: small pieces must not cost more memory than they hold."""

    __slots__ = ("_decoder", "_is_text", "empty_in_a_row", "frames", "payload")

    def __init__(self, *, is_text: bool) -> None:
        self.payload = bytearray()
        self.frames = 0
        self.empty_in_a_row = 0
        self._is_text = is_text
        self._decoder: codecs.IncrementalDecoder | None = None  # from the first octet on that is not ASCII

    def add(self, piece: bytes | bytearray) -> None:
        """Raises: ProtocolViolation 1007 when the text so far cannot become UTF-8."""
        if self._is_text and (self._decoder is not None or not piece.isascii()):
            self._check(piece, final=False)
        self.payload += piece

    def finish(self) -> bytes:
        """The whole message. Raises: ProtocolViolation 1007 when it ends within a character."""
        if self._decoder is not None:
            self._check(b"", final=True)
        return bytes(self.payload) if self._is_text else BinaryMessage(self.payload)

    def _check(self, piece: bytes | bytearray, *, final: bool) -> None:
        decoder = self._decoder = self._decoder or _new_decoder()
        try:
            decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            raise _not_utf8(error.reason) from None
        begun, _ = decoder.getstate()
        if begun >= _SURROGATES and begun[:1] == _SURROGATES[:1]:  # Python waits for their third octet
            raise _not_utf8("surrogate")


def _payload_length(data: bytes, position: int, second: int) -> tuple[int, int]:
    """(header bytes, payload bytes) of the unmasked frame at `position`; payload 0 while the header is incomplete."""
    length = second & _LENGTH
    if length <= 125:
        return 2, length
    if length == 126:
        if len(data) - position < 4:
            return 4, 0
        (length,) = _read_short(data, position + 2)
        if length <= 125:
            raise ProtocolViolation(1002, "payload length in more bytes than needed")
        return 4, length
    if len(data) - position < 10:
        return 10, 0
    (length,) = _read_quad(data, position + 2)
    if length <= 0xFFFF:
        raise ProtocolViolation(1002, "payload length in more bytes than needed")
    if length >> 63:
        raise ProtocolViolation(1002, "payload length with its top bit set")
    return 10, length


def _parse_close(payload: bytes) -> CloseFrame:
    if not payload:
        return CloseFrame(NO_CLOSE_CODE, "")
    if len(payload) == 1:
        raise ProtocolViolation(1002, "close frame with half a code")
    (code,) = _read_short(payload)
    if code not in _CLOSE_CODES:
        raise ProtocolViolation(1002, f"close frame with invalid code {code}")
    try:
        return CloseFrame(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise _not_utf8(error.reason) from None


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error.reason) from None


def _not_utf8(why: str) -> ProtocolViolation:
    return ProtocolViolation(1007, f"text that is not UTF-8: {why}")
