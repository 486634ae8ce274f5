"""What a foreign file says, message by message, whatever its layout; and what was wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from orderflow.core.errors import RecordingError
from orderflow.core.text import escape_text
from orderflow.core.types import Category

if TYPE_CHECKING:
    from pathlib import Path

FIRST_MS: Final = 1_514_764_800_000
LAST_MS: Final = 4_102_444_800_000
"""2018 (there was no exchange before) and 2100: no time outside is believed."""
_SHOWN: Final = 20
_INVERSE: Final = re.compile(r"[A-Z0-9]+USD(?:[FGHJKMNQUVXZ][0-9]{2})?\Z", re.ASCII)
_IN_NAME: Final = re.compile(r"(?<![a-z])(linear|inverse|spot)(?![a-z])")


class Heard(NamedTuple):
    """One message.

    Args:
        recv_ns: when it was received, wall clock; None: nobody noted.
        ts_ms: the exchange's `ts`; None: it has none (acknowledgements).
        connection: as the recorder named it, or "".
        topic: "" for acknowledgements and pongs.
    """

    recv_ns: int | None
    ts_ms: int | None
    category: Category
    connection: str
    topic: str
    raw: bytes


class LineProblem(ValueError):
    """A line that cannot be used; the text is for people."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a file that was left out: a line, or everything from byte `offset` on."""

    file: str
    line: int | None
    offset: int | None
    detail: str

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line is not None else f"at byte {self.offset}"
        return f"{escape_text(self.file, 200)}: {place}: {self.detail}"


class Problems:
    """What was left out of one file: all counted, the first of them kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: list[Problem] = []
        self.lines = 0
        self.damage: Problem | None = None

    def line(self, number: int, detail: str) -> None:
        self.lines += 1
        if len(self.first) < _SHOWN:
            problem = Problem(file=self.path.name, line=number, offset=None, detail=escape_text(detail, 200))
            self.first.append(problem)

    def broken(self, error: RecordingError) -> None:
        """Nothing behind this place can be read."""
        self.damage = Problem(
            file=self.path.name, line=None, offset=error.offset, detail=escape_text(error.detail, 200)
        )

    def all(self) -> list[Problem]:
        return [*self.first, *([self.damage] if self.damage is not None else [])]


def at_line(path: Path, number: int, detail: str, reason: str = "foreign") -> RecordingError:
    """A file that is refused because of one line."""
    return RecordingError(str(path), 0, reason, f"line {number}: {detail}")


def check_ms(ms: int) -> int:
    """Raises: LineProblem for a time that cannot be."""
    if not FIRST_MS <= ms < LAST_MS:
        raise LineProblem(f"an impossible time: {ms} ms")
    return ms


def decimal_ns(text: str, unit_digits: int) -> int:
    """Exact nanoseconds of decimal text. Args: unit_digits: 9 for seconds, 6 for milliseconds.

    Raises: LineProblem for text that is no plain number or no possible time.
    """
    whole, _, fraction = text.partition(".")
    if not (whole.isdigit() and whole.isascii() and len(whole) <= 20 and len(fraction) <= 20):
        raise LineProblem(f"no time: {text[:40]!r}")
    if fraction and not (fraction.isdigit() and fraction.isascii()):
        raise LineProblem(f"no time: {text[:40]!r}")
    scale: int = 10**unit_digits
    ns = int(whole) * scale + int(fraction[:unit_digits].ljust(unit_digits, "0") or 0)
    check_ms(ns // 1_000_000)
    return ns


def category_of_path(path: Path) -> Category | None:
    """What the file's name says, or else a folder of its path (`orderbook/linear/BTCUSDT/...`)."""
    for part in (path.name, *reversed(path.parent.parts)):
        found = _IN_NAME.search(part.lower())
        if found is not None:
            return Category(found[1])
    return None


def is_inverse(symbol: str) -> bool:
    """Whether a symbol is of an inverse contract, as far as its name tells: BTCUSD, BTCUSDH26."""
    return _INVERSE.match(symbol) is not None
