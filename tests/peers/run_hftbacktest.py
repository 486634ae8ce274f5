"""hftbacktest over exported files: its own book at several moments, and what it thinks of the order of the rows.

Argument: one JSON object `{"files": [path, ...], "tick_size": x, "lot_size": x, "times": [local ns, ...]}`. Prints one
JSON object: per time both sides as {price in ticks: size}, the trades it saw, and the latency of the last row.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.data import validate_event_order


def main(plan: dict[str, Any]) -> dict[str, Any]:
    latencies = []
    for path in plan["files"]:
        events = np.load(path)["data"]
        validate_event_order(events)
        latencies.append(int((events["local_ts"] - events["exch_ts"]).min()))
    asset = (
        BacktestAsset()
        .data(plan["files"])
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0, 0)
        .tick_size(plan["tick_size"])
        .lot_size(plan["lot_size"])
        .last_trades_capacity(100_000)
    )
    backtest = HashMapMarketDepthBacktest([asset])
    backtest.elapse(1)  # its clock begins at the first row
    books, trades = [], 0
    for moment in plan["times"]:
        code = backtest.elapse(moment - backtest.current_timestamp)
        trades += len(backtest.last_trades(0))
        backtest.clear_last_trades(0)
        books.append({"code": int(code), "at": int(backtest.current_timestamp), **_book(backtest)})
    backtest.close()
    return {"books": books, "trades": trades, "least_latency_ns": min(latencies)}


def _book(backtest: Any) -> dict[str, Any]:
    depth = backtest.depth(0)
    levels = depth.snapshot()
    sides: dict[str, dict[str, float]] = {"bids": {}, "asks": {}}
    for row in levels:
        side = "bids" if int(row["ev"]) & (1 << 29) else "asks"
        sides[side][str(round(float(row["px"]) / depth.tick_size))] = float(row["qty"])
    depth.snapshot_free(levels)
    return {**sides, "best_bid_tick": int(depth.best_bid_tick), "best_ask_tick": int(depth.best_ask_tick)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
