"""Topics, split by dots: prefix tests would confuse orderbook.1 with orderbook.1000."""

from __future__ import annotations

from typing import Final

import msgspec

from orderflow.core.errors import WireError
from orderflow.core.types import Category, InstrumentId, is_symbol

DEPTHS: Final = (1, 50, 200, 1000)
PUSH_INTERVAL_MS: Final = {1: 10, 50: 20, 200: 100, 1000: 200}


class Topic(msgspec.Struct, frozen=True, gc=False):
    """A parsed topic: `orderbook.50.BTCUSDT` is Topic("orderbook", "50", "BTCUSDT"); `param` may be ""."""

    kind: str
    param: str
    symbol: str

    def __str__(self) -> str:
        return ".".join(part for part in (self.kind, self.param, self.symbol) if part)


def parse_topic(text: str) -> Topic:
    """Raises: WireError (reason `topic`) for text that is not a public topic of one symbol."""
    parts = text.split(".")
    if len(parts) == 3 and parts[0] in ("orderbook", "kline"):
        kind, param, symbol = parts
    elif len(parts) == 2:
        (kind, symbol), param = parts, ""
    else:
        raise WireError("topic", f"not a topic: {text!r}", text)
    if not kind or not is_symbol(symbol) or (kind == "orderbook" and not (param.isascii() and param.isdigit())):
        raise WireError("topic", f"not a topic: {text!r}", text)
    return Topic(kind, param, symbol)


def book_topic(symbol: str, depth: int) -> str:
    return f"orderbook.{depth}.{symbol}"


class TopicTable:
    """Topic text -> instrument and depth, for one category: one dict look-up per message.

    With `learn`, any well-formed topic is known (recordings, replay); without, only what was added (a live link).
    """

    def __init__(self, category: Category, *, learn: bool = True) -> None:
        self.category = category
        self._learns = learn
        self.known: dict[str, tuple[InstrumentId, int]] = {}

    def add_book(self, instrument: InstrumentId, depth: int) -> str:
        topic = book_topic(instrument.symbol, depth)
        self.known[topic] = (instrument, depth)
        return topic

    def get(self, topic: str) -> tuple[InstrumentId, int] | None:
        """(instrument, depth) of a topic; depth 0 for topics that are no book. None: nothing of ours."""
        found = self.known.get(topic)
        if found is None and self._learns:
            found = self._learn(topic)
        return found

    def _learn(self, topic: str) -> tuple[InstrumentId, int] | None:
        """Topics of a known kind that nobody added (a recording, a replay): parsed once and kept, bounded."""
        try:
            parsed = parse_topic(topic)
        except WireError:
            return None
        depth = int(parsed.param) if parsed.kind == "orderbook" and len(parsed.param) <= 4 else 0
        if parsed.kind == "orderbook" and depth == 0:
            return None
        found = (InstrumentId(self.category, parsed.symbol), depth)
        if len(self.known) < 10_000:
            self.known[topic] = found
        return found
