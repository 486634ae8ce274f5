"""The messages everything is measured with: book deltas of the simulated market, made before the clock starts.

A market runs for a while and its windows are kept. A book publisher of the simulated exchange then walks through them
to and fro, so that its deltas form a closed chain: exact windows, the last leads back to the first, and any number of
messages comes from one period by numbering `u` on. At depth 50 a message takes in 80 ms of a calm market; that makes it
about as long as a busy market's in the exchange's 20 ms (20 levels, 560 bytes). Other depths take their own interval.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bench.subject import FIRST_U, INSTRUMENT
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.feeds import BookPublisher, NumberText
from orderflow.sim.market import Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.sim.feeds import TickLevel

    Window = tuple[Sequence[TickLevel], Sequence[TickLevel]]

WINDOW_MS: Final = {50: 80, 200: 100, 1000: 200}
_PHASES: Final = 16  # places of a period at which a track can begin
_MARKET_START_MS: Final = 1_790_000_000_000  # fixed: the market's history, and so every message, hangs on it
_WARM_UP_MS: Final = 2000
_SYMBOL: Final = INSTRUMENT.symbol.encode()
_U: Final = re.compile(rb'(?<="u":)[0-9]+(?=,"seq")')

TextLevels = dict[str, str]
"""price text -> size text"""
Sides = tuple[TextLevels, TextLevels]
"""bids, asks"""


class FrameFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a period of messages is like; means over its deltas."""

    depth: int
    distinct: int
    bytes: float
    levels: float
    levels_max: int


class Reel:
    """Windows of a book as a source of the simulated exchange's publisher: forth, back, forth, ..."""

    def __init__(self, windows: Sequence[Window], start_ms: int) -> None:
        self.version = 1
        self.seq = 1
        self.last_ms = start_ms
        self._windows = windows

    def top(self, depth: int) -> Window:
        """The window of now; it has `depth` levels because it was taken so."""
        last = len(self._windows) - 1
        at = (self.version - 1) % (2 * last)
        return self._windows[at if at <= last else 2 * last - at]

    def turn(self, interval_ms: int) -> None:
        self.version += 1
        self.seq += 7
        self.last_ms += interval_ms


class Frames:
    """Messages of one topic, without end.

    Args: windows: states of the book between which the deltas lead, at least 2; start_ms: the first message's time.
    """

    def __init__(self, depth: int, windows: int, seed: int = 7, start_ms: int | None = None) -> None:
        if start_ms is None:
            start_ms = time.time_ns() // 1_000_000
        item = catalogue_by_id()[INSTRUMENT]
        interval_ms = WINDOW_MS[depth]
        reel = Reel(_take_windows(depth, windows, seed, interval_ms), start_ms)
        number = NumberText(item.price_text, item.size_text)
        publisher = BookPublisher(INSTRUMENT, depth, reel, number, FIRST_U)
        self.depth = depth
        self.snapshot = publisher.snapshot(start_ms + 1)
        self._halves: list[tuple[bytes, bytes]] = []
        self._period: list[bytes] = []
        self._snapshots = {0: self.snapshot}
        self._books: dict[int, Sides] = {}
        period = 2 * (windows - 1)
        for place in range(period):
            if place in _phases(period):
                self._snapshots[place] = _numbered(publisher.snapshot(reel.last_ms + 1), FIRST_U)
            reel.turn(interval_ms)
            for raw in publisher.poll(reel.last_ms + 1):
                self._period.append(raw)
                self._halves.append(_split(raw))

    def track(self, symbol: str, number: int = 0) -> Track:
        """The messages of a topic of `symbol`. Other `number`s begin at other places of the period."""
        places = sorted(self._snapshots)
        return Track(self, symbol, places[number % len(places)])

    def snapshot_at(self, place: int) -> bytes:
        """The whole book before the period's delta number `place`, of those that begin a track; its `u` is FIRST_U."""
        return self._snapshots[place]

    def last_u(self, count: int) -> int:
        """`u` of the last of `count` deltas."""
        return FIRST_U + count

    def deltas(self, count: int, start: int = 0, place: int = 0) -> list[bytes]:
        """`count` deltas that continue the snapshot of `place`, or the `start` deltas before them."""
        halves = self._halves
        period = len(halves)
        return [
            b"%b%d%b" % (halves[at % period][0], FIRST_U + 1 + at - place, halves[at % period][1])
            for at in range(place + start, place + start + count)
        ]

    def book_after(self, count: int) -> Sides:
        """Bids and asks after `count` deltas, worked out from the messages' text by means the program does not use."""
        place = count % len(self._period)
        if place not in self._books:
            self._books[place] = self._work_out(place)
        return self._books[place]

    def _work_out(self, place: int) -> Sides:
        bids: TextLevels = {}
        asks: TextLevels = {}
        for raw in (self.snapshot, *self._period[:place]):
            data = json.loads(raw)["data"]
            for side, levels in ((bids, data["b"]), (asks, data["a"])):
                for price, size in levels:
                    if float(size):
                        side[price] = size
                    else:
                        del side[price]
        return bids, asks

    def facts(self) -> FrameFacts:
        levels = [raw.count(b'["') for raw in self._period]
        return FrameFacts(
            depth=self.depth,
            distinct=len(levels),
            bytes=round(sum(map(len, self._period)) / len(levels), 1),
            levels=round(sum(levels) / len(levels), 1),
            levels_max=max(levels),
        )


class Track:
    """The messages of one topic among many. Made by `Frames.track`."""

    def __init__(self, frames: Frames, symbol: str, place: int) -> None:
        self._frames = frames
        self._symbol = symbol.encode()
        self._place = place
        self.snapshot = self._named(frames.snapshot_at(place))

    def deltas(self, count: int) -> list[bytes]:
        """The first `count` deltas behind the snapshot."""
        return [self._named(raw) for raw in self._frames.deltas(count, place=self._place)]

    def book_after(self, count: int) -> Sides:
        return self._frames.book_after(self._place + count)

    def _named(self, raw: bytes) -> bytes:
        return raw.replace(_SYMBOL, self._symbol)


def _phases(period: int) -> range:
    return range(0, period, max(1, period // _PHASES))


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """What stands before the number `u`, and behind it."""
    number_at = _U.search(raw)
    assert number_at is not None
    return raw[: number_at.start()], raw[number_at.end() :]


def _numbered(raw: bytes, u: int) -> bytes:
    return b"%d".join(_split(raw)) % u


def _take_windows(depth: int, count: int, seed: int, interval_ms: int) -> list[Window]:
    """`count` states of a simulated book, each other than the one before."""
    exchange = Exchange([catalogue_by_id()[INSTRUMENT]], seed, _MARKET_START_MS)
    market = exchange.markets[INSTRUMENT]
    now_ms = _MARKET_START_MS + _WARM_UP_MS
    exchange.advance(now_ms)
    windows: list[Window] = [market.top(depth)]
    while len(windows) < count:
        now_ms += interval_ms
        exchange.advance(now_ms)
        window = market.top(depth)
        if window != windows[-1]:
            windows.append(window)
    return windows
