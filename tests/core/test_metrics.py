"""Metrics: hand-worked values, missing-value rules, properties."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.book import Levels
from orderflow.core.metrics import depth_imbalance, imbalance, measure, price_noise_decimals

if TYPE_CHECKING:
    from orderflow.core.types import Level


def book(bids: list[Level], asks: list[Level]) -> Levels:
    levels = Levels()
    levels.replace(bids, asks)
    return levels


WORKED = book([(100.0, 3.0), (99.5, 1.0), (90.0, 4.0)], [(100.2, 1.0), (100.5, 2.0), (110.0, 5.0)])


def test_worked_example() -> None:
    # mid 100.1; +-50 bps reaches 0.5005: bids 100.0, asks 100.2 and 100.5. 99.5 is 0.6 away.
    got = measure(WORKED, 2, 50.0, inverse=False)
    assert (got.bid, got.ask, got.mid, got.spread) == (100.0, 100.2, 100.1, 0.2)
    assert got.spread_pct == pytest.approx(100 * 0.2 / 100.1)
    assert got.spread_bps == pytest.approx(1e4 * 0.2 / 100.1)
    assert got.imbalance == pytest.approx((4 - 3) / 7)
    assert got.queue_imbalance == pytest.approx((3 - 1) / 4)
    assert got.weighted_mid == pytest.approx((100.0 * 1 + 100.2 * 3) / 4)
    assert (got.liquidity, got.liquidity_bid, got.liquidity_ask) == (7.0, 4.0, 3.0)
    assert (got.band_bid, got.band_ask) == (3.0, 3.0)
    assert not got.truncated
    assert got.reason == ""


def test_inverse_sizes_become_base_coin() -> None:
    # 50,000 USD at 50,000 is 1 coin, 100,000 USD at 50,000.5 is just under 2.
    got = measure(book([(50_000.0, 50_000.0)], [(50_000.5, 100_000.0)]), 1, 10.0, inverse=True)
    assert got.bid_size == 1.0
    assert got.liquidity == pytest.approx(1 + 100_000 / 50_000.5)
    assert depth_imbalance(book([(50_000.0, 50_000.0)], [(50_000.5, 100_000.0)]), 10, True) == got.imbalance


@pytest.mark.parametrize(
    ("bids", "asks"), [([], [(101.0, 1.0)]), ([(99.0, 1.0)], []), ([], [])], ids=["no bids", "no asks", "nothing"]
)
def test_an_empty_side_has_no_values(bids: list[Level], asks: list[Level]) -> None:
    got = measure(book(bids, asks), 10, 10.0, inverse=False)
    assert got.reason == "empty_side"
    assert got.bid == (99.0 if bids else None)
    assert got.ask == (101.0 if asks else None)
    for name in (
        "mid",
        "spread",
        "spread_pct",
        "imbalance",
        "queue_imbalance",
        "liquidity",
        "weighted_mid",
        "band_bid",
    ):
        assert getattr(got, name) is None
    assert depth_imbalance(book(bids, asks), 10) is None


def test_a_locked_book_has_spread_0() -> None:
    got = measure(book([(100.0, 1.0)], [(100.0, 2.0)]), 10, 10.0, inverse=False)
    assert (got.spread, got.spread_bps, got.mid) == (0.0, 0.0, 100.0)


@pytest.mark.parametrize(
    ("count", "band", "truncated"),
    [(3, 1.0, False), (4, 1.0, True), (3, 900.0, False), (3, 1100.0, True)],
    ids=["enough", "fewer levels than N", "band inside", "band beyond the last level"],
)
def test_truncation_is_told(count: int, band: float, truncated: bool) -> None:
    assert measure(WORKED, count, band, inverse=False).truncated is truncated


@pytest.mark.parametrize(
    ("bids", "asks", "truncated"),
    [
        ([99.5, 98.99995], [100.5, 101.00005], False),
        ([99.5, 99.0], [100.5, 101.00005], True),
        ([99.5, 98.99995], [100.5, 101.0], True),
        ([99.5], [100.5, 150.0], True),
        ([99.5, 50.0], [100.5], True),
    ],
    ids=["just beyond the band", "bids end with it", "asks end with it", "a bid too few", "an ask too few"],
)
def test_either_side_may_be_too_short_for_the_band(bids: list[float], asks: list[float], truncated: bool) -> None:
    levels = book([(price, 1.0) for price in bids], [(price, 1.0) for price in asks])
    assert measure(levels, 2, 100.0, inverse=False).truncated is truncated  # mid 100: from 99 to 101
    assert measure(levels, 2, 10.0, inverse=False).truncated is (min(len(bids), len(asks)) < 2)
    assert measure(levels, 1, 10.0, inverse=False).truncated is False


@pytest.mark.parametrize("inverse", [False, True])
def test_the_band_has_its_ends_in_it(inverse: bool) -> None:
    levels = book([(99.9, 2.0), (99.0, 3.0), (98.99995, 64.0)], [(100.1, 4.0), (101.0, 5.0), (101.00005, 64.0)])
    got = measure(levels, 3, 100.0, inverse)
    assert got.band_bid == pytest.approx(2 / 99.9 + 3 / 99 if inverse else 5)
    assert got.band_ask == pytest.approx(4 / 100.1 + 5 / 101 if inverse else 9)


@pytest.mark.parametrize(
    ("bid", "ask", "spread", "mid"),
    [
        (86723.4, 86723.5, 0.1, 86723.45),
        (0.00001234, 0.00001235, 0.00000001, 0.000012345),
        (1.9531, 1.9532, 0.0001, 1.95315),
        (1_000_000.1, 1_000_000.2, 0.1, 1_000_000.15),
    ],
)
def test_float_noise_does_not_show(bid: float, ask: float, spread: float, mid: float) -> None:
    got = measure(book([(bid, 1.0)], [(ask, 1.0)]), 1, 10.0, inverse=False)
    assert (got.spread, got.mid) == (spread, mid)


def test_noise_decimals_follow_the_price() -> None:
    assert [price_noise_decimals(price) for price in (86723.4, 1.0, 0.01, 1e6)] == [10, 14, 16, 8]


def test_imbalance_of_nothing_is_no_value() -> None:
    assert imbalance(0.0, 0.0) is None
    assert imbalance(1.0, 0.0) == 1.0


amounts = st.floats(1e-6, 1e9)
sides = st.lists(amounts, min_size=1, max_size=15)


@given(sides, sides, st.integers(1, 20), st.booleans())
def test_properties(bid_sizes: list[float], ask_sizes: list[float], count: int, inverse: bool) -> None:
    levels = book(
        [(1000.0 - i, size) for i, size in enumerate(bid_sizes)],
        [(1001.0 + i, size) for i, size in enumerate(ask_sizes)],
    )
    got = measure(levels, count, 25.0, inverse)
    assert got.imbalance is not None
    assert got.weighted_mid is not None
    assert -1 <= got.imbalance <= 1
    assert got.imbalance == pytest.approx(depth_imbalance(levels, count, inverse), abs=1e-9)
    assert 1000.0 <= got.weighted_mid <= 1001.0
    assert got.liquidity == pytest.approx((got.liquidity_bid or 0) + (got.liquidity_ask or 0))
    mirrored = book(
        [(1000.0 - i, size) for i, size in enumerate(ask_sizes)],
        [(1001.0 + i, size) for i, size in enumerate(bid_sizes)],
    )
    if not inverse:
        assert measure(mirrored, count, 25.0, inverse).imbalance == pytest.approx(-got.imbalance, abs=1e-12)
