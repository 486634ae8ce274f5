"""The report on a recording's quality as text for a terminal, and the words that the page shares with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from orderflow.core.figures import Cause
from orderflow.core.text import escape_text
from orderflow.ui.line import MISSING, format_duration, format_ms, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.core.figures import GapReport, GapSeen, Quality, Quantiles

SHOWN_GAPS: Final = 10
_MB: Final = 1_000_000


def format_report(report: GapReport) -> str:
    """Totals first, then a line per topic, the longest gaps, and what is wrong with the recording itself."""
    lines = [headline(report), "", *_pairs(totals(report)), "", *_table(report)]
    gaps = longest(report, SHOWN_GAPS)
    if gaps:
        lines += ["", "Longest gaps (UTC)", *(f"  {text}" for text in _gap_lines(gaps))]
        more = report.total.gaps - len(gaps)
        if more > 0:
            lines.append(f"  ... and {more} shorter; --json and --html list more")
    if report.troubles:
        lines += ["", "Holes in the recording", *(f"  {text}" for text in troubles(report))]
    return "\n".join(lines)


def headline(report: GapReport) -> str:
    """What was looked at."""
    topics, length_s = len(report.topics), (report.to_ms - report.from_ms) / 1000
    since = f"{format_day(report.from_ms)} {format_instant(report.from_ms)}"
    parts = [
        plural(topics, "topic"),
        f"{since} to {_until(report)} UTC ({format_span(length_s)})",
        plural(report.sessions, "session"),
        f"{plural(report.files, 'file')}, {report.bytes / _MB:.1f} MB",
    ]
    return ", ".join(parts)


def _until(report: GapReport) -> str:
    same = format_day(report.from_ms) == format_day(report.to_ms)
    return format_instant(report.to_ms) if same else f"{format_day(report.to_ms)} {format_instant(report.to_ms)}"


def totals(report: GapReport) -> list[tuple[str, str]]:
    """(name, value) of what all topics together came to."""
    total = report.total
    rows = [
        ("Coverage", format_percent(total.coverage_pct)),
        ("Gaps", gap_summary(total)),
        ("Causes", format_causes(total)),
        ("Resyncs", f"{total.resyncs}; back after {format_recovery(total)}"),
        ("Latency", format_quantiles(total.latency_ms)),
        ("Clock offset", format_quantiles(total.clock_offset_ms)),
        ("Messages", f"{total.messages}; {plural(total.jumps, 'jump')} in the numbering ({total.missed} missed), "
                     f"{plural(total.duplicates, 'duplicate')}, {total.refused} refused"),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value]


def gap_summary(quality: Quality) -> str:
    if not quality.gaps:
        return "none"
    return (
        f"{quality.gaps} ({format_rate(quality.gaps_per_hour)} per topic and hour), longest "
        f"{format_span(quality.longest_gap_s)}, {format_span(quality.gap_s)} lost"
    )


def format_causes(quality: Quality) -> str:
    """`disconnect 2.1s (3), start 0.1s (1)`: also of time that is no gap."""
    return ", ".join(f"{one.cause.value} {format_span(one.seconds)} ({one.count})" for one in quality.causes)


def format_recovery(quality: Quality) -> str:
    """`median 1.2s, max 3.0s`, of gaps that a snapshot ended."""
    recovery = quality.recovery_s
    if recovery.p50 is None or recovery.max is None:
        return MISSING
    return f"median {format_span(recovery.p50)}, max {format_span(recovery.max)}"


def format_quantiles(values: Quantiles) -> str:
    """`p50 2.1ms p90 4.4ms p99 285ms max 953ms`; "" when there were no samples."""
    if not values.count:
        return ""
    named = (("p50", values.p50), ("p90", values.p90), ("p99", values.p99), ("max", values.max))
    return " ".join(f"{name} {format_ms(value)}" for name, value in named)


def format_span(seconds: float) -> str:
    """A length of time: `1.5ms`, `0.8s` from a tenth of a second on, `4m 05s`."""
    return format_ms(seconds * 1000) if seconds < 0.1 else format_duration(seconds)


def format_rate(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def format_instant(ms: int) -> str:
    """`19:00:05.123`, UTC."""
    return f"{time.strftime('%H:%M:%S', time.gmtime(ms // 1000))}.{ms % 1000:03}"


def format_day(ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(ms // 1000))


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def topic_name(quality: Quality) -> str:
    return escape_text(f"{quality.category}:{quality.symbol}", 60)


def gap_text(gap: GapSeen) -> str:
    """`disconnect (reset: connection broken)`."""
    detail = f": {escape_text(gap.detail, 120)}" if gap.detail else ""
    reason = escape_text(gap.reason, 40)
    known = gap.cause is Cause.RECORDER or reason == gap.cause.value
    told = f" ({reason}{detail})" if detail or not known else ""
    return gap.cause.value + told


def longest(report: GapReport, count: int) -> list[tuple[str, GapSeen]]:
    """The longest gaps of all topics, (topic, gap), in the order of time."""
    every = [(topic_name(topic.quality), gap) for topic in report.topics for gap in topic.gaps]
    kept = sorted(every, key=lambda item: -item[1].seconds)[:count]
    return sorted(kept, key=lambda item: (item[1].from_ms, item[0]))


def troubles(report: GapReport) -> list[str]:
    """What is wrong with the recording itself."""
    lines = [escape_text(text, 300) for text in report.troubles]
    if report.troubles_left_out:
        lines.append(f"... and {report.troubles_left_out} more such places")
    return lines


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {value}" for name, value in rows]


_HEADS: Final = ("Topic", "Coverage", "Gaps", "/hour", "Longest", "Lost", "Resyncs", "Back after", "Dup", "Messages")


def _table(report: GapReport) -> list[str]:
    rows = [_HEADS, *(_row(topic.quality) for topic in report.topics)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]


def _row(quality: Quality) -> tuple[str, ...]:
    recovery = quality.recovery_s
    back = MISSING if recovery.p50 is None else format_span(recovery.p50)
    return (
        topic_name(quality),
        format_percent(quality.coverage_pct),
        str(quality.gaps),
        format_rate(quality.gaps_per_hour),
        format_span(quality.longest_gap_s) if quality.gaps else "-",
        format_span(quality.gap_s) if quality.gaps else "-",
        str(quality.resyncs),
        back if recovery.count else "-",
        str(quality.duplicates),
        str(quality.messages),
    )


def _gap_lines(gaps: Iterable[tuple[str, GapSeen]]) -> list[str]:
    rows = [(name, gap, f"{format_day(gap.from_ms)} {format_instant(gap.from_ms)}") for name, gap in gaps]
    width = max(len(name) for name, _, _ in rows)
    return [
        f"{when}  {name:{width}}  {format_span(gap.seconds):>7}  {gap_text(gap)}{still}"
        for name, gap, when in rows
        for still in ("" if gap.to_ms is not None else ", to the end",)
    ]
