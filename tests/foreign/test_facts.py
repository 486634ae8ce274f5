"""Instruments: recorded answers, and what numbers tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orderflow.core.errors import ConfigError
from orderflow.core.types import Category, InstrumentId
from orderflow.foreign import facts
from orderflow.foreign.facts import Decimals, derived_fact, read_facts, read_rows
from tests.foreign.made import lines

if TYPE_CHECKING:
    from pathlib import Path

BOOK = b'{"data":{"b":[["1.2500","10"],["1.2450","0.50"]],"a":[["2","7"]]}}'
TRADE = b'{"data":[{"v":"0.001","p":"1.1"}]}'


def test_decimals_of_books_and_trades() -> None:
    seen = Decimals()
    seen.note(BOOK)
    assert seen == Decimals(scale=4, tick=3, lot=2)
    seen.note(TRADE)
    assert seen == Decimals(scale=4, tick=3, lot=3)
    other = Decimals(scale=5, tick=1, lot=9)
    other.merge(seen)
    assert other == Decimals(scale=5, tick=3, lot=9)


@pytest.mark.parametrize(
    "category, symbol, base, quote",
    [
        (Category.LINEAR, "BTCUSDT", "BTC", "USDT"),
        (Category.LINEAR, "1000PEPEUSDT", "1000PEPE", "USDT"),
        (Category.INVERSE, "BTCUSD", "BTC", "USD"),
        (Category.SPOT, "ETHBTC", "ETH", "BTC"),
    ],
)
def test_a_fact_from_numbers_alone(category: Category, symbol: str, base: str, quote: str) -> None:
    fact = derived_fact(InstrumentId(category, symbol), Decimals(scale=2, tick=1, lot=3))
    assert fact is not None
    assert (fact.base_coin, fact.quote_coin, fact.lot_size) == (base, quote, "0.001")
    assert fact.price_decimals == (1 if category is Category.SPOT else 2)


def test_symbols_that_tell_no_coin() -> None:
    assert derived_fact(InstrumentId(Category.LINEAR, "BTC-26DEC25"), Decimals()) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"result":{"category":"option","list":[]}}', b"\x89PNG...."])
def test_what_is_no_answer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--instruments: x\.json: no recorded instruments-info answer"):
        read_rows(path)


def test_an_answer_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"result": {"category": "linear", "list": []}}
    path = lines(tmp_path / "x.json.gz", [json.dumps(answer).encode(), *[b" " * 99] * 100])
    assert read_facts(path) == {}
    monkeypatch.setattr(facts, "_MAX_BYTES", 5000)
    with pytest.raises(ConfigError, match="longer than"):
        read_facts(path)
