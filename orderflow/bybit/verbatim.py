"""Messages with every number as the exchange wrote it: for files that must give back the text, digit by digit.

Only for messages that the codec has accepted: the codec judges, this reads.
"""

from __future__ import annotations

from typing import Final

import msgspec

from orderflow.bybit.wire import TextBook, TextFill, TextFills, TextTicker, WireTickerData, number_text

TextLevels = list[tuple[str, str]]
"""(price, size) of each level, as the exchange wrote them."""

fills_text: Final = msgspec.json.Decoder(TextFills, strict=False).decode
_book: Final = msgspec.json.Decoder(TextBook, strict=False)
_ticker: Final = msgspec.json.Decoder(TextTicker, strict=False)
_ticker_data: Final = msgspec.json.Decoder(WireTickerData, strict=False)

TICKER_NUMBERS: Final = {
    "last": "lastPrice",
    "bid": "bid1Price",
    "bid_size": "bid1Size",
    "ask": "ask1Price",
    "ask_size": "ask1Size",
    "mark": "markPrice",
    "index": "indexPrice",
    "open_interest": "openInterest",
    "funding_rate": "fundingRate",
}
"""Fields of `core.types.TickerUpdate` and the exchange's names for them."""


def book_numbers(raw: bytes) -> tuple[TextLevels, TextLevels]:
    """(bids, asks) of a book message."""
    data = _book.decode(raw).data
    bids, asks = ([(number_text(price), number_text(size)) for price, size in side] for side in (data.b, data.a))
    return bids, asks


def fill_numbers(fill: TextFill) -> tuple[str, str]:
    """(price, size) of a trade or a liquidation."""
    return number_text(fill.p), number_text(fill.v)


def ticker_text(raw: bytes) -> tuple[str, dict[str, str | None]]:
    """(the whole `data` object, its numbers by the names of `TickerUpdate`; None: absent or empty)."""
    data = bytes(_ticker.decode(raw).data)
    fields = _ticker_data.decode(data)
    numbers = {name: getattr(fields, theirs) or None for name, theirs in TICKER_NUMBERS.items()}
    numbers["index"] = numbers["index"] or fields.usdIndexPrice or None
    return data.decode(), numbers
