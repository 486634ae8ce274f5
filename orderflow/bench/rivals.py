"""Well-known libraries as clients of the bench: each keeps the same book the way its users do.

They are compared when they are installed (`pip install bybit-orderflow[bench-peers]`), none is needed. `cryptofeed`,
`ccxt` and `pybit` keep their own books. The bare WebSocket clients are tuned: typed decode and this program's own
`Levels`, but none of its checks, counters and stamps; `picows` on uvloop is as fast as asyncio gets.
"""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.topics import book_topic
from orderflow.bybit.wire import WireBook
from orderflow.core.book import Levels

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    from orderflow.bench.client import Job, Sheet

    Rival = Callable[["Job", "Sheet", "ssl.SSLContext | None"], Awaitable[None]]

_HEAD: Final = b'{"topic":"orderbook.'
_decode: Final = msgspec.json.Decoder(WireBook, strict=False).decode


class _Keeper:
    """What a tuned hand-rolled client does with a message."""

    def __init__(self, job: Job, sheet: Sheet) -> None:
        self.subscription = f'{{"op":"subscribe","args":["{book_topic(INSTRUMENT.symbol, job.depth)}"]}}'
        self.done = asyncio.Event()
        self._levels = Levels()
        self._note = _Noter(job, sheet)
        self._depth = job.depth
        self._sheet = sheet

    def take(self, raw: bytes) -> None:
        if not raw.startswith(_HEAD):
            return
        message = _decode(raw)
        data = message.data
        if message.type == "snapshot":
            self._levels.replace(data.b, data.a)
        else:
            self._levels.apply(data.b, data.a)
            if self._note(data.u):
                self._sheet.bids = self._levels.top_bids(self._depth)
                self._sheet.asks = self._levels.top_asks(self._depth)
                self.done.set()


class _Noter:
    """Tells the sheet what it wants to know of each delta; True for the last."""

    def __init__(self, job: Job, sheet: Sheet) -> None:
        self._stamp = job.stamp
        self._last_u = job.last_u
        self._sheet = sheet

    def __call__(self, u: int) -> bool:
        if self._stamp:
            self._sheet.stamps.append(time.monotonic_ns())
        if self._stamp or u == self._last_u or not self._sheet.began:
            self._sheet.mark(u)
        return u == self._last_u


async def _picows(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    from picows import WSListener, WSMsgType, ws_connect

    keeper = _Keeper(job, sheet)
    text = WSMsgType.TEXT

    class Listener(WSListener):  # type: ignore[misc]  # picows has no types for mypy
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == text:
                keeper.take(frame.get_payload_as_bytes())

    transport, _ = await ws_connect(Listener, job.url, ssl_context=context)
    transport.send(text, keeper.subscription.encode())
    await keeper.done.wait()
    transport.disconnect()


async def _aiohttp(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    import aiohttp

    keeper = _Keeper(job, sheet)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(job.url, max_msg_size=0, ssl=context or True) as ws,
    ):
        await ws.send_str(keeper.subscription)
        async for message in ws:
            keeper.take(message.data.encode())
            if keeper.done.is_set():
                break


async def _websockets(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    from websockets.asyncio.client import connect

    keeper = _Keeper(job, sheet)
    async with connect(job.url, max_size=None, compression=None, ssl=context) as ws:
        await ws.send(keeper.subscription)
        while not keeper.done.is_set():
            keeper.take(await ws.recv(decode=False))


async def _cryptofeed(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Its Bybit feed with a callback for each state of the book."""
    from cryptofeed.defines import ASK, BID, L2_BOOK, PERPETUAL
    from cryptofeed.exchanges import Bybit
    from cryptofeed.symbols import Symbols

    name = "BTC-USDT-PERP"
    Symbols.set(Bybit.id, {name: INSTRUMENT.symbol}, {"tick_size": {name: "0.1"}, "instrument_type": {name: PERPETUAL}})
    note = _Noter(job, sheet)
    done = asyncio.Event()

    async def on_book(book: Any, receipt_timestamp: float) -> None:
        if book.delta is not None and note(book.raw["data"]["u"]):
            for side, levels in ((sheet.bids, book.book[BID]), (sheet.asks, book.book[ASK])):
                side += [(float(price), float(levels[price])) for price in levels]
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

    exchange = ccxt.pro.bybit({"newUpdates": False})
    exchange.urls["api"]["ws"]["public"] = dict.fromkeys(("linear", "spot", "inverse"), job.url)
    market = exchange.safe_market_structure(
        {"id": INSTRUMENT.symbol, "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT",
         "type": "swap", "swap": True, "spot": False, "linear": True, "inverse": False, "contract": True}
    )  # fmt: skip
    exchange.set_markets([market])
    note = _Noter(job, sheet)
    done = asyncio.Event()
    handle = exchange.handle_order_book

    def noted(client: Any, message: Any) -> None:
        handle(client, message)
        if message["type"] == "delta" and note(message["data"]["u"]):
            book = exchange.orderbooks["BTC/USDT:USDT"]
            sheet.bids = [(price, size) for price, size, *_ in book["bids"][: job.depth]]
            sheet.asks = [(price, size) for price, size, *_ in book["asks"][: job.depth]]
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
    """Its own thread and callback; its book appends new levels behind the others, so it is sorted before it counts."""
    import pybit.unified_trading

    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    note = _Noter(job, sheet)

    def on_book(message: dict[str, Any]) -> None:
        if message["type"] == "delta" and note(message["data"]["u"]):
            for side, rows in ((sheet.bids, message["data"]["b"]), (sheet.asks, message["data"]["a"])):
                side += sorted(((float(price), float(size)) for price, size in rows), reverse=side is sheet.bids)
            loop.call_soon_threadsafe(done.set)

    pybit.unified_trading.PUBLIC_WSS = job.url.replace("linear", "{CHANNEL_TYPE}")
    ws = pybit.unified_trading.WebSocket(channel_type="linear", testnet=False)
    ws.orderbook_stream(job.depth, INSTRUMENT.symbol, on_book)
    await done.wait()
    ws.exit()


RIVALS: Final[Mapping[str, tuple[str, Rival]]] = {
    "picows": ("picows", _picows),
    "aiohttp": ("aiohttp", _aiohttp),
    "websockets": ("websockets", _websockets),
    "cryptofeed": ("cryptofeed", _cryptofeed),
    "ccxt": ("ccxt", _ccxt),
    "pybit": ("pybit", _pybit),
}
"""Name -> (package, client)."""
NEED_NO_TLS: Final = frozenset({"ccxt", "pybit"})
"""Compared without TLS only: they offer no way to trust a certificate of ours."""


def installed() -> tuple[str, ...]:
    """Who can be compared with here."""
    return tuple(name for name, (package, _) in RIVALS.items() if find_spec(package) is not None)


def run_rival(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Run one to its last message, on uvloop where that is installed. Raises: TimeoutError, and whatever it raises."""
    rival = RIVALS[job.client][1]

    async def bounded() -> None:
        async with asyncio.timeout(job.timeout_s):
            await rival(job, sheet, context)

    factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())
