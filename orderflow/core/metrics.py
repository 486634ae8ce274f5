"""Pure metrics of one book's levels. Definitions and edge cases: docs/metrics.md.

Prices stay as the exchange sends them. Sizes become base coin here: inverse contracts are in quote currency, so a
level holds size / price.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.core.book import Levels
    from orderflow.core.types import Level


class BookMetrics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the levels say; None where a side that is needed is empty. Sizes in base coin."""

    bid: float | None = None
    ask: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    mid: float | None = None
    weighted_mid: float | None = None
    spread: float | None = None
    spread_pct: float | None = None
    spread_bps: float | None = None
    imbalance: float | None = None
    queue_imbalance: float | None = None
    liquidity: float | None = None
    liquidity_bid: float | None = None
    liquidity_ask: float | None = None
    band_bid: float | None = None
    band_ask: float | None = None
    truncated: bool = False
    reason: str = ""


def price_noise_decimals(price: float) -> int:
    """Decimals to round a difference of two such prices to: 15 significant digits are exact in a float."""
    return 14 - math.floor(math.log10(price)) if price > 0 else 15


def imbalance(bid_size: float, ask_size: float) -> float | None:
    """(B - A) / (B + A), in [-1, 1]; positive is buy pressure. None when both are 0."""
    total = bid_size + ask_size
    return (bid_size - ask_size) / total if total > 0 else None


def base_size(price: float, size: float, inverse: bool) -> float:
    """A level's size in base coin."""
    return size / price if inverse else size


def side_liquidity(levels: list[Level], inverse: bool) -> float:
    """Sum of the sizes in base coin; exact summation, so that the order of levels does not matter."""
    if inverse:
        return math.fsum(size / price for price, size in levels)
    return math.fsum(size for _, size in levels)


def depth_imbalance(levels: Levels, count: int, inverse: bool = False) -> float | None:
    """`depth_imbalance(N)` over the best `count` levels a side. None when a side is empty."""
    if not levels.bids or not levels.asks:
        return None
    bids, asks = levels.bids, levels.asks
    bid_prices, ask_prices = levels.top_bid_prices(count), levels.top_ask_prices(count)
    if inverse:
        bid_sum = sum([bids[price] / price for price in bid_prices])
        ask_sum = sum([asks[price] / price for price in ask_prices])
    else:
        bid_sum = sum(map(bids.__getitem__, bid_prices))
        ask_sum = sum(map(asks.__getitem__, ask_prices))
    return imbalance(bid_sum, ask_sum)


def band_depth(prices: Sequence[float], sizes: dict[float, float], mid: float, band_bps: float, inverse: bool) -> float:
    """Base coin within `band_bps` of `mid` among `prices`, which ascend."""
    reach = mid * band_bps / 1e4
    first = bisect_left(prices, -reach, key=lambda price: price - mid)
    last = bisect_right(prices, reach, first, key=lambda price: price - mid)
    inside = prices[first:last]
    if inverse:
        return math.fsum(sizes[price] / price for price in inside)
    return math.fsum(map(sizes.__getitem__, inside))


def measure(levels: Levels, count: int, band_bps: float, inverse: bool) -> BookMetrics:
    """Every book metric of a tick.

    Args: count: N of imbalance and liquidity, >= 1; band_bps: half width of the depth band; inverse: contract sizes.
    Returns: BookMetrics; with an empty side only the other side's own values, and reason `empty_side`.
    """
    bid_prices, ask_prices = levels.bid_side.in_order(), levels.ask_side.in_order()  # one look at each side
    bids = [(price, levels.bids[price]) for price in bid_prices[: -count - 1 : -1]]
    asks = [(price, levels.asks[price]) for price in ask_prices[:count]]
    bid, raw_bid = bids[0] if bids else (None, None)
    ask, raw_ask = asks[0] if asks else (None, None)
    bid_size = base_size(bid, raw_bid, inverse) if bid is not None and raw_bid is not None else None
    ask_size = base_size(ask, raw_ask, inverse) if ask is not None and raw_ask is not None else None
    liquidity_bid = side_liquidity(bids, inverse) if bids else None
    liquidity_ask = side_liquidity(asks, inverse) if asks else None
    short = len(bids) < count or len(asks) < count
    if bid is None or ask is None or bid_size is None or ask_size is None or not (liquidity_bid and liquidity_ask):
        return BookMetrics(
            bid=bid, ask=ask, bid_size=bid_size, ask_size=ask_size, liquidity_bid=liquidity_bid,
            liquidity_ask=liquidity_ask, truncated=short, reason="empty_side",
        )  # fmt: skip
    decimals = price_noise_decimals(ask)
    mid = (bid + ask) / 2
    spread = round(ask - bid, decimals)
    reach = mid * band_bps / 1e4
    return BookMetrics(
        bid=bid,
        ask=ask,
        bid_size=bid_size,
        ask_size=ask_size,
        mid=round(mid, decimals),
        weighted_mid=round((bid * ask_size + ask * bid_size) / (bid_size + ask_size), decimals),
        spread=spread,
        spread_pct=100 * spread / mid,
        spread_bps=1e4 * spread / mid,
        imbalance=imbalance(liquidity_bid, liquidity_ask),
        queue_imbalance=imbalance(bid_size, ask_size),
        liquidity=liquidity_bid + liquidity_ask,
        liquidity_bid=liquidity_bid,
        liquidity_ask=liquidity_ask,
        band_bid=band_depth(bid_prices, levels.bids, mid, band_bps, inverse),
        band_ask=band_depth(ask_prices, levels.asks, mid, band_bps, inverse),
        truncated=short or mid - bid_prices[0] <= reach or ask_prices[-1] - mid <= reach,
    )
