"""The account's position and fees, against hand-worked figures and a cash-flow oracle."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.sim.ledger import Position, fee

LOT = Decimal("0.001")


def test_opening_reducing_and_turning() -> None:
    position = Position()
    position.trade(10, Decimal(100), LOT)
    position.trade(10, Decimal(110), LOT)
    assert (position.lots, position.entry) == (20, Decimal(105))
    position.trade(-5, Decimal(125), LOT)
    assert (position.lots, position.entry, position.take_realised()) == (15, Decimal(105), Decimal("0.1"))
    position.trade(-25, Decimal(95), LOT)
    assert (position.lots, position.entry) == (-10, Decimal(95))
    assert position.take_realised() == Decimal("-0.15")
    assert position.unrealised(Decimal(90), LOT) == Decimal("0.05")
    position.trade(10, Decimal(90), LOT)
    assert (position.lots, position.entry, position.unrealised(Decimal(90), LOT)) == (0, 0, 0)


@given(st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(50, 150)), max_size=30))
def test_realised_and_unrealised_are_the_cash_flow(trades: list[tuple[int, int]]) -> None:
    """Whatever the path: profit = what was received minus what was paid, plus what is held at the mark."""
    position, cash, mark = Position(), Decimal(0), Decimal(101)
    for lots, price in trades:
        position.trade(lots, Decimal(price), LOT)
        cash -= lots * LOT * price
    profit = position.realised + position.unrealised(mark, LOT)
    assert float(profit) == pytest.approx(float(cash + position.lots * LOT * mark))


def test_fees() -> None:
    assert fee(Decimal(65000), Decimal("0.006"), True) == Decimal("0.078")
    assert fee(Decimal(65000), Decimal("0.006"), False) == Decimal("0.2145")
