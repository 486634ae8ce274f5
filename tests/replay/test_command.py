from __future__ import annotations

import itertools
import json
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orderflow.cli import main
from orderflow.core.errors import MisuseError
from orderflow.core.types import Category, InstrumentId
from orderflow.hooks.host import PluginHost
from orderflow.record.reader import open_recording
from orderflow.replay.engine import Choice
from orderflow.replay.run import Pace, Window, parse_moment, run_replay
from orderflow.replay.sinks import Silent
from orderflow.sim.recordings import read_recording
from tests.record.tapes import BTC, T0, book, simple_tape, write_tape

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.core.types import FeedChange, MetricsTick
    from orderflow.record.reader import Damage
    from orderflow.record.records import Gap

CALM = ["--set", "plugins.enabled=spread", "--set", "plugins.spread.raise_above=50"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], str]:
    """JSON lines of standard output; standard error."""
    said = capsys.readouterr()
    return [json.loads(text) for text in said.out.splitlines()], said.err


def events(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in found if line["event"] == name]


def test_json_lines_with_the_recordings_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = simple_tape(tmp_path / "tape")
    assert main(["replay", str(tape), "--json", *CALM]) == 0
    found, said = lines(capsys)
    assert found[0]["event"] == "start"
    assert found[0]["ts"] == T0 // 1_000_000
    ticks = events(found, "tick")
    assert [tick["ts"] for tick in ticks] == [T0 // 1_000_000 + 1000 * n for n in (1, 2, 3)]
    assert [tick["updates"] for tick in ticks] == [20, 40, 60]
    assert ticks[0]["bid"] == 100.1
    assert found[-1]["event"] == "summary"
    assert found[-1]["messages"] == 61
    assert "61 messages: 3 ticks, 0 alerts, sha256 " in said


def test_twice_the_same_output_and_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = simple_tape(tmp_path / "tape")
    said = []
    for options in ([], [], ["--speed", "100"]):
        assert main(["replay", str(tape), "--json", *CALM, *options]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1] == said[2]


def test_each_book_has_ticks_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Live, every book's tick is a moment of its own; one whose number nobody has is said, not guessed."""
    other = InstrumentId(Category.SPOT, "BTCUSDT")
    tape = write_tape(
        tmp_path / "tape",
        [[book(10, "snapshot")], *([book(u)] for u in range(11, 50))],
        instruments=[BTC, other],
        tick_books=(1, 0, 2),
    )

    def ticked(*options: str) -> tuple[list[str], list[str]]:
        assert main(["replay", str(tape), "--json", *CALM, *options]) == 0
        found, _ = lines(capsys)
        return [tick["category"] for tick in events(found, "tick")], found[-1]["notes"]

    assert ticked()[0] == ["spot", "linear", "spot", "linear"]
    assert any(note.startswith("2 messages could not be read") for note in ticked()[1])
    assert ticked("--symbol", "linear:BTCUSDT")[0] == ["linear", "linear"]


def test_isolated_plugins_give_the_same_output_and_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = simple_tape(tmp_path / "tape")
    said = []
    for isolated in ("", "spread,liquidity"):
        loud = ["--set", "plugins.spread.raise_above=0.0001", "--set", "plugins.liquidity.raise_below=1e6"]
        assert main(["replay", str(tape), "--json", *loud, "--set", f"plugins.isolated={isolated}"]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1]
    assert " 0 alerts" not in said[0].err


def test_from_to_symbol_and_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = simple_tape(tmp_path / "tape", 100)

    def seconds(*options: str) -> list[float]:
        assert main(["replay", str(tape), "--json", *CALM, *options]) == 0
        found, _ = lines(capsys)
        return [(tick["ts"] - T0 // 1_000_000) / 1000 for tick in events(found, "tick")]

    assert seconds() == [1, 2, 3, 4, 5]
    assert seconds("--from", "+2") == [2, 3, 4, 5]
    assert seconds("--to", "+2.5") == [1, 2]
    assert seconds("--from", "+2", "--to", "+4") == [2, 3, 4]
    assert seconds("--symbol", "btcusdt") == seconds("--symbol", "linear:BTCUSDT") == [1, 2, 3, 4, 5]
    assert len(seconds("--interval", "0.5")) == 9
    assert main(["replay", str(tape), "--symbol", "ETHUSDT"]) == 2
    assert "linear:BTCUSDT" in capsys.readouterr().err


def test_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simple_tape(tmp_path / "tape")
    assert main(["replay", str(tmp_path / "tape"), *CALM]) == 0
    out = capsys.readouterr().out
    assert "BTCUSDT | Bid: $100.1" in out
    assert "Summary after 3.0s | 61 messages" in out


@pytest.mark.parametrize(
    "words, told",
    [
        (["replay", "nothing.ofr"], "cannot be opened"),
        (["replay", "."], "no recording"),
        (["replay", "tape", "--speed", "0"], "--speed"),
        (["replay", "tape", "--speed", "quick"], "--speed"),
        (["replay", "tape", "--from", "yesterday"], "no time"),
        (["replay", "tape", "--set", "book.nothing=1"], "book.nothing"),
        (["alerts", "backtest", "nothing"], "cannot be opened"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    simple_tape(tmp_path / "tape")
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_torn_recording_is_replayed_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = simple_tape(tmp_path / "tape")
    tape.write_bytes(tape.read_bytes()[:-300])
    assert main(["replay", str(tape), "--json", *CALM]) == 0
    found, _ = lines(capsys)
    (damage,) = events(found, "recording")
    assert (damage["kind"], damage["reason"], damage["file"]) == ("damage", "torn", str(tape))
    assert len(events(found, "tick")) == 2


def wide(u: int) -> bytes:
    return book(u, "snapshot", bid="100", ask="103", size="1000000")


def narrow(u: int) -> bytes:
    return book(u, "snapshot", bid="100", ask="100.01", size="1000000")


def test_a_backtest_says_how_often_when_and_how_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = [[narrow(10)]] * 20 + [[wide(11)]] * 60 + [[narrow(12)]] * 100 + [[wide(13)]] * 40
    write_tape(tmp_path / "tape", batches)
    rules = ["--set", "plugins.enabled=spread", "--set", "plugins.spread.for_s=0"]
    rules += ["--set", "plugins.spread.clear_for_s=0", "--set", "plugins.spread.cooldown_s=0"]
    assert main(["alerts", "backtest", "tape", "--json", *rules, "--set", "plugins.spread.raise_above=0.5"]) == 0
    report = json.loads(capsys.readouterr().out)
    (rule,) = report["rules"]
    assert (rule["plugin"], rule["instrument"], rule["raised"]) == ("spread", "linear:BTCUSDT", 2)
    first, second = rule["episodes"]
    assert first["until_ms"] - first["from_ms"] == 3000
    assert second["until_ms"] is None
    assert rule["longest_s"] == 3.0
    assert report["watched_s"] == {"linear:BTCUSDT": 10.0}
    assert main(["alerts", "backtest", "tape", *rules, "--set", "plugins.spread.raise_above=50"]) == 0
    assert "no rule fired" in capsys.readouterr().out
    assert main(["alerts", "backtest", "tape", *rules, "--set", "plugins.spread.raise_above=0.5"]) == 0
    assert "raised 2 times" in capsys.readouterr().out


def test_a_recording_without_timers_gets_them(tmp_path: Path) -> None:
    from orderflow.record.format import Encoder
    from orderflow.record.records import End
    from orderflow.record.writer import RecordingWriter
    from tests.record.tapes import M0, POLICY, begin

    writer = RecordingWriter(tmp_path / "tape", POLICY, bytes(16))
    writer.rotate(None)
    encoder = Encoder()
    begin(encoder, timed=False)
    for number in range(100):
        message = book(10, "snapshot") if number == 0 else book(10 + number)
        encoder.frames(1, [message], T0 + number * 50_000_000, M0 + number * 50_000_000)
    encoder.frames(1, [book(110)], T0 + 10**15, M0 + 10**15)  # days later: no timers are made up for those
    encoder.note(End(reason="stopped"))
    writer.write(encoder.take())
    writer.close(None)
    kept = Kept()
    run_replay(open_recording(tmp_path / "tape"), Choice(), PluginHost, kept, stop=threading.Event())
    seconds = [(tick.ts - T0 // 1_000_000) / 1000 for tick in kept.ticks]
    assert len(seconds) == 4
    assert [round(after - before, 3) for before, after in itertools.pairwise(seconds)] == [1.0] * 3
    assert kept.ticks[-1].live


class Kept(Silent):
    def __init__(self) -> None:
        self.ticks: list[MetricsTick] = []
        self.changes: list[FeedChange] = []
        self.troubles: list[Damage | Gap] = []

    def tick(self, tick: MetricsTick) -> None:
        self.ticks.append(tick)

    def feed(self, change: FeedChange, ts: int) -> None:
        self.changes.append(change)

    def trouble(self, trouble: Damage | Gap) -> None:
        self.troubles.append(trouble)


def test_after_a_damaged_block_no_book_is_believed_until_a_snapshot(tmp_path: Path) -> None:
    deltas = [[book(u, size="2")] for u in range(11, 50)]
    tape = write_tape(
        tmp_path / "tape", [[book(10, "snapshot")], *deltas, [book(60, "snapshot")], [book(61)]] + [[]] * 18
    )
    content = bytearray(tape.read_bytes())
    third = [at for at in range(len(content)) if content[at : at + 4] == b"OFRB"][2]
    content[third + 70] ^= 255
    tape.write_bytes(content)
    kept = Kept()
    run_replay(open_recording(tape), Choice(), PluginHost, kept, stop=threading.Event())
    assert [trouble.reason for trouble in kept.troubles] == ["block"]
    assert [tick.live for tick in kept.ticks] == [False, False, True]
    assert kept.ticks[-1].counters.gaps == 0


def test_a_stop_ends_it_between_two_blocks_and_at_any_wait(tmp_path: Path) -> None:
    tape = simple_tape(tmp_path / "tape", 200)
    stop = threading.Event()
    stop.set()
    kept = Kept()
    assert run_replay(open_recording(tape), Choice(), PluginHost, kept, stop=stop) == 0
    waited = threading.Event()
    pace = Pace(1, waited)
    threading.Timer(0.2, waited.set).start()
    assert 0 < run_replay(open_recording(tape), Choice(), PluginHost, kept, stop=waited, pace=pace) < 30


def test_pace_counts_from_the_first_moment() -> None:
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(round(timeout or 0, 3))
            return False

    pace = Pace(10, Stop(), clock=lambda: 100.0)
    for moment in (5, 6, 7.5):
        pace.wait(int(moment * 1e9))
    assert waits == [0.1, 0.25]
    assert not Pace(math.inf, Stop()).waits


def test_a_window_hashes_what_lies_in_it(tmp_path: Path) -> None:
    recording = open_recording(simple_tape(tmp_path / "tape"))
    whole, part = Window(Silent(), -math.inf, math.inf), Window(Silent(), T0 / 1e6 + 1500, math.inf)
    for window in (whole, part):
        run_replay(recording, Choice(), PluginHost, window, stop=threading.Event())
    assert (whole.ticks, part.ticks) == (3, 2)
    assert whole.sha256 != part.sha256


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("+90", 90),
        ("+0.5", 0.5),
        ("1790000060", 60),
        ("1790000060000", 60),
        ("2026-09-21T14:14:20", 60),
        ("2026-09-21T16:14:20+02:00", 60),
        ("14:14:20", 60),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    from datetime import UTC, datetime

    assert f"{datetime.fromtimestamp(T0 / 1e9, UTC):%Y-%m-%dT%H:%M:%S}" == "2026-09-21T14:13:20"
    assert parse_moment(text, T0) == T0 + round(seconds * 1e9)


@pytest.mark.parametrize("text", ["", "soon", "+", "+x", "25:00", "2026-13-01", "1e400", "+nan"])
def test_no_moments(text: str) -> None:
    with pytest.raises(MisuseError):
        parse_moment(text, T0)


def test_the_simulated_exchange_reads_it(tmp_path: Path) -> None:
    simple_tape(tmp_path / "tape")
    served = list(read_recording(tmp_path / "tape"))
    assert len(served) == 61
    assert {(message.category, message.topic) for message in served} == {(BTC.category, "orderbook.50.BTCUSDT")}
    assert served[0].at_ms == (T0 + 50_000_000) / 1e6
