"""What the live view remembers: one sample a second of each book for its charts. Pure; bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.core.types import InstrumentId, ViewFrame

KEEP_S: Final = 300


Series = list[float | None]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One book at one second; None while it was not live."""

    mid: float | None
    spread_bps: float | None
    imbalance: float | None


_NOTHING: Final = Sample(None, None, None)


class History:
    """Samples per book, newest last, one per second of wall time; seconds without a frame are holes."""

    def __init__(self, keep_s: int = KEEP_S) -> None:
        self._keep = keep_s
        self._second: int | None = None
        self._samples: dict[InstrumentId, deque[Sample]] = {}

    def add(self, frame: ViewFrame) -> None:
        """Take in a frame; a later frame of the same second replaces the earlier. A clock set back starts anew."""
        second = frame.ts // 1000
        if self._second is not None and second < self._second:
            self._samples.clear()
        elapsed = 1 if self._second is None else max(0, min(second - self._second, self._keep))
        self._second = second
        seen = {book.tick.instrument for book in frame.books}
        for gone in self._samples.keys() - seen:
            del self._samples[gone]
        for book in frame.books:
            tick = book.tick
            sample = Sample(tick.mid, tick.spread_bps, tick.imbalance) if tick.live else _NOTHING
            samples = self._samples.setdefault(tick.instrument, deque(maxlen=self._keep))
            if samples and elapsed == 0:
                samples.pop()
            elif samples:
                samples.extend([_NOTHING] * (elapsed - 1))
            samples.append(sample)

    def seconds(self, instrument: InstrumentId) -> int:
        """How many seconds are remembered."""
        return len(self._samples.get(instrument, ()))

    def group_s(self, instrument: InstrumentId, cells: int) -> int:
        """Seconds per cell so that all that is remembered fits in `cells`: 1 or an even number."""
        group = max(1, -(-self.seconds(instrument) // max(1, cells)))
        return group if group == 1 else group + group % 2

    def series(self, instrument: InstrumentId, pick: Callable[[Sample], float | None], group_s: int) -> Series:
        """All that is remembered, newest last: means over `group_s` seconds each, holes left out."""
        values = [pick(sample) for sample in self._samples.get(instrument, ())]
        start = len(values) % group_s  # the newest group is whole, the oldest may be short
        groups = [values[:start]] if start else []
        groups += [values[i : i + group_s] for i in range(start, len(values), group_s)]
        return [_mean(group) for group in groups]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
