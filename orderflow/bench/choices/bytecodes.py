"""Counts the byte codes that are run: what a message takes of them is the same on every machine.

Outside a burst nothing is shared between messages and all caches are cold: then time goes by byte codes.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

_TRIOS: Final = tuple(str(Path(file).parent) for file in (trio.__file__, outcome.__file__) if file)
_GENERATED: Final = "<attrs generated"


class Codes(NamedTuple):
    """How many; `trio`: of Trio's own, and of `outcome`, in which it hands results to tasks."""

    all: float
    trio: float


class Counting:
    """By code object, of functions that began while it was on."""

    def __init__(self) -> None:
        self._counts: Counter[CodeType] = Counter()

    def total(self) -> Codes:
        trios = sum(count for code, count in self._counts.items() if _is_trios(code.co_filename))
        return Codes(self._counts.total(), trios)

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        """For `sys.settrace`."""
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self._counts[frame.f_code] += 1
        return self.trace


def _is_trios(filename: str) -> bool:
    if filename.startswith(_GENERATED):
        return "trio." in filename or "outcome." in filename
    return filename.startswith(_TRIOS)


@contextmanager
def counted_codes() -> Iterator[Counting]:
    """Count for the time of the block, which becomes many times slower."""
    counting = Counting()
    before = sys.gettrace()
    sys.settrace(counting.trace)
    try:
        yield counting
    finally:
        sys.settrace(before)
