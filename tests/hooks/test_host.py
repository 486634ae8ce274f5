"""What a plugin does while it runs stays in that plugin: one bad one of each kind, and always a good one beside it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from orderflow.core.types import Alert, AlertKind, Severity
from orderflow.hooks.contain import Limits
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.host import Failure, PluginHost
from orderflow.hooks.loading import build, load
from orderflow.hooks.records import PluginState, PluginStatistics
from orderflow.hooks.samples import make_tick, sample_changes, sample_private, sample_start, sample_summary
from orderflow.hooks.setup import set_up
from tests.hooks.choice import choose
from tests.hooks.plugin_files import tick_hook, write_plugin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TICK = make_tick()


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def host_with(folder: Path, bad: str, clock: Callable[[], float] | None = None, **limits: Any) -> PluginHost:
    """A host with plugin `a_bad` of this body before, and `good` behind it."""
    write_plugin(folder, "a_bad", bad)
    write_plugin(folder, "good")
    setup = set_up(choose(("a_bad", "good"), folder, **limits), None, clock or Clock())
    assert setup.problems == ()
    return setup.host


def one(host: PluginHost, name: str) -> PluginStatistics:
    return next(plugin for plugin in host.statistics().plugins if plugin.name == name)


def instance(host: PluginHost, name: str) -> Any:
    """The plugin object itself."""
    slots: Any = (slot for slots in host._plan.values() for slot in slots)
    return next(slot.run.args[0].function.__self__ for slot in slots if slot.record.name == name)


RAISES = {
    "an exception": "raise ValueError('no')",
    "SystemExit": "raise SystemExit(3)",
    "sys.exit": "import sys; sys.exit()",
    "GeneratorExit": "raise GeneratorExit",
    "a BaseException of its own": "raise type('Boom', (BaseException,), {})('no')",
    "endless recursion": "return self.orderflow_tick(tick)",
    "an exception that cannot be shown": "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "an exception that exits when shown": "raise type('E', (Exception,), {'__str__': lambda _: self.exit()})",
    "an exception with terminal codes": "raise ValueError('\\x1b[2J\\u202e')",
    "a huge exception": "raise ValueError('x' * 10_000_000)",
}


@pytest.mark.parametrize("line", RAISES.values(), ids=RAISES.keys())
def test_what_it_raises_is_contained_and_five_in_a_row_disable_it(folder: Path, line: str) -> None:
    host = host_with(folder, tick_hook(line) + "def exit(self): raise SystemExit\n")
    for count in range(1, 8):
        alerts = host.tick(TICK)
        assert [(alert.plugin, alert.rule) for alert in alerts] == [("good", "seen")]
        bad = one(host, "a_bad")
        assert bad.state is (PluginState.DISABLED if count >= 5 else PluginState.ACTIVE)
        assert bad.failures == min(count, 5)
        assert bad.last_error.isprintable()
        assert 0 < len(bad.last_error) < 400
    assert one(host, "good").failures == 0
    assert one(host, "good").calls == 7


def test_ctrl_c_is_not_the_plugins(folder: Path) -> None:
    host = host_with(folder, tick_hook("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        host.tick(TICK)
    assert host.current_call is None


def test_a_plugin_that_plays_ctrl_c_is_contained_while_ctrl_c_has_a_handler_of_ours(folder: Path) -> None:
    """As in every run: there Ctrl-C raises nothing."""
    host = host_with(folder, tick_hook("raise KeyboardInterrupt"))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert [alert.plugin for alert in host.tick(TICK)] == ["good"]
    finally:
        signal.signal(signal.SIGINT, before)
    assert one(host, "a_bad").failures == 1


def test_a_trio_cancellation_is_not_the_plugins(folder: Path) -> None:
    cancelled = type("Cancelled", (BaseException,), {"__module__": "trio._core._exceptions"})
    host = host_with(folder, tick_hook("raise self.error"))
    instance(host, "a_bad").error = cancelled()
    with pytest.raises(cancelled):
        host.tick(TICK)


def test_a_good_call_in_between_starts_the_count_again(folder: Path) -> None:
    host = host_with(folder, tick_hook("self.seen.append(1)", "if len(self.seen) % 5: raise ValueError"))
    for _ in range(50):
        host.tick(TICK)
    assert one(host, "a_bad").state is PluginState.ACTIVE
    assert one(host, "a_bad").failures == 40


def test_a_hook_that_works_does_not_hide_one_that_never_does(folder: Path) -> None:
    body = tick_hook("raise ValueError") + "@hookimpl\ndef orderflow_alert(self, alert):\n    self.seen.append(alert)\n"
    host = host_with(folder, body)
    for _ in range(5):
        host.tick(TICK)
    assert one(host, "a_bad").state is PluginState.DISABLED


def test_the_failure_names_the_line_of_the_plugins_file(folder: Path) -> None:
    host = host_with(folder, tick_hook("import json", "json.loads('{')"))
    host.tick(TICK)
    line = (folder / "a_bad.py").read_text().splitlines().index("        json.loads('{')") + 1
    assert f"(line {line})" in one(host, "a_bad").last_error


RETURNS = {
    "a number": "return 7",
    "text": "return 'alert'",
    "bytes": "return b'alert'",
    "a dict": "return {'rule': 'x'}",
    "a list of numbers": "return [1, 2]",
    "one alert, not in a list": "return notice(tick, 'r', 'm')",
    "a class": "return Alert",
    "false": "return False",
    "an iterable that raises": "return (1 / 0 for _ in [0])",
    "a subclass of Alert": "return [type('Mine', (Alert,), {})"
    "(rule='r', kind=AlertKind.NOTICE, severity=Severity.INFO, message='', tick=tick)]",
}
ALERTS = {
    "no rule": {"rule": ""},
    "rule not text": {"rule": 5},
    "rule too long": {"rule": "r" * 101},
    "kind as text": {"kind": "raise"},
    "severity as text": {"severity": "critical"},
    "message none": {"message": None},
    "message huge": {"message": "m" * 2001},
    "message with a lone surrogate": {"message": "\ud800"},
    "metric not text": {"metric": 1.0},
    "value nan": {"value": float("nan")},
    "value infinite": {"value": float("inf")},
    "value text": {"value": "1"},
    "value bool": {"value": True},
    "threshold nan": {"threshold": float("-inf")},
    "since not a time": {"since_ms": 1.5},
    "since negative": {"since_ms": -1},
    "another tick": {"tick": make_tick(bid=1.0)},
    "an equal tick": {"tick": make_tick()},
    "no tick": {"tick": None},
}


@pytest.mark.parametrize("line", RETURNS.values(), ids=RETURNS.keys())
def test_nonsense_is_refused_and_counted(folder: Path, line: str) -> None:
    host = host_with(folder, tick_hook(line))
    assert [alert.plugin for alert in host.tick(TICK)] == ["good"]
    assert one(host, "a_bad").failures == 1
    assert one(host, "a_bad").alerts == 0


@pytest.mark.parametrize("fields", ALERTS.values(), ids=ALERTS.keys())
def test_an_alert_that_is_not_sane_is_refused_and_the_sane_one_behind_it_is_kept(
    folder: Path, fields: dict[str, Any]
) -> None:
    host = host_with(folder, tick_hook("return [self.alert, notice(tick, 'sane', 'kept')]"))
    sound = {
        "rule": "r",
        "kind": AlertKind.NOTICE,
        "severity": Severity.INFO,
        "message": "m",
        "tick": TICK,
    }
    instance(host, "a_bad").alert = Alert(**{**sound, **fields})
    assert [(alert.plugin, alert.rule) for alert in host.tick(TICK)] == [("a_bad", "sane"), ("good", "seen")]
    bad = one(host, "a_bad")
    assert (bad.failures, bad.rejected, bad.alerts) == (1, 1, 1)


def test_the_host_says_whose_alert_it_is(folder: Path) -> None:
    host = host_with(
        folder,
        tick_hook(
            "alert = notice(tick, 'r', 'm')",
            "forged = Alert(**{n: getattr(alert, n) for n in alert.__struct_fields__} | {'plugin': 'good'})",
            "return [forged]",
        ),
    )
    assert [alert.plugin for alert in host.tick(TICK)] == ["a_bad", "good"]


@pytest.mark.parametrize("line", ["return [notice(tick, 'r', 'm')] * 1000", "while True: yield notice(tick, 'r', 'm')"])
def test_a_flood_is_cut_off(folder: Path, line: str) -> None:
    host = host_with(folder, tick_hook(line), max_alerts_per_call=10)
    assert [alert.plugin for alert in host.tick(TICK)] == ["a_bad"] * 10 + ["good"]
    bad = one(host, "a_bad")
    assert (bad.alerts, bad.dropped, bad.failures) == (10, 1, 0)


def test_a_generator_that_is_cut_off_is_closed_within_the_call(folder: Path) -> None:
    body = tick_hook("try:", "    while True: yield notice(tick, 'r', 'm')", "finally:", "    raise ValueError('no')")
    host = host_with(folder, body, max_alerts_per_call=10)
    assert len(host.tick(TICK)) == 11
    assert one(host, "a_bad").failures == 1


def test_exactly_the_limit_is_no_flood(folder: Path) -> None:
    host = host_with(folder, tick_hook("return [notice(tick, 'r', 'm')] * 10"), max_alerts_per_call=10)
    host.tick(TICK)
    assert (one(host, "a_bad").alerts, one(host, "a_bad").dropped) == (10, 0)


def test_what_was_yielded_before_it_raised_is_kept(folder: Path) -> None:
    host = host_with(folder, tick_hook("yield notice(tick, 'early', 'm')", "raise ValueError"))
    assert [alert.rule for alert in host.tick(TICK)] == ["early", "seen"]
    assert one(host, "a_bad").failures == 1


@pytest.mark.parametrize(
    "line", ["tick.bid = 1.0", "object.__setattr__(tick, 'bid', 1.0)", "tick.counters.gaps = 5", "del tick.bid"]
)
def test_the_argument_cannot_be_altered(folder: Path, line: str) -> None:
    host = host_with(folder, tick_hook(line))
    host.tick(TICK)
    assert one(host, "a_bad").failures == 1
    assert instance(host, "good").seen[0] == make_tick()


@pytest.mark.parametrize(
    "took_s, state, over", [(0.02, "active", 0), (0.021, "active", 1), (1.0, "active", 1), (1.01, "disabled", 1)]
)
def test_a_slow_hook_is_counted_and_a_very_slow_one_disabled(
    folder: Path, took_s: float, state: str, over: int
) -> None:
    clock = Clock()
    host = host_with(folder, tick_hook(f"self.clock.now = 100.0 + {took_s}"), clock)
    instance(host, "a_bad").clock = clock
    clock.now = 100.0
    host.tick(TICK)
    bad = one(host, "a_bad")
    assert (bad.state, bad.over_budget) == (state, over)
    assert bad.max_ms == pytest.approx(took_s * 1000)
    assert one(host, "good").over_budget == 0
    assert one(host, "good").calls == 1


def test_exactly_the_budget_is_within_it(folder: Path) -> None:
    clock = Clock()
    host = host_with(folder, tick_hook("self.clock.now += 0.25"), clock, budget_ms=250.0)
    instance(host, "a_bad").clock = clock
    host.tick(TICK)
    assert one(host, "a_bad").over_budget == 0


def test_time_spent_in_a_generator_counts(folder: Path) -> None:
    clock = Clock()
    host = host_with(folder, tick_hook("yield notice(tick, 'r', 'm')", "self.clock.now += 2"), clock)
    instance(host, "a_bad").clock = clock
    host.tick(TICK)
    assert one(host, "a_bad").state is PluginState.DISABLED


def test_the_call_that_runs_is_named_while_it_runs(folder: Path) -> None:
    host = host_with(folder, tick_hook("self.during = self.host.current_call"))
    instance(host, "a_bad").host = host
    host.tick(TICK)
    assert instance(host, "a_bad").during == ("a_bad", "orderflow_tick", 100.0)
    assert host.current_call is None


OTHER_HOOKS = {
    "orderflow_start": lambda host: host.start(sample_start()),
    "orderflow_stop": lambda host: host.stop(sample_summary()),
    "orderflow_feed_change": lambda host: host.feed_change(sample_changes()[0]),
    "orderflow_alert": lambda host: host.tick(TICK),
    "orderflow_private": lambda host: host.private(sample_private()),
}
ARGUMENTS = {"start": "info", "stop": "summary", "feed_change": "change", "alert": "alert", "private": "message"}


@pytest.mark.parametrize("hook", OTHER_HOOKS)
def test_every_other_hook_gets_its_argument_and_is_contained(folder: Path, hook: str) -> None:
    argument = ARGUMENTS[hook.removeprefix("orderflow_")]
    raising = f"@hookimpl\ndef {hook}(self, {argument}):\n    raise SystemExit\n"
    noting = f"@hookimpl\ndef {hook}(self, {argument}):\n    self.seen.append({argument})\n"
    returning = f"@hookimpl\ndef {hook}(self):\n    return [1]\n"
    for name, body in (("a", raising), ("b", noting), ("c", returning)):
        write_plugin(folder, name, body)
    write_plugin(folder, "z")
    host = set_up(choose(("a", "b", "c", "z"), folder), None, Clock()).host
    OTHER_HOOKS[hook](host)
    assert [one(host, name).failures for name in "abcz"] == [1, 0, 1, 0]
    assert len(instance(host, "b").seen) == 1


def test_a_coroutine_that_slipped_through_is_refused_without_a_warning(folder: Path) -> None:
    host = host_with(
        folder, "async def later(self): pass\n" + "@hookimpl\ndef orderflow_stop(self): return self.later()\n"
    )
    host.stop(sample_summary())
    assert one(host, "a_bad").failures == 1


def test_an_alert_reaches_every_plugin_after_the_tick_did(folder: Path) -> None:
    write_plugin(folder, "ears", "@hookimpl\ndef orderflow_alert(self, alert):\n    self.seen.append(alert)\n")
    write_plugin(folder, "good")
    host = set_up(choose(("ears", "good"), folder), None).host
    assert host.tick(TICK) == instance(host, "ears").seen
    assert instance(host, "ears").seen[0].plugin == "good"


def test_the_order_of_calls_is_that_of_the_settings(folder: Path) -> None:
    for name in ("b", "a", "c"):
        write_plugin(folder, name)
    host = set_up(choose(("b", "c", "a"), folder), None).host
    assert [alert.plugin for alert in host.tick(TICK)] == ["b", "c", "a"]


def test_a_disabled_plugin_hears_nothing_more_and_the_notes_say_so(folder: Path) -> None:
    body = tick_hook("raise ValueError") + "@hookimpl\ndef orderflow_stop(self):\n    self.seen.append('stop')\n"
    host = host_with(folder, body, max_failures=1)
    bad = instance(host, "a_bad")
    host.tick(TICK)
    host.stop(sample_summary())
    assert bad.seen == []
    assert [note for note in host.notes() if "a_bad" in note and "disabled" in note] == list(host.notes())


def test_the_same_complaint_is_made_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    host = host_with(folder, tick_hook("raise ValueError"), clock, max_failures=1000)
    for _ in range(500):
        host.tick(TICK)
    assert len(caplog.records) == 1
    clock.now += 61
    host.tick(TICK)
    assert len(caplog.records) == 2


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_what_is_said_of_a_plugin_that_fails(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    host = host_with(folder, tick_hook("raise ValueError('no')"), max_failures=2)
    for _ in range(2):
        host.tick(TICK)
    path = folder / "a_bad.py"
    line = path.read_text().splitlines().index("        raise ValueError('no')") + 1
    error = f"ValueError: no (line {line})"
    why = f"orderflow_tick failed 2 times in a row, last: {error}"
    assert said(caplog) == [
        ("WARNING", f"plugin a_bad ({path}): orderflow_tick failed: {error}"),
        ("ERROR", f"plugin a_bad ({path}) disabled: {why}"),
    ]
    assert host.notes() == (f"plugin a_bad disabled: {why}",)


def test_what_is_said_of_a_plugin_that_is_slow_and_of_a_flood(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    flood = "return [notice(tick, 'r', 'm')] * 9"
    host = host_with(
        folder,
        tick_hook("self.clock.now += len(self.seen) + 0.03", "self.seen.append(1)", flood),
        clock,
        max_alerts_per_call=3,
    )
    instance(host, "a_bad").clock = clock
    for _ in range(2):
        host.tick(TICK)
    path = folder / "a_bad.py"
    assert said(caplog) == [
        ("WARNING", f"plugin a_bad ({path}): orderflow_tick returned more than 3 alerts; the rest is dropped"),
        ("WARNING", f"plugin a_bad ({path}): orderflow_tick took 30 ms; the budget is 20 ms"),
        ("ERROR", f"plugin a_bad ({path}) disabled: orderflow_tick took 1030 ms; the limit is 1000 ms"),
    ]
    bad = one(host, "a_bad")
    assert (bad.calls, bad.dropped, bad.over_budget, bad.alerts) == (2, 2, 2, 6)
    assert bad.total_s == pytest.approx(1.06)


def test_a_call_that_disables_by_its_time_and_fails_too_is_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    host = host_with(folder, tick_hook("self.clock.now += 2", "raise ValueError('no')"), clock, max_failures=1)
    instance(host, "a_bad").clock = clock
    host.tick(TICK)
    assert [level for level, _ in said(caplog)] == ["WARNING", "ERROR", "WARNING"]
    bad = one(host, "a_bad")
    assert bad.last_error == "orderflow_tick took 2000 ms; the limit is 1000 ms"
    assert bad.failures == 1


def test_whoever_wants_to_hear_of_failures_gets_the_exception_itself(folder: Path) -> None:
    heard: list[Failure] = []
    write_plugin(folder, "bad", tick_hook("raise ValueError('no')"))
    host = PluginHost(on_failure=heard.append)
    host.add(load(Source(name="bad", origin=Origin.FOLDER, path=str(folder / "bad.py"))))
    host.tick(TICK)
    ((plugin, hook, error),) = heard
    assert (plugin, hook, str(error)) == ("bad", "orderflow_tick", "no")
    assert isinstance(error, ValueError)
    assert one(host, "bad").failures == 1


def test_a_closed_host_calls_nobody(folder: Path) -> None:
    write_plugin(folder, "good")
    host = set_up(choose(("good",), folder), None).host
    host.close()
    assert host.tick(TICK) == []
    assert one(host, "good").state is PluginState.ACTIVE
    assert host.notes() == ()


def test_plugins_that_are_refused_are_listed_behind_the_others(folder: Path) -> None:
    body = "@hookimpl\nasync def orderflow_tick(self, tick): pass\n@hookimpl\ndef orderflow_alerts(self, x): pass\n"
    write_plugin(folder, "bad", body)
    write_plugin(folder, "good")
    setup = set_up(choose(("bad", "good", "goood"), folder), None)
    assert len(setup.problems) == 3
    plugins = setup.host.statistics().plugins
    assert [(plugin.name, plugin.state) for plugin in plugins] == [
        ("good", PluginState.ACTIVE),
        ("goood", PluginState.REFUSED),
        ("bad", PluginState.REFUSED),
    ]
    assert (plugins[1].version, plugins[1].hooks, plugins[1].config, plugins[1].where) == ("", (), {}, "")
    assert plugins[2].last_error == "; ".join(map(str, setup.problems[1:]))
    assert setup.host.notes() == tuple(f"plugin {plugin.name} refused: {plugin.last_error}" for plugin in plugins[1:])


def test_steps_of_loading_are_marked_while_they_run() -> None:
    host = PluginHost(clock=Clock())
    with host.marking() as mark:
        assert host.current_call is None
        mark("whale", "import")
        assert host.current_call == ("whale", "import", 100.0)
    assert host.current_call is None


def test_a_plugin_is_listed_with_what_it_is(folder: Path) -> None:
    path = write_plugin(folder, "whale", "version = '1.5'\n" + tick_hook("pass"))
    host = set_up(choose(("whale",), folder, tables={"whale": {"limit": 2}}), None).host
    whale = one(host, "whale")
    assert (whale.version, whale.hooks, whale.config) == ("1.5", ("orderflow_tick",), {"limit": 2.0})
    assert (whale.where, whale.origin, whale.isolated) == (str(path), Origin.FOLDER, False)


def test_a_name_is_taken_once() -> None:
    host = PluginHost(Limits())

    class Plugin:
        from orderflow.api import PluginConfig as Config

        def __init__(self, config: object) -> None: ...

        from orderflow.hooks.specs import hookimpl

        @hookimpl
        def orderflow_stop(self) -> None: ...

    loaded = build(Source(name="twice", origin=Origin.TEST), Plugin)
    host.add(loaded)
    with pytest.raises(ValueError, match="twice"):
        host.add(loaded)
