"""Trades, liquidations, tickers, klines: cadence, forms and agreement with the one market behind them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from orderflow.core.types import Category, InstrumentId
from orderflow.sim import tapes
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.market import Exchange, Market, SimLiquidation, SimTrade

START = 1_790_000_000_000
IDS = [
    InstrumentId(Category.LINEAR, "BTCUSDT"),
    InstrumentId(Category.SPOT, "BTCUSDT"),
    InstrumentId(Category.INVERSE, "BTCUSD"),
]


class Listener:
    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("publishers only return messages")


def exchange(*instruments: InstrumentId) -> Exchange:
    known = catalogue_by_id()
    return Exchange([known[item] for item in instruments], 3, START)


def market(instrument: InstrumentId = IDS[0]) -> Market:
    return exchange(instrument).markets[instrument]


def one(messages: list[bytes]) -> dict[str, Any]:
    (message,) = messages
    decoded: dict[str, Any] = json.loads(message)
    return decoded


def trade(instrument: InstrumentId, seq: int = 5) -> SimTrade:
    return SimTrade(instrument, 651143, 1000, True, START, "id-1", "PlusTick", seq)


def test_contract_trades() -> None:
    tape = tapes.TradePublisher(market())
    assert tape.poll(START) == []
    tape.add([trade(IDS[0])])
    assert tape.poll(START + 10) == [
        b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1790000000010,"data":[{"T":1790000000000,"s":"BTCUSDT",'
        b'"S":"Buy","v":"1.000","p":"65114.30","L":"PlusTick","i":"id-1","BT":false,"RPI":false,"seq":5}]}'
    ]
    assert tape.poll(START + 20) == []


def test_spot_trades() -> None:
    tape = tapes.TradePublisher(market(IDS[1]))
    tape.add([trade(IDS[1])])
    assert tape.poll(START + 10) == [
        b'{"topic":"publicTrade.BTCUSDT","ts":1790000000010,"type":"snapshot","data":[{"i":"id-1","T":1790000000000,'
        b'"p":"65114.3","v":"0.001","S":"Buy","seq":5,"s":"BTCUSDT","BT":false,"RPI":false}]}'
    ]


def test_a_sweep_may_span_messages_of_1024_trades() -> None:
    tape = tapes.TradePublisher(market())
    tape.add([trade(IDS[0])] * 2500)
    assert [len(json.loads(message)["data"]) for message in tape.poll(START)] == [1024, 1024, 452]


def test_liquidations_name_the_side_of_the_position() -> None:
    forced = tapes.LiquidationPublisher(market())
    forced.add([SimLiquidation(IDS[0], 651143, 20, True, START)])
    assert forced.poll(START + 500) == [
        b'{"topic":"allLiquidation.BTCUSDT","type":"snapshot","ts":1790000000500,"data":[{"T":1790000000000,'
        b'"s":"BTCUSDT","S":"Buy","v":"0.020","p":"65114.30"}]}'
    ]
    assert forced.poll(START + 1000) == []


@pytest.mark.parametrize("instrument", [IDS[0], IDS[2]], ids=str)
def test_contract_tickers_are_a_snapshot_and_sparse_deltas(instrument: InstrumentId) -> None:
    house = exchange(instrument)
    ticker = tapes.TickerPublisher(house.markets[instrument])
    first = one(ticker.first(START))
    ticker.subscribers[Listener()] = None
    assert list(first) == ["topic", "type", "data", "cs", "ts"]
    held = dict(first["data"])
    deltas = 0
    for now in range(START + 10, START + 5000, 10):
        house.advance(now)
        for message in ticker.poll(now) if ticker.due(now) else []:
            delta = json.loads(message)
            assert delta["type"] == "delta"
            assert len(delta["data"]) < len(held)
            assert ("bid1Price" in delta["data"]) == ("bid1Size" in delta["data"])
            held.update(delta["data"])
            deltas += 1
    for message in ticker.poll(START + 5000):
        held.update(json.loads(message)["data"])
    assert held == tapes.contract_ticker(house.markets[instrument])
    assert 5 < deltas <= 50


def test_spot_tickers_are_snapshots_without_bid_and_ask() -> None:
    house = exchange(IDS[1])
    ticker = tapes.SpotTickerPublisher(house.markets[IDS[1]])
    first = one(ticker.first(START))
    ticker.subscribers[Listener()] = None
    assert list(first) == ["topic", "ts", "type", "cs", "data"]
    assert not {"bid1Price", "ask1Price"} & set(first["data"])
    house.advance(START + 5000)
    assert one(ticker.poll(START + 5000))["type"] == "snapshot"
    assert ticker.poll(START + 5050) == []


@pytest.mark.parametrize("instrument", IDS, ids=str)
def test_klines_close_once_and_agree_with_the_trades(instrument: InstrumentId) -> None:
    house = exchange(instrument)
    begin = START - START % 60_000
    line = tapes.KlinePublisher(house.markets[instrument], "1")
    traded: dict[int, Decimal] = {}
    rows: list[dict[str, Any]] = []
    for now in range(START, begin + 190_000, 1000):
        for event in house.advance(now):
            for item in event.trades:
                size = house.markets[instrument].instrument.size(item.lots)
                minute = item.match_ms - item.match_ms % 60_000
                traded[minute] = traded.get(minute, Decimal(0)) + size
        rows += [row for message in line.poll(now) for row in json.loads(message)["data"]]
    closed = [row for row in rows if row["confirm"]]
    assert [row["start"] for row in closed] == [begin, begin + 60_000, begin + 120_000]
    for row in closed[1:]:
        assert Decimal(row["volume"]) == traded.get(row["start"], Decimal(0))
        assert row["end"] == row["start"] + 59_999
        assert Decimal(row["low"]) <= Decimal(row["open"]) <= Decimal(row["high"])


def test_spot_sends_the_closed_and_the_new_candle_apart() -> None:
    for instrument, messages, first_key in ((IDS[0], 1, "topic"), (IDS[1], 2, "type")):
        house = exchange(instrument)
        line = tapes.KlinePublisher(house.markets[instrument], "1")
        line.poll(START)
        house.advance(START + 60_000)
        sent = line.poll(START + 60_000)
        assert len(sent) == messages
        assert next(iter(json.loads(sent[0]))) == first_key


def test_rest_rows() -> None:
    house = exchange(*IDS)
    house.advance(START + 120_000)
    linear, spot = house.markets[IDS[0]], house.markets[IDS[1]]
    newest, older = tapes.trade_rows(linear, 2)
    assert int(newest["time"]) >= int(older["time"])
    assert tapes.ticker_row(spot)["bid1Price"]
    assert tapes.ticker_row(linear)["deliveryTime"] == "0"
    rows = tapes.kline_rows(linear, "1", START - 600_000, START, 100)
    starts = [int(row[0]) for row in rows]
    assert starts == sorted(starts, reverse=True)
    assert START - 600_000 <= starts[-1] <= starts[0] <= START
    onward = tapes.kline_rows(linear, "1", START - 600_000, None, 3)
    assert len(onward) <= 3
    assert int(onward[0][0]) < START - 300_000
