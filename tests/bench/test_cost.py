"""Costs by slope."""

from __future__ import annotations

import msgspec
import pytest

from orderflow.bench import cost
from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.plan import QUICK
from orderflow.hooks.samples import make_tick


def test_a_slope_leaves_out_what_there_is_once() -> None:
    assert cost._slope(lambda count: 100.0 + 2.5 * count, 10, 50) == 2.5


def test_a_cost_is_the_median_call_with_something_before_each() -> None:
    numbers: list[int] = []
    assert cost._cpu_us(lambda: None, 5, numbers.append) >= 0
    assert numbers == [0, 1, 2, 3, 4]


def test_symbols_tick_and_are_checked() -> None:
    found = cost.time_books(Frames(50, 8), 2, 6)
    assert list(found) == ["tick of one symbol", "timer, one symbol"]
    assert found["tick of one symbol"] > 0


def test_a_book_that_is_not_live_is_no_figure() -> None:
    books = cost._Books(Frames(50, 8), 2)
    books.tick()
    books.engine.close(1)
    with pytest.raises(WrongBook):
        books.tick()


def test_every_plugin_and_every_rule_is_called() -> None:
    host = cost._host(cost.Idle, 3)
    host.tick(make_tick())
    assert [plugin.calls for plugin in host.statistics().plugins] == [1, 1, 1]
    rules = cost._host(cost.Rules, 1, {"rules": 4, "raise_above": 1e-9})
    assert len(rules.tick(make_tick(spread_pct=1.0))) == 4
    assert cost._host(cost.Rules, 1, {"rules": 4}).tick(make_tick(spread_pct=1.0)) == []


@pytest.mark.socket
def test_the_stage_gives_every_cost() -> None:
    plan = msgspec.structs.replace(QUICK, rounds=1, windows=8, crowd=12, watch_s=0.1)
    figures = cost.measure_cost(plan)
    assert [(figure.name, figure.case, figure.unit, figure.depth) for figure in figures] == [
        ("tick of one symbol", "10 to 12 symbols", "us", 50),
        ("timer, one symbol", "10 to 12 symbols", "us", 50),
        ("plugin, one call", "1 to 21", "us", None),
        ("alert rule, one tick", "1 to 21", "us", None),
        ("idle symbol, a second", "10 to 12 symbols", "us", 50),
        ("idle symbol, memory", "10 to 12 symbols", "KB", 50),
    ]
