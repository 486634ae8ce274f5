"""What a tuned, hand-rolled client does with a message: typed decode into this program's own levels, and no checks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.topics import book_topic
from orderflow.bybit.wire import WireBook
from orderflow.core.book import Levels

if TYPE_CHECKING:
    from orderflow.bench.client import Job, Sheet

_HEAD: Final = b'{"topic":"orderbook.'
_decode: Final = msgspec.json.Decoder(WireBook, strict=False).decode


def subscription(depth: int) -> str:
    """What a client sends first."""
    return f'{{"op":"subscribe","args":["{book_topic(INSTRUMENT.symbol, depth)}"]}}'


class Keeper:
    """Keeps the one book."""

    def __init__(self, job: Job, sheet: Sheet) -> None:
        self._levels = Levels()
        self._note = Noter(job, sheet)
        self._depth = job.depth
        self._sheet = sheet

    def take(self, raw: bytes) -> bool:
        """Handle one message. Returns: whether it was the last; then the sheet has the book."""
        if not raw.startswith(_HEAD):
            return False
        message = _decode(raw)
        data = message.data
        if message.type == "snapshot":
            self._levels.replace(data.b, data.a)
            return False
        self._levels.apply(data.b, data.a)
        if not self._note(data.u):
            return False
        self._sheet.keep(self._levels.top_bids(self._depth), self._levels.top_asks(self._depth))
        return True


class Noter:
    """Tells the sheet what it wants to know of each delta; True for the last."""

    def __init__(self, job: Job, sheet: Sheet) -> None:
        self._stamp = job.stamp
        self._last_u = job.last_u
        self._sheet = sheet

    def __call__(self, u: int) -> bool:
        if self._stamp:
            self._sheet.stamps.append(time.monotonic_ns())
        if self._stamp or u == self._last_u or not self._sheet.began:
            self._sheet.mark(u)
        return u == self._last_u
