"""The live market as a backend of the server: one publisher per (endpoint, topic) over one running exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.core.types import Category, InstrumentId
from orderflow.sim import tapes
from orderflow.sim.backend import PRIVATE, TrueBook
from orderflow.sim.bars import INTERVALS
from orderflow.sim.feeds import BOOK_INTERVAL_MS, SLOT_MS, BookPublisher, NumberText, Publisher, TouchPublisher, first_u
from orderflow.sim.rest import BookView, Rest
from orderflow.sim.venue import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow.sim.account import Account
    from orderflow.sim.feeds import Sink
    from orderflow.sim.market import Exchange, Market
    from orderflow.sim.rest import Response


class ExchangeBackend:
    """Publishes a running Exchange.

    Args:
        exchange: the markets; advanced by this backend alone.
        start_ms: exchange time of the first slot.
        account: whose orders the private topics tell of; None: private topics stay silent.
    """

    patient = False

    def __init__(self, exchange: Exchange, start_ms: int, account: Account | None = None) -> None:
        self.exchange = exchange
        self._account = account
        self._slot_ms = start_ms - start_ms % SLOT_MS
        self._paused = False
        self._publishers: dict[tuple[str, str], Publisher] = {}
        self._active: dict[Publisher, None] = {}
        self._trades: dict[InstrumentId, tapes.TradePublisher] = {}
        self._liquidations: dict[InstrumentId, tapes.LiquidationPublisher] = {}
        self._rest = Rest(self)

    # --- what the server asks ---

    def verdict(self, category: Category, topic: str) -> Verdict:
        """Known only when every part is: kind, depth or interval, and a symbol of this category, in upper case."""
        kind, _, rest = topic.partition(".")
        parameter, _, symbol = rest.rpartition(".")
        if not _parameter_known(category, kind, parameter):
            return Verdict.NO_HANDLER
        known = InstrumentId(category, symbol) in self.exchange.markets
        return Verdict.KNOWN if known else Verdict.BAD_SYMBOL

    def attach(self, endpoint: str, topic: str, sink: Sink, now_ms: int) -> Sequence[bytes]:
        publisher = self.publisher(endpoint, topic)
        messages = publisher.first(self._slot_ms)
        publisher.subscribers[sink] = None
        self._active[publisher] = None
        return messages

    def detach(self, endpoint: str, topic: str, sink: Sink) -> None:
        publisher = self.publisher(endpoint, topic)
        publisher.subscribers.pop(sink, None)
        if not publisher.subscribers:
            self._active.pop(publisher, None)

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        publisher = self._publishers.get((endpoint, topic))
        return publisher.snapshot(self._slot_ms) if isinstance(publisher, BookPublisher) else None

    def next_ms(self) -> float:
        return self._slot_ms + SLOT_MS

    def step(self, now_ms: float) -> list[tuple[Publisher, Sequence[bytes]]]:
        """One slot of 10 ms, even when several are due: late ones are caught up in order."""
        if now_ms < self._slot_ms + SLOT_MS:
            return []
        self._slot_ms += SLOT_MS
        if not self._paused:
            self._advance()
        slot_ms = self._slot_ms
        pushes: list[tuple[Publisher, Sequence[bytes]]] = []
        for publisher in self._active:
            if publisher.due(slot_ms):
                messages = publisher.poll(slot_ms)
                if messages:
                    pushes.append((publisher, messages))
        return pushes

    def halt(self, now_ms: float) -> bool:
        """Trading stood still: nothing happened in the markets, and no topic owes a message."""
        self._slot_ms = max(self._slot_ms, int(now_ms) - int(now_ms) % SLOT_MS)
        self._hold()
        return True

    def respond(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, now_ns: int
    ) -> Response:
        return self._rest.respond(method, target, headers, body, now_ns)

    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook:
        market = self.exchange.markets[instrument]
        item = market.instrument
        bids, asks = market.top(depth)
        return TrueBook(
            bids=[(item.price_trimmed(ticks), item.size_trimmed(lots)) for ticks, lots in bids],
            asks=[(item.price_trimmed(ticks), item.size_trimmed(lots)) for ticks, lots in asks],
            seq=market.seq,
            cts=market.last_ms,
        )

    def set_paused(self, paused: bool) -> None:
        """While paused nothing happens in the markets; they go on from where they stood."""
        if self._paused and not paused:
            self._hold()
        self._paused = paused

    def _hold(self) -> None:
        """Bring the markets to this slot without anything happening in them."""
        by_ms = self.exchange.halt(self._slot_ms)
        if self._account is not None:
            self._account.delay(by_ms)

    # --- topics ---

    def publisher(self, endpoint: str, topic: str) -> Publisher:
        """The one publisher of a topic. Raises: KeyError for a topic without a verdict of KNOWN."""
        publisher = self._publishers.get((endpoint, topic))
        if publisher is None:
            made = self._private(topic) if endpoint == PRIVATE else self._public(Category(endpoint), topic)
            publisher = self._publishers[endpoint, topic] = made
        return publisher

    def _private(self, topic: str) -> Publisher:
        return tapes.OutboxPublisher(PRIVATE, topic) if self._account is None else self._account.publisher(topic)

    def _public(self, category: Category, topic: str) -> Publisher:
        kind, _, rest = topic.partition(".")
        parameter, _, symbol = rest.rpartition(".")
        instrument = InstrumentId(category, symbol)
        market = self.exchange.markets[instrument]
        match kind:
            case "orderbook":
                return self._book(market, int(parameter), first_u(category, topic))
            case "publicTrade":
                self._trades[instrument] = trades = tapes.TradePublisher(market)
                return trades
            case "allLiquidation":
                self._liquidations[instrument] = liquidations = tapes.LiquidationPublisher(market)
                return liquidations
            case "tickers":
                return (tapes.SpotTickerPublisher if category is Category.SPOT else tapes.TickerPublisher)(market)
            case _:
                return tapes.KlinePublisher(market, parameter)

    def _book(self, market: Market, depth: int, u: int) -> BookPublisher:
        item = market.instrument
        if depth == 1:
            return TouchPublisher(item.id, market, NumberText(item.price_trimmed, item.size_trimmed), u)
        if item.category is Category.SPOT:
            return BookPublisher(item.id, depth, market, NumberText(item.price_trimmed, item.size_trimmed), u)
        return BookPublisher(item.id, depth, market, NumberText(item.price_text, item.size_text), u)

    def _advance(self) -> None:
        events = self.exchange.advance(self._slot_ms)
        for event in events:
            trades = self._trades.get(event.instrument)
            if trades is not None and trades.subscribers:
                trades.add(event.trades)
            if event.liquidations:
                liquidations = self._liquidations.get(event.instrument)
                if liquidations is not None and liquidations.subscribers:
                    liquidations.add(event.liquidations)
        if self._account is not None:
            self._account.advance(self._slot_ms, events)

    # --- MarketData, for REST ---

    def instrument_rows(self, category: Category) -> list[Mapping[str, Any]]:
        items = [market.instrument for market in self.exchange.markets.values()]
        rows = [item.info_row() for item in items if item.category is category]
        return sorted(rows, key=lambda row: str(row["symbol"]))

    def book_view(self, category: Category, symbol: str, now_ms: int) -> BookView | None:
        """The window of the 1000-level topic, with that topic's `u`."""
        if InstrumentId(category, symbol) not in self.exchange.markets:
            return None
        publisher = self.publisher(category, f"orderbook.1000.{symbol}")
        return publisher.view(now_ms) if isinstance(publisher, BookPublisher) else None

    def trade_rows(self, category: Category, symbol: str, limit: int) -> Sequence[Mapping[str, Any]] | None:
        market = self.exchange.markets.get(InstrumentId(category, symbol))
        return None if market is None else tapes.trade_rows(market, limit)

    def ticker_rows(self, category: Category, symbol: str) -> list[Mapping[str, Any]]:
        wanted = [
            market
            for instrument, market in self.exchange.markets.items()
            if instrument.category is category and symbol in ("", instrument.symbol)
        ]
        return [tapes.ticker_row(market) for market in sorted(wanted, key=lambda market: market.instrument.symbol)]

    def kline_rows(
        self, category: Category, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Sequence[str]] | None:
        market = self.exchange.markets.get(InstrumentId(category, symbol))
        return None if market is None else tapes.kline_rows(market, interval, start_ms, end_ms, limit)


def _parameter_known(category: Category, kind: str, parameter: str) -> bool:
    match kind:
        case "orderbook":
            return parameter in {str(depth) for depth in BOOK_INTERVAL_MS}
        case "kline":
            return parameter in INTERVALS
        case "publicTrade" | "tickers":
            return parameter == ""
        case "allLiquidation":
            return parameter == "" and category is not Category.SPOT
        case _:
            return False
