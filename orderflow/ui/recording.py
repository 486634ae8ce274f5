"""What `orderflow record` says: how far the recording is, and what is wrong; no ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.ui.report import HumanReporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.types import MetricsTick
    from orderflow.ui.line import Look


class RecordReporter(HumanReporter):
    """One line of progress per interval in place of the ticks."""

    def __init__(self, put: Callable[[str], None], look: Look, progress: Callable[[], str]) -> None:
        super().__init__(put, look)
        self._say = put
        self._progress = progress
        self._last_ts = -1

    def tick(self, tick: MetricsTick) -> None:
        if tick.ts != self._last_ts:  # the ticks of all books share one
            self._last_ts = tick.ts
            self._say(self._progress())
