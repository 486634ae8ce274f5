"""SIGINT, SIGTERM and a hung-up terminal: the first asks the program to stop, the second ends it at once.

The handlers are the process's own, not the event loop's: a second Ctrl-C works while a plugin hangs, and one that comes
before there is an event loop ends the program too.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_quietly(number: int, frame: FrameType | None) -> None:
    """The handler of the very first moments, when there is nothing to put in order yet."""
    os._exit(0)


def catch_early() -> None:
    """From the first line of the program on, being stopped is no error: exit code 0 and no traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave_quietly)


def as_usual() -> None:
    """Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process: for commands that are over in a moment."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopSignals:
    """The signals that end a run.

    Args:
        keep: leave the handlers in place after the run, for a process that ends then: a first signal changes nothing
            any more, a second still ends it at once.
        leave: ends the process with an exit code, skipping every clean-up.
    """

    def __init__(self, *, keep: bool = False, leave: Callable[[int], object] = os._exit) -> None:
        self._keep = keep
        self.restore: Callable[[], None] = _nothing  # brings the terminal back
        self._leave = leave
        self._stop: Callable[[str], None] = _ignore
        self._asked = False

    @contextmanager
    def directed(self, stop: Callable[[str], None]) -> Iterator[None]:
        """While this is open the first signal calls `stop` with its name, in the middle of whatever runs."""
        self._stop = stop
        before = {number: signal.getsignal(number) for number in STOPPING}
        for number, handler in before.items():
            if number != signal.SIGHUP or handler is not signal.SIG_IGN:  # nohup wants us to go on
                signal.signal(number, self._handle)
        try:
            yield
        finally:
            self._stop = _ignore
            if not self._keep:
                for number, handler in before.items():
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            self.restore()
            self._leave(128 + number)
        self._asked = True
        self._stop(signal.Signals(number).name)


def _ignore(name: str) -> None:
    """The program is ending anyway."""


def _nothing() -> None:
    """No terminal to bring back."""
