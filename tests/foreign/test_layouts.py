"""Each layout of lines; what is none of them is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.errors import RecordingError
from orderflow.core.types import Category
from orderflow.foreign.heard import Heard, LineProblem, decimal_ns
from orderflow.foreign.layouts import MessageLines
from tests.foreign.made import ACK, ADDRESS, T0_MS, book

RAW = book(7, 0, "snapshot")
SPOT = book(7, 0, "snapshot", spot=True)
TOPIC = "orderbook.200.ABCUSDT"


def read(*given: bytes, category: Category | None = None, certain: bool = False) -> list[Heard]:
    reader = MessageLines("x", category, certain=certain)
    return [heard for number, line in enumerate(given, 1) for heard in reader.read(number, line)]


@pytest.mark.parametrize(
    "line, recv_ns",
    [
        (RAW, None),
        (b"1790000000.1234567: " + RAW, 1_790_000_000_123_456_700),
        (b"1790000000123456789 " + RAW, 1_790_000_000_123_456_789),
        (json.dumps({"t": "recv", "ts": 1790000000.25, "data": RAW.decode()}, separators=(",", ":")).encode(),
         1_790_000_000_250_000_000),
    ],
)  # fmt: skip
def test_every_layout(line: bytes, recv_ns: int | None) -> None:
    assert read(line) == [Heard(recv_ns, T0_MS, Category.LINEAR, "", TOPIC, RAW)]


def test_addresses_say_the_category_of_their_connection() -> None:
    lines = [b'{"t":"header"}']
    for name in ("a", "b"):
        address = ADDRESS.replace("linear", "spot" if name == "a" else "inverse")
        lines.append(json.dumps({"t": "connect", "conn": name, "addr": address}, separators=(",", ":")).encode())
    for name in ("a", "b", "c"):
        text = json.dumps(RAW.decode())
        lines.append(f'{{"t":"recv","conn":"{name}","ts":1790000000.5,"data":{text}}}'.encode())
    found = [(heard.connection, heard.category) for heard in read(*lines)]
    assert found == [("a", Category.SPOT), ("b", Category.INVERSE), ("c", Category.LINEAR)]
    asked = read(*lines, category=Category.LINEAR, certain=True)
    assert {heard.category for heard in asked} == {Category.LINEAR}


@pytest.mark.parametrize(
    "line, category",
    [
        (RAW, Category.LINEAR),
        (SPOT, Category.SPOT),
        (book(7, 0, "snapshot", spot=True, depth=1), Category.LINEAR),  # level 1 has that order everywhere
        (book(7, 0, symbol="BTCUSD"), Category.INVERSE),
        (book(7, 0, symbol="BTCUSDH26"), Category.INVERSE),
        (book(7, 0, symbol="BTC-26DEC25"), Category.LINEAR),
    ],
)
def test_the_category_without_an_address(line: bytes, category: Category) -> None:
    assert read(line)[0].category is category


def test_acknowledgements_are_kept_and_headers_are_not() -> None:
    found = read(b"wss://stream.bybit.com/v5/public/spot <-> 1790000000.5", b"1790000000.5: " + ACK)
    assert found == [Heard(1_790_000_000_500_000_000, None, Category.SPOT, "", "", ACK)]


def test_a_log_of_the_retired_liquidations() -> None:
    row = b'{"updatedTime":1707756331467,"symbol":"BTCUSDT","side":"Buy","size":"1.496","price":"49306.30"}'
    (heard,) = read(b'{"t":1707756333999,"d":[' + row + b"]}")
    assert (heard.recv_ns, heard.ts_ms, heard.topic) == (
        1_707_756_333_999_000_000,
        1_707_756_331_467,
        "liquidation.BTCUSDT",
    )
    assert json.loads(heard.raw)["data"] == json.loads(row)


@pytest.mark.parametrize(
    "line",
    [
        b"wss://stream.bybit.com/realtime_public <-> 1618677785.4827468",
        b'{"t":"connect","conn":"1","addr":"wss://stream.bybit.com/spot/quote/ws/v1"}',
        b'{"topic":"orderBookL2_25.EOSUSD","type":"snapshot","data":[]}',
        b'1618677786.799668: {"topic":"trade.BCHUSDT","data":[]}',
    ],
)
def test_the_protocols_before_are_refused_by_name(line: bytes) -> None:
    with pytest.raises(RecordingError, match=r"line 2: .*legacy protocol") as caught:
        read(RAW, line)
    assert caught.value.reason == "legacy"


@pytest.mark.parametrize(
    "line, told",
    [
        (b"hello", "no message"),
        (b"{", "no message"),
        (b'{"a":1}', "no message of Bybit V5"),
        (b'{"topic":"x y"}', "no topic"),
        (b'{"topic":5}', "no message"),
        (b'{"topic":"tickers.%b","ts":1790000000000}' % (b"A" * 60), "no topic"),
        (b'{"t":"recv","conn":"%b","ts":1790000000.5,"data":"{}"}' % (b"A" * 65), "no connection"),
        (RAW[:-1], "no message"),
        (RAW.replace(b'"ts":1790000000000', b'"ts":12'), "impossible time: 12 ms"),
        (RAW.replace(b'"ts":1790000000000', b'"ts":99999999999999'), "impossible time"),
        (b"9999999999.5: " + RAW, "impossible time"),
        (b"9000000000000000000 " + RAW, "impossible time"),
        (b'{"t":"recv","ts":"soon","data":"{}"}', "no time"),
        (b'{"t":"recv","data":"{}"}', "no time"),
        (b'{"t":', "no record"),
        (b'{"t":"x","d":[{}]}', "without its time"),
        (b'{"t":1707756333999,"d":[{}]}', "no liquidation"),
        (b"[" * 5000, "no message"),
        (b'{"topic":' + b"[" * 5000, "no message"),
        (b'{"t":"recv","ts":1790000000.5,"data":"\\ud800"}', "no record"),
    ],
)
def test_lines_that_are_no_messages_are_told(line: bytes, told: str) -> None:
    with pytest.raises(LineProblem, match=told):
        read(line)


def test_a_file_without_messages_is_given_up_after_a_thousand_lines() -> None:
    reader = MessageLines("x", None)
    for number in range(1, 1000):
        with pytest.raises(LineProblem):
            list(reader.read(number, b"hello"))
    with pytest.raises(RecordingError, match="no Bybit V5 message in the first 1000 lines"):
        list(reader.read(1000, b"hello"))


def test_connections_without_end_are_not_all_remembered() -> None:
    reader = MessageLines("x", None)
    for number in range(1, 10_001):
        list(reader.read(number, b'{"t":"connect","conn":"%d","addr":"%b"}' % (number, ADDRESS.encode())))
    with pytest.raises(RecordingError, match="more than 10000 connections"):
        list(reader.read(10_001, b'{"t":"connect","conn":"x","addr":"%b"}' % ADDRESS.encode()))


@given(st.binary(max_size=80))
def test_any_line_gives_messages_or_a_declared_error(line: bytes) -> None:
    try:
        read(line)
    except (LineProblem, RecordingError):
        pass


@given(st.integers(1_514_764_800_000_000_000, 4_102_444_799_999_999_999))
def test_times_are_exact(ns: int) -> None:
    assert decimal_ns(f"{ns // 10**9}.{ns % 10**9:09}", 9) == ns
    assert decimal_ns(f"{ns // 10**6}.{ns % 10**6:06}99", 6) == ns
    assert decimal_ns(str(ns), 0) == ns
