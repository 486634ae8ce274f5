"""What a terminal must be able to do for the live view. Light: every run asks, also those that never draw."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALLEST: Final = (60, 16)
"""Columns and rows below which there is nothing useful to draw."""


def is_utf8(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").replace("_", "") == "utf8"


def can_show(fd: int, encoding: str | None, environ: Mapping[str, str]) -> bool:
    """Whether a live view makes sense here: a UTF-8 terminal that can move its cursor and is big enough."""
    if environ.get("TERM", "dumb") == "dumb" or not is_utf8(encoding) or not os.isatty(fd):
        return False
    size = os.get_terminal_size(fd)
    return size.columns >= SMALLEST[0] and size.lines >= SMALLEST[1]
