"""Trade files (comma separated values with a header) as the `publicTrade` messages the exchange would have sent.

| columns | whose |
|---|---|
| `timestamp,symbol,side,size,price,tickDirection,trdMatchID,...[,RPI]` | contracts, seconds with decimals |
| `id,timestamp,price,volume,side[,rpi]` | spot, milliseconds |
| `ts_ms,price,qty,side,agg_id` | converted archives |

Prices and sizes stay the text of the file; one in exponent notation is written out. What the file does not tell is left
out of the message (`seq`, `L`, `RPI`), except `BT`, which is false.
"""

from __future__ import annotations

import csv
import heapq
import re
import tempfile
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from orderflow.bybit.codec import is_plain_number
from orderflow.core.types import Category, is_symbol
from orderflow.foreign.heard import Heard, LineProblem, decimal_ns, is_inverse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TRADES_PER_MESSAGE: Final = 1024
"""The exchange's own limit."""
ROWS_IN_MEMORY: Final = 200_000
_LONGEST_HEADER: Final = 4096
_ALIASES: Final = {
    "time": ("ts_ms", "timestamp", "time"),
    "price": ("price",),
    "size": ("size", "qty", "volume", "quantity"),
    "side": ("side",),
    "id": ("trdmatchid", "agg_id", "id", "trade_id"),
    "symbol": ("symbol",),
    "tick": ("tickdirection",),
    "rpi": ("rpi",),
}
_NEEDED: Final = ("time", "price", "size", "side")
_SIDES: Final = {"Buy": "Buy", "Sell": "Sell", "buy": "Buy", "sell": "Sell", "BUY": "Buy", "SELL": "Sell"}
_TICKS: Final = frozenset({"PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick"})
_RPI: Final = {"0": "false", "1": "true", "false": "false", "true": "true", "False": "false", "True": "true"}
_ID: Final = re.compile(r"[A-Za-z0-9_-]{0,64}\Z", re.ASCII)
_SYMBOL_IN_NAME: Final = re.compile(r"(?:^|[-_])([A-Z0-9]{2,30}?)(?=[-_.]|[0-9]{4}-[0-9]{2}-[0-9]{2}|$)")
_PLACEHOLDERS: Final = frozenset({"LINEAR", "INVERSE", "SPOT"})


class Row(NamedTuple):
    """One trade. `text`: its JSON object."""

    at_ns: int
    symbol: str
    text: str


class TradeLines:
    """Reads the rows of one trade file.

    Args: header: its first line; name: the file's, for the symbol where no column has it; category: None: told by the
        columns and the symbol.

    Raises: LineProblem when the header is of no trade file.
    """

    def __init__(self, header: bytes, name: str, category: Category | None, symbol: str | None) -> None:
        names = [cell.strip().lower() for cell in _cells(header)]
        self._at = {
            role: next((names.index(alias) for alias in aliases if alias in names), None)
            for role, aliases in _ALIASES.items()
        }
        missing = [role for role in _NEEDED if self._at[role] is None]
        if missing:
            raise LineProblem(f"no trade file: no column for {', '.join(missing)} in the header")
        self._count = len(names)
        self._spot = "volume" in names
        self._category = category
        self._symbol = symbol or symbol_of_name(name)
        if self._at["symbol"] is None and self._symbol is None:
            raise LineProblem("a trade file without a column `symbol`, and none in its name: give --symbol")

    def read(self, line: bytes) -> Row:
        """Raises: LineProblem."""
        cells = _cells(line)
        if len(cells) != self._count:
            raise LineProblem(f"{len(cells)} columns; the header has {self._count}")
        at = self._at
        stamp = cells[at["time"] or 0]
        at_ns = decimal_ns(stamp, 6 if len(stamp.partition(".")[0]) > 11 else 9)
        symbol = cells[at["symbol"]] if at["symbol"] is not None else self._symbol or ""
        side = _SIDES.get(cells[at["side"] or 0])
        if side is None:
            raise LineProblem(f"no side: {cells[at['side'] or 0][:40]!r}")
        if not is_symbol(symbol):
            raise LineProblem(f"no symbol: {symbol[:40]!r}")
        price, size = _number(cells[at["price"] or 0]), _number(cells[at["size"] or 0])
        name = cells[at["id"]] if at["id"] is not None else ""
        if _ID.match(name) is None:
            raise LineProblem(f"no trade id: {name[:40]!r}")
        text = f'{{"T":{at_ns // 1_000_000},"s":"{symbol}","S":"{side}","v":"{size}","p":"{price}"'
        if at["tick"] is not None and cells[at["tick"]] in _TICKS:
            text += f',"L":"{cells[at["tick"]]}"'
        text += f',"i":"{name}","BT":false'
        if at["rpi"] is not None and cells[at["rpi"]] in _RPI:
            text += f',"RPI":{_RPI[cells[at["rpi"]]]}'
        return Row(at_ns, symbol, text + "}")

    def category(self, symbol: str) -> Category:
        if self._category is not None:
            return self._category
        if self._spot:
            return Category.SPOT
        return Category.INVERSE if is_inverse(symbol) else Category.LINEAR


def _cells(line: bytes) -> list[str]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise LineProblem("no text") from None
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise LineProblem(f"no comma separated values: {error}") from None


def _number(text: str) -> str:
    """Exact plain decimal text of a positive number. Raises: LineProblem."""
    if not is_plain_number(text):
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise LineProblem(f"no number: {text[:40]!r}") from None
        if not number.is_finite() or abs(number.adjusted()) > 18 or len(text) > 40:
            raise LineProblem(f"no number: {text[:40]!r}")
        text = format(number, "f")
        if not is_plain_number(text):
            raise LineProblem(f"no number: {text[:40]!r}")
    if not text.strip("0."):
        raise LineProblem("a price or size of 0")
    return text


def symbol_of_name(name: str) -> str | None:
    """The symbol in a file's name: `BTCUSDT2026-07-25.csv.gz`, `linear-BTCUSDT-trades-...`, `BTCUSDT_2026-07-25`."""
    for match in _SYMBOL_IN_NAME.finditer(name):
        word = match[1]
        if word not in _PLACEHOLDERS and not word.isdigit() and is_symbol(word):
            return word
    return None


def to_messages(rows: Iterable[Row], reader: TradeLines) -> Iterator[Heard]:
    """Trades of one symbol and millisecond that follow each other share a message, as on the wire."""
    waiting: list[str] = []
    key = (0, "")
    for row in rows:
        its = (row.at_ns // 1_000_000, row.symbol)
        if waiting and (its != key or len(waiting) == TRADES_PER_MESSAGE):
            yield _message(waiting, *key, reader)
            waiting = []
        key = its
        waiting.append(row.text)
    if waiting:
        yield _message(waiting, *key, reader)


def _message(rows: list[str], ts_ms: int, symbol: str, reader: TradeLines) -> Heard:
    category = reader.category(symbol)
    topic = f"publicTrade.{symbol}"
    stamps = f'"type":"snapshot","ts":{ts_ms}'
    if category is Category.SPOT:
        stamps = f'"ts":{ts_ms},"type":"snapshot"'
    raw = f'{{"topic":"{topic}",{stamps},"data":[{",".join(rows)}]}}'
    return Heard(None, ts_ms, category, "", topic, raw.encode())


def sort_rows(rows: Iterable[Row], *, newest_first: bool, folder: Path) -> Iterator[Row]:
    """Rows by time; those of one time stay in the order they happened in.

    Args: newest_first: the file runs backwards; folder: on whose disk runs of ROWS_IN_MEMORY rows wait to be merged.
    """
    waiting = iter(rows)
    runs: list[IO[bytes]] = []
    try:
        while run := list(islice(waiting, ROWS_IN_MEMORY)):
            if newest_first:
                run.reverse()
            run.sort(key=lambda row: row.at_ns)
            runs.append(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - closed below, all together
            runs[-1].writelines(f"{row.at_ns}\t{row.symbol}\t{row.text}\n".encode() for row in run)
            runs[-1].seek(0)
        if newest_first:
            runs.reverse()
        yield from heapq.merge(*map(_rows_of, runs), key=lambda row: row.at_ns)
    finally:
        for file in runs:
            file.close()


def _rows_of(file: IO[bytes]) -> Iterator[Row]:
    for line in file:
        at_ns, symbol, text = line.decode().rstrip("\n").split("\t")
        yield Row(int(at_ns), symbol, text)


def looks_like_header(line: bytes) -> bool:
    """Whether the first line of a file names columns: at least two of a trade's."""
    if line.startswith((b"{", b"[")) or len(line) > _LONGEST_HEADER:
        return False
    names = {cell.strip(b' "').lower().decode("ascii", "replace") for cell in line.split(b",")}
    return sum(not names.isdisjoint(aliases) for aliases in _ALIASES.values()) > 1
