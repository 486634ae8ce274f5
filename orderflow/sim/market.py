"""The market behind the simulated exchange: matching, order flow, trades, tickers and candles of every instrument.

Pure and deterministic. Time is an argument, in exchange milliseconds; the same seed, instruments and start give the
same history to the byte, however `advance()` is called, and a market's history does not depend on which others exist.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.bars import HOUR, MINUTE, Bar, Candles, History
from orderflow.sim.flow import Coin, OrderFlow
from orderflow.sim.matching import HOUSE, Fill, MatchingBook, Placed, TimeInForce

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.sim.instruments import SimInstrument

Levels = list[tuple[int, int]]
"""(price ticks, lots), best first."""

TRADES_KEPT: Final = 1000
FUNDING_MS: Final = 8 * HOUR
_INTEREST: Final = 0.0001
_PREMIUM_US: Final = 60_000_000  # averaging time of the premium


class SimTrade(msgspec.Struct, frozen=True, gc=False):
    """One public trade. `seq` is shared by all fills of one taker order."""

    instrument: InstrumentId
    price_ticks: int
    lots: int
    taker_buy: bool
    match_ms: int
    trade_id: str  # UUID on derivatives, 19 digits on spot
    tick_direction: str  # PlusTick, ZeroPlusTick, MinusTick, ZeroMinusTick
    seq: int
    block: bool = False
    rpi: bool = False


class SimLiquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation. `long_position`: a long was closed, so the forced order sold (`S` is `Buy` on the wire).

    `price_ticks` is the bankruptcy price, not the fill; `lots` what the forced order executed.
    """

    instrument: InstrumentId
    price_ticks: int
    lots: int
    long_position: bool
    time_ms: int


class StepEvents(msgspec.Struct, frozen=True):
    """What one moment of one market made public. `fills` are those in which a user's order took part."""

    instrument: InstrumentId
    ms: int
    trades: tuple[SimTrade, ...] = ()
    liquidations: tuple[SimLiquidation, ...] = ()
    fills: tuple[Fill, ...] = ()


class TickerState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A market's ticker. Prices in ticks and sizes in lots where ints; Decimals are exact and rounded for the wire.

    Bid and ask are None (and their sizes 0) on an empty side. `mark`, `index` are rounded to the price scale.
    """

    last: int
    tick_direction: str
    bid: int | None
    bid_lots: int
    ask: int | None
    ask_lots: int
    prev_24h: int
    prev_1h: int
    high_24h: int
    low_24h: int
    volume_24h: int  # lots
    turnover_24h: Decimal  # quote coin; base coin on inverse
    change_24h: Decimal  # fraction, six decimals
    mark: Decimal
    index: Decimal
    open_interest: int  # lots, both sides
    open_interest_value: Decimal
    funding_rate: Decimal
    next_funding_ms: int
    seq: int


class Sequencer:
    """The exchange's cross sequence: strictly rising, never contiguous."""

    def __init__(self, start: int) -> None:
        self.value = start

    def next(self) -> int:
        self.value += 2 + (self.value * 1_103_515_245 + 12_345 >> 16) % 97
        return self.value


class Market:
    """One instrument: its book, flow and statistics.

    `seq` and `last_ms` are those of the last change of the book, `version` counts changes.
    """

    def __init__(self, instrument: SimInstrument, coin: Coin, sequencer: Sequencer, seed: str, start_ms: int) -> None:
        self.instrument = instrument
        self.book = MatchingBook()
        self.version = 1
        self.seq = sequencer.next()
        self.now_us = start_ms * 1000
        self.last_ms = start_ms
        self._coin = coin
        self._sequencer = sequencer
        self._rng = random.Random(f"{seed}:market")
        self._trades: deque[SimTrade] = deque(maxlen=TRADES_KEPT)
        self._step: list[StepEvents] = []
        self._step_trades: list[SimTrade] = []
        self._step_liquidations: list[SimLiquidation] = []
        self._step_fills: list[Fill] = []
        self._open_interest = instrument.open_interest_lots
        self._premium = instrument.premium_bps / 1e4
        self._premium_us = self.now_us
        self._flow = OrderFlow(instrument, self.book, coin, f"{seed}:flow", self.now_us, self._taken)
        self._last = self.book.best_bid() or instrument.start_ticks
        self._direction = "ZeroPlusTick"
        self._candles = self._open_candles(seed, start_ms)
        self._changes = self.book.changes

    # --- reading ---

    @property
    def next_us(self) -> int:
        return self._flow.next_us

    def best(self) -> tuple[int | None, int | None]:
        """Best bid and best ask in ticks; None where a side is empty."""
        return self.book.best_bid(), self.book.best_ask()

    def top(self, depth: int) -> tuple[Levels, Levels]:
        """The best `depth` levels of bids and asks, best first."""
        return self.book.bids.top(depth), self.book.asks.top(depth)

    def recent_trades(self, count: int) -> list[SimTrade]:
        """The last trades, newest first."""
        newest = list(self._trades)[::-1]
        return newest[:count]

    def klines(self, interval: str, limit: int = 200, end_ms: int | None = None) -> list[Bar]:
        """Up to `limit` candles, oldest first, the last being the open one or the one that holds `end_ms`.

        Raises: KeyError for an interval that is not one of `bars.INTERVALS`.
        """
        return self._candles.klines(interval, self.now_us // 1000, limit, end_ms)

    def ticker(self) -> TickerState:
        """The ticker as of now. It can only change when `version` or the minute does."""
        item, stats = self.instrument, self._candles.day_stats(self.now_us // 1000)
        bid, ask = self.best()
        index = Decimal(self._coin.price).quantize(Decimal(1).scaleb(-item.price_scale))
        mark = Decimal(self._coin.price * (1 + self._premium)).quantize(index)
        size = self._open_interest * item.lot
        value = size / mark if item.category is Category.INVERSE else size * mark
        return TickerState(
            last=self._last,
            tick_direction=self._direction,
            bid=bid,
            bid_lots=0 if bid is None else self.book.bids.lots[bid],
            ask=ask,
            ask_lots=0 if ask is None else self.book.asks.lots[ask],
            prev_24h=stats.open,
            prev_1h=stats.hour_ago,
            high_24h=stats.high,
            low_24h=stats.low,
            volume_24h=stats.volume,
            turnover_24h=item.turnover(stats.turnover),
            change_24h=(Decimal(self._last) / stats.open - 1).quantize(Decimal("0.000001")),
            mark=mark,
            index=index,
            open_interest=self._open_interest,
            open_interest_value=value.quantize(Decimal("0.01")),
            funding_rate=self._funding_rate(),
            next_funding_ms=(self.now_us // 1000 // FUNDING_MS + 1) * FUNDING_MS,
            seq=self.seq,
        )

    # --- acting ---

    def submit(
        self, buy: bool, lots: int, price: int | None = None, tif: TimeInForce = TimeInForce.GTC, owner: str = "user"
    ) -> Placed:
        """A user's order, now. Its trades come with the next `Exchange.advance()`.

        Args: price: limit in ticks, None for a market order; owner: who gets its fills, not empty.
        Raises: MisuseError for a size or price below one.
        """
        placed = self.book.submit(buy, lots, price, tif, owner)
        self._taken(placed)
        self._close_step()
        return placed

    def cancel(self, order_id: int) -> int:
        """Cancel a user's order. Returns: the lots it still had, 0 when it was not resting."""
        lots = self.book.cancel(order_id)
        self._close_step()
        return lots

    def reduce(self, order_id: int, lots: int) -> int:
        """Amend an order down, keeping its place. Returns: the lots taken away."""
        taken = self.book.reduce(order_id, lots)
        self._close_step()
        return taken

    def replace(self, order_id: int, lots: int, price: int) -> Placed | None:
        """Amend an order's price or raise its size; it goes to the end of the queue. None: not resting."""
        placed = self.book.replace(order_id, lots, price)
        if placed is not None:
            self._taken(placed)
        self._close_step()
        return placed

    def step(self) -> None:
        """Let the flow do what is due at `next_us`."""
        self.now_us = self._flow.next_us
        self._flow.step()
        self._average_premium()
        self._close_step()

    def pass_time(self, now_us: int) -> None:
        """Nothing more happens up to now."""
        self.now_us = now_us

    def take_events(self) -> list[StepEvents]:
        """What became public since the last call, oldest first."""
        events, self._step = self._step, []
        return events

    # --- inside ---

    def _open_candles(self, seed: str, start_ms: int) -> Candles:
        item, profile = self.instrument, self.instrument.profile
        minute = start_ms - start_ms % MINUTE
        move = profile.volatility_bps / 1e4 * 1440**0.5 * 0.6
        history = History(f"{seed}:history", minute, self._last, profile.daily_lots, move, item.turnover_units)
        return Candles(history, start_ms, self._last)

    def _taken(self, placed: Placed, liquidated: tuple[int, int] | None = None) -> None:
        """Publish a taker order's fills under one seq."""
        if not placed.fills:
            return
        seq, ms = self._sequencer.next(), self.now_us // 1000
        for fill in placed.fills:
            self._print(fill, seq, ms)
        if liquidated is not None:
            buy = placed.fills[0].taker_buy
            event = SimLiquidation(self.instrument.id, liquidated[1], placed.filled, not buy, ms)
            self._step_liquidations.append(event)

    def _print(self, fill: Fill, seq: int, ms: int) -> None:
        item, ticks, lots = self.instrument, fill.price, fill.lots
        if ticks != self._last:
            self._direction = "PlusTick" if ticks > self._last else "MinusTick"
        elif not self._direction.startswith("Zero"):
            self._direction = "Zero" + self._direction
        self._last = ticks
        trade = SimTrade(item.id, ticks, lots, fill.taker_buy, ms, self._trade_id(), self._direction, seq)
        self._trades.append(trade)
        self._step_trades.append(trade)
        self._candles.add(ticks, lots, item.turnover_units(ticks, lots), ms)
        if self._open_interest:
            # A trade opens, moves or closes positions: a third each; both sides count.
            self._open_interest = max(2, self._open_interest + 2 * lots * (int(self._rng.random() * 3) - 1))
        if fill.maker_owner or fill.taker_owner:
            self._step_fills.append(fill)

    def _trade_id(self) -> str:
        if self.instrument.category is Category.SPOT:
            return str(2_290_000_000_000_000_000 + self._rng.getrandbits(56))
        text = f"{self._rng.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def _close_step(self) -> None:
        """Stamp what has changed with the time and a seq, and queue what is to be published."""
        if self.book.changes != self._changes:
            self._changes = self.book.changes
            self.version += 1
            self.seq = self._sequencer.next()
            self.last_ms = self.now_us // 1000
        if self._step_trades:
            trades, forced, fills = self._step_trades, self._step_liquidations, self._step_fills
            event = StepEvents(self.instrument.id, self.now_us // 1000, tuple(trades), tuple(forced), tuple(fills))
            self._step.append(event)
            self._step_trades, self._step_liquidations, self._step_fills = [], [], []

    def _average_premium(self) -> None:
        """Exponential average of how far the mid is from the index: mark price and funding rest on it."""
        bid, ask = self.best()
        if bid is None or ask is None:
            return
        mid = (bid + ask) / 2 * float(self.instrument.tick)
        weight = min(1.0, (self.now_us - self._premium_us) / _PREMIUM_US)
        self._premium_us = self.now_us
        self._premium += (mid / self._coin.at(self.now_us) - 1 - self._premium) * weight

    def _funding_rate(self) -> Decimal:
        if self.instrument.category is Category.SPOT:
            return Decimal(0)
        rate = self._premium + max(-0.0005, min(0.0005, _INTEREST - self._premium))
        return Decimal(rate).quantize(Decimal("0.00000001"))


class Exchange:
    """All markets, run in one global order of time under one sequencer."""

    def __init__(self, instruments: Iterable[SimInstrument], seed: int = 1, start_ms: int = 1_790_000_000_000) -> None:
        self.now_ms = start_ms
        self.start_ms = start_ms
        self.seed = seed
        self._sequencer = Sequencer(800_000_000_000 + start_ms // 1000)
        self._coins: dict[str, Coin] = {}
        self.markets: dict[InstrumentId, Market] = {}
        for item in instruments:
            market_seed = f"{seed}:{item.id}"
            market = Market(item, self._coin(item), self._sequencer, market_seed, start_ms)
            self.markets[item.id] = market
        self._order = list(self.markets.values())
        self._heap = [(market.next_us, index) for index, market in enumerate(self._order)]
        heapq.heapify(self._heap)

    @property
    def seq(self) -> int:
        """The last cross sequence given out."""
        return self._sequencer.value

    def market(self, instrument: InstrumentId) -> Market:
        """Raises: KeyError when it is not listed."""
        return self.markets[instrument]

    def advance(self, to_ms: int) -> list[StepEvents]:
        """Run every market up to and including this millisecond.

        Returns: trades and liquidations since the last call, one item per market and moment, in order of time.
        """
        events = self._pending()
        heap, order, end_us = self._heap, self._order, to_ms * 1000 + 999
        while heap[0][0] <= end_us:
            index = heap[0][1]
            market = order[index]
            market.step()
            heapq.heapreplace(heap, (market.next_us, index))
            events += market.take_events()
        self.now_ms = max(self.now_ms, to_ms)
        for market in order:
            market.pass_time(self.now_ms * 1000)
        return events

    def submit(
        self,
        instrument: InstrumentId,
        buy: bool,
        lots: int,
        price: int | None = None,
        tif: TimeInForce = TimeInForce.GTC,
        owner: str = "user",
    ) -> Placed:
        """A user's order, now (see Market.submit).

        Raises: KeyError when the instrument is not listed; MisuseError for a size or price below one.
        """
        return self.markets[instrument].submit(buy, lots, price, tif, owner)

    def _pending(self) -> list[StepEvents]:
        """What users' orders did since the last advance."""
        return [event for market in self._order for event in market.take_events()]

    def _coin(self, item: SimInstrument) -> Coin:
        name = f"{item.base_coin}:{item.start_price.normalize()}"
        coin = self._coins.get(name)
        if coin is None:
            coin = Coin(f"{self.seed}:coin:{name}", float(item.start_price), item.profile.volatility_bps)
            coin.begin(self.start_ms * 1000)
            self._coins[name] = coin
        return coin


def diff_window(old: Levels, new: Levels) -> Levels:
    """What changes one side's window from `old` to `new`: (ticks, lots), 0 lots for a level that left it.

    Returns: in the order of the sides given (best first), so bids fall and asks rise.
    """
    if old == new:
        return []
    changed = set(new).difference(old)
    gone = {price for price, _ in old}.difference([price for price, _ in new])
    rows = [(price, 0) for price in gone]
    rows += changed
    falling = len(new or old) > 1 and (new or old)[0][0] > (new or old)[1][0]
    rows.sort(reverse=falling)
    return rows


def seed_number(text: str) -> int:
    """A stable 64-bit number of a text, for seeds given as words."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


__all__ = [
    "HOUSE", "Bar", "Exchange", "Levels", "Market", "Placed", "SimLiquidation", "SimTrade", "StepEvents", "TickerState",
    "TimeInForce", "diff_window", "seed_number",
]  # fmt: skip
