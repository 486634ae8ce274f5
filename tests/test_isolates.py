"""Isolated plugins beside an event loop, and in the whole program: nothing waits for one, none outlives its program."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from orderflow.hooks.samples import make_tick, sample_start
from orderflow.hooks.setup import set_up
from orderflow.isolates import BATCH, Isolates
from tests.faults.program import Program, alive_children, environment, nowhere
from tests.hooks.choice import choose
from tests.hooks.plugin_files import tick_hook, write_plugin
from tests.hooks.test_host import one
from tests.hooks.test_isolate import alive, until_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderflow.core.types import Alert, MetricsTick
    from orderflow.hooks.host import PluginHost

HANGS_ON_THE_THIRD = tick_hook(
    "self.seen.append(1)", "while len(self.seen) == 3: pass", "return [notice(tick, 'r', 'm')]"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    path.mkdir(mode=0o755)
    return path


def ticks(count: int) -> list[MetricsTick]:
    return [make_tick(ts=1_767_225_600_000 + number) for number in range(count)]


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    """Worlds that end with their test."""
    made: list[World] = []
    yield made
    for world in made:
        world.host.close()


class World:
    """A host whose plugins are isolated, and what they said."""

    def __init__(self, folder: Path, *names: str, limit: int = 1000, **choice: Any) -> None:
        setup = set_up(choose(names, folder, isolated=tuple(name for name in names if name != "good"), **choice), None)
        assert setup.problems == ()
        self.host: PluginHost = setup.host
        self.alerts: list[Alert] = []
        self.isolates = Isolates(self.host, limit, self.alerts.extend)

    def said(self, plugin: str) -> list[int]:
        """The ticks a plugin alerted about."""
        return [alert.tick.ts - 1_767_225_600_000 for alert in self.alerts if alert.plugin == plugin]


async def test_calls_are_answered_in_order_and_nobody_waits(
    folder: Path, worlds: list[World], nursery: trio.Nursery
) -> None:
    write_plugin(folder, "slow", tick_hook("import time; time.sleep(0.01)", "return [notice(tick, 'r', 'm')]"))
    write_plugin(folder, "good")
    world = World(folder, "slow", "good")
    worlds.append(world)
    await nursery.start(world.isolates.run)
    mine = ticks(BATCH + 10)
    for tick in mine:
        assert [alert.plugin for alert in world.host.tick(tick)] == ["good"]
    assert world.said("slow") == []
    assert world.isolates.statistics().depth == len(mine)
    await world.isolates.settled()
    assert world.said("slow") == list(range(len(mine)))
    assert all(alert.tick is mine[number] for number, alert in enumerate(world.alerts))
    assert one(world.host, "slow").calls == len(mine)
    assert world.isolates.statistics().overruns == 0
    nursery.cancel_scope.cancel()


async def test_the_newest_ticks_win_and_lost_ones_are_counted(
    folder: Path, worlds: list[World], nursery: trio.Nursery
) -> None:
    write_plugin(folder, "slow", tick_hook("return [notice(tick, 'r', 'm')]"))
    world = World(folder, "slow", limit=5)
    worlds.append(world)
    await nursery.start(world.isolates.run)
    for tick in ticks(12):
        world.host.tick(tick)
    await world.isolates.settled()
    assert world.said("slow") == [7, 8, 9, 10, 11]
    assert world.isolates.statistics().overruns == 7
    assert world.isolates.statistics().peak == 5
    nursery.cancel_scope.cancel()


async def test_alerts_of_isolated_plugins_are_told_to_all(
    folder: Path, worlds: list[World], nursery: trio.Nursery
) -> None:
    hears = "@hookimpl\ndef orderflow_alert(self, alert):\n    self.seen.append(alert)\n"
    write_plugin(folder, "far", tick_hook("return [notice(tick, 'r', 'm')]"))
    write_plugin(folder, "good", hears + tick_hook("return [notice(tick, 'heard', str(len(self.seen)))]"))
    write_plugin(folder, "hears", hears + tick_hook("return [notice(tick, 'heard', str(len(self.seen)))]"))
    world = World(folder, "far", "good", "hears")
    worlds.append(world)
    await nursery.start(world.isolates.run)
    first, second = ticks(2)
    world.alerts += world.host.tick(first)
    await world.isolates.settled()
    world.alerts += world.host.tick(second)
    await world.isolates.settled()
    heard = [(alert.plugin, alert.message) for alert in world.alerts if alert.rule == "heard"]
    assert heard == [("good", "0"), ("hears", "0"), ("good", "3"), ("hears", "3")]
    nursery.cancel_scope.cancel()


async def test_one_that_hangs_is_ended_and_starts_again_later(
    folder: Path,
    worlds: list[World],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("orderflow.hooks.isolate.BACK_OFF_S", 0.01)
    write_plugin(folder, "hangs", HANGS_ON_THE_THIRD)
    write_plugin(folder, "well", tick_hook("return [notice(tick, 'r', 'm')]"))
    world = World(folder, "hangs", "well", isolated_answer_s=0.3, isolated_restarts=2)
    worlds.append(world)
    await nursery.start(world.isolates.run)
    world.host.start(sample_start())
    for tick in ticks(12):
        world.host.tick(tick)
    with trio.fail_after(20):
        await world.isolates.settled()
    assert world.said("well") == list(range(12))
    assert world.said("hangs") == [0, 1, 3, 4, 6, 7]  # each time the third tick is lost, and with the last it is over
    hangs = one(world.host, "hangs")
    assert hangs.failures == 3
    assert str(hangs.state) == "disabled"
    assert "in orderflow_tick" in caplog.text
    assert [plugin.source.name for plugin in world.host.isolates] == ["well"]
    nursery.cancel_scope.cancel()


async def test_one_that_fails_too_often_is_disabled_and_its_process_ended(
    folder: Path, worlds: list[World], nursery: trio.Nursery
) -> None:
    write_plugin(folder, "fails", tick_hook("raise ValueError"))
    world = World(folder, "fails")
    worlds.append(world)
    await nursery.start(world.isolates.run)
    for tick in ticks(20):
        world.host.tick(tick)
    with trio.fail_after(20):
        await world.isolates.settled()
    fails = one(world.host, "fails")
    assert (fails.calls, fails.failures, str(fails.state)) == (5, 5, "disabled")
    assert "failed 5 times in a row" in fails.last_error
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("line", ["while True: pass", "import os; os._exit(1)"], ids=["while it hangs", "in back-off"])
async def test_cancelled_at_once_and_nothing_is_left(
    folder: Path, worlds: list[World], nursery: trio.Nursery, line: str
) -> None:
    write_plugin(folder, "hangs", tick_hook(line))
    world = World(folder, "hangs")
    worlds.append(world)
    isolate = world.host.isolates[0]
    assert isolate.pid is not None
    await nursery.start(world.isolates.run)
    world.host.tick(make_tick())
    await trio.testing.wait_all_tasks_blocked(0.05)
    began = trio.current_time()
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(world.host.close)
    assert not alive(isolate.pid)
    assert trio.current_time() - began < 5


# --- the whole program ------------------------------------------------------------------------------------------------

GOOD = tick_hook("return [notice(tick, 'fine', 'm')]")
LOOPS = tick_hook("while True: pass")


def start(tmp_path: Path, bad: str, *options: str, **program: Any) -> Program:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    write_plugin(folder, "bad", bad)
    write_plugin(folder, "good", GOOD)
    plugins = ["--set", "plugins.folders=plugins", "--set", "plugins.enabled=bad,good", "--set", "plugins.isolated=bad"]
    return Program(tmp_path, *nowhere(), *plugins, "--interval", "0.1", *options, **program)


def is_alert(event: dict[str, Any]) -> bool:
    return event["event"] == "alert"


def test_a_program_goes_on_beside_a_plugin_that_loops(tmp_path: Path) -> None:
    limits = ["--set", "plugins.isolated_answer_s=0.3", "--set", "plugins.isolated_restarts=0"]
    environ = environment(ORDERFLOW_BYBIT__API_KEY="canary-key", ORDERFLOW_BYBIT__API_SECRET="canary-1")
    with start(tmp_path, LOOPS, *limits, "--set", "stats_interval_s=0.1", environ=environ) as program:
        program.until(lambda event: event["event"] == "stats" and event["plugins"][0]["disabled"])
        since = len(program.lines)
        program.until(is_alert, since=since)
        code, took_s = program.stop()
    assert code == 0
    assert took_s < 3
    assert program.stderr.count("its process gave no answer for 0.3 s") == 2
    assert "in orderflow_tick" in program.stderr
    assert "stood still" not in program.stderr
    last = program.events[-1]
    assert last["stats"]["plugins"][0]["failures"] == 1
    assert any("plugin bad disabled" in note for note in last["notes"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_signal_leaves_an_orphan(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, LOOPS) as program:
        program.until(is_alert)
        children = list(alive_children(program.process.pid))
        assert len(children) == 1
        code, took_s = program.stop(number)
    assert code == (-number if number == signal.SIGKILL else 0)
    assert took_s < 3
    for pid in children:
        until_gone(pid)


def test_a_signal_while_plugins_are_loaded_leaves_no_orphan(tmp_path: Path) -> None:
    with start(tmp_path, "while True: pass\n", "--set", "plugins.isolated_start_s=20") as program:
        while not (children := list(alive_children(program.process.pid))):
            time.sleep(0.01)
        program.stop()
    for pid in children:
        until_gone(pid)
