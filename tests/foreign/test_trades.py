"""Trade files as messages of the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.types import Category, Trade
from orderflow.foreign import trades
from orderflow.foreign.heard import Heard, LineProblem
from orderflow.foreign.trades import Row, TradeLines, sort_rows, symbol_of_name, to_messages
from tests.foreign.made import contract_trades

if TYPE_CHECKING:
    from pathlib import Path


def read(content: list[bytes], name: str = "x.csv", category: Category | None = None) -> list[Heard]:
    reader = TradeLines(content[0], name, category, None)
    return list(to_messages((reader.read(line) for line in content[1:]), reader))


def decoded(heard: Heard) -> list[Trade]:
    found = FeedCodec(TopicTable(heard.category)).decode(heard.raw, 0, 0)
    assert isinstance(found, list)
    return [trade for trade in found if isinstance(trade, Trade)]


def test_a_contract_file() -> None:
    content = contract_trades(["1790000000.0547,Buy,0.10,1.250", "1790000000.0549,Sell,2,1.2"], rpi=True)
    (heard,) = read(content)
    assert heard.raw == (
        b'{"topic":"publicTrade.ABCUSDT","type":"snapshot","ts":1790000000054,"data":['
        b'{"T":1790000000054,"s":"ABCUSDT","S":"Buy","v":"0.10","p":"1.250","L":"PlusTick","i":"id-0","BT":false,'
        b'"RPI":false},'
        b'{"T":1790000000054,"s":"ABCUSDT","S":"Sell","v":"2","p":"1.2","L":"PlusTick","i":"id-1","BT":false,'
        b'"RPI":true}]}'
    )
    assert [trade.rpi for trade in decoded(heard)] == [False, True]
    (older,) = read(contract_trades(["1790000000,Buy,0.10,1.250"]))
    assert "RPI" not in json.loads(older.raw)["data"][0]


def test_a_spot_file() -> None:
    content = [b"id,timestamp,price,volume,side,rpi", b"1,1790000000123,86805.1,0.001466,buy,1"]
    (heard,) = read(content, "BTCUSDT_2026-07-25.csv.gz")
    assert heard.category is Category.SPOT
    assert heard.raw == (
        b'{"topic":"publicTrade.BTCUSDT","ts":1790000000123,"type":"snapshot","data":[{"T":1790000000123,'
        b'"s":"BTCUSDT","S":"Buy","v":"0.001466","p":"86805.1","i":"1","BT":false,"RPI":true}]}'
    )
    assert decoded(heard)[0].buy


def test_exponents_are_written_out_and_nothing_else_is_touched() -> None:
    (heard,) = read([b"ts_ms,price,qty,side,agg_id", b"1790000000123,8.5e-5,1E+3,Sell,-5"], "linear-ABCUSDT.csv")
    row = json.loads(heard.raw)["data"][0]
    assert (row["p"], row["v"], row["i"]) == ("0.000085", "1000", "-5")


def test_trades_of_a_moment_share_a_message_up_to_the_limit() -> None:
    content = contract_trades([*["1790000000.1,Buy,1,1"] * 1500, "1790000000.101,Buy,1,1"])
    assert [len(json.loads(heard.raw)["data"]) for heard in read(content)] == [1024, 476, 1]


@pytest.mark.parametrize(
    "row, told",
    [
        ("soon,Buy,1,1", "no time"),
        ("12,Buy,1,1", "impossible time"),
        ("1790000000.5,Hold,1,1", "no side"),
        ("1790000000.5,Buy,nan,1", "no number"),
        ("1790000000.5,Buy,1,-1", "no number"),
        ("1790000000.5,Buy,1,1e999999999", "no number"),
        ("1790000000.5,Buy,0.000,1", "of 0"),
        ("1790000000.5,Buy,,1", "no number"),
    ],
)
def test_rows_that_make_no_sense_are_told(row: str, told: str) -> None:
    with pytest.raises(LineProblem, match=told):
        read(contract_trades([row]))


def test_other_rows_and_headers() -> None:
    head, row = contract_trades(["1790000000.5,Buy,1,1"])
    with pytest.raises(LineProblem, match="3 columns"):
        read([head, b"1,2,3"])
    with pytest.raises(LineProblem, match="no symbol"):
        read([head, row.replace(b"ABCUSDT", b'A"}')])
    with pytest.raises(LineProblem, match="no trade id"):
        read([head, row.replace(b"id-0", b'\\"')])
    with pytest.raises(LineProblem, match="no text"):
        read([head, b"\xff\xfe"])
    with pytest.raises(LineProblem, match="no column for price, side"):
        TradeLines(b"timestamp,size,colour", "x.csv", None, None)
    with pytest.raises(LineProblem, match="--symbol"):
        TradeLines(b"ts_ms,price,qty,side", "trades.csv", None, None)
    quoted = TradeLines(b'"timestamp","price","size","side","symbol"', "x", None, None)
    assert quoted.read(b'"1790000000.5","1","1","Buy","ABCUSDT"').symbol == "ABCUSDT"


@pytest.mark.parametrize(
    "name, symbol",
    [
        ("BTCUSDT2026-07-25.csv.gz", "BTCUSDT"),
        ("BTCUSDT_2026-07-25.csv.gz", "BTCUSDT"),
        ("BTCUSDT-2022-11.csv.gz", "BTCUSDT"),
        ("1000PEPEUSDT2026-07-25.csv.gz", "1000PEPEUSDT"),
        ("linear-BTCUSDT-trades-20251204-2008-2159.csv.gz", "BTCUSDT"),
        ("SPOT_ETHUSDT_2026.csv", "ETHUSDT"),
        ("trades.csv", None),
        ("2026-07-25.csv", None),
    ],
)
def test_symbols_in_names(name: str, symbol: str | None) -> None:
    assert symbol_of_name(name) == symbol


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40), max_size=60), st.booleans())
def test_sorting_keeps_the_order_within_a_moment(tmp_path_factory: pytest.TempPathFactory, times: list[int],
                                                 newest_first: bool) -> None:  # fmt: skip
    happened = [Row(at, "ABCUSDT", f'{{"n":{n}}}') for n, at in enumerate(sorted(times))]
    given = happened[::-1] if newest_first else sorted(happened, key=lambda row: row.at_ns % 5)
    expected = happened if newest_first else sorted(given, key=lambda row: row.at_ns)
    before, trades.ROWS_IN_MEMORY = trades.ROWS_IN_MEMORY, 7  # type: ignore[misc]
    try:
        found = list(sort_rows(given, newest_first=newest_first, folder=tmp_path_factory.getbasetemp()))
    finally:
        trades.ROWS_IN_MEMORY = before  # type: ignore[misc]
    assert found == expected


@given(st.binary(max_size=80))
def test_any_row_gives_a_trade_or_a_declared_error(line: bytes) -> None:
    reader = TradeLines(b"ts_ms,price,qty,side", "ABCUSDT.csv", None, None)
    try:
        reader.read(line)
    except LineProblem:
        pass


def test_a_folder_for_sorting_is_left_empty(tmp_path: Path) -> None:
    rows = [Row(5, "A", "{}"), Row(3, "B", "{}")]
    assert [row.at_ns for row in sort_rows(rows, newest_first=False, folder=tmp_path)] == [3, 5]
    assert list(tmp_path.iterdir()) == []
