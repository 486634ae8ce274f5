"""The timed loops give one sample a message, of an engine that did its work."""

from __future__ import annotations

import time

import pytest

from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import (
    Pause,
    WrongBook,
    check_book,
    make_engine,
    make_protocol,
    no_wait,
    time_messages,
    time_parts,
    time_ticks,
)
from orderflow.bench.stages import _sinks


@pytest.fixture(scope="module")
def frames() -> Frames:
    return Frames(50, 10)


def test_parts_of_every_message_are_timed(frames: Frames) -> None:
    spans = time_parts(frames, 20, no_wait, warm_up=5)
    assert {name: len(values) for name, values in spans.items()} == {"decode": 20, "apply": 20, "imbalance": 20}
    assert all(took > 0 for values in spans.values() for took in values)


def test_whole_messages_are_timed(frames: Frames) -> None:
    spans = time_messages(frames, 20, no_wait, warm_up=5)
    assert len(spans) == 20
    assert min(spans) > 0


def test_the_wait_comes_once_before_each_sample(frames: Frames) -> None:
    waits: list[None] = []
    time_messages(frames, 20, lambda: waits.append(None), warm_up=5)
    assert len(waits) == 20


def test_ticks_are_timed_alone_and_with_plugins_and_lines(frames: Frames) -> None:
    host, encode = _sinks()
    lines: list[str] = []
    spans = time_ticks(frames, 5, no_wait, host, lambda tick: lines.append(encode(tick)) or lines[-1])
    assert len(spans) == len(lines) == 5
    plugins = host.statistics().plugins
    assert {plugin.name: plugin.calls for plugin in plugins} == {"spread": 5, "latency": 5, "liquidity": 5}
    assert len(time_ticks(frames, 3, no_wait, None, None)) == 3


def test_a_pause_keeps_the_rate() -> None:
    pause = Pause(200)
    began = time.perf_counter()
    for _ in range(4):
        pause()
    assert time.perf_counter() - began >= 4 / 200 * 0.99


def test_a_book_that_is_not_the_messages_is_refused(frames: Frames) -> None:
    engine = make_engine(50)
    for event in make_protocol(50).receive([frames.snapshot, *frames.deltas(4)], 1, 1):
        engine.apply(event)
    check_book(frames, 4, engine)
    with pytest.raises(WrongBook):
        check_book(frames, 5, engine)


def test_a_book_that_is_not_live_is_refused(frames: Frames) -> None:
    with pytest.raises(WrongBook, match="empty"):
        check_book(frames, 0, make_engine(50))
