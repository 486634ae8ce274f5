"""Several files as one stream in the order of one clock, each opened when its time comes."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Literal, NamedTuple

from orderflow.core.errors import RecordingError
from orderflow.foreign.source import MAX_BACK_NS, Source, Span, Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from orderflow.foreign.heard import Heard

Clock = Literal["receive", "exchange"]


class Arrival(NamedTuple):
    """A message and when it came, in the clock of the recording. `heard` None: from here on its file is damaged."""

    at_ns: int
    file: int
    heard: Heard | None


def choose_clock(surveys: Sequence[Survey]) -> Clock:
    """Receive times where every message of every file has one; else the exchange's."""
    return "receive" if all(found.received for found in surveys) else "exchange"


def span_of(survey: Survey, clock: Clock) -> Span:
    return survey.receive if clock == "receive" else survey.exchange


def check_order(source: Source, survey: Survey, clock: Clock) -> None:
    """Raises: RecordingError when the times of a file of messages run backwards by more than a little."""
    span = span_of(survey, clock)
    if survey.kind == "messages" and span.back_ns > MAX_BACK_NS:
        detail = (
            f"line {span.back_line}: its {clock} time lies {span.back_ns / 1e9:.1f} s before that of an earlier line"
        )
        if clock == "receive":
            detail += "; was the clock set? --clock exchange goes by the exchange's"
        raise RecordingError(str(source.path), 0, "order", f"{detail}. Sort the file, or split it there")


def arrivals(source: Source, number: int, first_ns: int, clock: Clock, folder: Path) -> Iterator[Arrival]:
    """The messages of one file with times that never go back: one that does is lifted to the one before.

    Args: number: of the file; first_ns: for messages without a time before the first that has one.
    """
    at_ns = first_ns
    for heard in source.heard(folder):
        its = heard.recv_ns if clock == "receive" else None if heard.ts_ms is None else heard.ts_ms * 1_000_000
        if its is not None and its > at_ns:
            at_ns = its
        yield Arrival(at_ns, number, heard)
    if source.problems.damage is not None:
        yield Arrival(at_ns, number, None)


def merge(streams: Sequence[tuple[int, Callable[[], Iterator[Arrival]]]]) -> Iterator[Arrival]:
    """K-way merge by time; of one moment, the file named first comes first.

    Args: streams: (time of the first message, how to begin reading). None is begun before its time.
    """
    heap: list[tuple[int, int, Arrival | None, Iterator[Arrival]]] = [
        (first_ns, number, None, iter(())) for number, (first_ns, _) in enumerate(streams)
    ]
    heapq.heapify(heap)
    while heap:
        _, number, arrival, rest = heap[0]
        if arrival is None:
            rest = streams[number][1]()
        else:
            yield arrival
        following = next(rest, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.at_ns, number, following, rest))
