"""`orderflow soak`: prove on this machine that the monitor keeps its promises."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from orderflow.core.text import escape_text
from orderflow.soak.run import SHOWN, Report, SoakPlan, soak

if TYPE_CHECKING:
    import argparse

BROKEN: Final = 1
INTERRUPTED: Final = 130


def main(args: argparse.Namespace) -> int:
    """Returns: 0 when every promise was kept, 1 otherwise, 130 when a second Ctrl-C ended it."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())  # each fault would be told twice
    plan = SoakPlan(duration_s=args.duration, seed=args.seed, rate=args.rate)
    report: Report | None = None
    try:
        report = trio.run(partial(soak, plan, _quiet if args.quiet or args.json else _say))
    except* KeyboardInterrupt:
        pass  # there is nothing to report
    if report is None:
        return INTERRUPTED
    text = msgspec.json.format(msgspec.json.encode(report), indent=1).decode() if args.json else format_report(report)
    sys.stdout.write(text + "\n")
    return 0 if report.kept else BROKEN


def format_report(report: Report) -> str:
    """The report for people."""
    lines = []
    for check in report.checks:
        lines.append(f"{'kept  ' if check.kept else 'BROKEN'} {check.name}")
        lines += [f"         {escape_text(line, 300)}" for line in check.wrong[:SHOWN]]
        if len(check.wrong) > SHOWN:
            lines.append(f"         ... and {len(check.wrong) - SHOWN} more")
    lines += [f"UNSURE {escape_text(line, 300)}" for line in report.unsure]
    facts, before, after = report.facts, report.before, report.after
    faults = sum(facts["faults"].values())
    lost = ", ".join(f"{count} {reason}" for reason, count in facts["losses"].items()) or "none"
    memory = " -> ".join(f"{size / 2**20:.1f}" for size in facts["program_rss"]) or "unknown"
    lines += [
        f"{faults} faults of {len(facts['faults'])} kinds in {report.plan.duration_s:g} s, seed {report.plan.seed}; "
        f"{facts['connections']} connections; losses: {lost}",
        f"{facts['freezes']} times stopped and continued, {facts['kills']} times killed, "
        f"clock set {facts['clock_jumps']} times; starved for {facts['longest_starved_s']:g} s at the longest, "
        f"{facts['starved_s'][0]:g} s in all (the program {facts['starved_s'][1]:g} s), "
        f"{facts['had_s']:g} s of faults in the time there was",
        f"{facts['gaps']} gaps seen ({facts['gaps_shown']} shown to books that were whole), "
        f"{facts['resyncs']} resyncs, {facts['refused']} messages refused, {facts['ticks_judged']} ticks judged",
        f"program: {memory} MiB (second half {facts['program_growth'] / 2**20:+.2f} MiB); "
        f"soak: {before.rss_bytes / 2**20:.0f} -> {after.rss_bytes / 2**20:.0f} MiB, "
        f"descriptors {before.descriptors} -> {after.descriptors}, tasks {before.tasks} -> {after.tasks}",
    ]
    if report.folder:
        lines.append(f"the exchange's log, the program's output and recordings: {escape_text(report.folder, 300)}")
    lines.append(_verdict(report))
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    if not report.kept:
        return "PROMISES WERE BROKEN"
    return "what could be judged was kept, the machine gave too little" if report.unsure else "every promise was kept"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _quiet(text: str) -> None:
    """Nothing: only the report counts."""
