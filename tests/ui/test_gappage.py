"""The quality report for people: what it says, what it never lets through, and how big it gets."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from orderflow.core.figures import Cause, CauseFigures, GapReport, GapSeen, Quality, Quantiles, Stretch, TopicReport
from orderflow.core.timeline import WORST_LAST
from orderflow.ui.gappage import MAX_ROWS, gap_page
from orderflow.ui.gapstyle import STYLE
from orderflow.ui.gaptext import format_report, format_span

T0 = 1_790_000_000_000
EVIL = "\x1b[31m</title><script>alert(1)</script>\u202e\"'><img src=http://x/ onerror=x>&amp;\n"
GAP = GapSeen(from_ms=T0 + 60_000, to_ms=T0 + 62_500, seconds=2.5, cause=Cause.DISCONNECT, reason="eof", detail="")
QUALITY = Quality(
    category="linear",
    symbol="BTCUSDT",
    coverage_pct=99.9999,
    asked_s=3600.0,
    live_s=3597.4,
    gaps=1,
    gaps_per_hour=1.0,
    gap_s=2.5,
    longest_gap_s=2.5,
    causes=(
        CauseFigures(cause=Cause.DISCONNECT, count=1, seconds=2.5, longest_s=2.5),
        CauseFigures(cause=Cause.START, count=1, seconds=0.0, longest_s=0.0),
    ),
    messages=7200,
    first_ms=T0 + 100,
    last_ms=T0 + 3_599_990,
    recovery_s=Quantiles(count=1, p50=2.5, p90=2.5, p99=2.5, max=2.5),
    latency_ms=Quantiles(count=7200, p50=45.0, p90=50.0, p99=60.0, max=80.0),
    clock_offset_ms=Quantiles(count=3, p50=1.0, p90=1.5, p99=1.5, max=1.5),
)


def stretch(state: str, begin_s: float, end_s: float, parts: int = 1) -> Stretch:
    lost_s = 0.0 if state == "live" else end_s - begin_s
    return Stretch(
        state=state, from_ms=T0 + round(begin_s * 1000), to_ms=T0 + round(end_s * 1000), parts=parts, lost_s=lost_s
    )


def topic(quality: Quality = QUALITY, gaps: tuple[GapSeen, ...] = (GAP,)) -> TopicReport:
    stretches = (stretch("live", 0, 60), stretch("empty", 60, 62.5), stretch("live", 62.5, 3600))
    return TopicReport(quality=quality, gaps=gaps, gaps_left_out=0, stretches=stretches)


def report(*topics: TopicReport, troubles: tuple[str, ...] = ()) -> GapReport:
    shown = topics or (topic(),)
    return GapReport(
        from_ms=T0,
        to_ms=T0 + 3_600_000,
        sessions=1,
        files=1,
        bytes=1_500_000,
        total=replace(shown[0].quality, category="", symbol=""),
        topics=shown,
        troubles=troubles,
        troubles_left_out=0,
    )


class Seen(HTMLParser):
    """Every tag and attribute of a page, and its text; complains of tags that do not match."""

    VOID = frozenset({"meta", "path", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open[-1] in ("p", "li") and self._open[-1] != tag:
            self._open.pop()
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_what_a_person_reads_on_the_page() -> None:
    seen = Seen(gap_page(report(), "tape"))
    text = " ".join(seen.words)
    for words in ("99.99%", "linear:BTCUSDT", "disconnect (eof)", "2.5s", "no connection 14:14:20.000", "45ms", "7200"):
        assert words in text
    assert "100%" not in text.replace(STYLE, "")
    assert "Holes in the recording" not in text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = gap_page(report(), "tape")
    seen = Seen(page)
    assert seen.tags <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "svg",
            "defs",
            "pattern",
            "path",
            "header",
            "main",
            "footer",
        ),
        *("h1", "h2", "h3", "p", "section", "div", "ul", "li", "span", "table", "thead", "tbody", "tr", "th", "td"),
        *("code", "br", "footer"),
    }
    assert not {name for name, _ in seen.attributes} & {"src", "href", "style", "onclick", "onload", "action", "srcset"}
    assert re.findall(r"(?:https?:)?//\w", page) == []
    assert re.findall(r"@import|url\((?!#hatch\))", STYLE) == []
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in seen.attributes
    assert f"<style>{STYLE}</style>" in page


def test_text_from_outside_stays_text() -> None:
    gaps = replace(GAP, reason=EVIL, detail=EVIL), replace(GAP, detail=EVIL)
    evil = topic(replace(QUALITY, symbol=EVIL, category=EVIL), gaps)
    hostile, calm = report(evil, troubles=(EVIL,)), report(topic(), troubles=("x",))
    page = gap_page(hostile, EVIL)
    assert Seen(page).tags == Seen(gap_page(calm, "tape")).tags
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert all(line.isprintable() for line in format_report(hostile).splitlines())


def test_every_state_has_a_colour_and_a_word() -> None:
    shown = replace(topic(), stretches=tuple(stretch(state, n, n + 1) for n, state in enumerate(WORST_LAST)))
    page = gap_page(report(shown), "tape")
    for state in WORST_LAST:
        assert f".{state}{{fill:" in STYLE
        assert f"<path class={state} d=" in page
    assert page.count("<li><svg") == len(WORST_LAST)


def test_the_shortest_gap_is_wide_enough_to_see() -> None:
    shown = replace(topic(), stretches=(stretch("live", 0, 3599.999), stretch("suspect", 3599.999, 3600)))
    page = gap_page(report(shown), "tape")
    assert '<path class=suspect d="M997.0 0h3.0v24h-3.0z">' in page


def test_stretches_that_were_put_together_say_so() -> None:
    shown = replace(topic(), stretches=(stretch("suspect", 0, 3600, parts=9),))
    page = gap_page(report(shown), "tape")
    assert "9 short stretches, 1h 00m of 1h 00m not live" in page
    assert "half as high" not in page
    mostly_live = replace(shown, stretches=(replace(shown.stretches[0], lost_s=100.0),))
    page = gap_page(report(mostly_live), "tape")
    assert "half as high: short gaps" in page
    assert '<path class=suspect d="M0.0 6h1000.0v12h-1000.0z">' in page


def test_the_page_stays_small_however_much_went_wrong() -> None:
    gaps = tuple(replace(GAP, from_ms=T0 + n, detail="x" * 500) for n in range(50))
    pieces = tuple(stretch("live" if n % 2 else "suspect", n * 10, n * 10 + 10, parts=5) for n in range(50))
    topics = [replace(topic(), gaps=gaps, stretches=pieces) for _ in range(100)]  # 5,000 stretches, 5,000 gaps
    page = gap_page(report(*topics), "tape")
    assert len(page) < 1_000_000
    assert page.count("disconnect (eof: x") == MAX_ROWS


def test_without_gaps() -> None:
    clean = replace(QUALITY, gaps=0, gaps_per_hour=0.0, gap_s=0.0, longest_gap_s=0.0, coverage_pct=100.0, causes=())
    found = report(topic(clean, ()))
    assert "None: since its first snapshot every topic was live all the time." in gap_page(found, "tape")
    assert "Gaps          none" in format_report(found)


def test_several_days_are_named() -> None:
    days = replace(report(), to_ms=T0 + 3 * 86_400_000)
    assert "<span>09-21 14:13</span>" in gap_page(days, "tape")
    assert "2026-09-24" in format_report(days)


@pytest.mark.parametrize(
    "seconds, text", [(0.0, "0.0ms"), (0.0015, "1.5ms"), (0.0999, "100ms"), (0.1, "0.1s"), (75.0, "1m 15s")]
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert format_span(seconds) == text
