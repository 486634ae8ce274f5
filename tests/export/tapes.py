"""Recordings of every kind of message, made for tests."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from orderflow.core.types import Category, Instrument, InstrumentId
from orderflow.record.format import Encoder
from orderflow.record.records import Control, End, Opened, Session, encode_event
from orderflow.record.writer import RecordingWriter
from tests.record.tapes import BTC, M0, POLICY, T0

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SPOT = InstrumentId(Category.SPOT, "ETHUSDT")
MS = 1_000_000
T0_MS = T0 // MS

Levels = list[tuple[str, str]]


def book(u: int, bids: Levels, asks: Levels, kind: str = "delta", *, cts: int | None = T0_MS, depth: int = 50) -> bytes:
    """A book message of BTCUSDT."""
    message: dict[str, Any] = {"topic": f"orderbook.{depth}.BTCUSDT", "type": kind, "ts": (cts or T0_MS) + 2}
    message["data"] = {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": u * 7}
    return _text({**message, **({"cts": cts} if cts is not None else {})})


def trade(price: str, size: str, *, match: int = T0_MS, side: str = "Buy", block: bool = False) -> bytes:
    row = {"T": match, "s": "BTCUSDT", "S": side, "v": size, "p": price, "L": "PlusTick", "i": "a-1"}
    row |= {"BT": block, "RPI": False, "seq": 9}
    return _text({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": match + 1, "data": [row]})


def liquidation(price: str, size: str) -> bytes:
    row = {"T": T0_MS, "s": "BTCUSDT", "S": "Sell", "v": size, "p": price}
    return _text({"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": T0_MS + 3, "data": [row]})


def ticker(kind: str = "delta", **fields: str) -> bytes:
    data = {"symbol": "BTCUSDT", **fields}
    return _text({"topic": "tickers.BTCUSDT", "type": kind, "data": data, "cs": 77, "ts": T0_MS + 4})


def spot_book(u: int, bids: Levels, asks: Levels, kind: str = "delta") -> bytes:
    data = {"s": "ETHUSDT", "b": bids, "a": asks, "u": u, "seq": u}
    return _text({"topic": "orderbook.50.ETHUSDT", "ts": T0_MS, "type": kind, "data": data, "cts": T0_MS})


def _text(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


class Tape:
    """A recording to write, record by record; `at` is ns since T0."""

    def __init__(self, folder: Path, instruments: Sequence[InstrumentId] = (BTC, SPOT), **session: Any) -> None:
        self.folder = folder
        self._writer = RecordingWriter(folder, POLICY, os.urandom(16), clock=lambda: T0)
        self._writer.rotate(None)
        self.encoder = Encoder()
        fields: dict[str, Any] = {
            "version": "1",
            "env": "sim",
            "depth": 50,
            "interval_s": 1.0,
            "started_ns": T0,
            **session,
        }
        self.encoder.note(Session(session=os.urandom(4).hex(), instruments=list(instruments), **fields))
        for number, category in enumerate((BTC.category, SPOT.category), 1):
            self.encoder.note(
                Opened(
                    connection=number,
                    link=category.value,
                    category=category,
                    url="wss://x/",
                    books=[(key.symbol, fields["depth"]) for key in instruments if key.category is category],
                    recv_ns=T0,
                    mono_ns=M0,
                )
            )

    def fact(self, tick: str = "0.1", lot: str = "0.001") -> None:
        fact = Instrument(
            id=BTC, base_coin="BTC", quote_coin="USDT", tick_size=tick, lot_size=lot, price_decimals=1, size_decimals=3
        )
        self.encoder.items += 1
        self.encoder.note(Control(events=[encode_event(fact)]))

    def frames(self, at: int, messages: Iterable[bytes], connection: int = 1) -> None:
        self.encoder.frames(connection, list(messages), T0 + at, M0 + at)

    def tick(self, at: int) -> None:
        self.encoder.timer(self.encoder.items, M0 + at)
        self.encoder.tick(self.encoder.items, T0 + at, M0 + at)

    def block(self) -> None:
        """What was said up to here becomes one block."""
        self._writer.write(self.encoder.take())

    def close(self) -> Path:
        self.encoder.note(End(reason="stopped"))
        self._writer.close(self.encoder.take())
        return self.folder
