"""Rows collected until they are taken as one Arrow batch. Numbers come as the exchange's text and stay exact."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from orderflow.export.schemas import BOOK_MESSAGE, DECIMAL, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MESSAGE_SCHEMA: Final = pa.schema([SCHEMAS["book"].field(name) for name in BOOK_MESSAGE])
_SIDES: Final = pa.array(["bid", "ask", None])
_BID, _ASK, _NEITHER = 0, 1, 2


def decimals(texts: pa.Array) -> pa.Array:
    """Decimal text as exact numbers. Null: no text, or a number that DECIMAL cannot hold exactly."""
    coded = texts.dictionary_encode()  # the same few prices and sizes over and over
    try:
        values = coded.dictionary.cast(DECIMAL)
    except pa.ArrowInvalid:
        values = pa.array([_fitting(text) for text in coded.dictionary.to_pylist()], DECIMAL)
    return values.take(coded.indices)


def _fitting(text: str) -> Decimal | None:
    value = Decimal(text)
    with localcontext(prec=60):
        exact = value.quantize(Decimal(1).scaleb(-DECIMAL.scale)) == value
    return value if exact and abs(value) < Decimal(10) ** (DECIMAL.precision - DECIMAL.scale) else None


class Rows:
    """Rows of any table but `book`: tuples in the order of its columns, decimals as text."""

    def __init__(self, table: str) -> None:
        self.schema = SCHEMAS[table]
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)

    def take(self) -> pa.RecordBatch:
        """Every row since the last time."""
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self.schema)
        self._rows = []
        arrays = [
            decimals(pa.array(values, pa.string())) if field.type == DECIMAL else pa.array(values, field.type)
            for field, values in zip(self.schema, columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class BookRows:
    """Rows of `book`, one a level; what the levels of a message share is kept once until it is taken."""

    def __init__(self) -> None:
        self.schema = SCHEMAS["book"]
        self._clear()

    def _clear(self) -> None:
        self._messages: list[tuple[Any, ...]] = []
        self._sides: list[tuple[int, int, int]] = []  # levels: bids, asks, and 1 for a message that has none
        self._prices: list[str | None] = []
        self._sizes: list[str | None] = []

    def __len__(self) -> int:
        return len(self._prices)

    def add(self, message: tuple[Any, ...], bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> None:
        """One message. Args: message: the columns of BOOK_MESSAGE; bids, asks: (price, size)."""
        self._messages.append(message)
        for side in (bids, asks):
            if side:
                prices, sizes = zip(*side, strict=True)
                self._prices += prices
                self._sizes += sizes
        empty = not bids and not asks
        if empty:
            self._prices.append(None)
            self._sizes.append(None)
        self._sides.append((len(bids), len(asks), int(empty)))

    def take(self) -> pa.RecordBatch:
        """Every row since the last time."""
        counts = np.array(self._sides, np.int64).reshape(-1, 3)
        whose = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
        side = np.repeat(np.tile(np.array([_BID, _ASK, _NEITHER]), len(counts)), counts.ravel())
        columns = zip(*self._messages, strict=True) if self._messages else [()] * len(_MESSAGE_SCHEMA)
        shared = _shared(columns, pa.array(whose))
        texts = [pa.array(column, pa.string()) for column in (self._prices, self._sizes)]
        numbers = [decimals(column) for column in texts]
        self._clear()
        return pa.RecordBatch.from_arrays([*shared, _SIDES.take(pa.array(side)), *numbers, *texts], schema=self.schema)


def _shared(columns: Iterable[Sequence[Any]], whose: pa.Array) -> list[pa.Array]:
    """What the levels of a message share, once for each level."""
    pairs = zip(_MESSAGE_SCHEMA, columns, strict=True)
    return [pa.array(values, field.type).take(whose) for field, values in pairs]
