"""The simulated exchange over real sockets: one host and port for every WebSocket path and for REST.

`serve()` runs until it is cancelled. What is published comes from a Backend (a live market, a recording, a flood); this
module has the clock, the sockets, the clients and the way of each message from a publisher to them.
"""

from __future__ import annotations

import contextlib
import json
import random
import ssl  # noqa: TC003 - msgspec resolves the annotation at run time
import time
from pathlib import Path  # noqa: TC003 - msgspec resolves the annotation at run time
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import parse_qs, urlsplit

import msgspec
import trio

from orderflow.core.types import Category
from orderflow.sim.account import Account
from orderflow.sim.backend import PRIVATE, TRADE
from orderflow.sim.catalogue import CATALOGUE
from orderflow.sim.connection import Client, text_frame
from orderflow.sim.control import Control
from orderflow.sim.exchange import ExchangeBackend
from orderflow.sim.faultplan import FaultPlan
from orderflow.sim.faults import Faults  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.sim.instruments import SimInstrument  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.sim.market import Exchange
from orderflow.sim.private import DEFAULT_KEYS, PrivateSession, active_time_s
from orderflow.sim.requests import serve_stream
from orderflow.sim.tls import OwnTls
from orderflow.sim.venue import PublicSession, SessionPolicy, TradeSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from orderflow.core.types import InstrumentId
    from orderflow.sim.backend import Backend, TrueBook
    from orderflow.sim.feeds import Publisher
    from orderflow.sim.rest import Response

PUBLIC_PATH: Final = "/v5/public/"


class ServerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how the server listens, whatever stands behind it."""

    host: str = "127.0.0.1"
    port: int = 0
    start_ms: int | None = None  # the exchange's clock at start; None: the wall clock
    session: SessionPolicy = SessionPolicy()
    keys: dict[str, str] = msgspec.field(default_factory=lambda: dict(DEFAULT_KEYS))  # key -> secret or public PEM
    buffer_bytes: int = 8 * 1024 * 1024  # unsent bytes of one client before it is dropped
    client_log: Path | None = None  # JSON lines of what clients do
    catch_up_s: float = 1.0  # steps that are later than this are left out (`Backend.halt`), earlier ones caught up
    idle_scan_s: float = 1.0  # how often silent connections are looked for (Bybit: 30 s)
    seed: int = 7  # of connection ids


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start."""

    clients: int
    opened: int
    dropped_slow: int
    cut_idle: int
    requests: int
    messages: int  # JSON messages pushed, once per receiving client
    late_ms: float  # how far the last step ran behind its time
    halts: int  # times it was further behind than may be caught up
    halted_ms: float  # what was left out by them


class SimServer:
    """A running exchange. Create it through `serve()`.

    Args: backend: see Backend; policy: see ServerPolicy; faults: what goes wrong on the way to the sockets; tls, began:
        see serve_backend.
    """

    def __init__(
        self,
        backend: Backend,
        policy: ServerPolicy,
        faults: Faults,
        *,
        tls: ssl.SSLContext | OwnTls | None,
        began: float | None = None,
    ) -> None:
        self.backend = backend
        self.faults = faults
        self._control = Control(self)
        self.buffer_bytes = policy.buffer_bytes
        self.host = policy.host
        self.port = policy.port
        self.paused = False
        self._policy = policy
        self._tls = tls is not None
        self.makes_certificates = isinstance(tls, OwnTls)
        if isinstance(tls, OwnTls):
            tls.faulty = faults.certificate
        start_ms = policy.start_ms
        self._start_ns = time.time_ns() if start_ms is None else start_ms * 1_000_000
        self._began = trio.current_time() if began is None else began
        self._random = random.Random(policy.seed)
        self._clients: dict[Client, None] = {}
        self._wake = trio.Event()
        self._log: TextIO | None = None
        self._opened = self._dropped = self._idle = self._requests = self._messages = 0
        self._late_ms = self._halted_ms = 0.0
        self._halts = 0

    # --- for whoever started it ---

    def ws_url(self, category: Category | str) -> str:
        return f"{self._scheme('ws')}{PUBLIC_PATH}{category}"

    @property
    def public_url(self) -> str:
        """With `{category}` left open, as settings want it."""
        return self.ws_url("{category}")

    @property
    def private_url(self) -> str:
        return f"{self._scheme('ws')}/v5/private"

    @property
    def rest_url(self) -> str:
        return self._scheme("http")

    def environment(self) -> dict[str, str]:
        """Environment variables that point orderflow at this exchange."""
        return {
            "ORDERFLOW_BYBIT__PUBLIC_WS_URL": self.public_url,
            "ORDERFLOW_BYBIT__PRIVATE_WS_URL": self.private_url,
            "ORDERFLOW_BYBIT__REST_URL": self.rest_url,
        }

    @property
    def plan(self) -> FaultPlan:
        """Where faults are armed. Raises: TypeError when the server was given other faults."""
        if not isinstance(self.faults, FaultPlan):
            raise TypeError("this server has faults of its own")
        return self.faults

    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook:
        """The book of this moment, whatever has been published. Raises: KeyError for an unknown instrument."""
        return self.backend.true_book(instrument, depth)

    def pause(self) -> None:
        """Freeze the market; what has changed is still published, at the topics' cadence."""
        self.paused = True
        self.backend.set_paused(True)

    def resume(self) -> None:
        """Let the market go on from where it stood."""
        self.paused = False
        self.backend.set_paused(False)
        self._wake.set()

    def statistics(self) -> Statistics:
        return Statistics(
            clients=len(self._clients),
            opened=self._opened,
            dropped_slow=self._dropped,
            cut_idle=self._idle,
            requests=self._requests,
            messages=self._messages,
            late_ms=self._late_ms,
            halts=self._halts,
            halted_ms=round(self._halted_ms, 1),
        )

    def clients(self) -> list[Client]:
        """The connected WebSocket clients, oldest first."""
        return list(self._clients)

    # --- House: what connections ask ---

    def now_ms(self) -> int:
        return int(self._true_ms()) + self.faults.clock_offset_ms()

    def now_ns(self) -> int:
        elapsed_ns = int((trio.current_time() - self._began) * 1e9)
        return self._start_ns + elapsed_ns + self.faults.clock_offset_ms() * 1_000_000

    def new_connection_id(self) -> str:
        """20 base32 characters, dash, suffix: Bybit's form of 2025 and later."""
        letters = self._random.choices("0123456789abcdefghijklmnopqrstuv", k=25)
        return f"{''.join(letters[:20])}-{''.join(letters[20:])}"

    def open_session(self, target: str, connection_id: str) -> tuple[str, Any] | None:
        parts = urlsplit(target)
        if parts.path == "/v5/private":
            limit_s = active_time_s(parse_qs(parts.query).get("max_active_time", [""])[0])
            return PRIVATE, PrivateSession(self._policy.keys, connection_id, limit_s, self.now_ms())
        if parts.path == "/v5/trade":
            return TRADE, TradeSession(connection_id)
        name = parts.path.removeprefix(PUBLIC_PATH)
        if parts.path == name or name not in tuple(Category):
            return None
        category = Category(name)
        session = PublicSession(category, self.backend, connection_id, self._policy.session, self.now_ms())
        return category, session

    def attach(self, peer: Client, topic: str) -> None:
        messages = self.backend.attach(peer.endpoint, topic, peer, self.now_ms())
        self._hand_over(peer, topic, messages)
        self._wake.set()

    def detach(self, peer: Client, topic: str) -> None:
        self.backend.detach(peer.endpoint, topic, peer)

    def joined(self, peer: Client) -> None:
        self._opened += 1
        self._clients[peer] = None

    def left(self, peer: Client) -> None:
        self.faults.forget(peer)
        for topic in peer.topics:
            self.backend.detach(peer.endpoint, topic, peer)
        self._dropped += peer.too_slow
        self._clients.pop(peer, None)

    def respond(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
        self._requests += 1
        self.note("", "request", method=method, target=target)
        return self.backend.respond(method, target, headers, body, self.now_ns())

    def control(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, *, local: bool
    ) -> Response:
        return self._control.respond(method, target, headers, body, local=local)

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        """The window last published on a book topic, as a snapshot message; None where there is none."""
        return self.backend.snapshot(endpoint, topic)

    def note(self, connection_id: str, event: str, **facts: Any) -> None:
        if self._log is not None:
            self._log.write(json.dumps({"ts": self.now_ms(), "conn": connection_id, "event": event, **facts}) + "\n")
            self._log.flush()

    # --- tasks ---

    async def run(self) -> NoReturn:
        """Step the backend whenever it has work, and pass on what it publishes.

        Late steps are caught up in order, up to `catch_up_s`: behind a longer standstill of ours comes no burst.
        """
        while True:
            due_ms = self.backend.next_ms()
            if due_ms == float("inf"):
                await self._wake.wait()
            else:
                await trio.sleep_until(self._began + (due_ms - self._start_ns / 1e6) / 1e3)
            self._wake = trio.Event()
            now_ms = self._true_ms()
            self._late_ms = max(0.0, now_ms - self.backend.next_ms())
            if self._late_ms > self._policy.catch_up_s * 1000 and not self.backend.patient:
                self._halt(now_ms)
            self._publish(self.backend.step(now_ms))
            if self.backend.patient:
                await self._wait_for_slow_clients()

    def _halt(self, now_ms: float) -> None:
        if self.backend.halt(now_ms):
            self._halts += 1
            self._halted_ms += self._late_ms
            self.note("", "halt", ms=round(self._late_ms))

    async def cut_silent_clients(self) -> NoReturn:
        """Bybit cuts connections that neither send nor receive for too long. What we slept through is not theirs."""
        while True:
            due_s = trio.current_time() + self._policy.idle_scan_s
            await trio.sleep_until(due_s)
            late_ms = round((trio.current_time() - due_s) * 1000)
            if late_ms > self._policy.catch_up_s * 1000:
                for client in self._clients:
                    client.excuse(late_ms)
            for client in [client for client in self._clients if client.expired(self.now_ms())]:
                self._idle += 1
                client.cut()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one accepted connection (also one end of a memory stream pair, in tests)."""
        await serve_stream(self, stream)

    @contextlib.contextmanager
    def logging_clients(self) -> Any:
        """Keep the log of what clients do open, if one is wanted."""
        if self._policy.client_log is None:
            yield
            return
        with self._policy.client_log.open("a", encoding="utf-8") as self._log:
            yield

    def _publish(self, pushes: Iterable[tuple[Publisher, Sequence[bytes]]]) -> None:
        for publisher, messages in pushes:
            if not publisher.subscribers:
                continue
            self._messages += len(messages) * len(publisher.subscribers)
            if self.faults.active:
                for sink in list(publisher.subscribers):
                    self._hand_over(sink, publisher.topic, messages)
                continue
            frame = b"".join([text_frame(message) for message in messages])
            for sink in list(publisher.subscribers):
                sink.deliver(publisher.topic, frame)

    def _hand_over(self, sink: Any, topic: str, messages: Sequence[bytes]) -> None:
        if self.faults.active:
            messages = self.faults.messages(sink, topic, messages)
        if messages:
            sink.deliver(topic, b"".join([text_frame(message) for message in messages]))

    async def _wait_for_slow_clients(self) -> None:
        for client in list(self._clients):
            if client.unsent > self.buffer_bytes // 4:
                await client.wait_below(self.buffer_bytes // 8)

    def _true_ms(self) -> float:
        return self._start_ns / 1e6 + (trio.current_time() - self._began) * 1e3

    def _scheme(self, protocol: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{protocol}{'s' if self._tls else ''}://{host}:{self.port}"


class SimConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A live simulated exchange: what is listed, how it behaves, where it listens."""

    instruments: tuple[SimInstrument, ...] = CATALOGUE
    seed: int = 7
    server: ServerPolicy = msgspec.field(default_factory=ServerPolicy)
    account: bool = True  # a small account trades, for the private topics
    faults: Faults | None = None
    tls: ssl.SSLContext | OwnTls | None = None


async def serve(config: SimConfig, *, task_status: trio.TaskStatus[SimServer] = trio.TASK_STATUS_IGNORED) -> NoReturn:
    """Serve a live simulated exchange until cancelled.

    `task_status` gets the SimServer once its port is open. Raises: OSError (port in use).
    """
    began, now_ns = trio.current_time(), time.time_ns()  # before the markets are built, which takes a moment
    start_ms = config.server.start_ms
    if start_ms is None:
        start_ms, rest_ns = divmod(now_ns, 1_000_000)
        began -= rest_ns / 1e9
    exchange = Exchange(config.instruments, config.seed, start_ms)
    tradable = any(item.id.category is Category.LINEAR for item in config.instruments)
    account = Account(exchange, config.seed, start_ms) if config.account and tradable else None
    backend = ExchangeBackend(exchange, start_ms, account)
    policy = msgspec.structs.replace(config.server, start_ms=start_ms)
    await serve_backend(backend, policy, faults=config.faults, tls=config.tls, began=began, task_status=task_status)


async def serve_backend(
    backend: Backend,
    policy: ServerPolicy,
    *,
    faults: Faults | None = None,
    tls: ssl.SSLContext | OwnTls | None = None,
    began: float | None = None,
    task_status: trio.TaskStatus[SimServer] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve until cancelled. `task_status` gets the SimServer once its port is open. Raises: OSError (port in use).

    Args:
        tls: wss and https instead; the certificates of OwnTls can be faulty.
        began: when, on Trio's clock, the exchange's clock stood at `policy.start_ms`; None: now.
    """
    server = SimServer(backend, policy, faults or FaultPlan(), tls=tls, began=began)
    listeners: list[Any] = list(await trio.open_tcp_listeners(policy.port, host=policy.host))
    server.port = listeners[0].socket.getsockname()[1]
    if tls is not None:
        context = tls.context if isinstance(tls, OwnTls) else tls
        listeners = [trio.SSLListener(listener, context) for listener in listeners]
    with server.logging_clients():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            nursery.start_soon(server.faults.run, server)
            nursery.start_soon(server.cut_silent_clients)
            await nursery.start(trio.serve_listeners, server.serve_stream, listeners)
            task_status.started(server)
    raise AssertionError("the server's tasks never end by themselves")
