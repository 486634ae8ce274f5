"""The header of the live view and the metrics, charts and health of one book: frames in, lines of exact width out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.segment import Segment

from orderflow.core.text import escape_text
from orderflow.core.types import BookState
from orderflow.ui.cells import (
    Line,
    Theme,
    balance,
    cell,
    chart,
    curve,
    fit,
    signed_chart,
    spread_out,
    width_of,
)
from orderflow.ui.line import (
    HOPS,
    MISSING,
    format_clock,
    format_duration,
    format_latency,
    format_mid,
    format_ms,
    format_number,
    format_price,
    format_size,
    price_decimals,
    quote_coin,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.style import Style

    from orderflow.core.types import BookView, MetricsTick, Percentiles, ViewFrame
    from orderflow.ui.history import History

STATE_MARKS: Final = {
    BookState.LIVE: ("●", Theme.good),
    BookState.SYNCING: ("◌", Theme.info),
    BookState.EMPTY: ("○", Theme.dim),
    BookState.SUSPECT: ("▲", Theme.bad),
    BookState.STALE: ("◐", Theme.warn),
    BookState.CLOSED: ("✕", Theme.bad),
}
_BADGE: Final = {"mainnet": Theme.badge_main, "sim": Theme.badge_sim}
_GAP: Final = Segment("   ")


# --- header -------------------------------------------------------------------------------------------------------


def header(frame: ViewFrame, width: int) -> Line:
    """One line: name, environment, how many books are live, uptime, messages and rate, clock; less when narrow."""
    live = sum(book.tick.live for book in frame.books)
    count = len(frame.books)
    style = Theme.good if live == count else Theme.bad if live == 0 else Theme.warn
    left: Line = [
        Segment(" orderflow ", Theme.badge),
        Segment(f" {escape_text(frame.env, 20)} ", _BADGE.get(frame.env, Theme.badge_test)),
        Segment(f" {live}/{count} live", style),
    ]
    facts: list[Line] = [
        [Segment("up ", Theme.dim), Segment(format_duration(frame.uptime_s), Theme.text)],
        [Segment(f"{frame.message_rate:,.0f}", Theme.text), Segment(" msg/s", Theme.dim)],
        _clock_fact(frame),
        [Segment(f"{frame.messages:,}", Theme.text), Segment(" messages", Theme.dim)],
    ]
    right: Line = [Segment(f"{format_clock(frame.ts)} UTC ", Theme.dim)]
    room = width - width_of(left) - width_of(right) - 3
    for fact in facts:
        needed = width_of(fact) + 3
        if needed <= room:
            left += [_GAP, *fact]
            room -= needed
    return spread_out(left, right, width)


def _clock_fact(frame: ViewFrame) -> Line:
    if frame.clock is None:
        return [Segment("clock ", Theme.dim), Segment("unknown", Theme.warn)]
    offset, error = frame.clock.offset_ms, frame.clock.error_ms
    return [Segment("clock ", Theme.dim), Segment(f"{offset:+.1f}±{error:.1f}ms", Theme.text)]


def book_title(tick: MetricsTick) -> Line:
    """The title of a book's frame: symbol, category, depth, state and why."""
    mark, style = STATE_MARKS[tick.state]
    title: Line = [
        Segment(escape_text(tick.symbol, 40), Theme.title),
        Segment(f" {tick.category.value} " + (f"· {tick.depth} levels " if tick.live else ""), Theme.dim),
        Segment(f"{mark} {tick.state.value}", style),
    ]
    if not tick.live and tick.reason:
        title.append(Segment(f" {escape_text(tick.reason, 40)}", Theme.warn))
    return title


# --- metrics and charts of one book -------------------------------------------------------------------------------


def metric_line(tick: MetricsTick, width: int) -> Line:
    """Mid, spread, imbalance and liquidity in one line, for short screens."""
    if not tick.live:
        words = f"{tick.state.value} {escape_text(tick.reason, 40)}: no numbers until the book is proven again"
        return [cell(words, width, Theme.warn, "^")]
    left: Line = [
        Segment("mid ", Theme.dim),
        Segment(format_mid(tick), Theme.strong),
        Segment("  spread ", Theme.dim),
        Segment(f"{format_number(tick.spread_bps, '.2f')} bps", Theme.spread),
        Segment("  liq ", Theme.dim),
        Segment(format_size(tick.liquidity, tick.base_coin), Theme.text),
    ]
    room = width - width_of(left) - 12
    if tick.imbalance is None or room < 9:
        return fit(left, width)
    meter = balance(tick.imbalance, min(room, 21), Theme.bid_bar, Theme.ask_bar)
    return spread_out(left, [Segment("imb ", Theme.dim), *meter, _imbalance_cell(tick)], width)


def _imbalance_cell(tick: MetricsTick) -> Segment:
    value = tick.imbalance
    style = Theme.dim if value is None else Theme.bid if value >= 0 else Theme.ask
    return cell(format_number(value, "+.2f"), 7, style, ">")


def metric_rows(tick: MetricsTick, width: int) -> list[Line]:
    """The metrics of one book, one a row; sizes in base coin."""
    coin = tick.base_coin
    quote = quote_coin(tick)
    meter_width = max(9, width - 27)
    rows: list[Line] = [
        _fact("mid", format_mid(tick), Theme.strong),
        _fact("weighted mid", _rounded_price(tick.weighted_mid, tick, quote)),
        _fact("spread", f"{format_number(tick.spread_bps, '.3f')} bps   {format_number(tick.spread_pct, '.4f')} %"),
        [*_fact("imbalance", ""), *_meter(tick.imbalance, meter_width)],
        [*_fact("queue imb.", ""), *_meter(tick.queue_imbalance, meter_width)],
        _fact("liquidity", _pair(tick.liquidity, tick.liquidity_bid, tick.liquidity_ask, coin)),
        _fact(f"within {tick.band_bps:g} bps" if tick.band_bps else "band", _sides(tick.band_bid, tick.band_ask, coin)),
        _fact("latency", format_latency(tick.latency_ms, tick.latency_error_ms)),
        _fact("book age", f"{format_ms(tick.book_age_ms)}   u {MISSING if tick.u is None else tick.u}"),
    ]
    return [fit(row, width) for row in rows]


def _fact(name: str, value: str, style: Style = Theme.text) -> Line:
    return [cell(name, 15, Theme.dim), Segment(value, style)]


def _meter(value: float | None, width: int) -> Line:
    if value is None:
        return [Segment(MISSING, Theme.dim)]
    style = Theme.bid if value >= 0 else Theme.ask
    return [*balance(value, width, Theme.bid_bar, Theme.ask_bar), cell(f"{value:+.3f}", 9, style, ">")]


def _rounded_price(value: float | None, tick: MetricsTick, quote: str) -> str:
    if value is None:
        return MISSING
    digits = price_decimals(tick) + 2
    return format_price(float(f"{value:.{digits}f}"), digits, quote)


def _pair(total: float | None, bid: float | None, ask: float | None, coin: str | None) -> str:
    return f"{format_size(total, coin)}   ({format_size(bid)} bid, {format_size(ask)} ask)"


def _sides(bid: float | None, ask: float | None, coin: str | None) -> str:
    return f"{format_size(bid)} bid   {format_size(ask)} ask{' ' + escape_text(coin, 12) if coin else ''}"


def charts(view: BookView, history: History, width: int, height: int) -> list[Line]:
    """Mid (where there is height for it), spread and imbalance over the remembered minutes, each with its range."""
    instrument = view.tick.instrument
    span = format_duration(history.seconds(instrument))
    group_s = history.group_s(instrument, width)
    spreads = history.series(instrument, lambda sample: sample.spread_bps, group_s)
    imbalances = history.series(instrument, lambda sample: sample.imbalance, group_s)
    rows = height - 2
    lines: list[Line] = []
    if height >= 14:
        rows -= 1
        upper = rows // 2
        mids = _mids(view, history, group_s)
        lines = [_chart_title("mid", mids, "", f".{price_decimals(view.tick)}f", span, width)]
        lines += curve(mids, width, upper, Theme.mid_line)
        rows, span = rows - upper, ""
    lower = max(2, rows // 2 // 2 * 2)
    return [
        *lines,
        _chart_title("spread", spreads, " bps", ".2f", span, width),
        *chart(spreads, width, max(1, rows - lower), Theme.spread_area),
        _chart_title("imbalance", imbalances, "", "+.2f", "", width),
        *signed_chart(imbalances, width, lower, Theme.bid_bar, Theme.ask_bar),
    ]


def _mids(view: BookView, history: History, group_s: int) -> list[float | None]:
    """Two mids for each cell of the other charts, so that all share one time axis."""
    instrument = view.tick.instrument
    if group_s > 1:
        return history.series(instrument, lambda sample: sample.mid, group_s // 2)
    return [mid for mid in history.series(instrument, lambda sample: sample.mid, 1) for _ in range(2)]


def _chart_title(name: str, values: Sequence[float | None], unit: str, spec: str, span: str, width: int) -> Line:
    known = [value for value in values if value is not None]
    left: Line = [Segment(name, Theme.dim)]
    if known:
        left.append(Segment(f"  {min(known):{spec}} … {max(known):{spec}}{unit}", Theme.text))
    return spread_out(left, [Segment(f"last {span}" if span else "", Theme.dim)], width)


def sparks(view: BookView, history: History, width: int) -> list[Line]:
    """The two charts as one line each, for short screens."""
    room = width - 24
    instrument = view.tick.instrument
    group_s = history.group_s(instrument, room)
    spreads = history.series(instrument, lambda sample: sample.spread_bps, group_s)
    imbalances = history.series(instrument, lambda sample: sample.imbalance, group_s)
    rows = (
        ("spread", chart(spreads, room, 1, Theme.spread_area)[0], format_number(view.tick.spread_bps, ".2f", " bps")),
        ("imbalance", _tinted(imbalances, room), format_number(view.tick.imbalance, "+.2f")),
    )
    return [[cell(name, 11, Theme.dim), *line, cell(value, 13, Theme.text, ">")] for name, line, value in rows]


def _tinted(values: Sequence[float | None], width: int) -> Line:
    """A one-line chart of magnitudes: green where positive, red where negative."""
    top = max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    line: Line = [Segment(" " * (width - len(values)))]
    for value in values:
        glyph = " " if value is None else "▁▂▃▄▅▆▇█"[min(7, int(abs(value) / top * 8))]
        line.append(Segment(glyph, Theme.bid_bar if (value or 0) >= 0 else Theme.ask_bar))
    return list(Segment.simplify(line))


def hop_rows(view: BookView, width: int) -> list[Line]:
    """Latency percentiles per hop."""
    names = ("p50", "p99", "p99.9", "max")
    column = max(8, (width - 18) // 4)
    lines: list[Line] = [[cell("", 18, Theme.dim), *(cell(name, column, Theme.dim, ">") for name in names)]]
    for field, words in HOPS:
        value: Percentiles = getattr(view.tick.hops, field)
        numbers = (value.p50, value.p99, value.p999, value.max)
        lines.append([cell(words, 18, Theme.dim), *(cell(_fine(n), column, Theme.text, ">") for n in numbers)])
    return lines


def _fine(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.0f}µs" if abs(value) < 1 else format_ms(value)


def flow_rows(view: BookView, width: int) -> list[Line]:
    """What happened to one book since start: every counter that says how far its feed can be trusted."""
    counters = view.tick.counters
    facts = (
        ("updates", counters.updates, False),
        ("snapshots", counters.snapshots, False),
        ("gaps in u", counters.gaps, True),
        ("messages missed", counters.missed, True),
        ("duplicates", counters.duplicates, True),
        ("deltas before snapshot", counters.early_deltas, True),
        ("unknown deletes", counters.unknown_deletes, True),
        ("crossed / locked", counters.crossed + counters.locked, True),
        ("messages refused", counters.refused, True),
        ("resyncs", counters.resyncs, True),
        ("reconnects", counters.reconnects, True),
        ("latencies below zero", view.tick.latency_negative, True),
    )
    return [
        fit([cell(name, 24, Theme.dim), cell(f"{n:,}", 12, Theme.warn if bad and n else Theme.text, ">")], width)
        for name, n, bad in facts
    ]
