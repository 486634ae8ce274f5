"""`orderflow.open_recording`: a recording to iterate over, and its tables in Arrow, Polars, pandas and DuckDB.

Nothing heavy is imported before a view is asked for. A view reads the recording while it is read itself: memory holds a
few batches, whatever the length.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from orderflow.core.errors import MisuseError
from orderflow.export.needs import needs
from orderflow.export.options import TABLES
from orderflow.record import reader
from orderflow.record.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from orderflow.hooks.host import PluginHost

_EXTRA: Final = "views"


class TableRecording(Recording):
    """A recording whose tables (docs/exporting.md) are there as well: `book`, `trades`, `ticks`, ...

    Every view takes: symbols: `BTCUSDT` in every category, or `spot:BTCUSDT` (none: all); since_ns, until_ns: receive
    times, both included. Every view raises: MisuseError for a table that there is not; ConfigError naming the extra to
    install when a library is missing.
    """

    def schema(self, table: str) -> pa.Schema:
        """Names and types of a table's columns."""
        needs(_EXTRA, "pyarrow", "numpy")
        if table not in TABLES:
            raise MisuseError(f"{table!a}: no such table; there are {', '.join(TABLES)}")
        from orderflow.export.schemas import SCHEMAS

        return SCHEMAS[table]

    def arrow(
        self, table: str, *, symbols: Iterable[str] = (), since_ns: int | None = None, until_ns: int | None = None
    ) -> pa.RecordBatchReader:
        """Batches as they are read; to be read once, `read_all()` for a whole table."""
        schema = self.schema(table)
        import pyarrow as pa

        batches = self._batches(table, symbols, since_ns, until_ns)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def polars(
        self, table: str, *, symbols: Iterable[str] = (), since_ns: int | None = None, until_ns: int | None = None
    ) -> pl.LazyFrame:
        """A lazy frame: reads when it is collected, each time anew. Columns and rows that are not wanted are dropped
        batch by batch; `head` ends the reading."""
        needs(_EXTRA, "polars")
        schema = self.schema(table)
        from polars.io.plugins import register_io_source

        kept = tuple(symbols)

        def read(
            columns: list[str] | None, wanted: pl.Expr | None, rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            left = rows
            for batch in self._batches(table, kept, since_ns, until_ns):
                frame = _frame(batch if left is None else batch.slice(0, left))
                left = left if left is None else left - frame.height
                frame = frame if wanted is None else frame.filter(wanted)
                yield frame if columns is None else frame.select(columns)
                if left == 0:
                    return

        return register_io_source(read, schema=_frame(schema.empty_table()).schema)

    def pandas(
        self, table: str, *, symbols: Iterable[str] = (), since_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[pd.DataFrame]:
        """One frame after the other, each of some ten thousand rows; columns keep their Arrow types, so prices stay
        exact and whole numbers whole. `pandas.concat(...)` for all of it in memory."""
        needs(_EXTRA, "pandas")
        arrow = self.arrow(table, symbols=symbols, since_ns=since_ns, until_ns=until_ns)

        def frames() -> Iterator[pd.DataFrame]:
            import pandas as pd

            for batch in arrow:
                yield batch.to_pandas(types_mapper=pd.ArrowDtype)

        return frames()

    def duckdb(
        self,
        table: str,
        *,
        symbols: Iterable[str] = (),
        since_ns: int | None = None,
        until_ns: int | None = None,
        connection: DuckDBPyConnection | None = None,
    ) -> DuckDBPyRelation:
        """A relation: reads when it is executed, each time anew.

        Args: connection: which to use; None: one in memory that lives as long as the recording object.
        """
        needs(_EXTRA, "duckdb")
        self.schema(table)
        kept = tuple(symbols)
        source = _Stream(lambda: self.arrow(table, symbols=kept, since_ns=since_ns, until_ns=until_ns))
        return (connection or self._own_connection).from_arrow(source)

    @cached_property
    def _own_connection(self) -> DuckDBPyConnection:
        import duckdb

        return duckdb.connect()

    def _batches(
        self, table: str, symbols: Iterable[str], since_ns: int | None, until_ns: int | None
    ) -> Iterator[pa.RecordBatch]:
        from orderflow.export.tables import TableReader
        from orderflow.replay.engine import Choice

        choice = Choice(symbols=frozenset(symbols))
        make_host = _plugins if table == "alerts" else _no_plugins
        for _, batch in TableReader(self, [table], choice, make_host, from_ns=since_ns, to_ns=until_ns):
            yield batch


class _Stream:
    """What DuckDB takes for Arrow data (the Arrow PyCapsule interface), as often as it asks."""

    def __init__(self, read: Callable[[], pa.RecordBatchReader]) -> None:
        self._read = read

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self._read().__arrow_c_stream__(requested_schema)


def _frame(rows: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _no_plugins() -> PluginHost:
    from orderflow.hooks.host import PluginHost

    return PluginHost()


def _plugins() -> PluginHost:
    """Those that the settings have, as in `orderflow replay`."""
    from orderflow.config.load import load
    from orderflow.replay.command import make_host

    return make_host(load().settings)


def open_recording(*paths: Path | str) -> TableRecording:
    """A recording to iterate over: files, folders, or several of them.

    Raises: RecordingError when there is nothing to read: no such file, a directory without recordings, a pipe, or a
        single file that is foreign, empty or of another version.
    """
    found = reader.open_recording(*paths)
    return TableRecording(tuple(zip(found.files, found.headers, strict=True)), found.damages)
