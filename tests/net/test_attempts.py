"""Many failed attempts of each kind over real sockets: memory, tasks and descriptors are back where they were."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import struct
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trustme

from orderflow.core.policy import LinkPolicy, RetryPolicy
from orderflow.core.types import Category, InstrumentId
from orderflow.net.dial import make_ssl_context
from orderflow.net.fanout import EventQueue
from orderflow.net.feed import Feed
from orderflow.net.retry import AttemptBudget
from tests.net.test_ws import Venue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.core.types import LinkChanged

    Peer = Callable[[trio.SocketStream], Awaitable[object]]

pytestmark = pytest.mark.socket

PATIENT: Final = LinkPolicy(open_timeout_s=20, close_timeout_s=0.02)
HASTY: Final = LinkPolicy(open_timeout_s=0.02, close_timeout_s=0.02)
RETRY: Final = RetryPolicy(
    base_s=1e-4, cap_s=1e-4, refused_pause_s=1e-4, refused_cap_s=1e-4, attempts_per_window=10, window_s=1e-4
)
WARM_UP, ATTEMPTS = 3, 10
OURS: Final = ("orderflow.", "trio_websocket.", "wsproto.", "h11.", "ssl", "socket", "trio._socket", "trio._highlevel")
"""Modules of what an attempt is made of. Trio itself keeps up to a thousand deadlines that have passed."""


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def reset(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def say_nothing(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


async def drip(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
    while True:
        await stream.send_all(b"X")
        await trio.sleep(0.005)


async def talk_nonsense(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\x00\xffnonsense" * 20)
    await say_nothing(stream)


async def refuse_upgrade(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    await say_nothing(stream)


async def forbid(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
    await say_nothing(stream)


async def kick(stream: trio.SocketStream) -> None:
    await Venue(stream).accept()


async def break_the_rules(stream: trio.SocketStream) -> None:
    await Venue(stream).accept(b"\x81\x01\xff")
    await say_nothing(stream)


async def stay_without_a_word(stream: trio.SocketStream) -> None:
    """A violation in the middle of a big message that never ends: all of it must go."""
    await Venue(stream).accept(b"\x81\x7f" + struct.pack("!Q", 4_000_000) + b"x" * 50_000 + b"\xff")
    await say_nothing(stream)


PEERS: Final[dict[str, Peer]] = {
    "closed": hang_up,
    "closed, reset": reset,
    "timeout": say_nothing,
    "timeout, dripping": drip,
    "garbage": talk_nonsense,
    "status": refuse_upgrade,
    "status, forbidden": forbid,
    "eof": kick,
    "protocol": break_the_rules,
    "protocol, big": stay_without_a_word,
}


class Consumption:
    """What this process holds now."""

    def __init__(self) -> None:
        gc.collect()
        alive = Counter(map(type, gc.get_objects()))
        self.objects: Counter[str] = Counter()
        for kind, count in alive.items():
            if str(kind.__module__).startswith(OURS):  # other libraries' may be no text
                self.objects[kind.__qualname__] += count
        self.descriptors = len(os.listdir("/dev/fd"))
        self.tasks = trio.lowlevel.current_statistics().tasks_living


async def attempt_often(url: str, reason: str) -> tuple[Consumption, Consumption]:
    """Let a feed fail; returns what was held after the warm-up, and after so many attempts more."""
    queue = EventQueue(1000)
    key = InstrumentId(Category.LINEAR, "BTCUSDT")
    context = make_ssl_context() if url.startswith("wss:") else None
    policy = HASTY if reason == "timeout" else PATIENT
    feed = Feed("linear", url, Category.LINEAR, [(key, 50)], queue, policy, ssl_context=context)
    taken: list[Consumption] = []
    tasks = trio.lowlevel.current_statistics().tasks_living
    reached = {count: trio.Event() for count in (WARM_UP, WARM_UP + ATTEMPTS)}
    losses = 0

    def notify(change: LinkChanged) -> None:
        nonlocal losses
        if change.state == "down":
            assert change.reason == reason
            losses += 1
            if losses in reached:
                reached[losses].set()

    async def consume() -> None:
        while True:
            await queue.receive()

    for event in reached.values():  # the first round fills caches
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            nursery.start_soon(feed.run, RETRY, AttemptBudget(RETRY), notify, lambda: 0.5)
            await event.wait()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(5):
            while trio.lowlevel.current_statistics().tasks_living > tasks:  # noqa: ASYNC110 - peers have no event
                await trio.sleep(0.001)
        taken.append(Consumption())
    before, after = taken
    return before, after


def judge(before: Consumption, after: Consumption) -> None:
    assert after.descriptors <= before.descriptors
    assert after.tasks <= before.tasks
    more = (
        after.objects - before.objects
    )  # one attempt may end a little later than the look; what is left behind adds up
    assert not {kind: count for kind, count in more.items() if count > ATTEMPTS // 2}


async def judge_peer(peer: Peer, scheme: str, reason: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await peer(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        judge(*await attempt_often(f"{scheme}://127.0.0.1:{port}/", reason))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", PEERS)
async def test_nothing_is_left_behind(name: str) -> None:
    await judge_peer(PEERS[name], "ws", name.partition(",")[0])


async def test_nothing_is_left_behind_where_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        judge(*await attempt_often(f"ws://127.0.0.1:{unused.getsockname()[1]}/", "refused"))


async def test_nothing_is_left_behind_of_certificates_nobody_trusts() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def shake_hands(stream: trio.SocketStream) -> None:
        await trio.SSLStream(stream, context, server_side=True).do_handshake()

    await judge_peer(shake_hands, "wss", "tls")
