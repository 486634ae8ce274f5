"""The whole exchange on real localhost sockets."""

from __future__ import annotations

import json
import ssl
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio.testing
import trustme
from trio_websocket import WebSocketConnection, open_websocket_url

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.exchange import ExchangeBackend
from orderflow.sim.faultplan import FaultPlan
from orderflow.sim.flood import FloodBackend, Loop
from orderflow.sim.market import Exchange
from orderflow.sim.play import PlayBackend
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve, serve_backend

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.socket

BTC, ETH_SPOT = InstrumentId(Category.LINEAR, "BTCUSDT"), InstrumentId(Category.SPOT, "ETHUSDT")


def config(*instruments: InstrumentId, **more: Any) -> SimConfig:
    known = catalogue_by_id()
    return SimConfig(instruments=tuple(known[item] for item in instruments), **more)


async def follow(ws: WebSocketConnection, topic: str, books: dict[str, list[dict[Decimal, Decimal]]]) -> None:
    """Keep a book by the rules of the protocol until cancelled."""
    await ws.send_message(json.dumps({"op": "subscribe", "args": [topic]}))
    sides: list[dict[Decimal, Decimal]] = [{}, {}]
    books[topic] = sides
    u = 0
    while True:
        message = json.loads(await ws.get_message())
        if message.get("topic") != topic:
            continue
        data = message["data"]
        if message["type"] == "snapshot":
            sides[0].clear()
            sides[1].clear()
        else:
            assert data["u"] == u + 1
        u = data["u"]
        for side, key in zip(sides, "ba", strict=True):
            for price, size in data[key]:
                if Decimal(size):
                    side[Decimal(price)] = Decimal(size)
                else:
                    del side[Decimal(price)]


def decimals(levels: list[tuple[str, str]] | list[list[str]]) -> dict[Decimal, Decimal]:
    return {Decimal(price): Decimal(size) for price, size in levels}


async def test_clients_end_with_the_exchanges_book() -> None:
    books: dict[str, list[dict[Decimal, Decimal]]] = {}
    topics = [(BTC, 1), (BTC, 50), (BTC, 1000), (ETH_SPOT, 200)]
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, config(BTC, ETH_SPOT))

        async def client(item: InstrumentId, depth: int) -> None:
            async with open_websocket_url(server.ws_url(item.category)) as ws:
                await follow(ws, f"orderbook.{depth}.{item.symbol}", books)

        for item, depth in topics:
            nursery.start_soon(client, item, depth)
        await trio.sleep(1.5)
        server.pause()
        await trio.sleep(0.4)
        for item, depth in topics:
            truth = server.true_book(item, depth)
            assert books[f"orderbook.{depth}.{item.symbol}"] == [decimals(truth.bids), decimals(truth.asks)]
        async with httpx.AsyncClient() as http:
            url = f"{server.rest_url}/v5/market/orderbook?category=linear&symbol=BTCUSDT&limit=1000"
            told = (await http.get(url)).json()["result"]
        assert books["orderbook.1000.BTCUSDT"] == [decimals(told["b"]), decimals(told["a"])]
        statistics = server.statistics()
        assert (statistics.clients, statistics.dropped_slow) == (4, 0)
        server.resume()
        nursery.cancel_scope.cancel()


async def test_tls_and_the_environment_to_use_it() -> None:
    authority = trustme.CA()
    served, asked = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(asked)
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, config(BTC, tls=served))
        assert server.environment() == {
            "ORDERFLOW_BYBIT__PUBLIC_WS_URL": f"wss://127.0.0.1:{server.port}/v5/public/{{category}}",
            "ORDERFLOW_BYBIT__PRIVATE_WS_URL": f"wss://127.0.0.1:{server.port}/v5/private",
            "ORDERFLOW_BYBIT__REST_URL": f"https://127.0.0.1:{server.port}",
        }
        async with open_websocket_url(server.ws_url("linear"), ssl_context=asked) as ws:
            await ws.send_message('{"op":"ping"}')
            assert json.loads(await ws.get_message())["ret_msg"] == "pong"
        async with httpx.AsyncClient(verify=asked) as http:
            assert (await http.get(f"{server.rest_url}/v5/market/time")).json()["retCode"] == 0
        nursery.cancel_scope.cancel()


async def test_a_recording_over_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "linear-x.jsonl"
    lines = [
        json.dumps(
            {
                "topic": "orderbook.50.ABCUSDT",
                "type": "snapshot" if n == 0 else "delta",
                "ts": 1_790_000_000_000 + n,
                "data": {"s": "ABCUSDT", "b": [["1.0", str(n + 1)]], "a": [["1.1", "1"]], "u": n, "seq": n},
            },
            separators=(",", ":"),
        )
        for n in range(5000)
    ]
    path.write_text("\n".join(lines))
    async with trio.open_nursery() as nursery:
        backend = PlayBackend.open([path], float("inf"))
        server: SimServer = await nursery.start(serve_backend, backend, ServerPolicy(buffer_bytes=100_000))
        async with open_websocket_url(server.ws_url("linear")) as ws:
            await ws.send_message('{"op":"subscribe","args":["orderbook.50.ABCUSDT"]}')
            assert json.loads(await ws.get_message())["success"]
            assert [await ws.get_message() for _ in lines] == lines
            with trio.move_on_after(0.2) as quiet:
                await ws.get_message()
            assert quiet.cancelled_caught
        assert server.statistics().dropped_slow == 0
        nursery.cancel_scope.cancel()


async def test_a_flood_waits_for_its_client() -> None:
    async with trio.open_nursery() as nursery:
        backend = FloodBackend([Loop(catalogue_by_id()[BTC], 50, 7, 50)], None)
        server: SimServer = await nursery.start(serve_backend, backend, ServerPolicy(buffer_bytes=100_000))
        async with open_websocket_url(server.ws_url("linear")) as ws:
            await ws.send_message('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
            u = json.loads(await ws.get_message())["data"]["u"]
            assert json.loads(await ws.get_message())["success"]
            for n in range(500):
                assert json.loads(await ws.get_message())["data"]["u"] == u + 1 + n
            await trio.sleep(0.2)  # nobody reads
            assert server.statistics().dropped_slow == 0
        nursery.cancel_scope.cancel()


async def test_a_port_in_use() -> None:
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, config(BTC))
        with pytest.raises(OSError, match="in use"):
            await serve(config(BTC, server=ServerPolicy(port=server.port)))
        nursery.cancel_scope.cancel()


class Sink:
    connection_id = "x"

    def __init__(self) -> None:
        self.frames = 0

    def deliver(self, topic: str, frame: bytes) -> None:
        self.frames += 1


async def test_behind_a_standstill_of_ours_comes_no_burst(mock_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    """Short ones are caught up, message by message; of longer ones the market knows nothing."""
    log = tmp_path / "log.jsonl"
    exchange = Exchange((catalogue_by_id()[BTC],), 7, 1_790_000_000_000)
    backend = ExchangeBackend(exchange, 1_790_000_000_000)
    policy = ServerPolicy(start_ms=1_790_000_000_000, client_log=log)
    server = SimServer(backend, policy, FaultPlan(), tls=None)
    sink = Sink()
    backend.attach("linear", "orderbook.50.BTCUSDT", sink, server.now_ms())
    with server.logging_clients():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.9)
            await trio.testing.wait_all_tasks_blocked()
            caught_up = sink.frames
            assert 20 < caught_up <= 45
            assert server.statistics().halts == 0
            mock_clock.jump(3600)
            await trio.testing.wait_all_tasks_blocked()
            assert sink.frames <= caught_up + 1
            statistics = server.statistics()
            assert statistics.halts == 1
            assert 3_600_000 - 20 <= statistics.halted_ms <= 3_600_000
            mock_clock.jump(0.1)
            await trio.testing.wait_all_tasks_blocked()
            assert sink.frames > caught_up + 1  # and on it goes
            assert abs(exchange.now_ms - server.now_ms()) <= 10
            nursery.cancel_scope.cancel()
    (halt,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (halt["event"], round(halt["ms"], -2)) == ("halt", 3_600_000)


async def test_a_standstill_of_ours_is_no_silence_of_theirs(mock_clock: trio.testing.MockClock) -> None:
    """A private connection may be silent for 30 s; that we slept for an hour does not count."""
    backend = ExchangeBackend(Exchange((catalogue_by_id()[BTC],), 7, 1_790_000_000_000), 1_790_000_000_000)
    server = SimServer(backend, ServerPolicy(start_ms=1_790_000_000_000), FaultPlan(), tls=None)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(
            b"GET /v5/private?max_active_time=30s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b" 101 " in await ours.receive_some(4096)
        nursery.start_soon(server.cut_silent_clients)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(3600)
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().cut_idle == 0
        for _ in range(40):
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().cut_idle == 1  # that was its own
        nursery.cancel_scope.cancel()
