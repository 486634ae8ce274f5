"""Topics: split by dots, looked up, learnt within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.bybit.topics import DEPTHS, PUSH_INTERVAL_MS, Topic, TopicTable, book_topic, parse_topic
from orderflow.core.errors import WireError
from orderflow.core.types import Category, InstrumentId

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("orderbook.1.BTCUSDT", Topic("orderbook", "1", "BTCUSDT")),
        ("orderbook.1000.BTCUSDT", Topic("orderbook", "1000", "BTCUSDT")),
        ("orderbook.50.1000PEPEUSDT", Topic("orderbook", "50", "1000PEPEUSDT")),
        ("kline.D.BTCUSD", Topic("kline", "D", "BTCUSD")),
        ("publicTrade.BTCUSDT", Topic("publicTrade", "", "BTCUSDT")),
        ("tickers.BTC-26MAR27", Topic("tickers", "", "BTC-26MAR27")),
    ],
)
def test_topics_are_taken_apart_and_put_together(text: str, topic: Topic) -> None:
    assert parse_topic(text) == topic
    assert str(topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "orderbook",
        "orderbook.50",
        "orderbook.50.",
        "orderbook..BTCUSDT",
        "orderbook.fifty.BTCUSDT",
        "orderbook.-1.BTCUSDT",
        "orderbook.\u0665\u0660.BTCUSDT",
        "orderbook.50.BTCUSDT.x",
        "orderbook.50.btcusdt",
        "publicTrade.",
        ".BTCUSDT",
        "publicTrade.BTC USDT",
        "publicTrade.BTCUSDT\n",
        "trade.50.BTCUSDT",
    ],
)
def test_what_is_no_topic_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_topic(text)
    assert (caught.value.reason, caught.value.topic) == ("topic", text)


@given(st.text(max_size=40))
def test_any_text_is_a_topic_or_a_wire_error(text: str) -> None:
    try:
        topic = parse_topic(text)
    except WireError:
        return
    assert str(topic) == text


def test_depths_and_their_intervals_are_the_venues() -> None:
    assert DEPTHS == (1, 50, 200, 1000)
    assert PUSH_INTERVAL_MS == {1: 10, 50: 20, 200: 100, 1000: 200}


def test_book_topics_of_every_depth_are_different_topics() -> None:
    names = {book_topic("BTCUSDT", depth) for depth in DEPTHS}
    assert len(names) == len(DEPTHS) == len(PUSH_INTERVAL_MS)
    assert all(parse_topic(name).symbol == "BTCUSDT" for name in names)


def test_a_live_table_knows_only_what_was_added() -> None:
    table = TopicTable(Category.LINEAR, learn=False)
    assert table.add_book(BTC, 50) == "orderbook.50.BTCUSDT"
    assert table.get("orderbook.50.BTCUSDT") == (BTC, 50)
    for other in ("orderbook.5.BTCUSDT", "orderbook.500.BTCUSDT", "orderbook.50.BTCUSD", "tickers.BTCUSDT", ""):
        assert table.get(other) is None


def test_a_learning_table_takes_any_well_formed_topic() -> None:
    table = TopicTable(Category.SPOT)
    spot = InstrumentId(Category.SPOT, "BTCUSDT")
    assert table.get("orderbook.200.BTCUSDT") == (spot, 200)
    assert table.get("orderbook.1000.BTCUSDT") == (spot, 1000)
    assert table.get("tickers.BTCUSDT") == (spot, 0)
    for bad in ("orderbook.0.BTCUSDT", "orderbook.99999.BTCUSDT", "nonsense", "orderbook.x.BTCUSDT"):
        assert table.get(bad) is None


def test_what_a_learning_table_remembers_is_bounded() -> None:
    table = TopicTable(Category.SPOT)
    for number in range(10_050):
        found = table.get(f"tickers.S{number}")
        assert found == (InstrumentId(Category.SPOT, f"S{number}"), 0)
    assert len(table.known) == 10_000
