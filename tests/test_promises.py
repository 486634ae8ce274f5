"""The tables of promises in docs/testing.md names tests and faults that exist, and no row is without a test."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from orderflow.sim.faultlist import KINDS

TESTS: Final = Path(__file__).resolve().parent
PAGE: Final = TESTS.parent / "docs" / "testing.md"
HEADING: Final = "## Promises, and the tests that hold them\n"
_NAME: Final = re.compile("`([^`]+)`")
_TEST: Final = re.compile(r"^(?:async def|def|class)?\s*(test_\w+|Test\w+)(?=\(| =|:)", re.MULTILINE)


class Promise(NamedTuple):
    text: str
    tests: tuple[str, ...]
    faults: tuple[str, ...]


def promises() -> list[Promise]:
    section = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line[:1] == "|"]
    return [
        Promise(text.strip(), tuple(_NAME.findall(tests)), tuple(_NAME.findall(faults)))
        for text, tests, faults in rows
        if text.strip() not in ("promise", "---")
    ]


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests of a file: functions, and classes made of state machines."""
    text = (TESTS / path).read_text(encoding="utf-8")
    return frozenset(_TEST.findall(text))


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise.text[:50])
def test_a_promise_names_tests_and_faults_that_exist(promise: Promise) -> None:
    assert promise.tests, "a promise without a test does not count"
    for test in promise.tests:
        path, _, name = test.partition("::")
        assert (TESTS / path).is_file(), test
        assert name in names_in(path), test
    assert set(promise.faults) <= set(KINDS)


def test_the_page_has_its_rows() -> None:
    assert len(promises()) > 60
    assert len({promise.text for promise in promises()}) == len(promises())
