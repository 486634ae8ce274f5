from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import CATALOGUE, make_instruments

if TYPE_CHECKING:
    from orderflow.sim.instruments import SimInstrument

RECORDED = Path(__file__).parents[3] / "shared/data/bybit/rest/instruments-info-linear-20260809.json.gz"
BY_ID = {item.id: item for item in CATALOGUE}


def listed(category: Category, symbol: str) -> SimInstrument:
    return BY_ID[InstrumentId(category, symbol)]


@pytest.mark.parametrize(
    "category, symbol, ticks, padded, trimmed",
    [
        (Category.LINEAR, "BTCUSDT", 867_234, "86723.40", "86723.4"),
        (Category.LINEAR, "BTCUSDT", 868_050, "86805.00", "86805"),
        (Category.LINEAR, "SOLUSDT", 7_731, "77.310", "77.31"),
        (Category.LINEAR, "1000PEPEUSDT", 4_127, "0.0041270", "0.004127"),
        (Category.SPOT, "BTCUSDT", 868_050, "86805.0", "86805"),
        (Category.SPOT, "XRPUSDT", 1, "0.0001", "0.0001"),
    ],
)
def test_price_text(category: Category, symbol: str, ticks: int, padded: str, trimmed: str) -> None:
    item = listed(category, symbol)
    assert (item.price_text(ticks), item.price_trimmed(ticks)) == (padded, trimmed)


@pytest.mark.parametrize(
    "category, symbol, lots, padded, trimmed",
    [
        (Category.LINEAR, "BTCUSDT", 320, "0.320", "0.32"),
        (Category.LINEAR, "BTCUSDT", 0, "0", "0"),
        (Category.LINEAR, "DOGEUSDT", 1500, "1500", "1500"),
        (Category.LINEAR, "1000PEPEUSDT", 3, "300", "300"),
        (Category.INVERSE, "BTCUSD", 250, "250", "250"),
        (Category.SPOT, "BTCUSDT", 1_466, "0.001466", "0.001466"),
    ],
)
def test_size_text(category: Category, symbol: str, lots: int, padded: str, trimmed: str) -> None:
    item = listed(category, symbol)
    assert (item.size_text(lots), item.size_trimmed(lots)) == (padded, trimmed)


@given(item=st.sampled_from(CATALOGUE), ticks=st.integers(1, 10**8), lots=st.integers(1, 10**9))
def test_texts_are_exact_and_come_back(item: SimInstrument, ticks: int, lots: int) -> None:
    assert item.ticks(item.price_text(ticks)) == item.ticks(item.price_trimmed(ticks)) == ticks
    assert item.lots(item.size_text(lots)) == item.lots(item.size_trimmed(lots)) == lots
    assert item.price(ticks) == Decimal(item.price_text(ticks))


def test_off_grid_numbers_are_refused() -> None:
    item = listed(Category.LINEAR, "BTCUSDT")
    with pytest.raises(ValueError, match=r"tick size 0\.10"):
        item.ticks("86723.45")
    with pytest.raises(ValueError, match=r"quantity step 0\.001"):
        item.lots("0.0005")


def test_turnover_is_quote_coin_and_base_coin_on_inverse() -> None:
    linear, inverse = listed(Category.LINEAR, "BTCUSDT"), listed(Category.INVERSE, "BTCUSD")
    assert linear.turnover(linear.turnover_units(650_000, 100)) == Decimal("6500")
    assert inverse.turnover(inverse.turnover_units(650_000, 6_500)) == Decimal("0.1")


@pytest.mark.skipif(not RECORDED.exists(), reason="recordings are not there")
def test_linear_rows_equal_the_recorded_ones() -> None:
    answer = msgspec.json.decode(gzip.decompress(RECORDED.read_bytes()))
    recorded: dict[str, dict[str, Any]] = {row["symbol"]: row for row in answer["result"]["list"]}
    for item in CATALOGUE:
        if item.category is Category.LINEAR:
            row, truth = item.info_row(), recorded[item.symbol]
            # The simulator lists its own highest price; everything else is what the exchange says.
            assert row["priceFilter"].pop("maxPrice")
            assert truth["priceFilter"].pop("maxPrice")
            assert row == truth


def test_spot_rows_have_the_documented_shape() -> None:
    row = listed(Category.SPOT, "BTCUSDT").info_row()
    assert row["lotSizeFilter"]["basePrecision"] == "0.000001"
    assert row["priceFilter"] == {"tickSize": "0.1"}
    assert "qtyStep" not in row["lotSizeFilter"]
    assert "contractType" not in row


def test_one_coin_has_one_reference_price() -> None:
    prices: dict[str, set[Decimal]] = {}
    for item in CATALOGUE:
        prices.setdefault(item.base_coin, set()).add(item.start_price)
    assert all(len(each) == 1 for each in prices.values())


@pytest.mark.parametrize("category", list(Category))
def test_synthetic_instruments_are_distinct_and_get_quieter(category: Category) -> None:
    items = make_instruments(700, category)
    assert len({item.id for item in items}) == 700
    assert {item.category for item in items} == {category}
    assert items[0].profile.batches_per_s > 100 * items[-1].profile.batches_per_s
    assert make_instruments(3, category) == items[:3]
