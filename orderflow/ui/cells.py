"""A small kit for text screens: lines of styled cells of exact width, boxes, bars and charts. Pure.

rich's tables measure and wrap everything they are given; a screen that is drawn four times a second beside a busy feed
has no time for that, and knows its widths anyway. Glyphs carry all meaning, colours only repeat it (NO_COLOR works).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

Line = list[Segment]
"""Segments whose widths add up to the width of the block they stand in."""

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_LEVELS: Final = " ▁▂▃▄▅▆▇█"
_BRAILLE: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bits of the left and right column, top down


class Theme:
    """Every style of the screen. Chosen for dark terminals; legible when reduced to 256 or 16 colours."""

    text: Final = Style(color="#d0d7de")
    strong: Final = Style(color="#f0f6fc", bold=True)
    dim: Final = Style(color="#7d8590")
    border: Final = Style(color="#3d444d")
    title: Final = Style(color="#79c0ff", bold=True)
    bid: Final = Style(color="#3fb950")
    ask: Final = Style(color="#ff6a69")
    bid_bar: Final = Style(color="#117a2c")
    ask_bar: Final = Style(color="#a32a2f")
    bid_best: Final = Style(color="#56d364", bold=True)
    ask_best: Final = Style(color="#ff8e8a", bold=True)
    spread: Final = Style(color="#d2a8ff")
    spread_area: Final = Style(color="#7d55c7")
    mid_line: Final = Style(color="#79c0ff")
    warn: Final = Style(color="#e3b341")
    bad: Final = Style(color="#ff7b72", bold=True)
    good: Final = Style(color="#3fb950", bold=True)
    info: Final = Style(color="#79c0ff")
    grey: Final = Style(color="#6e7681", italic=True)
    track: Final = Style(color="#30363d")
    badge: Final = Style(color="#0d1117", bgcolor="#79c0ff", bold=True)
    badge_sim: Final = Style(color="#0d1117", bgcolor="#d2a8ff", bold=True)
    badge_test: Final = Style(color="#0d1117", bgcolor="#e3b341", bold=True)
    badge_main: Final = Style(color="#0d1117", bgcolor="#3fb950", bold=True)


class Picture:
    """Finished lines as a rich renderable: printed as they are, no markup, no wrapping."""

    def __init__(self, lines: Sequence[Line], width: int) -> None:
        self.lines = lines
        self.width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            yield from line
            yield Segment.line()


def width_of(line: Iterable[Segment]) -> int:
    return sum(cell_len(segment.text) for segment in line)


def cell(text: str, width: int, style: Style, align: str = "<") -> Segment:
    """`text` in exactly `width` cells; what does not fit is cut with an ellipsis."""
    used = cell_len(text)
    if used > width:
        text = set_cell_size(text, max(0, width - 1)) + "…"[:width]
    elif align == ">":
        text = " " * (width - used) + text
    elif align == "^":
        left = (width - used) // 2
        text = " " * left + text + " " * (width - used - left)
    else:
        text += " " * (width - used)
    return Segment(text, style)


def fit(line: Iterable[Segment], width: int) -> Line:
    """`line` cut (with an ellipsis) or padded to `width` cells."""
    fitted: Line = []
    room = width
    for segment in line:
        used = cell_len(segment.text)
        if used > room:
            if room:
                fitted.append(Segment(set_cell_size(segment.text, room - 1) + "…", segment.style))
            return fitted
        fitted.append(segment)
        room -= used
    if room:
        fitted.append(Segment(" " * room))
    return fitted


def spread_out(left: Iterable[Segment], right: Iterable[Segment], width: int) -> Line:
    """`left` at the left, `right` at the right when there is room for both; else `left` alone."""
    left, right = list(left), list(right)
    gap = width - width_of(left) - width_of(right)
    return fit(left, width) if gap < 1 else [*left, Segment(" " * gap), *right]


def box(body: Sequence[Line], width: int, height: int, title: Iterable[Segment], note: str = "") -> list[Line]:
    """A rounded frame of exactly `width` x `height` around `body`; `note` sits in the lower border."""
    edge = Theme.border
    inner = width - 4
    head = [Segment("╭─ ", edge), *_cut(title, inner - 1), Segment(" ", edge)]
    top = [*head, Segment("─" * (width - width_of(head) - 1) + "╮", edge)]
    foot = f" {note} " if note and cell_len(note) <= inner - 4 else ""
    bottom = [
        Segment("╰" + "─" * (width - cell_len(foot) - 4), edge),
        Segment(foot, Theme.dim),
        Segment("──╯", edge),
    ]
    lines = [top]
    for index in range(height - 2):
        content = fit(body[index] if index < len(body) else (), inner)
        lines.append([Segment("│ ", edge), *content, Segment(" │", edge)])
    lines.append(bottom)
    return lines


def _cut(line: Iterable[Segment], width: int) -> Line:
    """`line`, shortened when wider than `width`, but not padded."""
    line = list(line)
    return fit(line, width) if width_of(line) > width else line


def beside(*blocks: Sequence[Line]) -> list[Line]:
    """Blocks of equal height, side by side."""
    return [[segment for line in row for segment in line] for row in zip(*blocks, strict=True)]


def bar(fraction: float, width: int, style: Style, *, leftward: bool = False) -> Line:
    """A bar of `fraction` (clipped to 0..1) of `width` cells, to an eighth of a cell.

    Leftward bars grow from the right edge; there are no glyphs for that, so the last cell is drawn in reverse.
    """
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    whole, part = divmod(eighths, 8)
    blank = " " * (width - whole - (part > 0))
    if not leftward:
        return [Segment("█" * whole + (_EIGHTHS[part] if part else ""), style), Segment(blank)]
    edge = [Segment(_EIGHTHS[8 - part], style + Style(reverse=True))] if part else []
    return [Segment(blank), *edge, Segment("█" * whole, style)]


def balance(value: float, width: int, positive: Style, negative: Style) -> Line:
    """A bar from the centre: right for values in (0, 1], left for [-1, 0)."""
    half = (width - 1) // 2
    left = bar(-value, half, negative, leftward=True)
    right = bar(value, width - 1 - half, positive)
    return [*left, Segment("│", Theme.dim), *right]


def chart(values: Sequence[float | None], width: int, height: int, style: Style) -> list[Line]:
    """An area chart of the newest `width` values, right-aligned, from 0 or their lowest; None leaves a hole."""
    shown = list(values)[-width:]
    known = [value for value in shown if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    reach = max(high - low, 0.02 * abs(high))  # noise is not drawn as a mountain
    base = low - reach * 0.15 if low > 0 else low  # the lowest value is still seen
    span = low - base + reach or 1.0
    eighths = [0 if value is None else max(1, round((value - base) / span * height * 8)) for value in shown]
    return _columns(eighths, width, height, style)


def _columns(eighths: Sequence[int], width: int, height: int, style: Style) -> list[Line]:
    blank = " " * (width - len(eighths))
    rows = range(height - 1, -1, -1)
    return [
        [Segment(blank + "".join(_LEVELS[min(8, max(0, count - row * 8))] for count in eighths), style)] for row in rows
    ]


def curve(values: Sequence[float | None], width: int, height: int, style: Style) -> list[Line]:
    """A line of braille dots, two values to a cell, the newest at the right; None leaves a hole."""
    shown = list(values)[-2 * width :]
    known = [value for value in shown if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    steps = height * 4 - 1
    rows = [[0] * width for _ in range(height)]
    before: int | None = None
    for index, value in enumerate(shown, 2 * width - len(shown)):
        if value is None:
            before = None
            continue
        dot = round((high - value) / (high - low) * steps) if high > low else steps // 2
        for y in range(min(dot, dot if before is None else before), max(dot, dot if before is None else before) + 1):
            rows[y // 4][index // 2] |= _BRAILLE[index % 2][y % 4]
        before = dot
    return [[Segment("".join(chr(0x2800 + bits) if bits else " " for bits in row), style)] for row in rows]


def signed_chart(
    values: Sequence[float | None], width: int, height: int, positive: Style, negative: Style
) -> list[Line]:
    """A chart around zero: the upper half for values in (0, top], the lower half hangs down for negative ones.

    Scaled to the largest magnitude shown, so small differences stay visible. Args: height: even.
    """
    shown = list(values)[-width:]
    top = max((abs(value) for value in shown if value is not None), default=0.0) or 1.0
    half = max(1, height // 2)
    up = [round(max(0.0, value or 0.0) / top * half * 8) for value in shown]
    down = [round(max(0.0, -(value or 0.0)) / top * half * 8) for value in shown]
    return [*_columns(up, width, half, positive), *_hanging(down, width, half, negative)]


def _hanging(eighths: Sequence[int], width: int, height: int, style: Style) -> list[Line]:
    """Columns that hang from the top: the partly filled cell is the complement drawn in reverse."""
    lines: list[Line] = []
    flipped = style + Style(reverse=True)
    for row in range(height):
        line: Line = [Segment(" " * (width - len(eighths)))]
        for count in eighths:
            filled = min(8, max(0, count - row * 8))
            if filled in (0, 8):
                line.append(Segment(_LEVELS[filled], style))
            else:
                line.append(Segment(_LEVELS[8 - filled], flipped))
        lines.append(list(Segment.simplify(line)))
    return lines
