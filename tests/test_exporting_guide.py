"""docs/exporting.md is true: its tables are the schemas, its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pa = pytest.importorskip("pyarrow", reason="needs the extra `export`")

from orderflow.export.options import TABLES  # noqa: E402 - behind the question whether pyarrow is there
from orderflow.export.schemas import HOPS, SCHEMAS  # noqa: E402
from tests.export.tapes import MS, SPOT, Tape, book, spot_book  # noqa: E402
from tests.record.tapes import BTC  # noqa: E402

METRICS = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text("utf-8")
GUIDE = (Path(__file__).parents[1] / "docs" / "exporting.md").read_text("utf-8")
TYPES = {"int64": "int64", "int32": "int32", "string": "text", "double": "float64", "bool": "bool"}


def section(table: str) -> str:
    found = re.search(rf"^### `{table}`.*?(?=^##)", GUIDE, re.DOTALL | re.MULTILINE)
    assert found, f"no section for {table}"
    return found[0]


def type_of(field: pa.Field) -> str:
    return "decimal(38, 18)" if pa.types.is_decimal(field.type) else TYPES[str(field.type)]


@pytest.mark.parametrize("table", [table for table in TABLES if table != "ticks"])
def test_every_column_with_its_type_and_whether_it_may_be_null(table: str) -> None:
    told = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (yes|) ?\| [^|]+ \|$", section(table), re.MULTILINE)
    assert told == [(field.name, type_of(field), "yes" if field.nullable else "") for field in SCHEMAS[table]]


def test_every_column_of_a_tick_is_a_field_of_the_tick_line() -> None:
    for field in SCHEMAS["ticks"]:
        group = next((name for name in (*HOPS, "quality") if field.name.startswith(f"{name}_")), "")
        name = field.name.removeprefix(f"{group}_")
        assert group in METRICS
        assert f"`{name}`" in METRICS, f"docs/metrics.md does not name {name}"
        assert type_of(field) in section("ticks")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for library in ("polars", "pandas", "duckdb"):
        pytest.importorskip(library, reason="needs the extra `views`")
    monkeypatch.chdir(tmp_path)
    tape = Tape(tmp_path / "tape", [BTC, SPOT])
    tape.frames(5 * MS, [book(10, [("100.10", "1")], [("100.2", "3")], "snapshot")])
    tape.frames(6 * MS, [spot_book(3, [("7", "1")], [("8", "1")], "snapshot")], connection=2)
    tape.tick(1000 * MS)
    tape.close()
    (example,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    exec(example, {})
    said = capsys.readouterr().out
    assert "snapshot ┆ 2" in said
    assert re.search(r"ETHUSDT │ 1333\.3", said)
    assert "100.100000000000000000 100.10" in said
    assert "spread_bps" in said
