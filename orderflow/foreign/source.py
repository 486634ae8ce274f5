"""One foreign file as a stream of messages, and what a first look through it tells.

A file is read twice: `survey` finds out what is in it, so that a recording can begin with its instruments and nothing
is written of a file that cannot be used; `Source.heard` then gives the messages. Both hold one line at a time.
"""

from __future__ import annotations

import zlib
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bybit.topics import parse_topic
from orderflow.core.errors import RecordingError, WireError
from orderflow.core.types import Category, InstrumentId
from orderflow.foreign.facts import Decimals
from orderflow.foreign.files import ForeignFile, is_damage
from orderflow.foreign.heard import Heard, LineProblem, Problems, at_line, category_of_path
from orderflow.foreign.layouts import MessageLines
from orderflow.foreign.trades import TradeLines, looks_like_header, sort_rows, to_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orderflow.foreign.trades import Row

MAX_BACK_NS: Final = 60_000_000_000
"""Further than this the times of messages may not run backwards within a file; a little they do, across topics."""
MAX_TOPICS: Final = 10_000
SAMPLED: Final = 2_000
"""Messages of a topic whose numbers are looked at for tick and lot size."""
_PROGRESS_EVERY: Final = 1024


class Topic(msgspec.Struct, frozen=True, order=True):
    """A topic on a connection."""

    category: Category
    connection: str
    name: str

    def parsed(self) -> tuple[InstrumentId, int] | None:
        """(instrument, depth of a book or 0); None: a topic of no symbol, or of a kind nobody here knows."""
        try:
            topic = parse_topic(self.name)
        except WireError:
            return None
        depth = int(topic.param) if topic.kind == "orderbook" and len(topic.param) <= 4 else 0
        return InstrumentId(self.category, topic.symbol), depth


class Span(msgspec.Struct):
    """The first and last time in one clock, ns; `back_ns`: the furthest a time ran backwards, at `back_line`."""

    first_ns: int = 0
    last_ns: int = 0
    back_ns: int = 0
    back_line: int = 0

    def add(self, at_ns: int, line: int) -> None:
        if not self.first_ns:
            self.first_ns = self.last_ns = at_ns
        elif at_ns >= self.last_ns:
            self.last_ns = at_ns
        else:
            self.first_ns = min(self.first_ns, at_ns)
            if self.last_ns - at_ns > self.back_ns:
                self.back_ns, self.back_line = self.last_ns - at_ns, line


class TopicCount(msgspec.Struct):
    """Of one topic of one file."""

    messages: int = 0
    span: Span = msgspec.field(default_factory=Span)  # exchange time
    decimals: Decimals = msgspec.field(default_factory=Decimals)


class Survey(msgspec.Struct, kw_only=True):
    """What a look through one file tells.

    `received`: each message has its receive time. `crc` covers every message, so it names the content.
    """

    kind: str = "messages"  # or trades
    messages: int = 0
    received: bool = True
    crc: int = 0
    exchange: Span = msgspec.field(default_factory=Span)
    receive: Span = msgspec.field(default_factory=Span)
    topics: dict[Topic, TopicCount] = msgspec.field(default_factory=dict)


class Source:
    """One foreign file.

    Args: category, symbol: for files that do not say; tell: called now and then while reading.

    Raises: RecordingError for what cannot be read at all.
    """

    def __init__(
        self,
        path: Path,
        *,
        category: Category | None = None,
        symbol: str | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.file = ForeignFile(path)
        self.kind = ""  # known as soon as reading began: messages, trades
        self.problems = Problems(path)
        self._asked = category
        self._category = category or category_of_path(path)
        self._symbol = symbol
        self._tell = tell
        self._line = 0
        self._rows = Span()  # of a trade file
        self._first_row_ns = self._last_row_ns = 0

    @property
    def line(self) -> int:
        """The number of the line that was read last."""
        return self._line

    @property
    def trades_in_order(self) -> bool:
        """Of a trade file that was read once: whether no time in it runs backwards."""
        return not self._rows.back_ns

    def heard(self, folder: Path | None = None) -> Iterator[Heard]:
        """Its messages in order; what cannot be read is noted in `problems`.

        Args: folder: where a trade file that is not in order may be sorted; None: it is given as it is.

        Raises: RecordingError when the file as a whole is foreign, legacy, a bomb, or when nothing in it can be read.
        """
        self.problems = Problems(self.path)
        self._line = 0
        lines = self._lines()
        first = next(lines, None)
        if first is None:
            raise RecordingError(str(self.path), 0, "empty", "there is nothing in it")
        if looks_like_header(first[1]):
            self.kind = "trades"
            yield from self._trades(first, lines, folder)
        else:
            self.kind = "messages"
            yield from self._messages(chain([first], lines))

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines that are not blank, up to where the file is cut or damaged."""
        try:
            for number, line in self.file.lines():
                self._line = number
                if not number % _PROGRESS_EVERY:
                    self._tell()
                if line is None:
                    self.problems.line(number, "an endless line: left out")
                elif stripped := line.strip():
                    yield number, stripped
        except RecordingError as error:
            if not is_damage(error) or not self._line:
                raise
            self.problems.broken(error)

    def _messages(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[Heard]:
        reader = MessageLines(str(self.path), self._category, certain=self._asked is not None)
        found = False
        for number, line in lines:
            try:
                for heard in reader.read(number, line):
                    found = True
                    yield heard
            except LineProblem as error:
                self.problems.line(number, str(error))
        if not found:
            raise self._nothing()

    def _nothing(self) -> RecordingError:
        problem = next(iter(self.problems.all()), None)
        told = f" ({str(problem).removeprefix(f'{self.path.name}: ')})" if problem is not None else ""
        return RecordingError(str(self.path), 0, "foreign", f"no Bybit V5 messages and no trades in it{told}")

    def _trades(
        self, header: tuple[int, bytes], lines: Iterator[tuple[int, bytes]], folder: Path | None
    ) -> Iterator[Heard]:
        try:
            reader = TradeLines(header[1], self.path.name, self._category, self._symbol)
        except LineProblem as error:
            raise at_line(self.path, header[0], str(error)) from None
        newest_first = self._last_row_ns < self._first_row_ns
        sort = folder is not None and not self.trades_in_order
        rows = self._read_rows(reader, lines)
        if sort and folder is not None:
            rows = sort_rows(rows, newest_first=newest_first, folder=folder)
        found = False
        for heard in to_messages(rows, reader):
            found = True
            yield heard
        if not found:
            raise self._nothing()

    def _read_rows(self, reader: TradeLines, lines: Iterator[tuple[int, bytes]]) -> Iterator[Row]:
        self._rows, self._first_row_ns = Span(), 0
        for number, line in lines:
            try:
                row = reader.read(line)
            except LineProblem as error:
                self.problems.line(number, str(error))
                continue
            self._rows.add(row.at_ns, number)
            self._first_row_ns = self._first_row_ns or row.at_ns
            self._last_row_ns = row.at_ns
            yield row


def survey(source: Source) -> Survey:
    """Look through a file. Raises: RecordingError."""
    found = Survey()
    topics = found.topics
    for heard in source.heard():
        found.messages += 1
        found.crc = zlib.crc32(heard.raw, found.crc)
        if heard.recv_ns is None:
            found.received = False
        else:
            found.receive.add(heard.recv_ns, source.line)
        if not heard.topic:
            continue
        topic = Topic(heard.category, heard.connection, heard.topic)
        count = topics.get(topic)
        if count is None:
            if len(topics) >= MAX_TOPICS:
                raise at_line(source.path, source.line, f"more than {MAX_TOPICS} topics")
            count = topics[topic] = TopicCount()
        count.messages += 1
        if heard.ts_ms is not None:
            at_ns = heard.ts_ms * 1_000_000
            found.exchange.add(at_ns, source.line)
            count.span.add(at_ns, source.line)
        if count.messages <= SAMPLED:
            count.decimals.note(heard.raw)
    found.kind = source.kind
    if not topics:
        raise RecordingError(str(source.path), 0, "foreign", "no Bybit V5 messages with a topic in it")
    if not found.received and not found.exchange.first_ns:
        raise RecordingError(str(source.path), 0, "foreign", "no message with a time in it")
    return found
