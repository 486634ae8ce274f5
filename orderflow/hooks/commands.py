"""`orderflow plugins list|new|check` as functions: data in, data out. Printing is the command line's."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.errors import ConfigError
from orderflow.core.text import counted, escape_text
from orderflow.hooks import samples, templates
from orderflow.hooks.discovery import Origin, Source, access_fault, discover, name_fault
from orderflow.hooks.host import PluginHost
from orderflow.hooks.loading import NO_TABLE, PluginProblems, load
from orderflow.hooks.problems import Problem, ProblemKind
from orderflow.hooks.records import PluginState, PluginStatistics
from orderflow.hooks.setup import limits_of, load_isolated, set_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.hooks.setup import PluginChoice

DEFAULT_FOLDER: Final = "my_plugins"


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Every plugin: enabled ones in the order they are called, then those that could be enabled."""

    plugins: tuple[PluginStatistics, ...]
    problems: tuple[Problem, ...]


class NewPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. `notes`: what stands in the way of using it, with the fix."""

    name: str
    plugin: str
    test: str
    folder: str
    notes: tuple[str, ...] = ()


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin after its check. `warnings` do not make it fail."""

    name: str
    where: str
    hooks: tuple[str, ...] = ()
    alerts: int = 0
    mean_ms: float | None = None
    max_ms: float | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """All plugins checked, and problems that belong to none of them."""

    plugins: tuple[Checked, ...]
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the command should exit with 0."""
        return not self.problems and not any(plugin.problems for plugin in self.plugins)


# --- list ------------------------------------------------------------------------------------------------------------


def list_plugins(choice: PluginChoice, bundled: Path | None) -> Listing:
    """Load what is enabled, name what else there is: a plugin that is not enabled is not run, so less is known."""
    found = set_up(choice, bundled)
    found.host.close()
    loaded = found.host.statistics().plugins
    known = {plugin.name for plugin in loaded}
    available = [
        PluginStatistics(
            name=source.name,
            version=escape_text(source.version, 40),
            where=escape_text(source.where, 1000),
            origin=source.origin,
            hooks=(),
            state=PluginState.AVAILABLE,
        )
        for source in found.catalogue.sources
        if source.name not in known
    ]
    return Listing(plugins=(*loaded, *available), problems=found.problems)


def format_list(listing: Listing) -> str:
    """The listing as text for a terminal."""
    rows = [("name", "version", "state", "hooks", "failures", "mean", "file")]
    for plugin in listing.plugins:
        mean = "-" if plugin.mean_ms is None else f"{plugin.mean_ms:.3f} ms"
        hooks = ", ".join(hook.removeprefix("orderflow_") for hook in plugin.hooks) or "-"
        failures = str(plugin.failures)
        state = f"{plugin.state}, isolated" if plugin.isolated else str(plugin.state)
        rows.append((plugin.name, plugin.version or "-", state, hooks, failures, mean, plugin.where))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row, config in zip(rows, ({}, *(plugin.config for plugin in listing.plugins)), strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join((*cells, row[-1])).rstrip())
        if config:
            lines.append(f"    {_settings_text(config)}")
    lines += [f"problem: {problem}" for problem in listing.problems]
    return "\n".join(lines)


def _settings_text(config: dict[str, Any]) -> str:
    """`raise_above=0.8 for_s=0.0 ...`, overrides last."""
    return escape_text(" ".join(f"{key}={value}" for key, value in config.items() if value is not None), 1000)


# --- new -------------------------------------------------------------------------------------------------------------


def new_plugin(name: str, folder: Path | str = DEFAULT_FOLDER, taken: Iterable[str] = ()) -> NewPlugin:
    """Write a working plugin and its tests. Nothing that exists is overwritten.

    Args: taken: names that other plugins have.
    Raises: ConfigError for a name that cannot be used, a file that exists, a folder that cannot be written to.
    """
    fault = name_fault(name) or (f"there is a plugin {name!r} already" if name in set(taken) else "")
    if fault:
        raise ConfigError(f"plugins new: {fault}")
    shown = escape_text(str(folder), 1000)
    if not str(folder).strip():
        raise ConfigError("plugins new: --folder: got an empty name, expected a folder")
    into = Path(folder).expanduser()
    plugin, test = into / f"{name}.py", into / f"test_{name}.py"
    fields = {"name": name, "title": name.replace("_", " ").capitalize(), "test": test}
    try:
        into.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (plugin, test):
            if path.exists():
                raise ConfigError(f"plugins new: {escape_text(str(path), 1000)} exists and is left as it is")
        _write(plugin, templates.PLUGIN.substitute(fields))
        _write(test, templates.TEST.substitute(fields))
    except OSError as exc:
        reason = "it is a file" if isinstance(exc, FileExistsError) else _lower(exc.strerror or "it cannot be had")
        raise ConfigError(f"plugins new: {shown} cannot be written to: {reason}; give another --folder") from exc
    note = access_fault(into) or access_fault(plugin)
    return NewPlugin(name=name, plugin=str(plugin), test=str(test), folder=str(into), notes=(note,) if note else ())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _write(path: Path, text: str) -> None:
    """Create `path`, writable by its owner alone whatever the umask. Raises: FileExistsError, OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)


def format_new(new: NewPlugin, enabled: Sequence[str]) -> str:
    """What was written and how to go on."""
    names = ", ".join(f'"{name}"' for name in (*enabled, new.name))
    lines = [
        f"wrote {new.plugin}",
        f"wrote {new.test}",
        *(f"note: {note}" for note in new.notes),
        f"check it:   orderflow plugins check {new.plugin}",
        f"test it:    pytest {new.test}",
        "enable it, in settings.toml:",
        "    [default.plugins]",
        f"    enabled = [{names}]",
        f'    folders = ["{Path(new.folder).resolve()}"]',
    ]
    return "\n".join(escape_text(line, 1000) for line in lines)


# --- check -----------------------------------------------------------------------------------------------------------


def check_plugins(choice: PluginChoice, bundled: Path | None, paths: Sequence[Path | str] = ()) -> CheckReport:
    """Load each plugin, check it and run every hook of it on made-up values.

    Args: paths: files or folders to check; none: everything that can be found, and the settings of [plugins].
    """
    problems: list[str] = []
    if paths:
        sources = tuple(source for path in paths for source in _sources_at(Path(path), problems))
    else:
        sources = discover(bundled, choice.folders, choice.entry_points).sources
        found = set_up(choice, bundled)
        found.host.close()
        places = {source.where for source in sources}
        problems += [str(one) for one in found.problems if one.kind is ProblemKind.SETTINGS or one.path not in places]
        problems += _duplicates(sources, choice.enabled)
    return CheckReport(plugins=tuple(_check(source, choice) for source in sources), problems=tuple(problems))


def _sources_at(path: Path, problems: list[str]) -> Iterable[Source]:
    if path.is_dir():
        catalogue = discover(None, [path], entry_points=False)
        problems += [str(problem) for problem in catalogue.problems]
        return catalogue.sources
    fault = name_fault(path.stem) if path.suffix == ".py" and path.is_file() else "no such plugin file or folder"
    if fault:
        problems.append(f"{escape_text(str(path), 1000)}: {fault}")
        return ()
    return (Source(name=path.stem, origin=Origin.FOLDER, path=str(path.resolve())),)


def _duplicates(sources: Iterable[Source], enabled: Sequence[str]) -> list[str]:
    """Names found more than once; the enabled ones among them were reported while loading."""
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1} - set(enabled))
    return [f"there are {names.count(name)} plugins named {name!r}; neither could be enabled" for name in twice]


def _check(source: Source, choice: PluginChoice) -> Checked:
    where = escape_text(source.where, 1000)
    host = PluginHost(limits_of(choice))
    try:
        if source.name in choice.isolated:
            host.add_isolated(*load_isolated(choice, source))
        else:
            host.add(load(source, choice.tables.get(source.name, NO_TABLE)))
    except PluginProblems as exc:
        return Checked(name=source.name, where=where, problems=tuple(map(str, exc.problems)))
    with closing(host):
        _exercise(host)
    result = host.statistics().plugins[0]
    problems = []
    if result.state is PluginState.DISABLED:
        problems.append(f"it would be disabled: {result.last_error}")
    elif result.failures:
        problems.append(f"{result.failures} of {counted(result.calls, 'call')} failed, last: {result.last_error}")
    slow = counted(result.over_budget, "call")
    warnings = [f"{slow} took longer than {choice.budget_ms:g} ms"] if result.over_budget else []
    return Checked(
        name=source.name,
        where=where,
        hooks=result.hooks,
        alerts=result.alerts,
        mean_ms=result.mean_ms,
        max_ms=result.max_ms,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _exercise(host: PluginHost) -> None:
    """Every hook, in the order of a run."""
    host.start(samples.sample_start())
    for tick in samples.sample_ticks():
        host.tick(tick)
    for change in samples.sample_changes():
        host.feed_change(change)
    host.private(samples.sample_private())
    host.stop(samples.sample_summary())


def format_check(report: CheckReport) -> str:
    """The report as text for a terminal, one plugin per line, its problems below it."""
    lines: list[str] = []
    for plugin in report.plugins:
        verdict = "FAIL" if plugin.problems else "ok"
        mean = "" if plugin.mean_ms is None else f", {counted(plugin.alerts, 'alert')}, {plugin.mean_ms:.3f} ms a call"
        lines.append(f"{verdict:<4}  {plugin.name}  {plugin.where}{mean}")
        lines += [f"      {text}" for text in plugin.problems]
        lines += [f"      warning: {text}" for text in plugin.warnings]
    lines += [f"FAIL  {text}" for text in report.problems]
    return "\n".join(lines) or "no plugins found"
