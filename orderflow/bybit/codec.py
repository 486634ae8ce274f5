"""Text from the exchange -> core events. Whatever is wrong with a message, only WireError comes out.

Book messages are nearly all there is, so they have a fast path: one typed decode, straight into floats. That lax decode
knows JSON's numbers, in quotes or not, and how large they may be. What it would let through although it is no plain
decimal number (`"1e5"`, `"-0"`) has an e or a minus sign, and between a message's first bracket and its last, where all
levels are, nothing else has one. So a message that has none there, and no escape, is settled by looking for four
characters; any other is vetted number by number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from orderflow.bybit.wire import (
    MAX_PRICE,
    MAX_SIZE,
    TextBook,
    WireBook,
    WireLiquidations,
    WireReply,
    WireTicker,
    WireTrades,
    number_text,
)
from orderflow.core.errors import WireError
from orderflow.core.types import BookUpdate, InstrumentId, Liquidation, TickerUpdate, Trade

if TYPE_CHECKING:
    from collections.abc import Sized

    from orderflow.bybit.topics import TopicTable

Decoded = BookUpdate | list[Trade] | list[Liquidation] | TickerUpdate | WireReply | None
"""None: a topic we do not use."""

_T = TypeVar("_T")

_BOOK_HEAD: Final = b'{"topic":"orderbook.'
_BOOK_HEAD_BYTES: Final = len(_BOOK_HEAD)
# Looked for as numbers: asked for a `bytes`, `in` makes and drops an exception first.
_SMALL_E: Final = ord("e")
_LARGE_E: Final = ord("E")
_MINUS: Final = ord("-")
_ESCAPE: Final = ord("\\")  # of a character that might be one of these

_MAX_ENVELOPE_BYTES: Final = 4096
_MAX_LEVEL_BYTES: Final = 256
"""What a level and the rest of a message may take; 30 and 200 are common."""

_MAX_NUMBER_CHARS: Final = 32
_ID_LIMIT: Final = 1 << 63
_PLAIN_NUMBER: Final = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)\Z", re.ASCII)
_SIGNED_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?\Z", re.ASCII)
_TOPIC: Final = re.compile(rb'"topic"\s*:\s*"([A-Za-z0-9._-]{1,64})"')


_book = msgspec.json.Decoder(WireBook, strict=False)
_decode_book = _book.decode
_text_book = msgspec.json.Decoder(TextBook, strict=False)
_trades = msgspec.json.Decoder(WireTrades, strict=False)
_liquidations = msgspec.json.Decoder(WireLiquidations, strict=False)
_ticker = msgspec.json.Decoder(WireTicker, strict=False)
_reply = msgspec.json.Decoder(WireReply, strict=False)


def is_plain_number(text: str) -> bool:
    """ASCII digits with at most one dot, of bounded length: what a price or a size looks like."""
    return len(text) <= _MAX_NUMBER_CHARS and _PLAIN_NUMBER.match(text) is not None


def _decode(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        raise WireError("shape", str(exc), _topic_of(raw)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WireError("json", f"{exc}; begins {raw[:80]!r}", _topic_of(raw)) from None
    except RecursionError:
        raise WireError("json", "nested too deeply", _topic_of(raw)) from None


def _longest(bids: Sized, asks: Sized) -> int:
    """How many bytes a message with these levels may have."""
    return _MAX_ENVELOPE_BYTES + _MAX_LEVEL_BYTES * (len(bids) + len(asks))


def _topic_of(raw: bytes) -> str:
    """The topic of a message that could not be decoded, as far as it can be made out."""
    found = _TOPIC.search(raw[:400]) or _TOPIC.search(raw[-400:])
    return found[1].decode("ascii") if found else ""


class FeedCodec:
    """Decoder of one category's messages."""

    def __init__(self, topics: TopicTable) -> None:
        self._topics = topics
        self._known = topics.known

    def decode(self, raw: bytes, recv_ns: int, mono_ns: int) -> Decoded:
        """One whole message.

        Returns: events of a topic we know; WireReply for acks, pongs and refusals; None for topics we do not use.
        Raises: WireError, with the topic when it can be made out. Nothing else.
        """
        if raw[:_BOOK_HEAD_BYTES] != _BOOK_HEAD:
            reply = _decode(_reply, raw)
            if not reply.topic:
                return reply
            kind = reply.topic.partition(".")[0]
            if kind == "publicTrade":
                return self._trade(raw, recv_ns, mono_ns)
            if kind == "tickers":
                return self._ticker(raw, recv_ns, mono_ns)
            if kind == "allLiquidation":
                return self._liquidation(raw, recv_ns, mono_ns)
            if kind != "orderbook":  # same message, other key order or white space
                return None
        try:
            message = _decode_book(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._vet(raw)  # knows better what is wrong
            message = _decode(_book, raw)
        topic = message.topic
        known = self._known.get(topic) or self._topics.get(topic)
        if known is None:
            return None
        instrument, depth = known
        data = message.data
        levels = raw.partition(b"[")[2].rpartition(b"]")[0]
        if (
            _SMALL_E in levels
            or _LARGE_E in levels
            or _MINUS in levels
            or _ESCAPE in levels
            or (len(raw) > _MAX_ENVELOPE_BYTES and len(raw) > _longest(data.b, data.a))
        ):
            self._vet(raw)
        if data.s != instrument.symbol:
            raise WireError("symbol", f"data.s is {data.s!r}", topic)
        if message.type == "delta":
            snapshot = False
        elif message.type == "snapshot":
            snapshot = True
        else:
            raise WireError("shape", f"type is {message.type!r}", topic)
        return BookUpdate(
            instrument, depth, snapshot, data.b, data.a, data.u, data.seq, message.ts, message.cts, recv_ns, mono_ns
        )

    def _vet(self, raw: bytes) -> None:
        """Check every number of a message as text. Raises: WireError."""
        message = _decode(_text_book, raw)
        data = message.data
        if len(raw) > _longest(data.b, data.a):
            raise WireError("number", f"numbers too long: {len(raw)} bytes", message.topic)
        for level in (*data.b, *data.a):
            try:
                price, size = map(number_text, level)
            except UnicodeDecodeError as exc:
                raise WireError("json", str(exc), message.topic) from None
            for text in (price, size):
                if _PLAIN_NUMBER.match(text) is None:
                    raise WireError("number", f"not a plain decimal number: {text[:40]!r}", message.topic)
            if not (0 < float(price) < MAX_PRICE and float(size) < MAX_SIZE):
                raise WireError("number", f"price {price[:40]} size {size[:40]}", message.topic)
        if not all(0 <= number < _ID_LIMIT for number in (data.u, data.seq, message.ts, message.cts or 0)):
            raise WireError("number", "an id or time out of range", message.topic)

    def _instrument(self, topic: str, symbols: set[str]) -> InstrumentId | None:
        known = self._topics.get(topic)
        if known is None:
            return None
        foreign = symbols - {known[0].symbol}
        if foreign:
            raise WireError("symbol", f"carries {min(foreign)!r}", topic)
        return known[0]

    def _trade(self, raw: bytes, recv_ns: int, mono_ns: int) -> list[Trade] | None:
        message = _decode(_trades, raw)
        instrument = self._instrument(message.topic, {row.s for row in message.data})
        if instrument is None:
            return None
        rows = [(row, *_fill(row.S, row.p, row.v, message.topic)) for row in message.data]
        return [
            Trade(instrument, price, size, buy, row.T, row.i, row.BT, row.RPI, row.seq, recv_ns, mono_ns)
            for row, price, size, buy in rows
        ]

    def _liquidation(self, raw: bytes, recv_ns: int, mono_ns: int) -> list[Liquidation] | None:
        message = _decode(_liquidations, raw)
        instrument = self._instrument(message.topic, {row.s for row in message.data})
        if instrument is None:
            return None
        rows = [(row, *_fill(row.S, row.p, row.v, message.topic)) for row in message.data]
        return [Liquidation(instrument, price, size, buy, row.T, recv_ns, mono_ns) for row, price, size, buy in rows]

    def _ticker(self, raw: bytes, recv_ns: int, mono_ns: int) -> TickerUpdate | None:
        message = _decode(_ticker, raw)
        data = message.data
        instrument = self._instrument(message.topic, {data.symbol})
        if instrument is None:
            return None
        if message.type not in ("snapshot", "delta"):
            raise WireError("shape", f"type is {message.type!r}", message.topic)

        def number(text: str | None) -> float | None:
            if not text:  # absent, or "" in place of a number
                return None
            if len(text) > _MAX_NUMBER_CHARS or _SIGNED_NUMBER.match(text) is None:
                raise WireError("number", f"not a plain decimal number: {text[:40]!r}", message.topic)
            return float(text)

        return TickerUpdate(
            instrument=instrument,
            snapshot=message.type == "snapshot",
            exchange_ms=message.ts,
            cross_seq=message.cs,
            last=number(data.lastPrice),
            bid=number(data.bid1Price),
            bid_size=number(data.bid1Size),
            ask=number(data.ask1Price),
            ask_size=number(data.ask1Size),
            mark=number(data.markPrice),
            index=number(data.indexPrice or data.usdIndexPrice),
            open_interest=number(data.openInterest),
            funding_rate=number(data.fundingRate),
            recv_ns=recv_ns,
            mono_ns=mono_ns,
        )


def _fill(side: str, price: str, size: str, topic: str) -> tuple[float, float, bool]:
    """(price, size, whether the side is Buy) of a trade or a liquidation."""
    if side not in ("Buy", "Sell"):
        raise WireError("shape", f"side is {side!r}", topic)
    if not (is_plain_number(price) and is_plain_number(size)):
        raise WireError("number", f"not plain decimal numbers: price {price[:40]!r} size {size[:40]!r}", topic)
    if not (0 < float(price) < MAX_PRICE and 0 < float(size) < MAX_SIZE):
        raise WireError("number", f"price {price} size {size}", topic)
    return float(price), float(size), side == "Buy"
