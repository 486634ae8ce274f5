"""Conversions between units, in one place."""

from __future__ import annotations

from typing import Final

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""


def seconds_to_ns(seconds: float) -> int:
    """Seconds to whole nanoseconds, rounded."""
    return round(seconds * NS)
