"""Human output, one line a fact: ticks, alerts, changes of the feed, the closing summary. Pure: values in, text out."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.text import counted, escape_text, plain_decimal
from orderflow.core.types import (
    Alert,
    AlertKind,
    BookState,
    Category,
    FeedChange,
    HopLatency,
    LinkChanged,
    MetricsTick,
    Percentiles,
    Severity,
    Summary,
)
from orderflow.ui.ability import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orderflow.core.figures import TickQuality
    from orderflow.core.stats import LinkStats, Stats

MISSING: Final = "n/a"

_DOLLARS: Final = frozenset({"USD", "USDT", "USDC", "USDE", "FDUSD", "PYUSD", "RLUSD", "TUSD", "USD1", "USDQ", "DAI"})
_QUOTES: Final = (
    *sorted(_DOLLARS, key=len, reverse=True),
    *("EUR", "GBP", "BRL", "TRY", "PLN", "AED", "BTC", "ETH", "SOL", "MNT", "BIT"),
)
_RESET: Final = "\x1b[0m"
_SEVERITY_COLOUR: Final = {Severity.INFO: "\x1b[36m", Severity.WARNING: "\x1b[33m", Severity.CRITICAL: "\x1b[1;31m"}
_SEVERITY_EMOJI: Final = {Severity.INFO: "🔵", Severity.WARNING: "🟠", Severity.CRITICAL: "🚨"}
HOPS: Final = (
    ("engine_to_gateway", "engine to gateway"),
    ("gateway_to_socket", "gateway to socket"),
    ("socket_to_book", "socket to book"),
    ("book_to_metrics", "book to metrics"),
)
"""(field of HopLatency, words for people), in the order a message travels."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How lines are dressed. `categories`: symbols carry their category because several are watched."""

    emoji: bool = False
    colour: bool = False
    categories: bool = False


def choose_look(
    setting: str, *, terminal: bool, encoding: str | None, environ: Mapping[str, str], categories: bool
) -> Look:
    """What this output can show.

    Args: setting: `auto`, `always` or `never` (emoji); encoding: of the stream; environ: for NO_COLOR and TERM.
    """
    dumb = environ.get("TERM", "") == "dumb"
    able = terminal and not dumb and is_utf8(encoding)
    return Look(
        emoji=setting == "always" or (setting == "auto" and able),
        colour=terminal and not dumb and not environ.get("NO_COLOR"),
        categories=categories,
    )


# --- one value ----------------------------------------------------------------------------------------------------


def quote_coin(tick: MetricsTick) -> str:
    """The coin prices are in; without instruments-info told from the symbol, "" when that does not say."""
    if tick.quote_coin:
        return tick.quote_coin
    if tick.category is Category.INVERSE:
        return "USD"
    head = tick.symbol.partition("-")[0]
    known = next((quote for quote in _QUOTES if head.endswith(quote) and head != quote), "")
    return known or ("USDC" if tick.category is Category.LINEAR else "")  # BTCPERP, ETH-26DEC25: settled in USDC


def format_price(value: float | None, decimals: int | None, quote: str = "") -> str:
    """At the instrument's precision, never rounded: `$50000.00`, or `0.051230 BTC` when the quote is no dollar."""
    return MISSING if value is None else _money(plain_decimal(value, decimals), quote)


def format_mid(tick: MetricsTick) -> str:
    """The mid with one digit more than prices have where half a tick needs it."""
    if tick.mid is None:
        return MISSING
    decimals = price_decimals(tick)
    text = f"{tick.mid:.{decimals + 1}f}"
    return _money(text.removesuffix("0").removesuffix("."), quote_coin(tick))


def price_decimals(tick: MetricsTick) -> int:
    """The instrument's, or as many as bid and ask need when the instrument is not known."""
    if tick.price_decimals is not None:
        return tick.price_decimals
    texts = [plain_decimal(price) for price in (tick.bid, tick.ask) if price is not None]
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def format_size(value: float | None, coin: str | None = None) -> str:
    """Two decimals, or four significant digits below one: `12.50 BTC`, `0.004321 BTC`."""
    if value is None:
        return MISSING
    text = f"{value:.2f}"
    if 0 < abs(value) < 1:
        text = plain_decimal(float(f"{value:.4g}"), 2)
    return f"{text} {escape_text(coin, 20)}" if coin else text


def format_latency(latency_ms: float | None, error_ms: float | None) -> str:
    """`45ms`, `45±2ms` when the clocks are known that badly, `45±?ms` when their offset is not known at all."""
    if latency_ms is None:
        return MISSING
    text = format_ms(latency_ms)
    if not text.endswith("ms"):  # so far off that the error does not matter
        return text
    value = text.removesuffix("ms")
    if error_ms is None:
        return f"{value}±?ms"
    return f"{value}ms" if error_ms < 1 else f"{value}±{error_ms:.0f}ms"


def format_ms(value: float | None) -> str:
    """Milliseconds, one decimal below ten, seconds from ten thousand on."""
    if value is None:
        return MISSING
    if abs(value) >= 10_000:
        return format_duration(value / 1000)
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return ("0.0" if text == "-0.0" else text) + "ms"


def format_duration(seconds: float) -> str:
    """`3.2s`, `4m 05s`, `2h 03m`, `5d 02h`."""
    if abs(seconds) < 60:
        return f"{seconds:.1f}s"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02}h"


def format_percent(value: float | None, decimals: int = 2) -> str:
    """Never rounded up: `100%` is all of it, `99.99%` is not."""
    if value is None:
        return MISSING
    scale = 10**decimals
    return "100%" if value >= 100 else f"{math.floor(value * scale) / scale:.{decimals}f}%"


def format_number(value: float | None, spec: str, unit: str = "") -> str:
    return MISSING if value is None else f"{value:{spec}}{unit}"


def format_name(category: Category, symbol: str, look: Look) -> str:
    name = escape_text(symbol, 40)
    return f"{category.value}:{name}" if look.categories else name


def _money(number: str, quote: str) -> str:
    if quote in _DOLLARS:
        return f"-${number[1:]}" if number.startswith("-") else f"${number}"
    return f"{number} {escape_text(quote, 20)}" if quote else number


# --- one line -----------------------------------------------------------------------------------------------------


def format_tick(tick: MetricsTick, look: Look) -> str:
    """The tick line traders know; a book that is not live gets a short line and no prices."""
    name = format_name(tick.category, tick.symbol, look)
    if not tick.live:
        return _dress("⏳" if tick.state is BookState.SYNCING else "⚠️", _not_live(name, tick), look, "\x1b[2m")
    quote, decimals = quote_coin(tick), price_decimals(tick)
    parts = [
        name,
        f"Bid: {format_price(tick.bid, decimals, quote)}",
        f"Ask: {format_price(tick.ask, decimals, quote)}",
        f"Mid: {format_mid(tick)}",
        f"Spread: {format_number(tick.spread_pct, '.4f', '%')}",
        f"Imbalance: {format_number(tick.imbalance, '.3f')}",
        f"Liquidity: {format_size(tick.liquidity, tick.base_coin)}",
        f"Latency: {format_latency(tick.latency_ms, tick.latency_error_ms)}",
        f"Updates: {tick.counters.updates}",
    ]
    if tick.reason:
        parts.append(f"Reason: {escape_text(tick.reason, 60)}")
    return _dress("📊", " | ".join(parts), look)


def _not_live(name: str, tick: MetricsTick) -> str:
    reason = f" ({escape_text(tick.reason, 60)})" if tick.reason else ""
    age = f"Age: {format_ms(tick.book_age_ms)}"
    counters = tick.counters
    return f"{name} | {tick.state.value}{reason} | {age} | Updates: {counters.updates} | Resyncs: {counters.resyncs}"


def format_alert(alert: Alert, look: Look) -> str:
    """`ALERT warning spread.wide | BTCUSDT | spread 0.9 % is above 0.8 % | for 12.0s`; the evidence is in the JSON."""
    tick = alert.tick
    word = {AlertKind.RAISE: "ALERT", AlertKind.CLEAR: "CLEAR", AlertKind.NOTICE: "NOTICE"}[alert.kind]
    rule = ".".join(escape_text(part, 60) for part in (alert.plugin, alert.rule) if part)
    parts = [
        f"{word} {alert.severity.value} {rule}",
        format_name(tick.category, tick.symbol, look),
        escape_text(alert.message),
    ]
    if alert.since_ms is not None and tick.ts > alert.since_ms:
        parts.append(f"for {format_duration((tick.ts - alert.since_ms) / 1000)}")
    return _dress(alert_emoji(alert), " | ".join(parts), look, alert_colour(alert))


def alert_emoji(alert: Alert) -> str:
    if alert.kind is AlertKind.CLEAR:
        return "✅"
    return "🔔" if alert.kind is AlertKind.NOTICE else _SEVERITY_EMOJI[alert.severity]


def alert_colour(alert: Alert) -> str:
    return "\x1b[32m" if alert.kind is AlertKind.CLEAR else _SEVERITY_COLOUR[alert.severity]


def format_feed(change: FeedChange, look: Look) -> str:
    """`Feed linear down: no pong in 10 s (heartbeat), next try in 3.2s` or `Book BTCUSDT live -> suspect: gap`."""
    if isinstance(change, LinkChanged):
        good = change.state == "up"
        return _dress("🔌", f"Feed {format_link(change)}", look, "\x1b[32m" if good else "\x1b[33m")
    name = format_name(change.instrument.category, change.instrument.symbol, look)
    detail = f" ({escape_text(change.detail)})" if change.detail else ""
    text = f"Book {name} {change.old.value} -> {change.new.value}: {escape_text(change.reason, 60)}{detail}"
    return _dress("📗" if change.new is BookState.LIVE else "📙", text, look)


def format_link(change: LinkChanged) -> str:
    """`linear down: reset, try 2 in 3.2s`."""
    why = ", ".join(escape_text(part) for part in (change.reason, change.detail) if part)
    text = f"{escape_text(change.link, 60)} {escape_text(change.state, 20)}" + (f": {why}" if why else "")
    if change.retry_s is not None:
        text += f", try {change.attempt} in {format_duration(change.retry_s)}"
    return text


def format_start(version: str, env: str, instruments: Iterable[str], interval_s: float, look: Look) -> str:
    names = ", ".join(escape_text(name, 60) for name in instruments)
    text = f"orderflow {version} | {escape_text(env, 40)} | {names} | a tick every {interval_s:g} s"
    return _dress("🚀", text, look)


# --- the closing summary ------------------------------------------------------------------------------------------


def format_summary(summary: Summary, look: Look) -> str:
    """Several lines: totals, each book's last state, latency percentiles per hop, notes."""
    counts = (
        f"{counted(summary.messages, 'message')} | {summary.refused} refused | {counted(summary.gaps, 'gap')} | "
        f"{counted(summary.resyncs, 'resync')} | {counted(summary.reconnects, 'reconnect')} | "
        f"{counted(summary.alerts, 'alert')}"
    )
    head = _dress("📋", f"Summary after {format_duration(summary.uptime_s)} | {counts}", look, "\x1b[1m")
    lines = [head, *(f"  {_book_summary(tick, look)}" for tick in summary.books)]
    lines += [f"  {text}" for text in format_hops(summary.hops)]
    if summary.clock is not None:
        offset, error = summary.clock.offset_ms, summary.clock.error_ms
        lines.append(f"  Clock: {offset:+.1f}±{error:.1f}ms against the exchange")
    if summary.stats is not None:
        lines += [f"  {text}" for text in format_stats(summary.stats)]
    lines += [f"  Note: {escape_text(note, 400)}" for note in summary.notes]
    return "\n".join(lines)


def format_stats(stats: Stats) -> list[str]:
    """What a person wants to know of the machinery: each link, and what was out of the ordinary."""
    lines = [_link_summary(link) for link in stats.links]
    lines += [
        f"Queue {queue.channel}: {counted(queue.overruns, 'overrun')}, most waiting {queue.peak}"
        for queue in stats.queues
        if queue.overruns
    ]
    if stats.stalls:
        times = "once" if stats.stalls == 1 else f"{stats.stalls} times"
        lines.append(f"Stood still {times}, {format_duration(stats.stalled_s)} in all")
    if stats.clock_steps:
        lines.append(f"Our clock was set {counted(stats.clock_steps, 'time')}")
    return lines


def _link_summary(link: LinkStats) -> str:
    losses = f" | Lost: {_counts(link.losses)}" if link.losses else ""
    refused = f" | Refused: {_counts(link.refused)}" if link.refused else ""
    traffic = f"{counted(link.connects, 'connect')} | {counted(link.frames, 'message')}"
    return f"Link {escape_text(link.link, 60)} | {traffic}{losses}{refused}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{escape_text(reason, 40)} {count}" for reason, count in sorted(counts.items()))


def _book_summary(tick: MetricsTick, look: Look) -> str:
    counters = tick.counters
    reason = f" ({escape_text(tick.reason, 60)})" if tick.reason else ""
    return (
        f"{format_name(tick.category, tick.symbol, look)} | {tick.state.value}{reason} | Updates: {counters.updates} | "
        f"Gaps: {counters.gaps} | Resyncs: {counters.resyncs} | Reconnects: {counters.reconnects}"
        f"{_coverage(tick.quality)}"
    )


def _coverage(quality: TickQuality) -> str:
    if quality.coverage_pct is None:
        return ""
    text = f" | Coverage: {format_percent(quality.coverage_pct)}"
    if not quality.gaps:
        return text
    times = "once" if quality.gaps == 1 else f"{quality.gaps} times"
    return f"{text}, interrupted {times}, longest {format_duration(quality.longest_gap_s)}"


def format_hops(hops: HopLatency) -> list[str]:
    """One line per hop that has samples: `Latency socket to book: p50 0.1ms p99 0.3ms p99.9 0.9ms max 4.0ms`."""
    lines: list[str] = []
    for field, words in HOPS:
        value: Percentiles = getattr(hops, field)
        if value.count:
            shown = " ".join(
                f"{name} {_fine_ms(number)}"
                for name, number in (("p50", value.p50), ("p99", value.p99), ("p99.9", value.p999), ("max", value.max))
            )
            lines.append(f"Latency {words}: {shown} ({counted(value.count, 'sample')})")
    return lines


def _fine_ms(value: float | None) -> str:
    """Milliseconds where hops of microseconds must not read as zero."""
    if value is None or abs(value) >= 1:
        return format_ms(value)
    return f"{value * 1000:.0f}µs"


def _dress(emoji: str, text: str, look: Look, colour: str = "") -> str:
    if look.colour and colour:
        text = f"{colour}{text}{_RESET}"
    return f"{emoji} {text}" if look.emoji else text


def format_clock(ts_ms: int) -> str:
    """`HH:MM:SS` UTC of a wall time in ms."""
    return time.strftime("%H:%M:%S", time.gmtime(ts_ms / 1000))
