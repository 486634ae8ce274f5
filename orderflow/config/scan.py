"""From the raw tables of one source to checked leaves, with every problem on the way.

A Scan knows which source it reads; what passes it is known by name, of the right type, within its limits, and free of
everything dynaconf gives a meaning of its own.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from orderflow.config import schema
from orderflow.config.origin import Leaf
from orderflow.config.problems import problem, suggest, value_text
from orderflow.config.schema import Kind
from orderflow.config.values import Refused, convert
from orderflow.hooks.configs import is_sensitive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orderflow.config.origin import Origin, Tree

Path = tuple[str, ...]

_FREE_KEY: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9:.-]|_(?!_)){0,99}")
_RESERVED: Final = re.compile(r"dynaconf|__", re.IGNORECASE)
_FIRST_WORD: Final = re.compile(r"@\w+")
_MAX_DEPTH: Final = 8  # of tables and lists in a plugin's own table

FORMER: Final = {
    "symbol": "symbols = [...]",
    "trading_symbol": "symbols = [...]",
    "use_testnet": "the environment, chosen with --env testnet or ORDERFLOW_ENV=testnet",
    "testnet": "the environment, chosen with --env testnet or ORDERFLOW_ENV=testnet",
    "rust_log": "log_level",
    "api_key": "bybit.api_key",
    "api_secret": "bybit.api_secret",
    "metrics_interval": "interval_s",
    "interval": "interval_s",
    "duration": "duration_s",
    "spread_threshold": "a key of [default.plugins.spread]",
    "latency_threshold": "a key of [default.plugins.latency]",
    "liquidity_threshold": "a key of [default.plugins.liquidity]",
}
"""What people who come from elsewhere write, and what it is called here."""


class Unusable(Exception):
    """An entry cannot be used. `expected` says what could, `shown` is its value for people ("": not to be shown)."""

    def __init__(self, expected: str, shown: str = "") -> None:
        self.expected = expected
        self.shown = shown
        super().__init__(expected)


class Scan:
    """Turns what one source says into leaves and collects its problems.

    Args: problems: where problem lines go; origin: path -> its origin; secret: never show a value of this source;
        tokens: words dynaconf would evaluate.
    """

    def __init__(
        self, problems: list[str], origin: Callable[[Path], Origin], tokens: frozenset[str], *, secret: bool = False
    ) -> None:
        self._problems = problems
        self._origin = origin
        self._tokens = tokens
        self._secret = secret
        self.refused: set[str] = set()  # dotted keys with a problem

    def note(self, path: Path, why: Unusable) -> None:
        """Write a problem line."""
        self.refused.add(".".join(path))
        self._problems.append(problem(self._origin(path), ".".join(path), why.expected, why.shown))

    def table(self, data: dict[str, Any], path: Path = ()) -> Tree:
        """Checked leaves of a table of settings; what cannot be used is noted and left out."""
        tree: Tree = {}
        seen: set[str] = set()
        for key, value in data.items():
            name = key if _inside_plugin(path) else key.lower()
            here = (*path, name)
            try:
                if name.lower() in seen:
                    raise Unusable("expected this key once: keys that differ only in case are the same")
                seen.add(name.lower())
                tree[name] = self._entry(here, value)
            except Unusable as why:
                self.note(here, why)
        return tree

    def _entry(self, path: Path, value: Any) -> Leaf | Tree:
        if _RESERVED.search(path[-1]):
            raise Unusable("expected no name with `__` or `dynaconf` in it: reserved, and never obeyed")
        if schema.is_plugin_table(path):
            return self.plugin_entry(path, value)
        dotted = ".".join(path)
        if setting := schema.settings().get(dotted):
            return self.leaf(setting, path, value)
        if dotted not in schema.tables():
            raise unknown(path)
        if not isinstance(value, dict):
            raise Unusable(f"expected a table: set its keys, such as {_first_key_of(dotted)}")
        return self.table(value, path)

    def leaf(self, setting: schema.Setting, path: Path, value: Any) -> Leaf:
        """One setting's value, checked. Raises: Unusable."""
        if isinstance(value, dict):
            raise Unusable(f"expected {setting.expected}, not a table")
        if setting.key == "env":
            raise Unusable("the environment is chosen with --env or ORDERFLOW_ENV, not in a file")
        if token := self._token_in(value):
            raise Unusable(f"begins with {token}, which is never evaluated; expected {setting.expected}")
        try:
            return Leaf(convert(setting, value), self._origin(path))
        except Refused as why:
            if self._secret or setting.kind is Kind.SECRET or not why.show:
                raise Unusable(f"expected {setting.expected}" if self._secret else why.expected) from None
            raise Unusable(why.expected, value_text(value)) from None

    def plugin_entry(self, path: Path, value: Any) -> Leaf | Tree:
        """`plugins.<name>` or something in it: only what every plugin's table must keep to. Raises: Unusable."""
        if len(path) > _MAX_DEPTH:
            raise Unusable(f"expected at most {_MAX_DEPTH} tables inside one another")
        if not _FREE_KEY.fullmatch(path[-1]):
            raise Unusable("expected a name of letters, digits and `_ - . :`")
        if isinstance(value, dict):
            return self.table(value, path)
        if len(path) == 2:
            names = [key for key in schema.settings() if key.startswith("plugins.")]
            suggestion = suggest(".".join(path), names)
            raise Unusable(f"expected a plugin's table, or a setting of [plugins]{suggestion}")
        if token := self._token_in(value):
            raise Unusable(f"begins with {token}, which is never evaluated; expected a plain value")
        if reason := _unusable(value):
            private = self._secret or any(is_sensitive(part) for part in path)
            raise Unusable(reason, "" if private else value_text(value))
        return Leaf(value, self._origin(path))

    def _token_in(self, value: Any, depth: int = 0) -> str | None:
        """The dynaconf token a text, or a text anywhere in a list, begins with."""
        if isinstance(value, str):
            word = _FIRST_WORD.match(value)
            return word[0] if word and word[0] in self._tokens else None
        if depth > _MAX_DEPTH or not isinstance(value, list | tuple | dict):
            return None
        items: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
        return next((token for item in items if (token := self._token_in(item, depth + 1))), None)


def unknown(path: Path, suggestion: str = "") -> Unusable:
    """The problem with a key that is not known. Its value may be a misspelt secret and is not shown."""
    if len(path) == 1 and (here := FORMER.get(path[0].lower())):
        return Unusable(f"unknown setting; here it is {here}")
    suggestion = suggestion or suggest(".".join(path), [*schema.settings(), *schema.tables()])
    return Unusable(f"unknown setting{suggestion or '; `orderflow config show` lists all there are'}")


def _inside_plugin(path: Path) -> bool:
    return len(path) >= 2 and schema.is_plugin_table(path)


def _first_key_of(table: str) -> str:
    return next(key for key in schema.settings() if key.startswith(f"{table}."))


def _unusable(value: Any, depth: int = 0) -> str | None:
    """Why a value is none any plugin could want."""
    if depth > _MAX_DEPTH:
        return f"expected at most {_MAX_DEPTH} lists inside one another"
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "expected a whole number of at most 64 bits"
    if isinstance(value, list):
        return next((reason for item in value if (reason := _unusable(item, depth + 1))), None)
    if isinstance(value, dict):
        return next((reason for item in value.values() if (reason := _unusable(item, depth + 1))), None)
    return None
