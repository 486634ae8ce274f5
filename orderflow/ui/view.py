"""One whole screen of the live view, drawn from a frame: pure. Also as an SVG picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow.ui import ladder, panels, tables
from orderflow.ui.ability import SMALLEST
from orderflow.ui.cells import Line, Picture, Theme, beside, box, cell, fit
from orderflow.ui.line import Look
from orderflow.ui.picture import picture_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.core.types import BookView, ViewFrame
    from orderflow.logs import LogLine
    from orderflow.ui.history import History

METRICS_ROWS: Final = 11
HOPS_ROWS: Final = 7


def render(
    frame: ViewFrame,
    history: History,
    size: tuple[int, int],
    *,
    selected: int = 0,
    messages: Sequence[LogLine] = (),
    note: str = "",
) -> Picture:
    """One whole screen of `size` = (columns, rows): exactly that many lines of exactly that width.

    Args: selected: index into frame.books of the book shown in full; messages: newest log lines last; note: key hints.
    """
    width, height = size
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return _too_small(width, height)
    selected = selected % len(frame.books) if frame.books else 0
    look = Look(categories=len({book.tick.category for book in frame.books}) > 1)
    tall = width >= 100 and height >= 32
    bottom_height = max(5, min(8, height // 5)) if tall else max(4, min(6, height // 5))
    most_rows = min(height // 3, height - bottom_height - 22) if tall else max(2, height - 20)  # the body needs 18
    table_height = 3 + min(max(1, len(frame.books)), most_rows)
    body_height = height - 1 - table_height - bottom_height
    lines = [panels.header(frame, width)]
    if frame.books:
        draw = _tall_body if tall else _short_body
        lines += draw(frame.books[selected], history, width, body_height)
    else:
        lines += box([[cell("no books yet", width - 4, Theme.dim, "^")]], width, body_height, [])
    lines += _table_box(frame, selected, width, table_height, look)
    lines += _bottom(frame, messages, look, width, bottom_height, note)
    return Picture(lines, width)


def _too_small(width: int, height: int) -> Picture:
    words = f"needs {SMALLEST[0]}x{SMALLEST[1]}, this is {width}x{height}"
    lines: list[Line] = [fit([], width) for _ in range(max(0, height - 1))]
    return Picture([[cell(words, width, Theme.warn)], *lines][:height], width)


def _short_body(view: BookView, history: History, width: int, height: int) -> list[Line]:
    inner = width - 4
    sparks = panels.sparks(view, history, inner) if height >= 8 else []
    rows = max(1, height - 3 - len(sparks))
    body = [panels.metric_line(view.tick, inner), *ladder.ladder_wide(view, inner, rows), *sparks]
    return box(body, width, height, panels.book_title(view.tick))


def _tall_body(view: BookView, history: History, width: int, height: int) -> list[Line]:
    ladder_width = max(48, min(66, width * 2 // 5))
    inner = ladder_width - 4
    levels = box(ladder.ladder_tall(view, inner, height - 2), ladder_width, height, panels.book_title(view.tick))
    rest = width - ladder_width
    if rest < 110 or height < METRICS_ROWS + HOPS_ROWS + 3:
        right = _stack(_metrics_box(view, rest, METRICS_ROWS), _charts_box(view, history, rest, height - METRICS_ROWS))
        return beside(levels, right)
    middle = rest * 11 // 20
    side = rest - middle
    right = _stack(
        _metrics_box(view, side, METRICS_ROWS),
        _hops_box(view, side, HOPS_ROWS),
        box(panels.flow_rows(view, side - 4), side, height - METRICS_ROWS - HOPS_ROWS, _title("health")),
    )
    return beside(levels, _charts_box(view, history, middle, height), right)


def _stack(*blocks: list[Line]) -> list[Line]:
    return [line for block in blocks for line in block]


def _title(text: str) -> Line:
    return fit([cell(text, len(text), Theme.title)], len(text))


def _metrics_box(view: BookView, width: int, height: int) -> list[Line]:
    return box(panels.metric_rows(view.tick, width - 4), width, height, _title("metrics"))


def _charts_box(view: BookView, history: History, width: int, height: int) -> list[Line]:
    inner = width - 4
    body = panels.charts(view, history, inner, height - 2) if height >= 8 else panels.sparks(view, history, inner)
    return box(body, width, height, _title("last minutes"))


def _hops_box(view: BookView, width: int, height: int) -> list[Line]:
    return box(panels.hop_rows(view, width - 4), width, height, _title("latency per hop"))


def _table_box(frame: ViewFrame, selected: int, width: int, height: int, look: Look) -> list[Line]:
    count = len(frame.books)
    rows = tables.table(frame.books, selected, width - 4, height - 2, look)
    hidden = count - (height - 3)
    troubled = sum(not book.tick.live for book in frame.books)
    note = f"{hidden} more" + (f" · {troubled} not live" if troubled else "") if hidden > 0 else ""
    return box(rows, width, height, _title(f"{count} book{'' if count == 1 else 's'}"), note)


def _bottom(
    frame: ViewFrame, messages: Sequence[LogLine], look: Look, width: int, height: int, note: str
) -> list[Line]:
    left = max(26, width * 2 // 5)
    links = box(tables.link_rows(frame, left - 4), left, height, _title("links"))
    right = width - left
    rows = tables.news_rows(frame, messages, look, right - 4, height - 2)
    return beside(links, box(rows, right, height, _title("alerts and news"), note))


def export_svg(
    frame: ViewFrame, history: History, path: str, width: int = 120, height: int = 40, *, title: str = "orderflow demo"
) -> None:
    """Draw one frame into an SVG file: the picture in the README."""
    Path(path).write_text(picture_svg(render(frame, history, (width, height)), title), encoding="utf-8")
