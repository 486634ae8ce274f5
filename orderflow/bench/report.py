"""What a bench run found, as a table for people and as one JSON object for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.bench.frames import FrameFacts  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.bench.machine import Machine  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.bench.options import STAGES
from orderflow.bench.plan import Plan  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.bench.results import LIMITS, Figure, Verdict, judge, limit_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

Row = tuple[str, ...]

HEADINGS: Final[Row] = ("", "case", "depth", "at", "samples", "median", "p99", "p99.9", "worst", "limit", "")
_TABLE_WIDTH: Final = 110
_LEFT: Final = (0, 1)  # columns of text; the others are numbers


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One bench run. `ratios`: orderflow against the other clients, more than 1 is better."""

    machine: Machine
    plan: Plan
    frames: tuple[FrameFacts, ...]
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]
    ratios: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether no limit is broken."""
        return all(verdict.holds is not False for verdict in self.verdicts)


def make_report(machine: Machine, plan: Plan, frames: Iterable[FrameFacts], figures: Sequence[Figure]) -> Report:
    return Report(
        machine=machine,
        plan=plan,
        frames=tuple(frames),
        figures=tuple(figures),
        verdicts=tuple(judge(figures, LIMITS)),
        ratios=find_ratios(figures),
    )


def find_ratios(figures: Sequence[Figure]) -> dict[str, float]:
    """How many times better orderflow's median is than each other client's, by what was measured and depth."""
    ratios = {}
    ours = {(figure.name, figure.depth): figure for figure in figures if figure.case == "orderflow"}
    for figure in figures:
        mine = ours.get((figure.name, figure.depth))
        if mine is None or figure.case == "orderflow":
            continue
        ratio = mine.shown.p50 / figure.shown.p50 if figure.more_is_better else figure.shown.p50 / mine.shown.p50
        ratios[f"{figure.name}, depth {figure.depth}, against {figure.case}"] = round(ratio, 2)
    return ratios


# --- JSON ---------------------------------------------------------------------------------------------------------


def to_json(report: Report, now_ms: int | None = None) -> str:
    """One line; every round of every figure, and its median round under `shown`."""
    fields: dict[str, Any] = msgspec.to_builtins(report)
    for figure, built in zip(report.figures, fields["figures"], strict=True):
        built["shown"] = msgspec.to_builtins(figure.shown)
    head = {"event": "bench", "ts": now_ms or time.time_ns() // 1_000_000, "ok": report.holds}
    return msgspec.json.encode({**head, **fields}).decode()


# --- the table ----------------------------------------------------------------------------------------------------


def write_table(report: Report, out: TextIO) -> None:
    """Plain text; on a terminal with rich."""
    if out.isatty():
        _write_rich(report, out)
        return
    out.write("\n".join([*machine_lines(report), ""]) + "\n")
    for title, rows in sections(report):
        out.write(f"{title}\n")
        out.write("\n".join(align([HEADINGS, *rows])) + "\n\n")
    out.write("\n".join(closing_lines(report)) + "\n")


def machine_lines(report: Report) -> list[str]:
    """What was measured with and on what."""
    machine, plan = report.machine, report.plan
    load = "" if machine.load is None else f", load {machine.load:g}"
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    lines = [
        f"orderflow {machine.orderflow} · {machine.python} · {packages}",
        f"{machine.cpu}, {machine.cores} cores{load} · {machine.system}",
        f"reading the clock takes {machine.clock_ns:g} ns · a sleep of 2 ms ends {machine.wake_us:g} us late",
        f"rounds: {plan.rounds}, the median one is shown, worst is of all · hot: back to back · cold: {plan.rate:g}/s,"
        " asleep in between",
    ]
    lines += [
        f"messages at depth {facts.depth}: {facts.levels:g} changed levels (up to {facts.levels_max}),"
        f" {facts.bytes:.0f} bytes, {facts.distinct} different ones"
        for facts in report.frames
    ]
    return lines


def sections(report: Report) -> list[tuple[str, list[Row]]]:
    """(title, rows) of each stage that was measured."""
    found = []
    for stage, title in STAGES.items():
        rows = [_row(figure, report.verdicts) for figure in report.figures if figure.stage == stage]
        if rows:
            found.append((f"{stage}: {title}", rows))
    return found


def _row(figure: Figure, verdicts: Sequence[Verdict]) -> Row:
    shown, limit = figure.shown, limit_of(figure, LIMITS)
    spread = figure.is_distribution
    judged = next((verdict for verdict in verdicts if verdict.limit == limit and limit is not None), None)
    mark = ""
    if limit is not None and limit.case == figure.case and judged is not None:
        mark = "holds" if judged.holds else "BROKEN"
    return (
        figure.name,
        figure.case,
        str(figure.depth) if figure.depth is not None else "",
        f"{figure.rate:g}/s" if figure.rate is not None else "",
        str(shown.count),
        f"{number(shown.p50)} {figure.unit}",
        number(shown.p99) if spread else "",
        number(shown.p999) if spread else "",
        number(shown.max),
        f"{limit.statistic} < {limit.ceiling:g}" if limit is not None else "",
        mark,
    )


def number(value: float) -> str:
    """Three significant digits, never an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def align(rows: Sequence[Row]) -> list[str]:
    """Rows as lines with aligned columns: text to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def closing_lines(report: Report) -> list[str]:
    """Ratios, then the limits."""
    lines = [f"orderflow is {ratio:.2f} times better: {what}" for what, ratio in report.ratios.items()]
    if any(figure.stage in ("flood", "paced") for figure in report.figures):
        lines.append("every client ended with the server's book, level by level; no message was lost")
    for verdict in report.verdicts:
        limit = verdict.limit
        text = f"limit {limit.title} {limit.statistic} < {limit.ceiling:g} {limit.unit}"
        if verdict.measured is None:
            lines.append(f"{text}: not measured")
        else:
            lines.append(f"{text}: {'holds' if verdict.holds else 'BROKEN'} at {number(verdict.measured)}")
    return lines


def _write_rich(report: Report, out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False)
    console.width = max(console.width, _TABLE_WIDTH)  # a figure that wraps is better than one that is cut short
    for line in machine_lines(report):
        console.print(Text(line, style="dim"))
    for title, rows in sections(report):
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if column in _LEFT else "right", no_wrap=True)
        for row in rows:
            style = "red bold" if row[-1] == "BROKEN" else ""
            table.add_row(*(Text(cell) for cell in row), style=style)
        console.print()
        console.print(table)
    console.print()
    for line in closing_lines(report):
        console.print(Text(line, style="red bold" if "BROKEN" in line else ""))
