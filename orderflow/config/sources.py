"""Files, variables and options as layers of checked leaves, lowest precedence first."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow import bundled
from orderflow.config import schema
from orderflow.config.files import FileProblem, SettingsFile, insecure_reason, read_settings, readable_by_others
from orderflow.config.lines import line_of
from orderflow.config.origin import Document, Leaf, Origin, Source
from orderflow.config.problems import problem, suggest
from orderflow.config.scan import Scan, Unusable, unknown
from orderflow.config.schema import Kind
from orderflow.config.values import free_value, from_text
from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from orderflow.config.origin import Node, Tree

    Read = Callable[[Scan, tuple[str, ...], Any], Node | None]

SETTINGS_NAME: Final = "settings.toml"
SECRETS_NAME: Final = ".secrets.toml"
ENV_VARIABLE: Final = "ORDERFLOW_ENV"

OPTION_NAMES: Final = {
    "env": "--env",
    "symbols": "--symbol",
    "category": "--category",
    "depth": "--depth",
    "interval_s": "--interval",
    "duration_s": "--duration",
    "log_format": "--log-format",
    "log_level": "--log-level",
    "sim.seed": "--seed",
    "sim.host": "--host",
    "sim.port": "--port",
}
"""The settings that have an option of their own."""


class Place(msgspec.Struct, frozen=True):
    """One settings file to read."""

    source: Source
    path: Path
    name: str  # as shown to people
    required: bool


def places(directory: Path, settings_file: Path | None) -> Iterator[Place]:
    """The files that are read, in order. Nothing else ever is. Raises: ConfigError when the bundled one is missing."""
    own = bundled.settings_file()
    here = same_file(directory / SETTINGS_NAME, own)  # in a clone the two are one
    yield Place(Source.BUNDLED, own, SETTINGS_NAME if here else f"{SETTINGS_NAME} (bundled)", True)
    if settings_file is not None:
        yield Place(Source.FILE, directory / settings_file, str(settings_file), True)
    elif not here:
        yield Place(Source.FILE, directory / SETTINGS_NAME, SETTINGS_NAME, False)
    yield Place(Source.SECRETS, directory / SECRETS_NAME, SECRETS_NAME, False)


def same_file(one: Path, other: Path) -> bool:
    """Whether both exist and are one."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


class Gathered:
    """All layers of one load, with the problems and warnings found while reading them."""

    def __init__(self, tokens: frozenset[str]) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.documents: list[Document] = []
        self.refused: set[str] = set()  # dotted keys with a problem
        self.files: list[str] = []
        self._tokens = tokens

    def add_files(self, directory: Path, settings_file: Path | None) -> None:
        """Read every place; a file with a problem adds nothing."""
        try:
            for place in places(directory, settings_file):
                self._add_file(place)
        except ConfigError as exc:
            self.problems.extend(exc.problems)

    def add_variables(self, environ: Mapping[str, str]) -> None:
        """Every ORDERFLOW_* variable but the one that chooses the environment."""
        tree: Tree = {}
        for name in sorted(environ):
            if name.startswith(schema.PREFIX) and name != ENV_VARIABLE:
                path = tuple(name.removeprefix(schema.PREFIX).lower().split("__"))
                self._add_one(tree, path, Origin(Source.ENVIRONMENT, name), environ[name], _variable)
        self.documents.append(Document("environment", {"default": tree}))

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Values from the command line by dotted key; None: not given."""
        tree: Tree = {}
        for key, value in options.items():
            if value is not None and key != "env":
                path = tuple(key.lower().split("."))
                self._add_one(tree, path, Origin(Source.OPTION, option_name(key)), value, _option)
        self.documents.append(Document("command line", {"default": tree}))

    def _add_one(self, tree: Tree, path: tuple[str, ...], origin: Origin, value: Any, read: Read) -> None:
        """Hang what `read` makes of one variable or option into `tree`."""
        scan = Scan(self.problems, lambda _: origin, self._tokens)
        try:
            if (node := read(scan, path, value)) is not None:
                _graft(tree, path, node)
        except Unusable as why:
            scan.note(path, why)
        self.refused |= scan.refused

    def _add_file(self, place: Place) -> None:
        secret = place.source is Source.SECRETS
        try:
            file = read_settings(place.path, place.name, required=place.required, secret=secret)
        except FileProblem as exc:
            self.problems.append(str(exc))
            return
        if file is None:
            return
        self.files.append(place.name)
        self.documents.append(Document(place.name, dict(self._environment_tables(place.source, file))))
        if place.source is not Source.BUNDLED:
            self._warn_about(place, secret=secret)

    def _environment_tables(self, source: Source, file: SettingsFile) -> Iterator[tuple[str, Tree]]:
        seen: set[str] = set()
        for key, value in file.data.items():
            table = key.lower()
            origin = Origin(source, file.name, line_of((table,), file.lines))
            if reason := _not_an_environment(key, value):
                self.problems.append(problem(origin, key, reason))
            elif table in seen:
                self.problems.append(problem(origin, key, "expected this table once: case makes no difference"))
            else:
                seen.add(table)
                scan = Scan(self.problems, _origins_in(source, file, table), self._tokens, secret=file.secret)
                yield table, scan.table(value)
                self.refused |= scan.refused

    def _warn_about(self, place: Place, *, secret: bool) -> None:
        if secret and readable_by_others(place.path):
            fix = f"chmod 600 {shlex.quote(place.name)}"
            self.warnings.append(f"{escape_text(place.name)} can be read by others; run: {fix}")
        elif reason := insecure_reason(place.path):
            self.warnings.append(f"settings may not be yours alone: {reason}")


def _variable(scan: Scan, path: tuple[str, ...], text: str) -> Node | None:
    """What a variable sets; None: nothing. Raises: Unusable."""
    name = schema.variable_name(path)
    dotted = ".".join(path)
    if setting := schema.settings().get(dotted):
        if not text and setting.kind is not Kind.TEXT:
            return None  # an empty variable is one that is not set; only a text can be empty
        return scan.leaf(setting, path, from_text(setting, text))
    if dotted in schema.tables() or (schema.is_plugin_table(path) and len(path) == 2):
        raise Unusable(f"is a table; expected {name}__ and one of its keys")
    if schema.is_plugin_table(path):
        return scan.plugin_entry(path, free_value(text))
    known = [setting.variable for setting in schema.settings().values()]
    raise unknown(path, suggest(name, known))


def _option(scan: Scan, path: tuple[str, ...], value: Any) -> Node:
    """What an option sets. Raises: Unusable."""
    setting = schema.settings().get(".".join(path))
    if setting is None:
        if not schema.is_plugin_table(path) or len(path) == 2:
            raise unknown(path)
        return scan.plugin_entry(path, free_value(value) if isinstance(value, str) else value)
    if setting.kind is Kind.SECRET:
        raise Unusable(f"expected in {SECRETS_NAME} or {setting.variable}: everybody sees a command line")
    if isinstance(value, str):
        value = from_text(setting, value)
    return scan.leaf(setting, path, list(value) if isinstance(value, tuple) else value)


def _graft(tree: Tree, path: tuple[str, ...], node: Node) -> None:
    """Put `node` at `path`, making the tables on the way. Raises: Unusable when something else stands there."""
    for name in path[:-1]:
        branch = tree.setdefault(name, {})
        if isinstance(branch, Leaf):
            raise Unusable(f"expected no keys under {escape_text(name)}, which has a value itself")
        tree = branch
    if path[-1] in tree:
        raise Unusable("expected this key once, and as a value or as a table")
    tree[path[-1]] = node


def option_name(key: str) -> str:
    """The option that sets a key."""
    return OPTION_NAMES.get(key, "--set")


def _origins_in(source: Source, file: SettingsFile, table: str) -> Callable[[tuple[str, ...]], Origin]:
    shown = "" if table == "default" else table

    def origin(path: tuple[str, ...]) -> Origin:
        full = (table, *(part.lower() for part in path))
        return Origin(source, file.name, line_of(full, file.lines), shown)

    return origin


def _not_an_environment(key: str, value: Any) -> str | None:
    """Why a top-level entry of a file is no environment table."""
    name = key.lower()
    if name in ("default", *schema.ENVIRONMENTS):
        return None if isinstance(value, dict) else "expected a table"
    if name in schema.settings():
        return "expected in an environment's table: write [default] above it"
    if name in schema.tables():
        return f"expected in an environment's table: write [default.{name}]"
    kind = "environment" if isinstance(value, dict) else "setting outside of any environment's table"
    return f"unknown {kind}{suggest(key, ('default', *schema.ENVIRONMENTS))}"
