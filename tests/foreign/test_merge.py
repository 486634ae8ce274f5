"""Several files as one stream: in order, and each begun when its time comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.types import Category
from orderflow.foreign.heard import Heard
from orderflow.foreign.merge import Arrival, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEARD = Heard(None, None, Category.LINEAR, "", "", b"")


def stream(
    number: int, times: list[int], begun: list[int] | None = None
) -> tuple[int, Callable[[], Iterator[Arrival]]]:
    def read() -> Iterator[Arrival]:
        if begun is not None:
            begun.append(number)
        yield from (Arrival(at, number, HEARD) for at in times)

    return times[0], read


@given(st.lists(st.lists(st.integers(0, 20), min_size=1).map(sorted), max_size=6))
def test_by_time_and_of_one_moment_by_file(files: list[list[int]]) -> None:
    found = [(arrival.at_ns, arrival.file) for arrival in merge([stream(*given) for given in enumerate(files)])]
    assert found == sorted((at, number) for number, times in enumerate(files) for at in times)


def test_no_file_is_opened_before_its_time() -> None:
    begun: list[int] = []
    streams = [stream(day, [day * 10, day * 10 + 12], begun) for day in range(5)]
    opened = [(arrival.at_ns, len(begun)) for arrival in merge(streams)]
    assert opened == [(0, 1), (10, 2), (12, 2), (20, 3), (22, 3), (30, 4), (32, 4), (40, 5), (42, 5), (52, 5)]
