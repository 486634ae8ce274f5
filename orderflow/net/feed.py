"""One public connection as Trio tasks: FeedProtocol on top of open_ws."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

import msgspec
import trio

from orderflow.bybit.protocol import FeedProtocol, ProtocolStatistics
from orderflow.core.errors import TransientFeedError
from orderflow.core.types import LinkDown
from orderflow.core.units import NS
from orderflow.net.retry import LinkHealth, first_leaf, supervise
from orderflow.net.tap import read_clocks
from orderflow.net.ws import open_ws

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from orderflow.core.policy import LinkPolicy, RetryPolicy
    from orderflow.core.types import Category, Event, InstrumentId, LinkChanged
    from orderflow.net.fanout import EventQueue
    from orderflow.net.retry import AttemptBudget
    from orderflow.net.tap import Clock
    from orderflow.net.ws import Dial, WebSocketLink

_STALL_NS = NS  # a wake-up this late means that the process stood still, not that the peer is silent


class FeedTap(Protocol):
    """Listens to one connection, for a recording; never waits and never raises."""

    def opened(self) -> None: ...
    def batch(self, messages: list[bytes], recv_ns: int, mono_ns: int, events: list[Event]) -> None: ...
    def sent(self, text: str) -> None: ...
    def lost(self, reason: str, detail: str) -> None: ...


class FeedStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one feed since start, over all its connections."""

    link: str
    connects: int
    losses: dict[str, int]
    frames: int
    refused: dict[str, int]
    unknown: int
    acks_missing: int
    topics_refused: int
    resyncs: int


class Feed:
    """One public connection that is kept up: `run` it in a nursery, ask it for resyncs.

    Args:
        link: its name; books: (instrument, depth), all of `category`; queue: where events go.
        clock: (wall ns, monotonic ns), of every stamp and deadline.
        make_tap: makes the listener of each new connection.
    """

    def __init__(
        self,
        link: str,
        url: str,
        category: Category,
        books: Sequence[tuple[InstrumentId, int]],
        queue: EventQueue,
        policy: LinkPolicy,
        *,
        ssl_context: ssl.SSLContext | None = None,
        dial: Dial | None = None,
        clock: Clock = read_clocks,
        make_tap: Callable[[], FeedTap] | None = None,
    ) -> None:
        self.link = link
        self.instruments = tuple(instrument for instrument, _ in books)
        self._url = url
        self._category = category
        self._books = books
        self._queue = queue
        self._policy = policy
        self._ssl_context = ssl_context
        self._dial = dial
        self._clock = clock
        self._make_tap = make_tap
        self._tap: FeedTap | None = None
        self._wake = trio.Event()
        self._resyncs: list[tuple[InstrumentId, str]] = []
        self._protocol: FeedProtocol | None = None
        self._past: list[ProtocolStatistics] = []
        self._losses: dict[str, int] = {}
        self._connects = 0

    async def run(
        self,
        retry: RetryPolicy,
        budget: AttemptBudget,
        notify: Callable[[LinkChanged], None],
        rng: Callable[[], float],
    ) -> NoReturn:
        """Keep the connection up for ever. Raises: FatalFeedError, and whatever is a bug."""
        await supervise(self.link, self._run_link, retry, budget, notify, rng)

    def resync(self, instrument: InstrumentId, reason: str) -> None:
        """Ask for this book's topic to be subscribed afresh; never blocks. Ignored while the link is down."""
        if self._protocol is not None:
            self._resyncs.append((instrument, reason))
            self._wake.set()

    @property
    def delivers(self) -> bool:
        """Whether the link is up and the exchange has answered on it: with data, or with the refusal of a topic."""
        protocol = self._protocol
        return protocol is not None and (protocol.first_data_ns is not None or protocol.statistics().topics_refused > 0)

    def statistics(self) -> FeedStatistics:
        parts = [*self._past, *([self._protocol.statistics()] if self._protocol else [])]
        refused: dict[str, int] = {}
        for part in parts:
            for reason, count in part.refused.items():
                refused[reason] = refused.get(reason, 0) + count
        return FeedStatistics(
            link=self.link,
            connects=self._connects,
            losses=dict(self._losses),
            frames=sum(part.frames for part in parts),
            refused=refused,
            unknown=sum(part.unknown for part in parts),
            acks_missing=sum(part.acks_missing for part in parts),
            topics_refused=sum(part.topics_refused for part in parts),
            resyncs=sum(part.resyncs for part in parts),
        )

    def _mono_ns(self) -> int:
        return self._clock()[1]

    # --- one connection

    async def _run_link(self, health: LinkHealth, up: Callable[[], None]) -> NoReturn:
        """One connection, from dialling to its loss. Raises: TransientFeedError, alone or in a group."""
        protocol = FeedProtocol(self.link, self._category, self._books, self._policy)
        tap = self._tap = self._make_tap() if self._make_tap is not None else None
        is_down = False

        def tell_down(reason: str) -> None:
            """Once; nothing of this link comes after it."""
            nonlocal is_down
            if not is_down:
                is_down = True
                self._protocol = None
                self._past = [_add(self._past, protocol.statistics())]
                self._queue.put_control(
                    [LinkDown(link=self.link, instruments=self.instruments, reason=reason, mono_ns=self._mono_ns())]
                )

        def on_batch(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
            if is_down:
                return
            events = protocol.receive(messages, recv_ns, mono_ns)
            if tap is not None:
                tap.batch(messages, recv_ns, mono_ns, events)
            if events:
                self._queue.put_nowait(events)
            if protocol.has_data_to_send:
                self._wake.set()

        reason = "closed"
        try:
            async with open_ws(
                self._url, on_batch, self._policy, dial=self._dial, ssl_context=self._ssl_context, clock=self._clock
            ) as ws:
                self._protocol = protocol
                self._resyncs.clear()  # what the last link did not live to do, this one does anyway
                self._connects += 1
                if tap is not None:
                    tap.opened()
                self._queue.put_control(protocol.opened(self._mono_ns()))
                up()
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._drive, protocol, ws)
                        await ws.wait_closed()
                except* TransientFeedError as group:
                    tell_down(first_leaf(group).reason)  # before the goodbye, which may take its time
                    raise
        except* TransientFeedError as group:
            reason = first_leaf(group).reason
            self._losses[reason] = self._losses.get(reason, 0) + 1
            if tap is not None:
                tap.lost(reason, first_leaf(group).detail)
            raise
        finally:
            tell_down(reason)
            if protocol.first_data_ns is not None and protocol.last_data_ns is not None:
                health.healthy_s = (protocol.last_data_ns - protocol.first_data_ns) / NS
        raise AssertionError("wait_closed returns by raising")

    async def _drive(self, protocol: FeedProtocol, ws: WebSocketLink) -> NoReturn:
        """The connection's one writer: sends what the protocol has to say, when it has to say it."""
        while True:
            self._wake = trio.Event()
            events = protocol.on_time(self._mono_ns())
            resyncs, self._resyncs = self._resyncs, []
            for instrument, reason in resyncs:
                events += protocol.resync(instrument, reason, self._mono_ns())
            if events:
                self._queue.put_control(events)
            for text in protocol.data_to_send():
                await ws.send(text)
                if self._tap is not None:
                    self._tap.sent(text)
            due_ns = protocol.next_deadline_ns()
            with trio.move_on_after(max(0, due_ns - self._mono_ns()) / NS):
                await self._wake.wait()
            late_ns = self._mono_ns() - due_ns
            if late_ns > _STALL_NS:
                protocol.forgive(self._mono_ns())
            if late_ns >= 0:
                await trio.lowlevel.checkpoint()  # what is due may be here: the reader has its turn before any verdict


def _add(past: list[ProtocolStatistics], last: ProtocolStatistics) -> ProtocolStatistics:
    """Sum of a finished connection's counts and those before it."""
    parts = [*past, last]
    refused: dict[str, int] = {}
    for part in parts:
        for reason, count in part.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    names = ("frames", "unknown", "acks_missing", "topics_refused", "resyncs", "pongs")
    return ProtocolStatistics(refused=refused, **{name: sum(getattr(part, name) for part in parts) for name in names})
