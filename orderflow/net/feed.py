"""One public connection as Trio tasks: FeedProtocol on top of open_ws."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import msgspec
import trio

from orderflow.bybit.protocol import FeedProtocol, ProtocolStatistics, Resyncs
from orderflow.core.errors import TransientFeedError
from orderflow.core.text import escape_text
from orderflow.core.types import LinkDown
from orderflow.core.units import NS
from orderflow.net.retry import LinkHealth, first_leaf, supervise
from orderflow.net.tap import read_clocks
from orderflow.net.writer import Writer
from orderflow.net.ws import open_ws

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from orderflow.core.errors import WireError
    from orderflow.core.policy import LinkPolicy, RetryPolicy
    from orderflow.core.types import Category, Event, InstrumentId, LinkChanged
    from orderflow.net.fanout import EventQueue
    from orderflow.net.retry import AttemptBudget
    from orderflow.net.tap import Clock
    from orderflow.net.ws import Dial, WebSocketLink

log = logging.getLogger(__name__)

_SAID: Final = 10  # refused messages that are told of ...
_SAID_WINDOW_NS: Final = 10 * NS  # ... in this time


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
        self._current: _Connection | None = None  # while it is open
        self._past: list[ProtocolStatistics] = []
        self._losses: dict[str, int] = {}
        self._resyncs: defaultdict[InstrumentId, Resyncs] = defaultdict(deque)  # lately
        self._connects = 0
        self._said_window = -1
        self._said = 0  # refused messages in this window

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
        if self._current is not None:
            self._current.resync(instrument, reason)

    @property
    def delivers(self) -> bool:
        """Whether the link is up and the exchange has answered on it: with data, or with the refusal of a topic."""
        if self._current is None:
            return False
        protocol = self._current.protocol
        return protocol.first_data_ns is not None or protocol.statistics().topics_refused > 0

    def statistics(self) -> FeedStatistics:
        parts = [*self._past, *([self._current.protocol.statistics()] if self._current else [])]
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

    # --- one connection

    async def _run_link(self, health: LinkHealth, up: Callable[[], None]) -> NoReturn:
        """One connection, from dialling to its loss. Raises: TransientFeedError, alone or in a group."""
        protocol = FeedProtocol(self.link, self._category, self._books, self._policy, self._refused, self._resyncs)
        tap = self._make_tap() if self._make_tap is not None else None
        connection = _Connection(protocol, self._queue, self._clock, tap)
        reason = "closed"
        try:
            async with open_ws(
                self._url,
                connection.on_batch,
                self._policy,
                dial=self._dial,
                ssl_context=self._ssl_context,
                clock=self._clock,
            ) as ws:
                self._current = connection
                self._connects += 1
                connection.open(ws)
                up()
                try:
                    await connection.run(ws)
                except* TransientFeedError as group:
                    self._close(connection, first_leaf(group).reason)  # before the goodbye, which may take its time
                    raise
        except* TransientFeedError as group:
            error = first_leaf(group)
            reason = error.reason
            self._losses[reason] = self._losses.get(reason, 0) + 1
            if tap is not None:
                tap.lost(reason, error.detail)
            raise
        finally:
            self._close(connection, reason)
            health.healthy_s = protocol.healthy_s
        raise AssertionError("a connection ends by raising")

    def _refused(self, error: WireError) -> None:
        """One short line for each, as long as there are few: a flood of them must not cost a log record each."""
        window_ns = self._clock()[1] // _SAID_WINDOW_NS
        if window_ns != self._said_window:
            self._said_window, self._said = window_ns, 0
        self._said += 1
        if self._said <= _SAID:
            topic = f"{error.topic}, " if error.topic else ""
            log.warning("%s: message refused: %s", self.link, escape_text(f"{topic}{error}", 200))
        elif self._said == _SAID + 1:
            log.warning("%s: more messages are refused; the next seconds' are only counted", self.link)

    def _close(self, connection: _Connection, reason: str) -> None:
        """Once; nothing of this connection comes after it."""
        if connection.close(reason):
            self._current = None
            self._past = [_add(self._past, connection.protocol.statistics())]


class _Connection:
    """One connection of a feed: what comes goes to the queue, what is due is sent."""

    def __init__(self, protocol: FeedProtocol, queue: EventQueue, clock: Clock, tap: FeedTap | None) -> None:
        self.protocol = protocol
        self._queue = queue
        self._clock = clock
        self._tap = tap
        self._writer: Writer | None = None
        self._is_closed = False
        self._doubts: list[tuple[InstrumentId, str]] = []  # resyncs asked for since the last look

    def open(self, ws: WebSocketLink) -> None:
        """It is up: subscriptions follow."""
        self._writer = Writer(self.protocol, self._on_time, partial(self._send, ws), self._clock)
        if self._tap is not None:
            self._tap.opened()
        self._queue.put_control(self.protocol.opened(self._mono_ns()))

    async def run(self, ws: WebSocketLink) -> NoReturn:
        """Raises: why it ended."""
        assert self._writer is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._writer.run)
            await ws.wait_closed()
        raise AssertionError("wait_closed returns by raising")

    def close(self, reason: str) -> bool:
        """Tell the books that it is gone, opened or not. Returns: whether this was the first time."""
        if self._is_closed:
            return False
        self._is_closed = True
        protocol = self.protocol
        down = LinkDown(link=protocol.link, instruments=protocol.instruments, reason=reason, mono_ns=self._mono_ns())
        self._queue.put_control([down])
        return True

    def resync(self, instrument: InstrumentId, reason: str) -> None:
        self._doubts.append((instrument, reason))
        self._wake()

    def on_batch(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        """Messages of one read. Raises: FeedOverrun."""
        if self._is_closed:
            return
        events = self.protocol.receive(messages, recv_ns, mono_ns)
        if self._tap is not None:
            self._tap.batch(messages, recv_ns, mono_ns, events)
        if events:
            self._queue.put_nowait(events)
        if self.protocol.has_data_to_send:
            self._wake()

    def _wake(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    def _on_time(self, mono_ns: int) -> None:
        doubts, self._doubts = self._doubts, []
        if events := self.protocol.on_time(mono_ns) + self.protocol.resync(doubts, mono_ns):
            self._queue.put_control(events)

    async def _send(self, ws: WebSocketLink, text: str) -> None:
        await ws.send(text)
        if self._tap is not None:
            self._tap.sent(text)

    def _mono_ns(self) -> int:
        return self._clock()[1]


def _add(past: list[ProtocolStatistics], last: ProtocolStatistics) -> ProtocolStatistics:
    """Sum of a finished connection's counts and those before it."""
    parts = [*past, last]
    refused: dict[str, int] = {}
    for part in parts:
        for reason, count in part.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    names = ("frames", "unknown", "acks_missing", "topics_refused", "resyncs", "pongs")
    return ProtocolStatistics(refused=refused, **{name: sum(getattr(part, name) for part in parts) for name in names})
