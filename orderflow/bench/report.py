"""What a bench run found, kept as one JSON object."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from orderflow.bench.compare import Change, compare
from orderflow.bench.frames import FrameFacts  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.bench.machine import Machine  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.bench.plan import Plan  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.bench.ratios import GOALS, Ratio, find_ratios
from orderflow.bench.results import LIMITS, Figure, Verdict, judge
from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FORMAT: Final = 2
"""Of the JSON object; another one is not read."""


Moment = Annotated[int, msgspec.Meta(ge=0, le=32_503_680_000_000)]
"""Wall clock, ms, until the year 3000."""


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """When and on what the run was measured that this one is compared with."""

    ts: Moment
    machine: Machine


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One bench run.

    Args: ts: its end, wall clock, ms; changes: against an earlier run, None when none was given; before: of that run.
    """

    event: str = "bench"
    format: int = FORMAT
    ts: Moment = 0
    ok: bool = True
    machine: Machine
    plan: Plan
    frames: tuple[FrameFacts, ...]
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    changes: tuple[Change, ...] | None = None
    before: Earlier | None = None


def make_report(
    machine: Machine, plan: Plan, frames: Iterable[FrameFacts], figures: Sequence[Figure], now_ms: int | None = None
) -> Report:
    """Judge what was measured."""
    verdicts, ratios = judge(figures, LIMITS), find_ratios(figures, GOALS)
    return Report(
        ts=now_ms or time.time_ns() // 1_000_000,
        ok=False not in [verdict.holds for verdict in verdicts] + [ratio.holds for ratio in ratios],
        machine=machine,
        plan=plan,
        frames=tuple(frames),
        figures=tuple(figures),
        verdicts=tuple(verdicts),
        ratios=tuple(ratios),
    )


def with_changes(report: Report, before: Report) -> Report:
    """The report with ratios to an earlier one."""
    changes = tuple(compare(report.figures, before.figures))
    return msgspec.structs.replace(report, changes=changes, before=Earlier(ts=before.ts, machine=before.machine))


def check_alike(plan: Plan, before: Report) -> None:
    """Raises: ConfigError when the earlier run was measured with other messages."""
    ours, theirs = ((each.windows, each.seed) for each in (plan, before.plan))
    if ours != theirs:
        raise ConfigError(
            f"option --compare: the earlier run had messages of {theirs[0]} states of a book, this one has {ours[0]};"
            " compare runs with --quick with each other, and runs without"
        )


def to_json(report: Report) -> str:
    """One line; every round of every figure, and its median round under `shown`."""
    fields: dict[str, Any] = msgspec.to_builtins(report)
    for figure, built in zip(report.figures, fields["figures"], strict=True):
        built["shown"] = msgspec.to_builtins(figure.shown)
    return msgspec.json.encode(fields).decode()


class _Head(msgspec.Struct):
    """What every bench report has, of whatever version."""

    event: str = ""
    format: int = 1


def read_report(path: Path, option: str, stages: Sequence[str] | None = None) -> Report:
    """What `to_json` wrote, judged afresh; of these stages, None for all. Raises: ConfigError naming the option."""
    where = f"option {option}: {escape_text(str(path), 300)}"
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{where}: {exc.strerror}") from None
    try:
        head = msgspec.json.decode(raw, type=_Head)
        if head.event != "bench":
            raise ConfigError(f"{where}: expected what `orderflow bench --json` prints")
        if head.format != FORMAT:
            raise ConfigError(f"{where}: of another version of the bench (format {head.format}, this is {FORMAT})")
        saved = msgspec.json.decode(raw, type=Report)
    except msgspec.MsgspecError as exc:
        reason = escape_text(str(exc), 200)
        raise ConfigError(f"{where}: expected what `orderflow bench --json` prints: {reason}") from None
    figures = [figure for figure in saved.figures if stages is None or figure.stage in stages]
    return make_report(saved.machine, saved.plan, saved.frames, figures, saved.ts)
