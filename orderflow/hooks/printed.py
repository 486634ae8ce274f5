"""What plugins print: lines for the log instead of bytes for the terminal.

Printed as they are, they would break the lines of standard output, reach a terminal with all their control characters,
and wait for a reader that does not read.
"""

from __future__ import annotations

import io
import logging
import threading
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

LINE_LIMIT: Final = 2000


class PrintedLines(io.TextIOBase):
    """A stream whose every line is logged; the log escapes it, and shows some of many."""

    def __init__(self) -> None:
        self._rest = ""
        self._writing: set[int] = set()  # threads

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        if thread in self._writing:  # somebody's log handler has failed over this very line, and says so here
            return len(text)
        self._writing.add(thread)
        try:
            *lines, rest = (self._rest + text).split("\n")
            self._rest = rest[:LINE_LIMIT]
            for line in lines:
                log.info("%s", line[:LINE_LIMIT])
        finally:
            self._writing.discard(thread)
        return len(text)


@contextmanager
def prints_logged(*, errors: bool = True) -> Iterator[None]:
    """While this is open, what is printed is logged. Args: errors: on standard error as well."""
    with redirect_stdout(PrintedLines()), redirect_stderr(PrintedLines()) if errors else nullcontext():
        yield
