"""Ways from the socket to the book: the whole path of the program with one thing done otherwise.

A way is a client like those of the other stages, with the same server, which knows when each message was due and what
the book must be; but all of them run in this process, a connection each in turn.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from trio_websocket import wrap_client_stream

from orderflow.bench.choices.bytecodes import counted_codes
from orderflow.bench.choices.streams import dial_acknowledging, dial_trio, dial_trio_tls, dial_waiting
from orderflow.bench.choices.turns import shuffled
from orderflow.bench.choices.waking import noting_wakings
from orderflow.bench.client import applier, hand_in, keep_book
from orderflow.bench.inprocess import make_engine, make_protocol
from orderflow.bench.keeper import subscription
from orderflow.bench.loopback import LoopbackError, latencies, open_server
from orderflow.bench.options import CHOICES
from orderflow.bench.ratios import BUSY, OURS
from orderflow.bench.results import Figure, Spread, single, spread
from orderflow.core.engine import Engine
from orderflow.core.policy import LinkPolicy
from orderflow.net.dial import dial_tcp, parse_endpoint
from orderflow.net.tap import read_clocks
from orderflow.net.watch import stay_awake

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from orderflow.bench.certificate import Papers
    from orderflow.bench.client import Client, Job, Sheet
    from orderflow.bench.loopback import Server
    from orderflow.bench.plan import Plan

    _Rounds = defaultdict[str, list[Spread]]
    """A spread a round, by way."""

_BEAT_S: Final = 0.001
_SMALL_READ: Final = 4096
_TURNS: Final = 3  # of each way, in a round
_PACED_SHARE: Final = 6  # of the time of the stage `paced`, one way's turn
_FLOOD_SHARE: Final = 6  # of the messages of the stage `flood`, one way's turn
_CODES_COUNT: Final = 100
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
    "acknowledged by the read": partial(keep_book, dial=dial_acknowledging),
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
    over = " over TLS" if tls else ""
    with open_server(depth, plan.windows, plan.seed, tls) as server:
        waits, wakes = _measure_waits(server, plan, paced)
        costs = _measure_costs(server, plan, flood)
        codes = {name: _count_codes(server, name, client) for name, client in flood.items()}
    found: list[tuple[str, str, float | None, Mapping[str, Sequence[Spread]]]] = [
        ("due to book", "us", plan.rate, waits),
        ("awake to book", "us", plan.rate, wakes),
        ("processor time a message", "us", None, costs),
    ]
    for number, name in enumerate(("waking to book", "waking to book, Trio's")):
        found.append(
            (f"byte codes {name}", "", _CODES_RATE, {way: [single(counts[number])] for way, counts in codes.items()})
        )
    return [
        Figure(
            stage=CHOICES, name=name + over, case=way, unit=unit, rounds=tuple(by_way[way]), depth=depth, rate=rate
        )
        for name, unit, rate, by_way in found
        for way in paced  # ours first, whoever was first in the last turn
        if way in by_way
    ]  # fmt: skip


def _measure_waits(server: Server, plan: Plan, ways: Mapping[str, Client]) -> tuple[_Rounds, _Rounds]:
    """Latency from when each message was due, and from when the event loop woke up, if it sleeps.

    Raises: LoopbackError.
    """
    waits: _Rounds = defaultdict(list)
    wakes: _Rounds = defaultdict(list)
    count = max(20, round(plan.rate * plan.paced_s / _PACED_SHARE))
    for number in range(plan.rounds):
        late: dict[str, list[int]] = defaultdict(list)
        awake: dict[str, list[int]] = defaultdict(list)
        for turn in range(_TURNS):
            gc.collect()
            for name in shuffled(ways, number * _TURNS + turn):
                client = partial(noting_wakings, ways[name], awake[name])
                late[name] += latencies(server.run_here(name, client, count, plan.rate))
        for found, rounds in ((late, waits), (awake, wakes)):
            for name, spans in found.items():
                if spans:
                    rounds[name].append(spread(spans))
    return waits, wakes


def _measure_costs(server: Server, plan: Plan, ways: Mapping[str, Client]) -> _Rounds:
    """Processor time a message in a flood. Raises: LoopbackError."""
    rounds: _Rounds = defaultdict(list)
    for number in range(plan.rounds):
        took: dict[str, list[float]] = defaultdict(list)
        for turn in range(_TURNS):
            gc.collect()
            for name in shuffled(ways, number * _TURNS + turn):
                outcome = server.run_here(name, ways[name], plan.flood // _FLOOD_SHARE, 0).outcome
                if not outcome.messages:
                    raise LoopbackError(f"{name}: took everything in one read: too few messages to measure")
                took[name].append(outcome.cpu_s / outcome.messages * 1e6)
        for name, values in took.items():
            rounds[name].append(single(median(values)))
    return rounds


def _count_codes(server: Server, name: str, client: Client) -> tuple[float, float]:
    """Byte codes from when the event loop wakes up until a message is in the book; Trio's of them.

    Raises: LoopbackError.
    """
    with counted_codes(Engine.apply_all.__code__) as codes:
        server.run_here(name, client, _CODES_COUNT, _CODES_RATE, stamp=False)
    everybodys, trios = (median(found) for found in zip(*codes.in_book, strict=True))
    return everybodys, trios
