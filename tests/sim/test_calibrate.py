"""The statistics, by hand-made frames; and the simulator's against the recordings' where those are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from orderflow.core.types import Category, InstrumentId
from orderflow.sim import calibrate
from orderflow.sim.calibrate import Row, calibration_table, format_table, main, measure_market
from orderflow.sim.catalogue import make_instruments
from orderflow.sim.meters import BookMeter, Frame, quantile, trade_stats

DATA = Path(__file__).parents[3] / "shared/data/bybit"
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")

FRAMES = (
    Frame(0, True, [(100.0, 1.0), (99.0, 2.0)], [(101.0, 3.0), (102.0, 4.0)]),
    Frame(100, False, [(99.0, 5.0)], []),  # one-sided, away from the touch
    Frame(200, False, [(100.0, 0.0), (98.0, 1.0)], [(101.0, 4.0)]),  # touch price and size, one insert
    Frame(400, False, [(100.0, 1.0)], [(101.0, 2.0), (103.0, 1.0)]),  # touch again, two inserts
)


def test_book_statistics_by_hand() -> None:
    meter = BookMeter()
    for frame in FRAMES:
        meter.add(frame)
    stats = meter.stats()
    assert stats.frames_per_s == pytest.approx(7.5)
    assert stats.levels_mean == pytest.approx(7 / 3)
    assert (stats.levels_p50, stats.levels_p90) == (3, 3)
    assert stats.one_sided == pytest.approx(1 / 3)
    assert stats.touch_price == pytest.approx(2 / 3)
    assert stats.touch_any == pytest.approx(2 / 3)
    assert stats.inserts == pytest.approx(3 / 7)
    assert stats.spread_1_tick == pytest.approx(2 / 3)
    assert (stats.size_p50, stats.size_p90) == (3, 4)


def test_a_book_without_deltas_has_no_statistics() -> None:
    meter = BookMeter()
    meter.add(FRAMES[0])
    with pytest.raises(ValueError, match="no deltas"):
        meter.stats()


def test_trade_statistics_by_hand() -> None:
    trades = [(1000, 1.0, True), (1000, 2.0, True), (1000, 3.0, True), (1010, 4.0, True), (2500, 5.0, False)]
    stats = trade_stats(trades, 10)
    assert (stats.trades_per_s, stats.bursts_per_s) == (0.5, 0.3)
    assert stats.fills_mean == pytest.approx(5 / 3)
    assert stats.fills_p99 == 3
    assert stats.same_ms == 0.5
    assert stats.same_side == 0.5
    assert stats.gap_p50_ms == 1490
    assert stats.second_p90 == 4
    assert (stats.size_p50, stats.size_mean) == (3, 3)


@pytest.mark.parametrize("values, share, expected", [([], 0.5, 0), ([3, 1, 2], 0.5, 2), ([1, 2], 0.99, 2)])
def test_quantile(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_linear_btcusdt_is_as_busy_as_measured() -> None:
    """The rates of bybit-v5.md section 3.1, within a factor of 1.5."""
    books = measure_market(BTC, calibrate.MEASURED_RATES, seconds=60).books
    for topic, rate in calibrate.MEASURED_RATES.items():
        assert rate / 1.5 < books[topic].frames_per_s < rate * 1.5, topic


FACTORS = {
    # Within this factor of the recording, either way. The recordings are one quiet Sunday, the first seconds of a day
    # and a fraction of a second: their rates do not agree among themselves by less.
    "frames_per_s": 1.6,
    "levels_mean": 2.6,
    "levels_p50": 2.6,
    "levels_p90": 2.7,
    "size_p50": 2.0,
    "size_p90": 2.0,
    "touch_any": 3.0,
    "spread_1_tick": 1.3,
    "trades_per_s": 2.0,
    "bursts_per_s": 2.0,
    "fills_mean": 1.5,
    "fills_p90": 1.6,
    "fills_p99": 2.0,
    "same_ms": 1.2,
    "same_side": 1.2,
    "gap_p50_ms": 2.0,
    "second_p90": 2.0,
    "size_mean": 1.5,
}
SHARES = {"one_sided": 0.35, "touch_price": 0.15, "inserts": 0.15}  # within this difference


@pytest.fixture(scope="module")
def table() -> list[Row]:
    if not DATA.exists():
        pytest.skip("recordings are not there")
    return calibration_table(DATA, seed=1, seconds=60)


@pytest.mark.parametrize("statistic", [*FACTORS, *SHARES])
def test_the_simulator_is_near_the_recordings(table: list[Row], statistic: str) -> None:
    rows = [row for row in table if row.statistic == statistic]
    assert rows
    for row in rows:
        if statistic in SHARES:
            assert abs(row.simulated - row.recorded) < SHARES[statistic], row
        else:
            factor = FACTORS[statistic]
            assert row.recorded / factor < row.simulated < row.recorded * factor, row


def test_every_statistic_of_every_source_is_in_the_table(table: list[Row]) -> None:
    assert {row.statistic for row in table} == {*FACTORS, *SHARES}
    assert len({(row.market, row.source) for row in table}) == len(calibrate.BOOK_SOURCES) + 4
    text = format_table(table)
    assert all(f"{row.market} | {row.source}" in text for row in table)


def test_a_folder_without_recordings_is_refused_and_what_was_looked_for_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "1", "2"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert str(tmp_path) in said.err
    assert all(source.path in said.err for source in calibrate.BOOK_SOURCES[:1])


def test_a_folder_too_deep_is_refused_with_the_right_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / calibrate.BOOK_SOURCES[0].path.rpartition("/")[2]).touch()
    assert main([str(tmp_path), "1", "2"]) == 2
    assert "expected the folder above" in capsys.readouterr().err


def test_what_a_market_costs_is_measured() -> None:
    cost = calibrate.measure_cost("three", make_instruments(3), seconds=1)
    assert cost.instruments == 3
    assert cost.levels > 3000
    # Some twenty times the real cost: it fails when the work is no longer proportional to the activity.
    assert 0 < cost.per_second_ms < 100
    assert "three" in calibrate.format_costs([cost])


@pytest.mark.parametrize("argv", [[], ["DIR", "one"], ["DIR", "1", "2", "3"]])
def test_usage_errors_exit_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage" in capsys.readouterr().err
