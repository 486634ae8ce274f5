"""Standstills and clock changes over clocks of our own."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from orderflow.core.policy import WatchPolicy
from orderflow.core.units import NS
from orderflow.net.watch import LoopWatch, read_asleep_ns, stay_awake


class World:
    """Three clocks and what was noticed."""

    def __init__(self) -> None:
        self.mono_ns = 100 * NS
        self.wall_ns = 1_700_000_000 * NS
        self.asleep_ns = 5 * NS
        self.stalls: list[float] = []
        self.steps: list[float] = []
        self.watch = LoopWatch(
            WatchPolicy(stall_s=2, clock_step_s=0.5),
            lambda: (self.wall_ns, self.mono_ns),
            self.stalls.append,
            self.steps.append,
            asleep=lambda: self.asleep_ns,
        )

    def live(self, seconds: float) -> None:
        """Time passes on every clock, and somebody looks."""
        self.mono_ns += round(seconds * NS)
        self.wall_ns += round(seconds * NS)
        self.watch.look()

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: the monotonic clock stands still."""
        self.wall_ns += round(seconds * NS)
        self.asleep_ns += round(seconds * NS)
        self.watch.look()


def test_ordinary_life() -> None:
    world = World()
    for _ in range(1000):
        world.live(1.9)
    assert (world.stalls, world.steps) == ([], [])


def test_a_standstill_is_told_once_with_its_length() -> None:
    world = World()
    world.live(12.5)
    world.live(0.1)
    assert (world.stalls, world.steps) == ([12.5], [])
    assert (world.watch.stalls, world.watch.stalled_s) == (1, 12.5)


def test_a_machine_that_slept_is_a_standstill_and_no_clock_step() -> None:
    world = World()
    world.suspend(3600)
    world.live(0.1)
    assert (world.stalls, world.steps) == ([3600], [])


@pytest.mark.parametrize("by_s", [3600.0, -3600.0, 0.6])
def test_a_clock_that_was_set_is_told_and_is_no_standstill(by_s: float) -> None:
    world = World()
    world.wall_ns += round(by_s * NS)
    world.live(0.1)
    world.live(0.1)
    assert (world.stalls, world.steps) == ([], [by_s])
    assert world.watch.clock_steps == 1


def test_a_clock_that_is_slewed_is_not_told() -> None:
    world = World()
    for _ in range(1000):
        world.wall_ns += NS // 100
        world.live(1)
    assert world.steps == []


def test_both_at_once() -> None:
    world = World()
    world.wall_ns -= 60 * NS
    world.live(10)
    assert (world.stalls, world.steps) == ([10], [-60])


def test_the_machine_knows_how_long_it_slept() -> None:
    first = read_asleep_ns()
    assert 0 <= read_asleep_ns() - first + NS // 100 < NS


async def test_the_lag_of_the_loop_is_measured(autojump_clock: trio.testing.MockClock) -> None:
    blocked = [0.0, 0.0, 0.3, 0.0]
    lags: list[float] = []

    def clock() -> tuple[int, int]:
        now_ns = round((trio.current_time() + held_s) * NS)
        return now_ns, now_ns

    held_s = 0.0
    watch = LoopWatch(WatchPolicy(), clock, lambda s: None, lambda s: None)

    def beat() -> None:
        lags.append(watch.lag_s)
        if len(lags) == len(blocked):
            scope.cancel()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run, beat)
            await trio.sleep(0.25)
            held_s = 0.3  # something holds the loop while the third beat is due
    assert [round(lag, 3) for lag in lags] == blocked
    assert round(watch.max_lag_s, 3) == 0.3


class _Naps(trio.abc.Instrument):
    """How long the event loop was ready to sleep, time after time."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    def before_io_wait(self, timeout: float) -> None:
        self.timeouts.append(timeout)


async def test_an_event_loop_kept_awake_never_sleeps_and_others_have_their_turn() -> None:
    naps = _Naps()
    turns = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay_awake)
        await trio.lowlevel.checkpoint()
        trio.lowlevel.add_instrument(naps)
        deadline = trio.current_time() + 0.05
        while trio.current_time() < deadline:
            await trio.sleep(0.005)
            turns += 1
        trio.lowlevel.remove_instrument(naps)
        nursery.cancel_scope.cancel()
    assert turns > 1
    assert len(naps.timeouts) > turns
    assert set(naps.timeouts) == {0}
