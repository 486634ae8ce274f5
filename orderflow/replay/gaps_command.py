"""`orderflow gaps`: the command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import ConfigError, MisuseError, RecordingError
from orderflow.core.text import escape_text
from orderflow.record.reader import open_recording
from orderflow.replay.command import choose_symbols, first_session, show_progress, stoppable
from orderflow.replay.engine import Choice
from orderflow.replay.gaps import survey_gaps
from orderflow.replay.run import parse_moment
from orderflow.ui.gappage import gap_page
from orderflow.ui.gaptext import format_report
from orderflow.ui.jsonlines import clean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from orderflow.core.figures import GapReport

EXIT_OK: Final = 0
EXIT_BELOW: Final = 1
EXIT_STOPPED: Final = 130


def main(args: argparse.Namespace) -> int:
    """Returns: the exit code. Raises: ConfigError, MisuseError."""
    limit = parse_limit(args.fail_under)
    report = _survey(args)
    if report is None:
        sys.stderr.write("stopped before the end: no figures\n")
        return EXIT_STOPPED
    if args.html is not None:
        _write(args.html, gap_page(report, _title(args.path)))
    sys.stdout.write(encode_report(report) if args.json else f"{format_report(report)}\n")
    sys.stdout.flush()
    return EXIT_OK if limit is None else _judge(report, limit)


def _survey(args: argparse.Namespace) -> GapReport | None:
    """None: a signal came."""
    try:
        recording = open_recording(*args.path)
        session = first_session(recording)
    except RecordingError as error:
        raise ConfigError(escape_text(str(error), 1000)) from None
    choice = Choice(symbols=choose_symbols(args.symbol or (), session))
    from_ns = parse_moment(args.from_time, session.started_ns) if args.from_time else None
    to_ns = parse_moment(args.to_time, session.started_ns) if args.to_time else None
    topics = sum(map(choice.wants, session.instruments))
    progress = show_progress(recording)
    try:
        with stoppable() as stop:
            return survey_gaps(
                recording, choice, stop=stop, topics=topics, from_ns=from_ns, to_ns=to_ns, progress=progress
            )
    finally:
        if progress is not None:
            sys.stderr.write("\r\x1b[K")


def _title(paths: Sequence[Path]) -> str:
    return ", ".join(path.resolve().name for path in paths)


def encode_report(report: GapReport) -> str:
    """The whole report as JSON; text from outside is escaped."""
    return msgspec.json.format(msgspec.json.encode(clean(msgspec.to_builtins(report))), indent=2).decode() + "\n"


def _write(path: Path, text: str) -> None:
    """Whole or not at all. Raises: ConfigError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"--html: {escape_text(str(path))}: cannot be written: {error.strerror}") from None


def parse_limit(text: str | None) -> float | None:
    """Raises: MisuseError."""
    if text is None:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 100:
        raise MisuseError(f"--fail-under: {text!a}: expected percent, 0 to 100")
    return limit


def _judge(report: GapReport, limit: float) -> int:
    """Says which topics are below, on standard error."""
    below = [topic.quality for topic in report.topics if (topic.quality.coverage_pct or 0.0) < limit]
    for quality in below:
        name = escape_text(f"{quality.category}:{quality.symbol}", 60)
        sys.stderr.write(f"{name}: coverage {quality.coverage_pct or 0.0:.4f} % is below {limit:g} %\n")
    return EXIT_BELOW if below else EXIT_OK
