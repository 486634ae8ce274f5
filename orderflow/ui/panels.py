"""The panels of the live view: each a pure function from a frame to lines of exact width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
from rich.segment import Segment

from orderflow.core.text import escape_text, plain_decimal
from orderflow.core.types import AlertKind, BookState, Category, Severity
from orderflow.ui.cells import (
    Line,
    Theme,
    balance,
    bar,
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
    Look,
    format_clock,
    format_duration,
    format_latency,
    format_mid,
    format_ms,
    format_name,
    format_number,
    format_price,
    format_size,
    price_decimals,
    quote_coin,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.style import Style

    from orderflow.core.types import Alert, BookView, Level, LinkChanged, MetricsTick, Percentiles, ViewFrame
    from orderflow.ui.history import History

_STATE: Final = {
    BookState.LIVE: ("●", Theme.good),
    BookState.SYNCING: ("◌", Theme.info),
    BookState.EMPTY: ("○", Theme.dim),
    BookState.SUSPECT: ("▲", Theme.bad),
    BookState.STALE: ("◐", Theme.warn),
    BookState.CLOSED: ("✕", Theme.bad),
}
_SEVERITY: Final = {Severity.INFO: Theme.info, Severity.WARNING: Theme.warn, Severity.CRITICAL: Theme.bad}
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
    mark, style = _STATE[tick.state]
    title: Line = [
        Segment(escape_text(tick.symbol, 40), Theme.title),
        Segment(f" {tick.category.value} " + (f"· {tick.depth} levels " if tick.live else ""), Theme.dim),
        Segment(f"{mark} {tick.state.value}", style),
    ]
    if not tick.live and tick.reason:
        title.append(Segment(f" {escape_text(tick.reason, 40)}", Theme.warn))
    return title


# --- ladder -------------------------------------------------------------------------------------------------------


class _Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How a ladder writes numbers: decimals and column widths that hold for all its rows."""

    price_decimals: int
    size_decimals: int
    price_width: int
    size_width: int
    top: float

    def price(self, value: float) -> str:
        return plain_decimal(value, self.price_decimals)

    def size(self, value: float) -> str:
        return f"{value:.{self.size_decimals}f}"


def _scale(view: BookView, rows: int) -> _Scale:
    levels = [*view.bids[:rows], *view.asks[:rows]]
    decimals = price_decimals(view.tick)
    top = max((size for _, size in levels), default=0.0)
    known = view.tick.size_decimals
    size_decimals = known if known is not None else max(0, 4 - len(str(int(top))))
    return _Scale(
        price_decimals=decimals,
        size_decimals=size_decimals,
        price_width=max((len(plain_decimal(price, decimals)) for price, _ in levels), default=5),
        size_width=max((len(f"{size:.{size_decimals}f}") for _, size in levels), default=4),
        top=top,
    )


def _bar_fraction(size: float, top: float) -> float:
    """Square root: one giant level must not flatten all others."""
    return math.sqrt(size / top) if top > 0 else 0.0


def ladder_wide(view: BookView, width: int, rows: int) -> list[Line]:
    """Bids left, asks right, best on top, bars growing outward: for short screens."""
    scale = _scale(view, rows)
    half = (width - 3) // 2
    room = half - scale.price_width - scale.size_width - 3
    lines = [_ladder_head(view.tick, width, half)] if rows > 1 else []
    for index in range(rows - len(lines)):
        left = _side_row(view, view.bids, index, scale, room, bid=True)
        right = _side_row(view, view.asks, index, scale, width - 3 - half - (half - room), bid=False)
        lines.append([*fit(left, half), Segment(" │ ", Theme.border), *fit(right, width - 3 - half)])
    return lines


def _ladder_head(tick: MetricsTick, width: int, half: int) -> Line:
    coin = _size_coin(tick)
    return [
        cell(f"bid {coin}".rstrip(), half, Theme.dim, ">"),
        Segment(" │ ", Theme.border),
        cell(f"ask {coin}".rstrip(), width - 3 - half, Theme.dim),
    ]


def _size_coin(tick: MetricsTick) -> str:
    """The unit sizes have on the wire."""
    return "USD" if tick.category is Category.INVERSE else escape_text(tick.base_coin or "", 12)


def _side_row(view: BookView, levels: Sequence[Level], index: int, scale: _Scale, room: int, *, bid: bool) -> Line:
    if index >= len(levels):
        return []
    price, size = levels[index]
    style, bar_style = _level_styles(view.tick.live, index == 0, bid)
    bars = bar(_bar_fraction(size, scale.top), room, bar_style, leftward=bid)
    size_cell = cell(scale.size(size), scale.size_width, Theme.text if view.tick.live else Theme.grey, ">")
    price_cell = cell(scale.price(price), scale.price_width, style, ">")
    if bid:
        return [*bars, Segment(" "), size_cell, Segment("  "), price_cell]
    return [price_cell, Segment("  "), size_cell, Segment(" "), *bars]


def _level_styles(live: bool, best: bool, bid: bool) -> tuple[Style, Style]:
    """(price, bar) styles; all grey while the book may not be believed."""
    if not live:
        return Theme.grey, Theme.track
    if bid:
        return (Theme.bid_best if best else Theme.bid), Theme.bid_bar
    return (Theme.ask_best if best else Theme.ask), Theme.ask_bar


def ladder_tall(view: BookView, width: int, height: int) -> list[Line]:
    """Asks above, bids below, best in the middle around the spread: for tall screens."""
    rows = max(1, (height - 2) // 2)
    scale = _scale(view, rows)
    total_width = max(scale.size_width + 1, 7)
    room = width - scale.price_width - scale.size_width - total_width - 6
    head = [
        cell("price", scale.price_width, Theme.dim, ">"),
        cell("size", scale.size_width + 2, Theme.dim, ">"),
        Segment("  "),
        cell(_size_coin(view.tick), room, Theme.dim),
        cell("total", total_width + 2, Theme.dim, ">"),
    ]
    asks = _tall_side(view, view.asks[:rows], scale, room, total_width, bid=False)
    bids = _tall_side(view, view.bids[:rows], scale, room, total_width, bid=True)
    above: list[Line] = [[] for _ in range(rows - len(asks))]
    lines = [head, *above, *reversed(asks), _spread_row(view.tick, width), *bids]
    return [fit(line, width) for line in lines]


def _tall_side(
    view: BookView, levels: Sequence[Level], scale: _Scale, room: int, total_width: int, *, bid: bool
) -> list[Line]:
    lines: list[Line] = []
    total = 0.0
    for index, (price, size) in enumerate(levels):
        total += size
        style, bar_style = _level_styles(view.tick.live, index == 0, bid)
        lines.append(
            [
                cell(scale.price(price), scale.price_width, style, ">"),
                cell(scale.size(size), scale.size_width + 2, Theme.text if view.tick.live else Theme.grey, ">"),
                Segment("  "),
                *bar(_bar_fraction(size, scale.top), room, bar_style),
                cell(f"{total:.{min(scale.size_decimals, 2)}f}", total_width + 2, Theme.dim, ">"),
            ]
        )
    return lines


def _spread_row(tick: MetricsTick, width: int) -> Line:
    if not tick.live:
        words = f" {tick.state.value}: no numbers until the book is proven again "
        return [cell(words.center(width, "╌"), width, Theme.warn)]
    if tick.spread is None:
        return [cell(f" {escape_text(tick.reason, 40) or MISSING} ".center(width, "╌"), width, Theme.warn)]
    spread = plain_decimal(tick.spread, price_decimals(tick))
    words = f" {format_mid(tick)}  spread {spread} ({format_number(tick.spread_bps, '.2f')} bps) "
    return [cell(words.center(width, "╌"), width, Theme.spread)]


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


# --- all books ----------------------------------------------------------------------------------------------------


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the table. `rank`: 0 stays longest when the screen is narrow."""

    title: str
    width: int
    rank: int
    show: Callable[[MetricsTick], Line]


def _right(text: str, width: int, style: Style = Theme.text) -> Line:
    return [cell(text, width, style, ">")]


def _count(value: int, width: int) -> Line:
    return _right(str(value), width, Theme.warn if value else Theme.dim)


def table_columns(ticks: Sequence[MetricsTick], width: int, look: Look) -> list[Column]:
    """The columns that fit in `width`, in reading order."""
    name = min(24, max((len(format_name(tick.category, tick.symbol, look)) for tick in ticks), default=6))
    price = max((len(_table_price(value, tick)) for tick in ticks for value in (tick.bid, tick.ask)), default=7)
    size = max(9, *(len(format_size(tick.liquidity, tick.base_coin)) for tick in ticks)) if ticks else 9
    everything = [
        Column(title="state", width=9, rank=0, show=_state_cell),
        Column(title="bid", width=price, rank=0, show=lambda t: _right(_table_price(t.bid, t), price, Theme.bid)),
        Column(title="ask", width=price, rank=0, show=lambda t: _right(_table_price(t.ask, t), price, Theme.ask)),
        Column(title="bps", width=6, rank=1, show=lambda t: _right(format_number(t.spread_bps, ".2f"), 6)),
        Column(title="imbalance", width=11, rank=2, show=lambda t: _table_meter(t, 11)),
        Column(
            title="liquidity", width=size, rank=4, show=lambda t: _right(format_size(t.liquidity, t.base_coin), size)
        ),
        Column(title="latency", width=8, rank=3, show=_latency_cell),
        Column(title="p99", width=7, rank=6, show=lambda t: _right(format_ms(t.hops.gateway_to_socket.p99), 7)),
        Column(title="age", width=7, rank=5, show=lambda t: _right(format_ms(t.book_age_ms), 7, Theme.dim)),
        Column(title="updates", width=9, rank=7, show=lambda t: _right(f"{t.counters.updates:,}", 9)),
        Column(title="gaps", width=5, rank=8, show=lambda t: _count(t.counters.gaps, 5)),
        Column(title="resync", width=6, rank=9, show=lambda t: _count(t.counters.resyncs, 6)),
        Column(title="reconn", width=6, rank=10, show=lambda t: _count(t.counters.reconnects, 6)),
    ]
    chosen: set[str] = set()
    room = width - name - 4
    for column in sorted(everything, key=lambda c: c.rank):
        if column.width + 2 > room:
            break
        chosen.add(column.title)
        room -= column.width + 2
    meter = min(31, 11 + room) | 1  # what is left over makes the imbalance easier to read; odd, so it has a centre
    wider = Column(title="imbalance", width=meter, rank=2, show=lambda t: _table_meter(t, meter))
    first = Column(title="book", width=name, rank=0, show=lambda t: _name_cell(t, name, look))
    rest = [column for column in everything if column.title in chosen]
    return [first, *(wider if column.title == "imbalance" and meter - 11 <= room else column for column in rest)]


def _name_cell(tick: MetricsTick, width: int, look: Look) -> Line:
    return [cell(format_name(tick.category, tick.symbol, look), width, Theme.strong if tick.live else Theme.grey)]


def _table_price(value: float | None, tick: MetricsTick) -> str:
    return MISSING if value is None or not tick.live else plain_decimal(value, price_decimals(tick))


def _state_cell(tick: MetricsTick) -> Line:
    mark, style = _STATE[tick.state]
    return [cell(f"{mark} {tick.state.value}", 9, style)]


def _latency_cell(tick: MetricsTick) -> Line:
    return _right(format_latency(tick.latency_ms, tick.latency_error_ms), 8)


def _table_meter(tick: MetricsTick, width: int) -> Line:
    if tick.imbalance is None:
        return [cell(MISSING, width, Theme.dim, "^")]
    return balance(tick.imbalance, width, Theme.bid_bar, Theme.ask_bar)


def table(books: Sequence[BookView], selected: int, width: int, height: int, look: Look) -> list[Line]:
    """All books, one a row; scrolled so that the selected one is seen. A book that is not live says why, no numbers."""
    columns = table_columns([book.tick for book in books], width, look)
    rows = max(1, height - 1)
    first = max(0, min(selected - rows // 2, len(books) - rows))
    lines = [_table_head(columns, width)]
    for index, book in enumerate(books[first : first + rows], first):
        mark = Segment("▸ " if index == selected and len(books) > 1 else "  ", Theme.title)
        lines.append(fit([mark, *_table_row(book.tick, columns, width - 2)], width))
    return lines


def _table_head(columns: Sequence[Column], width: int) -> Line:
    line: Line = [Segment("  ")]
    for column in columns:
        align = "<" if column.title in ("book", "state") else "^" if column.title == "imbalance" else ">"
        line += [cell(column.title, column.width, Theme.dim, align), Segment("  ")]
    return fit(line, width)


def _table_row(tick: MetricsTick, columns: Sequence[Column], width: int) -> Line:
    if tick.live:
        return [segment for column in columns for segment in (*column.show(tick), Segment("  "))]
    counters = tick.counters
    words = escape_text(tick.reason, 40) or "waiting"
    facts = f"{words} · last update {format_ms(tick.book_age_ms)} ago" if tick.book_age_ms is not None else words
    facts += f" · {counters.gaps} gaps, {counters.resyncs} resyncs"
    head = [segment for column in columns[:2] for segment in (*column.show(tick), Segment("  "))]
    return [*head, cell(facts, max(0, width - width_of(head)), Theme.grey)]


# --- links, alerts, log -------------------------------------------------------------------------------------------


def link_rows(frame: ViewFrame, width: int) -> list[Line]:
    """One row per connection; what is down first."""
    links = sorted(frame.links, key=lambda link: link.state == "up")
    return [fit(_link_row(link, frame.ts), width) for link in links]


def _link_row(link: LinkChanged, now_ms: int) -> Line:
    name = Segment(f"{escape_text(link.link, 30)} ", Theme.strong)
    if link.state == "up":
        since = f"up {format_duration(max(0, now_ms - link.ts) / 1000)}" if link.ts else "up"
        return [Segment("● ", Theme.good), name, Segment(since, Theme.dim)]
    mark, style = ("◌ ", Theme.info) if link.state == "connecting" else ("✕ ", Theme.bad)
    row: Line = [Segment(mark, style), name, Segment(escape_text(link.state, 20), style)]
    if link.retry_s is not None:
        left_s = max(0.0, link.retry_s - max(0, now_ms - link.ts) / 1000) if link.ts else link.retry_s
        row.append(Segment(f" retry {format_duration(left_s)}", Theme.warn))
    why = ": ".join(escape_text(part, 100) for part in (link.reason, link.detail) if part)
    return [*row, Segment(f" {why}", Theme.dim)]


def alert_rows(frame: ViewFrame, messages: Sequence[str], look: Look, width: int, height: int) -> list[Line]:
    """The newest alerts first, then the newest log lines, dim, where room is left."""
    lines = [fit(_alert_row(alert, look), width) for alert in reversed(frame.alerts)][:height]
    if not lines:
        lines = [fit([Segment("✓ no alerts", Theme.dim)], width)]
    room = height - len(lines)
    logged = list(messages)[-room:] if room > 0 else []
    return [*lines, *([cell(escape_text(text, 400), width, Theme.grey)] for text in logged)]


def _alert_row(alert: Alert, look: Look) -> Line:
    tick = alert.tick
    if alert.kind is AlertKind.CLEAR:
        mark, style = "✓", Theme.good
    else:
        mark, style = ("●" if alert.kind is AlertKind.NOTICE else "▲"), _SEVERITY[alert.severity]
    return [
        Segment(f"{format_clock(tick.ts)} ", Theme.dim),
        Segment(f"{mark} ", style),
        Segment(f"{format_name(tick.category, tick.symbol, look)} ", Theme.strong),
        Segment(escape_text(alert.message, 200), Theme.dim if alert.kind is AlertKind.CLEAR else style),
    ]
