"""Other ways to keep levels keep the right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.bench.choices.levels import (
    BisectedSide,
    ResortedSide,
    SortedDictSide,
    SortedListSide,
    check_levels,
    decoded,
    decoded_snapshot,
    make_books,
    measure_levels,
)
from orderflow.bench.choices.turns import Pace
from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.ratios import find_ratios

if TYPE_CHECKING:
    from orderflow.bench.choices.levels import Side

SIDES = (BisectedSide, ResortedSide, SortedDictSide, SortedListSide)
LEVELS = st.lists(
    st.tuples(st.integers(1, 40).map(float), st.sampled_from([0.0, 1.0, 2.5])), max_size=40, unique_by=lambda x: x[0]
)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return Frames(50, 8)


@pytest.mark.parametrize("make", SIDES)
@given(messages=st.lists(LEVELS, max_size=6))
def test_a_side_is_a_dict_in_order(make: type[Side], messages: list[list[tuple[float, float]]]) -> None:
    side = make()
    oracle: dict[float, float] = {}
    for levels in messages:
        side.apply(levels)
        for price, size in levels:
            if size:
                oracle[price] = size
            else:
                oracle.pop(price, None)
        ordered = sorted(oracle.items())
        assert side.sizes_by_price() == oracle
        assert side.bottom(3) == ordered[:3]
        assert side.top(3) == ordered[::-1][:3]
        if ordered:
            assert (side.lowest(), side.highest()) == (ordered[0][0], ordered[-1][0])


def test_every_way_is_measured_untouched_and_looked_at(frames: Frames) -> None:
    figures = measure_levels(frames, Pace(rounds=1, turns=2, messages=25))
    assert [figure.case for figure in figures] == 2 * list(make_books())
    assert all(figure.shown.p50 > 0 for figure in figures)
    assert {ratio.case for ratio in find_ratios(figures)} == {"dict and best price"}


@pytest.mark.parametrize("way", list(make_books()))
def test_a_way_that_loses_a_message_is_found_out(way: str, frames: Frames) -> None:
    book = make_books()[way]
    book.take([decoded_snapshot(frames), *decoded(frames, 8, 0)])
    check_levels(way, book, frames, 8)
    book.take(decoded(frames, 1, 9))
    with pytest.raises(WrongBook, match=way):
        check_levels(way, book, frames, 10)
