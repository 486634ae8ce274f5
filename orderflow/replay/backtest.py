"""`orderflow alerts backtest`: how often each rule fires on a recording, when, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from orderflow.core.text import counted, escape_text
from orderflow.core.types import AlertKind
from orderflow.core.units import NS
from orderflow.replay.sinks import Silent
from orderflow.ui.line import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.core.types import Alert, InstrumentId, MetricsTick, Summary
    from orderflow.record.records import Session


class Episode(msgspec.Struct, kw_only=True):
    """From a raise to its clear. `until_ms` None: raised when the recording ended (`seconds`: to the last tick)."""

    from_ms: int
    until_ms: int | None
    seconds: float
    value: float | None
    message: str


class RuleReport(msgspec.Struct, kw_only=True):
    """One rule on one instrument."""

    plugin: str
    rule: str
    instrument: str
    severity: str
    raised: int = 0
    notices: int = 0
    seconds: float = 0.0  # raised, in all
    longest_s: float = 0.0
    share: float = 0.0  # of the time the instrument was watched
    episodes: list[Episode] = []


class Backtest(Silent):
    """A sink that keeps account of alerts. Memory grows with the alerts, not with the recording."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str, str, str], RuleReport] = {}
        self._open: dict[tuple[str, str, str], Episode] = {}
        self._began_ns: dict[tuple[str, str, str], int] = {}  # of what is open: by the clock nobody sets
        self._watched_ns: dict[str, int] = {}
        self._last_ns: dict[str, int] = {}

    def start(self, session: Session, instruments: tuple[InstrumentId, ...], interval_s: float) -> None:
        self._last_ns.clear()

    def tick(self, tick: MetricsTick) -> None:
        name = str(tick.instrument)
        last_ns = self._last_ns.get(name)
        if last_ns is not None:
            self._watched_ns[name] = self._watched_ns.get(name, 0) + max(0, tick.mono_ns - last_ns)
        self._last_ns[name] = tick.mono_ns

    def alert(self, alert: Alert) -> None:
        tick = alert.tick
        key = (alert.plugin, alert.rule, str(tick.instrument))
        report = self._reports.get(key)
        if report is None:
            report = RuleReport(
                plugin=key[0], rule=key[1], instrument=key[2], severity=alert.severity.value, episodes=[]
            )
            self._reports[key] = report
        if alert.kind is AlertKind.CLEAR:
            self._close(key, tick.mono_ns, until_ms=tick.ts)
            return
        if alert.kind is AlertKind.NOTICE:
            report.notices += 1
        else:
            report.raised += 1
        episode = Episode(from_ms=tick.ts, until_ms=None, seconds=0.0, value=alert.value, message=alert.message)
        report.episodes.append(episode)
        if alert.kind is AlertKind.RAISE:
            self._open[key], self._began_ns[key] = episode, tick.mono_ns

    def summary(self, summary: Summary, ts: int) -> None:
        """A session ended: what is still raised counts up to its last tick."""
        for key in list(self._open):
            self._close(key, self._last_ns.get(key[2], 0), until_ms=None)

    def _close(self, key: tuple[str, str, str], mono_ns: int, *, until_ms: int | None) -> None:
        episode = self._open.pop(key, None)
        if episode is None:
            return
        episode.until_ms = until_ms
        episode.seconds = max(0, mono_ns - self._began_ns.pop(key)) // 1_000_000 / 1000
        report = self._reports[key]
        report.seconds += episode.seconds
        report.longest_s = max(report.longest_s, episode.seconds)

    def reports(self) -> list[RuleReport]:
        """Every rule that fired, by plugin, rule and instrument."""
        for report in self._reports.values():
            watched = self._watched_ns.get(report.instrument, 0) / NS
            report.share = min(1.0, report.seconds / watched) if watched else 0.0
        return [self._reports[key] for key in sorted(self._reports)]

    @property
    def watched_s(self) -> dict[str, float]:
        """For how long each instrument ticked."""
        return {name: ns // 1_000_000 / 1000 for name, ns in sorted(self._watched_ns.items())}


def format_reports(reports: Iterable[RuleReport], watched_s: dict[str, float], shown: int = 5) -> str:
    """A table for people: each rule with its first episodes."""
    hours = ", ".join(f"{escape_text(name, 60)} {format_duration(seconds)}" for name, seconds in watched_s.items())
    lines = [f"watched: {hours or 'nothing'}"]
    for report in reports:
        name = f"{escape_text(report.plugin, 60)}.{escape_text(report.rule, 60)}"
        parts = [
            f"{name} {escape_text(report.instrument, 60)} ({report.severity})",
            f"raised {counted(report.raised, 'time')}",
        ]
        if report.notices:
            parts.append(counted(report.notices, "notice"))
        if report.raised:
            parts.append(f"{format_duration(report.seconds)} in all ({report.share:.1%})")
            parts.append(f"longest {format_duration(report.longest_s)}")
        lines.append(" | ".join(parts))
        lines += [f"    {_episode(episode)}" for episode in report.episodes[:shown]]
        if len(report.episodes) > shown:
            lines.append(f"    ... and {len(report.episodes) - shown} more; --json has them all")
    if len(lines) == 1:
        lines.append("no rule fired")
    return "\n".join(lines)


def _episode(episode: Episode) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(episode.from_ms / 1000))
    still = "" if episode.until_ms is not None or not episode.seconds else ", not cleared"
    length = f" for {format_duration(episode.seconds)}{still}" if episode.seconds else ""
    return f"{when} UTC{length}: {escape_text(episode.message, 120)}"
