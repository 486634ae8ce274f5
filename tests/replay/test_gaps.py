"""What `orderflow gaps` finds in recordings whose outcome is known."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from orderflow.cli import main
from orderflow.core.engine import Engine
from orderflow.core.errors import MisuseError
from orderflow.core.figures import Cause
from orderflow.core.types import BookState, Category, ClockOffset, InstrumentId, LinkDown, Started, Stopping, Syncing
from orderflow.record.format import Encoder
from orderflow.record.images import take_checkpoint
from orderflow.record.reader import open_recording
from orderflow.record.records import Control, End, Gap, Given, encode_event
from orderflow.record.writer import RecordingWriter
from orderflow.replay.engine import Choice
from orderflow.replay.gaps import MAX_TROUBLES, Survey, survey_gaps
from orderflow.ui.gappage import gap_page
from orderflow.ui.gaptext import format_report
from tests.foreign.test_convert import bring
from tests.foreign.test_shared import STREAMS, Stream
from tests.record.tapes import BTC, M0, POLICY, T0, book, opened, session, simple_tape, write_tape
from tests.recordings import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderflow.core.figures import GapReport, Quality
    from orderflow.core.types import Event

MS = 1_000_000


def survey(
    *paths: Path, from_ms: int | None = None, to_ms: int | None = None, symbols: tuple[str, ...] = ()
) -> GapReport:
    """The report on recordings that begin at T0; times in ms from there."""
    found = survey_gaps(
        open_recording(*paths),
        Choice(symbols=frozenset(symbols)),
        stop=threading.Event(),
        topics=1,
        from_ns=None if from_ms is None else T0 + from_ms * MS,
        to_ns=None if to_ms is None else T0 + to_ms * MS,
    )
    assert found is not None
    return found


def causes(quality: Quality) -> dict[str, tuple[int, float]]:
    return {one.cause.value: (one.count, one.seconds) for one in quality.causes}


class Tape:
    """A recording written step by step; times are ms after its beginning."""

    def __init__(self, folder: Path, later_ms: int = 0, **more: object) -> None:
        self._writer = RecordingWriter(folder, POLICY, os.urandom(16), clock=lambda: T0 + later_ms * MS)
        self._writer.rotate(None)
        self._later = later_ms * MS
        self.encoder = Encoder()
        self.encoder.note(session(session=os.urandom(4).hex(), started_ns=T0 + self._later, **more))
        self.given(Started(recv_ns=T0 + self._later, mono_ns=M0))
        self.encoder.note(msgspec.structs.replace(opened(), recv_ns=T0 + self._later))

    def control(self, *events: Event) -> None:
        self.encoder.items += 1
        self.encoder.note(Control(events=[encode_event(event) for event in events]))

    def given(self, event: Event) -> None:
        self.encoder.note(Given(applied=self.encoder.items, events=[encode_event(event)]))

    def subscribe(self, ms: int, reason: str = "subscribe") -> None:
        self.control(Syncing(instrument=BTC, reason=reason, mono_ns=M0 + ms * MS))

    def message(self, ms: int, raw: bytes) -> None:
        self.encoder.frames(1, [raw], T0 + self._later + ms * MS, M0 + ms * MS)

    def timer(self, ms: int) -> None:
        self.encoder.timer(self.encoder.items, M0 + ms * MS)

    def block(self) -> None:
        self._writer.write(self.encoder.take())

    def close(self, ms: int | None) -> None:
        """None: the program was killed."""
        if ms is not None:
            self.given(Stopping(recv_ns=T0 + self._later + ms * MS, mono_ns=M0 + ms * MS))
            self.control(LinkDown(link="linear", instruments=(BTC,), reason="closed", mono_ns=M0 + (ms + 5) * MS))
            self.timer(ms + 10)
            self.encoder.note(End(reason="stopped"))
        self._writer.close(self.encoder.take())


def faulty(folder: Path, **more: object) -> Path:
    """200 ms of start, then 10 s with a jump (300 ms), a loss of the link (1 s), a duplicate; ends at 11 s."""
    tape = Tape(folder, **more)
    tape.control(ClockOffset(offset_ms=2.0, error_ms=0.5, mono_ns=M0))
    tape.subscribe(50)
    tape.message(200, book(10, "snapshot"))
    tape.message(300, book(11))
    tape.message(400, book(11))
    tape.message(2000, book(14))
    tape.subscribe(2050, "gap")
    tape.message(2300, book(20, "snapshot"))
    tape.timer(2500)
    tape.control(LinkDown(link="linear", instruments=(BTC,), reason="eof", mono_ns=M0 + 5000 * MS))
    tape.subscribe(5800)
    tape.message(6000, book(30, "snapshot"))
    for ms in range(6100, 11000, 100):
        tape.message(ms, book(31 + (ms - 6100) // 100))
        tape.timer(ms)
    tape.close(11000)
    return folder


def test_every_figure(tmp_path: Path) -> None:
    report = survey(faulty(tmp_path / "tape"))
    (topic,) = report.topics
    quality = topic.quality
    assert (report.sessions, report.files, report.to_ms - report.from_ms) == (1, 1, 11_000)
    assert (quality.category, quality.symbol) == ("linear", "BTCUSDT")
    assert causes(quality) == {"disconnect": (1, 1.0), "sequence": (1, 0.3), "start": (1, 0.2)}
    assert (quality.asked_s, quality.live_s, quality.coverage_pct) == (11.0, 9.5, 86.3636)
    assert (quality.gaps, quality.gaps_per_hour, quality.longest_gap_s) == (2, 654.545, 1.0)
    assert (quality.messages, quality.jumps, quality.missed) == (55, 1, 2)
    assert (quality.duplicates, quality.resyncs, quality.refused) == (1, 1, 0)
    assert quality.recovery_s.max == 1.0
    assert quality.recovery_s.p50 == pytest.approx(0.3, rel=0.01)
    assert (quality.clock_offset_ms.count, quality.clock_offset_ms.max) == (1, 2.0)
    assert quality.latency_ms.max == 10_998.0 - 100
    assert (quality.first_ms, quality.last_ms) == (report.from_ms + 200, report.from_ms + 10_900)
    assert [(gap.cause, gap.seconds, gap.reason) for gap in topic.gaps] == [
        (Cause.SEQUENCE, 0.3, "gap"),
        (Cause.DISCONNECT, 1.0, "eof"),
    ]
    states = ["empty", "syncing", "live", "suspect", "syncing", "live", "empty", "syncing", "live"]
    assert [stretch.state for stretch in topic.stretches] == states
    assert msgspec.structs.replace(report.total, category="linear", symbol="BTCUSDT") == quality


@pytest.mark.parametrize(
    "window, expected",
    [
        ((1000, 3000), {"coverage_pct": 85.0, "gaps": 1, "messages": 2, "duplicates": 0, "jumps": 1, "resyncs": 1}),
        ((2100, 2200), {"coverage_pct": 0.0, "gaps": 1, "gap_s": 0.1, "messages": 0}),
        ((100, 400), {"coverage_pct": 66.6666, "gaps": 0, "messages": 3, "duplicates": 1}),
        ((None, 5500), {"asked_s": 5.5, "gaps": 2, "gap_s": 0.8}),
        ((7000, None), {"coverage_pct": 100.0, "gaps": 0, "asked_s": 4.0, "messages": 40}),
        ((7000, 8000), {"coverage_pct": 100.0, "asked_s": 1.0, "messages": 11}),
        ((-5000, 11_000), {"asked_s": 16.0, "gaps": 3, "longest_gap_s": 5.2}),
        ((10_000, 12_000), {"coverage_pct": 50.0, "gaps": 1, "gap_s": 1.0}),
    ],
)
def test_between_two_times(tmp_path: Path, window: tuple[int | None, int | None], expected: dict[str, Any]) -> None:
    report = survey(faulty(tmp_path / "tape"), from_ms=window[0], to_ms=window[1])
    found = msgspec.structs.asdict(report.topics[0].quality)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("window", [(20_000, None), (None, -1000), (3000, 1000)])
def test_nothing_in_the_time_asked_for(tmp_path: Path, window: tuple[int | None, int | None]) -> None:
    with pytest.raises(MisuseError, match="nothing was recorded"):
        survey(faulty(tmp_path / "tape"), from_ms=window[0], to_ms=window[1])


def test_between_sessions_nobody_recorded(tmp_path: Path) -> None:
    faulty(tmp_path / "tape")
    later = Tape(tmp_path / "tape", later_ms=20_000)
    later.subscribe(10)
    later.message(500, book(10, "snapshot"))
    later.timer(1000)
    later.close(4000)
    report = survey(tmp_path / "tape")
    quality = report.topics[0].quality
    assert report.sessions == 2
    assert quality.asked_s == 24.0
    assert causes(quality)["unrecorded"] == (1, 9.5)  # until it was live again
    assert (quality.messages, quality.live_s) == (56, 13.0)
    states = [stretch.state for stretch in report.topics[0].stretches][-4:]
    assert states == ["unrecorded", "empty", "syncing", "live"]
    only_later = survey(tmp_path / "tape", from_ms=20_500)
    assert (only_later.topics[0].quality.coverage_pct, only_later.topics[0].quality.messages) == (100.0, 1)


def test_a_topic_that_never_came_and_one_that_was_recorded_later(tmp_path: Path) -> None:
    eth = InstrumentId(Category.LINEAR, "ETHUSDT")
    faulty(tmp_path / "tape", instruments=[BTC, eth])
    report = survey(tmp_path / "tape")
    btc, other = (topic.quality for topic in report.topics)
    assert btc.coverage_pct == 86.3636
    assert (other.coverage_pct, other.gaps, causes(other)) == (0.0, 0, {"never": (1, 11.0)})
    assert report.total.coverage_pct == 43.1818
    assert [topic.quality.symbol for topic in survey(tmp_path / "tape", symbols=("ETHUSDT",)).topics] == ["ETHUSDT"]


def test_a_killed_program_is_covered_up_to_its_last_word(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.subscribe(0)
    tape.message(100, book(10, "snapshot"))
    tape.timer(1000)
    tape.close(None)
    report = survey(tmp_path / "tape")
    assert (report.topics[0].quality.asked_s, report.topics[0].quality.coverage_pct) == (1.0, 90.0)
    assert "not closed in order" in report.troubles[0]
    assert str(tmp_path) not in report.troubles[0]


def test_a_hole_left_by_the_recorder(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.subscribe(0)
    tape.message(100, book(10, "snapshot"))
    tape.timer(1000)
    tape.block()
    engine = Engine([(BTC, 50)])
    engine.books[BTC].state, engine.books[BTC].u = BookState.LIVE, 50
    engine.books[BTC].counters.duplicates = 7  # in the hole: not in the recording
    tape.encoder.items += 40
    hole = {"reason": "disk", "from_ns": T0 + 1000 * MS, "to_ns": T0 + 3000 * MS}
    tape.encoder.note(Gap(frames=40, bytes=9, items=40, detail="\x1b[31mno room", **hole))  # type: ignore[arg-type]
    tape.encoder.note(take_checkpoint(engine, tape.encoder.items, T0 + 3000 * MS, M0 + 3000 * MS))
    tape.message(3100, book(51))
    tape.message(3200, book(51))
    tape.timer(4000)
    tape.close(5000)
    report = survey(tmp_path / "tape")
    (topic,) = report.topics
    assert causes(topic.quality) == {"recorder": (1, 2.0), "start": (1, 0.1)}
    assert (topic.quality.duplicates, topic.quality.messages, topic.quality.recovery_s.count) == (1, 3, 0)
    assert [stretch.state for stretch in topic.stretches] == ["syncing", "live", "unrecorded", "live"]
    assert report.troubles == ("gap of 2.0 s, 40 messages missing (disk: \x1b[31mno room)",)


def test_damage_costs_what_was_in_it_until_the_next_snapshot(tmp_path: Path) -> None:
    path = simple_tape(tmp_path / "tape")
    whole = survey(path)
    assert (whole.total.gaps, whole.troubles) == (0, ())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    report = survey(path)
    assert report.total.gaps == 1
    assert [one.cause for one in report.total.causes if one.cause is not Cause.START] == [Cause.RECORDER]
    assert len(report.troubles) == 1


def test_troubles_are_bounded(tmp_path: Path) -> None:
    found = Survey(None, None, 1)
    for _ in range(MAX_TROUBLES + 5):
        found.trouble(Gap(reason="disk", from_ns=0, to_ns=0, frames=0, bytes=0, items=0))
    found.enter([BTC], 0)
    found.leave([], 10)
    report = found.report(open_recording(simple_tape(tmp_path / "tape")))
    assert (len(report.troubles), report.troubles_left_out) == (MAX_TROUBLES, 5)


# --- recordings of the exchange -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_real_sessions_are_live_from_their_first_snapshot_on(stream: Stream, tmp_path: Path) -> None:
    bring(tmp_path / "tape", recording(f"streams/{stream.name}"))
    report = survey(tmp_path / "tape")
    assert {f"{topic.quality.category}:{topic.quality.symbol}" for topic in report.topics} == set(stream.books)
    for quality in (topic.quality for topic in report.topics):
        assert quality.messages == stream.books[f"{quality.category}:{quality.symbol}"]
        assert quality.gaps == quality.jumps == quality.missed == quality.refused == quality.resyncs == 0
        assert [one.cause for one in quality.causes if one.seconds] in ([], [Cause.START])
        waited_s = sum(one.seconds for one in quality.causes)
        assert quality.live_s == pytest.approx(quality.asked_s - waited_s, abs=1e-5)
        assert quality.first_ms is not None
        assert quality.first_ms - report.from_ms == pytest.approx(waited_s * 1000, abs=2)
        assert (quality.latency_ms.count > 0) == (stream.clock == "receive")


# --- the command --------------------------------------------------------------------------------------------------


def test_text_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gaps", str(faulty(tmp_path / "tape"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 topic, 2026-09-21 ")
    assert lines[2:5] == [
        "Coverage      86.36%",
        "Gaps          2 (655 per topic and hour), longest 1.0s, 1.3s lost",
        "Causes        disconnect 1.0s (1), sequence 0.3s (1), start 0.2s (1)",
    ]
    (row,) = (line.split() for line in lines if line.startswith("linear:BTCUSDT"))
    assert row == ["linear:BTCUSDT", "86.36%", "2", "655", "1.0s", "1.3s", "1", "0.3s", "1", "55"]
    assert any("sequence (gap: 2 missed before u 14)" in line for line in lines)


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gaps", str(faulty(tmp_path / "tape")), "--json", "--from", "+1", "--symbol", "btcusdt"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["asked_s"] == 10.0
    assert report["topics"][0]["quality"]["causes"][0] == {
        "cause": "disconnect",
        "count": 1,
        "seconds": 1.0,
        "longest_s": 1.0,
    }
    assert report["topics"][0]["gaps"][1]["reason"] == "eof"


def test_fail_under(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = str(faulty(tmp_path / "tape"))
    assert main(["gaps", tape, "--fail-under", "86.3"]) == 0
    assert main(["gaps", tape, "--fail-under", "86.5"]) == 1
    assert "linear:BTCUSDT: coverage 86.3636 % is below 86.5 %" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        (["nothing.ofr"], "cannot be opened"),
        (["tape", "--fail-under", "101"], "--fail-under"),
        (["tape", "--fail-under", "most"], "--fail-under"),
        (["tape", "--symbol", "ETHUSDT"], "linear:BTCUSDT"),
        (["tape", "--from", "soon"], "no time"),
        (["tape", "--from", "+100"], "nothing was recorded"),
        (["tape", "--html", "no/such/folder/page.html"], "cannot be written"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    faulty(tmp_path / "tape")
    assert main(["gaps", *words]) == 2
    assert told in capsys.readouterr().err


def test_stopped_before_the_end_there_are_no_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stopped() -> Iterator[threading.Event]:
        stop = threading.Event()
        stop.set()
        yield stop

    monkeypatch.setattr("orderflow.replay.gaps_command.stoppable", stopped)
    assert main(["gaps", str(faulty(tmp_path / "tape")), "--html", str(tmp_path / "page.html")]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "no figures" in said.err
    assert not (tmp_path / "page.html").exists()


def test_the_page_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["gaps", str(faulty(tmp_path / "tape")), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.endswith("</html>\n")
    assert "86.36%" in text
    assert str(tmp_path) not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "tape"]


def test_a_plain_tape_without_beginning_and_end_notes(tmp_path: Path) -> None:
    report = survey(write_tape(tmp_path / "tape", [[book(10, "snapshot")], *[[book(u)] for u in range(11, 31)]]))
    assert (report.total.asked_s, report.total.gaps, report.total.messages) == (1.0, 0, 20)


def test_impossible_times_do_no_harm(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.control(LinkDown(link="x", instruments=(BTC,), reason="eof", mono_ns=2**63 - 1))
    tape.message(100, book(10, "snapshot"))
    tape.control(LinkDown(link="x", instruments=(BTC,), reason="eof", mono_ns=-(2**63)))
    tape.timer(2**43)
    tape.close(None)
    report = survey(tmp_path / "tape", from_ms=-(10**30), to_ms=10**30)
    assert "2262" in format_report(report)
    assert gap_page(report, "tape").endswith("</html>\n")
