"""The report on a recording's quality as one HTML page: nothing is fetched, nothing runs, all text is escaped.

The page forbids itself scripts, images and connections, and styles other than its own (Content-Security-Policy with the
hash of that style), so that even text which got past the escaping could not do anything.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING, Final

from orderflow.core.text import escape_text
from orderflow.core.timeline import UNRECORDED, WORST_LAST
from orderflow.core.types import LIVE
from orderflow.ui import gaptext
from orderflow.ui.gapstyle import STYLE
from orderflow.ui.gaptext import format_day, format_instant, format_span, plural
from orderflow.ui.line import MISSING, format_ms, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderflow.core.figures import GapReport, GapSeen, Quality, Stretch, TopicReport

MAX_ROWS: Final = 500  # of the list of gaps
_WIDTH: Final = 1000  # of a timeline, in its own units
_HEIGHT: Final = 24
_SLIM: Final = (9, 6)  # where `live` is drawn, and how high: what is wrong stands out by height, not colour alone
_HALF: Final = (6, 12)  # the same, of short stretches put together that were mostly live
_LEAST: Final = 3.0  # width of the shortest stretch
_WORDS: Final = {
    "live": "live",
    "syncing": "waiting for a snapshot",
    "stale": "silent",
    "suspect": "contradicted",
    "empty": "no connection",
    "closed": "refused by the exchange",
    UNRECORDED: "not recorded",
}
_HATCH: Final = (
    '<svg class="defs" aria-hidden="true"><defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<path class="hatch" d="M-1 1L1 -1M0 6L6 0M5 7L7 5"/></pattern></defs></svg>'
)


def gap_page(report: GapReport, title: str) -> str:
    """The whole page. Args: title: the recording's name; any text."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    name = _text(title, 200)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
        f"<title>Data quality: {name}</title><style>{STYLE}</style></head><body>{_HATCH}",
        f"<header><h1>Data quality</h1><p class=name>{name}</p><p>{_text(gaptext.headline(report))}</p></header><main>",
        *_cards(report),
        *_timelines(report),
        *_causes(report.total),
        *_troubles(report),
        *_gap_list(report),
        *_figures(report.topics),
        "</main><footer>Made by <code>orderflow gaps</code>. Coverage is the share of the time asked for in which a "
        "topic’s book was live, rounded down. All times are UTC.</footer></body></html>\n",
    ]
    return "".join(parts)


def _text(text: str, limit: int = 500) -> str:
    return escape(escape_text(text, limit))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> Iterator[str]:
    """Args: rows: cells, escaped; texts: columns from the left that hold text, the others hold numbers."""
    kinds = ["" if column < texts else " class=n" for column in range(len(heads))]
    yield "<div class=scroll><table><thead><tr>"
    yield from (f"<th{kind}>{head}</th>" for head, kind in zip(heads, kinds, strict=True))
    yield "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
    yield "</tbody></table></div>"


# --- totals -------------------------------------------------------------------------------------------------------


def _cards(report: GapReport) -> Iterator[str]:
    total = report.total
    latency, recovery = total.latency_ms, total.recovery_s
    longest_gap = format_span(total.longest_gap_s) if total.gaps else "-"
    recovered = f"median; longest {_span(recovery.max)}; {plural(total.resyncs, 'resync')}"
    rate = f"{gaptext.format_rate(total.gaps_per_hour)} per topic and hour" if total.gaps else "not one"
    cards = (
        ("Coverage", format_percent(total.coverage_pct), f"of {format_span(total.asked_s)} of all topics together"),
        ("Gaps", str(total.gaps), rate),
        ("Longest gap", longest_gap, f"{format_span(total.gap_s)} lost in all"),
        ("Back after", _span(recovery.p50), recovered),
        ("Latency", format_ms(latency.p50), f"median; p99 {format_ms(latency.p99)}, max {format_ms(latency.max)}"),
        ("Messages", f"{total.messages}", f"{total.missed} missed, {plural(total.duplicates, 'duplicate')}"),
    )
    yield "<section class=cards>"
    for name, value, note in cards:
        yield f"<div><h2>{name}</h2><p class=big>{value}</p><p>{note}</p></div>"
    yield "</section>"


def _span(seconds: float | None) -> str:
    return MISSING if seconds is None else format_span(seconds)


def _troubles(report: GapReport) -> Iterator[str]:
    if report.troubles:
        yield "<section class=trouble><h2>Holes in the recording</h2><ul>"
        yield from (f"<li>{escape(text)}</li>" for text in gaptext.troubles(report))
        yield "</ul></section>"


def _causes(total: Quality) -> Iterator[str]:
    if not total.causes:
        return
    whole = total.asked_s or 1.0
    rows = [
        (
            escape(one.cause.value),
            _bar(one.seconds / whole, max(cause.seconds for cause in total.causes) / whole),
            str(one.count),
            format_span(one.seconds),
            format_span(one.longest_s),
        )
        for one in total.causes
    ]
    yield "<section><h2>Causes</h2>"
    yield from _table(("Cause", "", "Times", "Time", "Longest"), rows, 2)
    yield "</section>"


def _bar(share: float, most: float) -> str:
    width = max(1.0, 120 * share / most if most else 0.0)
    return f'<svg class=bar viewBox="0 0 120 10" width="120" height="10"><path d="M0 0h{width:.1f}v10H0z"/></svg>'


# --- timelines ----------------------------------------------------------------------------------------------------


def _timelines(report: GapReport) -> Iterator[str]:
    seen = {stretch.state for topic in report.topics for stretch in topic.stretches}
    yield "<section><h2>Timeline</h2><ul class=legend>"
    for state in WORST_LAST:
        if state in seen or state == LIVE.value:
            yield _legend(state, "M0 4h22v5H0z" if state == LIVE.value else "M0 0h22v14H0z", _WORDS[state])
    if any(_mixed(stretch) for topic in report.topics for stretch in topic.stretches):
        yield _legend("suspect", "M0 3h22v7H0z", "half as high: short gaps")
    yield "</ul>"
    for topic in report.topics:
        yield from _timeline(topic, report.from_ms, report.to_ms)
    yield from _axis(report.from_ms, report.to_ms)
    yield "</section>"


def _legend(state: str, path: str, words: str) -> str:
    return f'<li><svg width="22" height="14"><path class={state} d="{path}"/></svg>{words}</li>'


def _timeline(topic: TopicReport, from_ms: int, to_ms: int) -> Iterator[str]:
    quality = topic.quality
    name = escape(gaptext.topic_name(quality))
    yield f"<div class=topic><h3>{name}</h3><p>{format_percent(quality.coverage_pct)}"
    yield f" · {plural(quality.gaps, 'gap')}" if quality.gaps else ""
    yield f'</p><svg class=line viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img"'
    yield f' aria-label="{name}: {_text(gaptext.gap_summary(quality))}">'
    badness = {state: number for number, state in enumerate(WORST_LAST)}
    scale = _WIDTH / max(to_ms - from_ms, 1)
    for stretch in sorted(topic.stretches, key=lambda one: badness.get(one.state, 0)):  # the worst on top
        yield _piece(stretch, (stretch.from_ms - from_ms) * scale, (stretch.to_ms - from_ms) * scale)
    yield "</svg></div>"


def _piece(stretch: Stretch, begin: float, end: float) -> str:
    top, height = (0, _HEIGHT)
    if stretch.state == LIVE.value:
        top, height = _SLIM
    elif _mixed(stretch):
        top, height = _HALF
    width = max(end - begin, _LEAST)
    begin = max(min(begin, _WIDTH - width), 0.0)
    path = f"M{begin:.1f} {top}h{width:.1f}v{height}h-{width:.1f}z"
    return f'<path class={stretch.state} d="{path}"><title>{_hover(stretch)}</title></path>'


def _mixed(stretch: Stretch) -> bool:
    """Whether these are short stretches put together that were live most of the time."""
    return stretch.parts > 1 and 2000 * stretch.lost_s < stretch.to_ms - stretch.from_ms


def _hover(stretch: Stretch) -> str:
    when = f"{format_instant(stretch.from_ms)} to {format_instant(stretch.to_ms)}"
    length = format_span((stretch.to_ms - stretch.from_ms) / 1000)
    if stretch.parts == 1:
        return f"{_WORDS[stretch.state]} {when} ({length})"
    return f"{when}: {stretch.parts} short stretches, {format_span(stretch.lost_s)} of {length} not live"


def _axis(from_ms: int, to_ms: int) -> Iterator[str]:
    """Five times, evenly spread; days too where the recording spans several."""
    days = format_day(from_ms) != format_day(to_ms)
    short = to_ms - from_ms < 10_000
    yield "<p class=axis>"
    for part in range(5):
        at_ms = from_ms + (to_ms - from_ms) * part // 4
        clock = format_instant(at_ms) if short else format_instant(at_ms)[:8]
        yield f"<span>{format_day(at_ms)[5:]} {clock[:5]}</span>" if days else f"<span>{clock}</span>"
    yield "</p>"


# --- lists --------------------------------------------------------------------------------------------------------


def _gap_list(report: GapReport) -> Iterator[str]:
    gaps = gaptext.longest(report, MAX_ROWS)
    yield "<section><h2>Gaps</h2>"
    if not gaps:
        yield "<p>None: since its first snapshot every topic was live all the time.</p></section>"
        return
    more = report.total.gaps - len(gaps)
    if more > 0:
        yield f"<p>The {len(gaps)} longest; {more} shorter ones are not listed.</p>"
    one_day = format_day(report.from_ms) == format_day(report.to_ms)
    rows = [_gap_row(name, gap, one_day=one_day) for name, gap in gaps]
    yield from _table(("Began (UTC)", "Length", "Topic", "Cause"), rows, 4)
    yield "</section>"


def _gap_row(name: str, gap: GapSeen, *, one_day: bool) -> tuple[str, ...]:
    still = "" if gap.to_ms is not None else " to the end"
    day = "" if one_day else f"{format_day(gap.from_ms)} "
    return (
        day + format_instant(gap.from_ms),
        format_span(gap.seconds) + still,
        escape(name),
        f"<span class=wrap>{escape(gaptext.gap_text(gap))}</span>",
    )


_TIMES: Final = ("Topic", "Coverage", "Asked", "Gaps", "/hour", "Longest", "Lost", "Resyncs", "Back after", "longest")
_MESSAGES: Final = (
    *("Topic", "Messages", "Jumps", "Missed", "Dup", "Refused", "Latency p50", "p90", "p99", "max", "First", "Last"),
)


def _figures(topics: Sequence[TopicReport]) -> Iterator[str]:
    yield "<section><h2>Every figure</h2>"
    yield from _table(_TIMES, [_times_row(topic.quality) for topic in topics], 1)
    yield "<br>"
    yield from _table(_MESSAGES, [_messages_row(topic.quality) for topic in topics], 1)
    offsets = next((topic.quality.clock_offset_ms for topic in topics if topic.quality.clock_offset_ms.count), None)
    if offsets is not None:
        yield f"<p>Our clock against the exchange’s: {gaptext.format_quantiles(offsets)}.</p>"
    yield "</section>"


def _times_row(quality: Quality) -> tuple[str, ...]:
    return (
        escape(gaptext.topic_name(quality)),
        format_percent(quality.coverage_pct, 4),
        format_span(quality.asked_s),
        str(quality.gaps),
        gaptext.format_rate(quality.gaps_per_hour),
        format_span(quality.longest_gap_s),
        format_span(quality.gap_s),
        str(quality.resyncs),
        _span(quality.recovery_s.p50),
        _span(quality.recovery_s.max),
    )


def _messages_row(quality: Quality) -> tuple[str, ...]:
    latency = quality.latency_ms
    counts = (quality.messages, quality.jumps, quality.missed, quality.duplicates, quality.refused)
    return (
        escape(gaptext.topic_name(quality)),
        *map(str, counts),
        *(format_ms(value) for value in (latency.p50, latency.p90, latency.p99, latency.max)),
        *(MISSING if ms is None else format_instant(ms) for ms in (quality.first_ms, quality.last_ms)),
    )
