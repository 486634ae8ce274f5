"""What one more symbol, tick, plugin or alert rule costs: the slope between few and many of them.

What there is once, whatever the number (a timer, an event loop), cancels out. Processor time, not wall time: what else
runs on the machine does not count, unless it takes the caches.
"""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from orderflow.api import Above, Alert, Configs, MetricsTick, PluginConfig, Positive, Threshold, hookimpl
from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.loopback import open_server
from orderflow.bench.results import Figure, Spread, single
from orderflow.bench.subject import INSTRUMENT, many_symbols
from orderflow.bybit.protocol import FeedProtocol
from orderflow.core.engine import Engine
from orderflow.core.policy import LinkPolicy
from orderflow.core.types import InstrumentId, TickDue, TimerDue
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.host import PluginHost
from orderflow.hooks.loading import build
from orderflow.hooks.samples import make_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.bench.plan import Plan

FEW: Final = 10
_PLUGINS: Final = (1, 21)
_REPEATS: Final = 30
_TICKS: Final = 1000
_NEVER_S: Final = 3600.0
_DEPTH: Final = 50


def measure_cost(plan: Plan) -> list[Figure]:
    """CPU us of each, by slope; CPU us a second and KB for a symbol of which nothing comes.

    Raises: LoopbackError, WrongBook.
    """
    many = max(FEW + 1, plan.crowd)
    symbols = f"{FEW} to {many} symbols"
    plugins = f"{_PLUGINS[0]} to {_PLUGINS[1]}"
    rounds: dict[tuple[str, str, str], list[Spread]] = defaultdict(list)
    frames = Frames(_DEPTH, plan.windows, plan.seed)
    for _ in range(plan.rounds):
        for name, value in time_books(frames, FEW, many).items():
            rounds[name, symbols, "us"].append(single(value))
        rounds["plugin, one call", plugins, "us"].append(single(time_plugin(*_PLUGINS)))
        rounds["alert rule, one tick", plugins, "us"].append(single(time_rule(*_PLUGINS)))
    for us, kilobytes in _watch_idle(plan, FEW, many):
        rounds["idle symbol, a second", symbols, "us"].append(single(us))
        rounds["idle symbol, memory", symbols, "KB"].append(single(kilobytes))
    return [
        Figure(stage="cost", name=name, case=case, unit=unit, rounds=tuple(values), depth=_depth_of(name))
        for (name, case, unit), values in rounds.items()
    ]


def _depth_of(name: str) -> int | None:
    return None if name.startswith(("plugin", "alert")) else _DEPTH


def _slope(cost: Callable[[int], float], few: int, many: int) -> float:
    """Of one more: in the unit of `cost`."""
    return (cost(many) - cost(few)) / (many - few)


def _cpu_us(act: Callable[[], object], repeats: int, before: Callable[[int], object] = lambda number: None) -> float:
    """Median processor time of one call, with something untimed before each."""
    spans = []
    for number in range(repeats):
        before(number)
        began = time.thread_time_ns()
        act()
        spans.append(time.thread_time_ns() - began)
    return median(spans) / 1000


# --- symbols


class _Books:
    """So many live books in one engine."""

    def __init__(self, frames: Frames, count: int) -> None:
        books = [(InstrumentId(INSTRUMENT.category, symbol), frames.depth) for symbol in many_symbols(count)]
        self.engine = Engine(books, clock=time.monotonic_ns)
        self._protocol = FeedProtocol("bench", INSTRUMENT.category, books, LinkPolicy())
        self._protocol.opened(time.monotonic_ns())
        tracks = [frames.track(key.symbol, number) for number, (key, _) in enumerate(books)]
        self._deltas = [track.deltas(_REPEATS) for track in tracks]
        self._receive([track.snapshot for track in tracks])

    def update(self, number: int) -> None:
        """One message of each symbol."""
        self._receive([deltas[number] for deltas in self._deltas])

    def _receive(self, raws: list[bytes]) -> None:
        for event in self._protocol.receive(raws, time.time_ns(), time.monotonic_ns()):
            self.engine.apply(event)

    def tick(self) -> None:
        ticks = self.engine.apply(TickDue(recv_ns=time.time_ns(), mono_ns=time.monotonic_ns()))
        if not all(isinstance(tick, MetricsTick) and tick.live for tick in ticks):
            raise WrongBook("a book that was measured is not live")

    def check(self) -> None:
        self.engine.apply(TimerDue(mono_ns=time.monotonic_ns()))


def time_books(frames: Frames, few: int, many: int) -> dict[str, float]:
    """CPU us of one book's tick, after one message, and of one book's turn of the timer. Raises: WrongBook."""
    crowds = {count: _Books(frames, count) for count in (few, many)}
    return {
        "tick of one symbol": _slope(lambda n: _cpu_us(crowds[n].tick, _REPEATS, crowds[n].update), few, many),
        "timer, one symbol": _slope(lambda n: _cpu_us(crowds[n].check, _REPEATS), few, many),
    }


def _watch_idle(plan: Plan, few: int, many: int) -> list[tuple[float, float]]:
    """CPU us a second and KB of one more subscribed symbol of which nothing comes, in the whole program, each round."""
    found = []
    with open_server(_DEPTH, plan.windows, plan.seed) as server:
        for _ in range(plan.rounds):
            seen = {}
            for count in (few, many):
                symbols = many_symbols(count)
                run = server.run("program", 0, 0, symbols=symbols, interval_s=_NEVER_S, idle_s=plan.watch_s)
                seen[count] = run.outcome
            us, kilobytes = (
                _slope(cost, few, many)
                for cost in (
                    lambda n: seen[n].cpu_s / seen[n].wall_s * 1e6,  # noqa: B023 - called at once
                    lambda n: seen[n].resident_mb * 1024,  # noqa: B023 - called at once
                )
            )
            found.append((us, kilobytes))
    return found


# --- plugins and rules


class Idle:
    """A plugin that does nothing: what calling one costs."""

    class Config(PluginConfig, frozen=True):
        pass

    def __init__(self, config: Configs[Config]) -> None:
        pass

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        return []


class Rules:
    """A plugin of so many alert rules, none of which is ever raised."""

    class Config(Above, frozen=True):
        raise_above: Positive = 1e9
        rules: int = 1

    def __init__(self, config: Configs[Config]) -> None:
        self.rules = [Threshold(f"rule_{n}", "spread_pct", config) for n in range(config.default.rules)]

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        return [alert for rule in self.rules for alert in rule.alerts(tick)]


def time_plugin(few: int, many: int) -> float:
    """CPU us of calling one more plugin with a tick."""
    return _slope(lambda count: _tick_us(_host(Idle, count)), few, many)


def time_rule(few: int, many: int) -> float:
    """CPU us of one more alert rule judging a tick."""
    return _slope(lambda count: _tick_us(_host(Rules, 1, {"rules": count})), few, many)


def _host(plugin: type, count: int, table: dict[str, Any] | None = None) -> PluginHost:
    host = PluginHost()
    for number in range(count):
        host.add(build(Source(name=f"bench_{number}", origin=Origin.TEST), plugin, table or {}))
    return host


def _tick_us(host: PluginHost) -> float:
    tick = make_tick()
    host.tick(tick)
    return _cpu_us(lambda: host.tick(tick), _TICKS)
