"""Mutants are one change each, somewhere else each, and can take the place of the code they were made from."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import Function, code_of, mutants, mutate

CLAMP = """
LIMIT = 5

class Clamp:
    @property
    def top(self) -> int:
        return LIMIT

    def of(self, value: int) -> int:
        if value < 0 and self:
            raise ValueError("below zero")
        return min(value, self.top)
"""


def trees() -> list[tuple[str, str]]:
    tree = ast.parse(CLAMP)
    return [(mutant.what, ast.unparse(mutate(tree, mutant))) for mutant in mutants(tree)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 5", "LIMIT = 6"),
        ("LIMIT = 5", "LIMIT = 4"),
        ("value < 0", "value <= 0"),
        ("value < 0", "value >= 0"),
        ("value < 0", "value < 1"),
        ("value < 0 and self", "value < 0 or self"),
        ("value < 0 and self", "self"),
        ("value < 0 and self", "value < 0"),
        ("if value < 0 and self", "if not (value < 0 and self)"),
        ("raise ValueError('below zero')", "pass"),
        ("return min(value, self.top)", "return None"),
        ("return LIMIT", "return None"),
    ],
)
def test_a_mutant_is_one_change(before: str, after: str) -> None:
    assert [text for _, text in trees()].count(ast.unparse(ast.parse(CLAMP)).replace(before, after)) == 1


def test_there_are_no_others_and_no_two_alike() -> None:
    assert len(trees()) == len({text for _, text in trees()}) == 12


def test_a_mutant_takes_the_place_of_its_function() -> None:
    """Also behind a property; what runs at import has no function."""
    tree = ast.parse(CLAMP)
    code = compile(tree, "clamp.py", "exec")
    owners = {mutant.line: mutant.function for mutant in mutants(tree)}
    of = Function("of", 9, 12)
    assert owners == {2: None, 7: Function("top", 5, 7), 10: of, 11: of, 12: of}
    names: dict[str, type] = {}
    exec(code, names)
    (mutant,) = (mutant for mutant in mutants(tree) if mutant.what.startswith("value < 0: Lt -> GtE"))
    clamp = names["Clamp"]()
    assert clamp.of(3) == 3
    names["Clamp"].of.__code__ = code_of(compile(mutate(tree, mutant), "clamp.py", "exec"), of)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="below zero"):
        clamp.of(3)
