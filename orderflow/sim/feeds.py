"""What book topics publish. Pure: the caller says what time it is.

There is one publisher per (category, topic), shared by all its subscribers: a frame is made once and sent to everyone.
It remembers the window it last published. A delta is the exact difference to the window of now: changed and entering
levels with their size, leaving levels with `"0"`; `u` grows by one per frame. A new subscriber gets the window last
published with its `u`, so the next delta fits it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from orderflow.core.types import Category
from orderflow.sim.rest import BookView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orderflow.core.types import InstrumentId

TickLevel = tuple[int, int]
"""(price in ticks, size in lots)"""

SLOT_MS: Final = 10
"""The venue's pulse: the market advances and publishers are asked in steps of this."""

BOOK_INTERVAL_MS: Final = {1: 10, 50: 20, 200: 100, 1000: 200}
LEVEL1_REPEAT_MS: Final = 3000
CACHED_TEXTS: Final = 20_000


class Sink(Protocol):
    """A subscriber: takes one ready message of a topic."""

    def deliver(self, topic: str, message: bytes) -> None: ...


class BookSource(Protocol):
    """The part of a market that a book publisher reads."""

    @property
    def version(self) -> int:
        """Grows whenever the book changes."""

    @property
    def seq(self) -> int: ...

    @property
    def last_ms(self) -> int:
        """Matching time of the latest change."""

    def top(self, depth: int) -> tuple[Sequence[TickLevel], Sequence[TickLevel]]:
        """Bids and asks, best first, at most `depth` levels each."""


class NumberText:
    """Texts of prices (ticks) and sizes (lots) as one kind of topic writes them; remembers the ones in use."""

    def __init__(self, price: Callable[[int], str], size: Callable[[int], str]) -> None:
        self._price = price
        self._size = size
        self._prices: dict[int, str] = {}
        self._sizes: dict[int, str] = {0: "0"}  # a leaving level says "0", never "0.000"

    def price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) > CACHED_TEXTS:
                self._prices.clear()
            text = self._prices[ticks] = self._price(ticks)
        return text

    def size(self, lots: int) -> str:
        text = self._sizes.get(lots)
        if text is None:
            if len(self._sizes) > CACHED_TEXTS:
                self._sizes = {0: "0"}
            text = self._sizes[lots] = self._size(lots)
        return text

    def levels(self, levels: Iterable[TickLevel]) -> str:
        """A JSON array of [price, size] pairs."""
        price, size = self.price, self.size
        return "[" + ",".join([f'["{price(ticks)}","{size(lots)}"]' for ticks, lots in levels]) + "]"


class Publisher:
    """One topic: its name, cadence and subscribers.

    `interval_ms` is the push interval; `phase_ms` spreads the topics over it, so that they are not all due at once.
    """

    def __init__(self, endpoint: str, topic: str, interval_ms: int) -> None:
        self.endpoint = endpoint
        self.topic = topic
        self.interval_ms = interval_ms
        self.phase_ms = zlib.crc32(f"{endpoint}.{topic}".encode()) % interval_ms // SLOT_MS * SLOT_MS
        self.subscribers: dict[Sink, None] = {}

    def due(self, now_ms: int) -> bool:
        """Whether this topic may push in this slot."""
        return (now_ms - self.phase_ms) % self.interval_ms < SLOT_MS

    def first(self, now_ms: int) -> list[bytes]:
        """What a new subscriber gets at once. Called before it joins `subscribers`."""
        return []

    def poll(self, now_ms: int) -> list[bytes]:
        """What all subscribers get now. Called when due, and only while there are subscribers."""
        return []


class BookPublisher(Publisher):
    """`orderbook.{50,200,1000}.{symbol}`: a snapshot for every new subscriber, then exact deltas.

    Args: number: padded or trimmed texts as the category wants them; first_u: where the topic's counter starts.
    """

    def __init__(
        self, instrument: InstrumentId, depth: int, source: BookSource, number: NumberText, first_u: int
    ) -> None:
        super().__init__(instrument.category, f"orderbook.{depth}.{instrument.symbol}", BOOK_INTERVAL_MS[depth])
        self.depth = depth
        self.u = first_u
        self.seq = source.seq
        self.engine_ms = source.last_ms
        self._source = source
        self._number = number
        self._version = source.version
        bids, asks = source.top(depth)
        self.bids: dict[int, int] = dict(bids)
        self.asks: dict[int, int] = dict(asks)
        self._symbol = instrument.symbol
        self._time_first = instrument.category is Category.SPOT or depth == 1

    def first(self, now_ms: int) -> list[bytes]:
        """The published window. An idle topic first catches up with the market, as one frame that nobody saw."""
        self.refresh()
        return [self.snapshot(now_ms)]

    def poll(self, now_ms: int) -> list[bytes]:
        """At most one delta; none when the window did not change."""
        changes = self._step()
        return [] if changes is None else [self._frame("delta", *changes, now_ms)]

    def refresh(self) -> None:
        """Without subscribers nobody polls this topic: bring the window up to date. With subscribers: nothing to do."""
        if not self.subscribers:
            self._step()

    def snapshot(self, now_ms: int) -> bytes:
        """The published window as a snapshot message."""
        bids = sorted(self.bids.items(), reverse=True)
        return self._frame("snapshot", bids, sorted(self.asks.items()), now_ms)

    def view(self, now_ms: int) -> BookView:
        """The published window for REST, in the topic's texts."""
        self.refresh()
        price, size = self._number.price, self._number.size
        return BookView(
            bids=[(price(ticks), size(lots)) for ticks, lots in sorted(self.bids.items(), reverse=True)],
            asks=[(price(ticks), size(lots)) for ticks, lots in sorted(self.asks.items())],
            ts=now_ms,
            cts=self.engine_ms,
            u=self.u,
            seq=self.seq,
        )

    def restart(self, now_ms: int, first_u: int = 1) -> bytes:
        """As after a restart of the exchange's service: a snapshot that starts a new chain of `u`."""
        self._step()
        self.u = first_u
        return self.snapshot(now_ms)

    def _step(self) -> tuple[list[TickLevel], list[TickLevel]] | None:
        """Move the window to the market's; the changed bids and asks, or None when the window is the same."""
        source = self._source
        if source.version == self._version:
            return None
        self._version = source.version
        bids, asks = source.top(self.depth)
        new_bids, new_asks = dict(bids), dict(asks)
        bid_changes = sorted(difference(self.bids, new_bids), reverse=True)
        ask_changes = sorted(difference(self.asks, new_asks))
        if not bid_changes and not ask_changes:
            return None
        self.bids, self.asks = new_bids, new_asks
        self.u += 1
        self.seq, self.engine_ms = source.seq, source.last_ms
        return bid_changes, ask_changes

    def _frame(self, kind: str, bids: Sequence[TickLevel], asks: Sequence[TickLevel], now_ms: int) -> bytes:
        """Key order: `ts` before `type` on spot and level 1."""
        head = f'"ts":{now_ms},"type":"{kind}"' if self._time_first else f'"type":"{kind}","ts":{now_ms}'
        levels = self._number.levels
        return (
            f'{{"topic":"{self.topic}",{head},"data":{{"s":"{self._symbol}","b":{levels(bids)},"a":{levels(asks)},'
            f'"u":{self.u},"seq":{self.seq}}},"cts":{self.engine_ms}}}'
        ).encode()


class TouchPublisher(BookPublisher):
    """`orderbook.1.{symbol}`: every frame is a snapshot; an unchanged touch is repeated every 3 s with the same `u`."""

    def __init__(self, instrument: InstrumentId, source: BookSource, number: NumberText, first_u: int) -> None:
        super().__init__(instrument, 1, source, number, first_u)
        self._sent_ms = 0

    def first(self, now_ms: int) -> list[bytes]:
        if not self.subscribers:
            self._sent_ms = now_ms
        return super().first(now_ms)

    def poll(self, now_ms: int) -> list[bytes]:
        if self._step() is None and now_ms - self._sent_ms < LEVEL1_REPEAT_MS:
            return []
        self._sent_ms = now_ms
        return [self.snapshot(now_ms)]


def difference(old: dict[int, int], new: dict[int, int]) -> list[TickLevel]:
    """The changes that turn `old` into `new`, unordered: size 0 for levels that left."""
    changes = list(new.items() - old.items())
    changes += [(ticks, 0) for ticks in old.keys() - new.keys()]
    return changes


def first_u(category: Category, topic: str) -> int:
    """A believable start for a topic's counter, the same in every run."""
    return 1_000 + zlib.crc32(f"u/{category}.{topic}".encode()) % 200_000_000
