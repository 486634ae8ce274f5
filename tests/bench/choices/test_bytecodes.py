"""Byte codes are counted by whose they are."""

from __future__ import annotations

import sys

import pytest
import trio
import trio.testing

from orderflow.bench.choices.bytecodes import counted_codes


def _loop(times: int, events: tuple[str, ...] = ("one",)) -> None:
    for _ in range(times):
        pass


def test_as_many_as_are_run() -> None:
    totals = []
    for times in (10, 20, 30):
        with counted_codes() as codes:
            _loop(times)
        totals.append(codes.all)
    first, second, third = totals
    assert third - second == second - first > 0


def test_trios_are_told_apart() -> None:
    with counted_codes(_loop.__code__) as codes:
        _loop(5)
        _loop(5, ("one", "another"))  # not counted: whose would they be?
        trio.run(trio.lowlevel.checkpoint)
        _loop(5)
    (alone, none_of_trios), (everybodys, trios) = codes.in_book
    assert none_of_trios == 0
    assert everybodys - trios >= 2 * alone
    assert trios > 0


@pytest.mark.socket
def test_they_are_counted_from_the_event_loops_last_news() -> None:
    async def receive() -> None:
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.recv, 1)
                await trio.testing.wait_all_tasks_blocked()
                _loop(1000)
                await theirs.send(b"x")
        _loop(5)

    with counted_codes(_loop.__code__) as codes:
        trio.run(receive)
    (before, _), (after, _) = codes.in_book
    assert after < before


def test_who_traced_before_traces_on() -> None:
    before = sys.gettrace()
    with counted_codes():
        assert sys.gettrace() is not before
    assert sys.gettrace() is before
