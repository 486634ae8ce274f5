"""What a recorder has to say: alerts when a gap begins and ends, one line of totals with a forecast. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.core.types import Alert, AlertKind, Severity

if TYPE_CHECKING:
    from orderflow.core.types import MetricsTick
    from orderflow.record.recorder import GapNews, RecorderStatistics

PLUGIN: Final = "recorder"
DAY_S: Final = 86_400.0
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def gap_alert(news: GapNews, tick: MetricsTick) -> Alert:
    """A raise when a gap begins, its clear when the recording goes on."""
    if news.began:
        kind, text = AlertKind.RAISE, f"the recording has a gap from here on: {news.detail}"
    else:
        text = f"{news.frames} messages in {news.seconds:.1f} s are missing"
        kind, text = AlertKind.CLEAR, f"the recording goes on; {text}"
    return Alert(
        plugin=PLUGIN,
        rule="gap",
        kind=kind,
        severity=Severity.CRITICAL,
        message=text,
        tick=tick,
        since_ms=tick.ts - round(news.seconds * 1000),
    )


def summary_note(statistics: RecorderStatistics, folder: str) -> str:
    """`recorded 12000 messages, 3.1 MB in 1 file into tape; 890.0 MB a day at this rate, room for 120 days`."""
    writer = statistics.writer
    files = f"{writer.files} file" + ("" if writer.files == 1 else "s")
    text = f"recorded {writer.frames} messages, {size_text(writer.bytes)} in {files} into {folder}"
    text += f"; {forecast(writer.bytes, statistics.seconds, writer.free_bytes)}"
    if statistics.gaps:
        gaps = f"{statistics.gaps} gap" + ("" if statistics.gaps == 1 else "s")
        text += f"; {gaps}, {statistics.lost_frames} messages missing"
    return text


def progress_line(statistics: RecorderStatistics) -> str:
    """One line while it runs."""
    writer = statistics.writer
    rate = writer.frames / statistics.seconds if statistics.seconds > 0 else 0.0
    each = f", {writer.bytes / writer.frames:.0f} bytes each" if writer.frames else ""
    gap = f" | gap open: {statistics.gap}" if statistics.gap else ""
    return (
        f"recorded {writer.frames} messages ({rate:.0f}/s{each}) | {size_text(writer.bytes)} in file {writer.files} | "
        f"{forecast(writer.bytes, statistics.seconds, writer.free_bytes)} | gaps {statistics.gaps}, "
        f"lost {statistics.lost_frames}{gap}"
    )


def forecast(written: int, seconds: float, free: int) -> str:
    """Disk use a day at this rate, and how long the disk lasts."""
    if seconds <= 0 or not written:
        return f"{size_text(free)} free"
    a_day = written / seconds * DAY_S
    days = free / a_day
    room = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
    return f"{size_text(a_day)} a day at this rate, room for {room}"


def size_text(count: float) -> str:
    """`3.1 MB`: powers of 1,000, as disks are sold."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
