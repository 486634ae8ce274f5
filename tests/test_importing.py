"""`orderflow import` on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orderflow.cli import main
from orderflow.foreign.convert import Import
from orderflow.importing import progress_text
from orderflow.record.reader import Damage, open_recording
from tests.foreign.made import books, contract_trades, lines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # the tests' own stay as they are


def test_import_then_replay_backtest_and_serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = lines(tmp_path / "2026-09-21_ABCUSDT_ob200.data.zip", books(100, 50))
    other = lines(tmp_path / "ABCUSDT2026-09-21.csv.gz", contract_trades(["1790000000.5,Buy,1,1.25"] * 3))
    assert main(["import", str(one), str(other), "--out", "tape"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "imported 51 messages of 2 files into tape" in said.out
    assert "50 orderbook, 1 publicTrade" in said.out
    assert "2026-09-21 14:13:20 to 2026-09-21 14:13:24 UTC (4.9s), the exchange's times" in said.out
    assert main(["replay", "tape", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in found if line["event"] == "tick"] == ["live"] * 4
    rules = ["--set", "plugins.enabled=spread", "--set", "plugins.spread.raise_above=0.01"]
    assert main(["alerts", "backtest", "tape", *rules, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rules"][0]["raised"] == 1
    assert main(["verify", "tape"]) == 0
    from orderflow.sim.recordings import read_recording

    assert len(list(read_recording(tmp_path / "tape"))) == 51


def test_json_and_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "spot-x.jsonl", [b"\x1b[31mhello", *books(100, 5)])
    assert main(["import", str(path), "--out", "tape", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["messages"], report["instruments"], report["clock"]) == (5, ["spot:ABCUSDT"], "exchange")
    assert report["files"][0]["problems"][0]["line"] == 1
    assert "orderflow: import: spot-x.jsonl: line 1: no message" in said.err
    assert "\x1b" not in said.err
    assert main(["import", str(path), "--out", "other", "--category", "inverse"]) == 0
    said = capsys.readouterr()
    assert "1 lines left out" in said.out
    assert "instruments: inverse:ABCUSDT" in said.out


def test_options_for_what_files_do_not_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "trades.csv", [b"ts_ms,price,qty,side", b"1790000000500,1,1,Buy"])
    assert main(["import", str(path), "--out", "tape"]) == 2
    assert "trades.csv: line 1: a trade file without a column `symbol`" in capsys.readouterr().err
    assert main(["import", str(path), "--out", "tape", "--symbol", "abcusdt"]) == 0
    (message,) = open_recording(tmp_path / "tape").messages()
    assert b'"topic":"publicTrade.ABCUSDT"' in message.raw


@pytest.mark.parametrize(
    "words, told",
    [
        (["nothing.zip", "--out", "tape"], "nothing.zip: cannot be opened"),
        ([".", "--out", "tape"], "not an ordinary file"),
        (["good.jsonl", "--out", "."], "there already"),
        (["good.jsonl", "--out", "good.jsonl"], "there already"),
        (["good.jsonl", "good.jsonl", "--out", "tape"], "leave one out"),
        (["good.jsonl", "--out", "tape", "--clock", "receive"], "no receive times"),
        (["good.jsonl", "--out", "tape", "--instruments", "good.jsonl"], "--instruments"),
        (["good.jsonl", "--out", "good.jsonl/tape"], "cannot be written"),
    ],
)
def test_refusals_are_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    lines(tmp_path / "good.jsonl", books(100, 5))
    assert main(["import", *words]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["good.jsonl"]


def test_a_replay_of_a_foreign_file_names_the_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "x.data.zip", books(100, 5))
    assert main(["replay", str(path)]) == 2
    assert (
        "not a recording of orderflow; archives, trade files and JSON lines: orderflow import"
        in capsys.readouterr().err
    )


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from orderflow.record.writer import RecordingWriter

    def full(self: RecordingWriter, last: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordingWriter, "rotate", full)
    path = lines(tmp_path / "x.jsonl", books(100, 5))
    assert main(["import", str(path), "--out", "tape"]) == 2
    assert "No space left on device; nothing was left behind" in capsys.readouterr().err
    assert [found.name for found in tmp_path.iterdir()] == ["x.jsonl"]


def test_progress_of_both_passes(tmp_path: Path) -> None:
    job = Import([lines(tmp_path / "x.jsonl", books(100, 50))])
    assert progress_text("looking", job, 2.0) == "looking 0%, 0 B/s"
    plan = job.look()
    job.messages = 10
    assert progress_text("importing", job, 2.0) == "importing 20%, 5 messages/s, 8.0s left"
    assert plan.depth == 200


HELD = """\
import sys
from orderflow.foreign import convert
from orderflow.cli import main
take = convert._Tape.take
def slow(self, arrival):
    take(self, arrival)
    if self.topics.get("orderbook") == 1000:
        print("half", flush=True)
        sys.stdin.read()
convert._BLOCK_BYTES = 1000
convert._Tape.take = slow
sys.exit(main(["import", "x.jsonl", "--out", "tape"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle(tmp_path: Path, number: signal.Signals) -> None:
    """The import waits for us in the middle of the file: it cannot end before the signal comes."""
    path = lines(tmp_path / "x.jsonl", books(100, 2000))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HELD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "half\n"
        assert (tmp_path / "tape.importing").is_dir()
        process.send_signal(number)
        code = process.wait(30)
        said = process.stderr.read()
    assert not (tmp_path / "tape").exists()
    if number != signal.SIGKILL:
        assert code == 130
        assert "nothing was left behind" in said
        assert [found.name for found in tmp_path.iterdir()] == ["x.jsonl"]
    else:
        left = open_recording(tmp_path / "tape.importing")
        assert 0 < len(list(left.messages())) < 2000
        assert [damage.reason for damage in left.records() if isinstance(damage, Damage)] == ["torn"]
        assert main(["import", str(path), "--out", "tape"]) == 0
        assert len(list(open_recording(tmp_path / "tape").messages())) == 2000
        assert sorted(found.name for found in tmp_path.iterdir()) == ["tape", "x.jsonl"]
