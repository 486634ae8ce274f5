"""Seeded, plausible frames for the live view: several books, one of them in trouble, links, alerts."""

from __future__ import annotations

import math
import random

from msgspec.structs import replace

from orderflow.core.types import (
    Alert,
    AlertKind,
    BookCounters,
    BookState,
    BookView,
    Category,
    ClockOffset,
    HopLatency,
    Level,
    LinkChanged,
    MetricsTick,
    Percentiles,
    Severity,
    ViewFrame,
)
from orderflow.ui.history import History

START_MS = 1_763_800_000_000
HOPS = HopLatency(
    engine_to_gateway=Percentiles(count=9000, p50=3.0, p99=7.5, p999=12.0, max=31.0),
    gateway_to_socket=Percentiles(count=9000, p50=42.1, p99=61.5, p999=88.0, max=131.5),
    socket_to_book=Percentiles(count=9000, p50=0.031, p99=0.09, p999=0.4, max=2.25),
    book_to_metrics=Percentiles(count=9000, p50=0.012, p99=0.05, p999=0.2, max=0.9),
)
_MARKETS = (
    (Category.LINEAR, "BTCUSDT", "BTC", 97_412.3, 0.1, 1, 3, 2.5),
    (Category.LINEAR, "ETHUSDT", "ETH", 3_412.55, 0.01, 2, 2, 30.0),
    (Category.SPOT, "BTCUSDT", "BTC", 97_420.11, 0.01, 2, 6, 0.4),
    (Category.INVERSE, "BTCUSD", "BTC", 97_400.5, 0.5, 1, 0, 90_000.0),
    (Category.LINEAR, "SOLUSDT", "SOL", 242.37, 0.01, 2, 1, 200.0),
    (Category.SPOT, "XRPUSDT", "XRP", 1.4321, 0.0001, 4, 2, 5000.0),
)


def _side(rng: random.Random, best: float, tick: float, typical: float, decimals: tuple[int, int]) -> tuple[Level, ...]:
    levels: list[Level] = []
    price = best
    for index in range(30):
        size = round(typical * rng.lognormvariate(-0.4, 0.9) * (0.4 + index / 12), decimals[1])
        levels.append((round(price, decimals[0]), max(size, 10 ** -decimals[1])))
        price += tick * (1 if rng.random() < 0.7 else rng.randint(2, 4))
    return tuple(levels)


def make_view(second: int, market: int, *, state: BookState = BookState.LIVE, reason: str = "") -> BookView:
    """The book of one market at one second of the seeded day."""
    category, symbol, base, price, tick_size, price_decimals, size_decimals, typical = _MARKETS[market % len(_MARKETS)]
    rng = random.Random(second * 31 + market)
    mid = price * (1 + 0.0004 * math.sin(second / 23 + market) + 0.0002 * math.sin(second / 7))
    bid = round(math.floor(mid / tick_size) * tick_size, price_decimals)
    step = 1 if rng.random() < 0.75 else rng.randint(2, 5)
    ask = round(bid + tick_size * step, price_decimals)
    decimals = (price_decimals, size_decimals)
    bids, asks = _side(rng, bid, -tick_size, typical, decimals), _side(rng, ask, tick_size, typical, decimals)
    unit = price if category is Category.INVERSE else 1.0
    bid_sum, ask_sum = (sum(size for _, size in side[:10]) / unit for side in (bids, asks))
    pull = 0.55 * math.sin(second / 19 + market * 2) + 0.1 * (rng.random() - 0.5)
    mid = (bid + ask) / 2
    tick = MetricsTick(
        ts=START_MS + second * 1000,
        mono_ns=(START_MS + second * 1000) * 1_000_000,
        category=category,
        symbol=symbol if market < len(_MARKETS) else f"{base}{market}USDT",
        state=state,
        reason=reason,
        depth=50,
        base_coin=base,
        quote_coin="USD" if category is Category.INVERSE else "USDT",
        price_decimals=price_decimals,
        size_decimals=size_decimals,
        bid=bid,
        ask=ask,
        bid_size=bids[0][1] / unit,
        ask_size=asks[0][1] / unit,
        mid=mid,
        weighted_mid=bid + (ask - bid) * rng.random(),
        spread=round(ask - bid, price_decimals),
        spread_pct=100 * (ask - bid) / mid,
        spread_bps=1e4 * (ask - bid) / mid,
        imbalance=pull,
        queue_imbalance=max(-1.0, min(1.0, pull * 1.4)),
        liquidity=bid_sum + ask_sum,
        liquidity_bid=bid_sum,
        liquidity_ask=ask_sum,
        band_bps=10.0,
        band_bid=bid_sum * 3,
        band_ask=ask_sum * 3.2,
        latency_ms=42.0 + 4 * rng.random(),
        latency_error_ms=0.8,
        book_age_ms=rng.random() * 40,
        u=184_467 + second * 50,
        seq=9_876_543_210 + second,
        counters=BookCounters(updates=1234 + second * 47, snapshots=1, gaps=market % 3, resyncs=market % 3),
        hops=HOPS,
    )
    if state is not BookState.LIVE:
        gone = ("bid", "ask", "mid", "spread", "spread_pct", "spread_bps", "imbalance", "queue_imbalance", "liquidity")
        tick = replace(tick, latency_ms=None, book_age_ms=2140.0, **dict.fromkeys(gone))
    return BookView(tick=tick, bids=bids, asks=asks)


def make_frame(second: int, count: int = 4, *, trouble: bool = True) -> ViewFrame:
    """One frame; with `trouble` the last of several books is being resynced and a link is down."""
    views = [make_view(second, market) for market in range(count)]
    if trouble and count > 1:
        views[-1] = make_view(second, count - 1, state=BookState.SUSPECT, reason="gap")
    ts = START_MS + second * 1000
    links = [
        LinkChanged(link="linear-1", state="up", ts=ts - 245_000),
        LinkChanged(link="spot-1", state="up", ts=ts - 12_000),
    ]
    if trouble:
        links.append(
            LinkChanged(
                link="inverse-1", state="down", reason="heartbeat", detail="no pong in 10 s", retry_s=7.5, attempt=3,
                ts=ts - 2000,
            )
        )  # fmt: skip
    tick = views[0].tick
    alert = Alert(
        rule="wide", plugin="spread", kind=AlertKind.RAISE, severity=Severity.WARNING,
        message="spread 0.92 % is wider than 0.80 %", tick=tick, metric="spread_pct", value=0.92, threshold=0.8,
        since_ms=ts - 5000,
    )  # fmt: skip
    alerts = (
        alert,
        replace(alert, rule="thin", severity=Severity.CRITICAL, message="liquidity 3.1 BTC is below 5 BTC"),
        replace(alert, kind=AlertKind.CLEAR, message="spread is back at 0.01 %"),
        replace(alert, kind=AlertKind.NOTICE, severity=Severity.INFO, message="whale: 84.2 BTC bid at 97,400"),
    )
    return ViewFrame(
        ts=ts,
        uptime_s=245.0 + second,
        env="sim",
        books=tuple(views),
        links=tuple(links),
        alerts=alerts if trouble else (),
        messages=61_234 + second * 180,
        message_rate=183.4,
        clock=ClockOffset(offset_ms=1.24, error_ms=0.4, mono_ns=0),
    )


def make_history(seconds: int, count: int = 4) -> tuple[ViewFrame, History]:
    """The frame after that many seconds and what the view remembers then."""
    history = History()
    for second in range(seconds):
        history.add(make_frame(second, count))
    return make_frame(seconds - 1, count), history
