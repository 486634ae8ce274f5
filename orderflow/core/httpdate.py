"""Dates as HTTP writes them, and `Retry-After`, which may be one (RFC 9110, 5.6.7 and 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MONTH: Final = rf"(?P<month>{'|'.join(_MONTHS)})"
_FORMS: Final = (
    re.compile(rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?:{'|'.join(_LONG_DAYS)}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_DELAY: Final = re.compile("[0-9]{1,9}")


def parse_http_date(text: str, now_s: float) -> float | None:
    """Unix time of a date in any of the three forms; None for anything else.

    Args: now_s: Unix time, by which years of two digits are understood: never more than 50 years ahead.
    """
    found = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        this_year = datetime.fromtimestamp(now_s, UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    second = 59 if found["second"] == "60" else int(found["second"])  # a leap second
    try:
        return datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            second,
            tzinfo=UTC,
        ).timestamp()
    except ValueError:  # the 31st of June
        return None


def retry_after_s(value: str, date: str, now_s: float) -> float | None:
    """Seconds, >= 0, that a `Retry-After` asks for; None when it says nothing that can be understood.

    A date is held against the answer's own `Date`, so that our clock may be wrong; without one, against our clock.

    Args: value, date: the fields of that name, "" when absent; now_s: our Unix time.
    """
    if _DELAY.fullmatch(value):
        return float(value)
    until_s = parse_http_date(value, now_s)
    if until_s is None:
        return None
    sent_s = parse_http_date(date, now_s)
    return max(0.0, until_s - (now_s if sent_s is None else sent_s))
