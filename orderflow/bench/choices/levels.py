"""Ways to keep the levels of a book: when the prices are put in order, and by what."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from sortedcontainers import SortedDict, SortedList

from orderflow.bench.choices.turns import Pace, take_turns
from orderflow.bench.inprocess import TOP, WrongBook
from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.book import Levels
from orderflow.core.types import BookUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderflow.bench.frames import Frames
    from orderflow.bench.results import Figure
    from orderflow.core.types import Level

    Messages = list[BookUpdate]

LOOK_EVERY: Final = 10
"""Messages between two looks at the best levels, as many as the `tick` stage has between two ticks."""
_MANY: Final = 20  # changes of a side from which sorting it costs less than a bisection each, at depth 50


class Side(Protocol):
    """One side of a book that is in order after each message."""

    def apply(self, levels: list[Level]) -> None:
        """Absolute sizes; 0 deletes."""

    def lowest(self) -> float: ...
    def highest(self) -> float: ...
    def sizes_by_price(self) -> dict[float, float]: ...
    def bottom(self, count: int) -> list[Level]:
        """The lowest prices, lowest first."""

    def top(self, count: int) -> list[Level]:
        """The highest prices, highest first."""


class SortedDictSide:
    """What most clients keep: sizes in a SortedDict."""

    def __init__(self) -> None:
        self._sizes: SortedDict[float, float] = SortedDict()

    def apply(self, levels: list[Level]) -> None:
        sizes = self._sizes
        for price, size in levels:
            if size:
                sizes[price] = size
            else:
                sizes.pop(price, None)

    def lowest(self) -> float:
        return self._sizes.peekitem(0)[0]

    def highest(self) -> float:
        return self._sizes.peekitem(-1)[0]

    def sizes_by_price(self) -> dict[float, float]:
        return dict(self._sizes)

    def bottom(self, count: int) -> list[Level]:
        return list(islice(self._sizes.items(), count))

    def top(self, count: int) -> list[Level]:
        sizes = self._sizes
        return [(price, sizes[price]) for price in islice(reversed(sizes), count)]


class _ListSide:
    """Sizes in a dict, prices in order in a list of whatever kind."""

    def __init__(self) -> None:
        self._sizes: dict[float, float] = {}
        self._prices: list[float] | SortedList[float] = []

    def lowest(self) -> float:
        return self._prices[0]

    def highest(self) -> float:
        return self._prices[-1]

    def sizes_by_price(self) -> dict[float, float]:
        return self._sizes

    def bottom(self, count: int) -> list[Level]:
        return [(price, self._sizes[price]) for price in self._prices[:count]]

    def top(self, count: int) -> list[Level]:
        return [(price, self._sizes[price]) for price in self._prices[: -count - 1 : -1]]


class SortedListSide(_ListSide):
    """Prices in a SortedList: only a price that comes or goes touches it."""

    def __init__(self) -> None:
        super().__init__()
        self._prices: SortedList[float] = SortedList()

    def apply(self, levels: list[Level]) -> None:
        sizes, prices = self._sizes, self._prices
        for price, size in levels:
            if size:
                if price not in sizes:
                    prices.add(price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                prices.remove(price)


class BisectedSide(_ListSide):
    """Prices in a plain list that is kept sorted by bisection."""

    def __init__(self) -> None:
        super().__init__()
        self._prices: list[float] = []

    def apply(self, levels: list[Level]) -> None:
        sizes, prices = self._sizes, self._prices
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]


class ResortedSide(BisectedSide):
    """The same, sorted afresh after a message that changes many prices."""

    def apply(self, levels: list[Level]) -> None:
        if len(levels) < _MANY:
            super().apply(levels)
            return
        sizes = self._sizes
        for price, size in levels:
            if size:
                sizes[price] = size
            else:
                sizes.pop(price, None)
        self._prices = sorted(sizes)


class Ordered:
    """A book of two sides that are always in order."""

    def __init__(self, side: Callable[[], Side]) -> None:
        self.crossed = 0
        self._bids, self._asks = side(), side()

    def take(self, messages: Messages) -> None:
        """Apply each, and test it for a cross."""
        bids, asks = self._bids, self._asks
        for message in messages:
            bids.apply(message.bids)
            asks.apply(message.asks)
            if bids.highest() >= asks.lowest():
                self.crossed += 1

    def best(self) -> list[Level]:
        return [*self._bids.top(TOP), *self._asks.bottom(TOP)]

    def sides(self) -> list[dict[float, float]]:
        return [self._bids.sizes_by_price(), self._asks.sizes_by_price()]


class Ours:
    """`core.book.Levels`, as `core.book.Book` uses it."""

    def __init__(self) -> None:
        self.crossed = 0
        self._levels = Levels()

    def take(self, messages: Messages) -> None:
        bids, asks = self._levels.bid_side, self._levels.ask_side
        for message in messages:
            bids.apply(message.bids)
            asks.apply(message.asks)
            if bids.best >= asks.best:
                self.crossed += 1

    def best(self) -> list[Level]:
        return [*self._levels.top_bids(TOP), *self._levels.top_asks(TOP)]

    def sides(self) -> list[dict[float, float]]:
        return [self._levels.bids, self._levels.asks]


Kept = Ours | Ordered


def make_books() -> dict[str, Kept]:
    """Empty books by name; ours first."""
    return {
        "dict and best price": Ours(),
        "dict and bisected list": Ordered(BisectedSide),
        "bisected list, sorted after many changes": Ordered(ResortedSide),
        "dict and SortedList": Ordered(SortedListSide),
        "SortedDict": Ordered(SortedDictSide),
    }


def measure_levels(frames: Frames, pace: Pace) -> list[Figure]:
    """Both sides of every message, with the test for a cross: nobody looking, and somebody at every tenth.

    Raises: WrongBook.
    """

    def work(number: int) -> Messages:
        return decoded(frames, pace.messages, number * pace.messages)

    figures: list[Figure] = []
    for name, look_every in (("levels", 0), (f"levels, top {TOP} every {LOOK_EVERY} messages", LOOK_EVERY)):
        books = make_books()
        for book in books.values():
            book.take([decoded_snapshot(frames)])
        ways = {way: _looking(book, look_every) if look_every else book.take for way, book in books.items()}
        figures += take_turns(name, ways, work, pace, frames.depth)
        for way, book in books.items():
            check_levels(way, book, frames, pace.total)
    return figures


def _looking(book: Kept, every: int) -> Callable[[Messages], None]:
    def take(messages: Messages) -> None:
        for part in _parts(messages, every):
            book.take(part)
            book.best()

    return take


def _parts(messages: Messages, size: int) -> Iterator[Messages]:
    for start in range(0, len(messages), size):
        yield messages[start : start + size]


def check_levels(way: str, book: Kept, frames: Frames, count: int) -> None:
    """Whether it is what so many messages make. Raises: WrongBook."""
    bids, asks = ({float(price): float(size) for price, size in side.items()} for side in frames.book_after(count))
    best = [*sorted(bids.items(), reverse=True)[:TOP], *sorted(asks.items())[:TOP]]
    if book.sides() != [bids, asks] or book.best() != best or book.crossed:
        raise WrongBook(f"{way}: the book after {count} messages is not the market's")


def decoded(frames: Frames, count: int, start: int) -> Messages:
    """So many deltas behind the first `start`."""
    decode = make_codec(frames).decode
    updates = [decode(raw, 0, 0) for raw in frames.deltas(count, start)]
    return [update for update in updates if isinstance(update, BookUpdate)]


def make_codec(frames: Frames) -> FeedCodec:
    """A codec that knows the topic of the messages."""
    table = TopicTable(INSTRUMENT.category, learn=False)
    table.add_book(INSTRUMENT, frames.depth)
    return FeedCodec(table)


def decoded_snapshot(frames: Frames) -> BookUpdate:
    update = make_codec(frames).decode(frames.snapshot, 0, 0)
    assert isinstance(update, BookUpdate)
    return update
