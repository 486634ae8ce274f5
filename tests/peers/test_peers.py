"""Two independent clients, unmodified, keep the simulator's books.

They run in processes of their own (one has threads, the other asyncio), from this environment when the extra `peers` is
installed, or from the interpreter that ORDERFLOW_PEERS_PYTHON names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve

PYTHON = os.environ.get("ORDERFLOW_PEERS_PYTHON")
BOOKS = [("linear", "BTCUSDT", 50), ("spot", "ETHUSDT", 50), ("inverse", "BTCUSD", 200)]
CCXT_BOOKS = [("linear", "BTCUSDT", 50), ("spot", "BTCUSDT", 50), ("inverse", "BTCUSD", 200)]

pytestmark = [pytest.mark.peers, pytest.mark.socket]


async def run_peer(script: str, books: list[tuple[str, str, int]], server: SimServer) -> dict[str, Any]:
    """Start a peer, freeze the market when it has live books, and take its answer."""
    plan = {
        "rest": server.rest_url,
        "public": {category.value: server.ws_url(category) for category in Category},
        "books": books,
    }
    command = [PYTHON or sys.executable, str(Path(__file__).with_name(script)), json.dumps(plan)]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(lambda task_status: _start(command, task_status))
        output = b""
        while b"ready\n" not in output:
            part = await process.stdout.receive_some()
            assert part, "the peer ended before it had its books"
            output += part
        server.pause()
        await process.stdin.send_all(b"stop\n")
        async for part in process.stdout:
            output += part
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


async def _start(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, task_status=task_status)


@pytest.mark.parametrize(
    "package, script, books", [("pybit", "run_pybit.py", BOOKS), ("ccxt", "run_ccxt.py", CCXT_BOOKS)]
)
async def test_a_peer_ends_with_the_exchanges_books(
    package: str, script: str, books: list[tuple[str, str, int]]
) -> None:
    if PYTHON is None and find_spec(package) is None:
        pytest.skip(f"{package} is not installed (extra `peers`)")
    known = catalogue_by_id()
    instruments = tuple(known[InstrumentId(Category(category), symbol)] for category, symbol, _ in books)
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, SimConfig(instruments=instruments, server=ServerPolicy()))
        with trio.fail_after(60):
            answer = await run_peer(script, books, server)
        for category, symbol, depth in books:
            truth = server.true_book(InstrumentId(Category(category), symbol), depth)
            expected = [[[float(p), float(s)] for p, s in side] for side in (truth.bids, truth.asks)]
            told = answer[f"{category}:{symbol}"]
            assert told["rest"] == expected
            assert told["held"] == expected
        nursery.cancel_scope.cancel()
