"""Candles: exact ones from the trades of the simulation, synthetic ones for the time before it began.

A history is a tree made from a seed: days walk back from the start price, a day splits into hours and an hour into
minutes only when somebody asks. A part never leaves the range of its whole, ends meet, and volumes add up, so every
interval tells the same story.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
HISTORY_DAYS: Final = 400
LIVE_MINUTES: Final = 7 * 24 * 60

INTERVAL_MS: Final = {
    "1": MINUTE, "3": 3 * MINUTE, "5": 5 * MINUTE, "15": 15 * MINUTE, "30": 30 * MINUTE,
    "60": HOUR, "120": 2 * HOUR, "240": 4 * HOUR, "360": 6 * HOUR, "720": 12 * HOUR, "D": DAY,
}  # fmt: skip
INTERVALS: Final = (*INTERVAL_MS, "W", "M")
WEEK: Final = 7 * DAY
_FIRST_MONDAY: Final = 4 * DAY  # 1970-01-05


class Bar(msgspec.Struct, gc=False):
    """One candle: prices in ticks, volume in lots, turnover in the instrument's turnover units.

    `last_ms` is the time of its last trade, or its start while it has none.
    """

    start_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    turnover: int = 0
    last_ms: int = 0

    def add(self, ticks: int, lots: int, units: int, ms: int) -> None:
        if ticks > self.high:
            self.high = ticks
        elif ticks < self.low:
            self.low = ticks
        self.close = ticks
        self.volume += lots
        self.turnover += units
        self.last_ms = ms


def flat(start_ms: int, ticks: int) -> Bar:
    """A candle without trades."""
    return Bar(start_ms, ticks, ticks, ticks, ticks, 0, 0, start_ms)


def merge(start_ms: int, bars: Sequence[Bar]) -> Bar:
    """The candle that covers all of `bars` (oldest first, at least one)."""
    return Bar(
        start_ms,
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
        sum(bar.volume for bar in bars),
        sum(bar.turnover for bar in bars),
        max(bar.last_ms for bar in bars),
    )


def interval_start(ms: int, interval: str) -> int:
    """When the candle that holds `ms` began. Weeks begin on Monday, everything is UTC."""
    if interval == "W":
        return ms - (ms - _FIRST_MONDAY) % WEEK
    if interval == "M":
        day = dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
        return int(dt.datetime(day.year, day.month, 1, tzinfo=dt.UTC).timestamp()) * 1000
    return ms - ms % INTERVAL_MS[interval]


def interval_end(start_ms: int, interval: str) -> int:
    """When the next candle begins."""
    if interval == "W":
        return start_ms + WEEK
    if interval == "M":
        return interval_start(start_ms + 32 * DAY, "M")
    return start_ms + INTERVAL_MS[interval]


class History:
    """Synthetic candles that end at `end_ms` (a whole minute) with a close of `close` ticks."""

    def __init__(
        self, seed: str, end_ms: int, close: int, daily_lots: float, daily_move: float, value: Callable[[int, int], int]
    ) -> None:
        self._seed = seed
        self._end_ms = end_ms
        self._value = value
        self._parts: dict[tuple[int, int], list[Bar]] = {}
        self.days = self._walk(close, daily_lots, daily_move)

    def hours(self, day: Bar) -> list[Bar]:
        return self._split(day, DAY, HOUR)

    def minutes(self, hour: Bar) -> list[Bar]:
        return self._split(hour, HOUR, MINUTE)

    def _walk(self, close: int, daily_lots: float, daily_move: float) -> list[Bar]:
        """Days from the newest to the oldest, then turned round. The newest may be a part of a day."""
        rng = random.Random(f"{self._seed}:days")
        days: list[Bar] = []
        start = (self._end_ms - 1) // DAY * DAY
        for _ in range(HISTORY_DAYS):
            share = min(1.0, (self._end_ms - start) / DAY)
            move = daily_move * math.sqrt(share)
            opened = max(2, round(close * math.exp(-rng.gauss(0.0, move))))
            reach = abs(rng.gauss(0.0, move * 0.6)), abs(rng.gauss(0.0, move * 0.6))
            high = round(max(opened, close) * math.exp(reach[0]))
            low = max(1, round(min(opened, close) * math.exp(-reach[1])))
            volume = max(1, round(daily_lots * share * math.exp(rng.gauss(0.0, 0.35))))
            days.append(self._bar(start, min(start + DAY, self._end_ms), (opened, high, low, close), volume))
            close, start = opened, start - DAY
        days.reverse()
        return days

    def _bar(self, start: int, end: int, prices: tuple[int, int, int, int], volume: int) -> Bar:
        mean = sum(prices) // 4
        return Bar(start, *prices, volume, self._value(mean, volume), end - 1)

    def _split(self, whole: Bar, whole_ms: int, part_ms: int) -> list[Bar]:
        key = (whole.start_ms, whole_ms)
        parts = self._parts.get(key)
        if parts is None:
            end = min(whole.start_ms + whole_ms, self._end_ms)
            count = -(-(end - whole.start_ms) // part_ms)
            rng = random.Random(f"{self._seed}:{whole.start_ms}:{whole_ms}")
            closes = bridge(rng, whole, count)
            volumes = _shares(rng, whole.volume, count)
            parts = self._parts[key] = self._fill(rng, whole, closes, volumes, part_ms, end)
        return parts

    def _fill(
        self, rng: random.Random, whole: Bar, closes: list[int], volumes: list[int], part_ms: int, end: int
    ) -> list[Bar]:
        highest, lowest = rng.randrange(len(closes)), rng.randrange(len(closes))
        wick = max(1.0, (whole.high - whole.low) / (4 * math.sqrt(len(closes))))
        parts: list[Bar] = []
        opened, start = whole.open, whole.start_ms
        for index, (close, volume) in enumerate(zip(closes, volumes, strict=True)):
            high = min(whole.high, max(opened, close) + round(rng.random() * wick))
            low = max(whole.low, min(opened, close) - round(rng.random() * wick))
            high = whole.high if index == highest else high
            low = whole.low if index == lowest else low
            parts.append(self._bar(start, min(start + part_ms, end), (opened, high, low, close), volume))
            opened, start = close, start + part_ms
        return parts


def bridge(rng: random.Random, whole: Bar, count: int) -> list[int]:
    """`count` closes of a random path from the candle's open to its close, inside its range."""
    step = (whole.high - whole.low) / (2 * math.sqrt(count))
    walk = [0.0]
    for _ in range(count):
        walk.append(walk[-1] + rng.gauss(0.0, step))
    drift = whole.close - whole.open - walk[-1]
    path = (whole.open + walk[i] + drift * i / count for i in range(1, count + 1))
    closes = [min(whole.high, max(whole.low, round(price))) for price in path]
    closes[-1] = whole.close
    return closes


def _shares(rng: random.Random, total: int, count: int) -> list[int]:
    """`total` split at random into `count` whole numbers."""
    weights = [rng.expovariate(1.0) + 0.2 for _ in range(count)]
    scale = total / sum(weights)
    parts = [int(weight * scale) for weight in weights]
    parts[-1] += total - sum(parts)
    return parts


class DayStats(msgspec.Struct, frozen=True, gc=False):
    """The last 24 hours, and the price an hour ago. Prices in ticks, volume in lots, turnover in its units."""

    open: int
    high: int
    low: int
    volume: int
    turnover: int
    hour_ago: int


class Candles:
    """All candles of one market. Trades come in by `add`, oldest first; times are exchange milliseconds.

    A candle opens at the price the last one closed with, trades or none.
    """

    def __init__(self, history: History, start_ms: int, ticks: int) -> None:
        self._history = history
        self._first = start_ms - start_ms % MINUTE
        self._minutes: deque[Bar] = deque([flat(self._first, ticks)], maxlen=LIVE_MINUTES)
        self._hour = self._begin(HOUR, ticks)
        self._day = self._begin(DAY, ticks)
        self._hours = {self._hour.start_ms: self._hour}
        self._days = {bar.start_ms: bar for bar in history.days} | {self._day.start_ms: self._day}
        self._stats_minute = -1
        self._closed = merge(0, [self._hour])

    def add(self, ticks: int, lots: int, units: int, ms: int) -> None:
        self.roll(ms)
        for bar in (self._minutes[-1], self._hour, self._day):
            bar.add(ticks, lots, units, ms)

    def roll(self, ms: int) -> None:
        """Open the candles up to the one that holds `ms`."""
        last = self._minutes[-1]
        while ms >= last.start_ms + MINUTE:
            last = flat(last.start_ms + MINUTE, last.close)
            self._minutes.append(last)
            if last.start_ms == self._hour.start_ms + HOUR:
                self._hour = self._hours[last.start_ms] = flat(last.start_ms, last.close)
            if last.start_ms == self._day.start_ms + DAY:
                self._day = self._days[last.start_ms] = flat(last.start_ms, last.close)

    def klines(self, interval: str, now_ms: int, limit: int, end_ms: int | None = None) -> list[Bar]:
        """Up to `limit` candles, oldest first: the last ones that began at or before `end_ms` (now).

        Raises: KeyError for an unknown interval.
        """
        self.roll(now_ms)
        start = interval_start(min(now_ms, now_ms if end_ms is None else end_ms), interval)
        bars: list[Bar] = []
        while len(bars) < limit:
            parts = self._base(interval)(start, min(interval_end(start, interval), now_ms + 1))
            if not parts:
                break
            bars.append(merge(start, parts))
            start = interval_start(start - 1, interval)
        bars.reverse()
        return bars

    def day_stats(self, now_ms: int) -> DayStats:
        """The 24 hours up to now, at whole minutes on their far side."""
        self.roll(now_ms)
        minute = now_ms - now_ms % MINUTE
        if minute != self._stats_minute:
            self._stats_minute = minute
            self._closed = merge(minute, self._closed_day(minute - DAY))
        closed, hour = self._closed, self._hour
        return DayStats(
            closed.open,
            max(closed.high, hour.high),
            min(closed.low, hour.low),
            closed.volume + hour.volume,
            closed.turnover + hour.turnover,
            self._minute_bars(minute - HOUR, minute - HOUR + MINUTE)[0].open,
        )

    def _closed_day(self, start_ms: int) -> list[Bar]:
        """Minutes up to the first full hour, then hours up to the open one."""
        hour = -(-start_ms // HOUR) * HOUR
        return self._minute_bars(start_ms, hour) + self._hour_bars(hour, self._hour.start_ms)

    def _begin(self, length_ms: int, ticks: int) -> Bar:
        """The open hour or day at the start: it may already have a past."""
        start = self._first - self._first % length_ms
        if start == self._first:
            return flat(start, ticks)
        day = self._history.days[-1]
        return msgspec.structs.replace(day if length_ms == DAY else self._history.hours(day)[-1])

    def _base(self, interval: str) -> Callable[[int, int], list[Bar]]:
        if interval in ("D", "W", "M"):
            return self._day_bars
        return self._hour_bars if INTERVAL_MS[interval] >= HOUR else self._minute_bars

    def _day_bars(self, start_ms: int, end_ms: int) -> list[Bar]:
        return _present(self._days.get(at) for at in range(start_ms, end_ms, DAY))

    def _hour_bars(self, start_ms: int, end_ms: int) -> list[Bar]:
        return _present(self._hour_at(at) for at in range(start_ms, end_ms, HOUR))

    def _hour_at(self, start_ms: int) -> Bar | None:
        live = self._hours.get(start_ms)
        if live is not None:
            return live
        day = self._days.get(start_ms - start_ms % DAY)
        if day is None or start_ms >= self._first:
            return None
        if day is self._day or day.start_ms >= self._first - self._first % DAY:
            day = self._history.days[-1]  # the day the simulation began on: only its first part is history
        return self._history.hours(day)[(start_ms - day.start_ms) // HOUR]

    def _minute_bars(self, start_ms: int, end_ms: int) -> list[Bar]:
        return _present(self._minute_at(at) for at in range(start_ms, end_ms, MINUTE))

    def _minute_at(self, start_ms: int) -> Bar | None:
        if start_ms >= self._first:
            index = (start_ms - self._minutes[0].start_ms) // MINUTE
            return self._minutes[index] if 0 <= index < len(self._minutes) else None
        hour_ms = start_ms - start_ms % HOUR
        if hour_ms == self._first - self._first % HOUR:
            hour: Bar | None = self._history.hours(self._history.days[-1])[-1]
        else:
            hour = self._hour_at(hour_ms)
        return None if hour is None else self._history.minutes(hour)[(start_ms - hour_ms) // MINUTE]


def _present(bars: Iterable[Bar | None]) -> list[Bar]:
    return [bar for bar in bars if bar is not None]
