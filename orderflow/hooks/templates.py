"""What `orderflow plugins new` writes. tests/hooks/test_commands.py runs both files as they are written."""

from __future__ import annotations

from string import Template
from typing import Final

PLUGIN: Final = Template('''"""$title: alerts while one side of the book outweighs the other.

Settings, in settings.toml (every field of Config is one):

    [plugins.$name]
    raise_above = 0.3

    [plugins.$name.symbols."spot:BTCUSDT"]      # or "BTCUSDT": that symbol in every category
    raise_above = 0.5
"""

from orderflow.api import Above, Alert, Configs, MetricsTick, Positive, Threshold, hookimpl


class Plugin:
    """One rule, `one_sided`, on the size of the metric `imbalance`, whichever side is the heavier one."""

    version = "0.1"

    # `Above` brings clear_below, for_s, clear_for_s, cooldown_s and severity. Types are checked when settings are read.
    class Config(Above, frozen=True):
        raise_above: Positive = 0.3  # 0: both sides hold the same, 1: one side holds everything

    def __init__(self, config: Configs[Config]) -> None:
        self.one_sided = Threshold("one_sided", "imbalance", config, label="imbalance")

    # Called for every instrument at every interval, also while its book is not live: then metrics are None.
    # Other hooks: orderflow_start, orderflow_stop, orderflow_feed_change, orderflow_alert, orderflow_private.
    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        return self.one_sided.judge(tick, None if tick.imbalance is None else abs(tick.imbalance))
''')

TEST: Final = Template('''"""Tests of the plugin `$name`. Run them with: pytest $test"""

from pathlib import Path

from orderflow.testing import PluginHarness

PLUGIN = Path(__file__).with_name("$name.py")


def test_a_heavy_side_is_raised_once_and_cleared_once() -> None:
    plugin = PluginHarness(PLUGIN)
    for imbalance in (0.1, 0.4, -0.5, 0.4, 0.1, 0.1, 0.1):  # one tick every 5 s; clears after 10 s below the level
        plugin.tick(imbalance=imbalance)
    plugin.assert_alerts("raise one_sided", "clear one_sided")


def test_a_symbol_can_have_its_own_level() -> None:
    plugin = PluginHarness(PLUGIN, {"symbols": {"spot:BTCUSDT": {"raise_above": 0.9}}})
    plugin.tick(instrument="spot:BTCUSDT", imbalance=0.8)
    plugin.assert_quiet()
    plugin.tick(instrument="linear:BTCUSDT", imbalance=0.8)
    plugin.assert_alerts("raise one_sided")


def test_a_book_that_is_not_live_raises_nothing() -> None:
    plugin = PluginHarness(PLUGIN)
    plugin.tick(state="stale")
    plugin.assert_quiet()
''')
