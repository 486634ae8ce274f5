"""From `[plugins]` in the settings to a host with its plugins in place: what the program, and nothing else, calls."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from orderflow.core.errors import ConfigError
from orderflow.hooks.contain import Limits
from orderflow.hooks.discovery import discover
from orderflow.hooks.host import PluginHost
from orderflow.hooks.loading import load_enabled
from orderflow.hooks.problems import ProblemKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from orderflow.hooks.discovery import Catalogue
    from orderflow.hooks.problems import Problem

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
    with host.marking() as mark:
        loaded, refused = load_enabled(catalogue, choice.enabled, choice.tables, mark)
    for plugin in loaded:
        host.add(plugin)
    for plugin_not in refused:
        host.refuse(plugin_not)
    problems = (*catalogue.problems, *(problem for one in refused for problem in one.problems))
    return Setup(host, catalogue, problems)


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
