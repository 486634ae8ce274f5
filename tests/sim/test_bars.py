from __future__ import annotations

import datetime as dt
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.sim.bars import (
    DAY,
    HOUR,
    INTERVALS,
    MINUTE,
    Bar,
    Candles,
    History,
    bridge,
    interval_end,
    interval_start,
    merge,
)

START = 1_790_000_000_000  # a Monday, 14:13:20 UTC: inside a minute, an hour, a day and a week


def history(end_ms: int, seed: str = "s") -> History:
    return History(seed, end_ms, 650_000, 5e6, 0.02, lambda ticks, lots: ticks * lots)


def candles(start_ms: int = START) -> Candles:
    return Candles(lambda: history(start_ms - start_ms % MINUTE), start_ms, 650_000)


def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(dt.datetime(year, month, day, hour, minute, tzinfo=dt.UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    "interval, start, end",
    [
        ("1", ms(2026, 9, 21, 14, 13), ms(2026, 9, 21, 14, 14)),
        ("15", ms(2026, 9, 21, 14, 0), ms(2026, 9, 21, 14, 15)),
        ("240", ms(2026, 9, 21, 12), ms(2026, 9, 21, 16)),
        ("D", ms(2026, 9, 21), ms(2026, 9, 22)),
        ("W", ms(2026, 9, 21), ms(2026, 9, 28)),
        ("M", ms(2026, 9, 1), ms(2026, 10, 1)),
    ],
)
def test_interval_bounds(interval: str, start: int, end: int) -> None:
    assert interval_start(START, interval) == start
    assert interval_end(start, interval) == end


@given(
    seed=st.integers(), low=st.integers(1, 1000), spans=st.tuples(*[st.integers(0, 500)] * 3), count=st.integers(1, 60)
)
def test_a_bridge_stays_in_its_candle_and_ends_at_its_close(
    seed: int, low: int, spans: tuple[int, int, int], count: int
) -> None:
    high = low + max(spans)
    whole = Bar(0, low + spans[0], high, low, low + spans[1])
    closes = bridge(random.Random(seed), whole, count)
    assert len(closes) == count
    assert closes[-1] == whole.close
    assert all(low <= close <= high for close in closes)


@settings(max_examples=20, deadline=None)
@given(seed=st.text(max_size=4), back=st.integers(2, 300))
def test_parts_of_history_make_up_their_whole(seed: str, back: int) -> None:
    past = history(START - START % MINUTE, seed)
    day = past.day(START - START % DAY - back * DAY)
    assert day is not None
    hours = [past.hour(day.start_ms + index * HOUR) for index in range(24)]
    minutes = [past.minute(day.start_ms + index * MINUTE) for index in range(1440)]
    for parts in (hours, minutes):
        whole = merge(day.start_ms, [bar for bar in parts if bar is not None])
        assert (whole.open, whole.high, whole.low, whole.close) == (day.open, day.high, day.low, day.close)
        assert whole.volume == day.volume
    assert all(bar is not None and bar.low <= min(bar.open, bar.close) for bar in minutes)
    assert all(bar is not None and bar.high >= max(bar.open, bar.close) for bar in minutes)


def test_history_ends_where_the_simulation_begins() -> None:
    past = history(START - START % MINUTE)
    last = past.minute(START - START % MINUTE - MINUTE)
    assert last is not None
    assert last.close == 650_000
    assert past.minute(START - START % MINUTE) is None


@pytest.mark.parametrize("interval", INTERVALS)
def test_candles_join_history_and_trades(interval: str) -> None:
    book = candles()
    book.add(650_500, 7, 7 * 650_500, START + 10)
    book.add(649_900, 2, 2 * 649_900, START + 20)
    bars = book.klines(interval, START + 30, 10)
    assert len(bars) == 10
    assert [bar.start_ms for bar in bars[1:]] == [interval_end(bar.start_ms, interval) for bar in bars[:-1]]
    assert [bar.open for bar in bars[1:]] == [bar.close for bar in bars[:-1]]
    assert bars[-1].close == 649_900
    assert bars[-1].low <= 649_900 < 650_500 <= bars[-1].high
    assert bars[-1].last_ms == START + 20


def test_minutes_without_trades_are_flat() -> None:
    book = candles()
    book.add(650_500, 7, 7, START)
    bars = book.klines("1", START + 3 * MINUTE, 3)
    assert [(bar.open, bar.close, bar.volume) for bar in bars] == [(650_500, 650_500, 0)] * 3


def test_klines_can_end_in_the_past_and_unknown_intervals_are_refused() -> None:
    book = candles()
    bars = book.klines("60", START, 5, START - 10 * DAY)
    assert bars[-1].start_ms == interval_start(START - 10 * DAY, "60")
    with pytest.raises(KeyError):
        book.klines("7", START, 5)


def test_history_is_finite() -> None:
    assert 50 < len(candles().klines("W", START, 1000)) < 70


def test_day_stats_are_those_of_the_minutes() -> None:
    book = candles()
    now = START
    rng = random.Random(1)
    for _ in range(400):
        now += rng.randrange(40_000)
        book.add(650_000 + rng.randrange(-400, 400), 1 + rng.randrange(50), 11, now)
    stats = book.day_stats(now)
    minutes = [bar for bar in book.klines("1", now, 1441) if bar.start_ms >= now - now % MINUTE - DAY]
    whole = merge(0, minutes)
    assert (stats.open, stats.high, stats.low, stats.volume) == (whole.open, whole.high, whole.low, whole.volume)
    assert stats.hour_ago == minutes[-61].open
