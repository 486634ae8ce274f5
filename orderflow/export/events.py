"""hftbacktest's events: a recording's books and trades as rows of its `event_dtype` (hftbacktest 2.x), spooled by day.

Rows come in the order we received them; `order.py` makes of that the order hftbacktest wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from orderflow.core.book import Book
from orderflow.core.policy import BookPolicy
from orderflow.core.types import ClockOffset, Instrument
from orderflow.core.units import NS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orderflow.core.types import BookUpdate, InstrumentId, Level, Liquidation, TickerUpdate, Trade
    from orderflow.export.walk import Hole, Image
    from orderflow.record.records import Session

EVENT: Final = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ],
    align=True,
)
Events = np.ndarray[Any, np.dtype[np.void]]

DEPTH: Final = 1
TRADE: Final = 2
CLEAR: Final = 3
SNAPSHOT: Final = 4
EXCH: Final = 1 << 31
LOCAL: Final = 1 << 30
BUY: Final = 1 << 29
SELL: Final = 1 << 28

MAX_AHEAD_NS: Final = 60 * NS
"""An event dated further ahead of its arrival is a wrong date, no clock: it does not count when clocks are compared."""
IMAGE_AGE_NS: Final = NS
_DAY_NS: Final = 86_400 * NS
_FLUSH_ROWS: Final = 1 << 16
_MAX_ROWS: Final = 1 << 19


class Spool(msgspec.Struct, kw_only=True):
    """The events of one instrument and day, as they were received. `path`: rows of EVENT, nothing else."""

    instrument: InstrumentId
    day: int  # since 1970, of the local clock
    path: Path
    rows: int = 0


class _Tape:
    """One instrument: its book, and rows that wait to be spooled."""

    __slots__ = ("book", "counts", "ev", "exch", "last_exch", "local", "px", "qty", "spool", "spools")

    def __init__(self, book: Book) -> None:
        self.book = book
        self.spool: Spool | None = None
        self.spools: list[Spool] = []
        self.last_exch = 0  # of the book: it never goes back
        self.clear()

    def clear(self) -> None:
        self.ev: list[int] = []
        self.px: list[float] = []
        self.qty: list[float] = []
        self.counts: list[int] = []  # rows of one message, which share:
        self.exch: list[int] = []
        self.local: list[int] = []

    def add(self, kind: int, levels: Sequence[Level]) -> None:
        """Rows of the message that `stamp` then closes."""
        if levels:
            prices, sizes = zip(*levels, strict=True)
            self.ev += [kind] * len(levels)
            self.px += prices
            self.qty += sizes

    def stamp(self, rows: int, exch_ns: int, local_ns: int) -> None:
        self.counts.append(rows)
        self.exch.append(exch_ns)
        self.local.append(local_ns)

    def take(self) -> Events:
        events = np.zeros(len(self.ev), EVENT)
        events["ev"] = self.ev
        events["px"] = self.px
        events["qty"] = self.qty
        events["exch_ts"] = np.repeat(self.exch, self.counts)
        events["local_ts"] = np.repeat(self.local, self.counts)
        self.clear()
        return events


class EventSpooler:
    """A walk's visitor. Memory holds the books and at most _MAX_ROWS rows; `folder` takes the rest.

    Args: latency_ns: of the feed, for recordings whose receive times are made up.
    """

    def __init__(self, folder: Path, latency_ns: int = 0) -> None:
        self.left_out = 0  # messages that no book could take, and block trades
        self.facts: dict[InstrumentId, Instrument] = {}
        self.least_ns: int | None = None  # shortest time from exchange to us, by both clocks
        self._folder = folder
        self._latency_ns = latency_ns
        self._received = True  # receive times are what they say
        self._depths: dict[InstrumentId, int] = {}  # of the topic that the engine's book was made of
        self._offset_ns = 0  # our clock minus the exchange's
        self._local_ns = 0
        self._tapes: dict[InstrumentId, _Tape] = {}
        self._waiting = 0

    def session(self, session: Session, wanted: tuple[InstrumentId, ...]) -> None:
        self._received = session.received
        self._depths.clear()
        self._offset_ns = 0
        for tape in self._tapes.values():
            tape.book.chained = False

    def held(self, instrument: InstrumentId, depth: int) -> None:
        self._depths[instrument] = depth
        if instrument in self._tapes:
            self._tapes[instrument].book.depth = depth

    def fact(self, fact: Instrument | ClockOffset) -> None:
        if isinstance(fact, Instrument):
            self.facts[fact.id] = fact
        elif self._received:
            self._offset_ns = round(fact.offset_ms * 1e6)

    # --- messages

    def book(self, number: int, update: BookUpdate, raw: bytes) -> None:
        if self._depths.get(update.instrument) != update.depth:  # a topic recorded beside
            return
        tape = self._tape(update.instrument)
        book = tape.book
        local_ns = self._local(update.recv_ns)
        self._begin_day(tape, local_ns, whole=update.snapshot)
        before = book.counters.updates
        book.apply(update)
        if book.counters.updates == before:
            self.left_out += 1
            return
        exch_ns = (update.exchange_ms if update.engine_ms is None else update.engine_ms) * 1_000_000
        if update.snapshot:
            self._whole(tape, update.bids, update.asks, exch_ns, local_ns)
        else:
            self._changes(tape, update, exch_ns, local_ns)

    def _changes(self, tape: _Tape, update: BookUpdate, exch_ns: int, local_ns: int) -> None:
        """Deletes before the rest: at no moment is hftbacktest's book crossed where ours is not."""
        for kind, levels in ((DEPTH | BUY, update.bids), (DEPTH | SELL, update.asks)):
            tape.add(kind, [level for level in levels if not level[1]])
        for kind, levels in ((DEPTH | BUY, update.bids), (DEPTH | SELL, update.asks)):
            tape.add(kind, [level for level in levels if level[1]])
        self._stamp_book(tape, len(update.bids) + len(update.asks), exch_ns, local_ns)

    def _whole(self, tape: _Tape, bids: list[Level], asks: list[Level], exch_ns: int, local_ns: int) -> None:
        tape.add(CLEAR, [(0.0, 0.0)])  # of no side: of both, however far they reach
        tape.add(SNAPSHOT | BUY, bids)
        tape.add(SNAPSHOT | SELL, asks)
        self._stamp_book(tape, 1 + len(bids) + len(asks), exch_ns, local_ns)

    def _stamp_book(self, tape: _Tape, rows: int, exch_ns: int, local_ns: int) -> None:
        tape.last_exch = max(tape.last_exch, exch_ns)
        self._stamp(tape, rows, tape.last_exch, local_ns)

    def trades(self, number: int, trades: list[Trade], raw: bytes) -> None:
        for trade in trades:
            if trade.block:  # was made off the book
                self.left_out += 1
                continue
            tape = self._tape(trade.instrument)
            local_ns = self._local(trade.recv_ns)
            self._begin_day(tape, local_ns)
            tape.add(TRADE | (BUY if trade.buy else SELL), [(trade.price, trade.size)])
            self._stamp(tape, 1, trade.match_ms * 1_000_000, local_ns)

    def image(self, image: Image) -> None:
        """How old the state is nobody knows: a second, or as old as the last change that was seen."""
        if self._depths.get(image.instrument) != image.depth:
            return
        tape = self._tape(image.instrument)
        local_ns = self._local(image.recv_ns)
        self._begin_day(tape, local_ns, whole=True)
        book = tape.book
        book.levels.replace(image.bids, image.asks)
        book.u, book.seq, book.chained = image.u, image.seq, True
        self._whole(tape, image.bids, image.asks, local_ns - IMAGE_AGE_NS, local_ns)

    def hole(self, hole: Hole) -> None:
        """No delta is believed until the book is whole again."""
        for tape in self._tapes.values():
            tape.book.chained = False

    def liquidations(self, number: int, rows: list[Liquidation], raw: bytes) -> None:
        """Nothing that hftbacktest knows: a liquidation is among the trades."""

    def ticker(self, number: int, update: TickerUpdate, raw: bytes) -> None:
        """Nothing that hftbacktest knows."""

    # --- rows

    def _tape(self, key: InstrumentId) -> _Tape:
        tape = self._tapes.get(key)
        if tape is None:
            tape = self._tapes[key] = _Tape(Book(key, self._depths.get(key, 0), BookPolicy()))
        return tape

    def _local(self, recv_ns: int) -> int:
        """On the exchange's clock, as far as that is known, and never back."""
        local_ns = recv_ns - self._offset_ns if self._received else recv_ns + self._latency_ns
        self._local_ns = max(self._local_ns, local_ns)
        return self._local_ns

    def _begin_day(self, tape: _Tape, local_ns: int, *, whole: bool = False) -> None:
        """Each day's file begins with the book as it stands, unless the message itself is one."""
        day = local_ns // _DAY_NS
        if tape.spool is not None and tape.spool.day == day:
            return
        self._flush(tape)
        key = tape.book.instrument
        path = self._folder / f"{key.category}-{key.symbol}-{day}.spool"
        tape.spool = Spool(instrument=key, day=day, path=path)
        tape.spools.append(tape.spool)
        if tape.book.chained and not whole:
            levels = tape.book.levels
            bids, asks = levels.top_bids(len(levels.bids)), levels.top_asks(len(levels.asks))
            self._whole(tape, bids, asks, tape.last_exch, local_ns)

    def _stamp(self, tape: _Tape, rows: int, exch_ns: int, local_ns: int) -> None:
        ahead = local_ns - exch_ns
        if ahead > -MAX_AHEAD_NS and (self.least_ns is None or ahead < self.least_ns):
            self.least_ns = ahead
        tape.stamp(rows, exch_ns, local_ns)
        self._waiting += rows
        if len(tape.ev) >= _FLUSH_ROWS:
            self._flush(tape)
        elif self._waiting > _MAX_ROWS:
            self._flush(max(self._tapes.values(), key=lambda one: len(one.ev)))

    def _flush(self, tape: _Tape) -> None:
        if tape.spool is None or not tape.ev:
            return
        events = tape.take()
        self._waiting -= len(events)
        tape.spool.rows += len(events)
        with tape.spool.path.open("ab") as file:
            events.tofile(file)

    def finish(self) -> list[list[Spool]]:
        """Everything on the disk. Returns: the days of each instrument that has any rows."""
        for tape in self._tapes.values():
            self._flush(tape)
        days = [[spool for spool in tape.spools if spool.rows] for tape in self._tapes.values()]
        return [spools for spools in days if spools]
