"""A recorded session as a backend of the server: its messages verbatim, at the recorded pace or faster.

The session begins when the first topic is subscribed. A topic nobody has subscribed yet holds its messages, so that a
client that comes a little later still gets all of them, beginning with the recorded snapshot. Whoever comes much later,
or subscribes again, gets a snapshot put together from the recording so far; the next recorded delta fits it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.errors import ConfigError
from orderflow.core.types import Category, InstrumentId
from orderflow.foreign.facts import Decimals, derived_row, read_rows
from orderflow.sim.backend import PRIVATE, TrueBook
from orderflow.sim.feeds import Publisher
from orderflow.sim.memory import BookMemory, KlineMemory, Memory, TickerMemory, TradeMemory, memory_for
from orderflow.sim.rest import Rest
from orderflow.sim.tapes import OutboxPublisher
from orderflow.sim.venue import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orderflow.sim.feeds import Sink
    from orderflow.sim.recordings import Recorded
    from orderflow.sim.rest import BookView, Response

STEP_MESSAGES: Final = 200  # messages handled before others get a turn
HELD_BYTES: Final = 4 * 1024 * 1024  # held for a topic without subscribers; beyond it a late client gets a snapshot
SURVEYED_MESSAGES: Final = 200_000
SAME_SESSION_MS: Final = 3_600_000
_STAMPS: Final = re.compile(rb'("(?:ts|cts|T)":)([0-9]{13})\b')
_QUOTES: Final = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")


def parse_speed(text: str) -> float:
    """`1`, `2.5`, `10`, or `max` (infinity). Raises: ConfigError."""
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < math.inf:
        raise ConfigError(f"--speed: {text!a}: a number above 0, or max")
    return speed


class Track(Publisher):
    """One recorded topic."""

    def __init__(self, endpoint: str, topic: str) -> None:
        super().__init__(endpoint, topic, 10)
        self.memory: Memory = memory_for(topic)
        self.held: deque[bytes] | None = deque()  # None: too much was held, it has been let go
        self._held_bytes = 0

    def take(self, raw: bytes) -> list[bytes]:
        """A message whose time has come: what subscribers get of it now."""
        try:
            self.memory.apply(raw)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            pass  # a recording may hold anything; it is served all the same
        if self.subscribers:
            self.held = None
            return [raw]
        if self.held is not None:
            self.held.append(raw)
            self._held_bytes += len(raw)
            if self._held_bytes > HELD_BYTES:
                self.held = None
        return []

    def first(self, now_ms: int) -> list[bytes]:
        if self.held is not None:
            messages, self.held = list(self.held), None
            return messages
        snapshot = self.memory.snapshot()
        return [] if snapshot is None else [snapshot]


class PlayBackend:
    """Serves recorded sessions. Create it with `open()`.

    Args: tracks: every topic of the recordings; messages: all of them with times from 0; speed: infinity for as fast
        as clients take them; rows: instruments-info rows by category.
    """

    def __init__(
        self,
        tracks: dict[tuple[str, str], Track],
        messages: Iterator[tuple[float, Recorded]],
        speed: float,
        rows: Mapping[Category, list[dict[str, Any]]],
        shift_from_ms: float | None,
    ) -> None:
        self.patient = math.isinf(speed)
        self._tracks = tracks
        self._private: dict[str, OutboxPublisher] = {}
        self._messages = messages
        self._next = next(messages, None)
        self._speed = speed
        self._rows = rows
        self._shift_from_ms = shift_from_ms
        self._shift_ms = 0
        self._began_ms: float | None = None
        self._paused = False
        self._symbols = {(track.endpoint, track.topic.rpartition(".")[2]) for track in tracks.values()}
        self._rest = Rest(self)

    @classmethod
    def open(
        cls, paths: Sequence[Path], speed: float, instruments: Path | None = None, *, shift_time: bool = False
    ) -> PlayBackend:
        """Look through the recordings and be ready to play them.

        Raises: ConfigError for files that cannot be read or hold no V5 messages.
        """
        if shift_time and speed != 1:
            raise ConfigError("--shift-time: needs --speed 1")
        survey = Survey(paths)
        rows = {} if instruments is None else read_rows(instruments)
        for category, derived in survey.rows().items():
            recorded = {row["symbol"]: row for row in rows.get(category, [])}
            rows[category] = [recorded.get(row["symbol"], row) for row in derived]
        shift_from_ms = min(survey.starts.values()) if shift_time else None
        return cls(survey.tracks, survey.messages(), speed, rows, shift_from_ms)

    # --- what the server asks (see backend.Backend) ---

    def verdict(self, category: Category, topic: str) -> Verdict:
        """A recorded topic, or one of a recorded symbol that stays silent. Books exist only as recorded."""
        kind, _, rest = topic.partition(".")
        symbol = rest.rpartition(".")[2]
        if (category, topic) in self._tracks:
            return Verdict.KNOWN
        if kind == "orderbook" or kind not in ("publicTrade", "tickers", "kline", "allLiquidation"):
            return Verdict.NO_HANDLER
        return Verdict.KNOWN if (category, symbol) in self._symbols else Verdict.BAD_SYMBOL

    def attach(self, endpoint: str, topic: str, sink: Sink, now_ms: int) -> Sequence[bytes]:
        if self._began_ms is None and endpoint != PRIVATE:
            self._began_ms = float(now_ms)
            self._shift_ms = 0 if self._shift_from_ms is None else round(now_ms - self._shift_from_ms)
        publisher = self._publisher(endpoint, topic)
        messages = publisher.first(now_ms)
        publisher.subscribers[sink] = None
        return messages

    def detach(self, endpoint: str, topic: str, sink: Sink) -> None:
        self._publisher(endpoint, topic).subscribers.pop(sink, None)

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        track = self._tracks.get((endpoint, topic))
        return track.memory.snapshot() if track is not None and isinstance(track.memory, BookMemory) else None

    def next_ms(self) -> float:
        if self._began_ms is None or self._next is None or self._paused:
            return math.inf
        return self._began_ms + self._next[0] / self._speed

    def step(self, now_ms: float) -> list[tuple[Publisher, Sequence[bytes]]]:
        """The messages whose time has come, some hundred at most."""
        pushes: list[tuple[Publisher, Sequence[bytes]]] = []
        for _ in range(STEP_MESSAGES):
            if self._next is None or self.next_ms() > now_ms:
                break
            message = self._next[1]
            track = self._track(message.category, message.topic)
            messages = track.take(self._shifted(message.raw))
            if messages:
                pushes.append((track, messages))
            self._next = next(self._messages, None)
        return pushes

    def halt(self, now_ms: float) -> bool:
        """A recording has no message to spare: all the rest of it is played that much later."""
        late_ms = now_ms - self.next_ms()
        if self._began_ms is None or not 0 < late_ms < math.inf:
            return False
        self._began_ms += late_ms
        self._shift_ms += 0 if self._shift_from_ms is None else round(late_ms)
        return True

    def respond(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, now_ns: int
    ) -> Response:
        return self._rest.respond(method, target, headers, body, now_ns)

    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook:
        """The deepest recorded book as far as it has been played. Raises: KeyError when no book was recorded."""
        memory = self._deepest(instrument.category, instrument.symbol)
        if memory is None:
            raise KeyError(instrument)
        view = memory.view()
        bids, asks = ([(_trim(price), _trim(size)) for price, size in side[:depth]] for side in (view.bids, view.asks))
        return TrueBook(bids=bids, asks=asks, seq=view.seq, cts=view.cts)

    def set_paused(self, paused: bool) -> None:
        """Hold the recording; it goes on from where it stood."""
        self._paused = paused

    @property
    def finished(self) -> bool:
        """True when everything recorded has been played."""
        return self._next is None

    # --- MarketData, for REST ---

    def instrument_rows(self, category: Category) -> list[dict[str, Any]]:
        return self._rows.get(category, [])

    def book_view(self, category: Category, symbol: str, now_ms: int) -> BookView | None:
        memory = self._deepest(category, symbol)
        return None if memory is None else memory.view()

    def trade_rows(self, category: Category, symbol: str, limit: int) -> list[dict[str, Any]] | None:
        memory = self._memory(category, f"publicTrade.{symbol}")
        return list(memory.rows)[::-1][:limit] if isinstance(memory, TradeMemory) else None

    def ticker_rows(self, category: Category, symbol: str) -> list[dict[str, Any]]:
        memories = [
            track.memory
            for (endpoint, topic), track in sorted(self._tracks.items())
            if endpoint == category and topic.startswith("tickers.") and symbol in ("", topic.partition(".")[2])
        ]
        return [memory.fields for memory in memories if isinstance(memory, TickerMemory)]

    def kline_rows(
        self, category: Category, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Sequence[str]] | None:
        memory = self._memory(category, f"kline.{interval}.{symbol}")
        if not isinstance(memory, KlineMemory):
            return None
        low, high = start_ms or 0, math.inf if end_ms is None else end_ms
        starts = sorted((start for start in memory.rows if low <= start <= high), reverse=True)
        return [memory.rows[start] for start in starts[:limit]]

    # --- inside ---

    def _publisher(self, endpoint: str, topic: str) -> Publisher:
        if endpoint == PRIVATE:
            return self._private.setdefault(topic, OutboxPublisher(PRIVATE, topic))
        return self._track(endpoint, topic)

    def _track(self, endpoint: str, topic: str) -> Track:
        """A topic of the recording, or a silent one; topics that the survey did not reach appear as they come."""
        track = self._tracks.get((endpoint, topic))
        if track is None:
            track = self._tracks[endpoint, topic] = Track(endpoint, topic)
        return track

    def _memory(self, category: Category, topic: str) -> Memory | None:
        track = self._tracks.get((category, topic))
        return None if track is None else track.memory

    def _deepest(self, category: Category, symbol: str) -> BookMemory | None:
        books = [
            track.memory
            for (endpoint, topic), track in self._tracks.items()
            if endpoint == category and topic.startswith("orderbook.") and topic.rpartition(".")[2] == symbol
        ]
        kept = [memory for memory in books if isinstance(memory, BookMemory)]
        return max(kept, key=lambda memory: int(memory.topic.split(".")[1]), default=None)

    def _shifted(self, raw: bytes) -> bytes:
        if not self._shift_ms:
            return raw
        return _STAMPS.sub(lambda match: match[1] + str(int(match[2]) + self._shift_ms).encode(), raw)


class Survey:
    """A first look through recordings: topics, decimals, where each begins.

    Files of one session (beginnings within an hour) keep their distance in time; others all begin at 0.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.tracks: dict[tuple[str, str], Track] = {}
        self.starts: dict[Path, float] = {}
        self._decimals: dict[InstrumentId, Decimals] = {}
        for path in paths:
            self._look_through(path)
        if not self.starts:
            raise ConfigError("--play: nothing to play")

    def messages(self) -> Iterator[tuple[float, Recorded]]:
        """All messages in order of time, with milliseconds from the beginning."""
        first = min(self.starts.values())
        streams = [
            _timed(path, first if start - first < SAME_SESSION_MS else start) for path, start in self.starts.items()
        ]
        return heapq.merge(*streams, key=lambda item: item[0])

    def rows(self) -> dict[Category, list[dict[str, Any]]]:
        """instruments-info rows as far as the recorded numbers tell."""
        rows: dict[Category, list[dict[str, Any]]] = {}
        for instrument, decimals in sorted(self._decimals.items()):
            rows.setdefault(instrument.category, []).append(derived_row(instrument, decimals))
        return rows

    def _look_through(self, path: Path) -> None:
        from orderflow.sim.recordings import read_recording

        for message in itertools.islice(read_recording(path), SURVEYED_MESSAGES):
            self.starts.setdefault(path, message.at_ms)
            key = (message.category.value, message.topic)
            track = self.tracks.get(key)
            if track is None:
                track = self.tracks[key] = Track(*key)
                _prime(track, message.raw)
            if message.topic.startswith("orderbook."):
                instrument = InstrumentId(message.category, message.topic.rpartition(".")[2])
                self._decimals.setdefault(instrument, Decimals()).note(message.raw)
        if path not in self.starts:
            raise ConfigError(f"--play: {path.name}: no Bybit V5 messages in it")


def _prime(track: Track, raw: bytes) -> None:
    """REST shows the books and tickers of the beginning before anything is played."""
    if not isinstance(track.memory, BookMemory | TickerMemory):
        return
    try:
        track.memory.apply(raw)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        pass  # not of its form; it is served all the same


def _timed(path: Path, start_ms: float) -> Iterator[tuple[float, Recorded]]:
    from orderflow.sim.recordings import read_recording

    for message in read_recording(path):
        yield message.at_ms - start_ms, message


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
