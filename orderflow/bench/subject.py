"""What every stage measures with; light, because measured processes import it too."""

from __future__ import annotations

from typing import Final

from orderflow.core.types import Category, InstrumentId

INSTRUMENT: Final = InstrumentId(Category.LINEAR, "BTCUSDT")
FIRST_U: Final = 1_000_000
"""`u` of the snapshot; deltas count on from it."""


def many_symbols(count: int) -> tuple[str, ...]:
    """Names for so many topics of one category."""
    return tuple(f"B{number:04d}USDT" for number in range(count))
