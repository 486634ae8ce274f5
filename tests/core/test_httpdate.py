"""The three forms of an HTTP date, and what `Retry-After` asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.httpdate import parse_http_date, retry_after_s

NOW_S = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 GMT
NOW = "Mon, 21 Sep 2026 14:13:20 GMT"


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["IMF-fixdate", "rfc850", "asctime"],
)
def test_the_three_forms(text: str) -> None:
    """The examples of RFC 9110, 5.6.7."""
    assert parse_http_date(text, NOW_S) == 784_111_777


@pytest.mark.parametrize(
    "text, year",
    [
        ("Monday, 21-Sep-26 14:13:20 GMT", 2026),
        ("Monday, 21-Sep-76 14:13:20 GMT", 2076),
        ("Monday, 21-Sep-77 14:13:20 GMT", 1977),
        ("Monday, 21-Sep-99 14:13:20 GMT", 1999),
        ("Monday, 21-Sep-00 14:13:20 GMT", 2000),
    ],
)
def test_two_digits_of_a_year_are_never_more_than_50_years_ahead(text: str, year: int) -> None:
    assert parse_http_date(text, NOW_S) == datetime(year, 9, 21, 14, 13, 20, tzinfo=UTC).timestamp()


def test_a_leap_second_is_the_second_before() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW_S) == 1_483_228_799


@given(st.integers(0, 253_402_300_799))
def test_what_others_write_is_read(second: int) -> None:
    assert parse_http_date(formatdate(second, usegmt=True), NOW_S) == second


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "Mon, 31 Jun 2026 00:00:00 GMT",
        "Mon, 00 Jun 2026 00:00:00 GMT",
        "Mon, 21 Sep 2026 24:00:00 GMT",
        "Mon, 21 Sep 2026 00:60:00 GMT",
        "Mon, 21 Sep 2026 00:00:61 GMT",
        "Mon, 21 Sep 0000 00:00:00 GMT",
        "Mon, 21 Sep 2026 00:00:00 CET",
        "Mon, 21 Sep 2026 00:00:00 GMT ",
        "mon, 21 sep 2026 00:00:00 gmt",
        "Mon, ٢١ Sep 2026 00:00:00 GMT",
        "Mon, 21 Sep 2026 00:00:00 GMT\n",
        "Xyz, 21 Sep 2026 00:00:00 GMT",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_http_date(text, NOW_S) is None


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    got = parse_http_date(text, NOW_S)
    if got is not None:
        assert parsedate_to_datetime(text).timestamp() == got


@pytest.mark.parametrize(
    "value, date, seconds",
    [
        ("0", "", 0),
        ("120", NOW, 120),
        ("999999999", "", 999_999_999),
        ("1234567890", "", None),
        ("-1", "", None),
        ("1.5", "", None),
        ("٣", "", None),
        ("", NOW, None),
        ("Mon, 21 Sep 2026 14:15:20 GMT", NOW, 120),
        ("Mon, 21 Sep 2026 14:15:20 GMT", "", 120),
        ("Mon, 21 Sep 2026 14:15:20 GMT", "nonsense", 120),
        ("Mon, 21 Sep 2026 14:15:20 GMT", "Mon, 21 Sep 2026 14:15:10 GMT", 10),  # our clock is 110 s behind
        ("Mon, 21 Sep 2026 14:12:20 GMT", NOW, 0),  # in the past
        ("Monday, 21-Sep-26 14:15:20 GMT", NOW, 120),
        ("Mon Sep 21 14:15:20 2026", NOW, 120),
    ],
)
def test_what_retry_after_asks_for(value: str, date: str, seconds: float | None) -> None:
    assert retry_after_s(value, date, NOW_S) == seconds
