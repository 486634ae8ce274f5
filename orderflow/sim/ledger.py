"""Orders, position and wallet of the simulated account as plain bookkeeping, and their rows on the private topics."""

from __future__ import annotations

import uuid
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.sim.tapes import plain, side_text

if TYPE_CHECKING:
    from orderflow.sim.instruments import SimInstrument
    from orderflow.sim.matching import Fill

MAKER_FEE: Final = Decimal("0.0002")
TAKER_FEE: Final = Decimal("0.00055")
LEVERAGE: Final = 10
MAINTENANCE: Final = Decimal("0.005")
CENT: Final = Decimal("0.00000001")


class OpenOrder(msgspec.Struct, kw_only=True):
    """One order of the account. Sizes in lots, values and fees in settle coin."""

    id: str
    link_id: str
    instrument: SimInstrument
    buy: bool
    lots: int
    price_ticks: int | None  # None: a market order
    created_ms: int
    last_price: str
    filled: int = 0
    value: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    doomed: bool = False  # cancelled by the engine; only the telling of its fills is left

    @property
    def left(self) -> int:
        return self.lots - self.filled

    def add(self, lots: int, value: Decimal, fee: Decimal) -> None:
        self.filled += lots
        self.value += value
        self.fees += fee

    @property
    def average(self) -> Decimal:
        """Average fill price, 0 before the first fill."""
        return self.value / self.instrument.size(self.filled) if self.filled else Decimal(0)


class Position:
    """A one-way position: `lots` is positive when long. Realised results are kept until they are taken."""

    def __init__(self) -> None:
        self.lots = 0
        self.entry = Decimal(0)
        self.realised = Decimal(0)
        self.seq = -1  # never traded
        self._untaken = Decimal(0)

    def trade(self, lots: int, price: Decimal, lot: Decimal) -> None:
        """Add a fill (negative lots: sold). Closing part realises profit, opening part moves the entry price."""
        closing = min(abs(lots), abs(self.lots)) if self.lots * lots < 0 else 0
        if closing:
            gain = (price - self.entry) * closing * lot * (1 if self.lots > 0 else -1)
            self._book(gain)
        opening = abs(lots) - closing
        held = abs(self.lots) - closing
        if opening:
            self.entry = (self.entry * held + price * opening) / (held + opening)
        self.lots += lots
        if not self.lots:
            self.entry = Decimal(0)

    def pay(self, fee: Decimal) -> None:
        self._book(-fee)

    def take_realised(self) -> Decimal:
        """What has been won or paid since the last call."""
        taken, self._untaken = self._untaken, Decimal(0)
        return taken

    def unrealised(self, mark: Decimal, lot: Decimal) -> Decimal:
        return (mark - self.entry) * self.lots * lot if self.lots else Decimal(0)

    def _book(self, amount: Decimal) -> None:
        self.realised += amount
        self._untaken += amount


def fee(price: Decimal, size: Decimal, is_maker: bool) -> Decimal:
    """Quantity times price times rate, in settle coin."""
    return (price * size * (MAKER_FEE if is_maker else TAKER_FEE)).quantize(CENT, ROUND_HALF_EVEN)


def _order_price(order: OpenOrder) -> Decimal:
    return Decimal(order.last_price) if order.price_ticks is None else order.instrument.price(order.price_ticks)


def order_row(order: OpenOrder, status: str, cancel: str, reason: str, now_ms: int) -> dict[str, Any]:
    """A row of the `order` topic."""
    item, market = order.instrument, order.price_ticks is None
    closed = status in ("Filled", "Cancelled")
    return {
        "category": item.category,
        "symbol": item.symbol,
        "orderId": order.id,
        "orderLinkId": order.link_id,
        "isLeverage": "",
        "blockTradeId": "",
        "price": order.last_price if order.price_ticks is None else item.price_text(order.price_ticks),
        "qty": item.size_text(order.lots),
        "side": side_text(order.buy),
        "positionIdx": 0,
        "orderStatus": status,
        "createType": "CreateByUser",
        "cancelType": cancel,
        "rejectReason": reason,
        "avgPrice": plain(order.average.quantize(CENT)) if order.filled else "",
        "leavesQty": "0" if closed else item.size_text(order.left),
        "leavesValue": "0" if closed else plain(order.left * item.lot * _order_price(order)),
        "cumExecQty": item.size_text(order.filled),
        "cumExecValue": plain(order.value),
        "cumExecFee": plain(order.fees),
        "closedPnl": "0",
        "feeCurrency": "",
        "timeInForce": "IOC" if market else "PostOnly",
        "orderType": "Market" if market else "Limit",
        "stopOrderType": "",
        "orderIv": "",
        "marketUnit": "",
        "triggerPrice": "",
        "takeProfit": "",
        "stopLoss": "",
        "tpslMode": "",
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "triggerDirection": 0,
        "triggerBy": "",
        "lastPriceOnCreated": order.last_price,
        "reduceOnly": False,
        "closeOnTrigger": False,
        "placeType": "",
        "smpType": "None",
        "smpGroup": 0,
        "smpOrderId": "",
        "createdTime": str(order.created_ms),
        "updatedTime": str(now_ms),
        "cumFeeDetail": {item.settle_coin: plain(order.fees)},
        "rpiTakerAccess": False,
        "rpiMatchedQty": "0",
    }


def execution_row(
    order: OpenOrder, fill: Fill, paid: Decimal, is_maker: bool, mark: Decimal, seq: int, now_ms: int
) -> dict[str, Any]:
    """A row of the `execution` topic."""
    item = order.instrument
    name = f"{order.id}/{seq}/{order.filled}"
    return {
        "category": item.category,
        "symbol": item.symbol,
        "closedSize": "0",
        "execFee": plain(paid),
        "execId": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
        "execPrice": item.price_trimmed(fill.price),
        "execQty": item.size_text(fill.lots),
        "execType": "Trade",
        "execValue": plain(item.price(fill.price) * item.size(fill.lots)),
        "feeRate": plain(MAKER_FEE if is_maker else TAKER_FEE),
        "tradeIv": "",
        "markIv": "",
        "blockTradeId": "",
        "markPrice": f"{mark:f}",
        "indexPrice": "",
        "underlyingPrice": "",
        "leavesQty": item.size_text(order.left),
        "orderId": order.id,
        "orderLinkId": order.link_id,
        "orderPrice": order.last_price if order.price_ticks is None else item.price_trimmed(order.price_ticks),
        "orderQty": item.size_text(order.lots),
        "orderType": "Market" if order.price_ticks is None else "Limit",
        "stopOrderType": "UNKNOWN",
        "side": side_text(order.buy),
        "execTime": str(now_ms),
        "isLeverage": "0",
        "isMaker": is_maker,
        "seq": seq,
        "marketUnit": "",
        "execPnl": "0",
        "createType": "CreateByUser",
        "extraFees": "",
        "feeCurrency": item.settle_coin,
    }


def fast_row(row: dict[str, Any]) -> dict[str, Any]:
    """The `execution.fast` row of an execution: fewer fields, and no link id for maker fills."""
    keys = (
        "category",
        "symbol",
        "execId",
        "execPrice",
        "execQty",
        "orderId",
        "isMaker",
        "orderLinkId",
        "side",
        "execTime",
    )
    link_id = "" if row["isMaker"] else row["orderLinkId"]
    return {**{key: row[key] for key in keys}, "orderLinkId": link_id, "seq": row["seq"]}


def position_row(item: SimInstrument, position: Position, mark: Decimal, now_ms: int) -> dict[str, Any]:
    """A row of the `position` topic; a flat position has `side` "" and `size` "0"."""
    size = abs(position.lots) * item.lot
    value = size * position.entry
    margin = plain((value / LEVERAGE).quantize(CENT))
    maintenance = plain((value * MAINTENANCE).quantize(CENT))
    return {
        "positionIdx": 0,
        "tradeMode": 0,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": item.symbol,
        "side": side_text(position.lots > 0) if position.lots else "",
        "size": item.size_text(abs(position.lots)),
        "entryPrice": plain(position.entry.quantize(CENT)),
        "leverage": str(LEVERAGE),
        "breakEvenPrice": plain(position.entry.quantize(CENT)) if position.lots else "",
        "positionValue": plain(value.quantize(CENT)),
        "positionBalance": "0",
        "markPrice": f"{mark:f}",
        "positionIM": margin,
        "positionIMByMp": margin,
        "positionMM": maintenance,
        "positionMMByMp": maintenance,
        "takeProfit": "0",
        "stopLoss": "0",
        "trailingStop": "0",
        "unrealisedPnl": plain(position.unrealised(mark, item.lot).quantize(CENT)),
        "curRealisedPnl": plain(position.realised.quantize(CENT)),
        "cumRealisedPnl": plain(position.realised.quantize(CENT)),
        "sessionAvgPrice": "",
        "createdTime": str(item.launch_ms),
        "updatedTime": str(now_ms),
        "openTime": now_ms,
        "tpslMode": "Full",
        "liqPrice": "",
        "bustPrice": "",
        "category": item.category,
        "positionStatus": "Normal",
        "adlRankIndicator": 2 if position.lots else 0,
        "autoAddMargin": 0,
        "leverageSysUpdatedTime": "",
        "mmrSysUpdatedTime": "",
        "seq": position.seq,
        "isReduceOnly": False,
    }


def wallet_row(balance: Decimal, position: Position, mark: Decimal, lot: Decimal) -> dict[str, Any]:
    """The one row of the `wallet` topic: a unified account that holds USDT."""
    upl = position.unrealised(mark, lot)
    equity = balance + upl
    value = abs(position.lots) * lot * position.entry
    margin, maintenance = value / LEVERAGE, value * MAINTENANCE
    total, initial, minimum = (plain(amount.quantize(CENT)) for amount in (equity, margin, maintenance))
    return {
        "accountType": "UNIFIED",
        "accountIMRate": plain((margin / equity).quantize(Decimal("0.0001"))),
        "accountMMRate": plain((maintenance / equity).quantize(Decimal("0.0001"))),
        "accountIMRateByMp": plain((margin / equity).quantize(Decimal("0.0001"))),
        "accountMMRateByMp": plain((maintenance / equity).quantize(Decimal("0.0001"))),
        "totalEquity": total,
        "totalWalletBalance": plain(balance.quantize(CENT)),
        "totalMarginBalance": total,
        "totalAvailableBalance": plain((equity - margin).quantize(CENT)),
        "totalPerpUPL": plain(upl.quantize(CENT)),
        "totalInitialMargin": initial,
        "totalInitialMarginByMp": initial,
        "totalMaintenanceMargin": minimum,
        "totalMaintenanceMarginByMp": minimum,
        "accountLTV": "0",
        "coin": [_coin_row("USDT", balance, upl, initial, minimum, position.realised)],
    }


def _coin_row(
    coin: str, balance: Decimal, upl: Decimal, initial: str, maintenance: str, realised: Decimal
) -> dict[str, Any]:
    equity = plain((balance + upl).quantize(CENT))
    return {
        "coin": coin,
        "equity": equity,
        "usdValue": equity,
        "walletBalance": plain(balance.quantize(CENT)),
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": "0",
        "totalPositionIM": initial,
        "totalPositionMM": maintenance,
        "unrealisedPnl": plain(upl.quantize(CENT)),
        "cumRealisedPnl": plain(realised.quantize(CENT)),
        "bonus": "0",
        "collateralSwitch": True,
        "marginCollateral": True,
        "colRes": "0",
        "locked": "0",
        "spotHedgingQty": "0",
        "spotBorrow": "0",
    }
