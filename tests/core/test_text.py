"""Untrusted text comes out printable, bounded, on one line; decimal text is exact."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orderflow.core.text import counted, escape_bytes, escape_text, plain_decimal

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("a\x1b[31m\n\u202e\u0301\U000e0100\ud800")


@pytest.mark.parametrize(
    "raw, shown",
    [
        ("plain words, 1.5 %", "plain words, 1.5 %"),
        ("günstig 价格 🚀", "günstig 价格 🚀"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\x00\x7f", r"\x00\x7f"),
        ("abc\u202ecba\u2066", r"abc\u202ecba\u2066"),
        ("\u200b\u200d\ufeff\u061c", r"\u200b\u200d\ufeff\u061c"),
        ("a\u2028b\u2029c\u0085", r"a\u2028b\u2029c\x85"),
        ("\ud800", r"\ud800"),
        ("\ue000\U000f0000", r"\ue000\U000f0000"),
        ("\u0378", r"\u0378"),
        ("\U000e0041\ufe0f\u3164\u2800", r"\U000e0041\ufe0f\u3164\u2800"),
        ("\u00a0\u3000", r"\xa0\u3000"),
        ("z\u0301\u0301\u0301\u0301a\u0301", "z\u0301\u0301\\u0301\\u0301a\u0301"),
        (r"already \x1b", r"already \x1b"),
        ("", ""),
    ],
)
def test_escapes(raw: str, shown: str) -> None:
    assert escape_text(raw) == shown


def test_cut_text_says_how_long_it_was() -> None:
    assert escape_text("x" * 5000, 40) == "x" * 21 + "… [5000 characters]"
    assert escape_text("\n" * 5000, 40) == r"\n" * 10 + "… [5000 characters]"
    assert escape_text("x" * 50, 3) == "xx…"
    assert escape_text("x" * 40, 40) == "x" * 40
    assert escape_bytes(b"\x00" * 300, 30) == r"\x00" * 4 + "… [300 bytes]"


def test_bytes() -> None:
    assert escape_bytes(b"HTTP/1.1 503\r\n\xff\x1b") == r"HTTP/1.1 503\r\n\xff\x1b"
    assert escape_bytes(memoryview(b"")) == ""


@given(ANY_TEXT, st.integers(1, 60))
@example("\x1b" * 60, 60)
@example("a\u0301" * 30, 60)
def test_always_one_bounded_printable_line_that_escapes_to_itself(raw: str, limit: int) -> None:
    shown = escape_text(raw, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown.splitlines() in ([shown], [])
    assert escape_text(shown, limit) == shown
    assert json.loads(json.dumps(shown)) == shown
    shown.encode()


@given(st.binary(), st.integers(1, 60))
def test_bytes_are_always_one_bounded_ascii_line(raw: bytes, limit: int) -> None:
    shown = escape_bytes(raw, limit)
    assert shown.replace("…", "").isascii()
    assert shown.isprintable()
    assert len(shown) <= limit


@pytest.mark.parametrize(
    "value, decimals, text",
    [
        (50000.0, None, "50000"),
        (50000.0, 2, "50000.00"),
        (0.1, None, "0.1"),
        (1e-07, None, "0.0000001"),
        (1e-07, 10, "0.0000001000"),
        (1e22, None, "1" + "0" * 22),
        (1e16, 1, "1" + "0" * 16 + ".0"),
        (123456.789, 1, "123456.789"),  # padded, never rounded
        (-0.0, None, "0"),
        (-0.0, 2, "0.00"),
        (-0.5, 2, "-0.50"),
        (7, 0, "7"),
    ],
)
def test_plain_decimal(value: float, decimals: int | None, text: str) -> None:
    assert plain_decimal(value, decimals) == text


@given(st.integers(0, 10**15 - 1), st.integers(0, 20), st.none() | st.integers(0, 12))
def test_a_float_from_short_decimal_text_gives_that_number_back(digits: int, scale: int, decimals: int | None) -> None:
    number = Decimal(digits).scaleb(-scale)
    text = plain_decimal(float(str(number)), decimals)
    assert Decimal(text) == number
    assert set(text) <= set("0123456789.")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back(value: float) -> None:
    text = plain_decimal(value)
    assert float(text) == value
    assert "e" not in text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_text_for_what_is_no_number(value: float) -> None:
    with pytest.raises(ValueError, match="no decimal text"):
        plain_decimal(value)


@pytest.mark.parametrize(("number", "text"), [(0, "0 alerts"), (1, "1 alert"), (2, "2 alerts")])
def test_one_of_a_kind_has_no_s(number: int, text: str) -> None:
    assert counted(number, "alert") == text
