"""The REST market endpoints, over the live backend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import CATALOGUE, make_instruments
from orderflow.sim.exchange import ExchangeBackend
from orderflow.sim.market import Exchange

NOW_NS = 1_790_000_000_423_213_947
START = 1_790_000_000_000


@pytest.fixture(scope="module")
def backend() -> ExchangeBackend:
    exchange = Exchange((*CATALOGUE, *make_instruments(30)), 1, START)
    exchange.advance(START + 8_000)
    return ExchangeBackend(exchange, START + 8_000)


def get(backend: ExchangeBackend, target: str) -> dict[str, Any]:
    response = backend.respond("GET", f"/v5/market/{target}", (), b"", NOW_NS)
    assert response.status == 200
    assert dict(response.headers)["Content-Type"].startswith("application/json")
    answer: dict[str, Any] = json.loads(response.body)
    assert answer["time"] == NOW_NS // 1_000_000
    return answer


def test_time(backend: ExchangeBackend) -> None:
    response = backend.respond("GET", "/v5/market/time", (), b"", NOW_NS)
    assert response.body == (
        b'{"retCode":0,"retMsg":"OK","result":{"timeSecond":"1790000000","timeNano":"1790000000423213947"},'
        b'"retExtInfo":{},"time":1790000000423}'
    )


def test_instruments_are_paged_on_contracts_and_whole_on_spot(backend: ExchangeBackend) -> None:
    symbols: list[str] = []
    cursor, pages = "", 0
    while True:
        result = get(backend, f"instruments-info?category=linear&limit=10&cursor={cursor}")["result"]
        symbols += [row["symbol"] for row in result["list"]]
        cursor, pages = result["nextPageCursor"], pages + 1
        if not cursor:
            break
    listed = [item.id.symbol for item in (*CATALOGUE, *make_instruments(30)) if item.id.category is Category.LINEAR]
    assert symbols == sorted(listed)
    assert pages == 4
    assert "nextPageCursor" not in get(backend, "instruments-info?category=spot")["result"]
    assert get(backend, "instruments-info?category=option")["result"]["list"] == []


def test_instrument_filters(backend: ExchangeBackend) -> None:
    (row,) = get(backend, "instruments-info?category=linear&symbol=BTCUSDT")["result"]["list"]
    assert (row["priceFilter"]["tickSize"], row["lotSizeFilter"]["qtyStep"], row["priceScale"]) == (
        "0.10",
        "0.001",
        "2",
    )
    rows = get(backend, "instruments-info?category=inverse&baseCoin=eth")["result"]["list"]
    assert [row["symbol"] for row in rows] == ["ETHUSD"]
    assert get(backend, "instruments-info?category=linear&status=PreLaunch")["result"]["list"] == []


@pytest.mark.parametrize("category, symbol, default", [("spot", "BTCUSDT", 1), ("linear", "BTCUSDT", 25)])
def test_orderbook(backend: ExchangeBackend, category: str, symbol: str, default: int) -> None:
    result = get(backend, f"orderbook?category={category}&symbol={symbol}")["result"]
    assert len(result["b"]) == len(result["a"]) == default
    deep = get(backend, f"orderbook?category={category}&symbol={symbol}&limit=5000")["result"]
    truth = backend.true_book(InstrumentId(Category(category), symbol), 1000)
    assert [[float(p), float(s)] for p, s in deep["b"]] == [[float(p), float(s)] for p, s in truth.bids]
    assert deep["u"] == result["u"]
    assert deep["cts"] == truth.cts


def test_u_is_that_of_the_thousand_level_topic(backend: ExchangeBackend) -> None:
    result = get(backend, "orderbook?category=linear&symbol=ETHUSDT")["result"]
    snapshot = json.loads(backend.publisher("linear", "orderbook.1000.ETHUSDT").first(START)[0])
    assert snapshot["data"]["u"] == result["u"]


def test_trades_tickers_klines(backend: ExchangeBackend) -> None:
    assert len(get(backend, "recent-trade?category=spot&symbol=BTCUSDT&limit=1000")["result"]["list"]) <= 60
    ticker = get(backend, "tickers?category=linear&symbol=BTCUSDT")["result"]["list"][0]
    assert float(ticker["bid1Price"]) < float(ticker["ask1Price"])
    assert len(get(backend, "tickers?category=inverse")["result"]["list"]) == 2
    rows = get(backend, "kline?symbol=BTCUSDT&interval=5&limit=3")["result"]
    assert (rows["category"], len(rows["list"])) == ("linear", 3)


@pytest.mark.parametrize(
    "target, text",
    [
        ("orderbook?symbol=BTCUSDT", "category is required"),
        ("orderbook?category=futures&symbol=BTCUSDT", "category invalid"),
        ("orderbook?category=linear", "symbol is required"),
        ("orderbook?category=linear&symbol=NOPE", "symbol invalid"),
        ("orderbook?category=option&symbol=X", "symbol invalid"),
        ("orderbook?category=linear&symbol=BTCUSDT&limit=0", "limit invalid"),
        ("orderbook?category=linear&symbol=BTCUSDT&limit=-1", "limit invalid"),
        ("orderbook?category=linear&symbol=BTCUSDT&limit=٣", "limit invalid"),
        ("instruments-info?category=linear&cursor=nope", "cursor invalid"),
        ("instruments-info?category=linear&symbol=NOPE", "symbol invalid"),
        ("kline?symbol=BTCUSDT&interval=7", "interval invalid"),
        ("kline?symbol=NOPE&interval=1", "symbol invalid"),
        ("tickers?category=spot&symbol=NOPE", "symbol invalid"),
        ("recent-trade?category=spot&symbol=NOPE", "symbol invalid"),
    ],
)
def test_bad_parameters(backend: ExchangeBackend, target: str, text: str) -> None:
    answer = get(backend, target)
    assert (answer["retCode"], answer["retMsg"], answer["result"]) == (10001, f"params error: {text}", {})


@pytest.mark.parametrize(
    "method, path, body, status",
    [
        ("GET", "/v5/market/nope", b"", 404),
        ("POST", "/v5/market/time", b"", 400),
        ("GET", "/v5/market/time", b"{}", 403),
    ],
)
def test_http_errors(backend: ExchangeBackend, method: str, path: str, body: bytes, status: int) -> None:
    assert backend.respond(method, path, (), body, NOW_NS).status == status
