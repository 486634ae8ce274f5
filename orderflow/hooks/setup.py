"""From `[plugins]` in the settings to a host with its plugins in place: what the program, and nothing else, calls."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from orderflow.core.errors import ConfigError
from orderflow.hooks.contain import Limits
from orderflow.hooks.discovery import discover
from orderflow.hooks.host import PluginHost
from orderflow.hooks.loading import NO_TABLE, Loaded, PluginProblems, load_enabled
from orderflow.hooks.printed import prints_logged
from orderflow.hooks.problems import Problem, ProblemKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from orderflow.hooks.discovery import Catalogue, Source
    from orderflow.hooks.isolate import Isolate
    from orderflow.hooks.wire import Ready

T = TypeVar("T")

log = logging.getLogger(__name__)


class PluginChoice(Protocol):
    """What the host needs of the settings; `config.tree.PluginSettings` is one."""

    @property
    def enabled(self) -> Sequence[str]: ...
    @property
    def folders(self) -> Sequence[str]: ...
    @property
    def entry_points(self) -> bool: ...
    @property
    def max_failures(self) -> int: ...
    @property
    def budget_ms(self) -> float: ...
    @property
    def disable_over_ms(self) -> float: ...
    @property
    def max_alerts_per_call(self) -> int: ...
    @property
    def isolated(self) -> Sequence[str]: ...
    @property
    def isolated_start_s(self) -> float: ...
    @property
    def isolated_answer_s(self) -> float: ...
    @property
    def isolated_restarts(self) -> int: ...
    @property
    def isolated_memory_mb(self) -> int: ...
    @property
    def tables(self) -> Mapping[str, Mapping[str, Any]]: ...


class Setup(NamedTuple):
    """A host, what was found, and what was wrong. Problems of kind `settings` should stop start-up, others need not."""

    host: PluginHost
    catalogue: Catalogue
    problems: tuple[Problem, ...]

    def check_settings(self) -> None:
        """Raises: ConfigError with every problem that the user's settings have (exit code 2)."""
        wrong = [str(problem) for problem in self.problems if problem.kind is ProblemKind.SETTINGS]
        if wrong:
            raise ConfigError(*wrong)


def set_up(
    choice: PluginChoice,
    bundled: Path | None,
    clock: Callable[[], float] = time.perf_counter,
    watch: Callable[[PluginHost], None] = lambda host: None,
) -> Setup:
    """Find, load and add the enabled plugins. Raises nothing on account of a plugin.

    Args: bundled: the folder of the bundled plugins; clock: monotonic seconds; watch: given the host before any plugin
        is loaded, because loading one may hang.
    """
    host = PluginHost(limits_of(choice), clock)
    watch(host)
    catalogue = discover(bundled, choice.folders, choice.entry_points)
    apart = {name: partial(_begin_isolated, choice) for name in choice.isolated}
    with host.marking() as mark, prints_logged():
        loaded, refused = load_enabled(catalogue, choice.enabled, choice.tables, mark, apart)
    for plugin in loaded:
        if isinstance(plugin, Loaded):
            host.add(plugin)
        else:
            host.add_isolated(*plugin)
    for plugin_not in refused:
        host.refuse(plugin_not)
    problems = (*catalogue.problems, *(problem for one in refused for problem in one.problems))
    return Setup(host, catalogue, problems)


def load_isolated(choice: PluginChoice, source: Source) -> tuple[Isolate, Ready]:
    """Load one plugin in a process of its own. Raises: PluginProblems."""
    return _begin_isolated(choice, source, choice.tables.get(source.name, NO_TABLE))()


def _begin_isolated(
    choice: PluginChoice, source: Source, table: Mapping[str, Any]
) -> Callable[[], tuple[Isolate, Ready]]:
    """Start the process of an isolated plugin. Returns: what waits until it is loaded. Both raise PluginProblems."""
    from orderflow.hooks.isolate import Isolate, Isolation  # only for those who isolate
    from orderflow.hooks.process import Died

    policy = Isolation(
        start_s=choice.isolated_start_s,
        answer_s=choice.isolated_answer_s,
        restarts=choice.isolated_restarts,
        memory_mb=choice.isolated_memory_mb,
    )
    isolate = Isolate(source, table, policy, choice.max_alerts_per_call)

    def tried(step: Callable[[], T]) -> T:
        try:
            return step()
        except Died as death:
            text = " | ".join((f"loading failed: {death.what}", *death.lines))
            raise PluginProblems(source, [Problem(plugin=source.name, text=text, path=source.path)]) from None

    tried(isolate.launch)
    tried(isolate.begin_loading)
    return lambda: (isolate, tried(isolate.wait_ready))


def limits_of(choice: PluginChoice) -> Limits:
    """The limits the settings give plugins."""
    return Limits(
        max_failures=choice.max_failures,
        budget_ms=choice.budget_ms,
        disable_over_ms=choice.disable_over_ms,
        max_alerts_per_call=choice.max_alerts_per_call,
    )


def log_problems(problems: Sequence[Problem]) -> None:
    """Say once what is wrong with plugins that are not used."""
    for problem in problems:
        log.error("%s", problem)
