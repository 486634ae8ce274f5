"""What an exchange says of its instruments: from a recorded instruments-info answer, or as far as the numbers tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.bybit.rest import parse_instruments
from orderflow.core.errors import ConfigError, OrderflowError
from orderflow.core.types import Category, Instrument, InstrumentId
from orderflow.foreign.files import ForeignFile

if TYPE_CHECKING:
    from pathlib import Path

_QUOTES: Final = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")
_MAX_BYTES: Final = 64 << 20
_LEVEL: Final = re.compile(rb'\["[0-9]+(?:\.([0-9]+))?","[0-9]+(?:\.([0-9]+))?"\]')
_TRADE: Final = re.compile(rb'"v":"[0-9]+(?:\.([0-9]+))?","p":"[0-9]+(?:\.([0-9]+))?"')


class Decimals(msgspec.Struct):
    """Decimals seen: of prices as written (padding included), of prices without it, of sizes without it."""

    scale: int = 0
    tick: int = 0
    lot: int = 0

    def note(self, raw: bytes) -> None:
        """Look at the numbers of one book or trade message."""
        for level in _LEVEL.finditer(raw):
            self._take(level[1] or b"", level[2] or b"")
        for trade in _TRADE.finditer(raw):
            self._take(trade[2] or b"", trade[1] or b"")

    def _take(self, price: bytes, size: bytes) -> None:
        self.scale = max(self.scale, len(price))
        self.tick = max(self.tick, len(price.rstrip(b"0")))
        self.lot = max(self.lot, len(size))

    def merge(self, other: Decimals) -> None:
        self.scale, self.tick = max(self.scale, other.scale), max(self.tick, other.tick)
        self.lot = max(self.lot, other.lot)


class _Instruments(msgspec.Struct):
    category: Category
    rows: list[dict[str, Any]] = msgspec.field(name="list")


class _Answer(msgspec.Struct):
    result: _Instruments


def read_rows(path: Path) -> dict[Category, list[dict[str, Any]]]:
    """The rows of a recorded instruments-info answer (plain, gzip or zip), by category.

    Raises: ConfigError when it is none.
    """
    try:
        answer = msgspec.json.decode(_whole(path), type=_Answer)
    except (OrderflowError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"--instruments: {path.name}: no recorded instruments-info answer: {error}") from None
    return {answer.result.category: answer.result.rows}


def read_facts(path: Path) -> dict[InstrumentId, Instrument]:
    """What a recorded instruments-info answer says of each instrument. Raises: ConfigError when it is none."""
    return {fact.id: fact for category, rows in read_rows(path).items() for fact in parse_rows(rows, category)}


def parse_rows(rows: list[dict[str, Any]], category: Category) -> tuple[Instrument, ...]:
    """Rows that make no sense are left out."""
    answer = {"retCode": 0, "retMsg": "OK", "result": {"category": category.value, "list": rows}, "time": 0}
    return parse_instruments(msgspec.json.encode(answer), category).instruments


def _whole(path: Path) -> bytes:
    parts: list[bytes] = []
    size = 0
    for _, line in ForeignFile(path).lines():
        parts.append(line or b"")
        size += len(parts[-1])
        if line is None or size > _MAX_BYTES:
            raise ConfigError(f"longer than {_MAX_BYTES >> 20} MiB")
    return b"\n".join(parts)


def derived_fact(instrument: InstrumentId, decimals: Decimals) -> Instrument | None:
    """A fact from numbers seen alone. None: the symbol tells no coins."""
    return next(iter(parse_rows([derived_row(instrument, decimals)], instrument.category)), None)


def derived_row(instrument: InstrumentId, decimals: Decimals) -> dict[str, Any]:
    """An instruments-info row from the decimals seen in a recording: tick and lot are the last decimal that varies."""
    symbol = instrument.symbol
    quote = next((coin for coin in _QUOTES if symbol.endswith(coin) and symbol != coin), "USDT")
    tick, lot = _step(decimals.tick), _step(decimals.lot)
    tick += "0" * (decimals.scale - decimals.tick) if decimals.tick else ""
    row: dict[str, Any] = {
        "symbol": symbol,
        "status": "Trading",
        "baseCoin": symbol.removesuffix(quote),
        "quoteCoin": quote,
        "priceFilter": {"tickSize": tick},
    }
    if instrument.category is Category.SPOT:
        return {**row, "lotSizeFilter": {"basePrecision": lot, "quotePrecision": "0.0000001", "minOrderQty": lot}}
    contract = "InversePerpetual" if instrument.category is Category.INVERSE else "LinearPerpetual"
    settle = row["baseCoin"] if instrument.category is Category.INVERSE else quote
    return {
        **row,
        "contractType": contract,
        "priceScale": str(decimals.scale),
        "settleCoin": settle,
        "lotSizeFilter": {"qtyStep": lot, "minOrderQty": lot},
    }


def _step(decimals: int) -> str:
    return "1" if decimals == 0 else f"0.{'1'.rjust(decimals, '0')}"
