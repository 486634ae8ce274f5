"""Bars, charts and boxes have exact widths and honest lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment

from orderflow.ui.cells import Line, Theme, balance, bar, box, cell, chart, curve, fit, signed_chart, width_of

VALUES = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=80)


def text_of(line: Line) -> str:
    return "".join(segment.text for segment in line)


@given(st.floats(-1, 2), st.integers(0, 60), st.booleans())
def test_bars_fill_their_width(fraction: float, width: int, leftward: bool) -> None:
    assert width_of(bar(fraction, width, Theme.bid, leftward=leftward)) == width


@pytest.mark.parametrize(
    "fraction, text", [(0, "    "), (0.5, "██  "), (1, "████"), (7, "████"), (-1, "    "), (0.28125, "█▏  ")]
)
def test_bar_lengths(fraction: float, text: str) -> None:
    assert text_of(bar(fraction, 4, Theme.bid)) == text


def test_leftward_bars_end_in_a_reversed_part() -> None:
    line = bar(0.375, 4, Theme.bid, leftward=True)
    assert text_of(line) == "  ▌█"
    assert line[1].style is not None
    assert line[1].style.reverse


@given(st.floats(-1, 1), st.integers(3, 60))
def test_balance_keeps_its_centre(value: float, width: int) -> None:
    line = balance(value, width, Theme.bid, Theme.ask)
    assert width_of(line) == width
    assert text_of(line).index("│") == (width - 1) // 2


@given(VALUES, st.integers(1, 40), st.integers(1, 6))
def test_charts_have_their_size(values: list[float | None], width: int, height: int) -> None:
    for lines in (chart(values, width, height, Theme.spread), curve(values, width, height, Theme.mid_line)):
        assert [width_of(line) for line in lines] == [width] * height
    signed = signed_chart(values, width, height * 2, Theme.bid, Theme.ask)
    assert [width_of(line) for line in signed] == [width] * (height * 2)


def test_chart_shape() -> None:
    assert text_of(chart([0.0, 0.5, 1.0, None], 5, 1, Theme.spread)[0]) == " ▁▄█ "
    assert [text_of(line) for line in signed_chart([1.0, -1.0], 2, 2, Theme.bid, Theme.ask)] == ["█ ", " █"]
    assert text_of(curve([0.0, 1.0], 1, 1, Theme.mid_line)[0]) == "⣸"[:0] + chr(
        0x2800 | 0x40 | 0x08 | 0x10 | 0x20 | 0x80
    )


@given(st.text(max_size=30), st.integers(0, 20), st.sampled_from("<>^"))
def test_cells_are_exact_for_wide_characters_too(text: str, width: int, align: str) -> None:
    text = "".join(char for char in text if char.isprintable())
    assert width_of([cell(text, width, Theme.text, align)]) == width
    assert width_of(fit([Segment(text), Segment("日本")], width)) == width


def test_box_cuts_and_pads() -> None:
    body: list[Line] = [[Segment("x" * 50)], [Segment("short")]]
    lines = box(body, 20, 5, [Segment("a title that is far too long")], "note")
    assert [width_of(line) for line in lines] == [20] * 5
    assert text_of(lines[-1]).endswith(" note ──╯")
