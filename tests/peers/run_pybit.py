"""pybit against the simulator, in a process of its own: keeps books until told to stop, then says what it holds.

Arguments: one JSON object `{"rest": url, "public": {category: url}, "books": [[category, symbol, depth], ...]}`.
Prints `ready` once every book has seen deltas; after a line on stdin prints one JSON object: per book, pybit's own book
(sorted: pybit appends new levels behind the others, its issue 369) and what REST reports.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pybit.unified_trading
from pybit.unified_trading import HTTP, WebSocket

QUIET_S = 0.8


class Keeper:
    """The last state pybit hands out for each book."""

    def __init__(self) -> None:
        self.books: dict[str, dict[str, Any]] = {}
        self.updates: dict[str, int] = {}
        self.heard_s = time.monotonic()

    def watch(self, name: str) -> Any:
        def handle(message: dict[str, Any]) -> None:
            self.books[name] = message["data"]
            self.updates[name] = self.updates.get(name, 0) + 1
            self.heard_s = time.monotonic()

        return handle


def main(plan: dict[str, Any]) -> dict[str, Any]:
    keeper, sockets = Keeper(), []
    pybit.unified_trading.PUBLIC_WSS = plan["public"]["linear"].replace("linear", "{CHANNEL_TYPE}")
    rest = HTTP()
    rest.endpoint = plan["rest"]
    for category, symbol, depth in plan["books"]:
        socket = WebSocket(channel_type=category, testnet=False)
        socket.orderbook_stream(depth, symbol, keeper.watch(f"{category}:{symbol}"))
        sockets.append(socket)
    while len(keeper.updates) < len(plan["books"]) or min(keeper.updates.values()) < 5:
        time.sleep(0.05)
    say("ready")
    sys.stdin.readline()
    while time.monotonic() - keeper.heard_s < QUIET_S:
        time.sleep(0.05)
    result = {}
    for category, symbol, depth in plan["books"]:
        book = keeper.books[f"{category}:{symbol}"]
        told = rest.get_orderbook(category=category, symbol=symbol, limit=depth)["result"]
        result[f"{category}:{symbol}"] = {"held": sides(book["b"], book["a"]), "rest": sides(told["b"], told["a"])}
    for socket in sockets:
        socket.exit()
    return result


def sides(bids: list[list[str]], asks: list[list[str]]) -> list[list[list[float]]]:
    return [
        sorted(([float(price), float(size)] for price, size in bids), reverse=True),
        sorted([float(price), float(size)] for price, size in asks),
    ]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(json.dumps(main(json.loads(sys.argv[1]))))
