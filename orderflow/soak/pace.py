"""When whoever is watched did not get to run: starved by others, or stopped. Deadlines are held against the rest."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_S: Final = 0.02
_KEPT: Final = 100_000


class Pace:
    """Stretches of lost time. Args: now_s: the clock of all evidence (the exchange's)."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lost: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def lose(self, from_s: float, to_s: float) -> None:
        """Nothing could be done between these times."""
        self._lost.append((from_s, to_s))

    def lost_s(self, from_s: float, to_s: float) -> float:
        """How much of this stretch was lost."""
        return sum(max(0.0, min(to_s, end) - max(from_s, begin)) for begin, end in self._lost)

    def longest_s(self) -> float:
        return max((end - begin for begin, end in self._lost), default=0.0)

    async def run(self) -> NoReturn:
        """Notice what this process loses: a beat that comes late."""
        while True:
            due_s = trio.current_time() + BEAT_S
            await trio.sleep_until(due_s)
            late_s = trio.current_time() - due_s
            if late_s > BEAT_S:
                now_s = self._now_s()
                self.lose(now_s - late_s, now_s)
