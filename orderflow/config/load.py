"""Loading the settings: every listed source read, checked, layered and typed, or every problem at once."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from orderflow.config import cage, schema
from orderflow.config.cross import Cross
from orderflow.config.origin import BUILT_IN, Leaf, Origin, Source
from orderflow.config.problems import problem, suggest, value_text
from orderflow.config.schema import Kind
from orderflow.config.sources import ENV_VARIABLE, Gathered
from orderflow.config.tree import PluginSettings, Settings
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.config.origin import Tree

DEFAULT_ENVIRONMENT: Final = "mainnet"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run and how they came about.

    Args:
        origins: of every setting by dotted key, `plugins.<name>.<key>` included.
        warnings: what should be put right, one line each, safe to show.
        problems: what is wrong, likewise; a default stands in for each value refused.
        files: the files that were read, as shown to people, in order.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def where(self, key: str) -> str:
        """Where the setting of a dotted key (or the table it stands in) came from; "" when nobody set it."""
        path = key.replace('"', "").split(".")
        while path:
            found = next((origin for name, origin in self.origins.items() if name == ".".join(path)), None)
            if found is not None:
                return str(found)
            below = next((one for name, one in self.origins.items() if name.startswith(".".join(path) + ".")), None)
            if below is not None and len(path) > 2:
                return str(below)
            path.pop()
        return ""


def load(
    *,
    env: str | None = None,
    options: Mapping[str, Any] = _NOTHING,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    settings_file: Path | None = None,
) -> Loaded:
    """`read`, for those who can do nothing with wrong settings. Raises: ConfigError with every problem found."""
    loaded = read(env=env, options=options, environ=environ, directory=directory, settings_file=settings_file)
    if loaded.problems:
        raise ConfigError(*loaded.problems)
    return loaded


def read(
    *,
    env: str | None = None,
    options: Mapping[str, Any] = _NOTHING,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    settings_file: Path | None = None,
) -> Loaded:
    """Read all settings. Later wins: bundled settings.toml, ./settings.toml, ./.secrets.toml, ORDERFLOW_*, options.

    Args:
        env: the environment asked for on the command line; None: ORDERFLOW_ENV, else mainnet.
        options: dotted key -> value from the command line; text is read by the kind of the setting; None: not given.
        environ: the process environment (default: the real one).
        directory: where settings.toml and .secrets.toml are looked for (default: the working directory).
        settings_file: read in place of ./settings.toml; must exist.

    Returns: settings and problems; no text of a problem holds the value of a secret.
    """
    environ = os.environ if environ is None else environ
    gathered = Gathered(cage.dynaconf_tokens())
    chosen = _environment(env or options.get("env"), environ, gathered.problems)
    gathered.add_files(Path() if directory is None else directory, settings_file)  # a deleted one has no name
    gathered.add_variables(environ)
    gathered.add_options(options)
    origins: dict[str, Origin] = {}
    merged = cage.layer(gathered.documents, chosen.value)
    merged["env"] = chosen
    settings = _build(merged, origins)
    return Loaded(
        settings=settings,
        origins=origins,
        warnings=(*gathered.warnings, *_misplaced_secrets(origins)),
        files=tuple(gathered.files),
        problems=(*gathered.problems, *Cross(settings, origins, gathered.refused).problems()),
    )


def _environment(asked: object, environ: Mapping[str, str], problems: list[str]) -> Leaf:
    """The environment's name with its origin; an unknown one is a problem, and the default stands in for it."""
    if asked is not None:
        name, origin = str(asked), Origin(Source.OPTION, "--env")
    elif variable := environ.get(ENV_VARIABLE):
        name, origin = variable, Origin(Source.ENVIRONMENT, ENV_VARIABLE)
    else:
        return Leaf(DEFAULT_ENVIRONMENT, BUILT_IN)
    known = name.strip().lower().replace("-", "_")
    if known in schema.ENVIRONMENTS:
        return Leaf(known, origin)
    expected = f"expected {schema.settings()['env'].expected}{suggest(name, schema.ENVIRONMENTS)}"
    problems.append(problem(origin, "env", expected, value_text(name)))
    return Leaf(DEFAULT_ENVIRONMENT, origin)


def _build(tree: Tree, origins: dict[str, Origin]) -> Settings:
    """The frozen tree. Every leaf was checked and converted before, so this cannot fail; missing ones have defaults."""
    return cast("Settings", _struct(Settings, tree, (), origins))


def _struct(
    table: type[msgspec.Struct], tree: Tree, path: tuple[str, ...], origins: dict[str, Origin]
) -> msgspec.Struct:
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(table):
        here = (*path, field.name)
        node = tree.get(field.name)
        if table is PluginSettings and field.name == "tables":
            values["tables"] = _plugin_tables(tree, origins)
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            values[field.name] = _struct(field.type, node or {}, here, origins)
        elif isinstance(node, Leaf):
            values[field.name] = node.value
            origins[".".join(here)] = node.origin
        else:
            origins[".".join(here)] = BUILT_IN
    return table(**values)


def _plugin_tables(tree: Tree, origins: dict[str, Origin]) -> dict[str, Tree]:
    """`[plugins.<name>]` as plain data."""
    names = [name for name in tree if schema.is_plugin_table((schema.PLUGINS, name))]
    return {name: _plain(tree[name], (schema.PLUGINS, name), origins) for name in names}


def _plain(node: Leaf | Tree, path: tuple[str, ...], origins: dict[str, Origin]) -> Any:
    if isinstance(node, Leaf):
        origins[".".join(path)] = node.origin
        return node.value
    return {key: _plain(value, (*path, key), origins) for key, value in node.items()}


def _misplaced_secrets(origins: Mapping[str, Origin]) -> list[str]:
    """Warnings about secrets that stand in a file people share."""
    keys = [key for key, setting in schema.settings().items() if setting.kind is Kind.SECRET]
    misplaced = [key for key in keys if origins[key].source in (Source.BUNDLED, Source.FILE)]
    return [f"{origins[key]}: {key} belongs in .secrets.toml, which git ignores" for key in misplaced]
