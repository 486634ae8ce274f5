from __future__ import annotations

import struct
from zlib import crc32

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.errors import RecordingError
from orderflow.core.types import BookState, ClockOffset, Distrust, LinkChanged, TopicRefused
from orderflow.record.format import (
    BLOCK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    MAX_PAYLOAD,
    Chunk,
    Encoder,
    FileHeader,
    pack_block,
    pack_file_header,
    parse_block_header,
    parse_file_header,
    parse_records,
    unpack_payload,
)
from orderflow.record.records import (
    BookImage,
    Checkpoint,
    Control,
    End,
    Fed,
    Frames,
    Gap,
    Given,
    Link,
    Lost,
    Refused,
    Sent,
    Tick,
    Timer,
    decode_event,
    decode_note,
    encode_event,
    encode_note,
)
from tests.record.tapes import BTC, T0, opened, session

times = st.integers(-(2**63), 2**63 - 1)
small = st.integers(0, 2**32 - 1)
frames = st.builds(Frames, small, st.integers(0, 255), times, times, st.lists(st.binary(max_size=40), max_size=6))
timers = st.builds(Timer, st.integers(0, 2**64 - 1), times)
ticks = st.builds(Tick, st.integers(0, 2**64 - 1), times, times, st.integers(-1, 2**31 - 1))
text = st.text(st.characters(codec="utf-8"), max_size=30)
notes = st.one_of(
    st.just(session()),
    st.just(opened()),
    st.just(Refused()),
    st.builds(Lost, connection=small, reason=text, detail=text, recv_ns=times, mono_ns=times),
    st.builds(Sent, connection=small, text=text, recv_ns=times, mono_ns=times),
    st.builds(End, reason=text),
    st.builds(Gap, reason=text, from_ns=times, to_ns=times, frames=small, bytes=small, items=small, detail=text),
    st.builds(Link, applied=small, change=st.builds(LinkChanged, link=text, state=text, reason=text)),
    st.builds(
        Checkpoint,
        applied=small,
        recv_ns=times,
        mono_ns=times,
        books=st.lists(
            st.builds(
                BookImage,
                instrument=st.just(BTC),
                state=st.sampled_from(BookState),
                reason=text,
                u=st.none() | small,
                seq=st.none() | small,
                last_mono_ns=st.none() | times,
                bids=st.lists(st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)), max_size=3),
                asks=st.just([]),
            ),
            max_size=2,
        ),
    ),
)
records = st.one_of(frames, timers, ticks, notes)


def encode(all_records: list[object]) -> Encoder:
    encoder = Encoder()
    for record in all_records:
        if isinstance(record, Frames):
            encoder.frames(record.connection, record.messages, record.recv_ns, record.mono_ns, record.fed)
        elif isinstance(record, Timer):
            encoder.timer(record.applied, record.mono_ns)
        elif isinstance(record, Tick):
            encoder.tick(record.applied, record.recv_ns, record.mono_ns, record.book)
        else:
            encoder.note(record)  # type: ignore[arg-type]
    return encoder


@given(st.lists(records, max_size=12), st.booleans())
def test_what_is_written_is_read(written: list[object], packed: bool) -> None:
    chunk = encode(written).take()
    assert chunk.records == len(written)
    assert len(pack_block(chunk, None)) == BLOCK_HEADER_BYTES + chunk.size
    assert chunk.frames == sum(len(record.messages) for record in written if isinstance(record, Frames))
    block = pack_block(chunk, zstandard.ZstdCompressor(level=1) if packed else None)
    header = parse_block_header(block)
    assert header is not None
    assert (header.records, header.raw) == (len(written), chunk.size)
    raw = unpack_payload(header, block[BLOCK_HEADER_BYTES:], zstandard.ZstdDecompressor())
    assert list(parse_records(raw)) == written


@given(st.binary(max_size=300))
def test_any_payload_gives_records_or_a_value_error(data: bytes) -> None:
    try:
        list(parse_records(data))
    except ValueError:
        pass


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_a_changed_payload_gives_records_or_a_value_error(written: list[object], data: st.DataObject) -> None:
    raw = bytearray(pack_block(encode(written).take(), None)[BLOCK_HEADER_BYTES:])
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        list(parse_records(bytes(raw)))
    except ValueError:
        pass


@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_changed_block_is_found_out(written: list[object], data: st.DataObject) -> None:
    block = bytearray(pack_block(encode(written).take(), zstandard.ZstdCompressor()))
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    header = parse_block_header(bytes(block))
    if at < BLOCK_HEADER_BYTES:
        assert header is None
    else:
        assert header is not None
        with pytest.raises(ValueError, match="checksum"):
            unpack_payload(header, bytes(block[BLOCK_HEADER_BYTES:]), zstandard.ZstdDecompressor())


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
    chunk = Chunk([bytes(100)], 100, 1, 0, 0, 0, 0)
    header = parse_block_header(pack_block(chunk, None))
    assert header is not None
    lying = msgspec.structs.replace(header, codec=1, stored=len(bomb), crc=crc32(bomb))
    with pytest.raises(ValueError, match="another size"):
        unpack_payload(lying, bomb, zstandard.ZstdDecompressor())
    streamed = zstandard.ZstdCompressor().compressobj()  # states no content size
    endless = streamed.compress(bytes(1 << 20)) + streamed.flush()
    with pytest.raises(ValueError, match="another size"):
        unpack_payload(
            msgspec.structs.replace(lying, stored=len(endless), crc=crc32(endless)),
            endless,
            zstandard.ZstdDecompressor(),
        )
    garbage = b"no zstd at all"
    with pytest.raises(ValueError, match="unpack"):
        unpack_payload(
            msgspec.structs.replace(lying, stored=len(garbage), crc=crc32(garbage)),
            garbage,
            zstandard.ZstdDecompressor(),
        )


def test_a_header_that_promises_too_much_is_none() -> None:
    head = struct.pack("<4sB3xIIIIqqQI", b"OFRB", 0, 1, MAX_PAYLOAD + 1, 1, 0, 0, 0, 0, 0)
    assert parse_block_header(head + struct.pack("<I", crc32(head))) is None
    with pytest.raises(ValueError, match="at most"):
        pack_block(Chunk([b""], MAX_PAYLOAD + 1, 1, 0, 0, 0, 0), None)


@given(st.binary(min_size=16, max_size=16), small, times)
def test_file_headers(name: bytes, number: int, created_ns: int) -> None:
    header = FileHeader(session=name, number=number, created_ns=created_ns)
    data = pack_file_header(header)
    assert len(data) == FILE_HEADER_BYTES == 48
    assert parse_file_header(data, "x") == header


@pytest.mark.parametrize(
    "data, reason, offset",
    [
        (b"", "empty", 0),
        (b"\x89OF", "torn", 3),
        (b"\x1f\x8b\x08\x00", "foreign", 0),
        (b"{}" * 40, "foreign", 0),
        (pack_file_header(FileHeader(session=bytes(16), number=0, created_ns=0))[:30], "torn", 30),
        (pack_file_header(FileHeader(session=bytes(16), number=0, created_ns=0))[:-1] + b"!", "header", 0),
        (b"\x89OFR\r\n\x1a\n\x02\x00" + bytes(40), "version", 8),
    ],
)
def test_a_bad_file_header_says_what_is_wrong(data: bytes, reason: str, offset: int) -> None:
    with pytest.raises(RecordingError) as caught:
        parse_file_header(data, "some.ofr")
    assert (caught.value.reason, caught.value.offset, caught.value.path) == (reason, offset, "some.ofr")


def test_the_layout_is_what_the_page_says() -> None:
    encoder = Encoder()
    encoder.frames(7, [b"ab", b"c"], 5, 6, 1)
    chunk = encoder.take()
    block = pack_block(chunk, None)
    raw = block[56:]
    assert raw == struct.pack("<BI IBqqI II", 1, 25 + 8 + 3, 7, 1, 5, 6, 2, 2, 1) + b"abc"
    assert block[:5] == b"OFRB\0"
    assert struct.unpack_from("<IIII", block, 8) == (len(raw), len(raw), 1, crc32(raw))
    assert struct.unpack_from("<qqQ", block, 24) == (5, 5, 0)
    assert len(block) == 56 + len(raw)


def test_the_encoder_numbers_queue_items() -> None:
    encoder = Encoder()
    encoder.frames(1, [b"x"], T0, 1, 0)
    encoder.frames(1, [b"x"], T0 + 1, 1, 1)
    first = encoder.take()
    encoder.frames(1, [b"x"], T0 + 2, 1, 2)
    second = encoder.take()
    assert (first.items, second.items, encoder.items) == (0, 1, 2)
    assert (first.first_ns, first.last_ns, second.first_ns) == (T0, T0 + 1, T0 + 2)
    assert encoder.take().first_ns == T0 + 2


@pytest.mark.parametrize(
    "event",
    [
        Distrust(instrument=BTC, reason="json", mono_ns=5, refused=False),
        TopicRefused(instrument=BTC, text="no\x1b such", mono_ns=5),
        ClockOffset(offset_ms=-0.1, error_ms=0.25, mono_ns=5),
    ],
)
def test_events_in_notes(event: Distrust) -> None:
    for note in (
        Control(events=[encode_event(event)]),
        Fed(items=[0, encode_event(event), 2]),
        Given(applied=3, events=[encode_event(event)]),
    ):
        read = decode_note(encode_note(note))
        assert type(read) is type(note)
        items = read.items if isinstance(read, Fed) else read.events  # type: ignore[union-attr]
        (wire,) = (item for item in items if not isinstance(item, int))
        assert decode_event(wire) == event


def test_notes_of_the_future_are_passed_over_and_broken_ones_are_not() -> None:
    assert decode_note(b'{"t":"hologram","x":1}') is None
    assert decode_note(b'{"t":"end","reason":"stopped","more":1}') == End(reason="stopped")
    for broken in (b'{"t":"end"}', b"{", b"[]", b"\xff", b'{"t":5}'):
        with pytest.raises(ValueError, match="note"):
            decode_note(broken)
    for name in ("Nothing", "Distrust"):
        with pytest.raises(ValueError, match=name):
            decode_event((name, msgspec.Raw(b"{}")))
