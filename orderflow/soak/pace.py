"""When whoever is watched did not get to run: starved by others, or stopped. Deadlines are held against the rest."""

from __future__ import annotations

import os
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEAT_S: Final = 0.02
_SLOT_S: Final = 0.125  # a power of two: times are cut into slots without rounding
_KEPT: Final = 1_000_000  # slots: a day and a half in which something was lost at every moment


class Pace:
    """How much of each moment was lost. Args: now_s: the clock of all evidence (the exchange's)."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lost: dict[int, float] = {}  # slot -> seconds of it
        self._longest_s = 0.0

    def lose(self, from_s: float, to_s: float, lost_s: float | None = None) -> None:
        """Nothing could be done between these times, or for so long of them. What overlaps is lost once at most."""
        whole_s = to_s - from_s
        if whole_s <= 0:
            return
        share = 1.0 if lost_s is None else min(1.0, lost_s / whole_s)
        for slot, part_s in _slots(from_s, to_s):
            self._lost[slot] = min(_SLOT_S, self._lost.get(slot, 0.0) + part_s * share)
        self._longest_s = max(self._longest_s, whole_s * share)
        while len(self._lost) > _KEPT:
            del self._lost[next(iter(self._lost))]

    def lost_s(self, from_s: float, to_s: float) -> float:
        """How much of this stretch was lost."""
        return sum(part_s * self._share(slot) for slot, part_s in _slots(from_s, to_s))

    def worst_s(self, from_s: float, to_s: float, window_s: float) -> float:
        """The most that was lost of any window within this stretch."""
        starts = [from_s + step * _SLOT_S for step in range(max(1, floor((to_s - from_s - window_s) / _SLOT_S) + 1))]
        return max(self.lost_s(start_s, min(start_s + window_s, to_s)) for start_s in starts)

    def all_s(self) -> float:
        """All that was lost."""
        return sum(self._lost.values())

    def longest_s(self) -> float:
        """The longest that was lost in one piece."""
        return self._longest_s

    def after(self, from_s: float, had_s: float) -> float:
        """When so many seconds had been had since then."""
        slot = floor(from_s / _SLOT_S)
        while True:
            end_s = (slot + 1) * _SLOT_S
            rate = 1.0 - self._share(slot)
            if had_s <= (end_s - from_s) * rate:
                return from_s + (had_s / rate if rate else 0.0)
            had_s -= (end_s - from_s) * rate
            from_s, slot = end_s, slot + 1

    def before(self, to_s: float, had_s: float) -> float:
        """Since when so many seconds had been had, by then."""
        slot = ceil(to_s / _SLOT_S) - 1
        while True:
            begin_s = slot * _SLOT_S
            rate = 1.0 - self._share(slot)
            if had_s <= (to_s - begin_s) * rate:
                return to_s - (had_s / rate if rate else 0.0)
            had_s -= (to_s - begin_s) * rate
            to_s, slot = begin_s, slot - 1

    def _share(self, slot: int) -> float:
        return self._lost.get(slot, 0.0) / _SLOT_S

    # --- measuring

    async def run(self) -> NoReturn:
        """Notice what this process loses: a beat that comes late, and what its threads waited for a processor."""
        queue = Queue(os.getpid())
        while True:
            began_s = trio.current_time()
            await trio.sleep(BEAT_S)
            took_s = trio.current_time() - began_s
            late_s = took_s - BEAT_S
            lost_s = max(late_s if late_s > BEAT_S else 0.0, queue.waited_s())
            if lost_s:
                now_s = self._now_s()
                self.lose(now_s - took_s, now_s, lost_s)

    async def watch(self, pid: Callable[[], int | None]) -> NoReturn:
        """Notice what another process loses, and whoever comes after it; None: there is nobody now."""
        queue: Queue | None = None
        last_s = self._now_s()
        while True:
            await trio.sleep(BEAT_S)
            now_s, watched = self._now_s(), pid()
            if queue is not None and queue.pid == watched:
                lost_s = queue.waited_s()  # told when the waiting is over: it may have begun before the last look
                self.lose(min(last_s, now_s - lost_s), now_s, lost_s)
            else:
                if queue is not None:
                    self.lose(last_s, now_s)  # it ended since the last look: how much of that it had nobody knows
                queue = None if watched is None else Queue(watched)
            last_s = now_s


class Queue:
    """The wait of a process for processors, as the kernel counts it (Linux; elsewhere it is not `counted`)."""

    counted: Final = Path("/proc/self/schedstat").exists()

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self.pid = pid
        self._threads = f"{proc}/{pid}/task"
        self._known = self._read()

    def waited_s(self) -> float:
        """Seconds that the thread which waited longest spent ready to run, but not running, since the last call.

        The longest and not the sum: threads wait side by side. Not the main thread's either: it may wait for another,
        which holds the interpreter's lock and has no processor.
        """
        before, self._known = self._known, self._read()
        return max((ns - before.get(thread, 0) for thread, ns in self._known.items()), default=0) / 1e9

    def _read(self) -> dict[str, int]:
        """Thread -> ns."""
        waited: dict[str, int] = {}
        try:
            for thread in os.listdir(self._threads):
                with open(f"{self._threads}/{thread}/schedstat", "rb") as file:
                    waited[thread] = int(file.read().split()[1])
        except (OSError, IndexError):
            pass  # it is ending
        return waited


def _slots(from_s: float, to_s: float) -> Iterator[tuple[int, float]]:
    """(slot, seconds of it) of a stretch."""
    slot = floor(from_s / _SLOT_S)
    while from_s < to_s:
        end_s = min(to_s, (slot + 1) * _SLOT_S)
        yield slot, end_s - from_s
        from_s, slot = end_s, slot + 1
