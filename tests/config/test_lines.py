from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.config.lines import key_lines, line_of

TEXT = '''\
# comment = 1
[default]
symbols = [   # ] "
    "A",      # b = 2
    """x
    c = 3
    """,
]
'quoted.key' = 1
"esc\\u0061ped" = 2   # the key is escaped

[default.feed]
d.e = { f = 1, g = "}\\"" }
text = \'\'\'
[not.a.table]
\'\'\'
last = """a""""

[[default.list]]
x = 1
[ testnet . "b" ]
y = 2'''


@pytest.mark.parametrize(
    "path, line",
    [
        (("default",), 2),
        (("default", "symbols"), 3),
        (("default", "quoted.key"), 9),
        (("default", "escaped"), 10),
        (("default", "feed"), 12),
        (("default", "feed", "d"), 13),
        (("default", "feed", "d", "e"), 13),
        (("default", "feed", "text"), 14),
        (("default", "feed", "last"), 17),
        (("default", "list", "x"), 20),
        (("testnet", "b"), 21),
        (("testnet", "b", "y"), 22),
    ],
)
def test_every_kind_of_key_has_its_line(path: tuple[str, ...], line: int) -> None:
    assert key_lines(TEXT)[path] == line


def test_nothing_inside_values_or_comments_is_a_key() -> None:
    paths = set(key_lines(TEXT))
    assert not paths & {("comment",), ("default", "b"), ("default", "c"), ("not",), ("default", "feed", "not")}


def test_a_key_inside_an_inline_table_stands_where_its_value_begins() -> None:
    lines = key_lines(TEXT)
    assert line_of(("default", "feed", "d", "e", "f"), lines) == 13
    assert line_of(("nowhere",), lines) is None


def test_windows_line_ends_count_once() -> None:
    assert key_lines("[a]\r\nb = 1\r\n\r\nc = 2\r\n") == {("a",): 1, ("a", "b"): 2, ("a", "c"): 4}


values = st.sampled_from(
    ["1", "[1,\n2]", '"a#b"', "'''\n[x]\n'''", '"""\ny = 1\n"""', "{a = 1, b = [{c = 2}]}", "true"]
)
names = st.sampled_from(["a", "b-1", '"q.x"', "'l'", "a.b", 'c."d e"'])


@given(st.lists(st.tuples(names, values, st.sampled_from(["", " # = [", "\n", "\n# x = 1\n"])), max_size=6))
def test_whatever_tomllib_accepts_each_key_is_found_on_its_line(entries: list[tuple[str, str, str]]) -> None:
    text, starts = "", []
    for number, (name, value, tail) in enumerate(entries):
        starts.append(text.count("\n") + 1)
        text += f"t{number}.{name} = {value}{tail}\n"
    lines = key_lines(text)
    for number, (top, line) in enumerate(zip(tomllib.loads(text), starts, strict=True)):
        assert top == f"t{number}"
        assert lines[top,] == line
    assert {path[0] for path in lines} == set(tomllib.loads(text))


@given(st.text(max_size=200))
def test_any_text_at_all_ends(text: str) -> None:
    lines: dict[Any, int] = key_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
