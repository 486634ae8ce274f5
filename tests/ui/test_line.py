"""The lines people read: exact shapes, nothing invented, nothing unescaped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orderflow.core.figures import TickQuality
from orderflow.core.types import (
    Alert,
    AlertKind,
    BookState,
    BookStateChanged,
    Category,
    ClockOffset,
    HopLatency,
    InstrumentId,
    LinkChanged,
    MetricsTick,
    Percentiles,
    Severity,
    Summary,
)
from orderflow.ui.line import (
    Look,
    choose_look,
    format_alert,
    format_duration,
    format_feed,
    format_latency,
    format_ms,
    format_size,
    format_start,
    format_summary,
    format_tick,
    quote_coin,
)

PLAIN = Look()
EVIL = "\x1b[2J\u202e\n"


def test_the_line_traders_know(tick: MetricsTick) -> None:
    assert format_tick(tick, PLAIN) == (
        "BTCUSDT | Bid: $50000.00 | Ask: $50001.00 | Mid: $50000.50 | Spread: 0.0020% | Imbalance: 0.150 | "
        "Liquidity: 12.50 BTC | Latency: 45ms | Updates: 1234"
    )
    assert format_tick(tick, Look(emoji=True)).startswith("📊 BTCUSDT | ")
    assert format_tick(tick, Look(categories=True)).startswith("linear:BTCUSDT | ")


def test_mid_gets_half_a_tick_more(tick: MetricsTick) -> None:
    odd = replace(tick, bid=50000.01, ask=50000.02, mid=50000.015)
    assert "Mid: $50000.015 |" in format_tick(odd, PLAIN)
    whole = replace(tick, price_decimals=0, bid=7.0, ask=9.0, mid=8.0)
    assert "Bid: $7 | Ask: $9 | Mid: $8 |" in format_tick(whole, PLAIN)
    half = replace(whole, ask=8.0, mid=7.5)
    assert "Mid: $7.5 |" in format_tick(half, PLAIN)


def test_unknown_precision_shows_what_prices_need(tick: MetricsTick) -> None:
    tiny = replace(tick, price_decimals=None, base_coin=None, bid=1e-07, ask=1.5e-07, mid=1.25e-07)
    assert "Bid: $0.00000010 | Ask: $0.00000015 | Mid: $0.000000125 |" in format_tick(tiny, PLAIN)
    assert "Liquidity: 12.50 |" in format_tick(tiny, PLAIN)


@pytest.mark.parametrize(
    "category, symbol, given, quote",
    [
        ("linear", "BTCUSDT", None, "USDT"),
        ("linear", "BTCPERP", None, "USDC"),
        ("linear", "ETH-26DEC25", None, "USDC"),
        ("linear", "BTCUSDT-26DEC25", None, "USDT"),
        ("inverse", "BTCUSD", None, "USD"),
        ("inverse", "BTCUSDZ25", None, "USD"),
        ("spot", "ETHBTC", None, "BTC"),
        ("spot", "USDCUSDT", None, "USDT"),
        ("spot", "BTCEUR", None, "EUR"),
        ("spot", "XYZFOO", None, ""),
        ("spot", "BTCFOO", "FOO", "FOO"),
        ("linear", "BTCUSDT", "USDC", "USDC"),
    ],
)
def test_quote_coin(tick: MetricsTick, category: str, symbol: str, given: str | None, quote: str) -> None:
    assert quote_coin(replace(tick, category=Category(category), symbol=symbol, quote_coin=given)) == quote


def test_no_dollar_where_none_is_paid(tick: MetricsTick) -> None:
    spot = replace(
        tick,
        category=Category.SPOT,
        symbol="ETHBTC",
        base_coin="ETH",
        quote_coin="BTC",
        price_decimals=6,
        bid=0.05123,
        ask=0.051231,
    )
    assert "Bid: 0.051230 BTC | Ask: 0.051231 BTC |" in format_tick(spot, PLAIN)


def test_an_empty_side_is_not_zero(tick: MetricsTick) -> None:
    names = ("ask", "mid", "spread", "spread_pct", "spread_bps", "imbalance", "liquidity", "latency_ms")
    line = format_tick(replace(tick, reason="empty_side", **dict.fromkeys(names)), PLAIN)
    assert line == (
        "BTCUSDT | Bid: $50000.00 | Ask: n/a | Mid: n/a | Spread: n/a | Imbalance: n/a | Liquidity: n/a | "
        "Latency: n/a | Updates: 1234 | Reason: empty_side"
    )


@pytest.mark.parametrize("state", [state for state in BookState if state is not BookState.LIVE])
def test_a_book_that_is_not_live_shows_no_prices(tick: MetricsTick, state: BookState) -> None:
    """Even if somebody left values in the tick."""
    line = format_tick(replace(tick, state=state, reason="gap", book_age_ms=1234.0), PLAIN)
    assert line == f"BTCUSDT | {state.value} (gap) | Age: 1234ms | Updates: 1234 | Resyncs: 1"


@pytest.mark.parametrize(
    "latency, error, text",
    [
        (45.2, 0.4, "45ms"),
        (45.2, 2.0, "45±2ms"),
        (-3.24, 5.0, "-3.2±5ms"),
        (45.2, None, "45±?ms"),
        (-0.01, 0.0, "0.0ms"),
        (12_500.0, 2.0, "12.5s"),
        (-9e9, None, "-104d 04h"),
        (None, 2.0, "n/a"),
    ],
)
def test_latency(latency: float | None, error: float | None, text: str) -> None:
    assert format_latency(latency, error) == text


@pytest.mark.parametrize("value, text", [(0.04, "0.0ms"), (9.94, "9.9ms"), (9.96, "10ms"), (12_500.0, "12.5s")])
def test_milliseconds(value: float, text: str) -> None:
    assert format_ms(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(12.5, "12.50"), (0.0, "0.00"), (0.00432149, "0.004321"), (0.5, "0.50"), (1234567.891, "1234567.89")],
)
def test_sizes(value: float, text: str) -> None:
    assert format_size(value) == text


@pytest.mark.parametrize(
    "seconds, text", [(3.21, "3.2s"), (245, "4m 05s"), (7380, "2h 03m"), (5 * 86400 + 7200, "5d 02h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def alert(tick: MetricsTick, **changes: object) -> Alert:
    whole = Alert(
        rule="wide",
        plugin="spread",
        kind=AlertKind.RAISE,
        severity=Severity.WARNING,
        message="spread is wide",
        tick=tick,
        metric="spread_pct",
        value=0.9123456,
        threshold=0.8,
        since_ms=tick.ts - 12_000,
    )
    return replace(whole, **changes)


def test_alert_lines(tick: MetricsTick) -> None:
    rest = "BTCUSDT | spread is wide | for 12.0s"
    assert format_alert(alert(tick), PLAIN) == f"ALERT warning spread.wide | {rest}"
    cleared = alert(tick, kind=AlertKind.CLEAR)
    assert format_alert(cleared, Look(emoji=True)) == f"✅ CLEAR warning spread.wide | {rest}"
    notice = alert(tick, kind=AlertKind.NOTICE, value=None, since_ms=None, plugin="")
    assert format_alert(notice, PLAIN) == "NOTICE warning wide | BTCUSDT | spread is wide"
    critical = format_alert(alert(tick, severity=Severity.CRITICAL), Look(emoji=True, colour=True))
    assert critical.startswith("🚨 \x1b[1;31mALERT critical")
    assert critical.endswith("\x1b[0m")


def test_feed_lines() -> None:
    down = LinkChanged(
        link="linear-1", state="down", reason="heartbeat", detail="no pong in 10 s", retry_s=3.2, attempt=2
    )
    assert format_feed(down, PLAIN) == "Feed linear-1 down: heartbeat, no pong in 10 s, try 2 in 3.2s"
    assert format_feed(LinkChanged(link="linear-1", state="up"), PLAIN) == "Feed linear-1 up"
    book = BookStateChanged(
        instrument=InstrumentId(Category.SPOT, "BTCUSDT"),
        old=BookState.LIVE,
        new=BookState.SUSPECT,
        reason="gap",
        mono_ns=0,
        detail="3 missing",
    )
    assert format_feed(book, Look(categories=True)) == "Book spot:BTCUSDT live -> suspect: gap (3 missing)"


def test_summary(tick: MetricsTick) -> None:
    whole = TickQuality(coverage_pct=100.0)
    summary = Summary(
        uptime_s=245.0,
        messages=5000,
        refused=1,
        gaps=2,
        resyncs=3,
        reconnects=4,
        alerts=5,
        books=(tick, replace(tick, symbol="ETHUSDT", state=BookState.SUSPECT, reason="gap", quality=whole)),
        hops=HopLatency(socket_to_book=Percentiles(count=9, p50=0.031, p99=1.25, p999=12.0, max=12.0)),
        clock=ClockOffset(offset_ms=1.25, error_ms=0.5, mono_ns=0),
        notes=("REST is blocked: lot sizes not known",),
    )
    assert format_summary(summary, PLAIN).splitlines() == [
        "Summary after 4m 05s | 5000 messages | 1 refused | 2 gaps | 3 resyncs | 4 reconnects | 5 alerts",
        "  BTCUSDT | live | Updates: 1234 | Gaps: 1 | Resyncs: 1 | Reconnects: 1"
        " | Coverage: 99.14%, interrupted once, longest 1.9s",
        "  ETHUSDT | suspect (gap) | Updates: 1234 | Gaps: 1 | Resyncs: 1 | Reconnects: 1 | Coverage: 100%",
        "  Latency socket to book: p50 31µs p99 1.2ms p99.9 12ms max 12ms (9 samples)",
        "  Clock: +1.2±0.5ms against the exchange",
        "  Note: REST is blocked: lot sizes not known",
    ]


def test_outside_text_is_escaped_everywhere(tick: MetricsTick) -> None:
    evil_tick = replace(tick, symbol=EVIL, base_coin=EVIL, quote_coin=EVIL, reason=EVIL)
    link = LinkChanged(link=EVIL, state=EVIL, reason=EVIL, detail=EVIL)
    book = BookStateChanged(
        instrument=InstrumentId(Category.SPOT, EVIL),
        old=BookState.LIVE,
        new=BookState.CLOSED,
        reason=EVIL,
        mono_ns=0,
        detail=EVIL,
    )
    lines = [
        format_tick(evil_tick, PLAIN),
        format_tick(replace(evil_tick, state=BookState.STALE), PLAIN),
        format_alert(alert(evil_tick, message=EVIL, plugin=EVIL, rule=EVIL, metric=EVIL), PLAIN),
        format_feed(link, PLAIN),
        format_feed(book, PLAIN),
        format_start("1.0", EVIL, [EVIL], 5.0, PLAIN),
    ]
    assert all(line.isprintable() for line in lines)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.none() | st.integers(0, 10), st.none() | st.floats(0, 1e12))
def test_numbers_never_take_an_exponent(bid: float, ask: float, decimals: int | None, liquidity: float | None) -> None:
    tick = MetricsTick(
        ts=0, mono_ns=0, category=Category.LINEAR, symbol="BTCUSDT", state=BookState.LIVE, reason="", depth=1,
        price_decimals=decimals, bid=bid, ask=ask, mid=(bid + ask) / 2, liquidity=liquidity,
    )  # fmt: skip
    numbers = format_tick(tick, PLAIN).partition("|")[2].replace("Liquidity", "").replace("Latency", "")
    assert "e-" not in numbers
    assert "e+" not in numbers


@pytest.mark.parametrize(
    "setting, terminal, encoding, environ, emoji, colour",
    [
        ("auto", True, "utf-8", {}, True, True),
        ("auto", True, "UTF8", {"NO_COLOR": "1"}, True, False),
        ("auto", False, "utf-8", {}, False, False),
        ("auto", True, "ascii", {}, False, True),
        ("auto", True, "utf-8", {"TERM": "dumb"}, False, False),
        ("always", False, None, {}, True, False),
        ("never", True, "utf-8", {}, False, True),
    ],
)
def test_look(
    setting: str, terminal: bool, encoding: str | None, environ: dict[str, str], emoji: bool, colour: bool
) -> None:
    look = choose_look(setting, terminal=terminal, encoding=encoding, environ=environ, categories=False)
    assert (look.emoji, look.colour) == (emoji, colour)
