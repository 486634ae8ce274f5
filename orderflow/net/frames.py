"""Cutting a server's WebSocket byte stream into messages: RFC 6455, the client's receiving side, without any I/O.

This is the hot path of the whole program, so it handles only what it must: complete text messages come out as `bytes`
and control frames pass through untouched for the WebSocket library to answer. The common frame (whole, unfragmented,
ASCII text) costs one header look-up and one slice; everything else takes the slow path, one frame per call.

Rules follow wsproto, the oracle of the tests. Differences, all on purpose: binary messages are refused (1003; the
venue speaks JSON text only), sizes, fragments and empty fragments are limited (1009, 1008), reserved bits and masks are
refused before the rest of the header is there, and UTF-8 (1007) is judged frame by frame, not byte by byte.
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
_MEDIUM_HEAD: Final = b"\x81\x7e"

_read_two_shorts: Final = Struct("!HH").unpack_from
_read_short: Final = Struct("!H").unpack_from
_read_quad: Final = Struct("!Q").unpack_from
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")

_CLOSE_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1014), *range(3000, 5000)))
NO_CLOSE_CODE: Final = 1005
"""The code of a close frame that carries none (RFC 6455, 7.1.5)."""


class CloseFrame(NamedTuple):
    """What the peer's close frame said. `reason` is the peer's text and untrusted."""

    code: int
    reason: str


class FrameCutter:
    """Cuts frames out of what a server sends after the upgrade.

    `feed` returns the text messages completed by its bytes, in order. Then look at

    - `take_control()`: complete control frames (ping, pong, close) verbatim, in their own order;
    - `closed`: the close frame, once there was one; whatever follows it is ignored;
    - `violation`: set when the peer broke a rule. Messages before the break have been returned; nothing follows it,
      and feeding more raises it.

    Memory stays within `max_message_bytes` for the message under way, the same for the frame under way, and one read.

    Args:
        max_message_bytes: the largest message, in bytes of UTF-8, fragments added up (1009).
        max_fragments: the most frames one message may come in (1008).
        max_empty_fragments: the most empty ones of these in a row (1008).
    """

    def __init__(self, max_message_bytes: int, *, max_fragments: int = 1024, max_empty_fragments: int = 16) -> None:
        if min(max_message_bytes, max_fragments, max_empty_fragments) < 1:
            raise MisuseError("limits of a FrameCutter are at least 1")
        self.violation: ProtocolViolation | None = None
        self.closed: CloseFrame | None = None
        self._limit = max_message_bytes
        self._max_fragments = max_fragments
        self._max_empty = max_empty_fragments
        self._rest = bytearray()  # the start of a frame that is not complete
        self._need = 0  # length of `_rest` at which looking at it again can get further
        self._control: list[bytes] = []
        self._message: _Fragments | None = None
        self._is_fresh = True  # nothing is under way and nothing has ended: what comes begins with a frame

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Take the next bytes of the stream; returns the messages they complete, valid UTF-8, oldest first.

        Raises: the stored ProtocolViolation, when there was one before.
        """
        # One read, one frame, one message: what comes outside a burst. It runs with cold caches, where every byte code
        # counts (docs/performance.md), so it is told apart with as few as will do.
        if self._is_fresh and data.startswith(_MEDIUM_HEAD):
            length = len(data) - 4
            if 125 < length <= self._limit and (data[2] << 8 | data[3]) == length:
                message = bytes(data[4:])
                if message.isascii():
                    return [message]
        messages = self._cut_all(data)
        self._is_fresh = not self._rest and self._message is None and self.closed is None and self.violation is None
        return messages

    def _cut_all(self, data: bytes | bytearray) -> list[bytes]:
        if self.violation is not None:
            raise self.violation
        messages: list[bytes] = []
        if self.closed is not None:
            return messages
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return messages
            data = bytes(self._rest)
            self._rest.clear()
        try:
            position = self._cut(bytes(data), messages)
        except ProtocolViolation as violation:
            self.violation = violation
        else:
            if position < len(data) and self.closed is None:
                self._rest += data[position:] if position else data
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

    def _cut(self, data: bytes, messages: list[bytes]) -> int:
        """Append the whole messages in `data` to `messages`; returns where the first incomplete frame starts."""
        limit = self._limit
        deliver = messages.append
        end = len(data)
        position = 0
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
                break
            position = stop
            if self.closed is not None:
                break
        return position

    def _cut_one(self, data: bytes, position: int, messages: list[bytes]) -> int:
        """Handle the frame at `position`, whatever it is; returns where it ends, or 0 when it is not complete."""
        available = len(data) - position
        if available < 2:
            self._need = 2
            return 0
        first, second = data[position], data[position + 1]
        self._check_head(first, second)
        header, length = _payload_length(data, position, second)
        if header > available:
            self._need = header
            return 0
        opcode = first & _OPCODE
        if opcode not in _CONTROLS:
            self._check_room(length)
        if header + length > available:
            self._need = header + length
            return 0
        start, stop = position + header, position + header + length
        if opcode in _CONTROLS:
            self._on_control(opcode, data[position:stop], data[start:stop])
        else:
            self._on_data(bool(first & _FINAL), data[start:stop], messages)
        return stop

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
        elif opcode == _BINARY:
            raise ProtocolViolation(1003, "binary message; only text is understood")

    def _check_room(self, length: int) -> None:
        """Refuse a message by its declared length, before its bytes are there."""
        total = length + (len(self._message.text) if self._message else 0)
        if total > self._limit:
            raise ProtocolViolation(1009, f"message of at least {total} bytes; the limit is {self._limit}")

    def _on_control(self, opcode: int, frame: bytes, payload: bytes) -> None:
        if opcode == _CLOSE:
            self.closed = _parse_close(payload)
        self._control.append(frame)

    def _on_data(self, final: bool, payload: bytes, messages: list[bytes]) -> None:
        message = self._message
        if message is None:
            if final:
                _check_text(payload)
                messages.append(payload)
                return
            message = self._message = _Fragments()
        message.add(payload, final)
        if final:
            messages.append(bytes(message.text))
            self._message = None
        elif message.count >= self._max_fragments:
            raise ProtocolViolation(1008, f"message in more than {self._max_fragments} fragments")
        elif message.empty_in_a_row > self._max_empty:
            raise ProtocolViolation(1008, f"more than {self._max_empty} empty fragments in a row")


class _Fragments:
    """A fragmented message under way. One bytearray: small pieces must not cost more memory than they hold."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.count = 0
        self.empty_in_a_row = 0
        self._decoder = _new_decoder()

    def add(self, payload: bytes, final: bool) -> None:
        """Raises: ProtocolViolation 1007 when the text so far cannot be UTF-8."""
        self.count += 1
        self.empty_in_a_row = 0 if payload else self.empty_in_a_row + 1
        try:
            self._decoder.decode(payload, final)
        except UnicodeDecodeError as error:
            raise _not_utf8(error) from None
        self.text += payload


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
        raise _not_utf8(error) from None


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None


def _not_utf8(error: UnicodeDecodeError) -> ProtocolViolation:
    return ProtocolViolation(1007, f"text that is not UTF-8: {error.reason}")
