"""What is wrong with a plugin or its settings, said so that it can be put right."""

from __future__ import annotations

import enum
import inspect
from typing import TYPE_CHECKING

import msgspec

from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Callable


class ProblemKind(enum.StrEnum):
    """Who has to act."""

    SETTINGS = "settings"  # the user: a name or a value in [plugins]; start-up stops (exit code 2)
    PLUGIN = "plugin"  # the author: this plugin is refused, the others load


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem of one plugin.

    Args: plugin: its name; text: what is wrong and what was expected, already escaped; path, line: where, when known;
        key: the full key path of a setting, such as `plugins.spread.raise_above`.
    """

    plugin: str
    text: str
    kind: ProblemKind = ProblemKind.PLUGIN
    path: str = ""
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        if self.key:
            return f"{escape_text(self.key)}: {self.text}"
        where = escape_text(self.path, 4096) + (f":{self.line}" if self.line else "")
        return f"{where}: plugin {self.plugin}: {self.text}" if where else f"plugin {self.plugin}: {self.text}"


def show(value: object, limit: int = 80) -> str:
    """`repr(value)` as one short safe line, whatever the value's own `__repr__` does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the plugin border: a plugin's object may not even have a working repr
        text = f"<{type(value).__name__}>"
    return escape_text(text, limit)


def line_of(thing: Callable[..., object] | type) -> int:
    """The line a function or class begins on; 0 when unknown."""
    code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is not None:
        return int(code.co_firstlineno)
    try:
        return inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return 0
