"""ccxt (pro) against the simulator, in a process of its own. Arguments and output as in run_pybit."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import ccxt.pro

QUIET_S = 0.8


async def main(plan: dict[str, Any]) -> dict[str, Any]:
    exchange = ccxt.pro.bybit({"options": {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}}})
    for name in ("public", "private", "spot", "futures", "v2"):
        exchange.urls["api"][name] = plan["rest"]
    exchange.urls["api"]["ws"]["public"] = plan["public"]
    try:
        await exchange.load_markets()
        names = {(category, symbol): unified(exchange, category, symbol) for category, symbol, _ in plan["books"]}
        updates = dict.fromkeys(names, 0)
        tasks = [
            asyncio.create_task(keep(exchange, names[category, symbol], depth, updates, (category, symbol)))
            for category, symbol, depth in plan["books"]
        ]
        while min(updates.values()) < 5:  # noqa: ASYNC110 - counters of several tasks, in a test's helper
            await asyncio.sleep(0.05)
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        seen: dict[tuple[str, str], int] = {}
        while seen != updates:
            seen = dict(updates)
            await asyncio.sleep(QUIET_S)
        result = {}
        for category, symbol, depth in plan["books"]:
            name = names[category, symbol]
            told = await exchange.fetch_order_book(name, depth)
            held = exchange.orderbooks[name]
            result[f"{category}:{symbol}"] = {
                "held": [levels(held["bids"], depth), levels(held["asks"], depth)],
                "rest": [levels(told["bids"], depth), levels(told["asks"], depth)],
            }
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return result
    finally:
        await exchange.close()


async def keep(exchange: Any, name: str, depth: int, updates: dict[Any, int], key: tuple[str, str]) -> None:
    while True:
        await exchange.watch_order_book(name, depth)
        updates[key] += 1


def unified(exchange: Any, category: str, symbol: str) -> str:
    """ccxt's name of a market, found by the exchange's own id."""
    (market,) = [item for item in exchange.markets_by_id[symbol] if item[category]]
    return str(market["symbol"])


def levels(side: Any, depth: int) -> list[list[float]]:
    return [[float(level[0]), float(level[1])] for level in list(side)[:depth]]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
