"""What authors test with: believable ticks, and a harness that hides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderflow.api import Alert, Configs, MetricsTick, PluginConfig, hookimpl, notice
from orderflow.core.types import BookState, Category, InstrumentId
from orderflow.testing import BadResult, PluginHarness, PluginProblems, make_tick, sample_ticks

if TYPE_CHECKING:
    from pathlib import Path


class Plugin:
    version = "3"

    class Config(PluginConfig, frozen=True):
        limit: float = 1.0

    def __init__(self, config: Configs[Config]) -> None:
        self.config = config
        self.heard: list[object] = []

    @hookimpl
    def orderflow_start(self, info: object) -> None:
        self.heard.append(info)

    @hookimpl
    def orderflow_stop(self, summary: object) -> None:
        self.heard.append(summary)

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        if tick.bid == 13:
            raise ZeroDivisionError
        if tick.bid == 14:
            return 7  # type: ignore[return-value] # a mistake an author makes
        limit = self.config.of(tick.instrument).limit
        return [notice(tick, "big", "big")] if (tick.spread or 0) > limit else []


def test_a_tick_is_consistent() -> None:
    tick = make_tick(bid=99.0, ask=101.0)
    assert (tick.mid, tick.spread, tick.spread_pct, tick.spread_bps) == (100, 2, 2, 200)
    assert tick.live
    assert tick.instrument == InstrumentId(Category.LINEAR, "BTCUSDT")


def test_a_tick_of_a_book_that_is_not_live_has_no_book_metrics() -> None:
    tick = make_tick(state="stale")
    assert (tick.state, tick.bid, tick.liquidity, tick.imbalance) == (BookState.STALE, None, None, None)
    assert tick.reason == "not_live"


def test_a_tick_with_one_side_empty_has_nothing_that_needs_it() -> None:
    tick = make_tick(bid=None)
    assert (tick.ask, tick.mid, tick.spread_pct, tick.imbalance, tick.reason) == (
        50_001,
        None,
        None,
        None,
        "empty_side",
    )


def test_what_is_given_wins() -> None:
    tick = make_tick("spot:ETHUSDT", spread_pct=3.0, ts=5)
    assert (str(tick.instrument), tick.spread_pct, tick.ts) == ("spot:ETHUSDT", 3.0, 5)


def test_a_field_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="did you mean 'spread_pct'"):
        make_tick(spread_pc=1)


def test_the_samples_hold_every_kind() -> None:
    ticks = sample_ticks()
    assert {tick.state for tick in ticks} == set(BookState)
    assert any(tick.live and tick.bid is None for tick in ticks)
    assert any(tick.live and tick.latency_error_ms is None for tick in ticks)


def test_a_class_can_be_tested_as_it_is() -> None:
    plugin = PluginHarness(Plugin, {"limit": 5, "symbols": {"spot:BTCUSDT": {"limit": 0.5}}})
    assert plugin.tick(bid=100, ask=101) == []
    assert [alert.plugin for alert in plugin.tick(instrument="spot:BTCUSDT", bid=100, ask=101)] == ["plugin"]
    plugin.assert_alerts("notice big")
    plugin.start()
    plugin.stop()
    assert len(plugin.plugin.heard) == 2
    assert plugin.statistics().calls == 4


def test_time_passes_from_tick_to_tick() -> None:
    plugin = PluginHarness(Plugin, {"limit": -1.0}, interval_s=0.5)
    plugin.tick()
    plugin.tick()
    plugin.wait(10)
    plugin.tick()
    first, second, third = (alert.tick.ts for alert in plugin.alerts)
    assert (second - first, third - second) == (500, 10_500)


def test_what_the_program_would_contain_the_harness_raises() -> None:
    plugin = PluginHarness(Plugin)
    with pytest.raises(ZeroDivisionError):
        plugin.tick(bid=13, ask=14)
    with pytest.raises(BadResult, match="returned 7"):
        plugin.tick(bid=14, ask=15)


def test_assertions_can_fail() -> None:
    plugin = PluginHarness(Plugin)
    plugin.assert_quiet()
    plugin.tick(bid=100, ask=110)
    with pytest.raises(AssertionError, match="notice big"):
        plugin.assert_quiet()
    with pytest.raises(AssertionError):
        plugin.assert_alerts("raise big")


@pytest.mark.parametrize("config", [{"limit": "x"}, {"limt": 1}, {"symbols": 1}])
def test_a_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(PluginProblems, match=r"expected|unknown"):
        PluginHarness(Plugin, config)


def test_a_file_that_is_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1")
    with pytest.raises(PluginProblems, match="class Plugin"):
        PluginHarness(tmp_path / "bad.py")
