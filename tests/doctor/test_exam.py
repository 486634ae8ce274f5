"""No examination can hide another's result, and each has an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import trio
import trio.testing

from orderflow.doctor.exam import Exam, examine
from orderflow.doctor.findings import Blame, Check, Status, exit_code, failed, passed, to_json, to_text, warned

if TYPE_CHECKING:
    from collections.abc import Sequence


async def fine() -> Sequence[Check]:
    await trio.sleep(2)
    return [passed("fine", "yes")]


async def breaks() -> NoReturn:
    raise KeyError("canary")


async def breaks_in_a_group() -> NoReturn:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaks)
        await trio.sleep_forever()
    raise AssertionError


async def hangs() -> NoReturn:
    await trio.sleep_forever()
    raise AssertionError


async def test_all_are_heard(autojump_clock: trio.testing.MockClock) -> None:
    exams = [Exam("1", breaks), Exam("2", hangs), Exam("3", breaks_in_a_group), Exam("4", fine)]
    checks = await examine(exams, 30)
    assert trio.current_time() <= 31
    assert [(check.name, check.status, check.took_ms) for check in checks] == [
        ("1", Status.FAIL, 0),
        ("2", Status.FAIL, 30_000),
        ("3", Status.FAIL, 0),
        ("fine", Status.PASS, 2_000),
    ]
    assert "KeyError in breaks" in checks[0].finding
    assert "canary" not in to_text(checks, colour=False) + to_json(checks)
    assert exit_code(checks) == Blame.BUG


async def test_side_by_side(autojump_clock: trio.testing.MockClock) -> None:
    await examine([Exam(str(number), fine) for number in range(20)], 30)
    assert trio.current_time() < 3


def test_what_must_be_mended_first_decides_the_exit_code() -> None:
    network, credentials = (failed("x", "", "", blame) for blame in (Blame.NETWORK, Blame.CREDENTIALS))
    settings = failed("x", "", "", Blame.SETTINGS)
    assert exit_code([]) == 0
    assert exit_code([passed("x", ""), warned("x", "", "")]) == 0
    assert exit_code([network]) == 4
    assert exit_code([network, credentials]) == 3
    assert exit_code([network, settings, credentials]) == 2


def test_text() -> None:
    checks = [passed("a", "good\x1b[2J"), warned("longer", "so so", "do\nthis")]
    assert to_text(checks, colour=False).splitlines() == [
        "pass  a       good\\x1b[2J",
        "warn  longer  so so",
        "              fix: do\\nthis",
        "",
        "1 passed, 1 to look at",
    ]
    assert to_text(checks, colour=True).startswith("\x1b[32mpass\x1b[0m  a  ")
