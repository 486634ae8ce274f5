"""The settings tree as a flat table of settings: key, kind, limits, and in words what is expected."""

from __future__ import annotations

import enum
import math
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from orderflow.config.secrets import Secret
from orderflow.config.tree import Environment, PluginSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENVIRONMENTS: Final[tuple[str, ...]] = get_args(Environment)
PLUGINS: Final = "plugins"
PREFIX: Final = "ORDERFLOW_"


class Kind(enum.Enum):
    """What a value is, whatever its limits."""

    TEXT = "text"
    SECRET = "secret"
    NUMBER = "number"
    WHOLE = "whole number"
    FLAG = "flag"
    CHOICE = "choice"
    LIST = "list"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf of the tree. `expected` completes the sentence `expected ...`."""

    key: str
    kind: Kind
    type: Any
    default: Any
    expected: str

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.key.split("."))

    @property
    def variable(self) -> str:
        return variable_name(self.path)

    def convert(self, value: Any) -> Any:
        """`value` as this setting's type. Raises: msgspec.ValidationError for a wrong type or one beyond the limits."""
        if self.kind is Kind.SECRET:
            if not isinstance(value, str):
                raise msgspec.ValidationError("not text")
            return Secret(value) if value else None
        converted = msgspec.convert(value, self.type)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise msgspec.ValidationError("not finite")
        return converted


def variable_name(path: tuple[str, ...]) -> str:
    """`("bybit", "rest_url")` -> `ORDERFLOW_BYBIT__REST_URL`."""
    return PREFIX + "__".join(path).upper()


@cache
def settings() -> Mapping[str, Setting]:
    """Every setting by dotted key, in the order of the tree. `plugins.<name>` tables are not part of it."""
    return MappingProxyType({setting.key: setting for setting in _walk(Settings, ())})


@cache
def tables() -> frozenset[str]:
    """Dotted names of all tables: `bybit`, `feed`, ..."""
    return frozenset(key.rpartition(".")[0] for key in settings()) - {""}


def default_text(setting: Setting) -> str:
    """A setting's default for the table in docs/configuration.md."""
    default = setting.default
    if default is None or default == "":
        return "(empty)"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{', '.join(default)}`" if default else "(none)"
    return f"`{default}`"


def is_plugin_table(path: tuple[str, ...]) -> bool:
    """Whether `path` is `plugins.<name>` or lies in one: free-form, typed by the plugin itself."""
    return len(path) >= 2 and path[0] == PLUGINS and path[1] not in PluginSettings.__struct_fields__


def _walk(table: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[Setting]:
    for field in msgspec.structs.fields(table):
        if table is PluginSettings and field.name == "tables":
            continue
        here = (*path, field.encode_name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _walk(field.type, here)
        else:
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            yield _setting(".".join(here), field.type, default)


def _setting(key: str, annotation: Any, default: Any) -> Setting:
    kind, base, limits = _kind(annotation)
    expected = EXPECTED.get(key) or _in_words(kind, base, limits)
    return Setting(key=key, kind=kind, type=annotation, default=default, expected=expected)


def _kind(annotation: Any) -> tuple[Kind, Any, msgspec.Meta | None]:
    if get_origin(annotation) is Annotated:
        base, *extras = get_args(annotation)
        kind, base, _ = _kind(base)
        return kind, base, next((extra for extra in extras if isinstance(extra, msgspec.Meta)), None)
    if get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, enum.Enum)):
        return Kind.CHOICE, annotation, None
    if get_origin(annotation) is tuple:
        return Kind.LIST, annotation, None
    if Secret in get_args(annotation):
        return Kind.SECRET, Secret, None
    return {bool: Kind.FLAG, int: Kind.WHOLE, float: Kind.NUMBER, str: Kind.TEXT}[annotation], annotation, None


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values a CHOICE allows."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(member.value for member in annotation)


def _in_words(kind: Kind, base: Any, limits: msgspec.Meta | None) -> str:
    if kind is Kind.CHOICE:
        *most, last = map(str, choices(base))
        return f"{', '.join(most)} or {last}"
    if kind is Kind.FLAG:
        return "true or false"
    if kind is Kind.LIST:
        return "a list of texts"
    if kind in (Kind.TEXT, Kind.SECRET):
        return "text"
    noun = "a whole number" if kind is Kind.WHOLE else "a finite number"
    return noun + _limits_in_words(limits)


def _limits_in_words(limits: msgspec.Meta | None) -> str:
    if limits is None:
        return ""
    signs = ((">", limits.gt), (">=", limits.ge), ("<", limits.lt), ("<=", limits.le))
    words = [f"{sign} {bound:.10g}" for sign, bound in signs if bound is not None]
    return " " + " and ".join(words) if words else ""


EXPECTED: Final = {
    "symbols": "a list of symbols such as BTCUSDT or spot:BTCUSDT",
    "bybit.public_ws_url": "a wss:// address with {category} in it",
    "bybit.private_ws_url": "a wss:// address, or empty to do without",
    "bybit.rest_url": "an https:// address, or empty to do without",
    "bybit.ca_file": "the path of a PEM file, or empty",
    "record.folder": "the path of a folder, or empty",
    "metrics_http.host": "an IP address of this machine, or localhost",
    "metrics_http.allowed_hosts": "a list of host names",
    "plugins.enabled": "a list of plugin names",
    "plugins.isolated": "a list of plugin names",
    "plugins.folders": "a list of folders",
}
