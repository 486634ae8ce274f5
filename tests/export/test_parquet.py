from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

pa = pytest.importorskip("pyarrow", reason="needs the extra `export`")

import pyarrow.parquet as pq  # noqa: E402 - behind the question whether it is there

from orderflow.export import parquet  # noqa: E402
from orderflow.export.columns import BookRows, Rows  # noqa: E402
from orderflow.export.parquet import ParquetWriter, split  # noqa: E402
from orderflow.export.schemas import SCHEMAS  # noqa: E402
from tests.record.tapes import T0  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400 * 10**9
FOLDER = "book/date=2026-09-21/category=linear/symbol=BTCUSDT"


def batch(*rows: tuple[str, int | None]) -> pa.RecordBatch:
    """Rows of `book`: symbol, receive time."""
    found = BookRows()
    for number, (symbol, recv_ns) in enumerate(rows):
        shared = (number, "linear", symbol, 50, "delta", recv_ns, T0 // 10**6, None, number, 0)
        found.add(shared, [("1.0", "2")], [])
    return found.take()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def test_a_file_for_each_day_and_symbol(tmp_path: Path) -> None:
    with ParquetWriter(tmp_path) as writer:
        writer.add("book", batch(("BTCUSDT", T0), ("ETHUSDT", T0), ("BTCUSDT", T0 + 1), ("BTCUSDT", T0 + DAY)))
        writer.add("book", batch(("BTCUSDT", T0 + DAY + 1)))
    assert files(tmp_path) == [
        f"{FOLDER}/part-00000.parquet",
        f"{FOLDER.replace('BTC', 'ETH')}/part-00000.parquet",
        f"{FOLDER.replace('21', '22')}/part-00000.parquet",
    ]
    table = pq.read_table(tmp_path / "book")
    assert sorted(table.column("recv_ns").to_pylist()) == [T0, T0, T0 + 1, T0 + DAY, T0 + DAY + 1]
    assert {*SCHEMAS["book"].names, "date"} == set(table.column_names)
    assert (writer.rows, writer.files) == ({"book": 5}, {"book": 3})


def test_the_rows_of_a_file_keep_their_order(tmp_path: Path) -> None:
    names = [symbol for _, symbol in zip(range(300), itertools.cycle(["BTCUSDT", "ETHUSDT", "AUSDT"]), strict=False)]
    with ParquetWriter(tmp_path) as writer:
        writer.add("book", batch(*((name, T0 + number) for number, name in enumerate(names))))
    for path in tmp_path.rglob("*.parquet"):
        moments = pq.ParquetFile(path).read().column("recv_ns").to_pylist()
        assert len(moments) == 100
        assert moments == sorted(moments)


def test_files_are_zstd_with_the_schema_of_the_page(tmp_path: Path) -> None:
    with ParquetWriter(tmp_path) as writer:
        writer.add("book", batch(("BTCUSDT", T0)))
    file = pq.ParquetFile(tmp_path / FOLDER / "part-00000.parquet")
    assert {file.metadata.row_group(0).column(n).compression for n in range(file.metadata.num_columns)} == {"ZSTD"}
    kept = [field for field in SCHEMAS["book"] if field.name not in ("category", "symbol")]
    assert list(file.schema_arrow) == kept


def test_a_day_without_receive_times_is_the_exchanges(tmp_path: Path) -> None:
    ((part, rows),) = split("book", batch(("BTCUSDT", None), ("BTCUSDT", None)))
    assert (part.day, rows.num_rows) == (T0 // DAY, 2)


@pytest.mark.parametrize("table, column", [("alerts", "ts"), ("gaps", "from_ms")])
def test_days_of_other_tables(table: str, column: str) -> None:
    rows = Rows(table)
    for ms in (T0 // 10**6, (T0 + DAY) // 10**6):
        fields = {field.name: "x" if field.type == pa.string() else 1 for field in SCHEMAS[table]}
        rows.add(tuple({**fields, column: ms}.values()))
    assert [part.day for part, _ in split(table, rows.take())] == [T0 // DAY, T0 // DAY + 1]


def test_few_files_are_open_and_none_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_OPEN", 1)
    monkeypatch.setattr(parquet, "MAX_ROWS", 1)
    with ParquetWriter(tmp_path) as writer:
        for number in range(4):
            writer.add("book", batch(*(((("BTCUSDT", "ETHUSDT")[number % 2]), T0 + number),) * 2))
    assert len(files(tmp_path)) == writer.files["book"] == 4
    assert files(tmp_path)[1] == f"{FOLDER}/part-00001.parquet"
    assert sorted(pq.read_table(tmp_path / "book").column("recv_ns").to_pylist()) == [
        T0 + number // 2 for number in range(8)
    ]


def test_a_row_group_is_written_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 3)
    with ParquetWriter(tmp_path) as writer:
        for number in range(4):
            writer.add("book", batch(*[("BTCUSDT", T0 + number)] * 2))
    file = pq.ParquetFile(tmp_path / FOLDER / "part-00000.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)] == [4, 4]
