"""What is wrong with a plugin, as values and as text."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest

from orderflow.hooks.problems import Problem, ProblemKind, line_of, show


def test_problems_as_json() -> None:
    """`orderflow plugins list --json` has them."""
    problem = Problem(plugin="p", text="t", kind=ProblemKind.SETTINGS, key="plugins.p.a")
    settings = {"plugin": "p", "text": "t", "kind": "settings", "path": "", "line": 0, "key": "plugins.p.a"}
    assert msgspec.to_builtins(problem) == settings
    assert msgspec.to_builtins(Problem(plugin="p", text="t"))["kind"] == "plugin"


class Broken:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\x1b", r"'a\x1b'"),
        (7, "7"),
        ("x" * 78, "'" + "x" * 78 + "'"),
        ("x" * 79, "'" + "x" * 62 + "… [81 characters]"),
        (Broken(), "<Broken>"),
    ],
)
def test_any_value_is_one_short_line(value: object, text: str) -> None:
    assert show(value) == text


def made(text: str) -> dict[str, Any]:
    """What this text defines, in a file that cannot be read."""
    names: dict[str, Any] = {"__name__": "nowhere", "functools": functools}
    exec(compile(text, "nowhere.py", "exec"), names)
    return names


def test_lines_of_functions_are_known_without_their_file_and_those_of_classes_are_not() -> None:
    wrapped = "\n@functools.wraps(f)\ndef g(): pass\n"
    names = made("\n\ndef f(): pass\n" + wrapped + "class C: pass\n")
    assert (line_of(names["f"]), line_of(names["g"]), line_of(names["C"])) == (3, 3, 0)


def test_lines_of_what_is_not_python_are_unknown() -> None:
    assert line_of(len) == 0
    assert line_of(Broken) == Broken.__repr__.__code__.co_firstlineno - 1
