"""One sample a second, holes kept, memory bounded."""

from __future__ import annotations

from msgspec.structs import replace

from orderflow.core.types import BookState
from orderflow.ui.history import History, Sample
from tests.ui.frames import START_MS, make_frame, make_view

INSTRUMENT = make_view(0, 0).tick.instrument


def mid(sample: Sample) -> float | None:
    return sample.mid


def test_one_sample_a_second_the_last_one_counts() -> None:
    history = History()
    first = make_frame(0, 1)
    history.add(first)
    history.add(replace(make_frame(7, 1), ts=START_MS + 900))
    assert history.series(INSTRUMENT, mid, 1) == [make_view(7, 0).tick.mid]


def test_missing_seconds_and_untrusted_books_are_holes() -> None:
    history = History()
    history.add(make_frame(0, 1))
    history.add(make_frame(3, 1))
    history.add(replace(make_frame(4, 1), books=(make_view(4, 0, state=BookState.STALE),)))
    values = history.series(INSTRUMENT, mid, 1)
    assert [value is None for value in values] == [False, True, True, False, True]


def test_bounded_and_grouped() -> None:
    history = History(keep_s=60)
    for second in range(100):
        history.add(make_frame(second, 1))
    assert history.seconds(INSTRUMENT) == 60
    assert history.group_s(INSTRUMENT, 60) == 1
    assert history.group_s(INSTRUMENT, 59) == 2
    assert history.group_s(INSTRUMENT, 25) == 4
    assert len(history.series(INSTRUMENT, mid, 4)) == 15
    newest = [make_view(second, 0).tick.mid or 0.0 for second in range(96, 100)]
    assert history.series(INSTRUMENT, mid, 4)[-1] == sum(newest) / 4
    history.add(replace(make_frame(10_000_000, 1)))
    assert history.seconds(INSTRUMENT) == 60


def test_a_clock_set_back_and_books_that_go() -> None:
    history = History()
    history.add(make_frame(100, 2))
    history.add(make_frame(50, 2))
    assert history.seconds(INSTRUMENT) == 1
    history.add(replace(make_frame(51, 2), books=()))
    assert history.seconds(INSTRUMENT) == 0
