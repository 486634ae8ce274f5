"""Where a value came from, and a value that remembers it."""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from orderflow.config.secrets import MASK
from orderflow.core.text import escape_text


class Source(enum.StrEnum):
    """The places values come from, lowest precedence first."""

    DEFAULT = "default"  # the program's own default
    BUNDLED = "bundled"  # the settings.toml that ships with the program
    FILE = "file"  # ./settings.toml, or the file named by --config
    SECRETS = "secrets"  # ./.secrets.toml
    ENVIRONMENT = "environment"  # ORDERFLOW_* variables
    OPTION = "option"  # the command line


class Origin(msgspec.Struct, frozen=True):
    """One place. `name` is the file as shown to people, the variable or the option; `table` a file's environment."""

    source: Source
    name: str = ""
    line: int | None = None
    table: str = ""

    def __str__(self) -> str:
        place = escape_text(self.name, limit=300) if self.name else self.source.value
        if self.line is not None:
            place += f":{self.line}"
        return f"{place} [{escape_text(self.table)}]" if self.table else place


BUILT_IN: Final = Origin(Source.DEFAULT)


class Leaf:
    """One checked value with its origin: opaque to dynaconf, which merges tables of these and never looks inside.

    So no value can be evaluated (`@format`, `@jinja`, ...), no list is joined with another, and nothing dynaconf prints
    shows a value.
    """

    __slots__ = ("origin", "value")

    def __init__(self, value: Any, origin: Origin) -> None:
        self.value = value
        self.origin = origin

    def __repr__(self) -> str:
        return MASK


Tree = dict[str, Any]
"""Nested tables: the values are Nodes."""

Node = Leaf | Tree


class Document(msgspec.Struct, frozen=True):
    """One layer for dynaconf: environment table (`default`, `testnet`, ...) -> Tree."""

    name: str
    tables: dict[str, Tree]
