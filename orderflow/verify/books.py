"""Every book of a recording, recomputed from its frames and compared with everything else that was said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.rest import RestError, parse_orderbook
from orderflow.bybit.topics import TopicTable, book_topic
from orderflow.core.errors import WireError
from orderflow.core.types import BookUpdate, Instrument, InstrumentId, LinkDown, Syncing, TickerUpdate
from orderflow.core.units import NS
from orderflow.record.records import decode_event
from orderflow.verify.chain import BookChain
from orderflow.verify.references import TickerTouch, Touch, Whole
from orderflow.verify.results import BookResult, Comparison

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.core.types import Category
    from orderflow.record.records import BookImage, Checkpoint, Control, RestAnswer, Session
    from orderflow.verify.references import Reference
    from orderflow.verify.results import Report

CHECKPOINT: Final = "checkpoint"
REST: Final = "rest"
_RPI: Final = b'{"topic":"orderbook.rpi.'
_HEADS: Final = (b'{"topic":"orderbook.', b'{"topic":"tickers.')
_MENDED_NS: Final = 5 * NS  # a gap that the running program did nothing about for so long was not there when it ran


class _Connection:
    """One recorded connection: its decoder and the chains that hang on it."""

    def __init__(self, category: Category, fed: frozenset[InstrumentId]) -> None:
        self.fed = fed  # whose books the running program made of it
        self.codec = FeedCodec(TopicTable(category))
        self.chains: dict[tuple[InstrumentId, int], BookChain] = {}
        self.tickers: dict[InstrumentId, TickerTouch] = {}


class Books:
    """Fed with messages and notes of one session in their order; results are in the report."""

    def __init__(self, report: Report, session: Session | None = None) -> None:
        self._report = report
        self._depth = session.depth if session is not None else 0
        self._referred: set[InstrumentId] = set()  # of which more is told than one book topic
        self._last_ns = 0
        self._mended_ns: dict[InstrumentId, int] = {}
        self._mends = session is not None and session.timed and session.book.strict_sequence
        self._connections: dict[int, _Connection] = {}
        self._of: dict[InstrumentId, list[BookChain]] = {}
        self._ticks: dict[InstrumentId, float] = {}
        self._books = {(book.category, book.topic): book for book in report.books}
        self._comparisons = {(one.category, one.book, one.reference): one for one in report.comparisons}

    # --- connections

    def opened(self, connection: int, category: Category, symbols: Iterable[str] = ()) -> None:
        """Args: symbols: whose books the running program made of this connection's messages."""
        if connection not in self._connections:
            fed = frozenset(InstrumentId(category, symbol) for symbol in symbols)
            self._connections[connection] = _Connection(category, fed)

    def lost(self, connection: int) -> None:
        gone = self._connections.pop(connection, None)
        if gone is None:
            return
        for (instrument, _), chain in gone.chains.items():
            chain.flush()
            self._explain(chain)
            self._of[instrument].remove(chain)

    def doubt(self) -> None:
        """Something is missing in the recording: no book goes on, no ticker is carried forward."""
        for connection in self._connections.values():
            for chain in connection.chains.values():
                chain.doubt()
            for ticker in connection.tickers.values():
                ticker.forget()

    def finish(self) -> None:
        for connection in list(self._connections):
            self.lost(connection)

    # --- messages

    def message(self, connection: int, raw: bytes, recv_ns: int, mono_ns: int) -> None:
        """One message as it was received. What is neither a book nor a ticker is passed over."""
        if not raw.startswith(_HEADS) and b'"orderbook.' not in raw and b'"tickers.' not in raw:
            return
        if raw.startswith(_RPI):
            self._report.excluded += 1
            return
        of = self._connections.get(connection)
        if of is None:
            return
        try:
            event = of.codec.decode(raw, recv_ns, mono_ns)
        except WireError:
            self._report.refused += 1
            return
        if type(event) is BookUpdate:
            self._book(of, event)
        elif type(event) is TickerUpdate:
            self._ticker(of, event)

    def _book(self, connection: _Connection, update: BookUpdate) -> None:
        chain = self._chain(connection, update.instrument, update.depth)
        chain.update(update)
        self._last_ns = update.mono_ns
        if chain.broken_ns is not None:
            self._explain(chain)
        if update.depth == 1 and len(self._of[update.instrument]) > 1:
            bid = update.bids[0] if update.bids else None
            ask = update.asks[0] if update.asks else None
            name = book_topic(update.instrument.symbol, 1)
            touch = Touch(name, update.seq, update.exchange_ms, update.mono_ns, bid, ask, True)
            self._refer(update.instrument, touch, but_depth=1)

    def _explain(self, chain: BookChain) -> None:
        """A gap that the program met live was followed by a resync or a lost link; any other came later."""
        broken_ns = chain.broken_ns
        if broken_ns is None or not self._mends or self._last_ns - broken_ns < _MENDED_NS:
            return
        if self._mended_ns.get(chain.instrument, -1) < broken_ns:
            topic = book_topic(chain.instrument.symbol, chain.depth)
            detail = f"{topic}: messages are missing, and the program that recorded it missed none"
            self._report.fault("unexplained", str(chain.instrument), detail)
        chain.broken_ns = None

    def _ticker(self, connection: _Connection, ticker: TickerUpdate) -> None:
        state = connection.tickers.setdefault(ticker.instrument, TickerTouch())
        touch = state.update(f"tickers.{ticker.instrument.symbol}", ticker)
        if touch is not None:
            self._refer(ticker.instrument, touch)

    def _refer(self, instrument: InstrumentId, reference: Reference, but_depth: int = 0) -> None:
        if instrument not in self._referred:
            self._referred.add(instrument)
            for chain in self._of.get(instrument, ()):
                chain.waits = True
        for chain in self._of.get(instrument, ()):
            if chain.depth != but_depth:
                chain.refer(reference)

    def _chain(self, connection: _Connection, instrument: InstrumentId, depth: int) -> BookChain:
        chain = connection.chains.get((instrument, depth))
        if chain is None:
            topic = book_topic(instrument.symbol, depth)
            category = instrument.category.value
            result = self._books.get((category, topic))
            if result is None:
                result = self._books[category, topic] = BookResult(category=category, topic=topic)
                self._report.books.append(result)
            chain = BookChain(
                instrument,
                depth,
                result,
                lambda reference: self._comparison(category, topic, reference),
                lambda: self._ticks.get(instrument),
            )
            chain.waits = instrument in self._referred
            connection.chains[instrument, depth] = chain
            self._of.setdefault(instrument, []).append(chain)
        return chain

    def _comparison(self, category: str, topic: str, reference: str) -> Comparison:
        key = (category, topic, reference)
        found = self._comparisons.get(key)
        if found is None:
            found = Comparison(category=category, book=topic, reference=reference, examples=[])
            self._comparisons[key] = found
            self._report.comparisons.append(found)
        return found

    # --- notes

    def control(self, note: Control) -> None:
        """Facts of instruments; and what the running program did about a broken book, or about its link."""
        for wire in note.events:
            event = decode_event(wire)
            if isinstance(event, Instrument):
                self._ticks[event.id] = float(event.tick_size) or 1.0
            elif isinstance(event, Syncing):
                self._mended_ns[event.instrument] = event.mono_ns
            elif isinstance(event, LinkDown):
                self._mended_ns.update(dict.fromkeys(event.instruments, event.mono_ns))

    def checkpoint(self, note: Checkpoint) -> None:
        """Our own books of that moment: equal to the recomputed ones, or the place to begin where there are none."""
        at_ms = note.recv_ns // 1_000_000
        for image in note.books:
            if not image.bids and not image.asks:
                continue
            for chain in self._feeds(image):
                own = Whole(CHECKPOINT, image.seq or 0, at_ms, note.mono_ns, image.bids, image.asks, own=True)
                chain.flush()
                chain.refer(own)
                chain.flush()
                chain.adopt(image.u, image.seq, image.bids, image.asks)

    def _feeds(self, image: BookImage) -> list[BookChain]:
        """The chain that the running program's own book hung on."""
        key = image.instrument
        return [self._chain(one, key, self._depth) for one in self._connections.values() if key in one.fed]

    def rest(self, note: RestAnswer) -> None:
        """A book that was asked for over REST."""
        instrument = InstrumentId(note.category, note.symbol)
        try:
            book = parse_orderbook(note.body.encode(), instrument)
        except (RestError, WireError):
            self._report.refused += 1
            return
        bids = [(float(price), float(size)) for price, size in book.bids]
        asks = [(float(price), float(size)) for price, size in book.asks]
        at_ms = book.ts_ms or note.recv_ns // 1_000_000
        self._refer(instrument, Whole(REST, book.seq, at_ms, note.mono_ns, bids, asks))
