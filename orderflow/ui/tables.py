"""The lists of the live view: all books, connections, alerts and news."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.segment import Segment

from orderflow.core.text import escape_text, plain_decimal
from orderflow.core.types import AlertKind, LinkChanged, Severity
from orderflow.ui.cells import Line, Theme, balance, cell, fit, width_of
from orderflow.ui.line import (
    MISSING,
    Look,
    format_clock,
    format_duration,
    format_latency,
    format_link,
    format_ms,
    format_name,
    format_number,
    format_size,
    price_decimals,
)
from orderflow.ui.panels import STATE_MARKS
from orderflow.ui.report import is_news

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.style import Style

    from orderflow.core.types import Alert, BookView, FeedChange, MetricsTick, ViewFrame
    from orderflow.logs import LogLine

_LEVELS: Final = {"warning": Theme.warn, "error": Theme.bad, "critical": Theme.bad}
_SEVERITY: Final = {Severity.INFO: Theme.info, Severity.WARNING: Theme.warn, Severity.CRITICAL: Theme.bad}


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
    mark, style = STATE_MARKS[tick.state]
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


def news_rows(frame: ViewFrame, messages: Sequence[LogLine], look: Look, width: int, height: int) -> list[Line]:
    """Alerts, what happened to links and books, and log lines: newest first."""
    rows = [(alert.tick.ts, _alert_row(alert, look)) for alert in frame.alerts]
    rows += [(ts, _feed_row(ts, change, look)) for ts, change in frame.news if is_news(change)]
    rows += [(message.ts, _log_row(message)) for message in messages]
    if not rows:
        return [fit([Segment("✓ no alerts", Theme.dim)], width)]
    rows.sort(key=lambda row: row[0], reverse=True)
    return [fit(row, width) for _, row in rows[:height]]


def _feed_row(ts: int, change: FeedChange, look: Look) -> Line:
    clock = Segment(f"{format_clock(ts)} ", Theme.dim)
    if isinstance(change, LinkChanged):
        up = change.state == "up"
        mark = Segment("● " if up else "○ ", Theme.good if up else Theme.warn)
        return [clock, mark, Segment(f"link {format_link(change)}", Theme.dim if up else Theme.warn)]
    mark_text, style = STATE_MARKS[change.new]
    why = ", ".join(escape_text(part, 100) for part in (change.reason, change.detail) if part)
    return [
        clock,
        Segment(f"{mark_text} ", style),
        Segment(f"{format_name(change.instrument.category, change.instrument.symbol, look)} ", Theme.strong),
        Segment(change.new.value, style),
        Segment(f" {why}", Theme.dim),
    ]


def _log_row(message: LogLine) -> Line:
    style = _LEVELS.get(message.level, Theme.grey)
    return [
        Segment(f"{format_clock(message.ts)} ", Theme.dim),
        Segment(f"! {escape_text(message.message, 400)}", style),
    ]


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
