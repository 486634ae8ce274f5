"""The market behind the simulated exchange: matching, order flow, trades, tickers and candles of every instrument.

Pure and deterministic. Time is an argument, in exchange milliseconds; the same seed, instruments and start give the
same history to the byte, however `advance()` is called, and a market's history does not depend on which others exist.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.bars import HOUR, MINUTE, Bar, Candles, History
from orderflow.sim.flow import Coin, OrderFlow
from orderflow.sim.matching import Fill, MatchingBook, Placed, TimeInForce

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

    Bid and ask are None (and their sizes 0) on an empty side. `mark`, `index` are rounded to the price scale, two
    decimals at least.
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


class Timeline:
    """What all markets share: the time, the cross sequence (strictly rising, never contiguous), and the outbox."""

    def __init__(self, start_ms: int) -> None:
        self.now_us = start_ms * 1000
        self.seq = 800_000_000_000 + start_ms // 1000
        self.outbox: list[StepEvents] = []

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def next_seq(self) -> int:
        self.seq += 2 + (self.seq * 1_103_515_245 + 12_345 >> 16) % 97
        return self.seq


class Market:
    """One instrument: its book, flow and statistics.

    `seq` and `last_ms` are those of the last change of the book, `version` counts changes.
    """

    def __init__(self, instrument: SimInstrument, coin: Coin, timeline: Timeline, seed: str) -> None:
        self.instrument = instrument
        self.book = MatchingBook()
        self.version = 1
        self.seq = timeline.next_seq()
        self.last_ms = timeline.now_ms
        self._coin = coin
        self._timeline = timeline
        self._seed = seed
        self._rng = random.Random(f"{seed}:market")
        self._trades: deque[SimTrade] = deque(maxlen=TRADES_KEPT)
        self._step_trades: list[SimTrade] = []
        self._step_liquidations: list[SimLiquidation] = []
        self._step_fills: list[Fill] = []
        self._open_interest = instrument.open_interest_lots
        self._premium = instrument.premium_bps / 1e4
        self._premium_us = timeline.now_us
        self._flow = OrderFlow(instrument, self.book, coin, f"{seed}:flow", timeline.now_us, self._taken)
        self._start_ms = timeline.now_ms
        self._start_ticks = self._last = self.book.best_bid() or instrument.start_ticks
        self._direction = "ZeroPlusTick"
        self._candles = Candles(self._make_past, self._start_ms, self._last)
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
        return self.book.top_levels(depth)

    def recent_trades(self, count: int) -> list[SimTrade]:
        """The last trades, newest first."""
        newest = list(self._trades)[::-1]
        return newest[:count]

    def klines(self, interval: str, limit: int = 200, end_ms: int | None = None) -> list[Bar]:
        """Up to `limit` candles, oldest first, the last being the open one or the one that holds `end_ms`.

        Raises: KeyError for an interval that is not one of `bars.INTERVALS`.
        """
        return self._candles.klines(interval, self._timeline.now_ms, limit, end_ms)

    def ticker(self) -> TickerState:
        """The ticker as of now. It can only change when `version` or the minute does."""
        item, stats = self.instrument, self._candles.day_stats(self._timeline.now_ms)
        bid, ask = self.best()
        price = self._coin.at(self._timeline.now_us)
        index = Decimal(price).quantize(Decimal(1).scaleb(-max(2, item.price_scale)))
        mark = Decimal(price * (1 + self._premium)).quantize(index)
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
            next_funding_ms=(self._timeline.now_ms // FUNDING_MS + 1) * FUNDING_MS,
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
        self._timeline.now_us = self._flow.next_us
        self._flow.step()
        self._average_premium()
        self._close_step()

    def delay(self, by_us: int) -> None:
        """Everything that is due here is due so much later."""
        self._flow.delay(by_us)

    # --- inside ---

    def _make_past(self) -> History:
        """Candles for the time before the start, as lively as the flow will be."""
        item, profile = self.instrument, self.instrument.profile
        end_ms = self._start_ms - self._start_ms % MINUTE
        move = profile.volatility_bps / 1e4 * 1440**0.5 * 0.6
        seed = f"{self._seed}:history"
        return History(seed, end_ms, self._start_ticks, profile.daily_lots, move, item.turnover_units)

    def _taken(self, placed: Placed, liquidated: tuple[int, int] | None = None) -> None:
        """Publish a taker order's fills under one seq."""
        if not placed.fills:
            return
        seq, ms = self._timeline.next_seq(), self._timeline.now_ms
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
            self.seq = self._timeline.next_seq()
            self.last_ms = self._timeline.now_ms
        if self._step_trades:
            trades, forced, fills = self._step_trades, self._step_liquidations, self._step_fills
            event = StepEvents(self.instrument.id, self._timeline.now_ms, tuple(trades), tuple(forced), tuple(fills))
            self._timeline.outbox.append(event)
            self._step_trades, self._step_liquidations, self._step_fills = [], [], []

    def _average_premium(self) -> None:
        """Exponential average of how far the mid is from the index: mark price and funding rest on it."""
        bid, ask = self.best()
        if bid is None or ask is None:
            return
        now_us = self._timeline.now_us
        mid = (bid + ask) / 2 * float(self.instrument.tick)
        weight = min(1.0, (now_us - self._premium_us) / _PREMIUM_US)
        self._premium_us = now_us
        self._premium += (mid / self._coin.at(now_us) - 1 - self._premium) * weight

    def _funding_rate(self) -> Decimal:
        if self.instrument.category is Category.SPOT:
            return Decimal(0)
        rate = self._premium + max(-0.0005, min(0.0005, _INTEREST - self._premium))
        return Decimal(rate).quantize(Decimal("0.00000001"))


class Exchange:
    """All markets, run in one global order of time under one sequencer."""

    def __init__(self, instruments: Iterable[SimInstrument], seed: int = 1, start_ms: int = 1_790_000_000_000) -> None:
        self.start_ms = start_ms
        self.seed = seed
        self._timeline = Timeline(start_ms)
        self._coins: dict[str, Coin] = {}
        self.markets: dict[InstrumentId, Market] = {}
        for item in instruments:
            self.markets[item.id] = Market(item, self._coin(item), self._timeline, f"{seed}:{item.id}")
        self._order = list(self.markets.values())
        self._heap = [(market.next_us, index) for index, market in enumerate(self._order)]
        heapq.heapify(self._heap)

    @property
    def now_ms(self) -> int:
        """Exchange time: how far the markets have run."""
        return self._timeline.now_ms

    @property
    def seq(self) -> int:
        """The last cross sequence given out."""
        return self._timeline.seq

    def advance(self, to_ms: int) -> list[StepEvents]:
        """Run every market up to and including this millisecond; earlier times change nothing.

        Returns: trades and liquidations since the last call, one item per market and moment, in order of time.
        """
        heap, order, timeline = self._heap, self._order, self._timeline
        end_us = to_ms * 1000 + 999
        while heap and heap[0][0] <= end_us:
            index = heap[0][1]
            market = order[index]
            market.step()
            heapq.heapreplace(heap, (market.next_us, index))
        timeline.now_us = max(timeline.now_us, end_us)
        events, timeline.outbox = timeline.outbox, []
        return events

    def halt(self, to_ms: int) -> int:
        """Let time pass up to this millisecond without anything happening; earlier times change nothing.

        What was due goes on that much later, in the same order: the history continues, with a hole in it.
        Returns: the length of the hole in ms.
        """
        by_ms = max(0, to_ms - self.now_ms)
        by_us = by_ms * 1000
        for coin in self._coins.values():
            coin.delay(by_us)
        for market in self._order:
            market.delay(by_us)
        self._heap = [(at_us + by_us, index) for at_us, index in self._heap]
        self._timeline.now_us += by_us
        return by_ms

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

    def _coin(self, item: SimInstrument) -> Coin:
        """Instruments share a coin when they agree on its name, its price and how lively it is."""
        name = f"{item.base_coin}:{item.start_price.normalize()}:{item.profile.volatility_bps}"
        coin = self._coins.get(name)
        if coin is None:
            coin = Coin(
                f"{self.seed}:coin:{name}", float(item.start_price), item.profile.volatility_bps, self.start_ms * 1000
            )
            self._coins[name] = coin
        return coin


def diff_window(old: Levels, new: Levels, buy: bool) -> Levels:
    """What changes one side's window from `old` to `new`: (ticks, lots), 0 lots for a level that left it.

    Returns: best first, so bids fall and asks rise; empty when nothing changed.
    """
    if old == new:
        return []
    rows = set(new).difference(old)
    rows.update((price, 0) for price in {price for price, _ in old}.difference([price for price, _ in new]))
    return sorted(rows, reverse=buy)
