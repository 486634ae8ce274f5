"""A drawn screen as an SVG file: block glyphs become rectangles, so bars are crisp in whatever font the reader has."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.style import Style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.segment import Segment

    from orderflow.ui.cells import Picture

CELL_W: Final = 8.4
CELL_H: Final = 18.0
_MARGIN: Final = 14.0
_TITLE_H: Final = 34.0
_BUTTONS: Final = ((20, "#ff5f57"), (38, "#febc2e"), (56, "#28c840"))
_INK: Final = "#d0d7de"
_PAPER: Final = "#0d1117"
_FONT: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_ACROSS: Final = {glyph: part / 8 for part, glyph in enumerate(" ▏▎▍▌▋▊▉█") if part}
_ALONE: Final = "▏▎▍▌▋▊▉│"
_UPWARD: Final = {glyph: part / 8 for part, glyph in enumerate(" ▁▂▃▄▅▆▇") if part}


def picture_svg(picture: Picture, title: str) -> str:
    """The SVG text of a picture in a window frame; it holds no scripts and fetches nothing."""
    width = picture.width * CELL_W + 2 * _MARGIN
    height = len(picture.lines) * CELL_H + _TITLE_H + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="10" fill="{_PAPER}" stroke="#30363d"/>',
        *(f'<circle cx="{x}" cy="17" r="6" fill="{colour}"/>' for x, colour in _BUTTONS),
        f'<text x="{width / 2:.0f}" y="22" text-anchor="middle" fill="#7d8590" '
        f'font-family="sans-serif" font-size="13">{escape(title)}</text>',
        f'<g transform="translate({_MARGIN:.0f} {_TITLE_H:.0f})" font-family="{_FONT}" font-size="14">',
    ]
    for row, line in enumerate(picture.lines):
        column = 0
        for segment in line:
            parts += _segment(segment, column, row)
            column += cell_len(segment.text)
    return "\n".join([*parts, "</g></svg>", ""])


def _segment(segment: Segment, column: int, row: int) -> Iterator[str]:
    style = segment.style or Style()
    ink = style.color.name if style.color is not None else _INK
    paper = style.bgcolor.name if style.bgcolor is not None else None
    if style.reverse:
        ink, paper = paper or _PAPER, ink
    if paper is not None:
        yield _rect(column, row, cell_len(segment.text), 1.0, paper)
    for glyphs, offset in _runs(segment.text):
        first = glyphs[0]
        if first in _ACROSS:
            yield _rect(column + offset, row, len(glyphs) if first == "█" else _ACROSS[first], 1.0, ink)
        elif first in _UPWARD:
            yield _rect(column + offset, row, len(glyphs), _UPWARD[first], ink)
        elif first == "│":  # fonts leave gaps between lines
            yield _rect(column + offset + 0.45, row, 0.12, 1.0, ink)
        elif glyphs.strip():
            yield _text(glyphs, column + offset, row, ink, style)


def _runs(text: str) -> Iterator[tuple[str, int]]:
    """(glyphs, offset in cells) of pieces drawn in one go: equal blocks, or words of ordinary text."""
    run, start, offset = "", 0, 0
    for char in text:
        if _is_block(char):
            joins = char == run[:1] and char not in _ALONE
        else:
            joins = run != "" and not _is_block(run[0])
        if run and not joins:
            yield run, start
            run, start = "", offset
        run += char
        offset += cell_len(char)
    if run:
        yield run, start


def _is_block(char: str) -> bool:
    return char in _ACROSS or char in _UPWARD or char == "│"


def _rect(column: float, row: int, cells: float, share: float, colour: str) -> str:
    top = row * CELL_H + CELL_H * (1 - share)
    size = f'width="{cells * CELL_W:.2f}" height="{CELL_H * share:.2f}"'
    return f'<rect x="{column * CELL_W:.2f}" y="{top:.2f}" {size} fill="{colour}" shape-rendering="crispEdges"/>'


def _text(text: str, column: int, row: int, ink: str, style: Style) -> str:
    lead = len(text) - len(text.lstrip())
    shown = text.strip().replace(" ", "\u00a0")  # or the reader runs several into one
    extra = (' font-weight="bold"' if style.bold else "") + (' font-style="italic"' if style.italic else "")
    return (
        f'<text x="{(column + lead) * CELL_W:.2f}" y="{row * CELL_H + 13.5:.1f}" fill="{ink}"{extra} '
        f'textLength="{cell_len(shown) * CELL_W:.2f}" lengthAdjust="spacingAndGlyphs">{escape(shown)}</text>'
    )
