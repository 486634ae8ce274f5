"""Clients on Trio to compare with: trio-websocket as it is, plain and tuned, and the least that Trio itself takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from sortedcontainers import SortedDict
from trio_websocket import open_websocket_url
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from orderflow.bench.keeper import Keeper, Noter, subscription
from orderflow.net.dial import dial_tcp, parse_endpoint
from orderflow.net.frames import FrameCutter
from orderflow.net.tls import start_tls

if TYPE_CHECKING:
    import ssl

    from orderflow.bench.client import Job, Sheet

_QUEUE: Final = 1000
_MAX_MESSAGE_BYTES: Final = 1 << 22


async def run_plain(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """trio-websocket as its documentation shows it: a message at a time, decoded untyped, over a channel, into a
    SortedDict a side. It checks nothing: no numbering, no cross, no number; it counts and stamps nothing."""
    bids: SortedDict[float, float] = SortedDict()
    asks: SortedDict[float, float] = SortedDict()
    note = Noter(job, sheet)
    send, receive = trio.open_memory_channel[str](_QUEUE)
    async with open_websocket_url(job.url, context) as ws, trio.open_nursery() as nursery:
        await ws.send_message(subscription(job.depth))
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
            if message["type"] == "delta" and note(data["u"]):
                break
        nursery.cancel_scope.cancel(reason="every message is in the book")
    sheet.keep(list(reversed(bids.items())), list(asks.items()))


async def run_bare(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """trio-websocket with everything tuned that stands behind it: a typed decode, our levels, no channel, no checks."""
    keeper = Keeper(job, sheet)
    async with open_websocket_url(job.url, context) as ws:
        await ws.send_message(subscription(job.depth))
        while not keeper.take(str(await ws.get_message()).encode()):
            pass


async def run_least(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """The least a client on Trio can do: one task that waits for the socket, reads it, cuts frames and keeps levels.

    No pings, deadlines, reconnecting, checks, counters, nor a second task: what this takes is Trio's own share.
    """
    endpoint = parse_endpoint(job.url)
    keeper = Keeper(job, sheet)
    cutter = FrameCutter(_MAX_MESSAGE_BYTES)
    async with await dial_tcp(endpoint.host, endpoint.port) as socket:
        stream = socket if context is None else await start_tls(socket, endpoint.host, context)
        handshake = WSConnection(ConnectionType.CLIENT)
        await stream.send_all(handshake.send(Request(host=endpoint.host_header, target=endpoint.target)))
        while not any(isinstance(event, AcceptConnection) for event in handshake.events()):
            handshake.receive_data(bytes(await stream.receive_some()))
        await stream.send_all(handshake.send(TextMessage(subscription(job.depth))))
        while True:
            for raw in cutter.feed(bytes(await stream.receive_some())):
                if keeper.take(raw):
                    return


async def _read(ws: Any, send: trio.MemorySendChannel[str]) -> None:
    while True:
        await send.send(await ws.get_message())


def _apply(side: SortedDict[float, float], levels: list[tuple[str, str]]) -> None:
    for price, size in levels:
        if float(size):
            side[float(price)] = float(size)
        else:
            side.pop(float(price), None)
