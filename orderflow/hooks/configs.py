"""A plugin's own settings: `[plugins.<name>]`, typed by its `Config`, with overrides per symbol.

    [plugins.spread]
    raise_above = 0.8

    [plugins.spread.symbols."spot:BTCUSDT"]     # or "BTCUSDT": that symbol in every category
    raise_above = 0.3

An override changes the keys it names and inherits the rest: from the table, then from `BTCUSDT`, then from
`spot:BTCUSDT`.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from orderflow.core.nearest import did_you_mean
from orderflow.core.text import escape_text
from orderflow.core.types import Category, InstrumentId, is_symbol, parse_instrument
from orderflow.hooks.problems import Problem, ProblemKind, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class PluginConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every plugin's `Config`: each field is a setting, its type is checked, its default is the default."""


C_co = TypeVar("C_co", bound=msgspec.Struct, covariant=True)

OVERRIDES: Final = "symbols"
MASK: Final = "***"
_SENSITIVE: Final = ("secret", "token", "password", "passphrase", "credential", "key", "webhook")


class Configs(Generic[C_co]):
    """What a plugin is configured with: `default`, and `of(instrument)` with the overrides of that symbol."""

    __slots__ = ("_overrides", "default")

    def __init__(self, default: C_co, overrides: Mapping[str, C_co] | None = None) -> None:
        self.default: Final = default
        self._overrides: Final = dict(overrides or {})

    def of(self, instrument: InstrumentId) -> C_co:
        """The config for one instrument: `spot:BTCUSDT` before `BTCUSDT` before the default."""
        overrides = self._overrides
        if not overrides:
            return self.default
        return overrides.get(str(instrument)) or overrides.get(instrument.symbol) or self.default

    def table(self) -> dict[str, Any]:
        """The effective settings as plain data, to show: values whose key sounds like a secret are masked."""
        shown = masked(msgspec.to_builtins(self.default))
        if self._overrides:
            shown[OVERRIDES] = {key: masked(msgspec.to_builtins(own)) for key, own in self._overrides.items()}
        return shown


def masked(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the values of keys that sound like secrets replaced by `***`, at any depth."""
    return {key: MASK if is_sensitive(str(key)) else _masked_value(value) for key, value in table.items()}


def _masked_value(value: Any) -> Any:
    if isinstance(value, dict):
        return masked(value)
    return type(value)(map(_masked_value, value)) if isinstance(value, (list, tuple)) else value


def is_sensitive(key: str) -> bool:
    """Whether a setting of this name must not be shown."""
    return any(word in key.lower() for word in _SENSITIVE)


def build_configs(
    plugin: str, config_type: type[msgspec.Struct], table: Mapping[str, Any]
) -> tuple[Configs[msgspec.Struct] | None, list[Problem]]:
    """Type a plugin's table.

    Returns: the configs, or None with every problem of the table at once, each with its full key path.
    """
    prefix = f"plugins.{plugin}"
    base = {key: value for key, value in table.items() if key != OVERRIDES}
    symbols, problems = _override_tables(plugin, f"{prefix}.{OVERRIDES}", table.get(OVERRIDES, {}))
    problems += _field_problems(plugin, config_type, base, prefix)
    problems += _missing(plugin, config_type, base, prefix)
    for symbol, own in symbols.items():
        problems += _field_problems(plugin, config_type, own, f'{prefix}.{OVERRIDES}."{symbol}"')
    if problems:
        return None, problems
    default = _whole(plugin, config_type, base, prefix, problems)
    overrides: dict[str, msgspec.Struct] = {}
    for symbol, own in symbols.items():
        merged = {**base, **symbols.get(symbol.partition(":")[2], {}), **own}
        config = _whole(plugin, config_type, merged, f'{prefix}.{OVERRIDES}."{symbol}"', problems)
        if config is not None:
            overrides[symbol] = config
    return (None if problems or default is None else Configs(default, overrides)), problems


def _override_tables(plugin: str, key: str, value: object) -> tuple[dict[str, Mapping[str, Any]], list[Problem]]:
    """Override tables by normal name (`BTCUSDT`, `spot:BTCUSDT`)."""
    if not isinstance(value, dict):
        return {}, [_setting(plugin, key, f"got {_shown(OVERRIDES, value)}, expected a table by symbol")]
    tables: dict[str, Mapping[str, Any]] = {}
    problems: list[Problem] = []
    for name, own in value.items():
        path = f'{key}."{name}"'
        try:
            symbol = _symbol_key(str(name))
        except ValueError as exc:
            problems.append(_setting(plugin, path, escape_text(str(exc))))
            continue
        if not isinstance(own, dict):
            problems.append(_setting(plugin, path, f"got {_shown(OVERRIDES, own)}, expected a table of settings"))
        elif symbol in tables:
            problems.append(_setting(plugin, path, f"{symbol} is given twice"))
        else:
            tables[symbol] = own
    return tables, problems


def _symbol_key(name: str) -> str:
    """`btcusdt` -> `BTCUSDT`, `Spot:btcusdt` -> `spot:BTCUSDT`. Raises: ValueError saying what was expected."""
    if ":" in name:
        return str(parse_instrument(name, Category.LINEAR))
    symbol = name.strip().upper()
    if not is_symbol(symbol):
        raise ValueError(f"{name!r}: expected a symbol such as BTCUSDT or spot:BTCUSDT")
    return symbol


def _field_problems(
    plugin: str, config_type: type[msgspec.Struct], table: Mapping[str, Any], prefix: str
) -> Iterator[Problem]:
    """Each key of the table on its own, so that one bad value does not hide the next."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(config_type)}
    for key, value in table.items():
        path = f"{prefix}.{key}"
        if key not in fields:
            yield _setting(plugin, path, f"unknown setting{did_you_mean(str(key), fields)}")
        elif not _finite(value):
            yield _setting(plugin, path, f"got {_shown(key, value)}, expected finite numbers")
        else:
            try:
                msgspec.convert(value, fields[key].type)
            except (msgspec.ValidationError, RecursionError) as exc:
                what, _, where = str(exc).partition(" - at `$")
                yield _setting(
                    plugin, path + where.rstrip("`"), f"got {_shown(key, value)}, {_expected(what, fields[key].type)}"
                )


def _missing(
    plugin: str, config_type: type[msgspec.Struct], table: Mapping[str, Any], prefix: str
) -> Iterator[Problem]:
    for field in msgspec.structs.fields(config_type):
        if field.required and field.encode_name not in table:
            yield _setting(plugin, f"{prefix}.{field.encode_name}", "missing; this plugin does not work without it")


def _whole(
    plugin: str, config_type: type[msgspec.Struct], table: Mapping[str, Any], key: str, problems: list[Problem]
) -> msgspec.Struct | None:
    """The table as a Config; what its own `__post_init__` refuses becomes a problem."""
    try:
        return msgspec.convert(table, config_type)
    except (msgspec.ValidationError, RecursionError) as exc:
        problems.append(_setting(plugin, key, escape_text(str(exc))))
        return None


def _finite(value: object) -> bool:
    """No NaN or infinity anywhere: they slip through comparisons such as `gt=0`."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, (list, tuple)) else True


def _shown(key: object, value: object) -> str:
    return MASK if is_sensitive(str(key)) else show(_masked_value(value))


def _expected(what: str, kind: object) -> str:
    """What msgspec expected, without its `got ...`, which says less than the value does."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "expected one of " + ", ".join(str(member.value) for member in kind)
    text = what.partition(", got ")[0].replace("`", "")
    return escape_text(text[:1].lower() + text[1:])


def _setting(plugin: str, key: str, text: str) -> Problem:
    return Problem(plugin=plugin, kind=ProblemKind.SETTINGS, key=key, text=text)
