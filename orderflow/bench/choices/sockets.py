"""Ways from the socket to the book: the whole path of the program with one thing done otherwise.

A way is a client like those of the other stages, with the same server, which knows when each message was due and what
the book must be; but all of them run in this process, a connection each in turn.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from trio_websocket import wrap_client_stream

from orderflow.bench.choices.bytecodes import Codes, counted_codes
from orderflow.bench.choices.streams import dial_trio, dial_trio_tls, dial_waiting
from orderflow.bench.choices.turns import STAGE
from orderflow.bench.client import applier, hand_in, keep_book
from orderflow.bench.inprocess import make_engine, make_protocol
from orderflow.bench.keeper import subscription
from orderflow.bench.loopback import LoopbackError, latencies, open_server, rotated
from orderflow.bench.ratios import BUSY, OURS
from orderflow.bench.results import Figure, Spread, single, spread
from orderflow.core.policy import LinkPolicy
from orderflow.net.dial import dial_tcp, parse_endpoint
from orderflow.net.tap import read_clocks
from orderflow.net.watch import stay_awake

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from orderflow.bench.certificate import Papers
    from orderflow.bench.client import Client, Job, Sheet
    from orderflow.bench.loopback import Server
    from orderflow.bench.plan import Plan

_BEAT_S: Final = 0.001
_SMALL_READ: Final = 4096
_FLOOD_SHARE: Final = 4  # of the messages of the stage `flood`, one way's turn
_CODES_COUNTS: Final = (40, 140)
_CODES_RATE: Final = 200.0  # each message a read of its own, although counting makes everything slow


async def through_trio_websocket(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Frames cut by trio-websocket, one message at a time; everything behind that as it is."""
    endpoint = parse_endpoint(job.url)
    engine, protocol, done = make_engine(job.depth), make_protocol(job.depth), trio.Event()
    apply = applier(job, engine, sheet, done)
    async with await dial_tcp(endpoint.host, endpoint.port) as stream, trio.open_nursery() as nursery:
        wanted: Any = stream  # any stream will do, as its own documentation says
        ws = await wrap_client_stream(nursery, wanted, endpoint.host_header, endpoint.target)
        await ws.send_message(subscription(job.depth))
        while not done.is_set():
            text = await ws.get_message()
            apply(protocol.receive([str(text).encode()], *read_clocks()))
        nursery.cancel_scope.cancel(reason="every message is in the book")
    hand_in(job, engine, sheet)


async def beside(
    company: Callable[[], Awaitable[object]], job: Job, sheet: Sheet, context: ssl.SSLContext | None
) -> None:
    """The path as it is, and a task beside it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(company)
        await keep_book(job, sheet, context)
        nursery.cancel_scope.cancel(reason="every message is in the book")


async def beat() -> None:
    """Wakes the event loop every millisecond, so that caches stay warm."""
    while True:  # noqa: ASYNC110 - the waking is what it is for, there is no event
        await trio.sleep(_BEAT_S)


async def with_trio_tls(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Trio's own TLS below the path as it is without TLS."""
    assert context is not None
    plain = msgspec.structs.replace(job, url=job.url.replace("wss:", "ws:", 1))
    await keep_book(plain, sheet, None, dial=partial(dial_trio_tls, context))


PACED: Final[Mapping[str, Client]] = {
    OURS: keep_book,
    "frames cut by trio-websocket": through_trio_websocket,
    "every read by way of the channel": partial(keep_book, straight=False),
    "read by the resumed task": partial(keep_book, dial=dial_waiting),
    "read by Trio's SocketStream": partial(keep_book, dial=dial_trio),
    "reads of 4 KiB": partial(keep_book, policy=LinkPolicy(receive_bytes=_SMALL_READ)),
    "a beat each millisecond": partial(beside, beat),
    BUSY: partial(beside, stay_awake),
}
"""At a rate with time in between: what a message waits for."""
FLOOD: Final[Mapping[str, Client]] = {
    name: PACED[name] for name in PACED if name not in ("a beat each millisecond", BUSY)
}
"""As fast as they come: what a message costs."""
TLS: Final[Mapping[str, Client]] = {
    OURS: keep_book,
    "read by the resumed task": PACED["read by the resumed task"],
    "Trio's SSLStream, a record at a time": with_trio_tls,
}


def measure_sockets(plan: Plan, depth: int, tls: Papers | None = None) -> list[Figure]:
    """Latency from when a message was due, and processor time of one in a flood; over TLS when there are papers.

    Raises: LoopbackError when a way loses a message or does not end with the server's book.
    """
    paced, flood = (TLS, TLS) if tls else (PACED, FLOOD)
    waits: dict[str, list[Spread]] = defaultdict(list)
    costs: dict[str, list[Spread]] = defaultdict(list)
    codes: dict[str, Codes] = {}
    count = max(20, round(plan.rate * plan.paced_s / 2))
    with open_server(depth, plan.windows, plan.seed, tls) as server:
        for number in range(plan.rounds):
            for name in rotated(list(paced), number):
                gc.collect()
                waits[name].append(spread(latencies(server.run_here(name, paced[name], count, plan.rate))))
            for name in rotated(list(flood), number):
                gc.collect()
                costs[name].append(single(_flood_us(server, name, flood[name], plan.flood // _FLOOD_SHARE)))
        for name in flood:
            codes[name] = _codes_of_one(server, name, flood[name])
    parts = {part: {name: [single(getattr(codes[name], part))] for name in flood} for part in Codes._fields}
    over = " over TLS" if tls else ""
    return [
        *_figures(f"due to book{over}", paced, waits, depth, plan.rate),
        *_figures(f"processor time a message{over}", flood, costs, depth, None),
        *_figures(f"byte codes a message{over}", flood, parts["all"], depth, _CODES_RATE, ""),
        *_figures(f"byte codes of Trio's a message{over}", flood, parts["trio"], depth, _CODES_RATE, ""),
    ]


def _flood_us(server: Server, name: str, client: Client, count: int) -> float:
    """Processor time a message. Raises: LoopbackError."""
    outcome = server.run_here(name, client, count, 0).outcome
    if not outcome.messages:
        raise LoopbackError(f"{name}: took everything in one read: too few messages to measure")
    return outcome.cpu_s / outcome.messages * 1e6


def _codes_of_one(server: Server, name: str, client: Client) -> Codes:
    """Byte codes from one message to the next, a read each. Raises: LoopbackError."""
    few, many = _CODES_COUNTS
    counts = []
    for count in (few, many):
        with counted_codes() as codes:
            server.run_here(name, client, count, _CODES_RATE, stamp=False)
        counts.append(codes.total())
    return Codes(*((more - less) / (many - few) for less, more in zip(*counts, strict=True)))


def _figures(
    name: str,
    ways: Mapping[str, Client],
    found: Mapping[str, list[Spread]],
    depth: int,
    rate: float | None,
    unit: str = "us",
) -> list[Figure]:
    """Ours first, whoever was first in the last round."""
    return [
        Figure(stage=STAGE, name=name, case=way, unit=unit, rounds=tuple(found[way]), depth=depth, rate=rate)
        for way in ways
    ]
