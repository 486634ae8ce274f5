"""Runs examinations side by side. Each has an end, and none can hide another's result."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from orderflow.doctor.findings import Blame, Check, failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class Exam(NamedTuple):
    """One examination: what it is called, should it not come to an end, and what makes its checks."""

    name: str
    run: Callable[[], Awaitable[Sequence[Check]]]


async def examine(exams: Sequence[Exam], limit_s: float) -> list[Check]:
    """Run all at once, each for `limit_s` at most. Returns: their checks, in the order of the exams."""
    results: list[Sequence[Check]] = [()] * len(exams)

    async def run(number: int, exam: Exam) -> None:
        results[number] = await _one(exam, limit_s)

    async with trio.open_nursery() as nursery:
        for number, exam in enumerate(exams):
            nursery.start_soon(run, number, exam)
    return [check for checks in results for check in checks]


async def _one(exam: Exam, limit_s: float) -> Sequence[Check]:
    began = trio.current_time()
    checks: Sequence[Check] = (
        failed(exam.name, f"not done after {limit_s:g} s", "run it again; if it stays: report it", Blame.NETWORK),
    )
    with trio.move_on_after(limit_s):
        try:
            checks = await exam.run()
        except Exception as exc:  # noqa: BLE001 - a bug in one check must not cost the results of the others
            checks = (failed(exam.name, f"a bug in this check: {_where(exc)}", "please report it", Blame.BUG),)
    took_ms = (trio.current_time() - began) * 1000
    return [msgspec.structs.replace(check, took_ms=took_ms) if check.took_ms is None else check for check in checks]


def _where(exc: BaseException) -> str:
    """Kind and place of an error. Not its text, which may hold anything."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} in {frame.name}, line {frame.lineno} of {frame.filename.rpartition('/')[2]}"
