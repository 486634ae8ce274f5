"""What docs/performance.md says of a choice can be looked up in the table below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "performance.md"
_SECTION = re.compile(r"### What shaped this\n(.*?)\n### choices:[^\n]*\n(.*?)\n## ", re.DOTALL)


@pytest.fixture(scope="module")
def section() -> tuple[str, list[list[str]]]:
    """The text, and the cells of each row of the table."""
    found = _SECTION.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found[2].splitlines() if line.startswith("|")]
    return found[1], rows


def test_every_row_that_is_spoken_of_is_there(section: tuple[str, list[list[str]]]) -> None:
    text, rows = section
    spoken_of = {" ".join(words.split()) for words in re.findall(r"\(\*([^*]+)\*", text)}
    assert len(spoken_of) > 10
    cells = {cell for row in rows for cell in row[:2]} | {row[1].partition(",")[0] for row in rows}
    assert spoken_of <= cells


def test_ours_comes_first_in_every_choice(section: tuple[str, list[list[str]]]) -> None:
    heading, _, *rows = section[1]
    times = heading.index("times ours")
    choices = [(row[0], row[2]) for row in rows]
    firsts = [row[times] == "ours" for row in rows]
    assert firsts == [at == choices.index(choice) for at, choice in enumerate(choices)]
