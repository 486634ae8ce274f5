"""Whether a class is a plugin: its hooks, their signatures, its Config. Every problem at once, with its line."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.nearest import did_you_mean
from orderflow.hooks.configs import OVERRIDES
from orderflow.hooks.problems import Problem, line_of, show
from orderflow.hooks.specs import HOOKS, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MARK: Final = f"{PROJECT}_impl"
_PREFIX: Final = f"{PROJECT}_"
_FORM: Final = "expected `class Plugin` with `class Config(PluginConfig)`, `__init__(self, config)` and @hookimpls"


def check_plugin(name: str, path: str, plugin: object) -> list[Problem]:
    """Everything that is wrong with what a plugin file calls `Plugin`.

    Returns: no problems exactly when the class can be constructed with its configs and registered.
    """

    def problem(text: str, line: int) -> Problem:
        return Problem(plugin=name, text=text, path=path, line=line)

    if not isinstance(plugin, type):
        return [problem(f"Plugin is {show(plugin)}; {_FORM}", 0)]
    faults = [*_config_faults(plugin), *_init_faults(plugin), *_hook_faults(plugin)]
    return [problem(text, line) for text, line in faults]


def _config_faults(plugin: type) -> Iterator[tuple[str, int]]:
    config = inspect.getattr_static(plugin, "Config", None)
    if config is None:
        yield "it has no `class Config(PluginConfig)`; leave it empty when there is nothing to set", line_of(plugin)
    elif not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
        yield "its Config must derive from PluginConfig", line_of(config if isinstance(config, type) else plugin)
    elif not (config.__struct_config__.frozen and config.__struct_config__.forbid_unknown_fields):
        yield "its Config must be frozen and forbid unknown fields; derive it from PluginConfig", line_of(config)
    else:
        yield from _field_faults(config)


def _field_faults(config: type[msgspec.Struct]) -> Iterator[tuple[str, int]]:
    try:
        fields = msgspec.structs.fields(config)
        msgspec.json.Decoder(config)
    except (TypeError, NameError, ValueError, AttributeError) as exc:
        yield f"the types of its Config cannot be used: {show(str(exc), 200)}", line_of(config)
        return
    for field in fields:
        if field.encode_name == OVERRIDES:
            yield f"Config.{OVERRIDES} is reserved for overrides per symbol", line_of(config)


def _init_faults(plugin: type) -> Iterator[tuple[str, int]]:
    init = inspect.getattr_static(plugin, "__init__", None)
    if init is object.__init__:
        yield "it has no __init__; expected `def __init__(self, config: Configs[Config])`", line_of(plugin)
        return
    try:
        inspect.signature(plugin).bind("config")
    except (TypeError, ValueError):
        yield "its __init__ must take the configs and nothing else that is required", _line(init)


def _hook_faults(plugin: type) -> Iterator[tuple[str, int]]:
    hooks = _marked(plugin)
    if not hooks:
        yield "it implements no hook; mark a method with @hookimpl", line_of(plugin)
    for name, (function, options) in hooks.items():
        fault = _hook_fault(name, function, options)
        if fault:
            yield fault, _line(function)
    for name in dir(plugin):
        if name.startswith(_PREFIX) and name not in hooks and inspect.isfunction(getattr(plugin, name, None)):
            yield f"{name} is not marked with @hookimpl and would never be called", _line(getattr(plugin, name))


def _hook_fault(name: str, function: object, options: dict[str, Any]) -> str:
    if name not in HOOKS:
        return f"{name} is no hook{did_you_mean(name, HOOKS)}"
    if options.get("wrapper") or options.get("hookwrapper"):
        return f"{name} is a hook wrapper; wrappers could swallow what other plugins return and are refused"
    if any(options.values()):
        return f"{name} uses options of @hookimpl; use it bare (the order of calls is that of plugins.enabled)"
    if not inspect.isfunction(function):
        return f"{name} must be an ordinary method"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"{name} is `async def`; hooks are sync"
    return _signature_fault(name, function)


def _signature_fault(name: str, function: Callable[..., object]) -> str:
    allowed = {("self",), ("self", HOOKS[name])}
    parameters = inspect.signature(function).parameters.values()
    plain = all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    if plain and tuple(p.name for p in parameters) in allowed:
        return ""
    return f"{name}{inspect.signature(function)} has the wrong arguments; expected {name}(self, {HOOKS[name]})"


def _marked(plugin: type) -> dict[str, tuple[object, dict[str, Any]]]:
    """Attributes with the mark of @hookimpl: name -> (what it is, options). Runs no code of the plugin."""
    found: dict[str, tuple[object, dict[str, Any]]] = {}
    for name in dir(plugin):
        thing = inspect.getattr_static(plugin, name)
        options = getattr(getattr(thing, "__func__", thing), "__dict__", {}).get(_MARK)
        if isinstance(options, dict):
            found[name] = (thing, options)
    return found


def _line(thing: object) -> int:
    function = getattr(thing, "__func__", thing)
    return line_of(function) if callable(function) else 0
