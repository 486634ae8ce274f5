"""The ladder: levels of one book with depth bars, side by side or one above the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from rich.segment import Segment

from orderflow.core.text import escape_text, plain_decimal
from orderflow.core.types import Category
from orderflow.ui.cells import Line, Theme, bar, cell, fit
from orderflow.ui.line import MISSING, format_mid, format_number, price_decimals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.style import Style

    from orderflow.core.types import BookView, Level, MetricsTick


class _Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How a ladder writes numbers: decimals and column widths that hold for all its rows."""

    price_decimals: int
    size_decimals: int
    price_width: int
    size_width: int
    top: float

    def price(self, value: float) -> str:
        return plain_decimal(value, self.price_decimals)

    def size(self, value: float) -> str:
        return f"{value:.{self.size_decimals}f}"


def _scale(view: BookView, rows: int) -> _Scale:
    levels = [*view.bids[:rows], *view.asks[:rows]]
    decimals = price_decimals(view.tick)
    top = max((size for _, size in levels), default=0.0)
    known = view.tick.size_decimals
    size_decimals = known if known is not None else max(0, 4 - len(str(int(top))))
    return _Scale(
        price_decimals=decimals,
        size_decimals=size_decimals,
        price_width=max((len(plain_decimal(price, decimals)) for price, _ in levels), default=5),
        size_width=max((len(f"{size:.{size_decimals}f}") for _, size in levels), default=4),
        top=top,
    )


def _bar_fraction(size: float, top: float) -> float:
    """Square root: one giant level must not flatten all others."""
    return math.sqrt(size / top) if top > 0 else 0.0


def ladder_wide(view: BookView, width: int, rows: int) -> list[Line]:
    """Bids left, asks right, best on top, bars growing outward: for short screens."""
    scale = _scale(view, rows)
    half = (width - 3) // 2
    room = half - scale.price_width - scale.size_width - 3
    lines = [_ladder_head(view.tick, width, half)] if rows > 1 else []
    for index in range(rows - len(lines)):
        left = _side_row(view, view.bids, index, scale, room, bid=True)
        right = _side_row(view, view.asks, index, scale, width - 3 - half - (half - room), bid=False)
        lines.append([*fit(left, half), Segment(" │ ", Theme.border), *fit(right, width - 3 - half)])
    return lines


def _ladder_head(tick: MetricsTick, width: int, half: int) -> Line:
    coin = _size_coin(tick)
    return [
        cell(f"bid {coin}".rstrip(), half, Theme.dim, ">"),
        Segment(" │ ", Theme.border),
        cell(f"ask {coin}".rstrip(), width - 3 - half, Theme.dim),
    ]


def _size_coin(tick: MetricsTick) -> str:
    """The unit sizes have on the wire."""
    return "USD" if tick.category is Category.INVERSE else escape_text(tick.base_coin or "", 12)


def _side_row(view: BookView, levels: Sequence[Level], index: int, scale: _Scale, room: int, *, bid: bool) -> Line:
    if index >= len(levels):
        return []
    price, size = levels[index]
    style, bar_style = _level_styles(view.tick.live, index == 0, bid)
    bars = bar(_bar_fraction(size, scale.top), room, bar_style, leftward=bid)
    size_cell = cell(scale.size(size), scale.size_width, Theme.text if view.tick.live else Theme.grey, ">")
    price_cell = cell(scale.price(price), scale.price_width, style, ">")
    if bid:
        return [*bars, Segment(" "), size_cell, Segment("  "), price_cell]
    return [price_cell, Segment("  "), size_cell, Segment(" "), *bars]


def _level_styles(live: bool, best: bool, bid: bool) -> tuple[Style, Style]:
    """(price, bar) styles; all grey while the book may not be believed."""
    if not live:
        return Theme.grey, Theme.track
    if bid:
        return (Theme.bid_best if best else Theme.bid), Theme.bid_bar
    return (Theme.ask_best if best else Theme.ask), Theme.ask_bar


def ladder_tall(view: BookView, width: int, height: int) -> list[Line]:
    """Asks above, bids below, best in the middle around the spread: for tall screens."""
    rows = max(1, (height - 2) // 2)
    scale = _scale(view, rows)
    total_width = max(scale.size_width + 1, 7)
    room = width - scale.price_width - scale.size_width - total_width - 6
    head = [
        cell("price", scale.price_width, Theme.dim, ">"),
        cell("size", scale.size_width + 2, Theme.dim, ">"),
        Segment("  "),
        cell(_size_coin(view.tick), room, Theme.dim),
        cell("total", total_width + 2, Theme.dim, ">"),
    ]
    asks = _tall_side(view, view.asks[:rows], scale, room, total_width, bid=False)
    bids = _tall_side(view, view.bids[:rows], scale, room, total_width, bid=True)
    above: list[Line] = [[] for _ in range(rows - len(asks))]
    lines = [head, *above, *reversed(asks), _spread_row(view.tick, width), *bids]
    return [fit(line, width) for line in lines]


def _tall_side(
    view: BookView, levels: Sequence[Level], scale: _Scale, room: int, total_width: int, *, bid: bool
) -> list[Line]:
    lines: list[Line] = []
    total = 0.0
    for index, (price, size) in enumerate(levels):
        total += size
        style, bar_style = _level_styles(view.tick.live, index == 0, bid)
        lines.append(
            [
                cell(scale.price(price), scale.price_width, style, ">"),
                cell(scale.size(size), scale.size_width + 2, Theme.text if view.tick.live else Theme.grey, ">"),
                Segment("  "),
                *bar(_bar_fraction(size, scale.top), room, bar_style),
                cell(f"{total:.{min(scale.size_decimals, 2)}f}", total_width + 2, Theme.dim, ">"),
            ]
        )
    return lines


def _spread_row(tick: MetricsTick, width: int) -> Line:
    if not tick.live:
        words = f" {tick.state.value}: no numbers until the book is proven again "
        return [cell(words.center(width, "╌"), width, Theme.warn)]
    if tick.spread is None:
        return [cell(f" {escape_text(tick.reason, 40) or MISSING} ".center(width, "╌"), width, Theme.warn)]
    spread = plain_decimal(tick.spread, price_decimals(tick))
    words = f" {format_mid(tick)}  spread {spread} ({format_number(tick.spread_bps, '.2f')} bps) "
    return [cell(words.center(width, "╌"), width, Theme.spread)]
