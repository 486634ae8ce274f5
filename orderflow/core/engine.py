"""The one reducer: events in, outputs out. Live, replay and backtest feed the same engine.

It holds every book and never reads a clock: time is in the events. The one exception is `clock`, used only to measure
our own processing; leave it out in replay and those two latencies are simply absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core import metrics
from orderflow.core.book import Book
from orderflow.core.latency import STAMPS_FOLD_AT, LatencyHistogram
from orderflow.core.policy import BookPolicy, MetricsPolicy
from orderflow.core.quality import figures, tally_of
from orderflow.core.types import (
    LIVE,
    BookDump,
    BookState,
    BookUpdate,
    BookView,
    Category,
    ClockOffset,
    ClockStepped,
    Distrust,
    Event,
    HopLatency,
    Instrument,
    InstrumentId,
    LinkDown,
    LinkUp,
    MetricsTick,
    Output,
    Percentiles,
    Started,
    Stopping,
    Syncing,
    TickDue,
    TimerDue,
    TopicRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orderflow.core.figures import Quality
    from orderflow.core.quality import Tally

_NOTHING: Final[tuple[Output, ...]] = ()
_HOPS: Final = ("engine_to_gateway", "gateway_to_socket", "socket_to_book", "book_to_metrics")


class Engine:
    """Every book of one run.

    Args:
        instruments: (instrument, depth) of each book.
        clock: monotonic ns, only to time our own work; None leaves `socket_to_book` and `book_to_metrics` empty.
        received: `recv_ns` of messages is when they came; False (imports): nobody noted that, there is no feed latency.
    """

    def __init__(
        self,
        instruments: Iterable[tuple[InstrumentId, int]],
        book_policy: BookPolicy | None = None,
        metrics_policy: MetricsPolicy | None = None,
        clock: Callable[[], int] | None = None,
        *,
        received: bool = True,
    ) -> None:
        policy = book_policy or BookPolicy()
        self.books: dict[InstrumentId, Book] = {key: Book(key, depth, policy) for key, depth in instruments}
        self.facts: dict[InstrumentId, Instrument] = {}
        self.clock_offset: ClockOffset | None = None
        self._metrics = metrics_policy or MetricsPolicy()
        self._clock = clock
        self._offset_us: int | None = 0 if received else None
        self.resyncs: dict[InstrumentId, dict[str, int]] = {key: {} for key in self.books}  # by reason
        self._connected: set[InstrumentId] = set()
        self._totals = {hop: LatencyHistogram() for hop in _HOPS if hop != "gateway_to_socket"}
        self.latency = {key: LatencyHistogram() for key in self.books}  # gateway to socket, up to the last tick
        self.offsets = LatencyHistogram()  # every offset learnt, us
        self._final: tuple[Quality, ...] | None = None
        self._handlers: dict[type, Callable[..., tuple[Output, ...]]] = {
            BookUpdate: lambda e: tuple(self.apply_all((e,))),
            Syncing: self._syncing,
            Distrust: lambda e: self.books[e.instrument].distrust(e.reason, e.mono_ns, refused=e.refused),
            TopicRefused: lambda e: self.books[e.instrument].close("refused", e.mono_ns, e.text),
            LinkUp: self._link_up,
            LinkDown: lambda e: self._each(e.instruments, lambda book: book.link_down(e.reason, e.mono_ns)),
            Instrument: self._learn_facts,
            ClockOffset: self._learn_offset,
            ClockStepped: self._clock_stepped,
            Started: self._start,
            Stopping: self._stop,
            TimerDue: lambda e: self._each(self.books, lambda book: book.check(e.mono_ns)),
            TickDue: self._ticks,
        }

    def apply(self, event: Event) -> tuple[Output, ...]:
        """Take one event; returns what must be told or done, in order. Events the monitor does not use give nothing.

        Raises: KeyError for an instrument the engine was not made for.
        """
        handler = self._handlers.get(type(event))
        return handler(event) if handler is not None else _NOTHING

    def apply_all(self, events: Iterable[Event]) -> list[Output]:
        """`apply` for every event of one socket read; the outputs in order."""
        outputs: list[Output] = []
        clock, books = self._clock, self.books
        for event in events:
            if type(event) is BookUpdate:  # the one event that comes thousands of times a second
                book = books[event.instrument]
                told = book.apply(event)
                # Stamps are taken at arrival, so a stall of ours shows up in the figures.
                done_ns = clock() if clock is not None else None
                stamps = book.hops.stamps
                stamps.append((event.recv_ns, event.exchange_ms, event.engine_ms, event.mono_ns, done_ns))
                if len(stamps) >= STAMPS_FOLD_AT:
                    book.hops.fold(self._offset_us)
            else:
                told = self.apply(event)
            if told:
                outputs += told
        return outputs

    def _each(self, keys: Iterable[InstrumentId], act: Callable[[Book], tuple[Output, ...]]) -> tuple[Output, ...]:
        return tuple(output for key in keys for output in act(self.books[key]))

    def _syncing(self, event: Syncing) -> tuple[Output, ...]:
        book = self.books[event.instrument]
        before = book.counters.resyncs
        outputs = book.syncing(event.reason, event.mono_ns)
        if book.counters.resyncs > before:
            reasons = self.resyncs[event.instrument]
            reasons[event.reason] = reasons.get(event.reason, 0) + 1
        return outputs

    def _link_up(self, event: LinkUp) -> tuple[Output, ...]:
        for key in event.instruments:
            if key in self._connected:
                self.books[key].counters.reconnects += 1
            self._connected.add(key)
        return _NOTHING

    def _learn_facts(self, event: Instrument) -> tuple[Output, ...]:
        self.facts[event.id] = event
        return _NOTHING

    def _learn_offset(self, event: ClockOffset) -> tuple[Output, ...]:
        self._fold()  # what came before was measured with the old one
        self.clock_offset = event
        offset_us = round(event.offset_ms * 1000)
        if self._offset_us is not None:
            self._offset_us = offset_us
        self.offsets.record(offset_us)
        return _NOTHING

    def _start(self, event: Started) -> tuple[Output, ...]:
        for book in self.books.values():
            book.coverage.begin(event.mono_ns)
        return _NOTHING

    def _stop(self, event: Stopping) -> tuple[Output, ...]:
        for book in self.books.values():
            book.coverage.end(event.mono_ns)
        self._final = self.quality(event.mono_ns)
        return _NOTHING

    def _clock_stepped(self, event: ClockStepped) -> tuple[Output, ...]:
        """The offset moved along; each message keeps the one that held when it came."""
        step_ns = event.by_ms * 1e6
        middle_ns = event.recv_ns - event.mono_ns - step_ns / 2
        for book in self.books.values():
            stamps = book.hops.stamps
            after = [stamp for stamp in stamps if (stamp[0] - stamp[3] - middle_ns) * step_ns > 0]
            stamps[:] = [stamp for stamp in stamps if (stamp[0] - stamp[3] - middle_ns) * step_ns <= 0]
            book.hops.fold(self._offset_us)
            stamps += after
        offset = self.clock_offset
        if offset is not None:
            self.clock_offset = msgspec.structs.replace(offset, offset_ms=offset.offset_ms + event.by_ms)
            self._offset_us = round(self.clock_offset.offset_ms * 1000)
        return _NOTHING

    def _fold(self) -> None:
        for book in self.books.values():
            book.hops.fold(self._offset_us)

    # --- ticks

    def _ticks(self, event: TickDue) -> tuple[Output, ...]:
        ticks: list[Output] = []
        for book in self.books.values() if event.instrument is None else (self.books[event.instrument],):
            ticks.append(self._tick(book, event.recv_ns, event.mono_ns))
            self._end_interval(book)
            if self._clock is not None:
                self._totals["book_to_metrics"].record((self._clock() - event.mono_ns) // 1000)
        return tuple(ticks)

    def _end_interval(self, book: Book) -> None:
        hops = book.hops
        self._totals["engine_to_gateway"].merge(hops.engine_to_gateway)
        self._totals["socket_to_book"].merge(hops.socket_to_book)
        self.latency[book.instrument].merge(hops.gateway_to_socket)
        hops.clear()

    def _tick(self, book: Book, recv_ns: int, mono_ns: int) -> MetricsTick:
        key = book.instrument
        live = book.state is LIVE
        policy = self._metrics
        inverse = key.category is Category.INVERSE
        seen = metrics.measure(book.levels, policy.levels, policy.band_bps, inverse) if live else metrics.BookMetrics()
        hops = book.hops
        hops.fold(self._offset_us)
        feed = hops.gateway_to_socket.percentiles()
        facts = self.facts.get(key)
        return MetricsTick(
            ts=recv_ns // 1_000_000,
            mono_ns=mono_ns,
            category=key.category,
            symbol=key.symbol,
            state=book.state,
            reason=seen.reason if live else book.reason,
            depth=book.depth,
            base_coin=facts.base_coin if facts else None,
            quote_coin=facts.quote_coin if facts else None,
            price_decimals=facts.price_decimals if facts else None,
            size_decimals=facts.size_decimals if facts else None,
            bid=seen.bid,
            ask=seen.ask,
            bid_size=seen.bid_size,
            ask_size=seen.ask_size,
            mid=seen.mid,
            weighted_mid=seen.weighted_mid,
            spread=seen.spread,
            spread_pct=seen.spread_pct,
            spread_bps=seen.spread_bps,
            imbalance=seen.imbalance,
            queue_imbalance=seen.queue_imbalance,
            liquidity=seen.liquidity,
            liquidity_bid=seen.liquidity_bid,
            liquidity_ask=seen.liquidity_ask,
            band_bps=policy.band_bps,
            band_bid=seen.band_bid,
            band_ask=seen.band_ask,
            truncated=seen.truncated,
            latency_ms=feed.p50,
            latency_error_ms=self.clock_offset.error_ms if self.clock_offset else None,
            latency_negative=hops.gateway_to_socket.negative,
            book_age_ms=round((mono_ns - book.last_mono_ns) / 1e6, 3) if book.last_mono_ns is not None else None,
            u=book.u,
            seq=book.seq,
            counters=book.counters.freeze(),
            hops=HopLatency(
                engine_to_gateway=hops.engine_to_gateway.percentiles(),
                gateway_to_socket=feed,
                socket_to_book=hops.socket_to_book.percentiles(),
                book_to_metrics=Percentiles(),
            ),
            quality=book.coverage.tick(mono_ns),
        )

    # --- looking without touching

    def view(self, key: InstrumentId, levels: int, recv_ns: int, mono_ns: int) -> BookView:
        """A picture of one book for a live view; changes nothing and starts no new interval."""
        book = self.books[key]
        live = book.state is LIVE
        return BookView(
            tick=self._tick(book, recv_ns, mono_ns),
            bids=tuple(book.levels.top_bids(levels)) if live else (),
            asks=tuple(book.levels.top_asks(levels)) if live else (),
        )

    def total_latency(self) -> HopLatency:
        """Every hop since start, over all books, the interval that is running included."""
        self._fold()
        merged: dict[str, Percentiles] = {}
        for hop in _HOPS:
            total = LatencyHistogram()
            if hop in self._totals:
                total.merge(self._totals[hop])
            else:
                for part in self.latency.values():
                    total.merge(part)
            if hop != "book_to_metrics":
                for book in self.books.values():
                    total.merge(getattr(book.hops, hop))
            merged[hop] = total.percentiles()
        return HopLatency(**merged)

    def quality(self, mono_ns: int) -> tuple[Quality, ...]:
        """Every topic's figures up to now, or up to `Stopping` once that came."""
        if self._final is not None:
            return self._final
        return tuple(
            figures(
                book.coverage.sums(mono_ns),
                self.tally(key),
                key.category.value,
                key.symbol,
            )
            for key, book in self.books.items()
        )

    def tally(self, key: InstrumentId) -> Tally:
        """What one topic's messages came to so far."""
        self._fold()
        return tally_of(self.books[key], self.latency[key], self.offsets)

    def dump(self, to_text: Callable[[float], str]) -> list[BookDump]:
        """Every book whole, best level first; `to_text` writes a number as exact decimal text."""
        return [
            BookDump(
                category=key.category,
                symbol=key.symbol,
                state=book.state,
                u=book.u,
                seq=book.seq,
                bids=[(to_text(price), to_text(size)) for price, size in book.levels.top_bids(len(book.levels.bids))],
                asks=[(to_text(price), to_text(size)) for price, size in book.levels.top_asks(len(book.levels.asks))],
            )
            for key, book in self.books.items()
        ]

    def close(self, mono_ns: int) -> tuple[Output, ...]:
        """The program stops: no book may be believed from here on."""
        return self._each(self.books, lambda book: book.close("stopped", mono_ns))

    def states(self) -> dict[InstrumentId, BookState]:
        return {key: book.state for key, book in self.books.items()}
