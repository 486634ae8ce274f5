"""A recording as tables: one pass, Arrow batches as they fill, memory as large as a few batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bybit.verbatim import TICKER_NUMBERS, book_numbers, fill_numbers, fills_text, ticker_text
from orderflow.core.text import plain_decimal
from orderflow.core.types import BookState, BookStateChanged
from orderflow.export.columns import BookRows, Rows
from orderflow.export.schemas import HOPS, REPLAYED
from orderflow.export.walk import Walk, stops_at
from orderflow.record.reader import BlockStart, Damage
from orderflow.replay.run import Sessions
from orderflow.replay.sinks import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from threading import Event

    import pyarrow as pa

    from orderflow.core.types import (
        Alert,
        BookUpdate,
        ClockOffset,
        FeedChange,
        Instrument,
        InstrumentId,
        Level,
        Liquidation,
        MetricsTick,
        Summary,
        TickerUpdate,
        Trade,
    )
    from orderflow.export.walk import Hole, Image
    from orderflow.hooks.host import PluginHost
    from orderflow.record.reader import Recording
    from orderflow.record.records import Session
    from orderflow.replay.engine import Choice
    from orderflow.replay.run import Progress

    Builders = dict[str, Rows | BookRows]

BATCH_ROWS: Final = 1 << 15


class TableReader:
    """Iterate over it: (table, batch) as batches fill; those of one table are in the recording's order.

    Args:
        tables: which; make_host: plugins of one session, for `alerts`; stop: ends it between two blocks when set.
        from_ns, to_ns: receive times, both included; None: all.
    """

    def __init__(
        self,
        recording: Recording,
        tables: Iterable[str],
        choice: Choice,
        make_host: Callable[[], PluginHost],
        *,
        from_ns: int | None = None,
        to_ns: int | None = None,
        stop: Event | None = None,
        progress: Progress | None = None,
        batch_rows: int | None = None,
    ) -> None:
        self._recording = recording
        self._rows: Builders = {table: BookRows() if table == "book" else Rows(table) for table in tables}
        self._to_ns = to_ns
        self._stop = stop
        self._progress = progress
        self._batch_rows = batch_rows or BATCH_ROWS
        self.damages: list[Damage] = []
        self.walk = Walk(Messages(self._rows), choice, from_ns)
        window = (from_ns or 0) / 1e6, to_ns / 1e6 if to_ns is not None else float("inf")
        self._sessions = Sessions(choice, make_host, Figures(self._rows, window))

    def __iter__(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        replays = bool(REPLAYED & self._rows.keys())
        for item in self._recording.items(until_ns=self._to_ns):
            if isinstance(item, BlockStart):
                if self._stop is not None and self._stop.is_set():
                    return
                if self._progress is not None:
                    self._progress.messages = self.walk.messages
                    self._progress.block(item.done_bytes)
            elif isinstance(item, Damage):
                self.damages.append(item)
            elif stops_at(item, self._to_ns):
                break
            self.walk.take(item)
            if replays:
                self._sessions.take(item)
            yield from self._full(self._batch_rows)
        self.walk.finish()
        if replays:
            self._sessions.finish()
        yield from self._full(1)

    def _full(self, rows: int) -> Iterator[tuple[str, pa.RecordBatch]]:
        for table, builder in self._rows.items():
            if len(builder) >= rows:
                yield table, builder.take()


class Messages:
    """A walk's visitor: the tables that hold what the exchange sent, and the holes of the recording."""

    def __init__(self, rows: Builders) -> None:
        self._book = rows.get("book")
        self._trades = rows.get("trades")
        self._liquidations = rows.get("liquidations")
        self._tickers = rows.get("tickers")
        self._gaps = rows.get("gaps")
        self._noted = True  # when messages came
        self._wanted: tuple[InstrumentId, ...] = ()

    def session(self, session: Session, wanted: tuple[InstrumentId, ...]) -> None:
        self._noted = session.received
        self._wanted = wanted

    def held(self, instrument: InstrumentId, depth: int) -> None:
        """Every book is in the table, whatever the engine made of it."""

    def fact(self, fact: Instrument | ClockOffset) -> None:
        """Not in any table."""

    def _received(self, recv_ns: int) -> int | None:
        return recv_ns if self._noted else None

    def book(self, number: int, update: BookUpdate, raw: bytes) -> None:
        if not isinstance(self._book, BookRows):
            return
        key = update.instrument
        self._book.add(
            (
                number,
                key.category.value,
                key.symbol,
                update.depth,
                "snapshot" if update.snapshot else "delta",
                self._received(update.recv_ns),
                update.exchange_ms,
                update.engine_ms,
                update.u,
                update.seq,
            ),
            *book_numbers(raw),
        )

    def image(self, image: Image) -> None:
        if not isinstance(self._book, BookRows):
            return
        key = image.instrument
        shared = (image.number, key.category.value, key.symbol, image.depth, "checkpoint")
        exchange_ms = None if self._noted else image.recv_ns // 1_000_000
        times = (self._received(image.recv_ns), exchange_ms, None, image.u, image.seq)
        self._book.add((*shared, *times), _as_text(image.bids), _as_text(image.asks))

    def trades(self, number: int, trades: list[Trade], raw: bytes) -> None:
        if not isinstance(self._trades, Rows):
            return
        message = fills_text(raw)
        for trade, text in zip(trades, message.data, strict=True):
            key, numbers = trade.instrument, fill_numbers(text)
            self._trades.add(
                (
                    number,
                    key.category.value,
                    key.symbol,
                    self._received(trade.recv_ns),
                    message.ts,
                    trade.match_ms,
                    trade.trade_id,
                    "Buy" if trade.buy else "Sell",
                    *numbers,
                    *numbers,
                    text.L,
                    trade.block,
                    trade.rpi,
                    trade.seq,
                )
            )

    def liquidations(self, number: int, rows: list[Liquidation], raw: bytes) -> None:
        if not isinstance(self._liquidations, Rows):
            return
        message = fills_text(raw)
        for row, text in zip(rows, message.data, strict=True):
            key, numbers = row.instrument, fill_numbers(text)
            self._liquidations.add(
                (
                    number,
                    key.category.value,
                    key.symbol,
                    self._received(row.recv_ns),
                    message.ts,
                    row.match_ms,
                    "Buy" if row.long_liquidated else "Sell",
                    *numbers,
                    *numbers,
                )
            )

    def ticker(self, number: int, update: TickerUpdate, raw: bytes) -> None:
        if not isinstance(self._tickers, Rows):
            return
        key = update.instrument
        data, numbers = ticker_text(raw)
        self._tickers.add(
            (
                number,
                key.category.value,
                key.symbol,
                "snapshot" if update.snapshot else "delta",
                self._received(update.recv_ns),
                update.exchange_ms,
                update.cross_seq,
                *(numbers[name] for name in TICKER_NUMBERS),
                data,
            )
        )

    def hole(self, hole: Hole) -> None:
        if not isinstance(self._gaps, Rows):
            return
        cause = hole.cause
        facts: tuple[object, ...]
        if isinstance(cause, Damage):
            facts = (None, cause.skipped, _file_name(cause.file), cause.offset)
        else:
            facts = (cause.frames, cause.bytes, None, None)
        to_ms = hole.to_ns // 1_000_000 if hole.to_ns is not None else None
        for key in self._wanted:
            whose = (key.category.value, key.symbol, "recording", cause.reason, cause.detail)
            self._gaps.add((hole.from_ns // 1_000_000, to_ms, *whose, *facts))


def _as_text(levels: list[Level]) -> list[tuple[str, str]]:
    return [(plain_decimal(price), plain_decimal(size)) for price, size in levels]


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


class Figures(Silent):
    """A replay's sink: ticks, alerts, and the times in which a book that had been `live` was not.

    Args: window: what is kept, ms, both ends included.
    """

    def __init__(self, rows: Builders, window: tuple[float, float]) -> None:
        self._ticks = rows.get("ticks")
        self._alerts = rows.get("alerts")
        self._gaps = rows.get("gaps")
        self._window = window
        self._down: dict[InstrumentId, tuple[int, str, str]] = {}  # since ms, reason, detail

    def _inside(self, ts: int) -> bool:
        return self._window[0] <= ts <= self._window[1]

    def tick(self, tick: MetricsTick) -> None:
        if tick.live:
            self._up(tick.instrument, tick.ts)  # a checkpoint brings a book back without a word
        if isinstance(self._ticks, Rows) and self._inside(tick.ts):
            self._ticks.add(tick_row(tick))

    def alert(self, alert: Alert) -> None:
        tick = alert.tick
        if not isinstance(self._alerts, Rows) or not self._inside(tick.ts):
            return
        whose = (tick.ts, tick.category.value, tick.symbol)
        rule = (alert.plugin, alert.rule, alert.kind.value, alert.severity.value, alert.message)
        self._alerts.add((*whose, *rule, alert.metric, alert.value, alert.threshold, alert.since_ms))

    def feed(self, change: FeedChange, ts: int) -> None:
        if not isinstance(change, BookStateChanged):
            return
        if change.new is BookState.LIVE:
            self._up(change.instrument, ts)
        elif change.old is BookState.LIVE:
            self._down[change.instrument] = ts, change.reason, change.detail

    def summary(self, summary: Summary, ts: int) -> None:
        """The session ended: what is down stays so."""
        for key in list(self._down):
            self._up(key, None)

    def _up(self, key: InstrumentId, ts: int | None) -> None:
        since_ms, reason, detail = self._down.pop(key, (0, "", ""))
        if not reason or reason == "recording_gap":  # that is told by the hole itself
            return
        if isinstance(self._gaps, Rows) and self._inside(since_ms):
            whose = (key.category.value, key.symbol, "book", reason, detail)
            self._gaps.add((since_ms, ts, *whose, None, None, None, None))


def tick_row(tick: MetricsTick) -> tuple[object, ...]:
    """A tick in the order of its table's columns."""
    row: list[object] = []
    for name in tick.__struct_fields__:
        value = getattr(tick, name)
        if name == "hops":
            for hop in HOPS:
                row += msgspec.structs.astuple(getattr(value, hop))
        elif isinstance(value, msgspec.Struct):
            row += msgspec.structs.astuple(value)
        else:
            row.append(value)
    return tuple(row)
