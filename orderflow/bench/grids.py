"""A report as grids of text: what every way of showing it has in common."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from orderflow.bench.options import CHOICES, PEER_STAGES, STAGES
from orderflow.bench.results import LIMITS, limit_of
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.bench.compare import Change
    from orderflow.bench.ratios import Ratio
    from orderflow.bench.report import Report
    from orderflow.bench.results import Figure, Verdict

Row = tuple[str, ...]
HOLDS: Final = "holds"
BROKEN: Final = "BROKEN"


class Grid(NamedTuple):
    """`texts`: how many columns from the left are words; the others are numbers."""

    title: str
    headings: Row
    rows: list[Row]
    texts: int


def machine_lines(report: Report) -> list[str]:
    """What was measured with and on what."""
    machine, plan = report.machine, report.plan
    load = "" if machine.load is None else f", load {machine.load:g}"
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    lines = [
        f"{_when(report.ts)} · orderflow {machine.orderflow} · {machine.python} · {packages}",
        f"{machine.cpu}, {machine.cores} cores{load} · {machine.system}",
        f"reading the clock takes {machine.clock_ns:g} ns · a sleep of 2 ms ends {machine.wake_us:g} us late",
        f"rounds: {plan.rounds}, the median one is shown, worst is of all, ± is how far their medians lie apart",
        f"hot: back to back · cold: {plan.rate:g}/s, asleep in between",
    ]
    lines += [
        f"messages at depth {facts.depth}: {facts.levels:g} changed levels (up to {facts.levels_max}),"
        f" {facts.bytes:.0f} bytes, {facts.distinct} different ones"
        for facts in report.frames
    ]
    return [escape_text(line, 500) for line in lines]  # a saved report may come from anywhere


def grids(report: Report) -> list[Grid]:
    """Everything, in the order it is read; columns in which nothing stands are left out."""
    found = [
        Grid(
            f"{stage}: {title}",
            _FIGURE,
            [_row(figure, report) for figure in report.figures if figure.stage == stage],
            2,
        )
        for stage, title in STAGES.items()
        if stage != CHOICES
    ]
    found.append(Grid(f"{CHOICES}: {STAGES[CHOICES]}", _CHOICE, _choice_rows(report), 2))
    found.append(Grid("ratios of this run (more than 1 is better)", _RATIO, _ratio_rows(report.ratios), 2))
    found.append(
        Grid(
            "limits", _LIMIT, [_verdict_row(verdict) for verdict in report.verdicts if verdict.measured is not None], 1
        )
    )
    if report.changes is not None:
        rows = [*map(_change_row, report.changes)]
        found.append(Grid(f"against the run of {_before(report)} (more than 1 is better now)", _CHANGE, rows, 3))
    return [_narrowed(grid) for grid in found if grid.rows]


def _when(ts: int) -> str:
    return f"{datetime.datetime.fromtimestamp(ts / 1000, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _before(report: Report) -> str:
    """When the earlier run was, and what it was measured on where that was not this."""
    if report.before is None:
        return "before"
    then, now = report.before.machine, report.machine
    other = [
        name
        for name, ours in (
            (then.cpu, now.cpu),
            (then.python, now.python),
            (f"{then.cores} cores", f"{now.cores} cores"),
        )
        if name != ours
    ]
    load = [f"load {then.load:g}"] if then.load is not None else []
    return escape_text(", ".join([_when(report.before.ts), *load, *other]), 200)


def closing_lines(report: Report) -> list[str]:
    """What the figures rest on."""
    lines = []
    if any(figure.stage in (*PEER_STAGES, "scale") for figure in report.figures):
        lines.append("every client ended with the server's books, level by level; no message was lost")
    if any(figure.stage == CHOICES for figure in report.figures):
        lines.append("every way of a choice ended with the same book, or read the same in each message")
    unknown = [verdict.limit.title for verdict in report.verdicts if verdict.measured is None]
    if unknown and len(unknown) < len(report.verdicts):  # choices alone promise nothing
        lines.append(f"limits not measured: {'; '.join(unknown)}")
    if report.changes == ():
        lines.append("the earlier run measured nothing that this one did")
    return lines


_FIGURE: Final[Row] = ("", "case", "depth", "at", "samples", "median", "±", "p99", "p99.9", "worst", "limit", " ")


def _row(figure: Figure, report: Report) -> Row:
    shown, limit = figure.shown, limit_of(figure, LIMITS)
    many = figure.is_distribution
    judged = next((verdict for verdict in report.verdicts if verdict.limit == limit), None)
    judged_here = limit is not None and limit.case == figure.case
    return (
        escape_text(figure.name, 60),
        escape_text(figure.case, 60),
        _depth(figure.depth),
        _rate(figure.rate),
        str(shown.count),
        f"{number(shown.p50)} {escape_text(figure.unit, 20)}".rstrip(),
        _noise(figure.noise) if len(figure.rounds) > 1 else "",
        number(shown.p99) if many else "",
        number(shown.p999) if many and shown.count >= _ENOUGH else "",
        number(shown.max),
        f"{limit.statistic} < {limit.ceiling:g}" if limit is not None else "",
        _mark(judged.holds) if judged is not None and judged_here else "",
    )


_ENOUGH: Final = 1000  # samples for a p99.9 that is not just the worst
_RATIO: Final[Row] = ("", "case", "against", "depth", "at", "median", "rounds", "p99", "promised", " ")


def _ratio_rows(ratios: Sequence[Ratio]) -> list[Row]:
    """One row for the median and the 99th percentile of the same two figures."""
    found: dict[tuple[object, ...], dict[str, Ratio]] = {}
    for ratio in ratios:
        if ratio.stage == CHOICES:  # stand beside their figures
            continue
        key = (ratio.stage, ratio.name, ratio.case, ratio.against, ratio.depth, ratio.rate)
        found.setdefault(key, {})[ratio.statistic] = ratio
    return [_ratio_row(pair["p50"], pair.get("p99")) for pair in found.values()]


def _ratio_row(median: Ratio, p99: Ratio | None) -> Row:
    promised = [each for each in (median, p99) if each is not None and each.floor is not None]
    tls = " over TLS" if median.stage == "tls" else ""
    return (
        f"{escape_text(median.name, 60)}{tls}",
        escape_text(median.case, 60),
        escape_text(median.against, 60),
        _depth(median.depth),
        _rate(median.rate),
        f"{median.value:.2f}",
        f"{median.least:.2f} to {median.most:.2f}",
        f"{p99.value:.2f}" if p99 is not None else "",
        ", ".join(f"{'p99 ' if each is p99 else ''}{each.floor:.2f}" for each in promised),
        _mark(all(each.holds for each in promised)) if promised else "",
    )


_CHOICE: Final[Row] = ("", "way", "depth", "at", "median", "±", "p99", "times ours", "rounds", "p99 times ours")


def _choice_rows(report: Report) -> list[Row]:
    """Every way, ours first: what it takes, and how many times what ours takes."""
    ratios = {
        (ratio.name, ratio.against, ratio.depth, ratio.rate, ratio.statistic): ratio
        for ratio in report.ratios
        if ratio.stage == CHOICES
    }
    return [
        _choice_row(
            figure,
            *(ratios.get((figure.name, figure.case, figure.depth, figure.rate, which)) for which in ("p50", "p99")),
        )
        for figure in report.figures
        if figure.stage == CHOICES
    ]


def _choice_row(figure: Figure, median: Ratio | None, p99: Ratio | None) -> Row:
    shown = figure.shown
    return (
        escape_text(figure.name, 60),
        escape_text(figure.case, 60),
        _depth(figure.depth),
        _rate(figure.rate),
        f"{number(shown.p50)} {escape_text(figure.unit, 20)}".rstrip(),
        _noise(figure.noise) if len(figure.rounds) > 1 else "",
        number(shown.p99) if figure.is_distribution else "",
        _times(median.value) if median is not None else "ours",
        f"{_times(median.least)} to {_times(median.most)}" if median is not None and len(figure.rounds) > 1 else "",
        _times(p99.value) if p99 is not None else "",
    )


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


_LIMIT: Final[Row] = ("", "must be", "measured", " ")


def _verdict_row(verdict: Verdict) -> Row:
    limit = verdict.limit
    wanted = f"{limit.statistic} < {limit.ceiling:g} {limit.unit}"
    return limit.title, wanted, f"{number(verdict.measured or 0.0)} {limit.unit}", _mark(verdict.holds)


_CHANGE: Final[Row] = ("stage", "", "case", "depth", "at", "before", "now", "ratio", "p99", "noise", " ")


def _change_row(change: Change) -> Row:
    unit = escape_text(change.unit, 20)
    return (
        escape_text(change.stage, 20),
        escape_text(change.name, 60),
        escape_text(change.case, 60),
        _depth(change.depth),
        _rate(change.rate),
        f"{number(change.before)} {unit}".rstrip(),
        f"{number(change.now)} {unit}".rstrip(),
        f"{change.ratio:.2f}",
        f"{change.p99_ratio:.2f}" if change.p99_ratio is not None else "",
        _noise(change.noise),
        ("better" if change.ratio > 1 else "worse") if change.matters else "",
    )


def _noise(share: float) -> str:
    return f"{share:.0%}" if share < _WILD else f"over {_WILD:.0%}"


_WILD: Final = 10.0
"""Next to nothing in one round and something in another: more digits say no more."""


def _mark(holds: bool | None) -> str:
    return "" if holds is None else HOLDS if holds else BROKEN


def _depth(depth: int | None) -> str:
    return "" if depth is None else str(depth)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:g}/s"


def _narrowed(grid: Grid) -> Grid:
    """Without columns in which nothing stands."""
    keep = [column for column in range(len(grid.headings)) if any(row[column] for row in grid.rows)]

    def chosen(row: Sequence[str]) -> Row:
        return tuple(row[column] for column in keep)

    texts = sum(column < grid.texts for column in keep)
    return Grid(grid.title, chosen(grid.headings), [chosen(row) for row in grid.rows], texts)


def number(value: float) -> str:
    """Three significant digits, never an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
