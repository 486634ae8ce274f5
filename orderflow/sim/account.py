"""The account behind the private endpoint: a small seeded trader whose orders go through the real matching engine.

It quotes at the touch, crosses now and then, cancels what does not fill and keeps its position small, so that a client
of the private topics sees every kind of message in its real order: order, execution, position, wallet.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from orderflow.core.types import Category
from orderflow.sim import ledger
from orderflow.sim.backend import PRIVATE
from orderflow.sim.ledger import OpenOrder, Position
from orderflow.sim.matching import OrderStatus, TimeInForce
from orderflow.sim.tapes import OutboxPublisher
from orderflow.sim.venue import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.core.types import InstrumentId
    from orderflow.sim.market import Exchange, StepEvents
    from orderflow.sim.matching import Fill

OWNER: Final = "account"
START_BALANCE: Final = Decimal(10_000)
PAUSE_MS: Final = (2_000, 6_000)
PATIENCE_MS: Final = 8_000
ORDER_VALUE: Final = 400  # of one order, in quote coin
MOST_ORDERS_HELD: Final = 5  # position limit, in orders


class Account:
    """One unified account in USDT, trading one linear instrument.

    Args: exchange: where it trades; seed: its decisions; start_ms: exchange time of its first thoughts.
    Raises: ValueError when the exchange lists no linear instrument.
    """

    def __init__(self, exchange: Exchange, seed: int, start_ms: int) -> None:
        linear = [item for item in exchange.markets if item.category is Category.LINEAR]
        if not linear:
            raise ValueError("the account trades linear contracts; none is listed")
        self.instrument: InstrumentId = linear[0]
        self.position = Position()
        self.balance = START_BALANCE
        self._market = exchange.markets[self.instrument]
        self._random = random.Random(f"account:{seed}")
        self._publishers: dict[str, OutboxPublisher] = {}
        self._orders: dict[int, OpenOrder] = {}
        self._next_ms = start_ms + PAUSE_MS[0]
        self._count = 0

    def publisher(self, topic: str) -> OutboxPublisher:
        """The one publisher of a private topic, in the form (`order`, `order.linear`) it was asked for."""
        found = self._publishers.get(topic)
        if found is None:
            found = self._publishers[topic] = OutboxPublisher(PRIVATE, topic)
        return found

    def advance(self, now_ms: int, events: Sequence[StepEvents]) -> None:
        """Take note of what filled, then act when it is time. Called once per slot, after the market has advanced."""
        for event in events:
            if event.fills and event.instrument == self.instrument:
                for fill in event.fills:
                    self._filled(fill, event.trades[-1].seq, now_ms)
        self._give_up(now_ms)
        if now_ms >= self._next_ms and not self._orders:
            self._next_ms = now_ms + self._random.randint(*PAUSE_MS)
            self._trade(now_ms)

    def delay(self, by_ms: int) -> None:
        """The market stood still for so long: act that much later. Orders that rest grow older all the same."""
        self._next_ms += by_ms

    # --- acting ---

    def _trade(self, now_ms: int) -> None:
        bid, ask = self._market.best()
        if bid is None or ask is None:
            return
        lots = self._lots(bid)
        held = self.position.lots / lots
        buy = self._random.random() < 0.5 - held / (2 * MOST_ORDERS_HELD)
        market_order = self._random.random() < 0.4
        price = None if market_order else (bid if buy else ask)
        order = self._register(buy, lots, price, now_ms)
        tif = TimeInForce.IOC if price is None else TimeInForce.POST_ONLY
        placed = self._market.submit(buy, lots, price, tif, OWNER)
        self._orders[placed.order_id] = order
        if price is not None:
            self._tell_order(order, "New", now_ms)
        if placed.status in (OrderStatus.REJECTED, OrderStatus.CANCELLED) and not placed.fills:
            self._close(placed.order_id, "Cancelled", now_ms, reason="EC_NoImmediateQtyToFill")
        elif placed.status is OrderStatus.CANCELLED:
            order.doomed = True  # the rest of it is gone; its fills are told with the next slot

    def _give_up(self, now_ms: int) -> None:
        for order_id, order in list(self._orders.items()):
            if now_ms - order.created_ms < PATIENCE_MS:
                continue
            if self._market.cancel(order_id):
                self._close(order_id, "Cancelled", now_ms, cancel="CancelByUser")

    def _lots(self, bid: int) -> int:
        item = self._market.instrument
        return max(1, int(ORDER_VALUE / (item.price(bid) * item.lot)))

    def _register(self, buy: bool, lots: int, price: int | None, now_ms: int) -> OpenOrder:
        self._count += 1
        text = f"{self._random.getrandbits(128):032x}"
        return OpenOrder(
            id=f"{text[:8]}-{text[8:12]}-4{text[13:16]}-9{text[17:20]}-{text[20:]}",
            link_id=f"sim-{self._count}",
            instrument=self._market.instrument,
            buy=buy,
            lots=lots,
            price_ticks=price,
            created_ms=now_ms,
            last_price=self._market.instrument.price_text(self._market.ticker().last),
        )

    # --- telling ---

    def _filled(self, fill: Fill, seq: int, now_ms: int) -> None:
        for order_id, is_maker in ((fill.maker_id, True), (fill.taker_id, False)):
            order = self._orders.get(order_id)
            if order is None or (fill.maker_owner if is_maker else fill.taker_owner) != OWNER:
                continue
            price = order.instrument.price(fill.price)
            size = order.instrument.size(fill.lots)
            fee = ledger.fee(price, size, is_maker)
            order.add(fill.lots, price * size, fee)
            self.position.trade(fill.lots if order.buy else -fill.lots, price, order.instrument.lot)
            self.position.pay(fee)
            self.balance += self.position.take_realised()
            row = ledger.execution_row(order, fill, fee, is_maker, self._mark(), seq, now_ms)
            self._tell("execution", [row], now_ms)
            self._tell("execution.fast", [ledger.fast_row(row)], now_ms)
            self._after_fill(order_id, order, seq, now_ms)

    def _after_fill(self, order_id: int, order: OpenOrder, seq: int, now_ms: int) -> None:
        self.position.seq = seq
        if order.left == 0:
            self._close(order_id, "Filled", now_ms)
        elif not order.doomed:
            self._tell_order(order, "PartiallyFilled", now_ms)
        else:
            self._close(order_id, "Cancelled", now_ms, reason="EC_NoEnoughQtyToFill")
        self._tell("wallet", [ledger.wallet_row(self.balance, self.position, self._mark(), self._lot())], now_ms)

    def _close(self, order_id: int, status: str, now_ms: int, *, cancel: str = "UNKNOWN", reason: str = "") -> None:
        order = self._orders.pop(order_id)
        self._tell_order(order, status, now_ms, cancel=cancel, reason=reason or "EC_NoError")

    def _tell_order(
        self, order: OpenOrder, status: str, now_ms: int, *, cancel: str = "UNKNOWN", reason: str = "EC_NoError"
    ) -> None:
        """Every order event also brings a position message, changed or not."""
        self._tell("order", [ledger.order_row(order, status, cancel, reason, now_ms)], now_ms)
        row = ledger.position_row(order.instrument, self.position, self._mark(), now_ms)
        self._tell("position", [row], now_ms)

    def _tell(self, topic: str, rows: list[dict[str, Any]], now_ms: int) -> None:
        for form in (topic, f"{topic}.linear"):
            publisher = self._publishers.get(form)
            if publisher is None or not publisher.subscribers:
                continue
            head = {} if topic == "execution.fast" else {"id": f"{self._random.getrandbits(56):014x}-{len(rows):x}"}
            publisher.outbox.append(wire({**head, "topic": form, "creationTime": now_ms, "data": rows}))

    def _mark(self) -> Decimal:
        return self._market.ticker().mark

    def _lot(self) -> Decimal:
        return self._market.instrument.lot
