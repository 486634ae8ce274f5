"""Ways to decode a message, and to be sure that its numbers are plain decimals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from orderflow.bench.choices.levels import make_codec
from orderflow.bench.choices.turns import Pace, take_turns
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.codec import is_plain_number
from orderflow.bybit.topics import TopicTable
from orderflow.bybit.wire import Count, WireBook, WireBookData
from orderflow.core.errors import WireError
from orderflow.core.types import BookUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.bench.frames import Frames
    from orderflow.bench.results import Figure
    from orderflow.core.types import InstrumentId, Level

    Raws = list[bytes]
    Decode = Callable[[bytes], Any]
    Contents = tuple[int, list[Level], list[Level]]


class _Literal(msgspec.Struct, gc=False):
    topic: str
    type: Literal["delta", "snapshot"]
    ts: Count
    data: WireBookData
    cts: Count | None = None


class _Tagged(msgspec.Struct, gc=False, tag_field="type"):
    topic: str
    ts: Count
    data: WireBookData
    cts: Count | None = None


class _Delta(_Tagged, gc=False, tag="delta"):
    pass


class _Snapshot(_Tagged, gc=False, tag="snapshot"):
    pass


class _TextData(msgspec.Struct, gc=False):
    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: Count
    seq: Count = 0


class _Text(msgspec.Struct, gc=False):
    topic: str
    type: str
    ts: Count
    data: _TextData
    cts: Count | None = None


class _ListData(msgspec.Struct, gc=False):
    s: str
    b: list[list[float]]
    a: list[list[float]]
    u: Count
    seq: Count = 0


class _Lists(msgspec.Struct, gc=False):
    topic: str
    type: str
    ts: Count
    data: _ListData
    cts: Count | None = None


def _untyped(parse: Callable[[bytes], Any]) -> Decode:
    """Numbers by hand: a client needs floats whoever makes them."""

    def decode(raw: bytes) -> Any:
        message = parse(raw)
        data = message["data"]
        for side in ("b", "a"):
            data[side] = [(float(price), float(size)) for price, size in data[side]]
        return message

    return decode


def make_decoders() -> dict[str, Decode]:
    """What decodes one book message, by name; ours first."""
    return {
        "typed structs": msgspec.json.Decoder(WireBook, strict=False).decode,
        "type as a literal": msgspec.json.Decoder(_Literal, strict=False).decode,
        "tagged union by type": msgspec.json.Decoder(_Delta | _Snapshot, strict=False).decode,
        "levels as lists": msgspec.json.Decoder(_Lists, strict=False).decode,
        "untyped, then float()": _untyped(msgspec.json.decode),
        "json, then float()": _untyped(json.loads),
    }


def measure_decoding(frames: Frames, pace: Pace) -> list[Figure]:
    """One delta's text to floats. Raises: WrongBook when two decoders read a message differently."""
    decoders = make_decoders()
    ways = {name: _each(decode) for name, decode in decoders.items()}
    figures = take_turns("decode", ways, _work(frames, pace), pace, frames.depth)
    _check_alike(frames, pace, {name: _contents(decode) for name, decode in decoders.items()})
    return figures


def measure_vetting(frames: Frames, pace: Pace) -> list[Figure]:
    """One delta's text to the event the book is given. Raises: WrongBook."""
    topics = TopicTable(INSTRUMENT.category, learn=False)
    topics.add_book(INSTRUMENT, frames.depth)
    codec = make_codec(frames)
    decoders: dict[str, Decode] = {
        "vetted by four characters": lambda raw: codec.decode(raw, 0, 0),
        "vetted number by number": ByNumber(topics).decode,
        "not vetted": Unvetted(topics).decode,
    }
    ways = {name: _each(decode) for name, decode in decoders.items()}
    figures = take_turns("decode to an event", ways, _work(frames, pace), pace, frames.depth)
    _check_alike(frames, pace, decoders)
    return figures


class Unvetted:
    """Takes `nan`, `1e5` and `-1` for sizes as they come: what vetting costs is the difference to this."""

    def __init__(self, topics: TopicTable) -> None:
        self._known = topics.known
        self._decode = msgspec.json.Decoder(WireBook, strict=False).decode

    def decode(self, raw: bytes) -> BookUpdate:
        message = self._decode(raw)
        instrument, depth = self._known[message.topic]
        data = message.data
        snapshot = _is_snapshot(message.type, data.s, instrument)
        return BookUpdate(instrument, depth, snapshot, data.b, data.a, data.u, data.seq, message.ts, message.cts, 0, 0)


class ByNumber:
    """Decodes to text, looks at each number and makes it a float."""

    def __init__(self, topics: TopicTable) -> None:
        self._known = topics.known
        self._decode = msgspec.json.Decoder(_Text).decode

    def decode(self, raw: bytes) -> BookUpdate:
        """Raises: WireError."""
        message = self._decode(raw)
        instrument, depth = self._known[message.topic]
        data = message.data
        snapshot = _is_snapshot(message.type, data.s, instrument)
        bids, asks = _numbers(data.b), _numbers(data.a)
        return BookUpdate(instrument, depth, snapshot, bids, asks, data.u, data.seq, message.ts, message.cts, 0, 0)


def _is_snapshot(kind: str, symbol: str, instrument: InstrumentId) -> bool:
    """Raises: WireError."""
    if symbol != instrument.symbol:
        raise WireError("symbol", symbol)
    if kind not in ("delta", "snapshot"):
        raise WireError("shape", kind)
    return kind == "snapshot"


def _numbers(levels: list[tuple[str, str]]) -> list[Level]:
    """Raises: WireError."""
    found = []
    for price, size in levels:
        if not (is_plain_number(price) and is_plain_number(size)):
            raise WireError("number", price)
        level = float(price), float(size)
        if not level[0]:
            raise WireError("number", price)
        found.append(level)
    return found


def _work(frames: Frames, pace: Pace) -> Callable[[int], Raws]:
    return lambda number: frames.deltas(pace.messages, number * pace.messages)


def _each(decode: Decode) -> Callable[[Raws], None]:
    def take(raws: Raws) -> None:
        for raw in raws:
            decode(raw)

    return take


def _contents(decode: Decode) -> Callable[[bytes], Contents]:
    """What counts of a message, in whatever it was decoded to."""

    def read(raw: bytes) -> Contents:
        message = decode(raw)
        data = message["data"] if isinstance(message, dict) else message.data
        u, bids, asks = (data[key] if isinstance(data, dict) else getattr(data, key) for key in ("u", "b", "a"))
        return u, [(price, size) for price, size in bids], [(price, size) for price, size in asks]

    return read


def _check_alike(frames: Frames, pace: Pace, ways: dict[str, Callable[[bytes], object]]) -> None:
    """Raises: WrongBook when one reads a message otherwise than the first."""
    (_, first), *others = ways.items()
    raws: Sequence[bytes] = frames.deltas(pace.messages)
    wanted = [first(raw) for raw in raws]
    for name, read in others:
        if [read(raw) for raw in raws] != wanted:
            raise WrongBook(f"{name}: reads messages otherwise than {next(iter(ways))}")
