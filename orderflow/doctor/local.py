"""Checks that need no network."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
from importlib import metadata
from typing import TYPE_CHECKING, Final

import trio

from orderflow import bundled
from orderflow.core.text import escape_text
from orderflow.doctor.findings import Blame, Check, failed, passed, warned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.config.load import Loaded
    from orderflow.config.tree import PluginSettings
    from orderflow.hooks.discovery import Source

DISTRIBUTION: Final = "bybit-orderflow"
OLDEST_PYTHON: Final = (3, 11)
LITTLE_BYTES: Final = 200 * 1024 * 1024
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:>=([0-9.]+))?\Z")


# --- settings -----------------------------------------------------------------------------------------------------


async def check_settings(loaded: Loaded | None, problems: Sequence[str]) -> list[Check]:
    """Args: loaded: None when the settings have `problems`."""
    if loaded is None:
        fix = "mend it where the line says; docs/configuration.md has every setting"
        return [failed("settings", problem, fix, Blame.SETTINGS) for problem in problems]
    settings = loaded.settings
    names = ", ".join(str(instrument) for instrument in settings.instruments[:5])
    more = len(settings.instruments) - 5
    watched = f"{names} and {more} more" if more > 0 else names
    summary = f"environment {settings.env}, {watched}, depth {settings.depth}; read {', '.join(loaded.files)}"
    return [passed("settings", summary), *(_settings_warning(text) for text in loaded.warnings)]


def _settings_warning(text: str) -> Check:
    """Warnings of the loader end in the command that helps, if there is one."""
    finding, _, command = text.partition("; run: ")
    return warned("settings", finding, command or "see `orderflow config show --origin`")


# --- the program --------------------------------------------------------------------------------------------------


async def check_python() -> list[Check]:
    version = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    if sys.version_info < OLDEST_PYTHON:
        return [failed("python", version, "use Python 3.11 or later", Blame.SETTINGS)]
    return [passed("python", version)]


async def check_packages() -> list[Check]:
    """The packages this program needs, against the oldest versions it works with."""
    checks = [check for text in _requirements() if (check := _check_requirement(text)) is not None]
    return checks or [passed("packages", ", ".join(_versions()))]


def _versions() -> list[str]:
    names = [match[1] for text in _requirements() if (match := _REQUIREMENT.match(text))]
    return [f"{name} {metadata.version(name)}" for name in names]


def _requirements() -> list[str]:
    """`name>=version` lines: of the installed distribution, in a bare clone of its pyproject.toml."""
    try:
        lines: Iterable[str] = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:
        pyproject = bundled.settings_file().parent / "pyproject.toml"
        lines = tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"]
    return [line for line in lines if "extra ==" not in line]


def _check_requirement(text: str) -> Check | None:
    """None: met."""
    match = _REQUIREMENT.match(text)
    if match is None:
        return warned("packages", f"cannot tell whether {text} is met", "pip check")
    name, oldest = match[1], match[2] or "0"
    fix = f"pip install --upgrade '{text}'"
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return failed("packages", f"{name} is not installed", fix, Blame.SETTINGS)
    if _numbers(installed) < _numbers(oldest):
        return failed("packages", f"{name} {installed} is older than {oldest}", fix, Blame.SETTINGS)
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers a version begins with: 0.12.2.dev1 -> (0, 12, 2)."""
    leading = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in leading[0].split(".")] if leading else []
    while numbers and numbers[-1] == 0:  # 1.5.0 is 1.5
        numbers.pop()
    return tuple(numbers)


# --- where it writes ----------------------------------------------------------------------------------------------


async def check_output(emoji: str) -> list[Check]:
    """What standard output can show; `sys.__stdout__`, for the checks run with it redirected."""
    from orderflow.ui.ability import can_show, is_utf8
    from orderflow.ui.line import choose_look

    stream = sys.__stdout__
    if stream is None or stream.closed:
        return [warned("output", "standard output is closed: ticks go nowhere", "do not start it with >&-")]
    encoding = stream.encoding or "no encoding"
    if not stream.isatty():
        return [passed("output", f"no terminal: plain lines, {encoding}")]
    size = os.get_terminal_size(stream.fileno())
    shape = f"terminal of {size.columns}x{size.lines}, {encoding}"
    if not is_utf8(stream.encoding):
        return [warned("output", f"{shape}: no emoji and no live view", "set a UTF-8 locale, such as LANG=C.UTF-8")]
    look = choose_look(emoji, terminal=True, encoding=encoding, environ=os.environ, categories=False)
    if not can_show(stream.fileno(), encoding, os.environ):
        return [warned("output", f"{shape}: too small or too simple for the live view", "60x16 or more; TERM not dumb")]
    return [passed("output", f"{shape}, live view, {'' if look.emoji else 'no '}emoji")]


async def check_disk() -> list[Check]:
    """The working directory: where `--book-out`, `plugins new` and redirected output usually go."""
    try:
        here = os.getcwd()
        with tempfile.TemporaryFile(dir=here) as probe:
            probe.write(b"orderflow")
        free = shutil.disk_usage(here).free
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        return [
            warned("disk", f"the working directory cannot be written to: {reason}", "start it in a folder of yours")
        ]
    text = f"{free / 1e9:.1f} GB free in {here}"
    if free < LITTLE_BYTES:
        return [warned("disk", text, "make room: output and --book-out need some")]
    return [passed("disk", text)]


# --- plugins ------------------------------------------------------------------------------------------------------


async def check_plugins(choice: PluginSettings) -> list[Check]:
    """Loads what is enabled and calls it on sample ticks; in a thread, so that one that hangs is left behind."""
    return await trio.to_thread.run_sync(_check_plugins, choice, abandon_on_cancel=True)


def _check_plugins(choice: PluginSettings) -> list[Check]:
    from orderflow.hooks.records import PluginState
    from orderflow.hooks.setup import set_up

    setup = set_up(choice, bundled.plugins_folder())
    setup.host.close()
    fix = "mend it or take it out of plugins.enabled; `orderflow plugins check` says more"
    checks = [failed("plugins", str(problem), fix, Blame.SETTINGS) for problem in setup.problems]
    loaded = [plugin.name for plugin in setup.host.statistics().plugins if plugin.state is PluginState.ACTIVE]
    checks += _try(choice, [source for source in setup.catalogue.sources if source.name in loaded])
    if checks:
        return checks
    return [passed("plugins", f"{', '.join(loaded)}: loaded, called on sample ticks" if loaded else "none enabled")]


def _try(choice: PluginSettings, sources: Sequence[Source]) -> list[Check]:
    """Call every hook of the plugins that are files."""
    from orderflow.hooks.commands import check_plugins as try_plugins

    checks: list[Check] = []
    for report in try_plugins(choice, None, [source.path for source in sources if source.path]).plugins:
        where = f"{report.name} ({escape_text(report.where)})"
        fix = f"orderflow plugins check {report.where}"
        checks += [failed("plugins", f"{where}: {text}", fix, Blame.SETTINGS) for text in report.problems]
        checks += [warned("plugins", f"{where}: {text}", fix) for text in report.warnings]
    return checks
