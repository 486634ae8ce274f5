"""The watchdog: a thread that ends a program that hangs, and says where it hangs.

It counts only time it lived through itself: a process that was stopped and continued, or that got no processor, has not
hung. Python code and anything that waits is caught by the thread; C code that keeps the interpreter to itself but looks
at signals (a regular expression gone wild) by a timer of processor time. C code that does neither cannot be ended from
inside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Final, Protocol

from orderflow import logs
from orderflow.core.policy import WatchPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

EXIT_HUNG: Final = 70
STEP_S: Final = 0.25
"""How often the thread looks. A look that comes far later than that counts as two: the thread itself stood still."""


class Call(Protocol):
    """The plugin code that runs now (`hooks.records.CurrentCall`)."""

    @property
    def plugin(self) -> str: ...
    @property
    def hook(self) -> str: ...


def no_call() -> Call | None:
    """For programs without plugins."""
    return None


class Patience:
    """How long each thing has been waited for, in time the observer lived through. Pure: `look` is told everything."""

    def __init__(self, policy: WatchPolicy, now_s: float) -> None:
        self._policy = policy
        self._last_s = now_s
        self._beats = 0
        self._call: Call | None = None
        self._quiet_s = self._call_s = self._stop_s = 0.0

    def look(self, now_s: float, beats: int, call: Call | None, *, stopping: bool) -> str:
        """Look once more. Returns what hangs, in words; "": nothing does.

        Args: beats: how often the event loop has said that it lives; call: the plugin call that runs, the same object
            for as long as it runs.
        """
        lived_s = min(now_s - self._last_s, 2 * STEP_S)
        self._last_s = now_s
        self._call_s = self._call_s + lived_s if call is self._call and call is not None else 0.0
        self._quiet_s = self._quiet_s + lived_s if beats == self._beats and call is self._call else 0.0
        self._stop_s = self._stop_s + lived_s if stopping else 0.0
        self._beats, self._call = beats, call
        policy = self._policy
        where = f"plugin {call.plugin} is in its {call.hook}" if call is not None else ""
        if self._stop_s >= policy.stop_hang_s:
            return f"stopping takes longer than {policy.stop_hang_s:g} s" + (f": {where}" if where else "")
        if self._call_s >= policy.plugin_hang_s:
            return f"{where} for {policy.plugin_hang_s:g} s and does not return"
        if self._quiet_s >= policy.hang_s:
            return f"nothing has moved for {policy.hang_s:g} s" + (f": {where}" if where else "")
        return ""


class Watchdog:
    """Watches the main thread from `start` until the process is gone.

    Args:
        call: what plugin code runs now. It is read from another thread.
        leave: ends the process with an exit code, skipping every clean-up.
        say: writes lines to where people look, at once.
    """

    def __init__(
        self,
        policy: WatchPolicy | None = None,
        *,
        call: Callable[[], Call | None] = no_call,
        leave: Callable[[int], object] = os._exit,
        say: Callable[[Iterable[str]], None] = logs.last_words,
    ) -> None:
        self.call = call
        self.restore: Callable[[], None] = _nothing  # brings the terminal back
        self._policy = policy or WatchPolicy()
        self._leave = leave
        self._say = say
        self._beats = 0
        self._stopping = False
        self._closed = threading.Event()
        self._main = threading.main_thread().ident or 0
        self._suspect: Call | None = None  # of the timer, like the next two
        self._seen = self._fired = 0

    def start(self) -> None:
        """Begin to watch. To be called in the main thread, which is the one that is watched."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        signal.signal(signal.SIGVTALRM, self._processor_time_used)
        self._arm()

    def beat(self) -> None:
        """The event loop lives."""
        self._beats += 1
        self._arm()

    def stopping(self) -> None:
        """The program is to end now, within `stop_hang_s`."""
        self._stopping = True

    def close(self) -> None:
        """Watch no more (tests; the program itself never does)."""
        self._closed.set()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)

    # --- the thread

    def _run(self) -> None:
        patience = Patience(self._policy, time.monotonic())
        while not self._closed.wait(STEP_S):
            verdict = patience.look(time.monotonic(), self._beats, self.call(), stopping=self._stopping)
            if verdict:
                self._end(verdict, sys._current_frames().get(self._main))
                return

    # --- the timer: inside C code that holds the interpreter, only a signal reaches the main thread, and no thread runs

    def _arm(self) -> None:
        """Have the handler called each time the process has used half of `plugin_hang_s` of processor time."""
        self._seen = self._fired = 0
        half_s = self._policy.plugin_hang_s / 2
        signal.setitimer(signal.ITIMER_VIRTUAL, half_s, half_s)

    def _processor_time_used(self, number: int, frame: FrameType | None) -> None:
        call = self.call()
        self._seen = self._seen + 1 if call is not None and call is self._suspect else 0
        self._suspect = call
        self._fired += 1
        if call is not None and self._seen >= 2:
            self._end(f"plugin {call.plugin} is in its {call.hook} and does not return", frame)
        elif self._fired * self._policy.plugin_hang_s / 2 >= self._policy.hang_s:
            self._end(f"nothing has moved for {self._policy.hang_s:g} s of processor time", frame)

    def _end(self, verdict: str, frame: FrameType | None) -> None:
        self.restore()
        stack = traceback.format_stack(frame) if frame is not None else []
        lines = [line for entry in stack for line in entry.splitlines()]
        self._say([f"watchdog: {verdict}; it hangs here (innermost call last):", *lines, "ended with exit code 70"])
        self._leave(EXIT_HUNG)


def _nothing() -> None:
    """No terminal to bring back."""
