"""Well-known libraries as clients of the bench: each keeps the same book the way its users do.

They are compared when they are installed (`pip install 'bybit-orderflow[peers]'`), none is needed. `cryptofeed`, `ccxt`
and `pybit` keep their own books. The bare WebSocket clients are tuned: typed decode and this program's own levels, but
none of its checks, counters and stamps; `picows` on uvloop is as fast as asyncio gets.

As a module of its own it says, as JSON, what the interpreter that runs it can be compared with.
"""

from __future__ import annotations

import asyncio
import os
import platform
import ssl
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.bench.keeper import Keeper, Noter, subscription
from orderflow.bench.subject import FIRST_U, INSTRUMENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orderflow.bench.client import Job, Sheet

    Rival = Callable[["Job", "Sheet", ssl.SSLContext | None], Awaitable[None]]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """Who can be compared with: package -> version, in the order they are measured. `python`: what they run on."""

    python: str
    rivals: dict[str, str]
    loop: str


async def _picows(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    from picows import WSListener, WSMsgType, ws_connect

    keeper = Keeper(job, sheet)
    done = asyncio.Event()
    text = WSMsgType.TEXT

    class Listener(WSListener):  # type: ignore[misc]  # picows has no types for mypy
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == text and keeper.take(frame.get_payload_as_bytes()):
                done.set()

    transport, _ = await ws_connect(Listener, job.url, ssl_context=context)
    transport.send(text, subscription(job.depth).encode())
    await done.wait()
    transport.disconnect()


async def _aiohttp(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    import aiohttp

    keeper = Keeper(job, sheet)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(job.url, max_msg_size=0, ssl=context or True) as ws,
    ):
        await ws.send_str(subscription(job.depth))
        async for message in ws:
            if keeper.take(message.data.encode()):
                break


async def _websockets(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    from websockets.asyncio.client import connect

    keeper = Keeper(job, sheet)
    async with connect(job.url, max_size=None, compression=None, ssl=context) as ws:
        await ws.send(subscription(job.depth))
        while not keeper.take(await ws.recv(decode=False)):
            pass


async def _cryptofeed(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Its Bybit feed with a callback for each state of the book."""
    from cryptofeed.defines import ASK, BID, L2_BOOK, PERPETUAL
    from cryptofeed.exchanges import Bybit
    from cryptofeed.symbols import Symbols

    name = "BTC-USDT-PERP"
    Symbols.set(Bybit.id, {name: INSTRUMENT.symbol}, {"tick_size": {name: "0.1"}, "instrument_type": {name: PERPETUAL}})
    note = Noter(job, sheet)
    done = asyncio.Event()

    async def on_book(book: Any, receipt_timestamp: float) -> None:
        if book.delta is not None and note(book.raw["data"]["u"]):
            bids, asks = (
                [(float(price), float(levels[price])) for price in levels]
                for levels in (book.book[BID], book.book[ASK])
            )
            sheet.keep(bids, asks)
            done.set()

    class Local(Bybit):  # type: ignore[misc]  # cryptofeed has no types
        def connect(self) -> Any:
            links = super().connect()
            for connection, *_ in links:
                connection.address = job.url  # it refuses anything but wss:// where it is made
                if context is not None:
                    connection.ws_kwargs["ssl"] = context
            return links

    feed = Local(symbols=[name], channels=[L2_BOOK], callbacks={L2_BOOK: on_book}, max_depth=job.depth)
    feed.start(asyncio.get_running_loop())
    await done.wait()
    feed.stop()
    await feed.shutdown()


async def _ccxt(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """ccxt pro's `watch_order_book`; its incremental book is read after each return, as its manual says."""
    import ccxt.pro

    exchange = ccxt.pro.bybit({"newUpdates": False, **({"cafile": job.ca_file} if job.ca_file else {})})
    exchange.urls["api"]["ws"]["public"] = dict.fromkeys(("linear", "spot", "inverse"), job.url)
    market = exchange.safe_market_structure(
        {"id": INSTRUMENT.symbol, "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT",
         "type": "swap", "swap": True, "spot": False, "linear": True, "inverse": False, "contract": True}
    )  # fmt: skip
    exchange.set_markets([market])
    note = Noter(job, sheet)
    done = asyncio.Event()
    handle = exchange.handle_order_book

    def noted(client: Any, message: Any) -> None:
        handle(client, message)
        if message["type"] == "delta" and note(message["data"]["u"]):
            book = exchange.orderbooks["BTC/USDT:USDT"]
            bids, asks = ([(price, size) for price, size, *_ in book[side][: job.depth]] for side in ("bids", "asks"))
            sheet.keep(bids, asks)
            done.set()

    exchange.handle_order_book = noted

    async def watch() -> None:
        while True:
            await exchange.watch_order_book("BTC/USDT:USDT", job.depth)

    task = asyncio.create_task(watch())
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await exchange.close()


async def _pybit(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Its own thread and callback; its book appends new levels behind the others, so it is sorted before it counts.

    Whatever came, it hands out the whole book as a "snapshot": a delta is known by its number.
    """
    if job.ca_file:
        os.environ["WEBSOCKET_CLIENT_CA_BUNDLE"] = job.ca_file  # of websocket-client, which pybit stands on
    import pybit.unified_trading

    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    note = Noter(job, sheet)

    def on_book(message: dict[str, Any]) -> None:
        data = message["data"]
        if data["u"] > FIRST_U and note(data["u"]):
            bids, asks = ([(float(price), float(size)) for price, size in data[side]] for side in ("b", "a"))
            sheet.keep(sorted(bids, reverse=True), sorted(asks))
            loop.call_soon_threadsafe(done.set)

    pybit.unified_trading.PUBLIC_WSS = job.url.replace("linear", "{CHANNEL_TYPE}")
    ws = pybit.unified_trading.WebSocket(channel_type="linear", testnet=False)
    ws.orderbook_stream(job.depth, INSTRUMENT.symbol, on_book)
    await done.wait()
    ws.exit()


RIVALS: Final[Mapping[str, Rival]] = {
    "picows": _picows,
    "aiohttp": _aiohttp,
    "websockets": _websockets,
    "cryptofeed": _cryptofeed,
    "ccxt": _ccxt,
    "pybit": _pybit,
}
"""Package -> client."""


def look_around() -> Field:
    """Who can be compared with in this interpreter."""
    return Field(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        rivals={name: metadata.version(name) for name in RIVALS if find_spec(name) is not None},
        loop=f"uvloop {metadata.version('uvloop')}" if find_spec("uvloop") is not None else "asyncio",
    )


def run_rival(job: Job, sheet: Sheet) -> None:
    """Run one to its last message, on uvloop where that is installed. Raises: TimeoutError, and whatever it raises."""
    rival = RIVALS[job.client]
    context = ssl.create_default_context(cafile=job.ca_file) if job.ca_file else None

    async def bounded() -> None:
        async with asyncio.timeout(job.timeout_s):
            await rival(job, sheet, context)

    factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(look_around()))
