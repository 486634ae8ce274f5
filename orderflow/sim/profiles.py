"""How busy and how deep a simulated market is: the constants of its order flow (`sim/flow.py`).

The figures were fitted to recordings with `sim/calibrate.py`; sizes are in lots, distances in ticks, rates per
simulated second.
"""

from __future__ import annotations

import msgspec


class FlowProfile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One market's order flow. A *pick* is one price level that a quote batch looks at."""

    # quoting
    batches_per_s: float  # quote batches: one maker changes a few levels of one side in the same microsecond
    batch_levels: float  # mean picks per batch (geometric, so mostly few and sometimes many)
    touch_share: float  # share of picks that fall on the touch
    near_share: float  # share of picks that fall near the touch (exponential distance)
    near_ticks: float  # mean distance of those
    window_ticks: int  # the rest fall evenly on this many ticks from the touch
    occupancy: float  # share of price levels inside the window that hold orders; beyond it, 0.6 of that
    levels: int  # levels per side the market starts with and holds
    half_spread_ticks: float = 0.5  # 0.5: one tick between best bid and best ask
    # sizes, lognormal
    level_lots: float  # median size of a resting order away from the touch
    level_sigma: float
    touch_lots: float  # what the touch returns to
    order_lots: float  # median size of the small orders queued at the touch
    order_sigma: float
    # takers: episodes of orders of one side, close together, as executed parent orders leave them
    episodes_per_s: float
    takers_per_episode: float
    taker_lots: float  # median
    taker_sigma: float
    # price
    volatility_bps: float  # standard deviation of one minute's return of the reference price
    lag_bps: float  # quotes follow the reference once it is this far away (at least 0.8 ticks)
    liquidations_per_min: float = 0.0

    @property
    def mean_taker_lots(self) -> float:
        """Mean of the lognormal taker size."""
        return float(self.taker_lots * 2.718281828459045 ** (self.taker_sigma**2 / 2))

    @property
    def daily_lots(self) -> float:
        """Expected traded volume of 24 hours."""
        return self.episodes_per_s * self.takers_per_episode * self.mean_taker_lots * 86_400
