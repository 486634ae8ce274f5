from __future__ import annotations

import re

import pytest

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.bybit.verbatim import TICKER_NUMBERS, book_numbers, fill_numbers, fills_text, ticker_text
from orderflow.core.errors import WireError
from orderflow.core.types import Category, TickerUpdate
from tests.export.tapes import book, liquidation, ticker, trade


def test_levels_as_they_were_sent() -> None:
    raw = book(5, [("86723.40", "0.320")], [("86723.4", "1")])
    assert book_numbers(raw) == ([("86723.40", "0.320")], [("86723.4", "1")])
    bare = raw.replace(b'"0.320"', b"0.320").replace(b'"86723.4"', b'"8672\\u0033.4"')
    assert book_numbers(bare) == ([("86723.40", "0.320")], [("86723.4", "1")])


@pytest.mark.parametrize(
    "raw, numbers",
    [
        (trade("86766.30", "0.001"), ("86766.30", "0.001")),
        (liquidation("4012.350", "2.50"), ("4012.350", "2.50")),
        (b'{"ts":1,"data":[{"p":7.10,"v":"\\u0031.0"}]}', ("7.10", "1.0")),  # a bare number, an escaped one
    ],
)
def test_fills_as_they_were_sent(raw: bytes, numbers: tuple[str, str]) -> None:
    (fill,) = fills_text(raw).data
    assert fill_numbers(fill) == numbers


def test_a_ticker_whole_and_its_numbers() -> None:
    raw = ticker(lastPrice="100.10", bid1Price="", markPrice="100.1500", preQty="")
    data, numbers = ticker_text(raw)
    assert data == '{"symbol":"BTCUSDT","lastPrice":"100.10","bid1Price":"","markPrice":"100.1500","preQty":""}'
    assert {name: text for name, text in numbers.items() if text is not None} == {"last": "100.10", "mark": "100.1500"}
    assert ticker_text(ticker(usdIndexPrice="9.0"))[1]["index"] == "9.0"


def test_its_names_are_those_of_the_codec() -> None:
    fields = {theirs: str(number) for number, theirs in enumerate(TICKER_NUMBERS.values(), 1)}
    raw = ticker(**fields)
    update = FeedCodec(TopicTable(Category.LINEAR)).decode(raw, 1, 1)
    assert isinstance(update, TickerUpdate)
    for name, text in ticker_text(raw)[1].items():
        assert text is not None
        assert getattr(update, name) == float(text)


@pytest.mark.parametrize("field", ["T", "seq", "ts"])
@pytest.mark.parametrize("number", ["-1", str(1 << 63), str(1 << 90)])
def test_what_is_read_here_fits_into_64_bits(field: str, number: str) -> None:
    """The codec, which judges, refuses what a file of whole numbers could not hold."""
    codec = FeedCodec(TopicTable(Category.LINEAR))
    raw = trade("1", "1")
    assert codec.decode(raw, 1, 1)
    wrong = re.sub(rb'"%s":[0-9]+' % field.encode(), b'"%s":%s' % (field.encode(), number.encode()), raw)
    assert wrong != raw
    with pytest.raises(WireError):
        codec.decode(wrong, 1, 1)
