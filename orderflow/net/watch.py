"""Notices that the program stood still, or that somebody set the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from orderflow.core.units import NS, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.policy import WatchPolicy
    from orderflow.net.tap import Clock

BEAT_S: Final = 0.1


def read_asleep_ns() -> int:
    """How long the machine has been suspended since it booted, which the monotonic clock leaves out; 0 if unknown."""
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return 0 if boot_clock is None else time.clock_gettime_ns(boot_clock) - time.monotonic_ns()


class LoopWatch:
    """The event loop's own sense of time. `look` before anything is shown or judged; `run` looks when nobody else does.

    After a standstill it is chance which task runs first, so each one that shows something must look for itself.

    Args:
        clock: (wall ns, monotonic ns); asleep: ns the machine slept, as far as `clock` does not know.
        on_stall: told the seconds the program stood still; on_step: told by how many seconds the wall clock was moved.
    """

    def __init__(
        self,
        policy: WatchPolicy,
        clock: Clock,
        on_stall: Callable[[float], None],
        on_step: Callable[[float], None],
        *,
        asleep: Callable[[], int] = read_asleep_ns,
    ) -> None:
        self._stall_ns = seconds_to_ns(policy.stall_s)
        self._step_ns = seconds_to_ns(policy.clock_step_s)
        self._clock = clock
        self._asleep = asleep
        self._on_stall = on_stall
        self._on_step = on_step
        wall_ns, self._last_ns = clock()
        self._base_ns = wall_ns - self._last_ns
        self._slept_ns = asleep()
        self.lag_s = 0.0  # how late the last beat came
        self.max_lag_s = 0.0
        self.stalls = 0
        self.stalled_s = 0.0  # all stalls together
        self.clock_steps = 0

    def look(self) -> tuple[int, int]:
        """Notice what happened since the last look. Returns: (wall ns, monotonic ns) now."""
        wall_ns, mono_ns = self._clock()
        asleep_ns = self._asleep()
        slept_ns, self._slept_ns = asleep_ns - self._slept_ns, asleep_ns
        still_ns, self._last_ns = mono_ns - self._last_ns + slept_ns, mono_ns
        base_ns = wall_ns - mono_ns
        step_ns = base_ns - self._base_ns - slept_ns  # waking up, the machine sets its clock by as long as it slept
        if abs(step_ns) > self._step_ns:  # slewing is slower: it only moves the base along
            self.clock_steps += 1
            self._on_step(step_ns / NS)
        self._base_ns = base_ns
        if still_ns > self._stall_ns:
            self.stalls += 1
            self.stalled_s += still_ns / NS
            self._on_stall(still_ns / NS)
        return wall_ns, mono_ns

    async def run(self, beat: Callable[[], None]) -> NoReturn:
        """Look and `beat` ten times a second, and measure how late each time comes."""
        while True:
            due_ns = self._clock()[1] + seconds_to_ns(BEAT_S)
            await trio.sleep(BEAT_S)
            _, mono_ns = self.look()
            self.lag_s = max(0.0, (mono_ns - due_ns) / NS)
            self.max_lag_s = max(self.max_lag_s, self.lag_s)
            beat()


async def stay_awake() -> NoReturn:
    """Keep the event loop from ever sleeping, so that nothing has to wake it: `busy_poll`.

    Waking a process that sleeps costs more than all we do with a message, and finds cold caches. Looking for news all
    the time instead keeps one core busy. Every other task has its turn as before.
    """
    while True:
        await trio.lowlevel.checkpoint()
