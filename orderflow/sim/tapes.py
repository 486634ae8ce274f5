"""What topics other than books publish: trades, liquidations, tickers, klines, private messages; and their REST rows.

Texts follow the recordings: prices padded on linear and inverse, trimmed on spot, trimmed in every kline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.core.types import Category
from orderflow.sim.bars import MINUTE, interval_end, interval_start
from orderflow.sim.feeds import SLOT_MS, Publisher
from orderflow.sim.venue import wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from orderflow.sim.bars import Bar
    from orderflow.sim.market import Market, SimLiquidation, SimTrade

TRADES_PER_MESSAGE: Final = 1024
KLINE_QUIET_MS: Final = 60_000
TICKER_INTERVAL_MS: Final = {Category.SPOT: 50, Category.LINEAR: 100, Category.INVERSE: 100}
BID_KEYS: Final = ("bid1Price", "bid1Size")
ASK_KEYS: Final = ("ask1Price", "ask1Size")


class OutboxPublisher(Publisher):
    """A topic whose messages somebody else writes; they go out with the next slot."""

    def __init__(self, endpoint: str, topic: str) -> None:
        super().__init__(endpoint, topic, SLOT_MS)
        self.outbox: list[bytes] = []

    def first(self, now_ms: int) -> list[bytes]:
        """No history: what waited for subscribers who have left is let go."""
        if not self.subscribers:
            self.outbox.clear()
        return []

    def poll(self, now_ms: int) -> list[bytes]:
        messages, self.outbox = self.outbox, []
        return messages


class TradePublisher(Publisher):
    """`publicTrade.{symbol}`: at once, all trades of a slot in one message, at most 1,024 each."""

    def __init__(self, market: Market) -> None:
        item = market.instrument
        super().__init__(item.category, f"publicTrade.{item.symbol}", SLOT_MS)
        self._item = item
        self._waiting: list[SimTrade] = []

    def first(self, now_ms: int) -> list[bytes]:
        """No history: what waited for subscribers who have left is let go."""
        if not self.subscribers:
            self._waiting.clear()
        return []

    def add(self, trades: Sequence[SimTrade]) -> None:
        self._waiting += trades

    def poll(self, now_ms: int) -> list[bytes]:
        trades, self._waiting = self._waiting, []
        chunks = [trades[at : at + TRADES_PER_MESSAGE] for at in range(0, len(trades), TRADES_PER_MESSAGE)]
        return [self._message(chunk, now_ms) for chunk in chunks]

    def _message(self, trades: list[SimTrade], now_ms: int) -> bytes:
        if self._item.category is Category.SPOT:
            rows = [self._spot_row(trade) for trade in trades]
            return wire({"topic": self.topic, "ts": now_ms, "type": "snapshot", "data": rows})
        rows = [self._contract_row(trade) for trade in trades]
        return wire({"topic": self.topic, "type": "snapshot", "ts": now_ms, "data": rows})

    def _contract_row(self, trade: SimTrade) -> dict[str, Any]:
        return {
            "T": trade.match_ms,
            "s": self._item.symbol,
            "S": side_text(trade.taker_buy),
            "v": self._item.size_text(trade.lots),
            "p": self._item.price_text(trade.price_ticks),
            "L": trade.tick_direction,
            "i": trade.trade_id,
            "BT": trade.block,
            "RPI": trade.rpi,
            "seq": trade.seq,
        }

    def _spot_row(self, trade: SimTrade) -> dict[str, Any]:
        return {
            "i": trade.trade_id,
            "T": trade.match_ms,
            "p": self._item.price_trimmed(trade.price_ticks),
            "v": self._item.size_trimmed(trade.lots),
            "S": side_text(trade.taker_buy),
            "seq": trade.seq,
            "s": self._item.symbol,
            "BT": trade.block,
            "RPI": trade.rpi,
        }


class LiquidationPublisher(Publisher):
    """`allLiquidation.{symbol}`: every 500 ms what there was. `S` is the side of the liquidated position."""

    def __init__(self, market: Market) -> None:
        item = market.instrument
        super().__init__(item.category, f"allLiquidation.{item.symbol}", 500)
        self._item = item
        self._waiting: list[SimLiquidation] = []

    def first(self, now_ms: int) -> list[bytes]:
        """No history: what waited for subscribers who have left is let go."""
        if not self.subscribers:
            self._waiting.clear()
        return []

    def add(self, liquidations: Sequence[SimLiquidation]) -> None:
        self._waiting += liquidations

    def poll(self, now_ms: int) -> list[bytes]:
        if not self._waiting:
            return []
        rows = [
            {
                "T": event.time_ms,
                "s": self._item.symbol,
                "S": side_text(event.long_position),
                "v": self._item.size_text(event.lots),
                "p": self._item.price_text(event.price_ticks),
            }
            for event in self._waiting
        ]
        self._waiting = []
        return [wire({"topic": self.topic, "type": "snapshot", "ts": now_ms, "data": rows})]


class TickerPublisher(Publisher):
    """`tickers.{symbol}` of linear and inverse: a snapshot, then deltas of the changed fields.

    Price and size of one side travel together, as in the recordings.
    """

    def __init__(self, market: Market) -> None:
        item = market.instrument
        super().__init__(item.category, f"tickers.{item.symbol}", TICKER_INTERVAL_MS[item.category])
        self._market = market
        self._seen = (-1, -1)
        self._fields: dict[str, str] = {}
        self._seq = 0

    def first(self, now_ms: int) -> list[bytes]:
        if not self.subscribers:
            self._step(now_ms)
        return [self._message("snapshot", self._fields, now_ms)]

    def poll(self, now_ms: int) -> list[bytes]:
        old = self._fields
        if not self._step(now_ms):
            return []
        changed = {key for key, value in self._fields.items() if old.get(key) != value}
        for pair in (BID_KEYS, ASK_KEYS):
            if changed.intersection(pair):
                changed.update(pair)
        fields = {key: value for key, value in self._fields.items() if key in changed}
        return [self._message("delta", {"symbol": self._fields["symbol"], **fields}, now_ms)] if fields else []

    def _step(self, now_ms: int) -> bool:
        """Read the ticker if it can have changed."""
        seen = (self._market.version, now_ms // MINUTE)
        if seen == self._seen:
            return False
        self._seen = seen
        self._seq = self._market.seq
        self._fields = self._read()
        return True

    def _read(self) -> dict[str, str]:
        return contract_ticker(self._market)

    def _message(self, kind: str, fields: dict[str, str], now_ms: int) -> bytes:
        return wire({"topic": self.topic, "type": kind, "data": fields, "cs": self._seq, "ts": now_ms})


class SpotTickerPublisher(TickerPublisher):
    """`tickers.{symbol}` of spot: snapshots only, without bid and ask."""

    def poll(self, now_ms: int) -> list[bytes]:
        old = self._fields
        self._step(now_ms)
        return [] if self._fields == old else [self._message("snapshot", self._fields, now_ms)]

    def _read(self) -> dict[str, str]:
        return spot_ticker(self._market)

    def _message(self, kind: str, fields: dict[str, str], now_ms: int) -> bytes:
        return wire({"topic": self.topic, "ts": now_ms, "type": kind, "cs": self._seq, "data": fields})


class KlinePublisher(Publisher):
    """`kline.{interval}.{symbol}`: once a second while it changes, at least once a minute, `confirm` at the end.

    A closing candle and its successor share a message on linear and inverse; spot sends two.
    """

    def __init__(self, market: Market, interval: str) -> None:
        item = market.instrument
        super().__init__(item.category, f"kline.{interval}.{item.symbol}", 1000)
        self._market = market
        self._interval = interval
        self._start_ms = 0
        self._volume = -1
        self._sent_ms = 0

    def first(self, now_ms: int) -> list[bytes]:
        """Nothing at once; the next second brings the open candle."""
        self._sent_ms = 0
        return []

    def poll(self, now_ms: int) -> list[bytes]:
        bars = self._market.klines(self._interval, 2)
        bar = bars[-1]
        closed = [done for done in bars[:-1] if done.start_ms == self._start_ms]
        quiet = bar.start_ms == self._start_ms and bar.volume == self._volume
        if quiet and now_ms - self._sent_ms < KLINE_QUIET_MS:
            return []
        self._start_ms, self._volume, self._sent_ms = bar.start_ms, bar.volume, now_ms
        rows = [self._row(done, True, now_ms) for done in closed] + [self._row(bar, False, now_ms)]
        if self.endpoint == Category.SPOT:
            return [wire({"type": "snapshot", "topic": self.topic, "data": [row], "ts": now_ms}) for row in rows]
        return [wire({"topic": self.topic, "data": rows, "ts": now_ms, "type": "snapshot"})]

    def _row(self, bar: Bar, confirm: bool, now_ms: int) -> dict[str, Any]:
        item = self._market.instrument
        return {
            "start": bar.start_ms,
            "end": interval_end(bar.start_ms, self._interval) - 1,
            "interval": self._interval,
            "open": item.price_trimmed(bar.open),
            "close": item.price_trimmed(bar.close),
            "high": item.price_trimmed(bar.high),
            "low": item.price_trimmed(bar.low),
            "volume": item.size_trimmed(bar.volume),
            "turnover": plain(item.turnover(bar.turnover)),
            "confirm": confirm,
            "timestamp": now_ms,
        }


# --- field texts ----------------------------------------------------------------------------------------------------


def side_text(buy: bool) -> str:
    return "Buy" if buy else "Sell"


def plain(value: Decimal) -> str:
    """A decimal without exponent and trailing zeros."""
    return format(value.normalize(), "f") if value else "0"


def contract_ticker(market: Market) -> dict[str, str]:
    """All ticker fields of a linear or inverse instrument, in the order of the wire."""
    item, state = market.instrument, market.ticker()
    inverse = item.category is Category.INVERSE
    one_side, other_lots = state.open_interest // 2, state.open_interest
    volume = str(state.volume_24h) if inverse else f"{item.size(state.volume_24h):.4f}"
    return {
        "symbol": item.symbol,
        "tickDirection": state.tick_direction,
        "price24hPcnt": plain(state.change_24h),
        "lastPrice": item.price_text(state.last),
        "prevPrice24h": item.price_text(state.prev_24h),
        "highPrice24h": item.price_text(state.high_24h),
        "lowPrice24h": item.price_text(state.low_24h),
        "prevPrice1h": item.price_text(state.prev_1h),
        "markPrice": f"{state.mark:f}",
        "indexPrice": f"{state.index:f}",
        "openInterest": item.size_text(other_lots),
        "openInterestValue": f"{state.open_interest_value:.2f}",
        "turnover24h": f"{state.turnover_24h:.4f}",
        "volume24h": volume,
        "fundingIntervalHour": "8",
        "fundingCap": item.funding_cap,
        "singleOpenInterest": item.size_text(one_side),
        "singleOpenInterestValue": f"{state.open_interest_value / 2:.2f}",
        "nextFundingTime": str(state.next_funding_ms),
        "fundingRate": plain(state.funding_rate),
        **_touch(market, item.price_text, item.size_text),
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
    }


def spot_ticker(market: Market) -> dict[str, str]:
    """The fields of a spot ticker message."""
    item, state = market.instrument, market.ticker()
    return {
        "symbol": item.symbol,
        "lastPrice": item.price_trimmed(state.last),
        "highPrice24h": item.price_trimmed(state.high_24h),
        "lowPrice24h": item.price_trimmed(state.low_24h),
        "prevPrice24h": item.price_trimmed(state.prev_24h),
        "volume24h": item.size_trimmed(state.volume_24h),
        "turnover24h": plain(state.turnover_24h),
        "price24hPcnt": f"{state.change_24h:.4f}",
        "usdIndexPrice": plain(state.index),
    }


def _touch(market: Market, price: Any, size: Any) -> dict[str, str]:
    """Best bid and ask; an empty side is `""`."""
    bids, asks = market.top(1)
    texts: dict[str, str] = {}
    for keys, levels in ((BID_KEYS, bids), (ASK_KEYS, asks)):
        ticks_text, lots_text = (price(levels[0][0]), size(levels[0][1])) if levels else ("", "")
        texts.update({keys[0]: ticks_text, keys[1]: lots_text})
    return texts


# --- REST rows ------------------------------------------------------------------------------------------------------


def ticker_row(market: Market) -> dict[str, Any]:
    """A row of `GET /v5/market/tickers`; unlike the stream, spot shows bid and ask."""
    item = market.instrument
    if item.category is Category.SPOT:
        return {**spot_ticker(market), **_touch(market, item.price_trimmed, item.size_trimmed)}
    row = contract_ticker(market)
    return {
        **row,
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "predictedDeliveryPrice": "",
        "basis": "",
        "basisRate": "",
    }


def trade_rows(market: Market, limit: int) -> list[dict[str, Any]]:
    """Rows of `GET /v5/market/recent-trade`, newest first."""
    item = market.instrument
    spot = item.category is Category.SPOT
    return [
        {
            "execId": trade.trade_id,
            "symbol": item.symbol,
            "price": item.price_trimmed(trade.price_ticks) if spot else item.price_text(trade.price_ticks),
            "size": item.size_trimmed(trade.lots) if spot else item.size_text(trade.lots),
            "side": side_text(trade.taker_buy),
            "time": str(trade.match_ms),
            "isBlockTrade": trade.block,
            "isRPITrade": trade.rpi,
            "seq": str(trade.seq),
        }
        for trade in market.recent_trades(limit)
    ]


def kline_rows(
    market: Market, interval: str, start_ms: int | None, end_ms: int | None, limit: int
) -> list[Sequence[str]]:
    """Rows of `GET /v5/market/kline`, newest first; with `start_ms` alone the `limit` candles from there on."""
    if start_ms is not None and end_ms is None:
        end_ms = interval_start(start_ms, interval)
        for _ in range(limit - 1):
            end_ms = interval_end(end_ms, interval)
    item = market.instrument
    bars = market.klines(interval, limit, end_ms)
    return [
        (
            str(bar.start_ms),
            item.price_trimmed(bar.open),
            item.price_trimmed(bar.high),
            item.price_trimmed(bar.low),
            item.price_trimmed(bar.close),
            item.size_trimmed(bar.volume),
            plain(item.turnover(bar.turnover)),
        )
        for bar in reversed(bars)
        if start_ms is None or bar.start_ms >= start_ms
    ]
