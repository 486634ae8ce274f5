"""What a check found, as data, as text for a person and as JSON."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

FINDING_LIMIT: Final = 400
_COLOURS: Final = {"pass": "32", "warn": "33", "fail": "1;31", "skip": "2"}


class Status(enum.StrEnum):
    PASS = "pass"
    WARN = "warn"  # a run works, but not as it could
    FAIL = "fail"
    SKIP = "skip"  # not needed, or impossible because of another failure


class Blame(enum.IntEnum):
    """What kind of failure it is: its exit code."""

    BUG = 1
    SETTINGS = 2  # or the installation, a plugin: something on this computer
    CREDENTIALS = 3
    NETWORK = 4


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. All texts are safe to show. `took_ms` is None until whoever ran it fills it in."""

    name: str
    status: Status
    finding: str
    fix: str = ""
    took_ms: float | None = None
    blame: Blame = Blame.SETTINGS  # of a failure


def passed(name: str, finding: str, took_ms: float | None = None) -> Check:
    return Check(name=name, status=Status.PASS, finding=_safe(finding), took_ms=took_ms)


def skipped(name: str, finding: str) -> Check:
    return Check(name=name, status=Status.SKIP, finding=_safe(finding))


def warned(name: str, finding: str, fix: str, took_ms: float | None = None) -> Check:
    return Check(name=name, status=Status.WARN, finding=_safe(finding), fix=_safe(fix), took_ms=took_ms)


def failed(name: str, finding: str, fix: str, blame: Blame) -> Check:
    return Check(name=name, status=Status.FAIL, finding=_safe(finding), fix=_safe(fix), blame=blame)


def exit_code(checks: Sequence[Check]) -> int:
    """0 when nothing failed, else the code of what has to be mended first: the lowest."""
    return min((check.blame for check in checks if check.status is Status.FAIL), default=0)


def to_json(checks: Sequence[Check]) -> str:
    """One object: {ok, exit_code, checks: [{name, status, finding, fix, took_ms}]}."""
    code = int(exit_code(checks))
    rows = [
        {
            "name": check.name,
            "status": check.status,
            "finding": check.finding,
            "fix": check.fix,
            "took_ms": round(check.took_ms or 0.0, 1),
        }
        for check in checks
    ]
    whole = {"ok": code == 0, "exit_code": code, "checks": rows}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def to_text(checks: Sequence[Check], *, colour: bool) -> str:
    """One line for each check, its cure below it, and a last line that counts."""
    width = max((len(check.name) for check in checks), default=0)
    lines: list[str] = []
    for check in checks:
        lines.append(f"{_paint(check.status, check.status, colour)}  {check.name:<{width}}  {check.finding}")
        if check.fix:
            lines.append(f"{'':4}  {'':<{width}}  fix: {check.fix}")
    return "\n".join((*lines, "", _count(checks)))


def _count(checks: Sequence[Check]) -> str:
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    words = {"pass": "passed", "warn": "to look at", "fail": "failed", "skip": "skipped"}
    return ", ".join(f"{count} {words[status]}" for status, count in counts.items() if count)


def _paint(text: str, status: Status, colour: bool) -> str:
    return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m" if colour else text


def _safe(text: str) -> str:
    return escape_text(text, FINDING_LIMIT)
