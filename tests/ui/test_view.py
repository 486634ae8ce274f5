"""The picture: exact size whatever the terminal, nothing that pretends, nothing that is interpreted."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from orderflow.core.types import (
    BookState,
    BookStateChanged,
    BookView,
    Category,
    InstrumentId,
    LinkChanged,
    ViewFrame,
)
from orderflow.logs import LogLine
from orderflow.ui import tables
from orderflow.ui.ability import SMALLEST
from orderflow.ui.cells import Theme
from orderflow.ui.history import History
from orderflow.ui.line import Look
from orderflow.ui.view import export_svg, render
from tests.ui.frames import make_frame, make_history, make_view

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.ui.cells import Picture

FRAME, HISTORY = make_history(90)


def text_of(picture: Picture) -> list[str]:
    return ["".join(segment.text for segment in line) for line in picture.lines]


def assert_exact(picture: Picture, width: int, height: int) -> None:
    lines = text_of(picture)
    assert len(lines) == height
    assert {cell_len(line) for line in lines} <= {width}
    assert all(line.isprintable() for line in lines)


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 260), st.integers(1, 90), st.integers(0, 24), st.integers(-3, 30))
@example(100, 32, 10, 0)
def test_every_size_is_filled_exactly(width: int, height: int, count: int, selected: int) -> None:
    frame = make_frame(30, count) if count else replace(FRAME, books=())
    assert_exact(render(frame, HISTORY, (width, height), selected=selected), width, height)


@pytest.mark.parametrize("size", [SMALLEST, (80, 24), (120, 40), (200, 50)])
@pytest.mark.parametrize("count", [1, 4, 20])
def test_what_must_be_seen_at_every_size(size: tuple[int, int], count: int) -> None:
    frame = make_frame(89, count)
    screen = "\n".join(text_of(render(frame, HISTORY, size, messages=[logged(1, "x y")], note="q")))
    for words in ("orderflow", "sim", "live", "BTCUSDT", "spread", "bid", "links", "inverse-1 down", "alerts"):
        assert words in screen
    tick = frame.books[0].tick
    assert f"{tick.bid:.1f}" in screen
    assert f"{tick.ask:.1f}" in screen


def test_a_book_that_is_not_live_is_grey_with_its_reason_and_no_metrics() -> None:
    view = make_view(50, 0, state=BookState.SUSPECT, reason="crossed")
    frame = replace(FRAME, books=(view,))
    for size in ((80, 24), (120, 40), (200, 50)):
        picture = render(frame, HISTORY, size)
        screen = "\n".join(text_of(picture))
        assert "▲ suspect crossed" in screen
        assert "0/1 live" in screen
        assert "no numbers until" in screen
        priced = [
            segment.text
            for line in picture.lines[1 : size[1] // 2]
            for segment in line
            if segment.style in (Theme.bid, Theme.bid_best, Theme.bid_bar, Theme.ask, Theme.ask_best, Theme.ask_bar)
        ]
        assert not [text for text in priced if re.search(r"\d", text)]


def test_missing_values_empty_sides_and_unknown_instruments() -> None:
    view = make_view(50, 0)
    names = ("ask", "ask_size", "mid", "weighted_mid", "spread", "spread_pct", "spread_bps", "imbalance", "liquidity")
    unknown = ("base_coin", "quote_coin", "price_decimals", "size_decimals", "band_bps", "latency_ms", "u")
    bare = replace(view.tick, reason="empty_side", **dict.fromkeys((*names, *unknown)))
    for bids in (view.bids, ()):
        frame = replace(FRAME, books=(BookView(tick=bare, bids=bids, asks=()),), clock=None, links=(), alerts=())
        for size in ((80, 24), (120, 40), (200, 50)):
            picture = render(frame, History(), size)
            assert_exact(picture, *size)
            assert "no alerts" in "\n".join(text_of(picture))


def logged(ts: int, message: str) -> LogLine:
    return LogLine(ts, "warning", message, message)


def test_news_of_every_kind_newest_first() -> None:
    """Between its alerts a viewer sees what broke and how it came back; steps of an ordinary start are no news."""
    btc, ts = InstrumentId(Category.LINEAR, "BTCUSDT"), FRAME.ts
    (alert, *_) = FRAME.alerts
    old = replace(alert, tick=replace(alert.tick, ts=ts - 5000), message="an old alert")
    suspect = BookStateChanged(instrument=btc, old=BookState.LIVE, new=BookState.SUSPECT, reason="gap", mono_ns=0)
    frame = replace(
        FRAME,
        alerts=(old,),
        news=(
            (ts - 3000, LinkChanged(link="linear", state="down", reason="reset", retry_s=0.5)),
            (ts - 2500, LinkChanged(link="linear", state="connecting")),
            (ts - 2000, suspect),
            (ts - 1500, replace(suspect, old=BookState.SUSPECT, new=BookState.SYNCING)),
            (ts - 1000, replace(suspect, old=BookState.SYNCING, new=BookState.LIVE, reason="")),
        ),
    )
    rows = tables.news_rows(frame, [logged(ts - 4000, "fault: one message lost")], Look(emoji=False), 70, 10)
    shown = ["".join(segment.text for segment in row) for row in rows]
    words = ("BTCUSDT live", "BTCUSDT suspect gap", "link linear down: reset", "! fault: one", "an old alert")
    assert len(shown) == len(words)
    for line, part in zip(shown, words, strict=True):
        assert part in line
    assert len(tables.news_rows(frame, [], Look(emoji=False), 70, 2)) == 2


def test_hostile_text_stays_text() -> None:
    evil = "[red]x[/red]\x1b[2J\u202e\n日本 e\u0301"
    book = make_view(1, 0)
    tick = replace(book.tick, symbol=evil, base_coin=evil, quote_coin=evil, reason=evil, state=BookState.STALE)
    alert = replace(FRAME.alerts[0], message=evil, tick=tick, plugin=evil)
    link = LinkChanged(link=evil, state="down", reason=evil, detail=evil)
    became = BookStateChanged(
        instrument=InstrumentId(Category.LINEAR, evil),
        old=BookState.LIVE,
        new=BookState.SUSPECT,
        reason=evil,
        mono_ns=0,
        detail=evil,
    )
    frame = replace(
        FRAME,
        env=evil,
        books=(replace(book, tick=tick), replace(book, tick=replace(tick, state=BookState.LIVE))),
        alerts=(alert,),
        links=(LinkChanged(link=evil, state=evil, reason=evil, detail=evil),),
        news=((tick.ts, link), (tick.ts, became)),
    )  # fmt: skip
    for size in ((80, 24), (120, 40), (200, 50)):
        for selected in (0, 1):
            picture = render(frame, HISTORY, size, messages=[logged(tick.ts, evil)], selected=selected)
            assert_exact(picture, *size)
        console = Console(file=io.StringIO(), width=size[0], force_terminal=True, color_system=None)
        console.print(picture, end="")
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "[red]x[/red]" in shown
        assert "\x1b[2J" not in shown


def test_the_chosen_book_is_drawn_and_marked() -> None:
    frame = make_frame(30, 20, trouble=False)
    screen = text_of(render(frame, HISTORY, (120, 40), selected=18))
    symbol = frame.books[18].tick.symbol
    assert any(line.lstrip("│ ").startswith("▸") and symbol in line for line in screen)
    assert symbol in screen[1]


def test_svg_is_small_and_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "demo.svg"
    export_svg(FRAME, HISTORY, str(path), 120, 40)
    text = path.read_text()
    assert len(text) < 200_000
    assert "BTCUSDT" in text
    assert not re.findall(r"(?:href=|url\()[\"']?http", text)


def test_drawing_leaves_the_frame_alone() -> None:
    frame: ViewFrame = make_frame(10)
    before = text_of(render(frame, HISTORY, (120, 40)))
    assert text_of(render(frame, HISTORY, (120, 40))) == before
