"""REST answers: recorded ones, tables of what errors mean, and that only declared errors come out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.bybit import rest
from orderflow.bybit.rest import (
    CredentialsRefused,
    RestBlocked,
    RestError,
    RestLimited,
    RestPaused,
    RestRefused,
    RestUnavailable,
    code_error,
    instruments_request,
    orderbook_request,
    parse_api_key,
    parse_instruments,
    parse_orderbook,
    parse_server_time,
    parse_wallet,
    pause_s,
    status_error,
)
from orderflow.core.errors import WireError
from orderflow.core.types import Category, Instrument, InstrumentId

DATA = Path(__file__).parents[3] / "shared" / "data" / "bybit"
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")

LINEAR_ROW: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "symbolId": 5,
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "deliveryFeeRate": "",
    "priceScale": "2",
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001"},
    "preListingInfo": None,
}
SPOT_ROW: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "status": "Trading",
    "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.0000001"},
    "priceFilter": {"tickSize": "0.1"},
}
INVERSE_ROW: dict[str, Any] = LINEAR_ROW | {
    "symbol": "BTCUSD",
    "quoteCoin": "USD",
    "lotSizeFilter": {"qtyStep": "1"},
}


def golden(name: str) -> bytes:
    """One recorded answer by its id."""
    path = DATA / "golden" / "rest-messages.jsonl"
    if not path.exists():
        pytest.skip("the golden messages are not here")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row["id"] == name:
            return str(row["raw"]).encode()
    raise LookupError(name)


def answer(result: object, code: int = 0, message: str = "OK", **more: object) -> bytes:
    return json.dumps({"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}} | more).encode()


def page(*rows: object, cursor: str | None = "") -> bytes:
    return answer({"category": "linear", "list": rows, "nextPageCursor": cursor})


# --- requests


def test_requests() -> None:
    assert instruments_request(Category.SPOT, "BTCUSDT").target == (
        "/v5/market/instruments-info?category=spot&symbol=BTCUSDT"
    )
    assert instruments_request(Category.LINEAR).target == "/v5/market/instruments-info?category=linear&limit=1000"
    assert orderbook_request(BTC, 200).target == "/v5/market/orderbook?category=linear&symbol=BTCUSDT&limit=200"
    assert rest.SERVER_TIME.target == "/v5/market/time"


@pytest.mark.parametrize(
    "cursor, sent",
    [
        ("first%3DBTC%26last%3DETH", "first%3DBTC%26last%3DETH"),  # as it came
        ("a b&limit=1", "a%20b%26limit%3D1"),  # cannot smuggle a parameter in
    ],
)
def test_cursors_go_back_as_they_came(cursor: str, sent: str) -> None:
    assert instruments_request(Category.LINEAR, cursor=cursor).query.endswith(f"&cursor={sent}")


# --- answers


@pytest.mark.parametrize(
    "body, ns, resolution_ns",
    [
        (
            answer({"timeSecond": "1790000000", "timeNano": "1790000000423213947"}, time=1790000000423),
            1790000000423213947,
            1,
        ),
        (answer({"timeSecond": "1790000000", "timeNano": "1790000000423000000"}), 1790000000423000000, 1_000_000),
        (answer({"timeNano": 1790000000423213947}), 1790000000423213947, 1),
        (answer({"timeSecond": "1790000000", "timeNano": ""}, time="1790000000423"), 1790000000423000000, 1_000_000),
        (answer({"timeSecond": "1790000000"}), 1790000000000000000, 1_000_000_000),
    ],
)
def test_server_time(body: bytes, ns: int, resolution_ns: int) -> None:
    assert parse_server_time(body) == rest.ServerTime(ns, resolution_ns)


@pytest.mark.parametrize("name", ["docs-time-0", "minifintick-BybitLinearPingSnapshot-0"])
def test_recorded_server_times(name: str) -> None:
    assert parse_server_time(golden(name)).resolution_ns == 1


@pytest.mark.parametrize(
    "result", [{}, {"timeNano": "17x"}, {"timeNano": "1"}, {"timeNano": "9" * 21}, {"timeSecond": "-5"}, [], "x", None]
)
def test_bad_server_times(result: object) -> None:
    with pytest.raises(WireError):
        parse_server_time(answer(result))


def test_instruments_of_each_category() -> None:
    linear = parse_instruments(page(LINEAR_ROW), Category.LINEAR).instruments
    assert linear == (
        Instrument(
            id=BTC,
            base_coin="BTC",
            quote_coin="USDT",
            tick_size="0.10",
            lot_size="0.001",
            price_decimals=2,
            size_decimals=3,
            status="Trading",
        ),
    )
    (spot,) = parse_instruments(page(SPOT_ROW), Category.SPOT).instruments
    assert (spot.id.category, spot.lot_size, spot.price_decimals, spot.size_decimals) == ("spot", "0.000001", 1, 6)
    (inverse,) = parse_instruments(page(INVERSE_ROW), Category.INVERSE).instruments
    assert (inverse.base_coin, inverse.quote_coin, inverse.lot_size, inverse.size_decimals) == ("BTC", "USD", "1", 0)


@pytest.mark.parametrize(
    "tick, scale, decimals",
    [
        ("0.10", "2", 2),
        ("0.10", 2, 2),
        ("0.10", None, 1),
        ("0.10", "", 1),
        ("0.0001", "2", 4),  # a scale that could not show a tick
        ("5", "0", 0),
        ("0.5", "99", 1),
    ],
)
def test_price_decimals(tick: str, scale: object, decimals: int) -> None:
    row = LINEAR_ROW | {"priceFilter": {"tickSize": tick}, "priceScale": scale}
    assert parse_instruments(page(row), Category.LINEAR).instruments[0].price_decimals == decimals


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "btc usdt"},
        {"symbol": 7},
        {"baseCoin": "\x1b[31m"},
        {"quoteCoin": ""},
        {"priceFilter": {"tickSize": "0"}},
        {"priceFilter": {"tickSize": "1e-3"}},
        {"priceFilter": {"tickSize": "nan"}},
        {"priceFilter": {}},
        {"priceFilter": None},
        {"lotSizeFilter": {"qtyStep": ""}},
        {"lotSizeFilter": {"qtyStep": "-1"}},
        {"priceScale": "two"},
    ],
)
def test_a_bad_row_costs_only_itself(change: dict[str, object]) -> None:
    got = parse_instruments(page(LINEAR_ROW | change, INVERSE_ROW, cursor="next"), Category.LINEAR)
    assert [row.id.symbol for row in got.instruments] == ["BTCUSD"]
    assert (got.skipped, got.cursor) == (1, "next")


def test_hostile_status_text_is_dropped() -> None:
    row = LINEAR_ROW | {"status": "Trading\x1b]0;owned\x07"}
    assert parse_instruments(page(row), Category.LINEAR).instruments[0].status == ""


@pytest.mark.parametrize("result", [{}, {"list": None}, {"list": [], "nextPageCursor": None}])
def test_empty_lists(result: object) -> None:
    assert parse_instruments(answer(result), Category.SPOT) == rest.InstrumentPage((), "", 0)


@pytest.mark.parametrize(
    "name, category, symbol",
    [
        ("nautilus-http_get_instruments_linear", Category.LINEAR, "BTCUSDT"),
        ("nautilus-http_get_instruments_spot", Category.SPOT, "BTCUSDT"),
        ("jkorf-rest-GetSpotSymbols", Category.SPOT, "BTCUSDT"),
        ("docs-instrument-2", Category.SPOT, "BTCUSDT"),
    ],
)
def test_recorded_instruments(name: str, category: Category, symbol: str) -> None:
    got = parse_instruments(golden(name), category)
    assert got.skipped == 0
    assert symbol in [row.id.symbol for row in got.instruments]


def test_the_recorded_full_list() -> None:
    path = DATA / "rest" / "instruments-info-linear-20260809.json.gz"
    if not path.exists():
        pytest.skip("the recordings are not here")
    body = gzip.decompress(path.read_bytes())
    got = parse_instruments(body, Category.LINEAR)
    assert got.skipped == 0
    assert len(got.instruments) == len(json.loads(body)["result"]["list"]) > 400
    (bitcoin,) = [row for row in got.instruments if row.id == BTC]
    assert (bitcoin.price_decimals, bitcoin.size_decimals, bitcoin.base_coin) == (2, 3, "BTC")
    assert all(float(row.tick_size) >= 10**-row.price_decimals * 0.999 for row in got.instruments)


def test_orderbook() -> None:
    result = {
        "s": "BTCUSDT",
        "a": [["86723.50", "5.959"]],
        "b": [["86723.40", "0.194"]],
        "ts": 1790000000031,
        "u": 32881660,
        "seq": 814547787693,
        "cts": 1790000000025,
    }
    book = parse_orderbook(answer(result), BTC)
    assert book.bids == (("86723.40", "0.194"),)
    assert book.asks == (("86723.50", "5.959"),)
    assert (book.u, book.seq, book.ts_ms, book.engine_ms) == (32881660, 814547787693, 1790000000031, 1790000000025)
    for change in ({"s": "ETHUSDT"}, {"a": [["nan", "1"]]}, {"b": [["1"]]}, {"u": "x"}, {"b": None}):
        with pytest.raises(WireError):
            parse_orderbook(answer(result | change), BTC)


@pytest.mark.parametrize("name", ["nautilus-http_get_orderbook", "jkorf-rest-GetOrderbook", "docs-orderbook-0"])
def test_recorded_orderbooks(name: str) -> None:
    book = parse_orderbook(golden(name), BTC)
    assert book.bids
    assert float(book.bids[0][0]) < float(book.asks[0][0])


def test_wallet() -> None:
    account = {"accountType": "UNIFIED", "totalEquity": "9999.93", "coin": [{"coin": "USDT", "equity": "9999.9367"}]}
    (row,) = parse_wallet(answer({"list": [account]}))
    assert (row.account_type, row.total_equity, row.coins[0].equity) == ("UNIFIED", "9999.93", "9999.9367")
    assert parse_wallet(answer({"list": []})) == ()


def test_api_key() -> None:
    result = {
        "apiKey": "k",
        "readOnly": 1,
        "permissions": {"Wallet": ["AccountTransfer"], "Spot": [], "Options": None},
        "ips": ["*"],
        "deadlineDay": 66,
    }
    info = parse_api_key(answer(result))
    assert info == rest.ApiKeyInfo(read_only=True, permissions=("Wallet.AccountTransfer",), ips=("*",), days_left=66)


# --- errors


@pytest.mark.parametrize(
    "code, kind, reason",
    [
        (10000, RestUnavailable, "exchange"),
        (10001, RestRefused, "refused"),
        (10002, RestRefused, "clock"),
        (10003, CredentialsRefused, "credentials"),
        (10004, CredentialsRefused, "credentials"),
        (10005, CredentialsRefused, "credentials"),
        (10006, RestLimited, "limited"),
        (10009, RestBlocked, "region"),
        (10010, CredentialsRefused, "credentials"),
        (10016, RestUnavailable, "exchange"),
        (110001, RestRefused, "refused"),
    ],
)
def test_ret_codes(code: int, kind: type[RestError], reason: str) -> None:
    with pytest.raises(RestError) as caught:
        parse_server_time(answer({}, code, "text\x1b[2J of theirs"))
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert str(code) in caught.value.detail
    assert "\x1b" not in str(caught.value)


def test_the_signed_text_is_not_repeated() -> None:
    error = code_error(10004, "error sign! origin_string[1790000000000canaryKEYvalue00015000symbol=BTCUSDT]")
    assert "canary" not in f"{error} {error!r} {error.detail}"


@pytest.mark.parametrize(
    "status, kind, reason",
    [
        (301, RestRefused, "redirect"),
        (400, RestRefused, "status"),
        (401, CredentialsRefused, "credentials"),
        (403, RestBlocked, "blocked"),
        (404, RestRefused, "status"),
        (408, RestUnavailable, "status"),
        (429, RestLimited, "limited"),
        (500, RestUnavailable, "status"),
        (503, RestUnavailable, "status"),
        (204, RestRefused, "status"),
    ],
)
def test_statuses(status: int, kind: type[RestError], reason: str) -> None:
    error = status_error(status, {}, b"<html>\x1b[31mgo away</html>", 0.0)
    assert type(error) is kind
    assert error.reason == reason
    assert str(status) in error.detail
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    "headers, again, seconds",
    [
        ({}, 0, 60),
        ({}, 1, 120),
        ({}, 3, 480),
        ({}, 4, 600),
        ({}, 10_000, 600),
        ({"retry-after": "7"}, 0, 60),
        ({"retry-after": " 90 "}, 0, 90),
        ({"retry-after": "90"}, 1, 120),
        ({"retry-after": "999999999"}, 0, 600),
        ({"retry-after": "9" * 400}, 0, 60),
        ({"retry-after": "-1"}, 0, 60),
        ({"retry-after": "Mon, 21 Sep 2026 14:15:20 GMT"}, 0, 120),
        ({"retry-after": "Mon, 21 Sep 2026 14:15:20 GMT", "date": "Mon, 21 Sep 2026 14:13:50 GMT"}, 0, 90),
        ({"retry-after": "Mon, 21 Sep 2009 14:15:20 GMT"}, 0, 60),
        ({"retry-after": "Mon, 21 Sep 2099 14:15:20 GMT"}, 0, 600),
    ],
)
def test_a_refused_address_pauses_within_bounds(
    status: int, headers: dict[str, str], again: int, seconds: float
) -> None:
    error = status_error(status, headers, b"", 1_790_000_000.0)
    assert isinstance(error, RestPaused)
    assert pause_s(error, again) == seconds


def test_a_spent_budget_is_back_in_seconds() -> None:
    error = code_error(10006, "Too many visits.")
    assert isinstance(error, RestPaused)
    assert [pause_s(error, again) for again in range(3)] == [2, 4, 8]


BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["retCode", "result", "list", "s", "a", "b", "u", "timeNano", "symbol", "readOnly"]),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps({"retCode": 0, "result": value}).encode()),
)


@settings(deadline=None)  # a loaded machine is no failure
@given(body=BODIES)
def test_arbitrary_bodies_raise_only_declared_errors(body: bytes) -> None:
    for parse in (
        parse_server_time,
        lambda raw: parse_instruments(raw, Category.LINEAR),
        lambda raw: parse_orderbook(raw, BTC),
        parse_wallet,
        parse_api_key,
    ):
        try:
            parse(body)
        except (RestError, WireError):
            pass


def test_absurd_nesting() -> None:
    with pytest.raises(WireError):
        parse_server_time(b'{"retCode":0,"result":' + b"[" * 200_000)
