"""The effective settings as people, or other programs, read them: nothing secret, nothing a terminal would obey."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.config.origin import BUILT_IN, Origin, Source
from orderflow.config.problems import mask_address, value_text
from orderflow.config.secrets import MASK, Secret
from orderflow.core.text import escape_text
from orderflow.hooks.configs import is_sensitive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orderflow.config.load import Loaded

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST: Final = 10_000  # most characters of a value shown

Path = tuple[str, ...]


def render(loaded: Loaded, *, origin: bool = False, as_json: bool = False) -> str:
    """The effective settings: TOML that a settings.toml could hold below `[default]`, or one JSON object.

    Args: origin: say of every value where it came from.
    Returns: text without a final line break. Secrets, whatever `.secrets.toml` says, and what looks like a secret in a
        plugin's table are `***`.
    """
    tree = _shown_tree(loaded)
    return _as_json(loaded, tree, origin=origin) if as_json else _as_toml(loaded, tree, origin=origin)


def render_check(loaded: Loaded) -> str:
    """What `config check` says when all is well: the environment, what was read, and the warnings."""
    read = ", ".join(escape_text(name, limit=300) for name in loaded.files)
    lines = [f"OK: environment {loaded.settings.env}; read {read}"]
    return "\n".join(lines + [f"warning: {warning}" for warning in loaded.warnings])


def _as_json(loaded: Loaded, tree: dict[str, Any], *, origin: bool) -> str:
    document: dict[str, Any] = {
        "settings": tree,
        "files": [escape_text(name, limit=300) for name in loaded.files],
        "warnings": list(loaded.warnings),
    }
    if origin:
        document["origins"] = {escape_text(key): _origin_facts(one) for key, one in loaded.origins.items()}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _origin_facts(origin: Origin) -> dict[str, Any]:
    return {
        "source": origin.source,
        "name": escape_text(origin.name, limit=300),
        "line": origin.line,
        "environment": escape_text(origin.table),
    }


def _as_toml(loaded: Loaded, tree: dict[str, Any], *, origin: bool) -> str:
    entries = list(_entries(tree, ()))
    entries.sort(key=lambda entry: entry[0][:-1] != ())  # plain settings before the tables, else as in the tree
    lines: list[str] = []
    table: Path = ()
    for path, text in entries:
        if _table_of(path) != table:
            table = _table_of(path)
            lines += ["", f"[{_dotted(table)}]"]
        line = f"{_dotted(path[len(table) :])} = {text}"
        where = loaded.origins.get(".".join(path), BUILT_IN)
        lines.append(f"{line:<60}  # {where}" if origin else line)
    return "\n".join(lines)


def _table_of(path: Path) -> Path:
    """The header a setting stands under: `[feed]`, `[plugins]`, `[plugins.spread]`; deeper keys are dotted."""
    return path[: min(len(path) - 1, 2)]


def _entries(tree: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    """Leaves with their value as text; of every table the plain ones first, as TOML wants it."""
    for key, value in sorted(tree.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict) and value:
            yield from _entries(value, (*path, key))
        elif value is None:
            yield (*path, key), '""'
        else:
            yield (*path, key), _toml(value)


def _toml(value: Any) -> str:
    """A value that was made fit to be seen, as TOML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_dotted((key,))} = {_toml(item)}' for key, item in value.items())}}}"
    return value_text(value)


def _dotted(path: Path) -> str:
    return ".".join(key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in path)


def _shown_tree(loaded: Loaded) -> dict[str, Any]:
    """The settings as plain data fit to be seen; plugin tables stand under `plugins`, as in a file."""
    tree: dict[str, Any] = _shown(msgspec.structs.asdict(loaded.settings), (), loaded.origins)
    return tree


def _shown(value: Any, path: Path, origins: Mapping[str, Origin]) -> Any:
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        if path == ("plugins",):
            value = {**value, **value["tables"]}
            del value["tables"]
        return {escape_text(key): _shown(item, (*path, key), origins) for key, item in value.items()}
    if value is None:
        return None
    if isinstance(value, Secret) or origins.get(".".join(path), BUILT_IN).source is Source.SECRETS:
        return MASK
    return _shown_free(value, path[-1]) if _is_plugins_own(path) else _shown_plain(value)


def _shown_plain(value: Any) -> Any:
    if isinstance(value, str):
        return escape_text(mask_address(str(value)), _LONGEST)
    if isinstance(value, tuple | list):
        return [_shown_plain(item) for item in value]
    return value


def _shown_free(value: Any, key: str) -> Any:
    """A value of a plugin's own table: what it means only the plugin knows, so more is masked than need be."""
    if is_sensitive(key):
        return MASK
    if isinstance(value, str):
        return escape_text(mask_address(value, path=True), _LONGEST)
    if isinstance(value, list):
        return [_shown_free(item, key) for item in value]
    if isinstance(value, dict):
        return {escape_text(name): _shown_free(item, name) for name, item in value.items()}
    return value


def _is_plugins_own(path: Path) -> bool:
    return len(path) > 2 and path[0] == "plugins"
