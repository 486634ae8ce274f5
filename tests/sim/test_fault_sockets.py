"""What only real sockets show of faults: the bytes, the ends of connections, the control port and the command line."""

from __future__ import annotations

import json
import re
import shlex
import ssl
import struct
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from orderflow.cli import build_parser, main
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.control import Control
from orderflow.sim.faultlist import KINDS, parse_fault
from orderflow.sim.faultplan import FaultPlan
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve
from orderflow.sim.tls import OwnTls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.socket

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
UPGRADE = (
    b"GET /v5/public/linear HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[SimServer]:
    log = tmp_path / "clients.jsonl"
    config = SimConfig(instruments=(catalogue_by_id()[BTC],), account=False, server=ServerPolicy(client_log=log))
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, config)
        with trio.fail_after(10):
            yield server
        nursery.cancel_scope.cancel()


def events(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    lines = (tmp_path / "clients.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - the server knows no events for it
        await trio.sleep(0.01)


async def upgraded(server: SimServer) -> trio.SocketStream:
    """A raw client behind the upgrade."""
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    await stream.send_all(UPGRADE)
    assert b" 101 " in await stream.receive_some(4096)
    return stream


def masked(opcode: int, payload: bytes) -> bytes:
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


async def test_a_frozen_connection_notices_that_its_client_went(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        stream = await upgraded(server)
        await until(server.clients)
        server.plan.add(parse_fault("stall:seconds=1000"))
        await until(lambda: server.plan.counts)
        await stream.send_all(masked(1, b'{"op":"ping"}'))  # lies unread in front of the end
        await stream.aclose()
        await until(lambda: not server.clients())


async def test_a_thawed_connection_gets_everything_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as server, open_websocket_url(server.ws_url("linear")) as ws:
        await ws.send_message('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
        while '"subscribe"' not in await ws.get_message():
            pass
        server.plan.add(parse_fault("stall:seconds=0.5"))
        await until(lambda: server.plan.counts)
        await trio.sleep(0.6)
        numbers = [json.loads(await ws.get_message())["data"]["u"] for _ in range(10)]
        assert numbers == list(range(numbers[0], numbers[0] + 10))


async def test_half_closed_connections_are_still_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        stream = await upgraded(server)
        await until(server.clients)
        server.plan.add(parse_fault("half-close"))
        assert await stream.receive_some(4096) == b""
        await stream.send_all(masked(1, b'{"op":"nope"}'))
        await until(lambda: events(tmp_path, "text"))
        await stream.aclose()
        await until(lambda: not server.clients())


async def test_a_torn_frame_stops_in_its_middle(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        stream = await upgraded(server)
        await until(server.clients)
        server.plan.add(parse_fault("torn"))
        data = await stream.receive_some(4096)
        (announced,) = struct.unpack("!H", data[2:4])
        assert 0 < len(data) - 4 < announced
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(4096)
        await stream.aclose()


async def test_close_frames_are_answered_and_logged(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        stream = await upgraded(server)
        await until(server.clients)
        server.plan.add(parse_fault("close:code=1012,reason=restart"))
        assert await stream.receive_some(4096) == b"\x88\x09" + struct.pack("!H", 1012) + b"restart"
        await stream.send_all(masked(8, struct.pack("!H", 1012)))
        assert await stream.receive_some(4096) == b""
        await stream.aclose()
        await until(lambda: events(tmp_path, "end"))
        assert [event["code"] for event in events(tmp_path, "close")] == [1012]


async def test_pings_and_pongs_are_logged(tmp_path: Path) -> None:
    async with running(tmp_path) as server, open_websocket_url(server.ws_url("linear")) as ws:
        await ws.ping(b"x")
        server.plan.add(parse_fault("pings:rate=50,seconds=0.1"))
        await until(lambda: len(events(tmp_path, "pong")) >= 4)
        assert len(events(tmp_path, "ping")) == 1


async def test_a_dripping_answer_never_ends_but_its_client_may_leave(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.plan.add(parse_fault("drip:seconds=0.01"))
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(UPGRADE)
        got = b""
        while len(got) < 20:
            got += await stream.receive_some(64)
        assert got.startswith(b"HTTP/1.1 101")
        await stream.aclose()
        assert [event["how"] for event in events(tmp_path, "botched")] == ["drip"]


async def test_control_port_over_http(tmp_path: Path) -> None:
    async with running(tmp_path) as server, httpx.AsyncClient(base_url=server.rest_url, trust_env=False) as http:
        armed = (await http.post("/sim/faults", content="rest-http:status=502")).json()
        assert armed == {"armed": [{"number": 1, "fault": "rest-http:status=502"}]}
        assert (await http.get("/v5/market/time")).status_code == 502
        assert (await http.get("/sim/faults")).json()["happened"] == {"rest-http": 1}  # the port itself is spared
        await http.delete("/sim/faults")
        assert (await http.get("/v5/market/time")).status_code == 200
        await http.post("/sim/pause")
        path = "/sim/book?category=linear&symbol=BTCUSDT&depth=5"
        first, second = (await http.get(path)).json(), (await http.get(path)).json()
        assert first == second
        assert len(first["bids"]) == len(first["asks"]) == 5
        assert (await http.get("/sim/statistics")).json()["paused"] is True
        assert (await http.get("/sim/faults", headers={"Host": "evil.example"})).status_code == 403
        assert (await http.get("/sim/faults", headers={"Origin": "http://localhost"})).status_code == 403


async def test_slow_and_garbled_rest(tmp_path: Path) -> None:
    async with running(tmp_path) as server, httpx.AsyncClient(base_url=server.rest_url, trust_env=False) as http:
        server.plan.add(parse_fault("rest-slow:delay=0.3,n=1"))
        began = trio.current_time()
        assert (await http.get("/v5/market/time")).json()["retCode"] == 0
        assert trio.current_time() - began >= 0.3
        server.plan.add(parse_fault("rest-garbage:n=1"))
        with pytest.raises(json.JSONDecodeError):
            (await http.get("/v5/market/time")).json()
        server.plan.add(parse_fault("rest-hangup:n=1"))
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/v5/market/time")


@pytest.mark.parametrize(
    "words", [["--fault", "dorp"], ["--fault", "drop:p=7"], ["--faults", "random", "--fault-rate", "0"]]
)
def test_bad_fault_options_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--port", "0", *words]) == 2
    assert "fault" in capsys.readouterr().err


def test_the_list_of_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--faults", "list"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(KINDS)
    assert main(["sim", "--faults", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == KINDS.keys()


async def test_what_a_client_says_while_nobody_listens_is_heard_later(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        stream = await upgraded(server)
        await until(server.clients)
        server.plan.add(parse_fault("stall:seconds=0.4"))
        await until(lambda: server.plan.counts)
        await stream.send_all(masked(1, b'{"op":"ping"}'))
        assert b"pong" in await stream.receive_some(4096)
        server.plan.add(parse_fault("black-hole:seconds=0.3"))
        await until(lambda: "black-hole" in server.plan.counts)
        await stream.send_all(masked(1, b'{"op":"ping"}'))
        with trio.move_on_after(0.6) as nothing_came:
            await stream.receive_some(4096)
        assert nothing_came.cancelled_caught
        await stream.aclose()


# --- the page -------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")
CURLS = re.findall(r"^curl (.+?) *(?:#.*)?$", PAGE, re.MULTILINE)


def test_the_page_shows_every_request_of_the_control_port() -> None:
    asked = {(method_of(words), urlsplit(url_of(words)).path) for words in map(shlex.split, CURLS)}
    routes = {(verb, f"/sim/{name}") for verb, name in Control(None)._routes}  # type: ignore[arg-type]
    assert asked == routes | {("DELETE", "/sim/faults/3")}


def method_of(words: list[str]) -> str:
    return words[words.index("-X") + 1] if "-X" in words else "GET"


def url_of(words: list[str]) -> str:
    return next(word for word in words if word.startswith("http"))


async def test_every_request_of_the_page_works_as_it_stands(tmp_path: Path) -> None:
    async with running(tmp_path) as server, httpx.AsyncClient() as http:
        for number in range(3):
            assert server.plan.add(parse_fault("drop:after=1000")) == number + 1
        for words in map(shlex.split, CURLS):
            body = words[words.index("-d") + 1] if "-d" in words else ""
            url = url_of(words).replace(":9000", f":{server.port}")
            answer = await http.request(method_of(words), url, content=body)
            assert answer.status_code == 200, (words, answer.text)
            assert "error" not in answer.json()
        assert server.statistics().clients == 0


async def test_every_fault_is_armed_at_start_and_by_the_control_port(tmp_path: Path) -> None:
    """Under the same name, with the same parameters, and gone when it is told to go."""
    specs = [str(parse_fault(f"{name}:after=1000")) for name in KINDS]
    tls = OwnTls("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(tls.authority_pem)
    trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    config = SimConfig(
        instruments=(catalogue_by_id()[BTC],), account=False, tls=tls, faults=FaultPlan(map(parse_fault, specs))
    )
    async with trio.open_nursery() as nursery, httpx.AsyncClient(verify=trust) as http:
        server: SimServer = await nursery.start(serve, config)
        url = f"{server.rest_url}/sim/faults"
        await until(lambda: server.plan.listing())
        assert [row["fault"] for row in (await http.get(url)).json()["faults"]] == specs
        armed = (await http.post(url, content="\n".join(specs))).json()["armed"]
        assert [row["fault"] for row in armed] == specs
        listed = (await http.get(url)).json()["faults"]
        assert [row["state"] for row in listed] == ["armed"] * 2 * len(specs)
        assert (await http.delete(f"{url}/{armed[0]['number']}")).status_code == 200
        left = (await http.delete(url)).json()["faults"]
        assert {row["state"] for row in left} == {"over"}
        nursery.cancel_scope.cancel()


async def test_without_certificates_of_ours_none_can_be_faulty(tmp_path: Path) -> None:
    async with running(tmp_path) as server, httpx.AsyncClient() as http:
        answer = await http.post(f"{server.rest_url}/sim/faults", content="certificate")
        assert answer.status_code == 409
        assert "--tls" in answer.json()["error"]


def test_every_command_of_the_page_is_understood() -> None:
    """Options and faults as they are written there."""
    block = re.search(r"## Faults\n.+?```sh\n(.+?)```", PAGE, re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        words = shlex.split(line, comments=True)
        args = build_parser("sim").parse_args(words[1:])
        assert all(parse_fault(spec) for spec in args.fault)
