"""The recording format, byte by byte (docs/recording.md). Pure: bytes and records in, records and bytes out.

A file is a header and blocks; a block is a header and a payload, mostly compressed; a payload is records, one after
the other. Everything is little-endian and guarded by CRC-32, so a torn or damaged place is found and has an offset.
"""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

import msgspec
import zstandard

from orderflow.core.errors import RecordingError
from orderflow.record.records import ALL_BOOKS, FED_ALL, Frames, Record, Tick, Timer, decode_note, encode_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orderflow.record.records import Note

MAGIC: Final = b"\x89OFR\r\n\x1a\n"
"""Like PNG's: a transfer that changes line ends or strips the eighth bit breaks it at once."""
VERSION: Final = 1
SUFFIX: Final = ".ofr"
BLOCK_MAGIC: Final = b"OFRB"
MAX_PAYLOAD: Final = 64 << 20
"""Of one block, unpacked. A reader refuses more before it allocates anything."""
MAX_RECORDS: Final = 1 << 20
"""Of one block, and messages of one record: what 64 MiB of nothing could make of the memory otherwise."""
STORED: Final = 0
ZSTD: Final = 1

KIND_FRAMES: Final = 1
KIND_TIMER: Final = 2
KIND_TICK: Final = 3
KIND_NOTE: Final = 4

_FILE: Final = struct.Struct("<8sHHI16sqI")  # magic, version, header length, number, session, created ns, zero; CRC
_BLOCK: Final = struct.Struct("<4sB3xIIIIqqQI")  # see BlockHeader; CRC follows
_CRC: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<BI")  # kind, length of the body
_FRAMES: Final = struct.Struct("<BIIBqqI")  # the record's head, then connection, fed, recv ns, mono ns, messages
_FRAMES_BODY: Final = struct.Struct("<IBqqI")
_TIMER: Final = struct.Struct("<BIQq")  # head, applied, mono ns
_TIMER_BODY: Final = struct.Struct("<Qq")
_TICK: Final = struct.Struct("<BIQqqi")  # head, applied, recv ns, mono ns, book
_TICK_BODY: Final = struct.Struct("<Qqqi")

FILE_HEADER_BYTES: Final = _FILE.size + _CRC.size
BLOCK_HEADER_BYTES: Final = _BLOCK.size + _CRC.size
_READ_BYTES: Final = _FRAMES.size
_BIG_ENDIAN: Final = sys.byteorder == "big"


class FileHeader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first bytes of a file. `number` counts the files of one session from 0."""

    session: bytes
    number: int
    created_ns: int


class BlockHeader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The head of a block: enough to skip it, and to find a time without unpacking anything."""

    codec: int
    stored: int  # bytes of payload in the file
    raw: int  # bytes of payload unpacked
    records: int
    crc: int  # of the payload as it is in the file
    first_ns: int  # wall clock of the first and the last record that has one
    last_ns: int
    items: int  # how many queue items were recorded in this session before this block


Read = tuple[int, int, int, int, "Sequence[bytes]"]
"""A frames record that nobody has put into bytes yet: connection, fed, recv ns, mono ns, messages."""


class Chunk(NamedTuple):
    """Records ready to be written as one block. `frames`: messages among them."""

    parts: list[bytes | Read]
    size: int
    records: int
    frames: int
    first_ns: int
    last_ns: int
    items: int


# --- the file header ----------------------------------------------------------------------------------------------


def pack_file_header(header: FileHeader) -> bytes:
    data = _FILE.pack(MAGIC, VERSION, FILE_HEADER_BYTES, header.number, header.session, header.created_ns, 0)
    return data + _CRC.pack(crc32(data))


def parse_file_header(data: bytes, path: str) -> FileHeader:
    """Raises: RecordingError."""
    if not data:
        raise RecordingError(path, 0, "empty", "the file is empty")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise RecordingError(
            path, 0, "foreign", "not a recording of orderflow; archives, trade files and JSON lines: orderflow import"
        )
    if len(data) < FILE_HEADER_BYTES:
        raise RecordingError(path, len(data), "torn", "the file ends inside its header")
    _, version, _, number, session, created_ns, _ = _FILE.unpack_from(data)
    if version != VERSION:
        raise RecordingError(path, 8, "version", f"format version {version}; this program reads version {VERSION}")
    if _CRC.unpack_from(data, _FILE.size)[0] != crc32(data[: _FILE.size]):
        raise RecordingError(path, 0, "header", "the file's header is damaged")
    return FileHeader(session=session, number=number, created_ns=created_ns)


# --- blocks -------------------------------------------------------------------------------------------------------


def pack_block(chunk: Chunk, compressor: zstandard.ZstdCompressor | None) -> bytes:
    """A whole block. None: payload as it is. Raises: ValueError for more than MAX_PAYLOAD."""
    if chunk.size > MAX_PAYLOAD:
        raise ValueError(f"{chunk.size} bytes in one block; at most {MAX_PAYLOAD}")
    raw = _join(chunk.parts)
    codec, payload = STORED, raw
    if compressor is not None:
        packed = compressor.compress(raw)
        if len(packed) < len(raw):
            codec, payload = ZSTD, packed
    head = _BLOCK.pack(
        BLOCK_MAGIC,
        codec,
        len(payload),
        len(raw),
        chunk.records,
        crc32(payload),
        chunk.first_ns,
        chunk.last_ns,
        chunk.items,
        0,
    )
    return b"".join((head, _CRC.pack(crc32(head)), payload))


def _join(parts: Iterable[bytes | Read]) -> bytes:
    """The payload. What the feed left as it was becomes bytes here, all at once and in the writer's thread."""
    found: list[bytes] = []
    add = found.append
    pack, fixed = _FRAMES.pack, _FRAMES_BODY.size
    for part in parts:
        if isinstance(part, bytes):
            add(part)
            continue
        connection, fed, recv_ns, mono_ns, messages = part
        count = len(messages)
        if count == 1:
            body = len(messages[0])
            lengths = body.to_bytes(4, "little")
        else:
            sizes = array("I", map(len, messages))
            body = sum(sizes)
            if _BIG_ENDIAN:
                sizes.byteswap()
            lengths = sizes.tobytes()
        add(pack(KIND_FRAMES, fixed + len(lengths) + body, connection, fed, recv_ns, mono_ns, count))
        add(lengths)
        found += messages
    return b"".join(found)


def parse_block_header(data: bytes) -> BlockHeader | None:
    """None: these bytes are no block header, or a damaged one."""
    if len(data) < BLOCK_HEADER_BYTES or data[:4] != BLOCK_MAGIC:
        return None
    if _CRC.unpack_from(data, _BLOCK.size)[0] != crc32(data[: _BLOCK.size]):
        return None
    _, codec, stored, raw, records, crc, first_ns, last_ns, items, _ = _BLOCK.unpack_from(data)
    if codec not in (STORED, ZSTD) or max(stored, raw) > MAX_PAYLOAD:
        return None
    return BlockHeader(
        codec=codec,
        stored=stored,
        raw=raw,
        records=records,
        crc=crc,
        first_ns=first_ns,
        last_ns=last_ns,
        items=items,
    )


def unpack_payload(header: BlockHeader, payload: bytes, decompressor: zstandard.ZstdDecompressor) -> bytes:
    """The records of a block. Raises: ValueError saying what is wrong; never allocates more than `header.raw`."""
    if len(payload) != header.stored:
        raise ValueError("the file ends inside a block")
    if crc32(payload) != header.crc:
        raise ValueError("a block's checksum does not match")
    if header.codec == STORED:
        raw = payload
    else:
        try:
            if zstandard.frame_content_size(payload) != header.raw:
                raise ValueError("a block unpacks to another size than it says")
            raw = decompressor.decompress(payload, max_output_size=header.raw)
        except zstandard.ZstdError as error:
            raise ValueError(f"a block cannot be unpacked: {error}") from None
    if len(raw) != header.raw:
        raise ValueError("a block unpacks to another size than it says")
    return raw


# --- records ------------------------------------------------------------------------------------------------------


def parse_records(raw: bytes) -> Iterator[Record]:
    """The records of one unpacked payload; kinds from later versions are left out. Raises: ValueError."""
    at, end = 0, len(raw)
    records = 0
    while at < end:
        records += 1
        if records > MAX_RECORDS:
            raise ValueError(f"more than {MAX_RECORDS} records in a block")
        if end - at < _RECORD.size:
            raise ValueError("a record is cut short")
        kind, length = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        if length > end - at:
            raise ValueError("a record is longer than its block")
        if kind == KIND_FRAMES:
            yield _parse_frames(raw, at, length)
        elif kind == KIND_TIMER and length == _TIMER_BODY.size:
            yield Timer(*_TIMER_BODY.unpack_from(raw, at))
        elif kind == KIND_TICK and length == _TICK_BODY.size:
            yield Tick(*_TICK_BODY.unpack_from(raw, at))
        elif kind == KIND_NOTE:
            note = decode_note(raw[at : at + length])
            if note is not None:
                yield note
        elif kind in (KIND_TIMER, KIND_TICK):
            raise ValueError("a timer record of another length")
        at += length


def _parse_frames(raw: bytes, at: int, length: int) -> Frames:
    fixed = _FRAMES_BODY.size
    if length < fixed:
        raise ValueError("a frames record is cut short")
    connection, fed, recv_ns, mono_ns, count = _FRAMES_BODY.unpack_from(raw, at)
    begin = at + fixed + 4 * count
    if begin > at + length:
        raise ValueError("a frames record is cut short")
    if count > MAX_RECORDS:
        raise ValueError(f"more than {MAX_RECORDS} messages in a record")
    if count == 1:  # nearly all of them in a calm market
        messages = [raw[begin : at + length]]
        total = int.from_bytes(raw[at + fixed : begin], "little")
    else:
        lengths = array("I", raw[at + fixed : begin])
        if _BIG_ENDIAN:
            lengths.byteswap()
        ends = list(accumulate(lengths, initial=begin))
        messages = [raw[start:stop] for start, stop in pairwise(ends)]
        total = ends[-1] - begin
    if begin + total != at + length:
        raise ValueError("the messages of a record do not fill it")
    return Frames(connection, fed, recv_ns, mono_ns, messages)


class Encoder:
    """Collects records until they are taken as one chunk. `items` numbers what goes through the event queue."""

    __slots__ = ("_first_ns", "_items_before", "_parts", "frames_waiting", "items", "last_ns", "records", "size")

    def __init__(self) -> None:
        self.items = 0
        self.last_ns = 0
        self._begin()

    def _begin(self) -> None:
        self._parts: list[bytes | Read] = []
        self.size = self.records = self.frames_waiting = 0
        self._first_ns = 0
        self._items_before = self.items

    def frames(
        self, connection: int, messages: Sequence[bytes], recv_ns: int, mono_ns: int, fed: int = FED_ALL
    ) -> None:
        """The messages of one socket read, a list that nobody changes any more.

        `fed` other than FED_NOTHING: they are one item of the event queue. This is on the feed's way: the messages are
        only held here, `pack_block` puts them into bytes.
        """
        count = len(messages)
        self._parts.append((connection, fed, recv_ns, mono_ns, messages))
        self.size += _READ_BYTES + 4 * count + (len(messages[0]) if count == 1 else sum(map(len, messages)))
        self.records += 1
        self.frames_waiting += count
        if fed:
            self.items += 1
        if not self._first_ns:
            self._first_ns = recv_ns
        self.last_ns = recv_ns

    def timer(self, applied: int, mono_ns: int) -> None:
        self._add(_TIMER.pack(KIND_TIMER, _TIMER_BODY.size, applied, mono_ns))

    def tick(self, applied: int, recv_ns: int, mono_ns: int, book: int = ALL_BOOKS) -> None:
        self._add(_TICK.pack(KIND_TICK, _TICK_BODY.size, applied, recv_ns, mono_ns, book))
        self.stamp(recv_ns)

    def note(self, note: Note) -> None:
        """Anything rarer. A note that is a queue item is counted by whoever writes it (`items`)."""
        body = encode_note(note)
        self._add(_RECORD.pack(KIND_NOTE, len(body)) + body)

    def stamp(self, recv_ns: int) -> None:
        """Wall time reached `recv_ns`."""
        if not self._first_ns:
            self._first_ns = recv_ns
        self.last_ns = recv_ns

    def _add(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)
        self.records += 1

    def take(self) -> Chunk:
        """Everything since the last time, and begin anew."""
        first_ns = self._first_ns or self.last_ns
        chunk = Chunk(
            self._parts, self.size, self.records, self.frames_waiting, first_ns, self.last_ns, self._items_before
        )
        self._begin()
        return chunk
