"""What is known of a plugin: counters, times, and when to say something again."""

from __future__ import annotations

import msgspec
import pytest

from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.records import PluginState, PluginStatistics, Record

FILE = Source(name="whale", origin=Origin.FOLDER, path="/somewhere/whale.py")
POINT = Source(name="whale", origin=Origin.ENTRY_POINT, entry_point="whale:Plugin")


def record(source: Source | None = FILE) -> Record:
    return Record("whale", source, "1.0", ("orderflow_tick",), {"limit": 1.0})


NOTHING_YET = {
    "isolated": False,
    "calls": 0,
    "failures": 0,
    "last_error": "",
    "total_s": 0.0,
    "mean_ms": None,
    "max_ms": None,
    "alerts": 0,
    "rejected": 0,
    "dropped": 0,
    "over_budget": 0,
}


def test_before_the_first_call_there_is_nothing_to_tell() -> None:
    identity = {"name": "whale", "version": "1.0", "where": "/somewhere/whale.py", "origin": "folder"}
    known = {"hooks": ("orderflow_tick",), "state": "active", "config": {"limit": 1.0}}
    assert msgspec.to_builtins(record().statistics()) == {**identity, **known, **NOTHING_YET}


def test_of_a_plugin_that_is_only_available_less_is_known() -> None:
    statistics = PluginStatistics(name="x", version="", where="", origin="", hooks=(), state=PluginState.AVAILABLE)
    assert msgspec.to_builtins(statistics).items() >= {**NOTHING_YET, "state": "available"}.items()


def test_times_are_summed_and_the_longest_is_kept() -> None:
    whale = record()
    for took_s in (0.25, 0.5, 0.375):
        whale.count_call(took_s)
    told = whale.statistics()
    assert (told.calls, told.total_s, told.mean_ms, told.max_ms) == (3, 1.125, 375.0, 500.0)


@pytest.mark.parametrize(
    ("source", "path", "where", "origin"),
    [(FILE, FILE.path, FILE.path, "folder"), (POINT, "", "whale:Plugin", "entry_point"), (None, "", "", "")],
)
def test_where_it_came_from(source: Source | None, path: str, where: str, origin: str) -> None:
    told = record(source)
    assert (told.path, told.where) == (path, where)
    assert (told.statistics().where, told.statistics().origin) == (where, origin)


def test_a_warning_of_one_kind_is_given_once_a_minute() -> None:
    whale = record()
    given = [whale.may_warn("slow", now) for now in (5.0, 5.0, 64.9, 65.0, 65.0, 124.9, 125.0)]
    assert given == [True, False, False, True, False, False, True]
    assert whale.may_warn("failure", 65.0)
