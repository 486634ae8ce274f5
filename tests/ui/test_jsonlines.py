"""JSON lines: one object a line, the promised names at the top level, null for what is missing."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orderflow.core.types import (
    Alert,
    AlertKind,
    BookState,
    BookStateChanged,
    Category,
    ClockOffset,
    HopLatency,
    InstrumentId,
    LinkChanged,
    MetricsTick,
    Severity,
    Summary,
)
from orderflow.ui.jsonlines import (
    encode_alert,
    encode_dropped,
    encode_event,
    encode_feed,
    encode_start,
    encode_summary,
    encode_tick,
)

PROMISED = [
    "ts",
    "category",
    "symbol",
    "state",
    "reason",
    "bid",
    "ask",
    "mid",
    "spread",
    "spread_pct",
    "spread_bps",
    "imbalance",
    "liquidity",
    "latency_ms",
    "book_age_ms",
    "u",
    "updates",
    "gaps",
    "resyncs",
    "reconnects",
]


def parse(line: str) -> dict[str, Any]:
    """One line, one object; anything JSON does not know is an error."""
    assert line.endswith("\n")
    assert line[:-1].isprintable()

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    value = json.loads(line, parse_constant=refuse)
    assert isinstance(value, dict)
    assert next(iter(value)) == "event"
    return value


def test_tick_has_the_promised_names_at_the_top(tick: MetricsTick) -> None:
    row = parse(encode_tick(tick))
    assert row["event"] == "tick"
    assert set(PROMISED) <= set(row)
    assert row["bid"] == 50000.0
    assert isinstance(row["bid"], float)
    assert (row["category"], row["state"], row["updates"], row["gaps"]) == ("linear", "live", 1234, 1)
    assert row["hops"]["socket_to_book"]["p99"] == 0.09
    assert "counters" not in row


def test_missing_values_are_null(tick: MetricsTick) -> None:
    empty = MetricsTick(
        ts=1, mono_ns=1, category=Category.SPOT, symbol="BTCUSDT", state=BookState.SUSPECT, reason="gap", depth=50
    )
    row = parse(encode_tick(empty))
    for name in ("bid", "ask", "mid", "spread", "imbalance", "liquidity", "latency_ms", "book_age_ms", "u"):
        assert row[name] is None
    assert row["hops"]["engine_to_gateway"]["p50"] is None
    sick = replace(tick, imbalance=math.nan, liquidity=math.inf, latency_ms=-math.inf)
    row = parse(encode_tick(sick))
    assert row["imbalance"] is row["liquidity"] is row["latency_ms"] is None


@given(st.text(st.characters(exclude_categories=())))
def test_outside_text_is_escaped(text: str) -> None:
    change = LinkChanged(link=text, state="down", detail=text)
    book = BookStateChanged(
        instrument=InstrumentId(Category.SPOT, "BTCUSDT"),
        old=BookState.LIVE,
        new=BookState.CLOSED,
        reason="refused",
        mono_ns=0,
        detail=text,
    )
    for line in (encode_feed(change, ts=1), encode_feed(book, ts=1), encode_event("note", ts=1, text=text)):
        assert all(str(value).isprintable() for value in parse(line).values())


def test_feed_lines_tell_links_from_books() -> None:
    link = parse(encode_feed(LinkChanged(link="linear-1", state="up", ts=7), ts=9))
    assert (link["kind"], link["link"], link["state"], link["ts"], link["retry_s"]) == (
        "link",
        "linear-1",
        "up",
        7,
        None,
    )
    change = BookStateChanged(
        instrument=InstrumentId(Category.SPOT, "BTCUSDT"),
        old=BookState.LIVE,
        new=BookState.SUSPECT,
        reason="gap",
        mono_ns=5,
    )
    book = parse(encode_feed(change, ts=9))
    assert [book[key] for key in ("kind", "category", "symbol", "old", "state", "reason", "ts")] == [
        *("book", "spot", "BTCUSDT", "live", "suspect", "gap"),
        9,
    ]


def test_alert_carries_its_evidence(tick: MetricsTick) -> None:
    alert = Alert(
        rule="wide",
        plugin="spread",
        kind=AlertKind.RAISE,
        severity=Severity.CRITICAL,
        message="wide\n",
        tick=tick,
        metric="spread_pct",
        value=0.9,
        threshold=0.8,
        since_ms=5,
    )
    row = parse(encode_alert(alert))
    assert (row["kind"], row["severity"], row["value"], row["threshold"], row["since_ms"]) == (
        *("raise", "critical", 0.9, 0.8, 5),
    )
    assert row["message"] == r"wide\n"
    assert row["tick"]["updates"] == 1234
    assert row["ts"] == tick.ts


def test_start_summary_and_dropped(tick: MetricsTick) -> None:
    start = parse(encode_start(ts=1, version="0.1", env="sim", instruments=["spot:BTCUSDT"], depth=50, interval_s=5.0))
    assert (start["event"], start["instruments"]) == ("start", ["spot:BTCUSDT"])
    summary = Summary(
        uptime_s=1.5,
        messages=1,
        refused=0,
        gaps=0,
        resyncs=0,
        reconnects=0,
        alerts=0,
        books=(tick,),
        hops=HopLatency(),
        clock=ClockOffset(offset_ms=1.0, error_ms=0.5, mono_ns=0),
        notes=("a\x1b",),
    )
    row = parse(encode_summary(summary, ts=2))
    assert (row["event"], row["ts"], row["books"][0]["updates"]) == ("summary", 2, 1234)
    assert row["clock"] == {"offset_ms": 1.0, "error_ms": 0.5}
    assert row["notes"] == [r"a\x1b"]
    assert parse(encode_summary(replace(summary, clock=None), ts=2))["clock"] is None
    assert parse(encode_dropped(3, ts=4)) == {"event": "dropped", "ts": 4, "lines": 3}
