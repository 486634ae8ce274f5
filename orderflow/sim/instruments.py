"""What the simulated exchange lists: exact sizes, text forms of prices and sizes, and V5 instruments-info rows."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.profiles import FlowProfile  # noqa: TC001  (msgspec resolves the field's type at run time)

if TYPE_CHECKING:
    from collections.abc import Mapping

INVERSE_TURNOVER_SCALE: Final = 8
"""Turnover of inverse contracts is base coin, which is no whole number of anything: it is kept in 1e-8 coins."""


class SimInstrument(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One listed instrument. Prices are whole ticks and sizes whole lots everywhere inside the simulator.

    `price_scale` is the exchange's priceScale: decimals of a padded price, sometimes more than the tick needs
    (BTCUSDT: tick 0.10, scale 2). `start_price` is the reference price of the coin when the simulation starts: the
    same for every instrument of one coin, which is what keeps spot and perpetual together.
    """

    id: InstrumentId
    base_coin: str
    quote_coin: str
    settle_coin: str
    tick: Decimal
    lot: Decimal
    price_scale: int
    start_price: Decimal
    profile: FlowProfile
    max_lots: int
    max_market_lots: int
    symbol_id: int
    launch_ms: int = 1_585_526_400_000
    max_leverage: str = "100.00"
    funding_cap: str = "0.005"
    price_limits: tuple[str, str] = ("0.01", "0.02")
    open_interest_lots: int = 0  # both sides, at the start
    premium_bps: float = 0.0  # where this market likes to trade against the coin's reference price
    size_scale: int = 0  # decimals of a padded size; derived from `lot`
    tick_units: int = 0  # the tick in units of 10**-price_scale; derived
    lot_units: int = 0  # the lot in units of 10**-size_scale; derived

    def __post_init__(self) -> None:
        size_scale = _decimals(self.lot)
        put = msgspec.structs.force_setattr
        put(self, "size_scale", size_scale)
        put(self, "tick_units", int(self.tick.scaleb(self.price_scale)))
        put(self, "lot_units", int(self.lot.scaleb(size_scale)))

    @property
    def category(self) -> Category:
        return self.id.category

    @property
    def symbol(self) -> str:
        return self.id.symbol

    @property
    def start_ticks(self) -> int:
        """The reference price at the start, in ticks."""
        return round(self.start_price / self.tick)

    @property
    def min_lots(self) -> int:
        """Smallest order."""
        return 1

    # --- text forms: padded on linear and inverse books and trades, trimmed on spot and on level 1 ---

    def price_text(self, ticks: int) -> str:
        """`867234` -> `"86723.40"`: padded to priceScale."""
        return pad(ticks * self.tick_units, self.price_scale)

    def price_trimmed(self, ticks: int) -> str:
        """`867234` -> `"86723.4"`, `868050` -> `"86805"`."""
        return trim(ticks * self.tick_units, self.price_scale)

    def size_text(self, lots: int) -> str:
        """`320` -> `"0.320"`: padded to the lot's decimals. 0 is `"0"`, which deletes a level."""
        return pad(lots * self.lot_units, self.size_scale) if lots else "0"

    def size_trimmed(self, lots: int) -> str:
        """`320` -> `"0.32"`."""
        return trim(lots * self.lot_units, self.size_scale)

    # --- exact numbers ---

    def price(self, ticks: int) -> Decimal:
        return ticks * self.tick

    def size(self, lots: int) -> Decimal:
        return lots * self.lot

    def ticks(self, price: Decimal | str) -> int:
        """Exact price -> ticks.

        Raises: ValueError when the price is no whole number of ticks.
        """
        return _whole(Decimal(price), self.tick, "price", "tick size")

    def lots(self, size: Decimal | str) -> int:
        """Exact size -> lots.

        Raises: ValueError when the size is no whole number of lots.
        """
        return _whole(Decimal(size), self.lot, "size", "quantity step")

    def turnover_units(self, ticks: int, lots: int) -> int:
        """Value of a trade in whole units of `turnover_unit`: quote coin, or base coin on inverse."""
        if self.id.category is Category.INVERSE:
            scale: int = 10 ** (INVERSE_TURNOVER_SCALE + self.price_scale - self.size_scale)
            return lots * self.lot_units * scale // (ticks * self.tick_units)
        return ticks * lots

    @property
    def turnover_unit(self) -> Decimal:
        if self.id.category is Category.INVERSE:
            return Decimal(1).scaleb(-INVERSE_TURNOVER_SCALE)
        return self.tick * self.lot

    def turnover(self, units: int) -> Decimal:
        """Exact turnover in quote coin (base coin on inverse)."""
        return units * self.turnover_unit

    def info_row(self) -> dict[str, Any]:
        """This instrument's row of `GET /v5/market/instruments-info`."""
        return _spot_row(self) if self.id.category is Category.SPOT else _contract_row(self)


def pad(units: int, scale: int) -> str:
    """A non-negative count of 10**-scale as decimal text with exactly `scale` decimals."""
    if not scale:
        return str(units)
    text = str(units).rjust(scale + 1, "0")
    return f"{text[:-scale]}.{text[-scale:]}"


def trim(units: int, scale: int) -> str:
    """The same without trailing zeros."""
    text = pad(units, scale)
    return text.rstrip("0").rstrip(".") if scale else text


def _decimals(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _whole(value: Decimal, step: Decimal, what: str, step_name: str) -> int:
    count, rest = divmod(value, step)
    if rest:
        raise ValueError(f"{what} {value} is not a multiple of the {step_name} {step}")
    return int(count)


def _contract_row(item: SimInstrument) -> dict[str, Any]:
    inverse = item.id.category is Category.INVERSE
    max_ticks = 19_999_998
    return {
        "symbol": item.symbol,
        "contractType": "InversePerpetual" if inverse else "LinearPerpetual",
        "status": "Trading",
        "baseCoin": item.base_coin,
        "quoteCoin": item.quote_coin,
        "launchTime": str(item.launch_ms),
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(item.price_scale),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": item.max_leverage, "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": item.price_text(1),
            "maxPrice": item.price_text(max_ticks),
            "tickSize": item.price_text(1),
        },
        "lotSizeFilter": {
            "maxOrderQty": item.size_text(item.max_lots),
            "minOrderQty": item.size_text(item.min_lots),
            "qtyStep": item.size_text(1),
            "postOnlyMaxOrderQty": item.size_text(item.max_lots),
            "maxMktOrderQty": item.size_text(item.max_market_lots),
            "minNotionalValue": "1" if inverse else "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": item.settle_coin,
        "copyTrading": "none" if inverse else "both",
        "upperFundingRate": item.funding_cap,
        "lowerFundingRate": f"-{item.funding_cap}",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": _risk(item),
        "displayName": "",
        "symbolType": "",
        "forbidUplWithdrawal": False,
        "symbolId": item.symbol_id,
    }


def _spot_row(item: SimInstrument) -> dict[str, Any]:
    return {
        "symbolId": item.symbol_id,
        "symbol": item.symbol,
        "baseCoin": item.base_coin,
        "quoteCoin": item.quote_coin,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": item.size_trimmed(1),
            "quotePrecision": "0.0000001",
            "minOrderQty": item.size_trimmed(item.min_lots),
            "maxOrderQty": item.size_trimmed(item.max_lots),
            "minOrderAmt": "5",
            "maxOrderAmt": "8000000",
            "maxLimitOrderQty": item.size_trimmed(item.max_lots),
            "maxMarketOrderQty": item.size_trimmed(item.max_market_lots),
            "postOnlyMaxLimitOrderSize": "60000",
        },
        "priceFilter": {"tickSize": item.price_trimmed(1)},
        "riskParameters": _risk(item),
        "symbolType": "",
    }


def _risk(item: SimInstrument) -> Mapping[str, str]:
    return {"priceLimitRatioX": item.price_limits[0], "priceLimitRatioY": item.price_limits[1]}
