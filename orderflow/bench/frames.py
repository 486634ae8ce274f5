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
_MARKET_START_MS: Final = 1_790_000_000_000  # fixed: the market's history, and so every message, hangs on it
_WARM_UP_MS: Final = 2000
_U: Final = re.compile(rb'(?<="u":)[0-9]+(?=,"seq")')

TextLevels = dict[str, str]
"""price text -> size text"""


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
        for _ in range(2 * (windows - 1)):
            reel.turn(interval_ms)
            for raw in publisher.poll(reel.last_ms + 1):
                number_at = _U.search(raw)
                assert number_at is not None
                self._period.append(raw)
                self._halves.append((raw[: number_at.start()], raw[number_at.end() :]))

    def last_u(self, count: int) -> int:
        """`u` of the last of `count` deltas."""
        return FIRST_U + count

    def deltas(self, count: int, start: int = 0) -> list[bytes]:
        """`count` deltas that continue the snapshot, or the `start` deltas before them."""
        halves = self._halves
        period = len(halves)
        numbered = range(start, start + count)
        return [b"%b%d%b" % (halves[i % period][0], FIRST_U + 1 + i, halves[i % period][1]) for i in numbered]

    def book_after(self, count: int) -> tuple[TextLevels, TextLevels]:
        """Bids and asks after `count` deltas, worked out from the messages' text by means the program does not use."""
        bids: TextLevels = {}
        asks: TextLevels = {}
        for raw in (self.snapshot, *self._period[: count % len(self._period)]):
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
