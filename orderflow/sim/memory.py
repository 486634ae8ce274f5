"""What a recording has said so far: books, tickers, trades and candles, for REST and for clients that join late."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from orderflow.sim.rest import BookView
from orderflow.sim.venue import wire

TRADES_KEPT: Final = 1000


class _BookData(msgspec.Struct):
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int = 0
    seq: int = 0


class _BookMessage(msgspec.Struct):
    data: _BookData
    type: str = ""
    ts: int = 0
    cts: int = 0


class _RowsMessage(msgspec.Struct):
    data: list[dict[str, Any]]


class _TickerMessage(msgspec.Struct):
    data: dict[str, Any]
    type: str = ""
    ts: int = 0
    cs: int | None = None


_BOOK: Final = msgspec.json.Decoder(_BookMessage)
_ROWS: Final = msgspec.json.Decoder(_RowsMessage)
_TICKER: Final = msgspec.json.Decoder(_TickerMessage)


class Memory:
    """Remembers nothing; what topics are that have no state."""

    def apply(self, raw: bytes) -> None:
        """Take one message of the topic. Raises: msgspec.MsgspecError when it is not of its form."""

    def snapshot(self) -> bytes | None:
        """A message that brings a late subscriber up to date; None where there is no such thing."""
        return None


class BookMemory(Memory):
    """A recorded book, kept in the texts of its messages."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.bids: dict[float, tuple[str, str]] = {}
        self.asks: dict[float, tuple[str, str]] = {}
        self.last = _BookMessage(_BookData([], []))
        self._time_first = False

    def apply(self, raw: bytes) -> None:
        message = self.last = _BOOK.decode(raw)
        if message.type == "snapshot":
            self.bids.clear()
            self.asks.clear()
        self._time_first = raw.find(b'"ts"') < raw.find(b'"type"')
        for side, levels in ((self.bids, message.data.b), (self.asks, message.data.a)):
            for level in levels:
                if float(level[1]):
                    side[float(level[0])] = level
                else:
                    side.pop(float(level[0]), None)

    def view(self) -> BookView:
        """The book as REST shows it."""
        data = self.last.data
        return BookView(
            bids=[self.bids[price] for price in sorted(self.bids, reverse=True)],
            asks=[self.asks[price] for price in sorted(self.asks)],
            ts=self.last.ts,
            cts=self.last.cts,
            u=data.u,
            seq=data.seq,
        )

    def snapshot(self) -> bytes | None:
        if not self.last.ts:
            return None
        view = self.view()
        stamps: dict[str, Any] = {"type": "snapshot", "ts": view.ts}
        if self._time_first:
            stamps = {"ts": view.ts, "type": "snapshot"}
        symbol = self.topic.rpartition(".")[2]
        data = {"s": symbol, "b": view.bids, "a": view.asks, "u": view.u, "seq": view.seq}
        return wire({"topic": self.topic, **stamps, "data": data, "cts": view.cts})


class TickerMemory(Memory):
    """The fields of a recorded ticker, deltas merged in."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.fields: dict[str, Any] = {}
        self._last = _TickerMessage({})

    def apply(self, raw: bytes) -> None:
        message = self._last = _TICKER.decode(raw)
        if message.type == "snapshot":
            self.fields = message.data
        else:
            self.fields.update(message.data)

    def snapshot(self) -> bytes | None:
        if not self.fields:
            return None
        last = self._last
        return wire({"topic": self.topic, "type": "snapshot", "data": self.fields, "cs": last.cs, "ts": last.ts})


class TradeMemory(Memory):
    """The last recorded trades, as REST rows, oldest first."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, Any]] = deque(maxlen=TRADES_KEPT)

    def apply(self, raw: bytes) -> None:
        for trade in _ROWS.decode(raw).data:
            self.rows.append(
                {
                    "execId": trade["i"],
                    "symbol": trade["s"],
                    "price": trade["p"],
                    "size": trade["v"],
                    "side": trade["S"],
                    "time": str(trade["T"]),
                    "isBlockTrade": trade.get("BT", False),
                    "isRPITrade": trade.get("RPI", False),
                    "seq": str(trade.get("seq", 0)),
                }
            )


class KlineMemory(Memory):
    """The recorded candles of one interval, as REST rows by start."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[str, ...]] = {}

    def apply(self, raw: bytes) -> None:
        for bar in _ROWS.decode(raw).data:
            prices = (bar["open"], bar["high"], bar["low"], bar["close"])
            self.rows[bar["start"]] = (str(bar["start"]), *prices, bar["volume"], bar["turnover"])


def memory_for(topic: str) -> Memory:
    """The memory that fits a topic."""
    match topic.partition(".")[0]:
        case "orderbook":
            return BookMemory(topic)
        case "tickers":
            return TickerMemory(topic)
        case "publicTrade":
            return TradeMemory()
        case "kline":
            return KlineMemory()
        case _:
            return Memory()
