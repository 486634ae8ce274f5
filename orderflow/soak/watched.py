"""The real monitor in this process, everything it says written down: for the soak and for tests of faults."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NoReturn, cast

import msgspec
import trio

from orderflow.app import Monitor
from orderflow.config.tree import BybitSettings, PluginSettings, Settings
from orderflow.core.policy import BookPolicy, ClockPolicy, LinkPolicy, RetryPolicy
from orderflow.core.text import plain_decimal
from orderflow.core.types import LIVE, BookStateChanged, LinkChanged
from orderflow.hooks.host import PluginHost
from orderflow.net.tap import read_clocks
from orderflow.ui.sink import OutputStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from orderflow.core.types import Alert, BookDump, FeedChange, InstrumentId, MetricsTick, Summary
    from orderflow.net.tap import Clock
    from orderflow.sim.server import SimServer
    from orderflow.ui.sink import Output

QUICK_LINK: Final = LinkPolicy(
    open_timeout_s=0.8,
    close_timeout_s=0.3,
    ping_interval_s=0.4,
    pong_timeout_s=0.8,
    idle_timeout_s=1.5,
    ack_timeout_s=0.4,
    snapshot_timeout_s=0.6,
    refused_retry_s=1.0,
)
QUICK_RETRY: Final = RetryPolicy(
    base_s=0.1,
    cap_s=1.0,
    stable_after_s=3.0,
    refused_pause_s=0.5,
    refused_cap_s=1.0,
    attempts_per_window=40,
    window_s=30.0,
)
QUICK_BOOK: Final = BookPolicy(crossed_hold_s=0.4, stale_after_s=1.5)
"""Deadlines short enough to see each of them end within seconds."""

KEPT: Final = 100_000


class Diary:
    """A reporter that remembers. `on_tick` hears of every tick as it is made; `now` stamps what is remembered."""

    def __init__(
        self,
        on_tick: Callable[[MetricsTick], None] = lambda tick: None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._now = now
        self.changes: deque[tuple[float, FeedChange]] = deque(maxlen=KEPT)
        self.result: Summary | None = None
        self.stalls: list[float] = []
        self._on_tick = on_tick

    def start(self, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> None:
        pass

    def tick(self, tick: MetricsTick) -> None:
        self._on_tick(tick)

    def alert(self, alert: Alert) -> None:
        pass

    def feed(self, change: FeedChange) -> None:
        self.changes.append((self._now(), change))

    def stall(self, length_s: float) -> None:
        self.stalls.append(length_s)

    def summary(self, summary: Summary) -> None:
        self.result = summary

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Whatever else a reporter is told."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **more: None

    # --- what was said

    def losses(self) -> list[LinkChanged]:
        return [change for _, change in self.changes if isinstance(change, LinkChanged) and change.state == "down"]

    def states(self, instrument: InstrumentId) -> list[tuple[str, str]]:
        """(state, reason) of one book, in order."""
        return [
            (change.new.value, change.reason)
            for _, change in self.changes
            if isinstance(change, BookStateChanged) and change.instrument == instrument
        ]


class NoOutput:
    """Standard output that takes nothing and never goes away."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        task_status.started()
        await trio.sleep_forever()
        raise AssertionError

    def statistics(self) -> OutputStatistics:
        return OutputStatistics(lines=0, dropped=0, pending=0, pending_bytes=0, errors=0, broken=False)


class SetClock:
    """(wall ns, monotonic ns), whose wall clock somebody sets now and then."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self.jumps = 0

    def __call__(self) -> tuple[int, int]:
        wall_ns, mono_ns = read_clocks()
        return wall_ns + self._offset_ns, mono_ns

    def jump(self, seconds: float) -> None:
        self._offset_ns += round(seconds * 1e9)
        self.jumps += 1


class Watched:
    """A running monitor. Made by `open_watched`."""

    def __init__(self, monitor: Monitor, diary: Diary) -> None:
        self.monitor = monitor
        self.diary = diary

    def all_live(self) -> bool:
        return all(state is LIVE for state in self.monitor.engine.states().values())

    async def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Until it holds; False: it did not within so many seconds."""
        with trio.move_on_after(seconds):
            while not condition():  # noqa: ASYNC110 - a condition over many things that know no events
                await trio.sleep(0.01)
        return condition()

    def books(self) -> list[BookDump]:
        return self.monitor.engine.dump(plain_decimal)


def quick_settings(server: SimServer, symbols: Sequence[str], depth: int = 50, interval_s: float = 0.1) -> Settings:
    """Settings that point at this server, with short deadlines, without plugins."""
    settings = msgspec.convert(
        {"env": "sim", "symbols": symbols, "depth": depth, "interval_s": interval_s}, Settings, strict=True
    )
    return msgspec.structs.replace(
        settings,
        bybit=BybitSettings(public_ws_url=server.public_url, private_ws_url="", rest_url=server.rest_url),
        feed=QUICK_LINK,
        retry=QUICK_RETRY,
        book=QUICK_BOOK,
        clock=ClockPolicy(interval_s=0.5, burst=1),
        plugins=PluginSettings(enabled=()),
    )


@asynccontextmanager
async def open_watched(
    settings: Settings, diary: Diary | None = None, clock: Clock = read_clocks
) -> AsyncIterator[Watched]:
    """Run the monitor for the time of the block."""
    diary = diary or Diary()
    monitor = Monitor(settings, PluginHost(), diary, cast("Output", NoOutput()), clock=clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        yield Watched(monitor, diary)
        monitor.stop("done")
