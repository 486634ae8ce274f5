from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

for library in ("pyarrow", "polars", "pandas", "duckdb"):
    pytest.importorskip(library, reason="needs the extra `views`")

import pandas as pd  # noqa: E402 - behind the question whether they are there
import polars as pl  # noqa: E402

import orderflow  # noqa: E402
from orderflow.core.errors import ConfigError, MisuseError, RecordingError  # noqa: E402
from orderflow.export import tables  # noqa: E402
from orderflow.export.options import TABLES  # noqa: E402
from orderflow.export.schemas import SCHEMAS  # noqa: E402
from orderflow.export.views import TableRecording  # noqa: E402
from tests.export.tapes import MS, SPOT, Tape, book, spot_book, trade  # noqa: E402
from tests.record.tapes import BTC, T0  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableRecording:
    monkeypatch.chdir(tmp_path)  # no settings of whoever runs the tests
    monkeypatch.setattr(tables, "BATCH_ROWS", 7)
    tape = Tape(tmp_path / "tape", [BTC, SPOT])
    tape.frames(5 * MS, [book(10, [("100.10", "1")], [("100.2", "3")], "snapshot")])
    tape.frames(6 * MS, [spot_book(3, [("7", "1")], [("8", "1")], "snapshot")], connection=2)
    for number in range(1, 21):
        tape.frames(
            (6 + number) * MS, [book(10 + number, [("100.10", f"{number}.0")], []), trade("100.2", str(number))]
        )
        if number % 5 == 0:
            tape.block()
    tape.tick(1000 * MS)
    tape.close()
    return orderflow.open_recording(tmp_path / "tape")


@pytest.mark.parametrize("table", TABLES)
def test_every_table_in_every_view(recording: TableRecording, table: str) -> None:
    whole = recording.arrow(table).read_all()
    assert whole.schema.equals(recording.schema(table))
    assert recording.polars(table).collect().rows() == pl.DataFrame(whole).rows()
    assert recording.polars(table).collect_schema() == pl.DataFrame(whole).schema
    frames = list(recording.pandas(table))
    rows = [row for frame in frames for row in frame.to_dict("records")]
    assert [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in rows
    ] == whole.to_pylist()
    assert recording.duckdb(table).fetchall() == [tuple(row.values()) for row in whole.to_pylist()]


def test_symbols_and_times(recording: TableRecording) -> None:
    window = {"since_ns": T0 + 10 * MS, "until_ns": T0 + 12 * MS}
    assert recording.arrow("trades", symbols=["BTCUSDT"], **window).read_all().num_rows == 3
    assert recording.polars("trades", **window).collect().height == 3
    assert sum(len(frame) for frame in recording.pandas("trades", **window)) == 3
    assert recording.duckdb("trades", **window).count("*").fetchall() == [(3,)]
    assert recording.arrow("book", symbols=["spot:ETHUSDT"]).read_all().num_rows == 2
    assert recording.arrow("book", symbols=["spot:BTCUSDT"]).read_all().num_rows == 0


def test_prices_stay_exact(recording: TableRecording) -> None:
    first = recording.arrow("book").read_next_batch().to_pylist()[0]
    assert (first["price"], first["price_text"]) == (Decimal("100.10"), "100.10")
    assert recording.polars("book").select(pl.col("size").sum()).collect().item() == Decimal(1 + 3 + 2 + 210)
    assert recording.duckdb("book").sum("size").fetchall() == [(Decimal(216),)]
    assert next(recording.pandas("book")).price[0] == Decimal("100.1")


def test_polars_pushes_down_in_the_right_order(recording: TableRecording) -> None:
    lazy = recording.polars("book")
    whole = lazy.collect()
    bids = pl.col("side") == "bid"
    for view in (
        lambda frame: frame.filter(bids).head(5),
        lambda frame: frame.head(5).filter(bids),
        lambda frame: frame.slice(3, 4).filter(bids).select("price"),
        lambda frame: frame.filter(bids).select("u", "size_text").tail(3),
        lambda frame: frame.select("price_text").head(2),
    ):
        assert view(lazy).collect().rows() == view(whole.lazy()).collect().rows()


def test_a_view_reads_no_more_than_is_taken(recording: TableRecording, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    whole = TableRecording.items

    def items(self: TableRecording, **more: int | None) -> object:
        for item in whole(self, **more):
            taken.append(item)
            yield item

    monkeypatch.setattr(TableRecording, "items", items)
    reader = recording.arrow("book")
    lazy = recording.polars("book")
    relation = recording.duckdb("book")
    assert taken == []
    reader.read_next_batch()
    some = len(taken)
    recording.arrow("book").read_all()
    assert 0 < some < (len(taken) - some) / 2
    taken.clear()
    assert lazy.head(2).collect().height == 2
    assert 0 < len(taken) < some * 2
    taken.clear()
    assert relation.count("*").fetchall() == relation.count("*").fetchall() == [(24,)]  # read anew each time
    assert len([item for item in taken if isinstance(item, orderflow.record.records.Session)]) >= 2


def test_a_relation_of_ones_own_connection(recording: TableRecording) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("create table sizes as select 3 as size")
        relation = recording.duckdb("book", connection=connection)
        joined = relation.query("levels", "select count(*) from levels join sizes using (size)").fetchall()
    assert joined == [(2,)]


@pytest.mark.parametrize("view", ["schema", "arrow", "polars", "pandas", "duckdb"])
def test_a_table_that_there_is_not(recording: TableRecording, view: str) -> None:
    with pytest.raises(MisuseError, match=r"'boook': no such table; there are book, trades"):
        getattr(recording, view)("boook")


@pytest.mark.parametrize("view", ["arrow", "polars", "pandas", "duckdb"])
def test_a_library_that_is_not_there(recording: TableRecording, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.export.needs.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bybit-orderflow\[views\]'"):
        getattr(recording, view)("book")


def test_it_is_a_recording_as_well(recording: TableRecording, tmp_path: Path) -> None:
    assert len(list(recording.messages())) == 42
    assert recording.files[0].parent == tmp_path / "tape"
    with pytest.raises(RecordingError):
        orderflow.open_recording(tmp_path / "nothing")


def test_the_schema_is_the_tables(recording: TableRecording) -> None:
    assert recording.schema("book") is SCHEMAS["book"]
    assert "pyarrow" in sys.modules
