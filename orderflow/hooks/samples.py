"""Made-up values of everything a hook is given: for plugin authors' tests and for `orderflow plugins check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.nearest import did_you_mean
from orderflow.core.types import (
    BookState,
    BookStateChanged,
    Category,
    ExecutionRow,
    HopLatency,
    InstrumentId,
    LinkChanged,
    MetricsTick,
    PrivateMessage,
    Summary,
    parse_instrument,
)
from orderflow.core.units import NS
from orderflow.hooks.specs import StartInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

START_MS: Final = 1_767_225_600_000  # 2026-01-01 00:00 UTC

_FIELDS: Final = frozenset(field.name for field in msgspec.structs.fields(MetricsTick))

# A calm market. Prices and what follows from them are worked out in `_prices`.
_LIVE: Final[Mapping[str, Any]] = {
    "bid_size": 1.5,
    "ask_size": 1.2,
    "imbalance": 0.1,
    "queue_imbalance": 0.1111,
    "liquidity": 20.0,
    "liquidity_bid": 11.0,
    "liquidity_ask": 9.0,
    "band_bid": 30.0,
    "band_ask": 25.0,
    "u": 1000,
    "seq": 5000,
}
_ALWAYS: Final[Mapping[str, Any]] = {
    "base_coin": "BTC",
    "price_decimals": 2,
    "size_decimals": 3,
    "band_bps": 10.0,
    "latency_ms": 45.0,
    "latency_error_ms": 1.0,
    "book_age_ms": 20.0,
}


def make_tick(instrument: InstrumentId | str = "linear:BTCUSDT", **overrides: Any) -> MetricsTick:
    """A believable tick of a calm, live book; change what the test is about.

    `mid`, `spread`, `spread_pct`, `spread_bps` and `weighted_mid` follow from `bid` and `ask` unless given, `mono_ns`
    (the clock alerts count by) from `ts`. With a `state` other than live everything that needs a live book is None, as
    in a real tick, unless given.

    Args: overrides: fields of MetricsTick; `state` and `category` may be given as text.
    Raises: TypeError naming the nearest field for one that ticks do not have.
    """
    for name in overrides:
        if name not in _FIELDS:
            raise TypeError(f"a tick has no {name!r}{did_you_mean(name, _FIELDS)}")
    where = parse_instrument(instrument, Category.LINEAR) if isinstance(instrument, str) else instrument
    state = BookState(overrides.pop("state", BookState.LIVE))
    ts = overrides.pop("ts", START_MS)
    fields: dict[str, Any] = {
        "ts": ts,
        "mono_ns": ts * 1_000_000,
        "category": where.category,
        "symbol": where.symbol,
        "state": state,
        "reason": "" if state is BookState.LIVE else "not_live",
        "depth": 50,
        **_ALWAYS,
    }
    if state is BookState.LIVE:
        fields |= {**_LIVE, **_prices(overrides.pop("bid", 50_000.0), overrides.pop("ask", 50_001.0))}
    fields |= overrides
    fields["category"] = Category(fields["category"])
    return MetricsTick(**fields)


def _prices(bid: float | None, ask: float | None) -> dict[str, Any]:
    """What follows from the touch; one side missing takes all of it along, as in a real tick."""
    if bid is None or ask is None:
        nothing = dict.fromkeys(("bid_size", "ask_size", "imbalance", "queue_imbalance", "liquidity"))
        return {"bid": bid, "ask": ask, "reason": "empty_side", **nothing}
    mid, spread = (bid + ask) / 2, ask - bid
    return {
        "bid": bid,
        "ask": ask,
        "mid": mid,
        "weighted_mid": mid,
        "spread": spread,
        "spread_pct": 100 * spread / mid,
        "spread_bps": 10_000 * spread / mid,
    }


def sample_ticks() -> tuple[MetricsTick, ...]:
    """Ticks of every kind a plugin meets in its life: no book yet, calm, wild, one-sided, undescribed, gone, back."""
    inverse = "inverse:BTCUSD"
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("linear:BTCUSDT", {"state": "empty", "latency_ms": None, "latency_error_ms": None, "book_age_ms": None}),
        ("linear:BTCUSDT", {"state": "syncing", "latency_ms": None}),
        ("linear:BTCUSDT", {}),
        ("spot:BTCUSDT", {"latency_error_ms": None}),
        ("linear:BTCUSDT", {"bid": 40_000.0, "ask": 60_000.0, "imbalance": 0.99, "liquidity": 0.001}),
        ("linear:BTCUSDT", {"imbalance": -0.99, "latency_ms": 5000.0, "latency_error_ms": 1.0}),
        ("linear:BTCUSDT", {"bid": None}),
        ("linear:BTCUSDT", {"latency_ms": -20.0, "latency_negative": 3}),
        (inverse, {"base_coin": None, "price_decimals": None, "size_decimals": None}),
        ("linear:BTCUSDT", {"bid": 50_000.0, "ask": 50_000.0}),
        ("linear:BTCUSDT", {"state": "suspect", "reason": "gap"}),
        ("linear:BTCUSDT", {"state": "stale", "book_age_ms": 60_000.0}),
        ("linear:BTCUSDT", {}),
        ("linear:BTCUSDT", {"state": "closed"}),
    )
    ticks = [make_tick(where, ts=START_MS + 5000 * at, **fields) for at, (where, fields) in enumerate(kinds)]
    return (*ticks, make_tick(ts=START_MS, mono_ns=ticks[-1].mono_ns + 5 * NS))  # and a clock that was set back


def sample_start() -> StartInfo:
    """The start of a run on two instruments."""
    instruments = (InstrumentId(Category.LINEAR, "BTCUSDT"), InstrumentId(Category.SPOT, "BTCUSDT"))
    return StartInfo(version="0", env="sim", instruments=instruments, depth=50, interval_s=5.0, ts=START_MS)


def sample_changes() -> tuple[LinkChanged | BookStateChanged, ...]:
    """A link that goes down and a book that follows it."""
    return (
        LinkChanged(link="linear", state="down", reason="closed", detail="peer went away", retry_s=0.5, ts=START_MS),
        BookStateChanged(
            instrument=InstrumentId(Category.LINEAR, "BTCUSDT"),
            old=BookState.LIVE,
            new=BookState.EMPTY,
            reason="link_down",
            mono_ns=0,
        ),
    )


def sample_private() -> PrivateMessage:
    """One fill."""
    text = {field.name: "" for field in msgspec.structs.fields(ExecutionRow) if field.type is str}
    row = ExecutionRow(**{**text, "symbol": "BTCUSDT", "qty": "0.1"}, maker=True, exec_ms=START_MS, seq=1)
    return PrivateMessage(topic="execution", creation_ms=START_MS, rows=(row,))


def sample_summary() -> Summary:
    """The end of a short run."""
    return Summary(
        uptime_s=60.0,
        messages=6000,
        refused=0,
        gaps=0,
        resyncs=0,
        reconnects=0,
        alerts=0,
        books=(make_tick(),),
        hops=HopLatency(),
    )
