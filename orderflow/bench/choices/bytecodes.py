"""Counts the byte codes that are run: what a message takes of them is the same on every machine.

Outside a burst nothing is shared between messages and all caches are cold: then time goes by byte codes.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

_TRIOS: Final = tuple(str(Path(file).parent) for file in (trio.__file__, outcome.__file__) if file)
_GENERATED: Final = "<attrs generated"
_LOOK: Final = "get_events"
"""Where Trio looks for news; what it returns is empty unless there are."""


class Counting:
    """What ran of functions that began while it was on.

    Args: ends: the function at whose end its `events` are in the book; those that come together do not count.
    """

    def __init__(self, ends: CodeType | None = None) -> None:
        self._ends = ends
        self._counts: Counter[CodeType] = Counter()  # since the event loop had news
        self.all = 0
        self.in_book: list[tuple[int, int]] = []
        """At each end of it: all, and Trio's, since the event loop had news."""

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        """For `sys.settrace`."""
        if event == "opcode":
            self.all += 1
            self._counts[frame.f_code] += 1
        elif event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "return":
            self._returned(frame, arg)
        return self.trace

    def _returned(self, frame: FrameType, result: Any) -> None:
        code = frame.f_code
        if code is self._ends:
            if len(frame.f_locals["events"]) != 1:
                return
            trios = sum(count for code, count in self._counts.items() if _is_trios(code.co_filename))
            self.in_book.append((self._counts.total(), trios))
        elif code.co_name == _LOOK and result and _is_trios(code.co_filename):
            self._counts.clear()


def _is_trios(filename: str) -> bool:
    if filename.startswith(_GENERATED):
        return "trio." in filename or "outcome." in filename
    return filename.startswith(_TRIOS)


@contextmanager
def counted_codes(ends: CodeType | None = None) -> Iterator[Counting]:
    """Count for the time of the block, which becomes many times slower. Args: see `Counting`."""
    counting = Counting(ends)
    before = sys.gettrace()
    sys.settrace(counting.trace)
    try:
        yield counting
    finally:
        sys.settrace(before)
