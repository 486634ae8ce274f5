"""The bundled plugins: their defaults, overrides, missing values; and that they import nothing but orderflow.api."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from orderflow.testing import PluginHarness, PluginProblems, sample_ticks

FOLDER = Path(__file__).parents[2] / "plugins"
NAMES = ("latency", "liquidity", "spread")


def harness(name: str, config: dict[str, Any] | None = None, **options: Any) -> PluginHarness:
    return PluginHarness(FOLDER / f"{name}.py", config, **options)


# plugin: (metric, rule, a value that raises, one on the level, one inside the hysteresis, one that clears)
LEVELS = {
    "spread": ("spread_pct", "wide_spread", 0.81, 0.8, 0.65, 0.64),
    "latency": ("latency_ms", "slow_feed", 151.1, 151.0, 121.1, 120.9),  # make_tick's clock error is 1 ms
    "liquidity": ("liquidity", "thin_book", 4.99, 5.0, 5.99, 6.0),
}


def test_these_are_all() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_they_import_the_api_alone(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node).split(" import ")[0] for node in imports] == ["from orderflow.api"]


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults(name: str) -> None:
    metric, rule, bad, level, between, good = LEVELS[name]
    plugin = harness(name)
    plugin.tick(**{metric: level})
    plugin.assert_quiet()
    for value in (bad, between, bad, between, good, good, good, good):  # clears after 10 s, two steps of 5 s
        plugin.tick(**{metric: value})
    plugin.assert_alerts(f"raise {rule}", f"clear {rule}")
    raised, cleared = plugin.alerts
    assert raised.metric == cleared.metric == metric
    assert raised.plugin == name
    assert raised.since_ms == raised.tick.ts


@pytest.mark.parametrize("name", NAMES)
def test_oscillation_around_the_threshold_gives_one_raise_and_one_clear(name: str) -> None:
    metric, rule, bad, level, between, good = LEVELS[name]
    plugin = harness(name, interval_s=0.1)
    for _ in range(500):
        for value in (level, bad, between, bad):
            plugin.tick(**{metric: value})
    for _ in range(200):
        plugin.tick(**{metric: good})
    plugin.assert_alerts(f"raise {rule}", f"clear {rule}")


@pytest.mark.parametrize("name", NAMES)
def test_missing_values_neither_raise_nor_clear(name: str) -> None:
    metric, rule, bad, _, _, good = LEVELS[name]
    plugin = harness(name)
    plugin.tick(**{metric: None})
    plugin.tick(state="syncing", **{metric: bad})
    plugin.assert_quiet()
    plugin.tick(**{metric: bad})
    for _ in range(5):
        plugin.tick(**{metric: None})
        plugin.tick(state="stale", **{metric: good})
    plugin.assert_alerts(f"raise {rule}")


@pytest.mark.parametrize("name", NAMES)
def test_an_override_is_for_its_symbol(name: str) -> None:
    metric, rule, bad, _, _, _ = LEVELS[name]
    key, never = ("raise_below", 0.001) if name == "liquidity" else ("raise_above", 1e6)
    plugin = harness(name, {"symbols": {"spot:BTCUSDT": {key: never}}})
    plugin.tick(instrument="spot:BTCUSDT", **{metric: bad})
    plugin.assert_quiet()
    plugin.tick(instrument="linear:BTCUSDT", **{metric: bad})
    plugin.assert_alerts(f"raise {rule}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, 0, float("nan"), "5", True])
def test_impossible_thresholds_are_refused(name: str, value: object) -> None:
    with pytest.raises(PluginProblems):
        harness(name, {"raise_below" if name == "liquidity" else "raise_above": value})


@pytest.mark.parametrize("name", NAMES)
def test_they_live_through_everything(name: str) -> None:
    plugin = harness(name)
    plugin.start()
    plugin.feed(*sample_ticks())
    plugin.stop()
    assert plugin.statistics().failures == 0


@pytest.mark.parametrize(
    "latency_ms, error_ms, trust, raises",
    [
        (180.0, 25.0, False, True),  # at least 155 ms
        (180.0, 35.0, False, False),  # perhaps 145 ms
        (5000.0, None, False, False),  # the offset is not known: it may all be the clock
        (5000.0, None, True, True),
        (180.0, 35.0, True, False),  # a known bound is always respected
        (-5000.0, 1.0, False, False),
    ],
)
def test_latency_is_judged_by_the_least_it_can_have_been(
    latency_ms: float, error_ms: float | None, trust: bool, raises: bool
) -> None:
    plugin = harness("latency", {"trust_clock": trust})
    alerts = plugin.tick(latency_ms=latency_ms, latency_error_ms=error_ms)
    assert bool(alerts) is raises


def test_liquidity_says_it_in_the_base_coin() -> None:
    (alert,) = harness("liquidity").tick(liquidity=3.25, base_coin="ETH")
    assert alert.message == "liquidity 3.25 ETH is below 5 ETH"


def test_an_inverse_contract_that_is_not_described_yet_is_not_judged() -> None:
    plugin = harness("liquidity", instrument="inverse:BTCUSD")
    plugin.tick(liquidity=None, base_coin=None)
    plugin.assert_quiet()
    plugin.tick(liquidity=1.0)
    plugin.assert_alerts("raise thin_book")
