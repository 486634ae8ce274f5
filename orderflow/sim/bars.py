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
    from collections.abc import Callable, Sequence

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
        self._days = {bar.start_ms: bar for bar in self._walk(close, daily_lots, daily_move)}

    def day(self, start_ms: int) -> Bar | None:
        """The day that begins then; the newest may be only its first part. None: too long ago, or not over."""
        return self._days.get(start_ms)

    def hour(self, start_ms: int) -> Bar | None:
        whole = self.day(start_ms - start_ms % DAY)
        return None if whole is None else self._part(whole, DAY, HOUR, start_ms)

    def minute(self, start_ms: int) -> Bar | None:
        whole = self.hour(start_ms - start_ms % HOUR)
        return None if whole is None else self._part(whole, HOUR, MINUTE, start_ms)

    def _part(self, whole: Bar, whole_ms: int, part_ms: int, start_ms: int) -> Bar | None:
        parts = self._split(whole, whole_ms, part_ms)
        index = (start_ms - whole.start_ms) // part_ms
        return parts[index] if index < len(parts) else None

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

    A candle opens at the price the last one closed with, trades or none. `past` makes the time before the start; it is
    called once, when somebody first asks for it.
    """

    def __init__(self, past: Callable[[], History], start_ms: int, ticks: int) -> None:
        self._make_past = past
        self._past: History | None = None
        self._first = start_ms - start_ms % MINUTE
        self._minutes: deque[Bar] = deque([flat(self._first, ticks)], maxlen=LIVE_MINUTES)
        self._hour = flat(self._first - self._first % HOUR, ticks)
        self._day = flat(self._first - self._first % DAY, ticks)
        self._hours = {self._hour.start_ms: self._hour}
        self._days = {self._day.start_ms: self._day}
        self._stats_minute = -1
        self._closed: Bar | None = None

    @property
    def history(self) -> History:
        """The time before the start."""
        if self._past is None:
            self._past = self._make_past()
        return self._past

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
        start = interval_start(now_ms if end_ms is None else min(now_ms, end_ms), interval)
        bars: list[Bar] = []
        while len(bars) < limit:
            parts = self._parts(interval, start, min(interval_end(start, interval), now_ms + 1))
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
        if minute != self._stats_minute or self._closed is None:
            self._stats_minute = minute
            self._closed = merge(minute, self._closed_day(minute - DAY))
        closed, hour = self._closed, self._joined(self._hour, HOUR)
        hour_ago = self._minute_at(minute - HOUR)
        return DayStats(
            closed.open,
            max(closed.high, hour.high),
            min(closed.low, hour.low),
            closed.volume + hour.volume,
            closed.turnover + hour.turnover,
            closed.open if hour_ago is None else hour_ago.open,
        )

    def _closed_day(self, start_ms: int) -> list[Bar]:
        """Minutes up to the first full hour, then hours up to the open one."""
        hour = -(-start_ms // HOUR) * HOUR
        return self._parts("1", start_ms, hour) + self._parts("60", hour, self._hour.start_ms)

    def _parts(self, interval: str, start_ms: int, end_ms: int) -> list[Bar]:
        """The days, hours or minutes that make up candles of this interval, as far as they exist."""
        if interval in ("D", "W", "M"):
            found = [self._day_at(at) for at in range(start_ms, end_ms, DAY)]
        elif INTERVAL_MS[interval] >= HOUR:
            found = [self._hour_at(at) for at in range(start_ms, end_ms, HOUR)]
        else:
            found = [self._minute_at(at) for at in range(start_ms, end_ms, MINUTE)]
        return [bar for bar in found if bar is not None]

    def _day_at(self, start_ms: int) -> Bar | None:
        live = self._days.get(start_ms)
        return self._joined(live, DAY) if live is not None else self.history.day(start_ms)

    def _hour_at(self, start_ms: int) -> Bar | None:
        live = self._hours.get(start_ms)
        return self._joined(live, HOUR) if live is not None else self.history.hour(start_ms)

    def _minute_at(self, start_ms: int) -> Bar | None:
        if start_ms < self._first:
            return self.history.minute(start_ms)
        index = (start_ms - self._minutes[0].start_ms) // MINUTE
        return self._minutes[index] if 0 <= index < len(self._minutes) else None

    def _joined(self, live: Bar, length_ms: int) -> Bar:
        """The hour or day in which the simulation began, together with what came before it."""
        if live.start_ms <= self._first - length_ms or live.start_ms >= self._first:
            return live
        past = self.history.hour(live.start_ms) if length_ms == HOUR else self.history.day(live.start_ms)
        return live if past is None else merge(live.start_ms, [past, live])
