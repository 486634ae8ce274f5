"""The simulator against recordings of the real exchange: the same statistics of both, side by side.

`python -m orderflow.sim.calibrate DIR` prints the table (`orderflow sim --calibrate DIR` does too). Both sides go
through one meter: a recording's frames as they were sent, the simulator's book conflated at the same push interval and
depth. `python -m orderflow.sim.calibrate --cost` prints what the markets themselves cost.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import CATALOGUE, make_instruments
from orderflow.sim.market import Exchange, diff_window
from orderflow.sim.meters import BookMeter, BookStats, Frame, TradeStats, trade_stats
from orderflow.sim.samples import read_frames, read_trades

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.core.types import Level
    from orderflow.sim.instruments import SimInstrument
    from orderflow.sim.market import Levels, Market, SimTrade

START_MS: Final = 1_790_000_000_000
WARM_UP_S: Final = 5
_LINEAR: Final = "streams/linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz"
_TRADES: Final = "trades/linear-BTCUSDT-trades-20251204-2008-2159.csv.gz"
_LEGACY: Final = "streams/legacy-v2-linear-BCH-XTZ-UNI-LTC-20210417.txt.gz"


def measure_recording(path: Path, topic: str) -> BookStats:
    """Statistics of one book topic in a recorded file: `orderbook.*` (V5) or `orderBookL2_*` (v2).

    Raises: ValueError when the file has no deltas of it; OSError when it cannot be read.
    """
    meter = BookMeter()
    for frame in read_frames(path, topic):
        meter.add(frame)
    return meter.stats()


def measure_trades(path: Path) -> TradeStats:
    """Statistics of a recorded trade file (`ts_ms,price,qty,side,...`)."""
    rows = read_trades(path)
    return trade_stats(rows, (rows[-1][0] - rows[0][0]) / 1000)


# --- the simulator ------------------------------------------------------------------------------------------------


class Conflated:
    """One topic of the simulator: the window at every push interval, as frames of what changed."""

    def __init__(self, market: Market, depth: int, interval_ms: int) -> None:
        self._market = market
        self._depth = depth
        self.interval_ms = interval_ms
        self._version = -1
        self._window: tuple[Levels, Levels] = ([], [])

    def poll(self, now_ms: int) -> Frame | None:
        """The frame of this interval, if there is one."""
        if now_ms % self.interval_ms or self._market.version == self._version:
            return None
        first, self._version = self._version < 0, self._market.version
        old, self._window = self._window, self._market.top(self._depth)
        bids = diff_window(old[0], self._window[0], True)
        asks = diff_window(old[1], self._window[1], False)
        return Frame(now_ms, first, self._real(bids), self._real(asks)) if bids or asks else None

    def _real(self, levels: Levels) -> list[Level]:
        item = self._market.instrument
        tick, lot = float(item.tick), float(item.lot)
        return [(price * tick, lots * lot) for price, lots in levels]


def _listed(instrument: InstrumentId) -> SimInstrument:
    """Raises: KeyError when neither the catalogue nor the first synthetic instruments have it."""
    synthetic = make_instruments(100, instrument.category)
    return {item.id: item for item in (*CATALOGUE, *synthetic)}[instrument]


class MarketStats(msgspec.Struct, frozen=True):
    """A simulated market: statistics by (depth, interval in ms), and of its trades."""

    books: dict[tuple[int, int], BookStats]
    trades: TradeStats


def measure_market(
    instrument: InstrumentId, topics: Iterable[tuple[int, int]], *, seed: int = 1, seconds: int = 120
) -> MarketStats:
    """Run one market of the catalogue for so many simulated seconds and measure its (depth, interval in ms) topics.

    Raises: KeyError when the catalogue does not list it; ValueError when a topic had no deltas.
    """
    item = _listed(instrument)
    exchange = Exchange([item], seed, START_MS)
    market = exchange.markets[instrument]
    begin = START_MS + WARM_UP_S * 1000
    exchange.advance(begin)
    meters = {topic: (Conflated(market, *topic), BookMeter()) for topic in topics}
    trades: list[SimTrade] = []
    for now_ms in range(begin, begin + seconds * 1000, 10):
        trades += [trade for event in exchange.advance(now_ms) for trade in event.trades]
        for feed, meter in meters.values():
            frame = feed.poll(now_ms)
            if frame is not None:
                meter.add(frame)
    lot = float(item.lot)
    rows = [(trade.match_ms, trade.lots * lot, trade.taker_buy) for trade in trades]
    return MarketStats({key: meter.stats() for key, (_, meter) in meters.items()}, trade_stats(rows, seconds))


# --- side by side -------------------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """One line of the table: a statistic of a market, of the recording and of the simulator."""

    market: str
    source: str
    statistic: str
    recorded: float
    simulated: float

    @property
    def ratio(self) -> float | None:
        """Simulated over recorded; None when nothing was recorded."""
        return self.simulated / self.recorded if self.recorded else None


class BookSource(msgspec.Struct, frozen=True):
    """A recorded topic and the simulated market that stands for it."""

    path: str
    topic: str
    instrument: InstrumentId
    depth: int
    interval_ms: int


def _id(category: Category, symbol: str) -> InstrumentId:
    return InstrumentId(category, symbol)


BOOK_SOURCES: Final = (
    BookSource(_LINEAR, "orderbook.200.BTCUSDT", _id(Category.LINEAR, "BTCUSDT"), 200, 100),
    BookSource(_LINEAR, "orderbook.200.SOLUSDT", _id(Category.LINEAR, "SOLUSDT"), 200, 100),
    BookSource(
        "streams/2024-12-01_XRPUSDT_ob500.data.zip", "orderbook.500.XRPUSDT", _id(Category.LINEAR, "XRPUSDT"), 500, 100
    ),
    BookSource(
        "streams/spot-ETHUSDT-ob200-20260809.jsonl.gz", "orderbook.200.ETHUSDT", _id(Category.SPOT, "ETHUSDT"), 200, 100
    ),
    BookSource(
        "streams/spot-BTCUSDT-ob50-20260824.jsonl", "orderbook.50.BTCUSDT", _id(Category.SPOT, "BTCUSDT"), 50, 20
    ),
    BookSource(_LEGACY, "orderBookL2_25.LTCUSDT", _id(Category.LINEAR, "SIM0057USDT"), 25, 20),
)

BTC: Final = _id(Category.LINEAR, "BTCUSDT")
MEASURED_RATES: Final = {(1, 10): 13.5, (50, 20): 31.0, (200, 100): 10.0}
"""Frames per second of linear BTCUSDT by (depth, interval), as measured in September 2026 (level 1: 10 to 17)."""


def calibration_table(data_dir: Path, seed: int = 1, seconds: int = 120) -> list[Row]:
    """The whole comparison; recordings that are not there are left out.

    Args: data_dir: the folder with `streams/` and `trades/`; seconds: simulated time per market.
    Raises: ConfigError when none of them is there.
    """
    known = [*(source.path for source in BOOK_SOURCES), _TRADES]
    if not any((data_dir / path).exists() for path in known):
        raise ConfigError(f"{_nearby(data_dir, known)}; looked for {known[0]} and {len(known) - 1} more")
    rows: list[Row] = []
    for source in BOOK_SOURCES:
        path = data_dir / source.path
        if path.exists():
            rows += _book_rows(source, path, seed, seconds)
    rows += _rate_rows(seed, seconds)
    if (data_dir / _TRADES).exists():
        rows += _trade_rows(data_dir / _TRADES, seed, seconds * 5)
    return rows


def _nearby(data_dir: Path, known: Sequence[str]) -> str:
    """What is wrong with this folder: perhaps the right one is just above, or just below."""
    shown = escape_text(str(data_dir), 200)
    if any((data_dir / path.rpartition("/")[2]).exists() for path in known):
        return f"{shown}: expected the folder above, which holds streams/ and trades/"
    return f"{shown}: holds none of the recordings to compare with (in streams/ and trades/)"


def _book_rows(source: BookSource, path: Path, seed: int, seconds: int) -> list[Row]:
    recorded = measure_recording(path, source.topic)
    topic = (source.depth, source.interval_ms)
    simulated = measure_market(source.instrument, [topic], seed=seed, seconds=seconds).books[topic]
    skip = {"size_p50", "size_p90"} if source.path == _LEGACY else set()  # another coin's sizes
    return [
        Row(str(source.instrument), source.topic, name, getattr(recorded, name), getattr(simulated, name))
        for name in BookStats.__struct_fields__
        if name not in skip
    ]


def _rate_rows(seed: int, seconds: int) -> list[Row]:
    books = measure_market(BTC, MEASURED_RATES, seed=seed, seconds=seconds).books
    return [
        Row(str(BTC), f"depth {topic[0]}, {topic[1]} ms", "frames_per_s", rate, books[topic].frames_per_s)
        for topic, rate in MEASURED_RATES.items()
    ]


def _trade_rows(path: Path, seed: int, seconds: int) -> list[Row]:
    recorded = measure_trades(path)
    simulated = measure_market(BTC, [], seed=seed, seconds=seconds).trades
    return [
        Row(str(BTC), "publicTrade 2025-12-04", name, getattr(recorded, name), getattr(simulated, name))
        for name in TradeStats.__struct_fields__
    ]


def format_table(rows: Iterable[Row]) -> str:
    """The comparison as text, one block per market and source."""
    lines: list[str] = []
    block = ""
    for row in rows:
        if block != f"{row.market} | {row.source}":
            block = f"{row.market} | {row.source}"
            lines += ["", f"{block:<58} {'recorded':>10} {'simulated':>10} {'ratio':>7}"]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"  {row.statistic:<56} {row.recorded:>10.4g} {row.simulated:>10.4g} {ratio:>7}")
    return "\n".join(lines[1:])


# --- cost ---------------------------------------------------------------------------------------------------------


class Cost(msgspec.Struct, frozen=True):
    """CPU time of the markets alone, without anybody publishing them."""

    name: str
    instruments: int
    start_ms: float  # to build them
    per_second_ms: float  # per simulated second
    levels: int  # price levels in all books at the end


def measure_cost(name: str, instruments: Sequence[SimInstrument], seconds: int = 20, step_ms: int = 10) -> Cost:
    """Run these instruments for so many simulated seconds in steps as a server takes them."""
    began = time.process_time()
    exchange = Exchange(instruments, 1, START_MS)
    built = time.process_time()
    for now_ms in range(START_MS, START_MS + seconds * 1000, step_ms):
        exchange.advance(now_ms)
    spent = time.process_time() - built
    levels = sum(len(side) for market in exchange.markets.values() for side in market.top(100_000))
    return Cost(name, len(instruments), (built - began) * 1000, spent * 1000 / seconds, levels)


def cost_table() -> list[Cost]:
    """One busy instrument, four alike, the catalogue, and a whole exchange of 700."""
    btc = _listed(BTC)
    four = [msgspec.structs.replace(btc, id=InstrumentId(Category.LINEAR, f"BTC{index}USDT")) for index in range(4)]
    return [
        measure_cost("linear BTCUSDT", [btc]),
        measure_cost("four like it", four),
        measure_cost("the catalogue", CATALOGUE),
        measure_cost("700 synthetic", make_instruments(700)),
    ]


def format_costs(costs: Iterable[Cost]) -> str:
    """The costs as text."""
    head = f"{'markets':<16} {'number':>7} {'start ms':>9} {'CPU ms per simulated second':>28} {'levels':>8}"
    rows = [
        f"{cost.name:<16} {cost.instruments:>7} {cost.start_ms:>9.0f} {cost.per_second_ms:>28.2f} {cost.levels:>8}"
        for cost in costs
    ]
    return "\n".join([head, *rows])


def main(argv: Sequence[str]) -> int:
    """`DIR [SEED [SECONDS]]`: print the comparison; `--cost`: print the costs. Returns: exit code."""
    if list(argv) == ["--cost"]:
        sys.stdout.write(format_costs(cost_table()) + "\n")
        return 0
    if not 1 <= len(argv) <= 3 or not all(text.isdecimal() for text in argv[1:]):
        sys.stderr.write("usage: calibrate DIR [SEED [SECONDS]] | --cost\n")
        return 2
    numbers = [int(text) for text in argv[1:]]
    try:
        table = calibration_table(Path(argv[0]), *numbers)
    except ConfigError as error:
        sys.stderr.write(f"calibrate: {error}\n")
        return 2
    sys.stdout.write(format_table(table) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
