"""Realistic values for everything that is shown."""

from __future__ import annotations

import pytest

from orderflow.core.figures import TickQuality
from orderflow.core.types import (
    BookCounters,
    BookState,
    Category,
    HopLatency,
    MetricsTick,
    Percentiles,
)


@pytest.fixture
def tick() -> MetricsTick:
    """The tick whose line stands in the README."""
    return MetricsTick(
        ts=1_700_000_000_000,
        mono_ns=5_000_000_000,
        category=Category.LINEAR,
        symbol="BTCUSDT",
        state=BookState.LIVE,
        reason="",
        depth=50,
        base_coin="BTC",
        quote_coin="USDT",
        price_decimals=2,
        size_decimals=3,
        bid=50000.0,
        ask=50001.0,
        bid_size=1.2,
        ask_size=0.9,
        mid=50000.5,
        weighted_mid=50000.571428571428,
        spread=1.0,
        spread_pct=0.001999980000199998,
        spread_bps=0.1999980000199998,
        imbalance=0.15,
        queue_imbalance=0.142857,
        liquidity=12.5,
        liquidity_bid=7.1875,
        liquidity_ask=5.3125,
        band_bps=10.0,
        band_bid=40.5,
        band_ask=38.25,
        latency_ms=45.2,
        latency_error_ms=0.4,
        book_age_ms=12.0,
        u=184_467,
        seq=9_876_543_210,
        counters=BookCounters(updates=1234, snapshots=1, gaps=1, missed=2, resyncs=1, reconnects=1),
        hops=HopLatency(
            gateway_to_socket=Percentiles(count=1234, p50=45.0, p99=61.5, p999=80.0, max=81.5),
            socket_to_book=Percentiles(count=1234, p50=0.031, p99=0.09, p999=0.4, max=1.25),
        ),
        quality=TickQuality(coverage_pct=99.1428, gaps=1, gap_s=1.9, longest_gap_s=1.9),
    )
