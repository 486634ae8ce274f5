"""The path without sockets, and stamps."""

from __future__ import annotations

import gc

import pytest

from orderflow.bench.choices import path
from orderflow.bench.choices.path import Path, measure_path, measure_stamps
from orderflow.bench.choices.turns import Pace
from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import WrongBook
from orderflow.core.latency import MessageHops

PACE = Pace(rounds=1, turns=2, messages=40)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return Frames(50, 8)


def test_every_way_ends_with_the_messages_book(frames: Frames) -> None:
    figures = measure_path(frames, PACE)
    assert [(figure.name, len(figure.rounds)) for figure in figures] == [
        *[("reads to book", 1)] * 3, *[("reads to book, garbage", 1)] * 3,
    ]  # fmt: skip


def test_the_garbage_collector_is_left_as_it_was(frames: Frames) -> None:
    before = gc.get_threshold()
    Path(frames, collect=(0, 5, 5)).take([])
    assert gc.get_threshold() == before


def test_a_way_that_loses_messages_is_found_out(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Path.take
    monkeypatch.setattr(Path, "take", lambda self, reads: take(self, reads[:1] if self._together == 32 else []))
    with pytest.raises(WrongBook):
        measure_path(frames, PACE)


def test_stamps_in_bulk_and_one_by_one_give_the_same_percentiles(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [figure.case for figure in measure_stamps(frames, PACE)] == 2 * ["folded in bulk", "recorded one by one"]
    monkeypatch.setattr(path, "_record_each", lambda hops, stamps: MessageHops.clear(hops))
    with pytest.raises(WrongBook, match="stamps"):
        measure_stamps(frames, PACE)
