"""Text from outside made safe to show, and numbers as plain decimal text.

Whatever an exchange, a file or a plugin says may hold terminal commands, direction marks or a megabyte of nonsense.
What comes out of here is one line of bounded length, every character of which a terminal shows as itself.
"""

from __future__ import annotations

import math
import unicodedata
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ELLIPSIS: Final = "…"

_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Printable by Unicode category, yet invisible: fillers, joiners, variation selectors, the empty braille cell.
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_MARKS_IN_A_ROW: Final = 2  # more combining marks than any written language needs spill over the lines around


def escape_text(text: str, limit: int = 200) -> str:
    r"""Make text from outside safe for a terminal, a log line or a JSON string.

    Control characters (so ANSI sequences too), line breaks, direction marks, zero-width and unassigned characters,
    surrogates and stacked combining marks become visible escapes such as `\n`, `\x1b`, `\u202e`. Backslashes stay as
    they are, so escaping twice changes nothing.

    Args: text: anything; limit: most characters returned, >= 1.
    Returns: one printable line of at most `limit` characters; when cut, it ends in `… [N characters]`.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    return _bounded(_visible(text), len(text), "characters", limit)


def escape_bytes(data: bytes | bytearray | memoryview, limit: int = 200) -> str:
    r"""Like `escape_text` for bytes: printable ASCII as itself, all else as `\xNN`; cut ends in `… [N bytes]`."""
    head = bytes(data[:limit])
    pieces = (chr(byte) if 0x20 <= byte < 0x7F else _escape(chr(byte)) for byte in head)
    return _bounded(pieces, len(data), "bytes", limit)


def counted(number: int, noun: str) -> str:
    """`1 alert`, `2 alerts`, `0 alerts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain_decimal(value: float, decimals: int | None = None) -> str:
    """`value` as exact decimal text, never with an exponent and never rounded: 1e-07 -> `0.0000001`.

    The shortest text that reads back as the same float; so a float decoded from decimal text of at most 15
    significant digits gives back that number.

    Args: decimals: fraction digits to pad to; None: none beyond what the number needs.
    Raises: ValueError for NaN and infinities.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value!r} has no decimal text")
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0").ljust(decimals or 0, "0")
    if whole == "-0" and not fraction.strip("0"):
        whole = "0"
    return f"{whole}.{fraction}" if fraction else whole


def _visible(text: str) -> Iterable[str]:
    """Each character as what may be shown for it."""
    marks = 0
    for char in text:
        if char.isascii():
            marks = 0
            yield char if char.isprintable() else _escape(char)
            continue
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        hidden = not char.isprintable() or char in _INVISIBLE or marks > _MARKS_IN_A_ROW
        yield _escape(char) if hidden else char


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _bounded(pieces: Iterable[str], length: int, unit: str, limit: int) -> str:
    """Join `pieces` up to `limit` characters without cutting one in two; work is bounded by `limit` as well."""
    shown = list(islice(pieces, limit + 1))  # a piece is at least one character
    text = "".join(shown)
    if len(shown) == length and len(text) <= limit:
        return text
    suffix = f"{ELLIPSIS} [{length} {unit}]"
    if len(suffix) > limit:
        suffix = ELLIPSIS[:limit]
    room = limit - len(suffix)
    while shown and len(text) > room:
        text = text[: -len(shown.pop())]
    return text + suffix
