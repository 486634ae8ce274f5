"""Whether a class is a plugin: each fault with its words and its line. Whole files are refused in test_loading.py."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import msgspec
import pytest

from orderflow.api import Configs, MetricsTick, PluginConfig, hookimpl
from orderflow.hooks.checks import check_plugin


class Empty(PluginConfig, frozen=True):
    pass


class Sound:
    Config = Empty

    def __init__(self, config: Configs[Empty]) -> None: ...

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> None: ...


def faults(plugin: object) -> list[str]:
    problems = check_plugin("p", "/p.py", plugin)
    assert all((problem.plugin, problem.path) == ("p", "/p.py") for problem in problems)
    return [problem.text for problem in problems]


def varied(**names: Any) -> type:
    return type("Plugin", (Sound,), names)


def test_a_sound_plugin_has_no_fault() -> None:
    assert check_plugin("p", "/p.py", Sound) == []


def test_what_is_no_class_has_no_line() -> None:
    (problem,) = check_plugin("p", "/p.py", 7)
    assert problem.line == 0
    assert problem.text == (
        "Plugin is 7; expected `class Plugin` with `class Config(PluginConfig)`, `__init__(self, config)`"
        " and @hookimpls"
    )


class Loose(msgspec.Struct, frozen=True):
    pass


class Soft(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Anything(PluginConfig, frozen=True):
    """Types that can be named but not read."""

    both: int | Soft | Sound = 1


class Renamed(PluginConfig, frozen=True, rename={"others": "symbols"}):
    others: int = 1


_NOT_FROZEN = "its Config must be frozen and forbid unknown fields; derive it from PluginConfig"
_NOT_DERIVED = "its Config must derive from PluginConfig"


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (None, "it has no `class Config(PluginConfig)`; leave it empty when there is nothing to set"),
        (7, _NOT_DERIVED),
        (dict, _NOT_DERIVED),
        (Loose, _NOT_FROZEN),
        (Soft, _NOT_FROZEN),
        (Renamed, "Config.symbols is reserved for overrides per symbol"),
    ],
)
def test_faults_of_the_config(config: object, fault: str) -> None:
    assert faults(varied(Config=config)) == [fault]


def test_types_that_cannot_be_read_are_a_fault() -> None:
    (fault,) = faults(varied(Config=Anything))
    assert fault.startswith("the types of its Config cannot be used: ")


@pytest.mark.parametrize("config", [Loose, Soft, Renamed, Anything])
def test_the_line_is_that_of_the_config(config: type) -> None:
    (problem,) = check_plugin("p", "/p.py", varied(Config=config))
    assert problem.line == inspect.getsourcelines(config)[1]


def test_a_plugin_without_an_init_says_what_is_expected() -> None:
    class Plugin:
        Config = Empty
        orderflow_tick = Sound.orderflow_tick

    (problem,) = check_plugin("p", "/p.py", Plugin)
    assert problem.text == "it has no __init__; expected `def __init__(self, config: Configs[Config])`"
    assert problem.line == inspect.getsourcelines(Plugin)[1]


def no_argument(self: object) -> None: ...


def two_arguments(self: object, config: object, more: object) -> None: ...


def only_by_name(self: object, *, config: object) -> None: ...


def with_a_default(self: object, config: object, more: int = 1) -> None: ...


@pytest.mark.parametrize("init", [no_argument, two_arguments, only_by_name])
def test_an_init_that_cannot_be_called_with_the_configs(init: object) -> None:
    (problem,) = check_plugin("p", "/p.py", varied(__init__=init))
    assert problem.text == "its __init__ must take the configs and nothing else that is required"
    assert problem.line == inspect.getsourcelines(init)[1]


def test_an_init_may_have_defaults() -> None:
    assert faults(varied(__init__=with_a_default)) == []


def test_a_plugin_without_a_hook() -> None:
    class Plugin:
        Config = Empty
        __init__ = Sound.__init__

    (problem,) = check_plugin("p", "/p.py", Plugin)
    assert problem.text == "it implements no hook; mark a method with @hookimpl"
    assert problem.line == inspect.getsourcelines(Plugin)[1]


def unmarked(self: object, alert: object) -> None: ...


@pytest.mark.parametrize(
    ("thing", "found"),
    [(unmarked, True), (staticmethod(unmarked), True), (7, False), (partial(unmarked), False), (dict, False)],
)
def test_only_functions_are_missed_as_hooks(thing: object, found: bool) -> None:
    fault = "orderflow_alert is not marked with @hookimpl and would never be called"
    assert faults(varied(orderflow_alert=thing)) == [fault] * found


def hook(*arguments: str) -> Any:
    names: dict[str, Any] = {}
    exec(f"def orderflow_tick({', '.join(arguments)}): pass", names)
    return hookimpl(names["orderflow_tick"])


@pytest.mark.parametrize("arguments", [("self",), ("self", "tick")])
def test_a_hook_may_leave_its_argument_out(arguments: tuple[str, ...]) -> None:
    assert faults(varied(orderflow_tick=hook(*arguments))) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("me", "tick"),
        ("me",),
        ("tick",),
        ("self", "tock"),
        ("self", "/", "tick"),
        ("self", "*", "tick"),
        ("self=1",),
    ],
)
def test_a_hook_with_other_arguments(arguments: tuple[str, ...]) -> None:
    shown = f"orderflow_tick({', '.join(arguments)}) has the wrong arguments; expected orderflow_tick(self, tick)"
    assert faults(varied(orderflow_tick=hook(*arguments))) == [shown]


def test_a_marked_thing_that_is_no_function_has_the_line_of_what_it_wraps() -> None:
    method = classmethod(hook("self", "tick"))
    (problem,) = check_plugin("p", "/p.py", varied(orderflow_tick=method))
    assert problem.text == "orderflow_tick must be an ordinary method"
    assert problem.line == 1


def test_a_marked_thing_that_cannot_be_called_has_no_line() -> None:
    class Odd:
        def __init__(self) -> None:
            self.orderflow_impl = {"wrapper": False}

    (problem,) = check_plugin("p", "/p.py", varied(orderflow_tick=Odd()))
    assert (problem.text, problem.line) == ("orderflow_tick must be an ordinary method", 0)
