"""From a source to a plugin that can be called: read, run, check, configure, construct. Each step is contained."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import pluggy

from orderflow.core.errors import PluginError
from orderflow.core.nearest import did_you_mean
from orderflow.core.text import escape_text
from orderflow.hooks import specs
from orderflow.hooks.checks import check_plugin
from orderflow.hooks.configs import build_configs
from orderflow.hooks.contain import describe_error, error_line, passes
from orderflow.hooks.discovery import Origin, Source, access_fault, mode_fault, name_fault
from orderflow.hooks.problems import Problem, ProblemKind
from orderflow.hooks.specs import HOOKS, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orderflow.hooks.configs import Configs
    from orderflow.hooks.discovery import Catalogue

T = TypeVar("T")

MODULE_PREFIX: Final = "_orderflow_plugin_"
"""Plugin files are modules of this private name: no file can shadow, or be shadowed by, a module of anybody else."""

NO_TABLE: Final[Mapping[str, Any]] = MappingProxyType({})


class Impl(NamedTuple):
    """One hook of one plugin object."""

    hook: str
    function: Callable[..., object]
    takes_argument: bool


class Loaded(NamedTuple):
    """A plugin ready to be called."""

    source: Source
    version: str
    impls: tuple[Impl, ...]
    configs: Configs[Any]
    instance: object


class Refused(NamedTuple):
    """A plugin that is not used, and why. `source` is None when there is no such plugin."""

    name: str
    source: Source | None
    problems: tuple[Problem, ...]


class PluginProblems(PluginError):
    """A plugin cannot be used; `problems` has every reason."""

    def __init__(self, source: Source, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source.name, "; ".join(problem.text for problem in self.problems), source.where)


def no_mark(plugin: str, step: str) -> None:
    """For callers without a watchdog."""


def load_enabled(
    catalogue: Catalogue,
    enabled: Iterable[str],
    tables: Mapping[str, Mapping[str, Any]],
    mark: Callable[[str, str], None] = no_mark,
    isolated: Mapping[str, Callable[[Source, Mapping[str, Any]], Callable[[], T]]] = MappingProxyType({}),
) -> tuple[list[Loaded | T], list[Refused]]:
    """Load the enabled plugins, in that order; one that cannot be used costs no other its place.

    Args: tables: `[plugins.<name>]` by name. A table for a plugin that is not enabled is not looked into, one for a
        plugin that does not exist is a problem. isolated: of plugins that are loaded somewhere else, what begins to do
        so and returns how to wait for it; all begin before any is waited for.
    """
    loading: list[tuple[str, Callable[[], Loaded | T]]] = []
    loaded: list[Loaded | T] = []
    refused: list[Refused] = []
    names = list(dict.fromkeys(enabled))

    def refuse(name: str, exc: PluginProblems) -> None:
        refused.append(Refused(name, exc.source if exc.source.where else None, exc.problems))

    for name in names:
        table = tables.get(name, NO_TABLE)
        try:
            source = _the_one(catalogue, name)
            begin = isolated.get(name)
            loading.append((name, begin(source, table) if begin else partial(load, source, table, mark)))
        except PluginProblems as exc:
            refuse(name, exc)
    for name, wait in loading:
        try:
            loaded.append(wait())
        except PluginProblems as exc:
            refuse(name, exc)
    for name in sorted({*tables, *isolated} - set(catalogue.names) - set(names)):
        key = f"plugins.{name}" if name in tables else "plugins.isolated"
        text = f"no plugin {'of this name' if name in tables else repr(escape_text(name, 60))}"
        problem = _setting(escape_text(name, 60), key, text + did_you_mean(name, catalogue.names))
        refused.append(Refused(name, None, (problem,)))
    return loaded, refused


def load(source: Source, table: Mapping[str, Any] = NO_TABLE, mark: Callable[[str, str], None] = no_mark) -> Loaded:
    """Load one plugin.

    Raises: PluginProblems with everything that is wrong with it.
    """
    mark(source.name, "import")
    plugin = _contained(source, "loading", lambda: _class_of(source))
    return build(source, plugin, table, mark)


def build(
    source: Source, plugin: object, table: Mapping[str, Any] = NO_TABLE, mark: Callable[[str, str], None] = no_mark
) -> Loaded:
    """Check a class, type its table and construct it.

    Raises: PluginProblems with everything that is wrong with it.
    """
    problems = _contained(source, "checking", lambda: check_plugin(source.name, source.path, plugin))
    if problems or not isinstance(plugin, type):
        raise PluginProblems(source, problems)
    mark(source.name, "Config")
    config_type: Any = getattr(plugin, "Config", None)
    configs, problems = _contained(source, "Config", lambda: build_configs(source.name, config_type, table))
    if configs is None:
        raise PluginProblems(source, problems)
    mark(source.name, "__init__")
    instance = _contained(source, "__init__", lambda: plugin(configs))
    impls = _contained(source, "registering", lambda: _register(source.name, instance))
    version = vars(plugin).get("version")
    text = version if isinstance(version, str) and version else source.version
    return Loaded(source, escape_text(text, 40), impls, configs, instance)


def _the_one(catalogue: Catalogue, name: str) -> Source:
    """The one source of that name. Raises: PluginProblems when there is none, or more than one."""
    sources = catalogue.named(name)
    if len(sources) == 1:
        return sources[0]
    if not sources:
        shown = escape_text(name, 60)
        text = name_fault(name) or f"no plugin {shown!r}{did_you_mean(name, catalogue.names)}"
        raise PluginProblems(Source(name=shown, origin=Origin.FOLDER), [_setting(shown, "plugins.enabled", text)])
    places = ", ".join(escape_text(source.where, 1000) for source in sources)
    problem = Problem(plugin=name, text=f"there are {len(sources)} plugins of this name, none is used: {places}")
    raise PluginProblems(sources[0], [problem])


def _class_of(source: Source) -> object:
    """What the source calls its Plugin; None when it has none."""
    if source.path:
        return _run_file(source).get("Plugin")
    from importlib.metadata import EntryPoint  # only for plugins that came from one

    thing = EntryPoint(source.name, source.entry_point, "").load()
    return thing if isinstance(thing, type) else getattr(thing, "Plugin", None)


def _run_file(source: Source) -> dict[str, Any]:
    """Run a plugin file as a module of a private name; sys.path stays as it is and no cached bytecode is read."""
    name = MODULE_PREFIX + source.name
    spec = spec_from_file_location(name, source.path)
    if spec is None:
        raise ImportError(f"{source.path} is no Python file")
    module = module_from_spec(spec)
    code = compile(_read(source), source.path, "exec", dont_inherit=True)
    sys.modules[name] = module  # annotations of its classes are looked up there
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module.__dict__


def _read(source: Source) -> bytes:
    """The file's text. What is judged is what is read: the permissions are those of the open file.

    Raises: PluginProblems when others could have written it; OSError.
    """
    path = Path(source.path)
    trusted = source.origin in (Origin.BUNDLED, Origin.TEST)
    with path.open("rb") as file:
        fault = "" if trusted else access_fault(path) or mode_fault(path, os.fstat(file.fileno()))
        if fault:
            problem = Problem(plugin=source.name, text=escape_text(fault, 1000), path=source.path)
            raise PluginProblems(source, [problem])
        return file.read()


def _register(name: str, instance: object) -> tuple[Impl, ...]:
    """Have pluggy bind the hooks, in the order of the specs.

    Each plugin gets a manager of its own: pluggy compares a new plugin with those it has, which would run code of one
    plugin (`__eq__`) on account of another.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    manager.register(instance, name)
    manager.check_pending()
    bound = ((hook, impl) for hook in HOOKS for impl in getattr(manager.hook, hook).get_hookimpls())
    return tuple(Impl(hook, impl.function, bool(impl.argnames)) for hook, impl in bound)


def _contained(source: Source, step: str, run: Callable[[], T]) -> T:
    """Run code of a plugin. Raises: PluginProblems for whatever it raises."""
    try:
        return run()
    except PluginProblems:
        raise
    except BaseException as exc:
        if passes(exc):
            raise
        text = f"{step} failed: {describe_error(exc)}"
        line = error_line(exc, source.path)
        raise PluginProblems(source, [Problem(plugin=source.name, text=text, path=source.path, line=line)]) from exc


def _setting(plugin: str, key: str, text: str) -> Problem:
    return Problem(plugin=plugin, kind=ProblemKind.SETTINGS, key=key, text=text)
