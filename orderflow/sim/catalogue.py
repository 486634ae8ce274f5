"""The instruments the simulated exchange lists by default, and synthetic ones for load tests.

Ticks, lots, limits and risk figures are those of the exchange's own instruments-info of 2026-08-09 (spot and inverse:
of its documentation); order flow is calibrated on recordings (`orderflow.sim.calibrate`).
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.instruments import SimInstrument
from orderflow.sim.profiles import FlowProfile

REFERENCE_PRICES: Final = {
    "BTC": Decimal("65114.25"),
    "ETH": Decimal("1923.21"),
    "SOL": Decimal("77.305"),
    "XRP": Decimal("1.0953"),
    "DOGE": Decimal("0.07215"),
    "1000PEPE": Decimal("0.004127"),
}


def _flow(
    lot: str,
    *,
    batches: float,
    picks: float,
    touch: float,
    near: tuple[float, float],
    window: int,
    occupancy: float,
    level: tuple[float, float],
    touch_size: float,
    order: tuple[float, float],
    episodes: float,
    takers: float,
    taker: tuple[float, float],
    volatility: float,
    levels: int = 1300,
    lag: float = 0.4,
    liquidations: float = 0.0,
    half_spread: float = 0.5,
) -> FlowProfile:
    """A profile from sizes in coin (contracts on inverse); pairs are (median, sigma) or (share, mean ticks)."""
    unit = float(lot)
    return FlowProfile(
        batches_per_s=batches,
        batch_levels=picks,
        touch_share=touch,
        near_share=near[0],
        near_ticks=near[1],
        window_ticks=window,
        occupancy=occupancy,
        levels=levels,
        half_spread_ticks=half_spread,
        level_lots=level[0] / unit,
        level_sigma=level[1],
        touch_lots=touch_size / unit,
        order_lots=order[0] / unit,
        order_sigma=order[1],
        episodes_per_s=episodes,
        takers_per_episode=takers,
        taker_lots=taker[0] / unit,
        taker_sigma=taker[1],
        volatility_bps=volatility,
        lag_bps=lag,
        liquidations_per_min=liquidations,
    )


def _linear(
    symbol: str,
    tick: str,
    lot: str,
    scale: int,
    limits: tuple[str, str],
    symbol_id: int,
    launch_ms: int,
    profile: FlowProfile,
    *,
    leverage: str = "100.00",
    cap: str = "0.005",
    ratios: tuple[str, str] = ("0.05", "0.1"),
    open_interest: str = "0",
) -> SimInstrument:
    base = symbol.removesuffix("USDT")
    step = Decimal(lot)
    return SimInstrument(
        id=InstrumentId(Category.LINEAR, symbol),
        base_coin=base,
        quote_coin="USDT",
        settle_coin="USDT",
        tick=Decimal(tick),
        lot=step,
        price_scale=scale,
        start_price=REFERENCE_PRICES[base],
        profile=profile,
        max_lots=int(Decimal(limits[0]) / step),
        max_market_lots=int(Decimal(limits[1]) / step),
        symbol_id=symbol_id,
        launch_ms=launch_ms,
        max_leverage=leverage,
        funding_cap=cap,
        price_limits=ratios,
        open_interest_lots=int(Decimal(open_interest) / step),
        premium_bps=-3.0,
    )


def _inverse(symbol: str, tick: str, symbol_id: int, profile: FlowProfile, open_interest: int) -> SimInstrument:
    base = symbol.removesuffix("USD")
    return SimInstrument(
        id=InstrumentId(Category.INVERSE, symbol),
        base_coin=base,
        quote_coin="USD",
        settle_coin=base,
        tick=Decimal(tick),
        lot=Decimal(1),
        price_scale=2,
        start_price=REFERENCE_PRICES[base],
        profile=profile,
        max_lots=25_000_000,
        max_market_lots=5_000_000,
        symbol_id=symbol_id,
        launch_ms=1_542_211_200_000,
        price_limits=("0.01", "0.02"),
        open_interest_lots=open_interest,
        premium_bps=-4.0,
    )


def _spot(
    symbol: str, tick: str, lot: str, scale: int, symbol_id: int, most: str, profile: FlowProfile
) -> SimInstrument:
    base = symbol.removesuffix("USDT")
    step = Decimal(lot)
    return SimInstrument(
        id=InstrumentId(Category.SPOT, symbol),
        base_coin=base,
        quote_coin="USDT",
        settle_coin="USDT",
        tick=Decimal(tick),
        lot=step,
        price_scale=scale,
        start_price=REFERENCE_PRICES[base],
        profile=profile,
        max_lots=int(Decimal(most) / step),
        max_market_lots=int(Decimal(most) / step) // 2,
        symbol_id=symbol_id,
        price_limits=("0.005", "0.01"),
    )


def _linear_majors() -> list[SimInstrument]:
    btc = _flow(
        "0.001", batches=72, picks=2.4, touch=0.07, near=(0.3, 15), window=280, occupancy=0.72, level=(0.079, 2.3),
        touch_size=6, order=(0.003, 1.9), episodes=0.5, takers=11, taker=(0.017, 2.2), volatility=3.5, liquidations=1.5,
    )  # fmt: skip
    eth = _flow(
        "0.01", batches=80, picks=2.7, touch=0.07, near=(0.3, 8), window=240, occupancy=0.75, level=(2.5, 2.2),
        touch_size=120, order=(0.1, 1.9), episodes=0.5, takers=11, taker=(0.5, 2.1), volatility=4.5, liquidations=1.2,
    )  # fmt: skip
    sol = _flow(
        "0.1", batches=38, picks=1.8, touch=0.07, near=(0.7, 9), window=200, occupancy=0.995, level=(458, 1.6),
        touch_size=1150, order=(3, 1.8), episodes=0.2, takers=7, taker=(6, 1.9), volatility=5.0, lag=1.8,
        liquidations=0.5,
    )  # fmt: skip
    xrp = _flow(
        "0.1", batches=38, picks=10, touch=0.05, near=(0.4, 25), window=300, occupancy=0.99, level=(3300, 1.7),
        touch_size=9000, order=(120, 1.8), episodes=0.25, takers=8, taker=(200, 1.9), volatility=5.0, liquidations=0.5,
    )  # fmt: skip
    doge = _flow(
        "1", batches=25, picks=3, touch=0.06, near=(0.6, 10), window=200, occupancy=0.98, level=(60000, 1.6),
        touch_size=150000, order=(900, 1.8), episodes=0.15, takers=6, taker=(2500, 1.9), volatility=6.0,
        liquidations=0.3,
    )  # fmt: skip
    pepe = _flow(
        "100", batches=15, picks=3, touch=0.06, near=(0.6, 10), window=200, occupancy=0.97, level=(1.2e6, 1.6),
        touch_size=3e6, order=(20000, 1.8), episodes=0.1, takers=5, taker=(50000, 1.9), volatility=8.0, lag=0.8,
        liquidations=0.2,
    )  # fmt: skip
    return [
        _linear("BTCUSDT", "0.10", "0.001", 2, ("1500", "150"), 5, 1_584_230_400_000, btc,
                ratios=("0.01", "0.02"), open_interest="59893"),
        _linear("ETHUSDT", "0.01", "0.01", 2, ("10000", "2000"), 6, 1_615_766_400_000, eth,
                ratios=("0.02", "0.04"), open_interest="905000"),
        _linear("SOLUSDT", "0.010", "0.1", 3, ("96000", "12000"), 38, 1_634_256_000_000, sol,
                open_interest="5200000"),
        _linear("XRPUSDT", "0.0001", "0.1", 4, ("7500000", "1500000"), 8, 1_620_898_440_000, xrp,
                open_interest="210000000"),
        _linear("DOGEUSDT", "0.00001", "1", 5, ("43678900", "5991100"), 33, 1_622_630_640_000, doge,
                leverage="75.00", cap="0.0058", open_interest="1600000000"),
        _linear("1000PEPEUSDT", "0.0000010", "100", 7, ("110000000", "42000000"), 310, 1_683_108_271_000, pepe,
                leverage="50.00", cap="0.01", open_interest="9000000000"),
    ]  # fmt: skip


def _inverse_majors() -> list[SimInstrument]:
    btc = _flow(
        "1", batches=25, picks=3, touch=0.05, near=(0.3, 10), window=280, occupancy=0.6, level=(2500, 2.0),
        touch_size=250000, order=(200, 2.0), episodes=0.1, takers=5, taker=(300, 2.0), volatility=3.5, liquidations=0.2,
    )  # fmt: skip
    eth = _flow(
        "1", batches=15, picks=3, touch=0.05, near=(0.3, 10), window=240, occupancy=0.5, level=(1500, 2.0),
        touch_size=90000, order=(150, 2.0), episodes=0.06, takers=4, taker=(200, 2.0), volatility=4.5, liquidations=0.1,
    )  # fmt: skip
    return [
        _inverse("BTCUSD", "0.10", 1, btc, 240_113_967),
        _inverse("ETHUSD", "0.01", 2, eth, 88_400_120),
    ]


def _spot_majors() -> list[SimInstrument]:
    btc = _flow(
        "0.000001", batches=75, picks=1.7, touch=0.12, near=(0.3, 40), window=400, occupancy=0.17, level=(0.032, 1.5),
        touch_size=1.3, order=(0.002, 1.8), episodes=0.2, takers=6, taker=(0.004, 1.8), volatility=3.5, lag=0.8,
    )  # fmt: skip
    eth = _flow(
        "0.00001", batches=9, picks=1.8, touch=0.05, near=(0.25, 25), window=700, occupancy=0.29, level=(0.69, 2.3),
        touch_size=10, order=(0.05, 1.8), episodes=0.06, takers=3, taker=(0.04, 1.8), volatility=4.5, lag=1.5,
    )  # fmt: skip
    sol = _flow(
        "0.001", batches=8, picks=2.4, touch=0.08, near=(0.5, 10), window=150, occupancy=0.8, level=(60, 1.8),
        touch_size=300, order=(1.2, 1.6), episodes=0.05, takers=3, taker=(1.2, 1.8), volatility=5.0,
    )  # fmt: skip
    xrp = _flow(
        "0.01", batches=8, picks=2.4, touch=0.08, near=(0.5, 10), window=200, occupancy=0.8, level=(2000, 1.8),
        touch_size=7000, order=(60, 1.6), episodes=0.05, takers=3, taker=(50, 1.8), volatility=5.0,
    )  # fmt: skip
    return [
        _spot("BTCUSDT", "0.1", "0.000001", 1, 9, "83", btc),
        _spot("ETHUSDT", "0.01", "0.00001", 2, 10, "1900", eth),
        _spot("SOLUSDT", "0.01", "0.001", 2, 55, "31000", sol),
        _spot("XRPUSDT", "0.0001", "0.01", 4, 15, "2000000", xrp),
    ]


CATALOGUE: Final[tuple[SimInstrument, ...]] = (*_linear_majors(), *_inverse_majors(), *_spot_majors())
"""Everything the simulated exchange lists by default; the order is part of no history."""


def catalogue_by_id() -> dict[InstrumentId, SimInstrument]:
    return {item.id: item for item in CATALOGUE}


def make_instruments(count: int, category: Category = Category.LINEAR) -> tuple[SimInstrument, ...]:
    """`count` synthetic instruments, from busy to nearly silent, as a whole exchange's list is.

    The busiest few send a frame in most 20 ms intervals, the median a few a second, the last fifth less than one in
    several seconds: together about the 5 frames/s and symbol measured over 697 perpetuals at depth 50.
    """
    return tuple(_synthetic(index, category) for index in range(count))


def _synthetic(index: int, category: Category) -> SimInstrument:
    base = f"SIM{index:04d}"
    inverse = category is Category.INVERSE
    quote = "USD" if inverse else "USDT"
    activity = 40 * math.exp(-index / 110) + 0.05
    ticks = 2_000 + index * 7_919 % 48_000
    lot = "1" if inverse else "0.1"
    liquid = activity > 2
    profile = _flow(
        lot, batches=activity, picks=4.5, touch=0.08, near=(0.6, 8), window=120, occupancy=0.7 if liquid else 0.35,
        level=(400, 1.7), touch_size=1500, order=(20, 1.6), episodes=activity / 200, takers=5, taker=(40, 1.8),
        volatility=6.0, lag=0.4 if liquid else 1.5, levels=1100 if activity > 30 else 500 if liquid else 220,
        half_spread=0.5 if liquid else 1.5, liquidations=activity / 100 if category is Category.LINEAR else 0.0,
    )  # fmt: skip
    return SimInstrument(
        id=InstrumentId(category, f"{base}{quote}"),
        base_coin=base,
        quote_coin=quote,
        settle_coin=base if inverse else quote,
        tick=Decimal("0.001"),
        lot=Decimal(lot),
        price_scale=3,
        start_price=ticks * Decimal("0.001"),
        profile=profile,
        max_lots=1_000_000_000,
        max_market_lots=100_000_000,
        symbol_id=10_000 + index,
        open_interest_lots=0 if category is Category.SPOT else 20_000_000,
        max_leverage="25.00",
        price_limits=("0.05", "0.1"),
    )
