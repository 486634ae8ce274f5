"""What counts as time there was, and how the loss of it is measured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orderflow.soak import pace as module
from orderflow.soak.pace import BEAT_S, Pace, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lossy(*lost: tuple[float, ...]) -> Pace:
    pace = Pace(lambda: 0.0)
    for stretch in lost:
        pace.lose(*stretch)
    return pace


def test_lost_time() -> None:
    pace = lossy((1.0, 2.0), (3.0, 3.5))
    assert pace.lost_s(0.0, 10.0) == pace.all_s() == 1.5
    assert pace.lost_s(1.5, 3.25) == 0.75
    assert pace.lost_s(5.0, 6.0) == 0.0
    assert pace.longest_s() == 1.0


def test_what_is_lost_twice_is_lost_once() -> None:
    pace = lossy((1.0, 2.0), (1.5, 2.5), (1.0, 2.0, 0.5), (0.5, 0.5))
    assert pace.all_s() == 1.5


def test_a_part_of_a_stretch() -> None:
    pace = lossy((1.0, 2.0, 0.25), (4.0, 5.0, 7.0))
    assert pace.lost_s(1.0, 1.5) == pytest.approx(0.125)
    assert pace.lost_s(3.0, 6.0) == 1.0  # never more than there is
    assert pace.longest_s() == 1.0


def test_the_worst_of_it() -> None:
    pace = lossy((1.0, 1.5), (3.0, 3.25))
    assert pace.worst_s(0.0, 10.0, 1.0) == 0.5
    assert pace.worst_s(2.0, 10.0, 1.0) == 0.25
    assert pace.worst_s(4.0, 4.5, 1.0) == 0.0  # shorter than the window
    assert pace.worst_s(3.0, 3.2, 1.0) == pytest.approx(0.2)


def test_seconds_that_were_had() -> None:
    pace = lossy((1.0, 3.0))
    assert pace.after(0.0, 0.5) == 0.5
    assert pace.after(0.5, 1.0) == 3.5
    assert pace.after(2.0, 0.25) == 3.25
    assert pace.after(9.0, 0.0) == 9.0
    assert pace.before(0.5, 0.25) == 0.25
    assert pace.before(3.5, 1.0) == 0.5
    assert pace.before(9.0, 0.0) == 9.0


STRETCH = st.tuples(st.floats(0, 50), st.floats(0.01, 5), st.floats(0, 0.9)).map(
    lambda it: (it[0], it[0] + it[1], it[1] * it[2])
)


@given(st.lists(STRETCH, max_size=6), st.floats(0, 60), st.floats(0, 5))
def test_after_and_before_leave_out_just_what_was_lost(
    lost: list[tuple[float, float, float]], at_s: float, had_s: float
) -> None:
    pace = lossy(*lost)
    until_s, since_s = pace.after(at_s, had_s), pace.before(at_s, had_s)
    assert until_s - at_s - pace.lost_s(at_s, until_s) == pytest.approx(had_s, abs=1e-6)
    assert at_s - since_s - pace.lost_s(since_s, at_s) == pytest.approx(had_s, abs=1e-6)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    pace = lossy((0.0, 1.0), (5.0, 6.0))
    assert pace.lost_s(0.0, 10.0) == 1.25
    assert pace.lost_s(5.0, 6.0) == 1.0  # the oldest is forgotten


# --- measuring ------------------------------------------------------------------------------------------------------


@pytest.fixture
def waits(tmp_path: Path) -> Waits:
    return Waits(tmp_path)


class Waits:
    """A /proc in which one process, 7, has threads that waited so many ms."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, **threads: int) -> None:
        for name, ms in threads.items():
            folder = self.root / "7" / "task" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "schedstat").write_text(f"123 {ms * 1_000_000} 9\n", encoding="ascii")


def test_the_thread_that_waited_longest_counts(waits: Waits) -> None:
    waits(a=100, b=5000)
    queue = Queue(7, waits.root)
    assert queue.waited_s() == 0.0
    waits(a=130, b=5020)
    assert queue.waited_s() == 0.03
    waits(c=40)  # one that began since
    assert queue.waited_s() == 0.04
    assert Queue(8, waits.root).waited_s() == 0.0  # nobody


@pytest.mark.skipif(not Queue.counted, reason="this kernel does not count how long processes wait")
def test_a_real_wait_is_counted() -> None:
    def children() -> Iterator[int]:
        for _ in range(2 * (os.cpu_count() or 1)):
            pid = os.fork()
            if not pid:
                while True:
                    pass
            yield pid

    queue = Queue(os.getpid())
    crowd = list(children())
    try:
        for _ in range(2000):
            sum(range(20_000))
            if (waited_s := queue.waited_s()) > 0.001:
                break
    finally:
        for pid in crowd:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    assert waited_s > 0.001


class Told:
    """In the place of a Queue: what it is told to say."""

    waited: float = 0.0

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def waited_s(self) -> float:
        waited, Told.waited = Told.waited, 0.0
        return waited


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    monkeypatch.setattr(module, "Queue", Told)
    monkeypatch.setattr(Told, "waited", 0.0)
    return Told


async def step(clock: trio.testing.MockClock, seconds: float = BEAT_S) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_beat_that_comes_late_is_lost_time(mock_clock: trio.testing.MockClock, told: type[Told]) -> None:
    pace = Pace(trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pace.run)
        for _ in range(5):
            await step(mock_clock)
        assert pace.longest_s() == 0.0
        await step(mock_clock, 5.0)
        assert 4.9 < pace.longest_s() < 5.0
        told.waited = 0.5  # and a wait that no late beat shows
        await step(mock_clock)
        assert pace.all_s() == pytest.approx(4.98 + BEAT_S)
        nursery.cancel_scope.cancel()


async def test_another_process_is_watched_from_life_to_life(
    mock_clock: trio.testing.MockClock, told: type[Told]
) -> None:
    pace = Pace(trio.current_time)
    pid: int | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pace.watch, lambda: pid)
        await step(mock_clock, 10.0)
        assert pace.all_s() == 0.0  # there was nobody; that we ourselves came late is not its loss
        pid = 1
        await step(mock_clock)
        told.waited = 1.0
        await step(mock_clock)  # a wait is told of when it is over
        assert pace.lost_s(9.0, 11.0) == pytest.approx(1.0)
        pid = 2
        await step(mock_clock, 0.5)
        assert pace.all_s() == pytest.approx(1.5, abs=0.13)  # of the first one's last moments nobody knows
        before = pace.all_s()
        await step(mock_clock)
        assert pace.all_s() == before
        nursery.cancel_scope.cancel()
