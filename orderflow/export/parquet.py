"""Hive-partitioned Parquet: `<table>/date=/category=/symbol=/part-00000.parquet`, written while the rows come.

Memory holds the rows that wait for a row group to fill, at most MAX_ROWS of them over all files.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orderflow import __version__
from orderflow.core.errors import ConfigError
from orderflow.core.types import is_symbol
from orderflow.export.schemas import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Days = np.ndarray[Any, np.dtype[np.int64]]

ROW_GROUP: Final = 1 << 17
"""Rows at which a row group is written; it may be larger by the batch that filled it."""
MAX_ROWS: Final = 1 << 19
MAX_OPEN: Final = 64
"""Files open at once; the one that was written to longest ago is closed, and goes on in a next part."""
PARTITIONED: Final = ("category", "symbol")
_DAY_MS: Final = 86_400_000


class Part(NamedTuple):
    """One file's place."""

    table: str
    day: int  # since 1970
    category: str
    symbol: str

    def folder(self) -> str:
        """Raises: ConfigError for a symbol that is none: it must not become a path."""
        if not is_symbol(self.symbol):
            raise ConfigError(f"the recording names a symbol that cannot be: {self.symbol[:60]!a}")
        date = np.datetime64(self.day, "D")
        return f"{self.table}/date={date}/category={self.category}/symbol={self.symbol}"


class _Waiting:
    """Rows of one part that do not fill a row group yet."""

    __slots__ = ("batches", "rows")

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0


class ParquetWriter:
    """Takes batches of tables and spreads them over files. Use it as a context; files are whole when it ends well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[Part, _Waiting] = {}
        self._waiting_rows = 0
        self._open: OrderedDict[Part, pq.ParquetWriter] = OrderedDict()
        self._parts: dict[Part, int] = {}
        self._newest: dict[tuple[str, str, str], int] = {}
        self.rows: dict[str, int] = {}
        self.files: dict[str, int] = {}

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            for part in sorted(self._waiting):
                self._write(part)
        for part in list(self._open):
            self._close(part)

    def add(self, table: str, batch: pa.RecordBatch) -> None:
        """Rows of one table, in order."""
        self.rows[table] = self.rows.get(table, 0) + batch.num_rows
        for part, rows in split(table, batch):
            self._begin_day(part)
            waiting = self._waiting.setdefault(part, _Waiting())
            waiting.batches.append(rows)
            waiting.rows += rows.num_rows
            self._waiting_rows += rows.num_rows
            if waiting.rows >= ROW_GROUP:
                self._write(part)
        while self._waiting_rows > MAX_ROWS:
            self._write(max(self._waiting, key=lambda part: self._waiting[part].rows))

    def _begin_day(self, part: Part) -> None:
        """The day before is over: its file is closed."""
        key = part.table, part.category, part.symbol
        before = self._newest.get(key)
        if before is not None and before < part.day:
            old = part._replace(day=before)
            self._write(old)
            self._close(old)
        self._newest[key] = part.day if before is None else max(before, part.day)

    def _write(self, part: Part) -> None:
        waiting = self._waiting.pop(part, None)
        if waiting is None:
            return
        self._waiting_rows -= waiting.rows
        self._writer(part).write_table(pa.Table.from_batches(waiting.batches), row_group_size=waiting.rows)

    def _writer(self, part: Part) -> pq.ParquetWriter:
        writer = self._open.get(part)
        if writer is None:
            if len(self._open) >= MAX_OPEN:
                self._close(next(iter(self._open)))
            writer = self._open[part] = self._create(part)
        self._open.move_to_end(part)
        return writer

    def _create(self, part: Part) -> pq.ParquetWriter:
        number = self._parts.get(part, 0)
        self._parts[part] = number + 1
        self.files[part.table] = self.files.get(part.table, 0) + 1
        folder = self._folder / part.folder()
        folder.mkdir(parents=True, exist_ok=True)
        schema = file_schema(part.table)
        return pq.ParquetWriter(folder / f"part-{number:05}.parquet", schema, compression="zstd")

    def _close(self, part: Part) -> None:
        writer = self._open.pop(part, None)
        if writer is not None:
            writer.close()


def file_schema(table: str) -> pa.Schema:
    """Of one file: the columns that are in its path are left out."""
    fields = [field for field in SCHEMAS[table] if field.name not in PARTITIONED]
    return pa.schema(fields, metadata={"orderflow.table": table, "orderflow.version": __version__})


def split(table: str, batch: pa.RecordBatch) -> Iterator[tuple[Part, pa.RecordBatch]]:
    """A batch as one for each file, rows in their order."""
    if not batch.num_rows:
        return
    days = _days(batch)
    category, symbol = (batch.column(name).dictionary_encode() for name in PARTITIONED)
    numbers = (days - days.min(), category.indices.to_numpy(), symbol.indices.to_numpy())
    sizes = (int(days.max() - days.min()) + 1, len(category.dictionary), len(symbol.dictionary))
    keys, first, whose = np.unique(np.ravel_multi_index(numbers, sizes), return_index=True, return_inverse=True)
    rest = batch.select([name for name in batch.schema.names if name not in PARTITIONED])
    rest = rest.replace_schema_metadata(file_schema(table).metadata)
    order = np.argsort(whose, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(whose))[:-1])
    for row, rows in zip(first.tolist(), groups, strict=True):
        part = Part(table, int(days[row]), *(batch.column(name)[row].as_py() for name in PARTITIONED))
        yield part, rest if len(keys) == 1 else rest.take(pa.array(rows))


def _days(batch: pa.RecordBatch) -> Days:
    """The UTC day of each row, since 1970: of its receive time, or of the exchange's where nobody noted that."""
    names = batch.schema.names
    if "recv_ns" not in names:
        told = batch.column("ts" if "ts" in names else "from_ms")
    else:
        received = pc.divide(batch.column("recv_ns"), 1_000_000)
        told = pc.coalesce(received, batch.column("exchange_ms"), pa.scalar(0, pa.int64()))
    days: Days = pc.divide(told, _DAY_MS).to_numpy()
    return days
