from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.plan import QUICK
from orderflow.bench.recording import _time_replay, _write_tape, measure_recorder, measure_replay
from orderflow.bench.results import judge
from orderflow.verify.run import verify

if TYPE_CHECKING:
    from pathlib import Path

TINY = msgspec.structs.replace(QUICK, rounds=1, windows=20, paced_s=0.4, replay=300)


def test_a_replay_is_measured_beside_decoding_alone() -> None:
    figures = {figure.case: figure for figure in measure_replay(TINY, Frames(50, 20))}
    assert set(figures) == {"decoded alone", "replayed"}
    assert all(figure.shown.p50 > 0 and figure.unit == "us" for figure in figures.values())
    judged = {verdict.limit.title for verdict in judge(list(figures.values())) if verdict.measured is not None}
    assert judged == {"replay, 50,000 deltas/s"}


def test_what_is_replayed_is_a_recording_and_a_wrong_one_does_not_count(tmp_path: Path) -> None:
    frames = Frames(50, 20)
    _write_tape(tmp_path, [frames.snapshot, *frames.deltas(100)], 50)
    report = verify([tmp_path])
    assert report.clean()
    assert (report.messages, report.books[0].gaps) == (101, 0)
    with pytest.raises(WrongBook, match="101 of 102"):
        _time_replay(tmp_path, 102, frames.last_u(100))
    with pytest.raises(WrongBook, match="to u"):
        _time_replay(tmp_path, 101, frames.last_u(101))


@pytest.mark.socket
def test_the_cost_of_recording_is_measured_with_and_without() -> None:
    figures = {(figure.name, figure.case): figure for figure in measure_recorder(TINY)}
    assert len(figures) == 6
    assert all(figure.rate == 5000 and len(figure.rounds) == 1 for figure in figures.values())
    parts = [figure.shown.p50 for (name, _), figure in figures.items() if name == "of it the recorder"]
    assert len(parts) == 2
    assert sum(parts) > 0
    assert 1 < figures["on the disk a message", "recorded"].shown.p50 < 600
    (verdict,) = (verdict for verdict in judge(list(figures.values())) if verdict.measured is not None)
    assert (verdict.limit.title, verdict.limit.ceiling) == ("recording", 10)
