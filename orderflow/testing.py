"""For plugin authors: run a plugin as the program would, tick by tick, and look at its alerts. Needs no event loop.

def test_a_wide_spread_is_raised_once():
    plugin = PluginHarness("plugins/spread.py", {"raise_above": 0.5})
    plugin.tick(spread_pct=0.7)
    plugin.tick(spread_pct=0.8)
    plugin.assert_alerts("raise wide_spread")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from orderflow.core.text import escape_text
from orderflow.hooks.contain import BadResult, Limits
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.host import PluginHost
from orderflow.hooks.loading import PluginProblems, build, load
from orderflow.hooks.samples import START_MS, make_tick, sample_start, sample_summary, sample_ticks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.core.types import Alert, FeedChange, InstrumentId, MetricsTick, PrivateMessage, Summary
    from orderflow.hooks.host import Failure
    from orderflow.hooks.records import PluginStatistics
    from orderflow.hooks.specs import StartInfo

__all__ = ["BadResult", "PluginHarness", "PluginProblems", "make_tick", "sample_ticks"]


class PluginHarness:
    """One plugin in a host of its own. What the program would contain and count, it raises: a test must see it.

    Args:
        plugin: the plugin's file, or its class.
        config: what `[plugins.<name>]` would say, with `symbols` for overrides.
        instrument: of the ticks that `tick()` makes.
        interval_s: the time between two of them.
        limits: as the settings would give them. Times are not judged: a debugger may stand still in a hook.

    Raises: PluginProblems with everything that is wrong with the plugin or its config.
    """

    def __init__(
        self,
        plugin: str | Path | type,
        config: Mapping[str, Any] | None = None,
        *,
        instrument: InstrumentId | str = "linear:BTCUSDT",
        interval_s: float = 5.0,
        limits: Limits | None = None,
    ) -> None:
        self.alerts: list[Alert] = []
        """Every alert so far, oldest first."""
        self._instrument = instrument
        self._step_ms = round(interval_s * 1000)
        self._next_ms = START_MS
        self._host = PluginHost(limits, clock=lambda: 0.0, on_failure=_raise)
        if isinstance(plugin, type):
            loaded = build(Source(name=plugin.__name__.lower(), origin=Origin.TEST), plugin, config or {})
        else:
            path = Path(plugin)
            loaded = load(Source(name=path.stem, origin=Origin.TEST, path=str(path)), config or {})
        self.plugin: Any = loaded.instance
        """The plugin object itself."""
        self._host.add(loaded)

    def tick(self, **overrides: Any) -> list[Alert]:
        """Make the next tick, `interval_s` after the last, and feed it. Returns its alerts."""
        fields = {"instrument": self._instrument, "ts": self._next_ms, **overrides}
        return self.feed(make_tick(**fields))

    def feed(self, *ticks: MetricsTick) -> list[Alert]:
        """Feed ticks of your own. Returns the alerts of these ticks."""
        new: list[Alert] = []
        for tick in ticks:
            self._next_ms = tick.ts + self._step_ms
            new += self._host.tick(tick)
        self.alerts += new
        return new

    def wait(self, seconds: float) -> None:
        """Let time pass before the next tick."""
        self._next_ms += round(seconds * 1000)

    def start(self, info: StartInfo | None = None) -> None:
        """Call `orderflow_start`."""
        self._host.start(info or sample_start())

    def stop(self, summary: Summary | None = None) -> None:
        """Call `orderflow_stop`."""
        self._host.stop(summary or sample_summary())

    def feed_change(self, change: FeedChange) -> None:
        """Call `orderflow_feed_change`."""
        self._host.feed_change(change)

    def private(self, message: PrivateMessage) -> None:
        """Call `orderflow_private`."""
        self._host.private(message)

    def statistics(self) -> PluginStatistics:
        """The host's counters for this plugin."""
        return self._host.statistics().plugins[0]

    def assert_alerts(self, *expected: str) -> None:
        """Assert that the alerts so far are exactly these, each as `<kind> <rule>`: `raise wide_spread`."""
        got = [f"{alert.kind} {alert.rule}" for alert in self.alerts]
        if got != list(expected):
            lines = "\n".join(f"  {one.kind} {one.rule}: {escape_text(one.message)}" for one in self.alerts)
            raise AssertionError(f"expected alerts {list(expected)}, got {got}\n{lines}")

    def assert_quiet(self) -> None:
        """Assert that there was no alert so far."""
        self.assert_alerts()


def _raise(failure: Failure) -> NoReturn:
    raise failure.error
