"""The live view: frames in, a full-screen picture out. Imported only where a terminal is really there.

Drawing is pure (`render`); the writing is done by an `Output`, so a terminal that stands still (Ctrl-S, a dead ssh)
costs pictures, never the feed. Only lines that changed are sent, inside a synchronised update: nothing flickers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from rich.color import ColorSystem
from rich.console import Console

from orderflow.ui import panels
from orderflow.ui.cells import Line, Picture, Theme, beside, box, cell, fit
from orderflow.ui.line import Look, is_utf8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow.core.types import BookView, ViewFrame
    from orderflow.ui.history import History

SMALLEST: Final = (60, 16)
"""Columns and rows below which there is nothing useful to draw."""

_COLOUR_SYSTEMS: Final = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # alternate screen, no cursor, no line wrap
_LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronised update; terminals that do not know it ignore it
_KEPT_LOG_LINES: Final = 200


def can_show(fd: int, encoding: str | None, environ: Mapping[str, str]) -> bool:
    """Whether a live view makes sense here: a UTF-8 terminal that can move its cursor and is big enough."""
    if environ.get("TERM", "dumb") == "dumb" or not is_utf8(encoding) or not os.isatty(fd):
        return False
    size = os.get_terminal_size(fd)
    return size.columns >= SMALLEST[0] and size.lines >= SMALLEST[1]


# --- drawing ------------------------------------------------------------------------------------------------------


def render(
    frame: ViewFrame,
    history: History,
    size: tuple[int, int],
    *,
    selected: int = 0,
    messages: Sequence[str] = (),
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
    table_height = 3 + min(max(1, len(frame.books)), 16 if tall else max(2, height - 20))
    bottom_height = max(5, min(8, height // 5)) if tall else max(4, min(6, height // 5))
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
    rows = max(2, height - 5)
    body = [
        panels.metric_line(view.tick, inner),
        *panels.ladder_wide(view, inner, rows),
        *panels.sparks(view, history, inner),
    ]
    return box(body, width, height, panels.book_title(view.tick))


def _tall_body(view: BookView, history: History, width: int, height: int) -> list[Line]:
    ladder_width = max(48, min(66, width * 2 // 5))
    ladder = box(
        panels.ladder_tall(view, ladder_width - 4, height - 2), ladder_width, height, panels.book_title(view.tick)
    )
    rest = width - ladder_width
    if rest >= 110:
        middle = rest * 11 // 20
        right = _stack(_metrics_box(view, rest - middle, 11), _hops_box(view, rest - middle, height - 11))
        return beside(ladder, _charts_box(view, history, middle, height), right)
    return beside(ladder, _stack(_metrics_box(view, rest, 11), _charts_box(view, history, rest, height - 11)))


def _stack(*blocks: list[Line]) -> list[Line]:
    return [line for block in blocks for line in block]


def _title(text: str) -> Line:
    return fit([cell(text, len(text), Theme.title)], len(text))


def _metrics_box(view: BookView, width: int, height: int) -> list[Line]:
    return box(panels.metric_rows(view.tick, width - 4), width, height, _title("metrics"))


def _charts_box(view: BookView, history: History, width: int, height: int) -> list[Line]:
    return box(panels.charts(view, history, width - 4, height - 2), width, height, _title("last minutes"))


def _hops_box(view: BookView, width: int, height: int) -> list[Line]:
    return box(panels.hop_rows(view, width - 4), width, height, _title("latency per hop"))


def _table_box(frame: ViewFrame, selected: int, width: int, height: int, look: Look) -> list[Line]:
    count = len(frame.books)
    rows = panels.table(frame.books, selected, width - 4, height - 2, look)
    hidden = count - (height - 3)
    note = f"{hidden} more" if hidden > 0 else ""
    return box(rows, width, height, _title(f"{count} book{'' if count == 1 else 's'}"), note)


def _bottom(frame: ViewFrame, messages: Sequence[str], look: Look, width: int, height: int, note: str) -> list[Line]:
    left = max(26, width * 2 // 5)
    links = box(panels.link_rows(frame, left - 4), left, height, _title("links"))
    right = width - left
    rows = panels.alert_rows(frame, messages, look, right - 4, height - 2)
    return beside(links, box(rows, right, height, _title("alerts"), note))


def export_svg(
    frame: ViewFrame, history: History, path: str, width: int = 120, height: int = 40, *, title: str = "orderflow demo"
) -> None:
    """Draw one frame into an SVG file: the picture in the README. No fonts or files are fetched by it."""
    import re

    from rich._export_format import CONSOLE_SVG_FORMAT

    console = Console(
        file=open(os.devnull, "w"),  # noqa: SIM115 - closed below
        record=True,
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
    )
    try:
        console.print(render(frame, history, (width, height)), end="")
    finally:
        console.file.close()
    plain = re.sub(r"@font-face\s*{{.*?}}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(path, title=title, code_format=plain, unique_id="orderflow")
