"""One file looked through, and the example of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orderflow.core.types import Category
from orderflow.foreign.heard import category_of_path
from orderflow.foreign.source import Source, Span, Topic, survey
from tests.foreign.made import ACK, T0_MS, book, books, lines, recorded

ROOT = Path(__file__).resolve().parents[2]


def test_what_a_look_through_a_file_tells(tmp_path: Path) -> None:
    content = [("1790000000.5", raw) for raw in [ACK, *books(1, 3), book(1, 50, depth=50)]]
    found = survey(Source(lines(tmp_path / "x.jsonl", recorded(content))))
    assert (found.kind, found.messages, found.received) == ("messages", 5, True)
    assert [topic.name for topic in found.topics] == ["orderbook.200.ABCUSDT", "orderbook.50.ABCUSDT"]
    count = found.topics[Topic(Category.LINEAR, "1", "orderbook.200.ABCUSDT")]
    assert (count.messages, count.span.first_ns, count.span.last_ns) == (
        3,
        T0_MS * 1_000_000,
        (T0_MS + 200) * 1_000_000,
    )
    assert (found.exchange.back_ns, found.exchange.back_line) == (150_000_000, 8)


def test_spans() -> None:
    span = Span()
    for line, at_ns in enumerate([5, 9, 7, 3, 11, 10], 1):
        span.add(at_ns, line)
    assert span == Span(first_ns=3, last_ns=11, back_ns=6, back_line=4)


@pytest.mark.parametrize(
    "path, category",
    [
        ("linear-BTCUSDT.jsonl", Category.LINEAR),
        ("orderbook/inverse/BTCUSD/x.data.zip", Category.INVERSE),
        ("linear/SPOT_x.csv", Category.SPOT),
        ("bilinear/spotlight.csv", None),
    ],
)
def test_the_category_in_a_path(path: str, category: Category | None) -> None:
    assert category_of_path(Path(path)) is category


def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines(tmp_path / "2025-08-22_BTCUSDT_ob200.data.zip", books(1, 3, symbol="BTCUSDT"))
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.splitlines()[2].startswith("linear orderbook.200.BTCUSDT 1790000000200 b'{")
