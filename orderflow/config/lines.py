"""On which line of a TOML text each key stands: tomllib does not say.

Only for texts tomllib has accepted already, so this need not check syntax. Keys inside inline tables and arrays
count as standing where their value begins.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyPath = tuple[str, ...]

_BLANK: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)+")
_KEY: Final = re.compile(
    r"""[ \t]*(?:(?P<bare>[A-Za-z0-9_-]+)|(?P<basic>"(?:\\.|[^"\\\n])*")|'(?P<literal>[^'\n]*)')[ \t]*(?P<dot>\.?)"""
)
_VALUE: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?"""+|\'\'\'.*?\'\'\'+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|#[^\n]*'''
    r"""|(?P<open>[\[{])|(?P<close>[\]}])|(?P<end>\n)|[^\[\]{}"'#\n]+""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Path of every table and key -> line of its first mention, from 1."""
    text = text.replace("\r\n", "\n")
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    at = counted = 0
    line = 1
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
            continue
        start = at
        header = text[at] == "["
        path, at = _read_key(text, at + (2 if text.startswith("[[", at) else 1) if header else at)
        if not path:  # cannot happen in valid TOML; never loop on what is not
            return lines
        if header:
            table = path
        line += text.count("\n", counted, start)
        counted = start
        _note(lines, path if header else table + path, line)
        at = _skip_rest(text, at)
    return lines


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """The line of `path`, or of the nearest table around it that has one."""
    for size in range(len(path), 0, -1):
        if (line := lines.get(path[:size])) is not None:
            return line
    return None


def _note(lines: dict[KeyPath, int], path: KeyPath, line: int) -> None:
    for size in range(1, len(path) + 1):
        lines.setdefault(path[:size], line)


def _read_key(text: str, at: int) -> tuple[KeyPath, int]:
    """A dotted key from `at` -> (its parts, position after it)."""
    parts: list[str] = []
    while part := _KEY.match(text, at):
        at = part.end()
        parts.append(_plain(part))
        if not part["dot"]:
            break
    return tuple(parts), at


def _plain(part: re.Match[str]) -> str:
    if part["basic"] is not None:
        return str(tomllib.loads(f"key = {part['basic']}")["key"])
    return part["bare"] if part["bare"] is not None else part["literal"]


def _skip_rest(text: str, at: int) -> int:
    """From behind a key or table name to behind its line, over values that span lines."""
    depth = 0
    while at < len(text) and (token := _VALUE.match(text, at)):
        at = token.end()
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["end"] and depth <= 0:
            return at
    return len(text)
