"""Byte codes are counted by whose they are."""

from __future__ import annotations

import sys

import trio

from orderflow.bench.choices.bytecodes import counted_codes


def _loop(times: int) -> None:
    for _ in range(times):
        pass


def test_as_many_as_are_run() -> None:
    totals = []
    for times in (10, 20, 30):
        with counted_codes() as codes:
            _loop(times)
        totals.append(codes.total().all)
    first, second, third = totals
    assert third - second == second - first > 0


def test_trios_are_told_apart() -> None:
    with counted_codes() as codes:
        _loop(5)
    assert codes.total().trio == 0
    with counted_codes() as codes:
        trio.run(trio.lowlevel.checkpoint)
    total = codes.total()
    assert 0 < total.trio < total.all


def test_who_traced_before_traces_on() -> None:
    before = sys.gettrace()
    with counted_codes():
        assert sys.gettrace() is not before
    assert sys.gettrace() is before
