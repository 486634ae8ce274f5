"""``python -m orderflow``."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import NoReturn

from orderflow.signals import catch_early


def entry() -> NoReturn:
    """The `orderflow` command."""
    catch_early()  # before the imports: they take longer than an impatient user
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an odd locale must not turn a word into a crash
    sys.excepthook = lambda kind, error, trace: _crashed(error)
    threading.excepthook = lambda args: _crashed(args.exc_value)
    sys.unraisablehook = lambda args: _crashed(args.exc_value)
    from orderflow.cli import main

    sys.exit(main())


def _crashed(error: BaseException | None) -> None:
    """Nobody caught it: a bug. Its text may hold anything, so it is masked and escaped like every other line."""
    from orderflow import logs

    if error is not None:
        logs.last_traceback(error)


def _open_standard_streams() -> None:
    """A stream we were started without becomes the null device: else a socket of ours would get its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115


if __name__ == "__main__":
    entry()
