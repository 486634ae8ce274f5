"""What a replay is shown as: JSON lines like a live run's, lines for people, or nothing but counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow import __version__
from orderflow.record.reader import Damage
from orderflow.ui import jsonlines, line
from orderflow.ui.report import is_news

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.types import Alert, FeedChange, InstrumentId, MetricsTick, Summary
    from orderflow.record.records import Gap, Session
    from orderflow.ui.line import Look

    Put = Callable[[str], None]


class Silent:
    """Nothing is shown."""

    def start(self, session: Session, instruments: tuple[InstrumentId, ...], interval_s: float) -> None:
        pass

    def tick(self, tick: MetricsTick) -> None:
        pass

    def alert(self, alert: Alert) -> None:
        pass

    def feed(self, change: FeedChange, ts: int) -> None:
        pass

    def trouble(self, trouble: Damage | Gap) -> None:
        pass

    def summary(self, summary: Summary, ts: int) -> None:
        pass


class JsonSink(Silent):
    """The lines of `--log-format json` (docs/metrics.md) with the recording's times; troubles are `recording` lines."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._ts = 0

    def start(self, session: Session, instruments: tuple[InstrumentId, ...], interval_s: float) -> None:
        self._ts = session.started_ns // 1_000_000
        self._put(
            jsonlines.encode_start(
                ts=self._ts,
                version=__version__,
                env=session.env,
                instruments=map(str, instruments),
                depth=session.depth,
                interval_s=interval_s,
            )
        )

    def tick(self, tick: MetricsTick) -> None:
        self._ts = tick.ts
        self._put(jsonlines.encode_tick(tick))

    def alert(self, alert: Alert) -> None:
        self._put(jsonlines.encode_alert(alert))

    def feed(self, change: FeedChange, ts: int) -> None:
        self._put(jsonlines.encode_feed(change, ts=ts))

    def trouble(self, trouble: Damage | Gap) -> None:
        kind = "damage" if isinstance(trouble, Damage) else "gap"
        fields = {name: getattr(trouble, name) for name in trouble.__struct_fields__}
        self._put(jsonlines.encode_event("recording", ts=self._ts, kind=kind, **fields))

    def summary(self, summary: Summary, ts: int) -> None:
        self._put(jsonlines.encode_summary(summary, ts=ts))


class HumanSink(Silent):
    """The lines of a live run, each with the recording's time of day (UTC)."""

    def __init__(self, put: Put, look: Look) -> None:
        self._put = put
        self._look = look

    def _say(self, ts: int, text: str) -> None:
        self._put(f"{line.format_clock(ts)} {text}\n")

    def start(self, session: Session, instruments: tuple[InstrumentId, ...], interval_s: float) -> None:
        names = map(str, instruments)
        text = line.format_start(__version__, f"{session.env} (replay)", names, interval_s, self._look)
        self._say(session.started_ns // 1_000_000, text)

    def tick(self, tick: MetricsTick) -> None:
        self._say(tick.ts, line.format_tick(tick, self._look))

    def alert(self, alert: Alert) -> None:
        self._say(alert.tick.ts, line.format_alert(alert, self._look))

    def feed(self, change: FeedChange, ts: int) -> None:
        if is_news(change):
            self._say(ts, line.format_feed(change, self._look))

    def trouble(self, trouble: Damage | Gap) -> None:
        self._put(f"{trouble_text(trouble)}\n")

    def summary(self, summary: Summary, ts: int) -> None:
        self._say(ts, line.format_summary(summary, self._look))


def trouble_text(trouble: Damage | Gap) -> str:
    """One line about a place where something is missing."""
    if isinstance(trouble, Damage):
        return f"Recording: {trouble}"
    length_s = (trouble.to_ns - trouble.from_ns) / 1e9
    return f"Recording: gap of {length_s:.1f} s, {trouble.frames} messages missing ({trouble.reason}: {trouble.detail})"
