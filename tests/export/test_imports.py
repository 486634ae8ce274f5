"""What was imported exports like what was recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orderflow.cli import main
from tests.foreign.made import books, lines, recorded
from tests.foreign.test_convert import bring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _needs_the_extra() -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("numpy")


def exported(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    assert main(["export", str(folder / "tape"), "--out", str(folder / "out"), "--json", *options]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_books_of_several_depths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = lines(tmp_path / "a.data", books(1, 20, depth=500))
    other = lines(tmp_path / "b.data", books(1, 20, depth=50, spot=True))
    bring(tmp_path / "tape", one, other)
    exported(tmp_path, capsys, "--format", "hftbacktest")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.npz"))
    assert [name.partition("/")[0] for name in names] == ["linear", "spot"]


@pytest.mark.parametrize("received", [False, True])
def test_receive_times_where_there_are_any(tmp_path: Path, capsys: pytest.CaptureFixture[str], received: bool) -> None:
    import pyarrow.dataset as ds

    content = books(1, 3)
    if received:
        content = recorded([("1790000000.5", raw) for raw in content])
    bring(tmp_path / "tape", lines(tmp_path / "x.jsonl", content))
    exported(tmp_path, capsys, "--table", "book")
    files = [str(path) for path in (tmp_path / "out").rglob("*.parquet")]
    times = set(ds.dataset(files).to_table(columns=["recv_ns"])["recv_ns"].to_pylist())
    assert len(times) == 1
    assert (times == {None}) is not received
