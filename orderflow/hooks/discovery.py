"""Where plugins come from: the bundled folder, folders named in the settings, entry points. Nothing is imported here.

The bundled folder is as trusted as the program it came with. A folder of the user's is code that will run with the
user's rights, so nobody else may be able to write to it, to the file, or to a place either could be swapped from.
"""

from __future__ import annotations

import enum
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.text import escape_text
from orderflow.hooks.problems import Problem, ProblemKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ENTRY_POINTS: Final = "orderflow.plugins"

RESERVED: Final = frozenset(
    (
        "enabled",
        "folders",
        "entry_points",
        "max_failures",
        "budget_ms",
        "disable_over_ms",
        "max_alerts_per_call",
        "isolated",
        "isolated_start_s",
        "isolated_answer_s",
        "isolated_restarts",
        "isolated_memory_mb",
        "tables",
    )
)
"""Settings of [plugins] itself: no plugin can have its table there."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Origin(enum.StrEnum):
    BUNDLED = "bundled"
    FOLDER = "folder"
    ENTRY_POINT = "entry_point"
    TEST = "test"  # given to a PluginHarness by its author: not asked who else may write to it


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin that could be loaded: either `path`, its file, or `entry_point`, `package.module:Plugin`, is set."""

    name: str
    origin: Origin
    path: str = ""
    entry_point: str = ""
    version: str = ""  # of the distribution an entry point belongs to

    @property
    def where(self) -> str:
        """The file or the entry point, for people."""
        return self.path or self.entry_point


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found, in order of discovery, and what was wrong with the places looked at."""

    sources: tuple[Source, ...]
    problems: tuple[Problem, ...]

    def named(self, name: str) -> tuple[Source, ...]:
        """The sources of that name; more than one is a duplicate."""
        return tuple(source for source in self.sources if source.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name once, in order of discovery."""
        return tuple(dict.fromkeys(source.name for source in self.sources))


def name_fault(name: str) -> str:
    """Why `name` cannot be a plugin's; empty when it can."""
    if _NAME.fullmatch(name) is None:
        return f"{escape_text(name, 60)!r} is no plugin name; expected 1-40 of a-z, 0-9 and _, beginning with a letter"
    if name in RESERVED:
        return f"{name!r} is a setting of [plugins] and cannot be a plugin's name"
    if name.startswith("test_") or name == "conftest":
        return f"{name!r} is a name of test files and cannot be a plugin's"
    return ""


def discover(bundled: Path | None, folders: Sequence[str | Path], entry_points: bool) -> Catalogue:
    """Look in all places. A folder that cannot be read or that others may write to gives a problem and no sources."""
    sources: list[Source] = []
    problems: list[Problem] = []
    if bundled is not None:
        sources += _in_folder(bundled, Origin.BUNDLED)
    for given in folders:
        fault = _folder_fault(given)
        if fault:
            text = escape_text(fault, 1000)
            problems.append(Problem(plugin="", kind=ProblemKind.SETTINGS, key="plugins.folders", text=text))
        else:
            sources += _in_folder(Path(given).expanduser().resolve(), Origin.FOLDER)
    if entry_points:
        sources += _from_entry_points()
    once: dict[str, Source] = {}
    for source in sources:
        once.setdefault(_identity(source), source)  # a file found twice is the one found first
    return Catalogue(sources=tuple(once.values()), problems=tuple(problems))


def _identity(source: Source) -> str:
    return os.path.realpath(source.path) if source.path else f"{source.name} = {source.entry_point}"


def _in_folder(folder: Path, origin: Origin) -> Iterable[Source]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".py")
    except OSError:
        return
    for path in files:
        if not name_fault(path.stem):
            yield Source(name=path.stem, origin=origin, path=str(path))


def _folder_fault(given: str | Path) -> str:
    if not str(given).strip():
        return "got an empty name, expected a folder"
    try:
        folder = Path(given).expanduser()
    except RuntimeError:
        return f"{given}: no such home folder"
    return access_fault(folder) if folder.is_dir() else f"{folder}: no such folder"


def _from_entry_points() -> list[Source]:
    from importlib.metadata import entry_points  # reads every installed distribution: only when asked for

    found = []
    for point in entry_points(group=ENTRY_POINTS):
        version = point.dist.version if point.dist is not None else ""
        found.append(Source(name=point.name, origin=Origin.ENTRY_POINT, entry_point=point.value, version=version))
    return sorted(found, key=lambda source: source.name)


# --- who may write ---------------------------------------------------------------------------------------------------


def access_fault(path: Path) -> str:
    """Why code at `path` (a file or a folder) cannot be trusted, with the command that mends it; empty when it can.

    The thing itself must belong to root or to us and be writable by its owner alone. Above it, nobody else may be able
    to put another one in its place: no folder that everybody may write to, unless it is sticky (as /tmp is).
    """
    try:
        real = path.resolve(strict=True)
        fault = mode_fault(real, real.stat())
        return fault or next(filter(None, map(_parent_fault, real.parents)), "")
    except (OSError, RuntimeError) as exc:  # RuntimeError: a loop of links, before Python 3.13
        return f"{path}: {getattr(exc, 'strerror', None) or exc}"


def mode_fault(path: Path, status: os.stat_result) -> str:
    """Why something with this owner and these permissions cannot be trusted; empty when it can."""
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user (uid {status.st_uid}); make it yours: chown {os.geteuid()} {path}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} is writable by others; run: chmod go-w {path}"
    return ""


def _parent_fault(folder: Path) -> str:
    status = folder.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"{folder} is writable by everybody; run: chmod o-w {folder}"
    return ""
