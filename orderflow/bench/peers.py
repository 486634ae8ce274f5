"""Clients to compare with, each keeping a book the way programs usually do. They run in `client.py`'s process."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from sortedcontainers import SortedDict
from trio_websocket import open_websocket_url

from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.topics import book_topic

if TYPE_CHECKING:
    from orderflow.bench.client import Job, Sheet

_QUEUE: Final = 1000


async def run_plain(job: Job, sheet: Sheet) -> None:
    """trio-websocket as its documentation shows it: a message at a time, decoded untyped, over a channel, into a
    SortedDict a side. It checks nothing: no numbering, no cross, no number; it counts and stamps nothing."""
    bids: SortedDict[float, float] = SortedDict()
    asks: SortedDict[float, float] = SortedDict()
    send, receive = trio.open_memory_channel[str](_QUEUE)
    async with open_websocket_url(job.url) as ws, trio.open_nursery() as nursery:
        await ws.send_message(json.dumps({"op": "subscribe", "args": [book_topic(INSTRUMENT.symbol, job.depth)]}))
        nursery.start_soon(_read, ws, send)
        async for text in receive:
            message = msgspec.json.decode(text)
            if "topic" not in message:
                continue
            data = message["data"]
            if message["type"] == "snapshot":
                bids.clear()
                asks.clear()
            _apply(bids, data["b"])
            _apply(asks, data["a"])
            u = data["u"]
            if message["type"] == "delta" and _note(job, sheet, u):
                break
        nursery.cancel_scope.cancel(reason="every message is in the book")
    sheet.bids = list(reversed(bids.items()))
    sheet.asks = list(asks.items())


async def _read(ws: Any, send: trio.MemorySendChannel[str]) -> None:
    while True:
        await send.send(await ws.get_message())


def _apply(side: SortedDict[float, float], levels: list[tuple[str, str]]) -> None:
    for price, size in levels:
        if float(size):
            side[float(price)] = float(size)
        else:
            side.pop(float(price), None)


def _note(job: Job, sheet: Sheet, u: int) -> bool:
    """Whether that was the last message."""
    if job.stamp:
        sheet.stamps.append(time.monotonic_ns())
    if job.stamp or u == job.last_u or not sheet.began:
        sheet.mark(u)
    return u == job.last_u
