"""Seeded order flow for one market: makers that quote around a reference price, and takers that come in clusters.

A zero-intelligence book with four facts of real ones built in: makers change several levels of one side at a time;
takers come as runs of orders of one side; quotes lag the reference price and then move at once, picking off what is
stale; activity and volatility come in waves. Everything goes through the matching engine as ordinary orders.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol

from orderflow.sim.matching import MatchingBook, Order, Placed, TimeInForce

if TYPE_CHECKING:
    from orderflow.sim.instruments import SimInstrument
    from orderflow.sim.matching import Side
    from orderflow.sim.profiles import FlowProfile

SECOND_US: Final = 1_000_000
COIN_STEP_US: Final = 100_000
_STEPS_PER_MIN: Final = 600
_ANCHOR_PULL: Final = 1 / (4 * 3600 * 10)  # the reference drifts back to where it began over some four hours
_WAVE_PULL: Final = 1 / 1800  # volatility and activity waves of about three minutes
_WAVE_SIZE: Final = 0.45
_ACTIVITY: Final = 0.6  # how much of a wave of volatility is one of activity too
_JUMP_CHANCE: Final = 1 / 900


class Coin:
    """The reference price of one coin, shared by its spot and derivatives markets.

    A mean-reverting random walk in steps of 100 ms with waves of volatility and rare jumps. `at()` may be called by
    any number of markets, in global time order; what it says depends on the time alone, not on who asked before.
    """

    def __init__(self, seed: str, price: float, volatility_bps: float, start_us: int) -> None:
        self._rng = random.Random(seed)
        self._start = price
        self._step = volatility_bps / 1e4 / math.sqrt(_STEPS_PER_MIN)
        self._log = 0.0
        self._wave = self._rng.gauss(0.0, _WAVE_SIZE)
        self._until_us = start_us - start_us % COIN_STEP_US + COIN_STEP_US
        self.price = price
        self.activity = math.exp(_ACTIVITY * self._wave)

    def at(self, now_us: int) -> float:
        """The reference price at this time."""
        if now_us >= self._until_us:
            self._walk(now_us)
        return self.price

    def delay(self, by_us: int) -> None:
        """Stand still for so long."""
        self._until_us += by_us

    def _walk(self, now_us: int) -> None:
        gauss, log, wave = self._rng.gauss, self._log, self._wave
        kick = _WAVE_SIZE * math.sqrt(2 * _WAVE_PULL)
        while now_us >= self._until_us:
            self._until_us += COIN_STEP_US
            wave += gauss(0.0, kick) - wave * _WAVE_PULL
            log += gauss(0.0, self._step) * math.exp(wave) - log * _ANCHOR_PULL
            if self._rng.random() < _JUMP_CHANCE:
                log += gauss(0.0, 12 * self._step)
        self._log, self._wave = log, wave
        self.price = self._start * math.exp(log)
        self.activity = math.exp(_ACTIVITY * wave)


class Taken(Protocol):
    """Told of every taker order of the flow. `liquidated`: lots asked and bankruptcy price of a forced order."""

    def __call__(self, placed: Placed, liquidated: tuple[int, int] | None = None) -> None: ...


class OrderFlow:
    """Drives one book. `next_us` is when it wants to act next; `step()` acts and moves it on."""

    def __init__(
        self, instrument: SimInstrument, book: MatchingBook, coin: Coin, seed: str, now_us: int, taken: Taken
    ) -> None:
        self._rng = random.Random(seed)
        self._profile = instrument.profile
        self._book = book
        self._coin = coin
        self._taken = taken
        self._premium = 1 + instrument.premium_bps / 1e4
        self._per_tick = 1 / float(instrument.tick)
        self._max_taker = max(1, instrument.max_market_lots // 3)
        self._reach = _reach(self._profile)
        self._centre = self._centre_on(self._fair(now_us))
        self._quote_us = now_us + self._wait(self._profile.batches_per_s)
        self._take_us = now_us + self._wait(self._profile.episodes_per_s)
        self._edge: dict[bool, int] = {}  # by side, the first price from the touch that the flow has not yet filled
        self._left = 0  # taker orders left in the running episode
        self._take_buy = True
        self._liquidation_us = self._next_liquidation(now_us)
        self.next_us = min(self._quote_us, self._take_us, self._liquidation_us)
        self._populate()

    def step(self) -> None:
        """Do what is due at `next_us`."""
        now = self.next_us
        self._coin.at(now)  # first of all: price and activity are then those of now, whoever else uses the coin
        if now == self._quote_us:
            self._quote(now)
            self._quote_us = now + self._wait(self._profile.batches_per_s)
        elif now == self._take_us:
            self._take()
            self._take_us = now + self._take_wait()
        else:
            self._liquidate(now)
            self._liquidation_us = self._next_liquidation(now)
        self.next_us = min(self._quote_us, self._take_us, self._liquidation_us)

    def delay(self, by_us: int) -> None:
        """Do everything that is due so much later."""
        self._quote_us += by_us
        self._take_us += by_us
        self._liquidation_us += by_us
        self.next_us += by_us

    # --- clocks ---

    def _wait(self, per_s: float) -> int:
        return 1 + int(self._rng.expovariate(per_s * self._coin.activity) * SECOND_US)

    def _take_wait(self) -> int:
        if not self._left:
            return self._wait(self._profile.episodes_per_s)
        slow = self._rng.random() < 0.3
        return 1 + int(self._rng.expovariate(8 if slow else 150) * SECOND_US)

    def _next_liquidation(self, now_us: int) -> int:
        per_min = self._profile.liquidations_per_min
        if per_min <= 0:
            return 1 << 62
        # Liquidations come in cascades: one in three is followed by another within a second or so.
        return now_us + (self._wait(1.5) if self._rng.random() < 0.35 else self._wait(per_min / 60 * 0.65))

    # --- makers ---

    def _fair(self, now_us: int) -> float:
        return self._coin.at(now_us) * self._premium * self._per_tick

    def _quote(self, now_us: int) -> None:
        self._follow(self._fair(now_us))
        rng, profile = self._rng, self._profile
        buy = rng.random() < 0.5
        touch = self._anchor(buy)
        if touch not in self._book.side(buy).lots and rng.random() < 0.6:
            self._build_touch(buy, touch)  # takers emptied it: somebody wants to be first there
        mean = profile.batch_levels - 0.5
        if rng.random() < 0.04:
            mean *= 6  # now and then a maker requotes its whole ladder
        for _ in range(1 + int(rng.expovariate(1.0) * mean)):
            self._pick(buy)

    def _pick(self, buy: bool) -> None:
        rng, profile = self._rng, self._profile
        draw = rng.random()
        if draw < profile.touch_share:
            self._touch(buy)
            return
        if draw < profile.touch_share + profile.near_share:
            distance = 1 + int(rng.expovariate(1 / profile.near_ticks))
        elif draw < 0.97:
            distance = 1 + int(rng.random() * profile.window_ticks)
        else:
            distance = 1 + int(rng.random() * self._reach)
        self._flip(buy, self._anchor(buy) + (-distance if buy else distance), distance)

    def _anchor(self, buy: bool) -> int:
        half = self._profile.half_spread_ticks
        return math.floor(self._centre - half + 1e-9) if buy else math.ceil(self._centre + half - 1e-9)

    def _flip(self, buy: bool, price: int, distance: int) -> None:
        """Look at one level: fill it, empty it, or change its size, so that the share of filled levels stays."""
        if price < 1:
            return
        occupied = self._occupancy(distance)
        queue = self._book.side(buy).queues.get(price)
        if queue is None:
            if self._rng.random() < occupied:
                self._add(buy, price, self._level_lots())
            return
        own = [order for order in queue if not order.owner]
        draw = self._rng.random()
        if draw >= occupied:
            for order in own:
                self._book.cancel(order.id)
        elif draw < 0.25 * occupied and len(own) < 6:
            self._add(buy, price, self._level_lots())
        else:
            self._requote(buy, price, own)

    def _requote(self, buy: bool, price: int, own: list[Order]) -> None:
        """One order of the level shrinks, or gives way to another."""
        if not own:
            return
        order = own[int(self._rng.random() * len(own))]
        if self._rng.random() < 0.3 and order.lots > 1:
            self._book.reduce(order.id, 1 + int(self._rng.random() * (order.lots - 1)))
            return
        self._add(buy, price, self._level_lots())
        self._book.cancel(order.id)

    def _touch(self, buy: bool) -> None:
        """Queue a small order at the touch, or take one away: its size wanders about the profile's."""
        price = self._anchor(buy)
        side = self._book.side(buy)
        if side.lots.get(price, 0) < self._profile.touch_lots * (0.4 + 1.2 * self._rng.random()):
            self._add(buy, price, self._order_lots())
            return
        own = [order for order in side.queues[price] if not order.owner]
        if len(own) > 1:
            self._book.cancel(own[int(self._rng.random() * len(own))].id)

    def _add(self, buy: bool, price: int, lots: int) -> None:
        """Rest an order of a maker; where somebody else's order is in the way, it trades like any other."""
        opposite = self._book.side(not buy).best()
        if opposite is None or (price < opposite if buy else price > opposite):
            self._book.submit(buy, lots, price)
        else:
            self._taken(self._book.submit(buy, lots, price))

    def _level_lots(self) -> int:
        return self._lognormal(self._profile.level_lots, self._profile.level_sigma)

    def _order_lots(self) -> int:
        if self._rng.random() < 0.03:  # a maker's big quote among the small ones
            return 1 + int(self._profile.touch_lots * 0.35 * self._rng.random())
        return self._lognormal(self._profile.order_lots, self._profile.order_sigma)

    def _lognormal(self, median: float, sigma: float) -> int:
        return 1 + int(median * math.exp(self._rng.gauss(0.0, sigma)))

    # --- moving with the reference price ---

    def _follow(self, fair: float) -> None:
        lag = max(0.8, self._profile.lag_bps / 1e4 * fair)
        if abs(fair - self._centre) > lag:
            self._move(fair)

    def _move(self, fair: float) -> None:
        """The market jumps to `fair`: a taker sweeps, makers pull what is left in the way and quote anew."""
        up = fair > self._centre
        old = {buy: self._anchor(buy) for buy in (True, False)}
        self._centre = self._centre_on(fair)
        limit = self._anchor(up)
        lots = self._taker_lots()
        if self._crosses(up, limit):
            self._taken(self._book.submit(up, lots, limit, TimeInForce.IOC))
        self._pull(not up, limit)
        for buy in (True, False):
            new = self._anchor(buy)
            self._restock(buy, old[buy], new)
            self._build_touch(buy, new)

    def _centre_on(self, fair: float) -> float:
        """Where quotes are centred: half-way between two ticks where the spread is to be one."""
        return math.floor(fair) + 0.5 if self._profile.half_spread_ticks == 0.5 else fair

    def _crosses(self, buy: bool, price: int) -> bool:
        best = self._book.side(not buy).best()
        return best is not None and (price >= best if buy else price <= best)

    def _pull(self, buy: bool, limit: int) -> None:
        """Cancel the flow's own orders of this side that stand at or beyond the other side's new touch."""
        side = self._book.side(buy)
        at = bisect_left(side.prices, limit) if buy else bisect_left(side.prices, limit + 1)
        for price in side.prices[at:] if buy else side.prices[:at]:
            self._clear(side, price)

    def _clear(self, side: Side, price: int) -> None:
        for order in [order for order in side.queues[price] if not order.owner]:
            self._book.cancel(order.id)

    def _restock(self, buy: bool, old: int, new: int) -> None:
        """After the touch moved: fill the levels it left behind (or that came into reach), drop those out of reach."""
        if (new > old) is buy:
            for price in range(old, new, 1 if buy else -1):
                self._fill(buy, price, abs(price - new))
            self._trim(buy, new)
        else:
            self._extend(buy, new)

    def _extend(self, buy: bool, touch: int) -> None:
        """Fill prices that the side has not reached so far; what is behind its edge keeps itself filled."""
        sign = -1 if buy else 1
        edge = touch + sign * self._reach
        for price in range(self._edge[buy], edge, sign):
            self._fill(buy, price, abs(price - touch))
        self._edge[buy] = min(self._edge[buy], edge) if buy else max(self._edge[buy], edge)

    def _trim(self, buy: bool, touch: int) -> None:
        """Cancel the flow's orders that are far out of reach."""
        slack = int(self._reach * 1.25)
        limit = touch - slack if buy else touch + slack
        if (self._edge[buy] >= limit) if buy else (self._edge[buy] <= limit):
            return
        side = self._book.side(buy)
        prices = side.prices
        stale = prices[: bisect_left(prices, limit)] if buy else prices[bisect_left(prices, limit + 1) :]
        for price in stale:
            self._clear(side, price)
        self._edge[buy] = limit

    def _fill(self, buy: bool, price: int, distance: int) -> None:
        if price > 0 and price not in self._book.side(buy).lots and self._rng.random() < self._occupancy(distance):
            self._add(buy, price, self._level_lots())

    def _build_touch(self, buy: bool, price: int) -> None:
        """Queue orders at a new touch until it has a fair part of its usual size."""
        aim = self._profile.touch_lots * (0.2 + 0.5 * self._rng.random())
        side = self._book.side(buy)
        for _ in range(60):
            if side.lots.get(price, 0) >= aim:
                return
            self._add(buy, price, self._order_lots())

    def _occupancy(self, distance: int) -> float:
        occupancy = self._profile.occupancy
        return occupancy if distance <= self._profile.window_ticks else 0.6 * occupancy

    def _populate(self) -> None:
        for buy in (True, False):
            touch = self._anchor(buy)
            self._edge[buy] = touch - 1 if buy else touch + 1
            self._build_touch(buy, touch)
            self._extend(buy, touch)

    # --- takers ---

    def _taker_lots(self) -> int:
        return min(self._max_taker, self._lognormal(self._profile.taker_lots, self._profile.taker_sigma))

    def _take(self) -> None:
        rng = self._rng
        if self._left:
            self._left -= 1
        else:
            self._left = int(rng.expovariate(1.0) * self._profile.takers_per_episode)
            # Runs of takers lean towards where the reference price already is.
            lean = self._coin.price * self._premium * self._per_tick - self._centre
            self._take_buy = rng.random() < 1 / (1 + math.exp(-max(-4.0, min(4.0, lean))))
        stranger = rng.random() < 0.12  # others trade in between
        self._taken(self._book.submit(self._take_buy is not stranger, self._taker_lots()))

    def _liquidate(self, now_us: int) -> None:
        """Close a position by force: a long one by selling, at no worse than its bankruptcy price."""
        long = self._fair(now_us) < self._centre if self._rng.random() < 0.7 else self._rng.random() < 0.5
        lots = min(self._max_taker, 1 + int(self._taker_lots() * (2 + 6 * self._rng.random())))
        gap = 0.002 + 0.006 * self._rng.random()
        price = max(1, round(self._centre * (1 - gap if long else 1 + gap)))
        placed = self._book.submit(not long, lots, price, TimeInForce.IOC)
        self._taken(placed, (lots, price))


def _reach(profile: FlowProfile) -> int:
    """How many ticks from the touch hold the profile's number of levels."""
    inside = profile.window_ticks * profile.occupancy
    if profile.levels <= inside:
        return max(2, int(profile.levels / profile.occupancy))
    return profile.window_ticks + int((profile.levels - inside) / (0.6 * profile.occupancy)) + 1
