"""The private link over memory streams: a WebSocket server in the test plays the exchange, on a clock that jumps."""

from __future__ import annotations

import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio_websocket

from orderflow.bybit.account import TOPICS
from orderflow.bybit.signing import Signer, verify_ws_auth
from orderflow.config.secrets import Secret
from orderflow.core.errors import AuthRejected
from orderflow.core.policy import LinkPolicy, RetryPolicy
from orderflow.net.private import PrivateLink
from orderflow.net.retry import AttemptBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.core.types import LinkChanged, PrivateMessage

KEY, SECRET = "canaryKEYvalue0001", "canarySECRETvalue-zyxwvu"
NOW_MS = 1_790_000_000_000
URL = "ws://127.0.0.1:9/v5/private"
RETRY = RetryPolicy()


def clock() -> tuple[int, int]:
    """Both clocks follow trio's."""
    mono_ns = int(trio.current_time() * 1e9)
    return NOW_MS * 1_000_000 + mono_ns, mono_ns


class Exchange:
    """Serves memory connections with `peer`, one after the other, and remembers what came."""

    def __init__(self, peer: Callable[[Exchange, trio_websocket.WebSocketConnection], Awaitable[None]]) -> None:
        self._peer = peer
        self.nursery: trio.Nursery | None = None
        self.connections: list[float] = []
        self.received: list[dict[str, Any]] = []

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections.append(trio.current_time())
        assert self.nursery is not None
        self.nursery.start_soon(self._serve, theirs)
        await trio.lowlevel.checkpoint()
        return ours

    async def _serve(self, stream: Any) -> None:
        try:
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(nursery, stream)
                ws = await request.accept()
                await self._peer(self, ws)
                nursery.cancel_scope.cancel()
        except* (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def next(self, ws: trio_websocket.WebSocketConnection) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await ws.get_message())
        self.received.append(message)
        return message

    async def admit(self, ws: trio_websocket.WebSocketConnection) -> None:
        """Auth and subscriptions as they should go."""
        frame = await self.next(ws)
        now_ms = clock()[0] // 1_000_000
        good = verify_ws_auth(frame["args"], lambda key: SECRET if key == KEY else None, now_ms)
        text = "" if good else "Params Error"
        await ws.send_message(json.dumps({"success": bool(good), "ret_msg": text, "op": "auth", "conn_id": "c"}))
        for _ in TOPICS:
            frame = await self.next(ws)
            reply = {"success": True, "ret_msg": "", "op": frame["op"], "conn_id": "c", "req_id": frame["req_id"]}
            await ws.send_message(json.dumps(reply))

    async def pong(self, ws: trio_websocket.WebSocketConnection) -> None:
        frame = await self.next(ws)
        reply = {"req_id": frame["req_id"], "op": "pong", "args": ["1"], "conn_id": "c"}
        await ws.send_message(json.dumps(reply))


class Bench:
    """A link, what it delivered and what it told."""

    def __init__(self, exchange: Exchange, signer: Signer | None = None, **more: Any) -> None:
        self.exchange = exchange
        self.messages: list[PrivateMessage] = []
        self.changes: list[LinkChanged] = []
        self.verdict: AuthRejected | None = None
        self.link = PrivateLink(
            URL,
            signer or Signer(Secret(KEY), Secret(SECRET)),
            LinkPolicy(),
            self.messages.append,
            dial=exchange.dial,
            clock=clock,
            **more,
        )

    async def over(self, seconds: float) -> None:
        """Run for so long, or until the link gives up."""
        async with trio.open_nursery() as nursery:
            self.exchange.nursery = nursery
            with trio.move_on_after(seconds):
                self.verdict = await self.link.run(RETRY, AttemptBudget(RETRY), self.changes.append, lambda: 0.5)
            nursery.cancel_scope.cancel()

    @property
    def story(self) -> list[str]:
        return [f"{change.state} {change.reason}".strip() for change in self.changes]


def push(order_id: str) -> str:
    row = {"symbol": "BTCUSDT", "orderId": order_id}
    return json.dumps({"topic": "order", "creationTime": NOW_MS, "data": [row]})


async def test_rows_arrive_and_pings_keep_the_link(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        await ws.send_message(push("a"))
        while True:
            await exchange.pong(ws)
            await ws.send_message(push("b"))

    bench = Bench(Exchange(peer))
    await bench.over(110)
    assert bench.story == ["connecting", "up"]
    assert [getattr(row, "order_id", "") for message in bench.messages for row in message.rows] == list("abbbbb")
    assert [frame["op"] for frame in bench.exchange.received] == ["auth"] + ["subscribe"] * 4 + ["ping"] * 5
    statistics = bench.link.statistics()
    assert (statistics.connects, statistics.messages, statistics.losses) == (1, {"order": 6}, {})


async def test_a_lost_link_is_made_again_with_auth_and_topics(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        await ws.send_message(push("a"))
        await trio.sleep(1)
        await ws.aclose()

    bench = Bench(Exchange(peer))
    await bench.over(5)
    assert bench.story[:6] == ["connecting", "up", "down closed", "connecting", "up", "down closed"]
    assert len(bench.messages) == len(bench.exchange.connections) == bench.link.statistics().connects > 2
    assert bench.link.statistics().rows == {"order": len(bench.messages)}
    expiries = [frame["args"][1] for frame in bench.exchange.received if frame["op"] == "auth"]
    assert expiries == sorted(set(expiries))


async def test_a_dead_peer_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        await trio.sleep_forever()

    bench = Bench(Exchange(peer))
    await bench.over(31)
    assert bench.story[:3] == ["connecting", "up", "down pong"]


async def test_wrong_credentials_are_tried_twice_then_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)

    bench = Bench(Exchange(peer), Signer(KEY, "another secret"))
    await bench.over(100)
    assert isinstance(bench.verdict, AuthRejected)
    assert bench.story == ["connecting", "down auth", "connecting", "down auth"]
    assert len(bench.exchange.connections) == 2


async def test_a_verdict_is_final_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.next(ws)
        await ws.send_message('{"op":"auth","success":false,"retCode":10003,"retMsg":"Invalid apikey","connId":"c"}')
        await trio.sleep_forever()

    bench = Bench(Exchange(peer))
    await bench.over(100)
    assert isinstance(bench.verdict, AuthRejected)
    assert bench.story == ["connecting", "down auth"]


async def test_auth_expires_by_the_exchange_clock(autojump_clock: trio.testing.MockClock) -> None:
    """Our clock is a minute slow; with the offset known the exchange accepts all the same."""

    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        await trio.sleep_forever()

    bench = Bench(Exchange(peer), exchange_ms=lambda: clock()[0] // 1_000_000 + 60_000, auth_expires_s=5)
    await bench.over(1)
    assert bench.exchange.received[0]["args"][1] == pytest.approx(NOW_MS + 65_000, abs=1100)
    assert bench.story == ["connecting", "up"]


async def test_a_refused_topic_does_not_cost_the_others(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.next(ws)
        await ws.send_message('{"success":true,"ret_msg":"","op":"auth","conn_id":"c"}')
        for _ in TOPICS:
            frame = await exchange.next(ws)
            good = frame["args"] != ["wallet"]
            await ws.send_message(json.dumps({"success": good, "op": "subscribe", "req_id": frame["req_id"]}))
        await ws.send_message("not json")
        await ws.send_message(push("a"))
        await trio.sleep_forever()

    bench = Bench(Exchange(peer))
    await bench.over(1)
    assert bench.story == ["connecting", "up"]
    statistics = bench.link.statistics()
    assert (statistics.topics_refused, statistics.refused, statistics.rows) == (1, {"json": 1}, {"order": 1})


class Freeze:
    """Lets the process stand still, at the n-th frame the exchange hears, before it answers."""

    def __init__(self, autojump_clock: trio.testing.MockClock, at_frame: int) -> None:
        self.clock = autojump_clock
        self.at_frame = at_frame
        self.answered_late = 0

    async def __call__(self, exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        while True:
            frame = await exchange.next(ws)
            if len(exchange.received) == self.at_frame:
                self.clock.jump(3600)
                await trio.sleep(2)  # the answer is still on its way when the program wakes
                self.answered_late += 1
            if frame["op"] == "ping":
                reply: dict[str, Any] = {"req_id": frame["req_id"], "op": "pong", "args": ["1"]}
            else:
                reply = {"success": True, "ret_msg": "", "op": frame["op"], "req_id": frame["req_id"]}
            await ws.send_message(json.dumps(reply))


@pytest.mark.parametrize("at_frame", [1, 5, 6, 7], ids=["auth", "last topic", "ping", "next ping"])
async def test_frozen_at_any_moment_the_exchange_is_not_blamed(
    autojump_clock: trio.testing.MockClock, at_frame: int
) -> None:
    peer = Freeze(autojump_clock, at_frame)
    bench = Bench(Exchange(peer))
    await bench.over(3600 + 100)
    assert peer.answered_late == 1
    assert bench.story == ["connecting", "up"]
    assert bench.verdict is None
    asked = [frame["op"] for frame in bench.exchange.received if frame["op"] != "ping"]
    assert asked == ["auth"] + ["subscribe"] * 4
    pings = [frame["req_id"] for frame in bench.exchange.received if frame["op"] == "ping"]
    assert len(pings) == len(set(pings)) <= 6  # one every 20 s of the time awake: no burst


async def test_frozen_in_mid_send_the_link_is_made_again_and_nobody_is_blamed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first topic's frame has arrived, the next is being sent: half of it may have left."""
    bench = Bench(Exchange(Freeze(autojump_clock, 2)))
    await bench.over(3600 + 50)
    assert bench.story == ["connecting", "down stall", "connecting", "up"]
    assert bench.verdict is None


async def test_frozen_between_frames_the_exchange_is_not_blamed(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        await trio.sleep(5)
        autojump_clock.jump(3600)
        while True:
            await exchange.pong(ws)

    bench = Bench(Exchange(peer))
    await bench.over(3600 + 50)
    assert bench.story == ["connecting", "up"]
    assert [frame["op"] for frame in bench.exchange.received[5:]] == ["ping"] * 3


async def test_after_a_freeze_a_dead_peer_is_still_found(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        autojump_clock.jump(3600)
        await trio.sleep_forever()

    bench = Bench(Exchange(peer))
    await bench.over(3600 + 15)
    assert bench.story[:3] == ["connecting", "up", "down pong"]


async def test_cancelled_at_many_moments(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await trio.sleep(0.3)
        await exchange.admit(ws)
        await trio.sleep(0.3)

    for tenth in range(12):
        bench = Bench(Exchange(peer))
        began = trio.current_time()
        await bench.over(tenth / 10)
        assert bench.verdict is None
        assert trio.current_time() - began <= tenth / 10 + LinkPolicy().close_timeout_s + 0.01


async def test_bugs_of_the_receiver_are_not_swallowed(autojump_clock: trio.testing.MockClock) -> None:
    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        await exchange.admit(ws)
        await ws.send_message(push("a"))
        await trio.sleep_forever()

    def deliver(message: PrivateMessage) -> None:
        raise ZeroDivisionError

    bench = Bench(Exchange(peer))
    bench.link = PrivateLink(URL, Signer(KEY, SECRET), LinkPolicy(), deliver, dial=bench.exchange.dial, clock=clock)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
        await bench.over(5)


async def test_canary(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Neither key, secret nor signature in logs, told changes or the verdict with all that hangs on it."""
    caplog.set_level(logging.DEBUG)

    async def peer(exchange: Exchange, ws: trio_websocket.WebSocketConnection) -> None:
        frame = await exchange.next(ws)
        echo = {"op": "auth", "success": False, "retCode": 10004, "retMsg": f"error sign! {frame['args'][0]} {SECRET}"}
        await ws.send_message(json.dumps(echo))
        await trio.sleep_forever()

    bench = Bench(Exchange(peer))
    await bench.over(50)
    assert bench.verdict is not None
    report = traceback.TracebackException.from_exception(bench.verdict, capture_locals=True)
    signature = bench.exchange.received[0]["args"][2]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("orderflow")]
    shown = "\n".join(
        [*report.format(), *told, repr(bench.changes), repr(bench.verdict), str(bench.verdict), repr(vars(bench.link))]
    )
    for hidden in (KEY, SECRET, signature, signature[:12]):
        assert hidden not in shown
