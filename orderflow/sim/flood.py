"""Ready-made book deltas at full speed or at a fixed rate, for benchmarks.

A run of the simulated market is kept ahead as exact windows; their differences are texts with holes for `ts`, `u` and
`seq`, the last one leading back to the first window. So the run can be repeated for ever: every message fits the one
before, and a message costs a join. In these modes `seq` is when the message was due (flood: made), in microseconds of
this machine's monotonic clock, so that another process here can measure the whole way from the schedule to its book.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.backend import PRIVATE, TrueBook
from orderflow.sim.feeds import BookPublisher, NumberText, Publisher, difference
from orderflow.sim.market import Exchange
from orderflow.sim.rest import BookView, Rest
from orderflow.sim.tapes import OutboxPublisher
from orderflow.sim.venue import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.sim.feeds import Sink, TickLevel
    from orderflow.sim.instruments import SimInstrument
    from orderflow.sim.rest import Response

START_MS: Final = 1_790_000_000_000
LOOP_MESSAGES: Final = 2_000
LONGEST_RUN_MS: Final = 600_000
BURST: Final = 64  # messages made before the sockets get a turn


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One delta without its `ts`, `u` and `seq`."""

    head: bytes
    body: bytes
    bids: tuple[TickLevel, ...]
    asks: tuple[TickLevel, ...]


class Loop(Publisher):
    """The messages of one topic, over and over."""

    def __init__(self, item: SimInstrument, depth: int, seed: int, messages: int = LOOP_MESSAGES) -> None:
        super().__init__(item.category, f"orderbook.{depth}.{item.symbol}", 10)
        self.item = item
        self.depth = depth
        self.u = 1_000_000
        self.seq = 0
        self.ts = START_MS
        spot = item.category is Category.SPOT
        self._number = NumberText(
            item.price_trimmed if spot else item.price_text, item.size_trimmed if spot else item.size_text
        )
        self._time_first = spot
        self._at = 0
        windows = _windows(item, depth, seed, messages)
        self.bids, self.asks = windows[0]
        self.pieces = [self._piece(old, new) for old, new in zip(windows, [*windows[1:], windows[0]], strict=True)]

    def first(self, now_ms: int) -> list[bytes]:
        """The window as it stands, as a snapshot."""
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        piece = self._text("snapshot", bids, asks)
        return [self._join(piece)]

    def next(self, ts: int, seq: int) -> bytes:
        """The next delta. `ts`: ms of the exchange's clock; `seq`: see the module."""
        piece = self.pieces[self._at]
        self._at = (self._at + 1) % len(self.pieces)
        self.u += 1
        self.ts, self.seq = ts, seq
        _patch(self.bids, piece.bids)
        _patch(self.asks, piece.asks)
        return self._join(piece)

    def view(self, now_ms: int) -> BookView:
        price, size = self._number.price, self._number.size
        return BookView(
            bids=[(price(ticks), size(lots)) for ticks, lots in sorted(self.bids.items(), reverse=True)],
            asks=[(price(ticks), size(lots)) for ticks, lots in sorted(self.asks.items())],
            ts=now_ms,
            cts=self.ts,
            u=self.u,
            seq=self.seq,
        )

    def _piece(self, old: tuple[dict[int, int], dict[int, int]], new: tuple[dict[int, int], dict[int, int]]) -> Piece:
        bids = sorted(difference(old[0], new[0]), reverse=True)
        return self._text("delta", bids, sorted(difference(old[1], new[1])))

    def _text(self, kind: str, bids: list[TickLevel], asks: list[TickLevel]) -> Piece:
        type_first = "" if self._time_first else f'"type":"{kind}",'
        type_last = f'"type":"{kind}",' if self._time_first else ""
        levels = self._number.levels
        head = f'{{"topic":"{self.topic}",{type_first}"ts":'
        body = f',{type_last}"data":{{"s":"{self.item.symbol}","b":{levels(bids)},"a":{levels(asks)},"u":'
        return Piece(head.encode(), body.encode(), tuple(bids), tuple(asks))

    def _join(self, piece: Piece) -> bytes:
        return b'%b%d%b%d,"seq":%d},"cts":%d}' % (piece.head, self.ts, piece.body, self.u, self.seq, self.ts)


class FloodBackend:
    """Serves loops. Create it with `prepare()`.

    Args: loops: one per topic; rate: messages a second over all subscribed topics, None for as fast as clients take
        them; monotonic_us: the clock of `seq`.
    """

    def __init__(
        self,
        loops: Sequence[Loop],
        rate: float | None,
        monotonic_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self.patient = rate is None
        self._loops = {(loop.endpoint, loop.topic): loop for loop in loops}
        self._private: dict[str, OutboxPublisher] = {}
        self._active: dict[Loop, None] = {}
        self._turn: list[Loop] = []
        self._rate = rate
        self._monotonic_us = monotonic_us
        self._began_ms = math.inf
        self._began_us = 0
        self._sent = 0
        self._paused = False
        self._rest = Rest(self)

    @classmethod
    def prepare(cls, items: Sequence[SimInstrument], depth: int, rate: float | None, seed: int) -> FloodBackend:
        """Run each market for as long as it takes to have its messages, and keep them."""
        return cls([Loop(item, depth, seed) for item in items], rate)

    # --- what the server asks (see backend.Backend) ---

    def verdict(self, category: Category, topic: str) -> Verdict:
        """Only the prepared topics exist."""
        return Verdict.KNOWN if (category, topic) in self._loops else Verdict.NO_HANDLER

    def attach(self, endpoint: str, topic: str, sink: Sink, now_ms: int) -> Sequence[bytes]:
        publisher = self._publisher(endpoint, topic)
        messages = publisher.first(now_ms)
        publisher.subscribers[sink] = None
        if isinstance(publisher, Loop):
            self._active[publisher] = None
            self._restart(now_ms)
        return messages

    def detach(self, endpoint: str, topic: str, sink: Sink) -> None:
        publisher = self._publisher(endpoint, topic)
        publisher.subscribers.pop(sink, None)
        if isinstance(publisher, Loop) and not publisher.subscribers:
            self._active.pop(publisher, None)

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        return None  # ready-made frames know no book

    def next_ms(self) -> float:
        if not self._active or self._paused:
            return math.inf
        return self._began_ms if self._rate is None else self._began_ms + self._sent * 1000 / self._rate

    def step(self, now_ms: float) -> list[tuple[Publisher, Sequence[bytes]]]:
        """A burst (flood), or every message that is due (rate)."""
        batches: dict[Loop, list[bytes]] = {}
        for _ in range(BURST):
            due_ms = self.next_ms()
            if due_ms > now_ms:
                break
            loop = self._next_loop()
            due_us = self._monotonic_us() if self._rate is None else self._began_us + int(self._sent * 1e6 / self._rate)
            batches.setdefault(loop, []).append(loop.next(int(now_ms), due_us))
            self._sent += 1
        return list(batches.items())

    def halt(self, now_ms: float) -> bool:
        """No: a load generator owes its schedule, or a measurement would miss the very waits it is made for."""
        return False

    def respond(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, now_ns: int
    ) -> Response:
        return self._rest.respond(method, target, headers, body, now_ns)

    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook:
        loop = next((loop for loop in self._loops.values() if loop.item.id == instrument), None)
        if loop is None:
            raise KeyError(instrument)
        item = loop.item
        bids, asks = sorted(loop.bids.items(), reverse=True)[:depth], sorted(loop.asks.items())[:depth]
        return TrueBook(
            bids=[(item.price_trimmed(ticks), item.size_trimmed(lots)) for ticks, lots in bids],
            asks=[(item.price_trimmed(ticks), item.size_trimmed(lots)) for ticks, lots in asks],
            seq=loop.seq,
            cts=loop.ts,
        )

    def set_paused(self, paused: bool) -> None:
        self._paused = paused

    # --- MarketData, for REST: instruments and books; there are no trades in these modes ---

    def instrument_rows(self, category: Category) -> list[dict[str, Any]]:
        return [loop.item.info_row() for loop in self._loops.values() if loop.item.category is category]

    def book_view(self, category: Category, symbol: str, now_ms: int) -> BookView | None:
        loops = (loop for loop in self._loops.values() if loop.item.id == InstrumentId(category, symbol))
        return next((loop.view(now_ms) for loop in loops), None)

    def trade_rows(self, category: Category, symbol: str, limit: int) -> list[dict[str, Any]] | None:
        return None

    def ticker_rows(self, category: Category, symbol: str) -> list[dict[str, Any]]:
        return []

    def kline_rows(
        self, category: Category, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Sequence[str]] | None:
        return None

    # --- inside ---

    def _publisher(self, endpoint: str, topic: str) -> Publisher:
        if endpoint == PRIVATE:
            return self._private.setdefault(topic, OutboxPublisher(PRIVATE, topic))
        return self._loops[endpoint, topic]

    def _next_loop(self) -> Loop:
        """The subscribed topics take turns."""
        if not self._turn:
            self._turn = list(self._active)
        return self._turn.pop()

    def _restart(self, now_ms: int) -> None:
        """A new subscriber: the schedule begins now."""
        self._turn.clear()
        self._began_ms = float(now_ms)
        self._began_us = self._monotonic_us()
        self._sent = 0


def _windows(item: SimInstrument, depth: int, seed: int, messages: int) -> list[tuple[dict[int, int], dict[int, int]]]:
    """Successive different windows of a running market, one per push interval of this depth."""
    exchange = Exchange((item,), seed, START_MS)
    market = exchange.markets[item.id]
    probe = BookPublisher(item.id, depth, market, NumberText(item.price_text, item.size_text), 1)
    windows: list[tuple[dict[int, int], dict[int, int]]] = []
    for now_ms in range(START_MS, START_MS + LONGEST_RUN_MS, probe.interval_ms):
        exchange.advance(now_ms)
        bids, asks = market.top(depth)
        window = dict(bids), dict(asks)
        if not windows or window != windows[-1]:
            windows.append(window)
        if len(windows) >= messages:
            break
    return windows


def _patch(side: dict[int, int], changes: Sequence[TickLevel]) -> None:
    for ticks, lots in changes:
        if lots:
            side[ticks] = lots
        else:
            side.pop(ticks, None)
