"""docs/metrics.md is true: its examples are what the encoders write, and it names every field of a tick."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, fields, replace

from orderflow.core.figures import Cause, CauseFigures, Quality, Quantiles, TickQuality
from orderflow.core.stats import (
    BookStats,
    LinkStats,
    OutputStats,
    PluginStats,
    QueueStats,
    RestStats,
    ServerStats,
    Stats,
)
from orderflow.core.types import (
    Alert,
    AlertKind,
    BookCounters,
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
from orderflow.ui import jsonlines
from orderflow.ui.line import Look, format_tick

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- (.+?) -->\n```\w+\n(.+?)\n```", PAGE, re.DOTALL))
TS = 1_700_000_000_000
STATS = Stats(
    uptime_s=245.0,
    links=(
        LinkStats(
            link="linear",
            up=True,
            connects=2,
            losses={"eof": 1},
            retry_s=0.0,
            frames=5000,
            refused={"json": 1},
            topics_refused=0,
            acks_missing=0,
            unknown=3,
        ),
    ),
    books=(
        BookStats(
            category="linear",
            symbol="BTCUSDT",
            state="live",
            age_s=0.012,
            gaps=1,
            resyncs={"gap": 1},
            quality=TickQuality(coverage_pct=99.1428, gaps=1, gap_s=1.9, longest_gap_s=1.9),
        ),
    ),
    queues=(QueueStats(channel="events", depth=0, peak=12, overruns=0),),
    plugins=(PluginStats(plugin="spread", state="active", calls=49, failures=0, seconds=0.0012, disabled=False),),
    rest=RestStats(requests=51, failures=2, retries=1, pauses=1, held_back=4),
    output=OutputStats(lines=60, dropped=17, errors=0),
    server=ServerStats(served=9, refused={"host": 1}, cut=2, failed=0),
    loop_lag_s=0.0002,
    loop_lag_max_s=0.0041,
    stalls=0,
    stalled_s=0.0,
    clock_steps=0,
    clock_offset_s=0.00124,
    clock_error_s=0.0004,
)

QUALITY = Quality(
    category="linear",
    symbol="BTCUSDT",
    coverage_pct=99.1428,
    asked_s=245.0,
    live_s=242.9,
    gaps=1,
    gaps_per_hour=14.694,
    gap_s=1.9,
    longest_gap_s=1.9,
    causes=(
        CauseFigures(cause=Cause.SEQUENCE, count=1, seconds=1.9, longest_s=1.9),
        CauseFigures(cause=Cause.START, count=1, seconds=0.2, longest_s=0.2),
    ),
    messages=1240,
    first_ms=TS - 244_800,
    last_ms=TS - 12,
    jumps=1,
    missed=2,
    resyncs=1,
    recovery_s=Quantiles(count=1, p50=1.9, p90=1.9, p99=1.9, max=1.9),
    latency_ms=Quantiles(count=1240, p50=45.0, p90=50.5, p99=61.5, max=81.5),
    clock_offset_ms=Quantiles(count=4, p50=1.24, p90=1.31, p99=1.31, max=1.31),
)


def shortened(value: Any, keep: set[str]) -> Any:
    """Nested ticks with only the fields the page keeps."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key in keep}
    return [shortened(item, keep) for item in value]


def events(tick: MetricsTick) -> dict[str, str]:
    alert = Alert(
        rule="wide",
        plugin="spread",
        kind=AlertKind.RAISE,
        severity=Severity.WARNING,
        message="spread 0.92 % is wider than 0.80 %",
        tick=tick,
        metric="spread_pct",
        value=0.92,
        threshold=0.8,
        since_ms=TS - 5000,
    )
    link = LinkChanged(
        link="linear-1", state="down", reason="heartbeat", detail="no pong in 10 s", retry_s=3.2, attempt=2, ts=TS
    )
    book = BookStateChanged(
        instrument=InstrumentId(Category.LINEAR, "BTCUSDT"),
        old=BookState.LIVE,
        new=BookState.SUSPECT,
        reason="gap",
        mono_ns=0,
        detail="2 messages missing",
    )
    summary = Summary(
        uptime_s=245.0,
        messages=5000,
        refused=1,
        gaps=1,
        resyncs=1,
        reconnects=1,
        alerts=2,
        books=(tick,),
        hops=tick.hops,
        clock=ClockOffset(offset_ms=1.24, error_ms=0.4, mono_ns=0),
        notes=("REST is blocked: tick sizes are not known",),
        stats=STATS,
        quality=(QUALITY,),
    )
    names = ["linear:BTCUSDT", "spot:BTCUSDT"]
    return {
        "start": jsonlines.encode_start(ts=TS, version="0.1.0", env="sim", instruments=names, depth=50, interval_s=5.0),
        "tick": jsonlines.encode_tick(tick),
        "alert": jsonlines.encode_alert(alert),
        "feed link": jsonlines.encode_feed(link, ts=TS),
        "feed book": jsonlines.encode_feed(book, ts=TS),
        "stats": jsonlines.encode_event("stats", ts=TS, **asdict(STATS)),
        "stall": jsonlines.encode_stall(12.345, ts=TS),
        "dropped": jsonlines.encode_dropped(17, ts=TS),
        "summary": jsonlines.encode_summary(summary, ts=TS),
    }


@pytest.mark.parametrize(
    "name", ["start", "tick", "alert", "feed link", "feed book", "stats", "stall", "dropped", "summary"]
)
def test_json_examples_are_what_is_written(name: str, tick: MetricsTick) -> None:
    example, real = json.loads(EXAMPLES[name]), json.loads(events(tick)[name])
    for nested in ("tick", "books"):
        if nested in real:
            part = example[nested][0] if nested == "books" else example[nested]
            assert part
            real[nested] = shortened(real[nested], set(part))
    assert example == real
    assert list(example) == list(real)


def test_line_examples_are_what_is_written(tick: MetricsTick) -> None:
    look = Look(emoji=True)
    assert EXAMPLES["tick line"] == format_tick(tick, look)
    suspect = replace(tick, state=BookState.SUSPECT, reason="gap", book_age_ms=1234.0)
    assert EXAMPLES["not live line"] == format_tick(suspect, look)


def test_every_field_is_explained() -> None:
    structs = (MetricsTick, BookCounters, HopLatency, TickQuality)
    names = {field.name for struct in structs for field in fields(struct)}
    explained = set(re.findall(r"`(\w+)`", PAGE))
    assert names - explained - {"ts", "counters"} == set()


def test_every_state_is_explained() -> None:
    assert all(f"`{state.value}`" in PAGE for state in BookState)
