"""The messages: an unbroken chain of exact windows, without end."""

from __future__ import annotations

import json

import pytest

from orderflow.bench.frames import WINDOW_MS, Frames
from orderflow.bench.inprocess import check_book, make_engine, make_protocol
from orderflow.bench.subject import FIRST_U, INSTRUMENT
from orderflow.core.types import BookUpdate

START_MS = 1_790_000_000_000


@pytest.fixture(scope="module", params=sorted(WINDOW_MS))
def frames(request: pytest.FixtureRequest) -> Frames:
    return Frames(request.param, 12, start_ms=START_MS)


def test_u_counts_on_from_the_snapshot(frames: Frames) -> None:
    numbers = [json.loads(raw)["data"]["u"] for raw in (frames.snapshot, *frames.deltas(50))]
    assert numbers == list(range(FIRST_U, FIRST_U + 51))
    assert frames.last_u(50) == numbers[-1]


def test_a_run_continues_where_another_ended(frames: Frames) -> None:
    assert frames.deltas(30) == frames.deltas(10) + frames.deltas(20, start=10)


def test_a_period_leads_back_to_the_snapshot(frames: Frames) -> None:
    assert frames.book_after(frames.facts().distinct) == frames.book_after(0)
    assert frames.book_after(1) != frames.book_after(0)


def test_windows_are_exactly_as_deep_as_the_topic(frames: Frames) -> None:
    for count in range(frames.facts().distinct):
        bids, asks = frames.book_after(count)
        assert len(bids) == len(asks) == frames.depth
        assert max(map(float, bids)) < min(map(float, asks))


def test_the_real_engine_follows_them_through_several_periods(frames: Frames) -> None:
    count = 3 * frames.facts().distinct + 5
    engine, protocol = make_engine(frames.depth), make_protocol(frames.depth)
    events = protocol.receive([frames.snapshot, *frames.deltas(count)], 1, 1)
    for event in events:
        assert isinstance(event, BookUpdate)
        engine.apply(event)
    check_book(frames, count, engine)
    counters = engine.books[INSTRUMENT].counters
    assert (counters.updates, counters.gaps, counters.crossed, counters.unknown_deletes) == (count + 1, 0, 0, 0)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_track_is_an_unbroken_chain_of_its_own_symbol(frames: Frames, number: int) -> None:
    track = frames.track("XRPUSDT", number)
    messages = [json.loads(raw) for raw in (track.snapshot, *track.deltas(30))]
    assert {(each["topic"], each["data"]["s"]) for each in messages} == {
        (f"orderbook.{frames.depth}.XRPUSDT", "XRPUSDT")
    }
    assert [each["data"]["u"] for each in messages] == list(range(FIRST_U, FIRST_U + 31))
    book: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    for each in messages:
        for side, levels in book.items():
            levels.update(each["data"][side])
            for price in [price for price, size in levels.items() if not float(size)]:
                del levels[price]
    assert (book["b"], book["a"]) == track.book_after(30)


def test_tracks_begin_at_different_places(frames: Frames) -> None:
    assert len({frames.track("A", number).snapshot for number in range(8)}) == 8


def test_same_seed_same_messages() -> None:
    one, two, other = (Frames(50, 5, seed, START_MS).deltas(8) for seed in (7, 7, 8))
    assert one == two
    assert one != other


def test_facts_describe_one_period(frames: Frames) -> None:
    facts = frames.facts()
    one_period = frames.deltas(facts.distinct)
    assert facts.levels == pytest.approx(
        sum(len(side) for raw in one_period for side in (json.loads(raw)["data"]["b"], json.loads(raw)["data"]["a"]))
        / len(one_period),
        abs=0.06,
    )
    assert facts.levels_max >= facts.levels
