"""One pass over a recording: every message decoded and told, in the order it was received, within a window of time.

Pure apart from reading the recording. What a reader cannot know who begins here (at `--from`, behind a hole) is told as
an image of the book.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.book import Book
from orderflow.core.errors import WireError
from orderflow.core.policy import BookPolicy
from orderflow.core.types import (
    BookUpdate,
    ClockOffset,
    Instrument,
    InstrumentId,
    Level,
    TickerUpdate,
    Trade,
    is_symbol,
)
from orderflow.record.images import CHAINED
from orderflow.record.reader import Damage
from orderflow.record.records import (
    Checkpoint,
    Control,
    Frames,
    Gap,
    Given,
    Opened,
    Session,
    Tick,
    decode_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.bybit.codec import Decoded
    from orderflow.core.types import Liquidation
    from orderflow.record.reader import Item
    from orderflow.record.records import WireEvent
    from orderflow.replay.engine import Choice


class Visitor(Protocol):
    """Told what a walk finds, in order. `number` counts the received messages of the whole recording from 0."""

    def session(self, session: Session, wanted: tuple[InstrumentId, ...]) -> None:
        """A session begins; `session.received` False: nobody noted when its messages came."""

    def held(self, instrument: InstrumentId, depth: int) -> None:
        """The engine's book of `instrument` was made of messages of this depth; others were recorded beside."""

    def book(self, number: int, update: BookUpdate, raw: bytes) -> None: ...
    def trades(self, number: int, trades: list[Trade], raw: bytes) -> None: ...
    def liquidations(self, number: int, rows: list[Liquidation], raw: bytes) -> None: ...
    def ticker(self, number: int, update: TickerUpdate, raw: bytes) -> None: ...

    def image(self, image: Image) -> None:
        """All of one book, where no snapshot says it: nothing before this is needed to go on."""

    def fact(self, fact: Instrument | ClockOffset) -> None: ...

    def hole(self, hole: Hole) -> None:
        """Of the recording: something is missing."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One book whole, best level first. `number` is that of the next message."""

    number: int
    instrument: InstrumentId
    depth: int
    recv_ns: int
    u: int | None
    seq: int | None
    bids: list[Level]
    asks: list[Level]


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """A gap of the recorder, or a damaged place. `to_ns` None: nothing came after it."""

    from_ns: int
    to_ns: int | None
    cause: Gap | Damage


class Walk:
    """Feed it every item of a recording; it tells a visitor.

    Args: choice: which symbols; from_ns: nothing earlier is told, but images of the books as they stand there.
    """

    def __init__(self, visitor: Visitor, choice: Choice, from_ns: int | None = None) -> None:
        self.messages = 0
        self.refused = 0  # messages no book, trade, ... could be made of
        self.last_ns = 0  # receive time of what came last
        self._visitor = visitor
        self._choice = choice
        self._from_ns = from_ns
        self._open = from_ns is None
        self._wanted: dict[InstrumentId, bool] = {}
        self._codecs: dict[int, FeedCodec] = {}
        self._unsure: set[InstrumentId] = set()  # no snapshot of the engine's topic since the last hole
        self._books: dict[tuple[InstrumentId, int], Book] = {}  # with depth; only until the window opens
        self._session: Session | None = None
        self._fed: set[tuple[InstrumentId, int]] = set()  # what the engine's books were made of; others lie beside
        self._damage: tuple[int, Damage] | None = None  # not told yet: what comes next says how long it lasted
        self._handlers: dict[type, Callable[..., None]] = {
            Session: self._begin,
            Opened: self._opened,
            Frames: self._frames,
            Tick: self._tick,
            Control: self._events,
            Given: self._events,
            Checkpoint: self._checkpoint,
            Gap: self._gap,
            Damage: self._damaged,
        }

    def take(self, item: Item) -> None:
        """The next item of the recording."""
        handler = self._handlers.get(type(item))
        if handler is not None:
            handler(item)

    def finish(self) -> None:
        """No more comes."""
        self._end_damage(None)

    # --- sessions and connections

    def _begin(self, session: Session) -> None:
        if self._session is not None and self._session.session == session.session:
            return
        self._end_damage(session.started_ns)
        self._session = session
        self._fed.clear()
        self._codecs.clear()
        self._wanted.clear()
        self._books.clear()
        wanted = tuple(key for key in session.instruments if self._wants(key))
        self._unsure = set(wanted)
        self._visitor.session(session, wanted)

    def _opened(self, record: Opened) -> None:
        if record.connection not in self._codecs:
            self._codecs[record.connection] = FeedCodec(TopicTable(record.category))
        if not record.topics:
            for symbol, depth in record.books:
                self._fed.add((InstrumentId(record.category, symbol), depth))
                self._visitor.held(InstrumentId(record.category, symbol), depth)

    def _events(self, record: Control | Given) -> None:
        for wire in record.events:
            self._event(wire)

    def _event(self, wire: WireEvent) -> None:
        if wire[0] not in ("Instrument", "ClockOffset"):
            return
        try:
            event = decode_event(wire)
        except ValueError:  # as a later version writes it
            return
        if isinstance(event, (Instrument, ClockOffset)):
            self._visitor.fact(event)

    # --- messages

    def _frames(self, record: Frames) -> None:
        codec = self._codecs.get(record.connection)
        self._moment(record.recv_ns)
        if codec is None:
            self.messages += len(record.messages)
            return
        for raw in record.messages:
            try:
                decoded = codec.decode(raw, record.recv_ns, record.mono_ns)
            except WireError:
                self.refused += 1
            else:
                self._tell(decoded, raw)
            self.messages += 1

    def _tell(self, decoded: Decoded, raw: bytes) -> None:
        if isinstance(decoded, BookUpdate):
            if self._wants(decoded.instrument):
                self._book(decoded, raw)
        elif not self._open:
            return
        elif isinstance(decoded, TickerUpdate):
            if self._wants(decoded.instrument):
                self._visitor.ticker(self.messages, decoded, raw)
        elif isinstance(decoded, list) and decoded and self._wants(decoded[0].instrument):
            if isinstance(decoded[0], Trade):
                self._visitor.trades(self.messages, decoded, raw)
            else:
                self._visitor.liquidations(self.messages, decoded, raw)

    def _wants(self, key: InstrumentId) -> bool:
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = is_symbol(key.symbol) and self._choice.wants(key)
        return wanted

    def _book(self, update: BookUpdate, raw: bytes) -> None:
        if update.snapshot and (update.instrument, update.depth) in self._fed:
            self._unsure.discard(update.instrument)
        if self._open:
            self._visitor.book(self.messages, update, raw)
        else:
            self._held(update.instrument, update.depth).apply(update)

    def _held(self, instrument: InstrumentId, depth: int) -> Book:
        book = self._books.get((instrument, depth))
        if book is None:
            book = self._books[instrument, depth] = Book(instrument, depth, BookPolicy())
        return book

    # --- time

    def _tick(self, record: Tick) -> None:
        self._moment(record.recv_ns)

    def _moment(self, recv_ns: int) -> None:
        self.last_ns = recv_ns
        if self._damage is not None:
            self._end_damage(recv_ns)
        if not self._open and self._from_ns is not None and recv_ns >= self._from_ns:
            self._open = True
            for book in self._books.values():
                if book.chained:
                    self._visitor.image(self._picture(book, self._from_ns))
            self._books.clear()

    def _picture(self, book: Book, recv_ns: int) -> Image:
        levels = book.levels
        return Image(
            number=self.messages,
            instrument=book.instrument,
            depth=book.depth,
            recv_ns=recv_ns,
            u=book.u,
            seq=book.seq,
            bids=levels.top_bids(len(levels.bids)),
            asks=levels.top_asks(len(levels.asks)),
        )

    # --- holes

    def _gap(self, record: Gap) -> None:
        self._doubt()
        if self._open:
            self._visitor.hole(Hole(from_ns=record.from_ns, to_ns=record.to_ns, cause=record))

    def _damaged(self, record: Damage) -> None:
        self._doubt()
        self._end_damage(None)
        self._damage = self.last_ns, record

    def _end_damage(self, recv_ns: int | None) -> None:
        if self._damage is None:
            return
        from_ns, damage = self._damage
        self._damage = None
        if self._open:
            self._visitor.hole(Hole(from_ns=from_ns or recv_ns or 0, to_ns=recv_ns, cause=damage))

    def _doubt(self) -> None:
        self._unsure.update(self._session.instruments if self._session else ())
        for book in self._books.values():
            book.chained = False

    def _checkpoint(self, record: Checkpoint) -> None:
        for fact in (*record.facts, record.offset):
            if fact is not None:
                self._visitor.fact(fact)
        for image in record.books:
            key = image.instrument
            if key not in self._unsure or image.state not in CHAINED or not self._wants(key):
                continue
            self._unsure.discard(key)
            depth = max((depth for fed, depth in self._fed if fed == key), default=0)
            self._restore(
                Image(
                    number=self.messages,
                    instrument=key,
                    depth=depth,
                    recv_ns=record.recv_ns,
                    u=image.u,
                    seq=image.seq,
                    bids=image.bids,
                    asks=image.asks,
                )
            )

    def _restore(self, image: Image) -> None:
        if self._open:
            self._visitor.image(image)
            return
        book = self._held(image.instrument, image.depth)
        book.levels.replace(image.bids, image.asks)
        book.u, book.seq, book.chained = image.u, image.seq, True


def stops_at(item: Item, to_ns: int | None) -> bool:
    """Whether an item lies behind the end of the window: nothing later is read."""
    return to_ns is not None and isinstance(item, (Frames, Tick)) and item.recv_ns > to_ns
