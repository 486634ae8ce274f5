"""`orderflow bench`: measure or look up, print, judge."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow.bench.machine import describe_machine
from orderflow.bench.plan import make_plan
from orderflow.bench.report import check_alike, make_report, read_report, to_json, with_changes
from orderflow.bench.stages import Bench
from orderflow.bench.table import write_markdown, write_table
from orderflow.core.errors import ConfigError, OrderflowError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import FrameType

    from orderflow.bench.report import Report

EXIT_BROKEN: Final = 1
EXIT_TERMINATED: Final = 143


def main(args: argparse.Namespace) -> int:
    """Run `orderflow bench`. Returns: 0; 1 when a limit is broken or something measured did not do its work.

    Raises: ConfigError for options that cannot be and files that are no report.
    """
    _check_report(args)
    before = read_report(Path(args.compare), "--compare") if args.compare else None  # before minutes of measuring
    try:
        report = _saved(args, before) if args.report else _measure(args, before)
    except ConfigError:
        raise
    except OrderflowError as exc:
        sys.stderr.write(f"orderflow bench: {escape_text(str(exc), 1000)}\n")
        return EXIT_BROKEN
    _show(with_changes(report, before) if before is not None else report, args)
    return 0 if report.ok else EXIT_BROKEN


def _check_report(args: argparse.Namespace) -> None:
    """An earlier run is shown as it was. Raises: ConfigError for options about what to measure."""
    measuring = ("quick", "depth", "rate", "rounds", "peers", "peers_python")
    given = [f"--{name.replace('_', '-')}" for name in measuring if getattr(args, name) not in (None, False)]
    if args.report and given:
        raise ConfigError(f"option --report: nothing is measured; leave out {', '.join(given)}")


def _saved(args: argparse.Namespace, before: Report | None) -> Report:
    """Raises: ConfigError."""
    report = read_report(Path(args.report), "--report", args.only)
    if before is not None:
        check_alike(report.plan, before)
    return report


def _measure(args: argparse.Namespace, before: Report | None) -> Report:
    """Raises: OrderflowError when something measured did not do its work; ConfigError."""
    plan = make_plan(args)
    if before is not None:
        check_alike(plan, before)
    bench = Bench(plan, _say)
    with _children_end_with_us():
        machine = describe_machine()
        return make_report(machine, plan, bench.frame_facts(), bench.run())


def _show(report: Report, args: argparse.Namespace) -> None:
    if args.json:
        sys.stdout.write(to_json(report) + "\n")
    elif args.markdown:
        write_markdown(report, sys.stdout)
    else:
        write_table(report, sys.stdout)


@contextmanager
def _children_end_with_us() -> Iterator[None]:
    """SIGTERM unwinds instead of ending us on the spot, so that no server or monitor of ours stays behind."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(stage: str) -> None:
    """People who wait want to know what for."""
    if sys.stderr.isatty():
        sys.stderr.write(f"measuring {stage} ...\n")
