"""One engine behind everything: one history however it is run, and books, trades, tickers and candles that agree."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.errors import MisuseError
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.bars import MINUTE
from orderflow.sim.catalogue import CATALOGUE, make_instruments
from orderflow.sim.market import Exchange, Market, SimLiquidation, SimTrade, StepEvents, diff_window
from orderflow.sim.matching import OrderStatus, TimeInForce

if TYPE_CHECKING:
    from orderflow.sim.instruments import SimInstrument

START = 1_790_000_000_000
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
BTC_SPOT = InstrumentId(Category.SPOT, "BTCUSDT")
BTC_USD = InstrumentId(Category.INVERSE, "BTCUSD")
BY_ID = {item.id: item for item in CATALOGUE}


def exchange(*ids: InstrumentId, seed: int = 1) -> Exchange:
    return Exchange([BY_ID[each] for each in ids], seed, START)


def run(venue: Exchange, milliseconds: int, step: int) -> list[StepEvents]:
    """Advance in steps of so many milliseconds."""
    events: list[StepEvents] = []
    for now in range(START, START + milliseconds + 1, step):
        events += venue.advance(now)
    return events


def picture(venue: Exchange, events: list[StepEvents]) -> bytes:
    """Everything there is to see."""
    markets = [
        [str(key), market.top(5000), market.seq, market.last_ms, market.version, market.ticker(), market.klines("1", 5)]
        for key, market in venue.markets.items()
    ]
    return msgspec.json.encode([events, markets])


def without_seq(events: list[StepEvents], instrument: InstrumentId) -> list[object]:
    """The history of one market, but for the sequence it shares with the others."""
    return [
        [event.ms, [msgspec.structs.replace(trade, seq=0) for trade in event.trades], event.liquidations]
        for event in events
        if event.instrument == instrument
    ]


@pytest.fixture(scope="module")
def minute() -> tuple[Exchange, list[StepEvents]]:
    """Four markets after a minute; tests only look."""
    venue = exchange(BTC, BTC_SPOT, BTC_USD, InstrumentId(Category.LINEAR, "SOLUSDT"))
    return venue, run(venue, 60_000, 1000)


def test_the_size_of_steps_changes_nothing() -> None:
    fine, coarse = exchange(BTC, BTC_SPOT), exchange(BTC, BTC_SPOT)
    assert picture(fine, run(fine, 5_000, 1)) == picture(coarse, run(coarse, 5_000, 1000))


def test_looking_changes_nothing() -> None:
    watched, alone = exchange(BTC), exchange(BTC)
    events: list[StepEvents] = []
    for now in range(START, START + 3_001, 50):
        events += watched.advance(now)
        watched.markets[BTC].ticker()
        watched.markets[BTC].klines("D", 3)
    assert picture(watched, events) == picture(alone, run(alone, 3_000, 3_000))


def test_another_seed_is_another_day() -> None:
    one, two = exchange(BTC, seed=1), exchange(BTC, seed=2)
    assert picture(one, run(one, 2_000, 500)) != picture(two, run(two, 2_000, 500))


def test_other_instruments_do_not_change_a_history() -> None:
    alone, together = exchange(BTC), Exchange(CATALOGUE, 1, START)
    mine, theirs = run(alone, 5_000, 1000), run(together, 5_000, 1000)
    assert without_seq(mine, BTC) == without_seq(theirs, BTC)
    assert without_seq(mine, BTC)
    one, other = alone.markets[BTC], together.markets[BTC]
    assert one.top(5000) == other.top(5000)
    assert msgspec.structs.replace(one.ticker(), seq=0) == msgspec.structs.replace(other.ticker(), seq=0)


def test_events_come_in_order_of_time_and_sequence(minute: tuple[Exchange, list[StepEvents]]) -> None:
    venue, events = minute
    times = [event.ms for event in events]
    assert times == sorted(times)
    seqs = [trade.seq for event in events for trade in event.trades]
    assert seqs == sorted(seqs)
    assert times[0] > START
    assert times[-1] <= venue.now_ms == START + 60_000
    markets = sorted(market.seq for market in venue.markets.values())
    assert len(set(markets)) == len(markets)
    assert markets[-1] <= venue.seq


def test_the_sequence_rises_by_more_than_one() -> None:
    venue = exchange(BTC)
    market = venue.markets[BTC]
    last, version = market.seq, market.version
    for now in range(START, START + 2_000, 5):
        venue.advance(now)
        assert (market.seq > last + 1) if market.version > version else (market.seq == last)
        last, version = market.seq, market.version


def test_one_taker_order_one_seq_one_side_one_millisecond(minute: tuple[Exchange, list[StepEvents]]) -> None:
    takers: dict[int, set[tuple[InstrumentId, int, bool]]] = {}
    fills = 0
    for event in minute[1]:
        for trade in event.trades:
            fills += 1
            takers.setdefault(trade.seq, set()).add((trade.instrument, trade.match_ms, trade.taker_buy))
    assert all(len(kinds) == 1 for kinds in takers.values())
    assert fills > 1.5 * len(takers)  # several fills per taker order


def test_trades_carry_ids_and_tick_directions(minute: tuple[Exchange, list[StepEvents]]) -> None:
    last: dict[InstrumentId, SimTrade] = {}
    ids: set[str] = set()
    count = 0
    uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}")
    for trade in (trade for event in minute[1] for trade in event.trades):
        before = last.get(trade.instrument)
        last[trade.instrument] = trade
        ids.add(trade.trade_id)
        count += 1
        spot = trade.instrument.category is Category.SPOT
        assert re.fullmatch(r"[0-9]{19}", trade.trade_id) if spot else uuid.fullmatch(trade.trade_id)
        if before is not None:
            change = trade.price_ticks - before.price_ticks
            expected = "PlusTick" if change > 0 else "MinusTick" if change else before.tick_direction
            assert trade.tick_direction == (expected if change else "Zero" + expected.removeprefix("Zero"))
    assert len(ids) == count > 500


def test_books_are_deep_and_never_crossed() -> None:
    venue = exchange(BTC, BTC_SPOT)
    for now in range(START, START + 20_000, 50):
        venue.advance(now)
        for market in venue.markets.values():
            bid, ask = market.best()
            assert bid is not None
            assert ask is not None
            assert bid < ask
    bids, asks = venue.markets[BTC].top(1000)
    assert len(bids) == len(asks) == 1000
    assert all(lots > 0 for _, lots in bids + asks)
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)


@pytest.mark.parametrize("key", [InstrumentId(Category.SPOT, "ETHUSDT"), InstrumentId(Category.LINEAR, "SOLUSDT")])
def test_books_neither_grow_nor_shrink_with_time(key: InstrumentId) -> None:
    venue = exchange(key)
    venue.advance(START + 1_800_000)
    levels = BY_ID[key].profile.levels
    for side in venue.markets[key].top(100_000):
        assert levels * 0.8 < len(side) < levels * 1.4


def test_spot_and_derivatives_of_a_coin_stay_together(minute: tuple[Exchange, list[StepEvents]]) -> None:
    tickers = [minute[0].markets[each].ticker() for each in (BTC, BTC_SPOT, BTC_USD)]
    items = [BY_ID[each] for each in (BTC, BTC_SPOT, BTC_USD)]
    assert len({ticker.index for ticker in tickers}) == 1
    for item, ticker in zip(items, tickers, strict=True):
        mid = Decimal(ticker.bid or 0) + Decimal(ticker.ask or 0)
        assert abs(mid * item.tick / 2 / ticker.index - 1) < Decimal("0.002")
        assert abs(ticker.mark / ticker.index - 1) < Decimal("0.001")


def test_the_ticker_agrees_with_book_trades_and_candles(minute: tuple[Exchange, list[StepEvents]]) -> None:
    venue, events = minute
    for key, market in venue.markets.items():
        ticker = market.ticker()
        trades = [trade for event in events if event.instrument == key for trade in event.trades]
        (bid, bid_lots), (ask, ask_lots) = market.top(1)[0][0], market.top(1)[1][0]
        assert (ticker.bid, ticker.bid_lots, ticker.ask, ticker.ask_lots) == (bid, bid_lots, ask, ask_lots)
        assert ticker.last == trades[-1].price_ticks == market.recent_trades(1)[0].price_ticks
        assert market.recent_trades(5) == trades[:-6:-1]
        minutes = market.klines("1", 1441)
        live = [bar for bar in minutes if bar.start_ms >= START - START % MINUTE]
        assert sum(bar.volume for bar in live) == sum(trade.lots for trade in trades)
        worth = sum(market.instrument.turnover_units(trade.price_ticks, trade.lots) for trade in trades)
        assert sum(bar.turnover for bar in live) == worth
        assert ticker.high_24h == max(bar.high for bar in minutes)
        assert ticker.low_24h == min(bar.low for bar in minutes)
        assert minutes[-1].close == ticker.last


def test_funding_is_due_at_the_next_eight_hours(minute: tuple[Exchange, list[StepEvents]]) -> None:
    ticker = minute[0].markets[BTC].ticker()
    assert ticker.next_funding_ms == 1_790_006_400_000
    assert abs(ticker.funding_rate) < Decimal("0.001")


def test_liquidations_name_the_position_and_come_with_their_trades() -> None:
    busy = msgspec.structs.replace(BY_ID[BTC].profile, liquidations_per_min=120.0)
    venue = Exchange([msgspec.structs.replace(BY_ID[BTC], profile=busy)], 3, START)
    found: list[tuple[SimLiquidation, StepEvents]] = []
    for event in run(venue, 10_000, 1000):
        found += [(liquidation, event) for liquidation in event.liquidations]
    assert len(found) > 5
    for liquidation, event in found:
        assert {trade.taker_buy for trade in event.trades} == {not liquidation.long_position}
        assert liquidation.lots == sum(trade.lots for trade in event.trades)
        prices = [trade.price_ticks for trade in event.trades]
        bankruptcy = liquidation.price_ticks
        assert bankruptcy < min(prices) if liquidation.long_position else bankruptcy > max(prices)


# --- users' orders -------------------------------------------------------------------------------------------------


def user_venue() -> tuple[Exchange, Market]:
    venue = exchange(BTC)
    venue.advance(START + 100)
    return venue, venue.markets[BTC]


def test_a_users_market_order_trades_with_the_book_and_is_published_next() -> None:
    venue, market = user_venue()
    version, (_, ask) = market.version, market.best()
    placed = venue.submit(BTC, True, 5, owner="ann")
    assert placed.filled == 5
    assert placed.fills[0].price == ask
    assert market.version == version + 1
    event = venue.advance(venue.now_ms)[0]
    assert [trade.lots for trade in event.trades] == [fill.lots for fill in placed.fills]
    assert event.fills == placed.fills
    assert event.ms == venue.now_ms


def test_a_resting_order_of_a_user_is_filled_by_the_flow_and_never_cancelled_by_it() -> None:
    venue, market = user_venue()
    bid, _ = market.best()
    assert bid is not None
    placed = venue.submit(BTC, True, 7, bid, owner="bob")
    assert placed.status is OrderStatus.RESTING
    fills = [fill for event in run(venue, 60_000, 1000) for fill in event.fills if fill.maker_owner == "bob"]
    assert sum(fill.lots for fill in fills) + market.cancel(placed.order_id) == 7
    assert fills


def test_users_can_cancel_and_amend() -> None:
    venue, market = user_venue()
    placed = venue.submit(BTC, True, 7, 100, owner="bob")
    version = market.version
    assert market.reduce(placed.order_id, 5) == 2
    assert market.replace(placed.order_id, 9, 101) is not None
    assert market.cancel(placed.order_id) == 9
    assert market.cancel(placed.order_id) == 0
    assert market.version == version + 3


def test_a_swept_side_comes_back() -> None:
    venue, market = user_venue()
    taken = sum(lots for _, lots in market.top(10_000)[1])
    assert venue.submit(BTC, True, taken, owner="whale").filled == taken
    assert market.best()[1] is None
    assert market.ticker().ask is None
    run(venue, 30_000, 1000)
    bid, ask = market.best()
    assert bid is not None
    assert ask is not None
    assert bid < ask < bid + 200


def test_a_users_wall_is_traded_against_like_any_other() -> None:
    venue, market = user_venue()
    bid, ask = market.best()
    assert bid is not None
    assert ask is not None
    wall = venue.submit(BTC, True, 10**9, ask + 500, TimeInForce.GTC, "whale")
    assert wall.resting
    run(venue, 20_000, 1000)
    bid, ask = market.best()
    assert bid is not None
    assert ask is None or bid < ask


def test_orders_for_what_is_not_listed_or_makes_no_sense_are_refused() -> None:
    venue, _ = user_venue()
    with pytest.raises(KeyError):
        venue.submit(InstrumentId(Category.LINEAR, "NOPEUSDT"), True, 1)
    with pytest.raises(MisuseError):
        venue.submit(BTC, True, 0)


# --- many and quiet ------------------------------------------------------------------------------------------------


def quiet() -> SimInstrument:
    return make_instruments(700)[-1]


def test_a_quiet_market_may_say_nothing_for_long() -> None:
    venue = Exchange([quiet()], 1, START)
    market = venue.markets[quiet().id]
    version = market.version
    venue.advance(START + 2_000)
    assert market.version - version <= 2
    venue.advance(START + 120_000)
    assert market.version > version
    assert market.last_ms > START


def test_an_exchange_without_markets_does_nothing() -> None:
    assert Exchange([], 1, START).advance(START + 1000) == []


def test_time_does_not_go_back() -> None:
    venue, market = user_venue()
    seq = market.seq
    assert venue.advance(START) == []
    assert venue.now_ms == START + 100
    assert market.seq == seq


LEVELS = st.dictionaries(st.integers(1, 30), st.integers(1, 5), max_size=12)


@given(old=LEVELS, new=LEVELS, buy=st.booleans())
def test_a_diff_makes_the_new_window_of_the_old(old: dict[int, int], new: dict[int, int], buy: bool) -> None:
    before, after = sorted(old.items(), reverse=buy), sorted(new.items(), reverse=buy)
    rows = diff_window(before, after, buy)
    book = dict(before)
    for price, lots in rows:
        if lots:
            assert book.get(price) != lots
            book[price] = lots
        else:
            del book[price]  # never a level that was not held
    assert sorted(book.items(), reverse=buy) == after
    assert [price for price, _ in rows] == sorted((price for price, _ in rows), reverse=buy)
