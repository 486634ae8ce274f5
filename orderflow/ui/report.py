"""What is said on standard output, as lines for people or as JSON: one interface, two dialects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from orderflow.core.types import BookState, LinkChanged
from orderflow.ui import jsonlines, line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orderflow.core.stats import Stats
    from orderflow.core.types import Alert, FeedChange, MetricsTick, Summary
    from orderflow.ui.line import Look

    Put = Callable[[str], None]


class Reporter(Protocol):
    """Told everything a run has to say; never waits and never raises."""

    def start(self, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> None: ...
    def tick(self, tick: MetricsTick) -> None: ...
    def alert(self, alert: Alert) -> None: ...
    def feed(self, change: FeedChange) -> None: ...
    def stall(self, length_s: float) -> None: ...
    def stats(self, stats: Stats) -> None: ...
    def summary(self, summary: Summary) -> None: ...


class JsonReporter:
    """Every line is one JSON object (docs/metrics.md)."""

    def __init__(self, put: Put) -> None:
        self._put = put

    def start(self, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> None:
        self._put(
            jsonlines.encode_start(
                ts=_now_ms(), version=version, env=env, instruments=instruments, depth=depth, interval_s=interval_s
            )
        )

    def tick(self, tick: MetricsTick) -> None:
        self._put(jsonlines.encode_tick(tick))

    def alert(self, alert: Alert) -> None:
        self._put(jsonlines.encode_alert(alert))

    def feed(self, change: FeedChange) -> None:
        self._put(jsonlines.encode_feed(change, ts=_now_ms()))

    def stall(self, length_s: float) -> None:
        self._put(jsonlines.encode_stall(length_s, ts=_now_ms()))

    def stats(self, stats: Stats) -> None:
        self._put(jsonlines.encode_event("stats", ts=_now_ms(), **msgspec.structs.asdict(stats)))

    def summary(self, summary: Summary) -> None:
        self._put(jsonlines.encode_summary(summary, ts=_now_ms()))


class HumanReporter:
    """One line per tick, alert and change that matters, in the shape traders know."""

    def __init__(self, put: Put, look: Look) -> None:
        self._put = put
        self._look = look

    def start(self, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> None:
        self._put(line.format_start(version, env, instruments, interval_s, self._look))

    def tick(self, tick: MetricsTick) -> None:
        self._put(line.format_tick(tick, self._look))

    def alert(self, alert: Alert) -> None:
        self._put(line.format_alert(alert, self._look))

    def feed(self, change: FeedChange) -> None:
        if is_news(change):
            self._put(line.format_feed(change, self._look))

    def stall(self, length_s: float) -> None:
        pass  # the log has it, and every book says it

    def stats(self, stats: Stats) -> None:
        pass  # the summary has the last of them

    def summary(self, summary: Summary) -> None:
        self._put(line.format_summary(summary, self._look))


class SummaryReporter(HumanReporter):
    """Beside a live view, which shows everything else: the closing summary alone."""

    def start(self, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> None:
        pass

    def tick(self, tick: MetricsTick) -> None:
        pass

    def alert(self, alert: Alert) -> None:
        pass

    def feed(self, change: FeedChange) -> None:
        pass


def is_news(change: FeedChange) -> bool:
    """Whether a person wants a line about it: not for each step of an ordinary start."""
    if isinstance(change, LinkChanged):
        return change.state != "connecting"
    return change.new is not BookState.SYNCING


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
