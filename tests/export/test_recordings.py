"""Real messages of the exchange, recorded and exported: nothing of them is lost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `export`")

import numpy as np
import pyarrow.parquet as pq

from orderflow.cli import main
from orderflow.core.types import Category, InstrumentId
from tests.export.tapes import Tape
from tests.export.test_events import books
from tests.recordings import received

if TYPE_CHECKING:
    from pathlib import Path

LINEAR = "linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz"
SPOT = "spot-ETHUSDT-ob200-20260809.jsonl.gz"
SYMBOLS = {LINEAR: ("linear", ["BTCUSDT", "SOLUSDT"]), SPOT: ("spot", ["ETHUSDT"])}


SENT = ("message", "recv_ns", "type", "ts", "cts")
FIELDS = {
    "book": ["message", "recv_ns", "kind", "exchange_ms", "engine_ms", "u", "side", "price_text", "price", "size_text"],
    "trades": ["message", "trade_id", "side", "price_text", "size_text"],
    "tickers": ["data"],
}


def record(folder: Path, name: str) -> list[dict[str, Any]]:
    """Returns: the messages that have a topic, with their numbers as `message`."""
    category, symbols = SYMBOLS[name]
    frames = [(round((at or 0) * 1e9), raw) for at, raw in received(name)]
    keys = [InstrumentId(Category(category), symbol) for symbol in symbols]
    tape = Tape(folder, keys, depth=200, started_ns=frames[0][0])
    connection = 1 if category == "linear" else 2
    sent = []
    for number, (recv_ns, raw) in enumerate(frames):
        tape.encoder.frames(connection, [raw], recv_ns, recv_ns)
        sent.append({"message": number, "recv_ns": recv_ns, **json.loads(raw)})
    tape.close()
    return [message for message in sent if "topic" in message]


def of_kind(sent: list[dict[str, Any]], kind: str, symbol: str = "") -> list[dict[str, Any]]:
    return [message for message in sent if message["topic"].startswith(kind) and message["topic"].endswith(symbol)]


@pytest.mark.parametrize("name", [LINEAR, SPOT])
def test_parquet_holds_every_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    sent = record(tmp_path / "tape", name)
    assert main(["export", "tape", "--out", "out"]) == 0
    for symbol in SYMBOLS[name][1]:
        whose = [("symbol", "=", symbol)]
        read = {table: pq.read_table(tmp_path / "out" / table, filters=whose).to_pylist() for table in FIELDS}
        assert [[row[field] for field in FIELDS["book"]] for row in read["book"]] == [
            [
                m["message"],
                m["recv_ns"],
                m["type"],
                m["ts"],
                m["cts"],
                m["data"]["u"],
                side,
                price,
                Decimal(price),
                size,
            ]
            for m in of_kind(sent, "orderbook", symbol)
            for side, key in (("bid", "b"), ("ask", "a"))
            for price, size in m["data"][key]
        ]
        assert [[row[field] for field in FIELDS["trades"]] for row in read["trades"]] == [
            [m["message"], trade["i"], trade["S"], trade["p"], trade["v"]]
            for m in of_kind(sent, "publicTrade", symbol)
            for trade in m["data"]
        ]
        assert [json.loads(row["data"]) for row in read["tickers"]] == [
            message["data"] for message in of_kind(sent, "tickers", symbol)
        ]


@pytest.mark.parametrize("name", [LINEAR, SPOT])
def test_the_books_of_hftbacktests_rows_end_as_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = record(tmp_path / "tape", name)
    assert main(["export", "tape", "--format", "hftbacktest", "--out", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] == 0
    for day in told["days"]:
        rows = np.load(tmp_path / "out" / day["file"])["data"]
        (ended,) = books(rows, [day["last_local_ts"]])
        sides: dict[str, dict[float, float]] = {"b": {}, "a": {}}
        for message in of_kind(sent, "orderbook", day["symbol"]):
            for key, levels in sides.items():
                levels.update((float(price), float(size)) for price, size in message["data"][key])
        held = {key: [(price, size) for price, size in levels.items() if size] for key, levels in sides.items()}
        assert ended == {"bid": sorted(held["b"], reverse=True), "ask": sorted(held["a"])}
