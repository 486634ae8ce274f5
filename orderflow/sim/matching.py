"""The matching engine: one instrument's limit order book with price-time priority.

Pure and exact: prices are integer ticks, sizes integer lots. An order that cannot trade rests at the end of its price's
queue; a taker meets the best price first and, at one price, the oldest order first. The book is never crossed.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from typing import Final, NamedTuple

import msgspec

from orderflow.core.errors import MisuseError

HOUSE: Final = ""
"""Owner of the simulated flow's own orders; users' orders carry a name."""


class TimeInForce(enum.StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "PostOnly"


class OrderStatus(enum.StrEnum):
    """What became of a submitted order, once matching is done."""

    RESTING = "resting"  # all or part of it rests
    FILLED = "filled"
    CANCELLED = "cancelled"  # what did not trade at once is gone (IOC, FOK, market)
    REJECTED = "rejected"  # PostOnly that would have traded


class Order(msgspec.Struct, gc=False, eq=False):
    """A resting order; `lots` is what is left of it."""

    id: int
    buy: bool
    price: int
    lots: int
    owner: str


class Fill(NamedTuple):
    """One match. `maker_left` is what still rests of the maker's order."""

    maker_id: int
    taker_id: int
    price: int
    lots: int
    taker_buy: bool
    maker_owner: str
    taker_owner: str
    maker_left: int


class Placed(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one order."""

    order_id: int
    status: OrderStatus
    fills: tuple[Fill, ...]
    resting: int  # lots now in the book

    @property
    def filled(self) -> int:
        return sum(fill.lots for fill in self.fills)


class Side:
    """One side of the book: queues and aggregate sizes by price, and the prices in ascending order."""

    __slots__ = ("buy", "lots", "prices", "queues")

    def __init__(self, buy: bool) -> None:
        self.buy = buy
        self.prices: list[int] = []
        self.queues: dict[int, list[Order]] = {}
        self.lots: dict[int, int] = {}

    def best(self) -> int | None:
        if not self.prices:
            return None
        return self.prices[-1] if self.buy else self.prices[0]

    def top(self, depth: int) -> list[tuple[int, int]]:
        """The best `depth` levels, best first."""
        lots = self.lots
        prices = self.prices[: -depth - 1 : -1] if self.buy else self.prices[:depth]
        return [(price, lots[price]) for price in prices]

    def append(self, order: Order) -> None:
        price = order.price
        queue = self.queues.get(price)
        if queue is None:
            self.queues[price] = [order]
            self.lots[price] = order.lots
            insort(self.prices, price)
        else:
            queue.append(order)
            self.lots[price] += order.lots

    def remove(self, order: Order) -> None:
        price = order.price
        queue = self.queues[price]
        queue.remove(order)
        if queue:
            self.lots[price] -= order.lots
        else:
            self.drop(price)

    def drop(self, price: int) -> None:
        """Forget an emptied price."""
        del self.queues[price]
        del self.lots[price]
        prices = self.prices
        if prices[-1] == price:
            prices.pop()
        else:
            del prices[bisect_left(prices, price)]

    def available(self, limit: int | None) -> int:
        """Lots a taker with this limit price could get."""
        if limit is None:
            return sum(self.lots.values())
        at = bisect_left(self.prices, limit) if self.buy else bisect_left(self.prices, limit + 1)
        within = self.prices[at:] if self.buy else self.prices[:at]
        return sum(self.lots[price] for price in within)


class MatchingBook:
    """The order book of one instrument. `changes` counts changes, so that readers can skip an unchanged book."""

    def __init__(self) -> None:
        self.bids = Side(True)
        self.asks = Side(False)
        self.orders: dict[int, Order] = {}
        self.changes = 0
        self._last_id = 0

    def side(self, buy: bool) -> Side:
        return self.bids if buy else self.asks

    def best_bid(self) -> int | None:
        return self.bids.best()

    def best_ask(self) -> int | None:
        return self.asks.best()

    def top_levels(self, depth: int | None = None) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(price, lots) of the best `depth` levels (all) of bids and of asks, best first."""
        levels = max(len(self.bids.prices), len(self.asks.prices)) if depth is None else depth
        return self.bids.top(levels), self.asks.top(levels)

    def submit(
        self,
        buy: bool,
        lots: int,
        price: int | None = None,
        tif: TimeInForce = TimeInForce.GTC,
        owner: str = HOUSE,
    ) -> Placed:
        """Match an order and rest what is left of it, as its time in force allows.

        Args: lots: > 0; price: limit in ticks (> 0), None for a market order, which is immediate or cancel.
        Raises: MisuseError for a size or price below one.
        """
        if lots < 1 or (price is not None and price < 1):
            raise MisuseError(f"order of {lots} lots at {price} ticks")
        self._last_id += 1
        return self._place(Order(self._last_id, buy, price or 0, lots, owner), price, tif)

    def cancel(self, order_id: int) -> int:
        """Take a resting order out of the book. Returns: the lots it still had; 0 when it is not resting."""
        order = self.orders.pop(order_id, None)
        if order is None:
            return 0
        self.side(order.buy).remove(order)
        self.changes += 1
        return order.lots

    def reduce(self, order_id: int, lots: int) -> int:
        """Amend a resting order down to `lots`, keeping its place in the queue.

        Returns: the lots taken away; 0 when the order is not resting or is not larger than that.
        Raises: MisuseError for a size below one (cancel it instead).
        """
        if lots < 1:
            raise MisuseError(f"amend to {lots} lots")
        order = self.orders.get(order_id)
        if order is None or order.lots <= lots:
            return 0
        taken = order.lots - lots
        order.lots = lots
        self.side(order.buy).lots[order.price] -= taken
        self.changes += 1
        return taken

    def replace(self, order_id: int, lots: int, price: int) -> Placed | None:
        """Amend a resting order to another price or a larger size: it keeps its id and loses its place, and may trade.

        Returns: the outcome, or None when the order is not resting.
        """
        if lots < 1 or price < 1:
            raise MisuseError(f"amend to {lots} lots at {price} ticks")
        order = self.orders.get(order_id)
        if order is None:
            return None
        self.cancel(order_id)
        return self._place(Order(order_id, order.buy, price, lots, order.owner), price, TimeInForce.GTC)

    def _place(self, order: Order, limit: int | None, tif: TimeInForce) -> Placed:
        opposite = self.asks if order.buy else self.bids
        best = opposite.best()
        crosses = best is not None and (limit is None or (limit >= best if order.buy else limit <= best))
        if not crosses:
            if limit is None or tif is TimeInForce.IOC or tif is TimeInForce.FOK:
                return Placed(order.id, OrderStatus.CANCELLED, (), 0)
            return self._rest(order, ())
        if tif is TimeInForce.POST_ONLY:
            return Placed(order.id, OrderStatus.REJECTED, (), 0)
        if tif is TimeInForce.FOK and opposite.available(limit) < order.lots:
            return Placed(order.id, OrderStatus.CANCELLED, (), 0)
        fills = self._match(order, limit, opposite)
        if not order.lots:
            return Placed(order.id, OrderStatus.FILLED, fills, 0)
        if limit is None or tif is not TimeInForce.GTC:
            return Placed(order.id, OrderStatus.CANCELLED, fills, 0)
        return self._rest(order, fills)

    def _rest(self, order: Order, fills: tuple[Fill, ...]) -> Placed:
        self.orders[order.id] = order
        self.side(order.buy).append(order)
        self.changes += 1
        return Placed(order.id, OrderStatus.RESTING, fills, order.lots)

    def _match(self, taker: Order, limit: int | None, opposite: Side) -> tuple[Fill, ...]:
        fills: list[Fill] = []
        while taker.lots:
            price = opposite.best()
            if price is None or (limit is not None and (price > limit if taker.buy else price < limit)):
                break
            self._match_level(taker, price, opposite, fills)
        self.changes += 1
        return tuple(fills)

    def _match_level(self, taker: Order, price: int, opposite: Side, fills: list[Fill]) -> None:
        queue = opposite.queues[price]
        done = traded = 0
        for maker in queue:
            lots = min(maker.lots, taker.lots)
            maker.lots -= lots
            taker.lots -= lots
            traded += lots
            fills.append(Fill(maker.id, taker.id, price, lots, taker.buy, maker.owner, taker.owner, maker.lots))
            if not maker.lots:
                done += 1
                del self.orders[maker.id]
            if not taker.lots:
                break
        if done == len(queue):
            opposite.drop(price)
        else:
            del queue[:done]
            opposite.lots[price] -= traded
