"""`orderflow import`: other people's files into a recording, on the command line."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import ConfigError, RecordingError
from orderflow.core.text import escape_text
from orderflow.core.types import Category
from orderflow.foreign.convert import Import, Imported, refuse_existing
from orderflow.foreign.facts import read_facts
from orderflow.record.news import size_text
from orderflow.ui.line import format_duration

if TYPE_CHECKING:
    import argparse

    from orderflow.core.types import Instrument, InstrumentId

INTERRUPTED: Final = 130
_TELL_S: Final = 0.5


class _Progress:
    """One line on a terminal: which pass, how far, how fast, how long still."""

    def __init__(self) -> None:
        self.job: Import | None = None
        self._shown = sys.stderr.isatty()
        self._pass = "looking"
        self._began = self._told = time.monotonic()

    def next_pass(self) -> None:
        self._pass = "importing"
        self._began = time.monotonic()

    def tell(self) -> None:
        now = time.monotonic()
        if self._shown and self.job is not None and now - self._told >= _TELL_S:
            self._told = now
            sys.stderr.write(f"\r\x1b[K{progress_text(self._pass, self.job, now - self._began)}")
            sys.stderr.flush()

    def wipe(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def progress_text(name: str, job: Import, seconds: float) -> str:
    """`importing 40%, 52000 messages/s, 12.0s left`; the first pass counts bytes, of the files as they are."""
    share = job.position / max(job.size, 1)
    rate = f"{size_text(job.position / seconds)}/s"
    if job.total_messages:
        share = job.messages / job.total_messages
        rate = f"{job.messages / seconds:.0f} messages/s"
    left = f", {format_duration(seconds / share * (1 - share))} left" if share > 0 else ""
    return f"{name} {share:.0%}, {rate}{left}"


def main(args: argparse.Namespace) -> int:
    """`orderflow import`. Returns: the exit code. Raises: ConfigError."""
    refuse_existing(args.out)
    known: dict[InstrumentId, Instrument] = {}
    for path in args.instruments or ():
        known |= read_facts(path)
    progress = _Progress()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        job = progress.job = Import(
            args.source,
            category=Category(args.category) if args.category else None,
            symbol=args.symbol.upper() if args.symbol else None,
            known=known,
            clock=args.clock,
            tell=progress.tell,
        )
        plan = job.look()
        progress.next_pass()
        done = job.write(plan, args.out)
    except RecordingError as error:
        raise ConfigError(f"import: {refusal_text(error)}") from None
    except OSError as error:
        raise ConfigError(f"import: {error.strerror}; nothing was left behind") from None
    except KeyboardInterrupt:
        sys.stderr.write("\norderflow: import: stopped; nothing was left behind\n")
        return INTERRUPTED
    finally:
        progress.wipe()
    for file in done.files:
        for problem in file.problems:
            sys.stderr.write(f"orderflow: import: {problem}\n")
    sys.stdout.write(json_text(done) if args.json else f"{summary_text(done, time.monotonic() - began)}\n")
    return 0


def refusal_text(error: RecordingError) -> str:
    """The file, the place if it is one, and what is wrong."""
    place = f" at byte {error.offset}:" if error.offset else ""
    return f"{escape_text(error.path, 300)}:{place} {escape_text(error.detail, 600)}"


def json_text(done: Imported) -> str:
    return msgspec.json.format(msgspec.json.encode(done), indent=2).decode() + "\n"


def summary_text(done: Imported, seconds: float) -> str:
    """A few lines for people."""
    files = f"{len(done.files)} file" + ("" if len(done.files) == 1 else "s")
    kinds = ", ".join(f"{count} {escape_text(kind, 40)}" for kind, count in sorted(done.topics.items()))
    lines = [
        f"imported {done.messages} messages of {files} into {escape_text(done.folder, 300)}: "
        f"{size_text(done.bytes)} in {format_duration(seconds)}",
        f"  {kinds}",
        f"  {_moment(done.first_ns)} to {_moment(done.last_ns)} UTC "
        f"({format_duration((done.last_ns - done.first_ns) / 1e9)}), {_clock_text(done.clock)}",
        f"  instruments: {_names(done.instruments)}",
    ]
    if done.inferred:
        lines.append(f"  tick and lot size read off the numbers (--instruments has better): {_names(done.inferred)}")
    if done.passed_over:
        lines.append(f"  kept, but not replayed, because a deeper book is there: {_names(done.passed_over)}")
    lines += [f"  {escape_text(file.file, 200)}: sorted by time" for file in done.files if file.sorted]
    for file in done.files:
        if file.left_out:
            lines.append(f"  {escape_text(file.file, 200)}: {file.left_out} lines left out")
        if file.damaged:
            lines.append(f"  {escape_text(file.file, 200)}: damaged; what came before that place was imported")
    return "\n".join(lines)


def _names(names: list[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(escape_text(name, 60) for name in names[:shown]) + more


def _clock_text(clock: str) -> str:
    return "receive times" if clock == "receive" else "the exchange's times: there is no feed latency in it"


def _moment(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ns / 1e9))
