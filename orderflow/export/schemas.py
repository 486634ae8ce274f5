"""The tables: names, columns, types (docs/exporting.md says what each column means)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pyarrow as pa

from orderflow.core.types import BookCounters, HopLatency, MetricsTick, Percentiles

DECIMAL: Final = pa.decimal128(38, 18)
"""Holds every price and size of the exchange exactly: 20 digits before the point, 18 behind it."""

_INT: Final = pa.int64()
_TEXT: Final = pa.string()
_FLOAT: Final = pa.float64()


def _schema(columns: dict[str, pa.DataType], nullable: tuple[str, ...] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in columns.items()])


_WHOSE: Final = {"category": _TEXT, "symbol": _TEXT}
_NUMBERS: Final = {"price": DECIMAL, "size": DECIMAL, "price_text": _TEXT, "size_text": _TEXT}

BOOK_MESSAGE: Final = {
    "message": _INT,
    **_WHOSE,
    "depth": pa.int32(),
    "kind": _TEXT,
    "recv_ns": _INT,
    "exchange_ms": _INT,
    "engine_ms": _INT,
    "u": _INT,
    "seq": _INT,
}
"""Of `book`: the columns that all levels of one message share."""

TICKER_NUMBERS: Final = ("last", "bid", "bid_size", "ask", "ask_size", "mark", "index", "open_interest", "funding_rate")
HOPS: Final = ("engine_to_gateway", "gateway_to_socket")
"""Hops of which a replay knows the latency."""


_KINDS: Final = {int: _INT, float: _FLOAT, bool: pa.bool_()}


def _tick_fields() -> list[pa.Field]:
    """A column for each number of a tick: counters beside the rest, other groups under `<group>_<name>`."""
    columns: list[pa.Field] = []
    for field in msgspec.structs.fields(MetricsTick):
        if field.type is BookCounters:
            columns += _group("", BookCounters)
        elif field.type is HopLatency:
            columns += [column for hop in HOPS for column in _group(f"{hop}_", Percentiles)]
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            columns += _group(f"{field.name}_", field.type)
        else:
            columns.append(_field(field.name, field.type))
    return columns


def _group(prefix: str, struct: type[msgspec.Struct]) -> list[pa.Field]:
    return [_field(prefix + field.name, field.type) for field in msgspec.structs.fields(struct)]


def _field(name: str, annotation: Any) -> pa.Field:
    """`float | None` is a column that may be null."""
    kinds = [kind for kind in getattr(annotation, "__args__", (annotation,)) if kind is not type(None)]
    return pa.field(name, _KINDS.get(kinds[0], _TEXT), nullable=kinds != [annotation])


SCHEMAS: Final[dict[str, pa.Schema]] = {
    "book": _schema(
        {**BOOK_MESSAGE, "side": _TEXT, **_NUMBERS},
        nullable=("recv_ns", "exchange_ms", "engine_ms", "u", "seq", "side", *_NUMBERS),
    ),
    "trades": _schema(
        {
            "message": _INT,
            **_WHOSE,
            "recv_ns": _INT,
            "exchange_ms": _INT,
            "match_ms": _INT,
            "trade_id": _TEXT,
            "side": _TEXT,
            **_NUMBERS,
            "tick_direction": _TEXT,
            "block": pa.bool_(),
            "rpi": pa.bool_(),
            "seq": _INT,
        },
        nullable=("recv_ns", "price", "size"),
    ),
    "liquidations": _schema(
        {
            "message": _INT,
            **_WHOSE,
            "recv_ns": _INT,
            "exchange_ms": _INT,
            "match_ms": _INT,
            "side": _TEXT,
            **_NUMBERS,
        },
        nullable=("recv_ns", "price", "size"),
    ),
    "tickers": _schema(
        {
            "message": _INT,
            **_WHOSE,
            "kind": _TEXT,
            "recv_ns": _INT,
            "exchange_ms": _INT,
            "cross_seq": _INT,
            **dict.fromkeys(TICKER_NUMBERS, DECIMAL),
            "data": _TEXT,
        },
        nullable=("recv_ns", "cross_seq", *TICKER_NUMBERS),
    ),
    "ticks": pa.schema(_tick_fields()),
    "alerts": _schema(
        {
            "ts": _INT,
            **_WHOSE,
            "plugin": _TEXT,
            "rule": _TEXT,
            "kind": _TEXT,
            "severity": _TEXT,
            "message": _TEXT,
            "metric": _TEXT,
            "value": _FLOAT,
            "threshold": _FLOAT,
            "since_ms": _INT,
        },
        nullable=("value", "threshold", "since_ms"),
    ),
    "gaps": _schema(
        {
            "from_ms": _INT,
            "to_ms": _INT,
            **_WHOSE,
            "scope": _TEXT,
            "reason": _TEXT,
            "detail": _TEXT,
            "frames": _INT,
            "bytes": _INT,
            "file": _TEXT,
            "offset": _INT,
        },
        nullable=("to_ms", "frames", "bytes", "file", "offset"),
    ),
}
REPLAYED: Final = frozenset({"ticks", "alerts", "gaps"})
"""Tables for which a recording must be replayed through books and metrics."""
