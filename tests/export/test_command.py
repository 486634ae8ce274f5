from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `export`")

import numpy as np
import pyarrow.parquet as pq

from orderflow.cli import main
from orderflow.core.types import Category, InstrumentId
from orderflow.export import command
from orderflow.export.options import TABLES
from orderflow.export.schemas import SCHEMAS
from orderflow.record.records import Gap
from tests.export.tapes import MS, SPOT, Tape, book, spot_book, ticker, trade
from tests.export.test_tables import checkpoint
from tests.record.tapes import BTC

if TYPE_CHECKING:
    from pathlib import Path

QUIET = ["--set", "plugins.enabled="]


@pytest.fixture(autouse=True)
def tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = Tape(tmp_path / "tape", [BTC, SPOT])
    made.fact("0.10", "0.001")
    made.frames(5 * MS, [book(10, [("100.1", "1")], [("100.2", "3")], "snapshot"), trade("100.2", "1")])
    made.frames(6 * MS, [spot_book(3, [("7", "1")], [("8", "1")], "snapshot")], connection=2)
    made.tick(1000 * MS)
    made.frames(1005 * MS, [book(11, [("100.1", "0")], []), ticker(lastPrice="100.20"), b"{"])
    made.tick(2000 * MS)
    return made.close()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["export", "tape", "--out", "out", "--json", *words]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, *QUIET)
    assert result["rows"] == {
        "book": 5,
        "trades": 1,
        "liquidations": 0,
        "tickers": 1,
        "ticks": 4,
        "alerts": 0,
        "gaps": 0,
    }
    assert (result["messages"], result["refused"]) == (6, 1)
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == result
    told = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.parquet"))
    assert result["bytes"] == told
    table = pq.read_table(tmp_path / "out" / "book")
    assert set(table.column("symbol").to_pylist()) == {"BTCUSDT", "ETHUSDT"}


def test_alerts_of_the_plugins_that_are_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = {"enabled": "spread", "spread.raise_above": "0.01", "spread.clear_below": "0.001", "spread.for_s": "0"}
    words = [word for key, value in rules.items() for word in ("--set", f"plugins.{key}={value}")]
    assert run(capsys, *words, "--symbol", "BTCUSDT", "--table", "alerts")["rows"] == {"alerts": 1}
    (row,) = pq.read_table(tmp_path / "out" / "alerts").to_pylist()
    assert (row["plugin"], row["kind"], row["symbol"]) == ("spread", "raise", "BTCUSDT")


def test_some_tables_of_some_time_and_symbol(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "book", "--table", "ticks", "--from", "+0.5", "--to", "+1.5", "--symbol", "spot:ETHUSDT"]
    assert run(capsys, *words)["rows"] == {"book": 2, "ticks": 1}


def test_hftbacktest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "--format", "hftbacktest")
    linear, spot = result["days"]
    assert (linear["file"], linear["events"]) == ("linear/BTCUSDT_20260921.npz", 5)
    assert (linear["tick_size"], linear["lot_size"], spot["tick_size"]) == ("0.10", "0.001", None)
    assert len(np.load(tmp_path / "out" / linear["file"])["data"]) == linear["rows"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["export.json", "linear", "spot"]
    assert (result["refused"], result["left_out"], result["shift_ns"]) == (1, 0, 0)


def test_people_read_what_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "tape", "--out", "a", *QUIET]) == 0
    said = capsys.readouterr().out
    assert "book: 5 rows in 2 files" in said
    assert "1 messages could not be read" in said
    assert main(["export", "tape", "--out", "b", "--format", "hftbacktest"]) == 0
    assert "linear/BTCUSDT_20260921.npz: 5 events" in capsys.readouterr().out


def test_damage_is_said_and_the_rest_exported(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = tape.glob("*.ofr")
    path.write_bytes(path.read_bytes() + b"torn off")
    for number, words in enumerate((["--table", "book"], ["--format", "hftbacktest"])):
        assert main(["export", "tape", "--out", str(number), *words]) == 0
        assert "no whole block from here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, problem",
    [
        (["--out", "tape"], "is there already"),
        (["--out", "out", "--format", "hftbacktest", "--table", "book"], "--table"),
        (["--out", "out", "--feed-latency", "3"], "--feed-latency"),
        (["--out", "out", "--format", "hftbacktest", "--feed-latency", "-3"], "--feed-latency"),
        (["--out", "out", "--format", "hftbacktest", "--feed-latency", "nan"], "--feed-latency"),
        (["--out", "out", "--symbol", "XRPUSDT"], "is not in the recording"),
        (["--out", "out", "--from", "soon"], "no time"),
    ],
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
    assert main(["export", "tape", *words]) == 2
    assert problem in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tape"]


def test_a_symbol_never_becomes_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = InstrumentId(Category.LINEAR, "../../../evil")
    made = Tape(tmp_path / "made", [evil])
    made.encoder.note(checkpoint(made, 1 * MS, [(1.0, 1.0)], 1, evil))
    made.tick(1000 * MS)
    made.close()
    assert main(["export", "made", "--out", "a", *QUIET]) == 2
    assert "'../../../evil'" in capsys.readouterr().err
    assert main(["export", "made", "--out", "b", "--format", "hftbacktest"]) == 0
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["export.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "made", "tape"]


def test_numbers_that_cannot_be_end_it_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Tape(tmp_path / "made", [BTC])
    gap = Gap(reason="disk", from_ns=0, to_ns=1 << 90, frames=1, bytes=1 << 70, items=0)
    made.encoder.note(gap)
    made.tick(1000 * MS)
    made.close()
    assert main(["export", "made", "--out", "a", *QUIET]) == 2
    assert "more than 64 bits" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "tape"]


@pytest.mark.parametrize("form", ["parquet", "hftbacktest"])
def test_a_stop_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def stopped(*_: object) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command, "show_progress", stopped)
    assert main(["export", "tape", "--out", "out", "--format", form]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tape"]


def test_a_missing_library_is_named_with_its_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderflow.export.needs.find_spec", lambda name: None)
    assert main(["export", "tape", "--out", "out"]) == 2
    assert "pyarrow and numpy not installed: pip install 'bybit-orderflow[export]'" in capsys.readouterr().err


def test_the_options_name_every_table() -> None:
    assert set(TABLES) == set(SCHEMAS)


def test_the_command_line_loads_no_library_for_it() -> None:
    code = "import sys; from orderflow.cli import build_parser; build_parser('export'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyarrow", "numpy", "polars", "duckdb", "pandas"} & set(done.stdout.split())
