"""Our side of one public connection, sans-IO: bytes and times in, events and frames out.

The protocol knows what was asked for, what was answered and what is overdue. It never judges a book (core.book does);
it makes and repairs subscriptions. Data counts, not acks: a snapshot that comes before its ack is used.

One owner drives it: call `data_to_send` after every other call, and `on_time` no later than `next_deadline_ns`.
"""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.heartbeat import Heartbeat
from orderflow.bybit.topics import TopicTable
from orderflow.bybit.wire import WireReply
from orderflow.core.errors import SyncFailed, WireError
from orderflow.core.types import BookUpdate, Distrust, InstrumentId, LinkUp, Syncing, TopicRefused
from orderflow.core.units import NS, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orderflow.core.policy import LinkPolicy
    from orderflow.core.types import Category, Event

TOPICS_PER_REQUEST: Final = 10  # spot's limit
_ALREADY: Final = "error:already subscribed"
_PROBE: Final = "silent"  # the reason of a resync that only asks whether a topic is still alive
_PROBE_AGAIN_NS: Final = 60 * NS

Resyncs = deque[tuple[int, str]]
"""(monotonic ns, reason) of each resync of a book that went out lately."""


class TopicState(enum.Enum):
    WANTED = enum.auto()  # to be subscribed with the next frames
    ASKED = enum.auto()  # subscribe sent, no snapshot yet
    SYNCED = enum.auto()  # its snapshot came
    LEAVING = enum.auto()  # unsubscribe sent, subscribe follows its ack
    REFUSED = enum.auto()


class _Topic:
    """What is known of one topic of this connection."""

    __slots__ = (
        "instrument",
        "name",
        "reason",
        "resync_due_ns",
        "resyncs",
        "retry_ns",
        "snapshot_due_ns",
        "state",
        "unanswered",
    )

    def __init__(self, name: str, instrument: InstrumentId, resyncs: Resyncs) -> None:
        self.name = name
        self.instrument = instrument
        self.state = TopicState.WANTED
        self.reason = "subscribe"  # of the next subscribe
        self.unanswered = 0  # snapshots in a row that did not come
        self.snapshot_due_ns: int | None = None
        self.resync_due_ns: int | None = None  # a resync waits for its turn
        self.retry_ns: int | None = None
        self.resyncs = resyncs  # when and why resyncs went out, the last minute


class _Request:
    """A subscribe or unsubscribe that is not answered yet."""

    __slots__ = ("due_ns", "op", "topics")

    def __init__(self, op: str, topics: Sequence[_Topic], due_ns: int) -> None:
        self.op = op
        self.topics = topics
        self.due_ns = due_ns


class ProtocolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one connection since it opened."""

    frames: int
    refused: dict[str, int]  # by WireError.reason
    unknown: int  # topics and replies nobody asked for
    acks_missing: int
    topics_refused: int
    resyncs: int
    pongs: int


class FeedProtocol:
    """One connection of one category.

    Args: link: its name in logs and counters; books: (instrument, depth), all of `category`;
        on_refused: told why each message was refused that cannot be used; resyncs: those of each book over all its
        connections: six a minute are six a minute, however often the link is opened.
    """

    def __init__(
        self,
        link: str,
        category: Category,
        books: Sequence[tuple[InstrumentId, int]],
        policy: LinkPolicy,
        on_refused: Callable[[WireError], object] = bool,
        resyncs: defaultdict[InstrumentId, Resyncs] | None = None,
    ) -> None:
        self.link = link
        self._on_refused = on_refused
        self.category = category
        self._policy = policy
        table = TopicTable(category, learn=False)
        self._topics: dict[str, _Topic] = {}
        self._by_instrument: dict[InstrumentId, _Topic] = {}
        past = resyncs if resyncs is not None else defaultdict[InstrumentId, Resyncs](deque)
        for instrument, depth in books:
            topic = _Topic(table.add_book(instrument, depth), instrument, past[instrument])
            self._topics[topic.name] = topic
            self._by_instrument[instrument] = topic
        self._leaving: set[InstrumentId] = set()  # whose topic is LEAVING
        self._codec = FeedCodec(table)
        self._requests: dict[str, _Request] = {}
        self._request_count = 0
        self._outbox: list[str] = []
        self._heartbeat = Heartbeat(policy)
        self.first_data_ns: int | None = None  # since when books are fed: what a back-off may be reset by
        self.last_data_ns: int | None = None
        self._frames = self._unknown = self._acks_missing = self._refusals = self._resyncs = 0
        self._refused: dict[str, int] = {}

    @property
    def instruments(self) -> tuple[InstrumentId, ...]:
        return tuple(self._by_instrument)

    @property
    def healthy_s(self) -> float:
        """How long books were fed."""
        if self.first_data_ns is None or self.last_data_ns is None:
            return 0.0
        return (self.last_data_ns - self.first_data_ns) / NS

    def statistics(self) -> ProtocolStatistics:
        return ProtocolStatistics(
            frames=self._frames,
            refused=dict(self._refused),
            unknown=self._unknown,
            acks_missing=self._acks_missing,
            topics_refused=self._refusals,
            resyncs=self._resyncs,
            pongs=self._heartbeat.pongs,
        )

    # --- in

    def opened(self, mono_ns: int) -> list[Event]:
        """The connection is up: subscriptions follow."""
        self._heartbeat.start(mono_ns)
        return [LinkUp(link=self.link, instruments=self.instruments, mono_ns=mono_ns), *self._subscribe(mono_ns)]

    def receive(self, messages: Sequence[bytes], recv_ns: int, mono_ns: int) -> list[Event]:
        """Every message of one socket read, with that read's stamps. Raises nothing: bad messages are counted."""
        self._heartbeat.last_frame_ns = mono_ns
        decode = self._codec.decode
        events: list[Event] = []
        self._frames += len(messages)
        for raw in messages:
            try:
                item = decode(raw, recv_ns, mono_ns)
            except WireError as exc:
                self._bad_message(exc, mono_ns, events)
                continue
            if type(item) is BookUpdate:
                if self._leaving and item.instrument in self._leaving:
                    continue  # of the old subscription: a snapshot would make a book live whose feed just ends
                if item.snapshot:
                    self._snapshot(item.instrument, mono_ns)
                self.last_data_ns = mono_ns
                events.append(item)
            elif isinstance(item, WireReply):
                self._reply(item, mono_ns, events)
            else:  # the topic table holds books only
                self._unknown += 1
        return events

    def resync(self, doubts: Iterable[tuple[InstrumentId, str]], mono_ns: int) -> list[Event]:
        """Unsubscribe and subscribe these books' topics again, each now or when its turn comes.

        Args: doubts: (instrument, reason).
        Raises: SyncFailed when a topic was resynced too often: reconnect.
        """
        topics = ((self._by_instrument[instrument], reason) for instrument, reason in dict(doubts).items())
        return self._leave([topic for topic, reason in topics if self._may_leave(topic, reason, mono_ns)], mono_ns)

    # --- out

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._outbox)

    def data_to_send(self) -> list[str]:
        """Text frames to send now, in order; they are handed out once."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_deadline_ns(self) -> int:
        """When `on_time` must be called at the latest."""
        due = self._heartbeat.due_ns
        for request in self._requests.values():
            due = min(due, request.due_ns)
        for topic in self._topics.values():
            for when in (topic.snapshot_due_ns, topic.resync_due_ns, topic.retry_ns):
                if when is not None and when < due:
                    due = when
        return due

    def on_time(self, mono_ns: int) -> list[Event]:
        """Time passed: pings, overdue acks and snapshots, resyncs whose turn came, refused topics asked again.

        Raises: HeartbeatLost, SyncFailed (drop the link).
        """
        if self._heartbeat.on_time(mono_ns):
            self._send({"req_id": self._new_id("ping"), "op": "ping"})
        for request_id, request in list(self._requests.items()):
            if mono_ns >= request.due_ns:
                del self._requests[request_id]
                self._acks_missing += 1
                if request.op == "unsubscribe":  # go on without its ack
                    self._want_again(request.topics)
        leaving = [topic for topic in self._topics.values() if self._is_overdue(topic, mono_ns)]
        return self._leave(leaving, mono_ns) + self._subscribe(mono_ns)

    def forgive(self, mono_ns: int) -> None:
        """The whole process stood still until now: what the peer owes us may be in the socket, or far behind in it.

        So everything it owes gets its whole time again.
        """
        policy = self._policy
        self._heartbeat.forgive(mono_ns)
        for request in self._requests.values():
            request.due_ns = mono_ns + seconds_to_ns(policy.ack_timeout_s)
        for topic in self._topics.values():
            if topic.snapshot_due_ns is not None:
                topic.snapshot_due_ns = mono_ns + seconds_to_ns(policy.snapshot_timeout_s)

    # --- requests

    def _send(self, message: dict[str, object]) -> None:
        self._outbox.append(msgspec.json.encode(message).decode())

    def _new_id(self, op: str) -> str:
        self._request_count += 1
        return f"{op[0]}{self._request_count}"

    def _request(self, op: str, topics: Sequence[_Topic], mono_ns: int) -> None:
        """Ask for `op` of these topics, in as few frames as the exchange allows."""
        for start in range(0, len(topics), TOPICS_PER_REQUEST):
            batch = topics[start : start + TOPICS_PER_REQUEST]
            request_id = self._new_id(op)
            self._requests[request_id] = _Request(op, batch, mono_ns + seconds_to_ns(self._policy.ack_timeout_s))
            self._send({"req_id": request_id, "op": op, "args": [topic.name for topic in batch]})

    # --- subscriptions

    def _subscribe(self, mono_ns: int) -> list[Event]:
        """Send a subscribe for everything wanted."""
        wanted = [topic for topic in self._topics.values() if topic.state is TopicState.WANTED]
        self._request("subscribe", wanted, mono_ns)
        events: list[Event] = []
        for topic in wanted:
            topic.state = TopicState.ASKED
            topic.snapshot_due_ns = mono_ns + seconds_to_ns(self._policy.snapshot_timeout_s)
            if topic.reason in ("subscribe", "retry"):  # a resync was told when it began
                events.append(Syncing(instrument=topic.instrument, reason=topic.reason, mono_ns=mono_ns))
        return events

    def _may_leave(self, topic: _Topic, reason: str, mono_ns: int) -> bool:
        """Whether a resync may begin now. Not while one is under way; and one that comes too soon waits for its turn.

        Raises: SyncFailed; for the reason `stall` where standstills of ours are among what spent the budget.
        """
        if topic.state not in (TopicState.SYNCED, TopicState.ASKED) or topic.resync_due_ns is not None:
            return False
        topic.reason = reason
        sent = topic.resyncs
        while sent and mono_ns - sent[0][0] > 60 * NS:
            sent.popleft()
        if len(sent) >= self._policy.resyncs_per_minute:
            what = f"{topic.name} was resynced {len(sent)} times in a minute, last for {reason}"
            raise SyncFailed(what, reason="stall" if "stall" in (reason, *(why for _, why in sent)) else None)
        if sent and mono_ns - sent[-1][0] < seconds_to_ns(self._policy.resync_interval_s):
            topic.resync_due_ns = sent[-1][0] + seconds_to_ns(self._policy.resync_interval_s)
            return False
        return True

    def _leave(self, topics: Sequence[_Topic], mono_ns: int) -> list[Event]:
        """Begin resyncs: a bare second subscribe would be refused as already subscribed."""
        for topic in topics:
            topic.state = TopicState.LEAVING
            self._leaving.add(topic.instrument)
            topic.snapshot_due_ns = None
            topic.resyncs.append((mono_ns, topic.reason))
        self._resyncs += len(topics)
        self._request("unsubscribe", topics, mono_ns)
        return [Syncing(instrument=topic.instrument, reason=topic.reason, mono_ns=mono_ns) for topic in topics]

    def _want_again(self, topics: Iterable[_Topic]) -> None:
        for topic in topics:
            if topic.state is TopicState.LEAVING:
                topic.state = TopicState.WANTED
                self._leaving.discard(topic.instrument)

    def _is_overdue(self, topic: _Topic, mono_ns: int) -> bool:
        """Time passed for a topic. Returns: whether to begin its resync now. Raises: SyncFailed."""
        if topic.retry_ns is not None and mono_ns >= topic.retry_ns:
            topic.retry_ns = None
            topic.state, topic.reason = TopicState.WANTED, "retry"
        if topic.resync_due_ns is not None and mono_ns >= topic.resync_due_ns:
            topic.resync_due_ns = None
            return True
        if topic.snapshot_due_ns is not None and mono_ns >= topic.snapshot_due_ns:
            asked_ns = topic.snapshot_due_ns - seconds_to_ns(self._policy.snapshot_timeout_s)
            topic.snapshot_due_ns = None
            if topic.reason == _PROBE and self.last_data_ns is not None and self.last_data_ns > asked_ns:
                # The rest runs: one silent topic is no reason to take the link from it. But nobody else asks again: its
                # book may have been believed meanwhile, and then waits for this snapshot.
                topic.resync_due_ns = mono_ns + _PROBE_AGAIN_NS
                return False
            topic.unanswered += 1
            if topic.unanswered > 1:
                raise SyncFailed(f"{topic.name} was asked for twice and sent no snapshot", reason="snapshot")
            return self._may_leave(topic, "no_snapshot", mono_ns)
        return False

    def _snapshot(self, instrument: InstrumentId, mono_ns: int) -> None:
        topic = self._by_instrument.get(instrument)
        if topic is None:
            return
        if self.first_data_ns is None:
            self.first_data_ns = mono_ns
        if topic.state in (TopicState.ASKED, TopicState.REFUSED):  # fed although refused: data counts
            topic.state = TopicState.SYNCED
        topic.snapshot_due_ns = topic.retry_ns = None
        if topic.reason == _PROBE:
            topic.resync_due_ns = None
        topic.unanswered = 0

    # --- replies

    def _reply(self, reply: WireReply, mono_ns: int, events: list[Event]) -> None:
        if reply.ret_msg == "pong" or reply.op == "pong":
            self._heartbeat.pong()
            return
        request_id = str(reply.req_id or reply.reqId)
        refused = reply.success is False or reply.retCode not in (None, 0)
        request = self._requests.pop(request_id, None)
        if refused and not request_id:
            request = self._only_request(reply.op)
        if request is None:
            self._unknown += 1
            return
        if refused and len(request.topics) > 1:  # one bad topic fails a whole request
            self._ask_singly(request, mono_ns)
        elif request.op == "unsubscribe":  # refused or not: subscribing again tells
            self._want_again(request.topics)
            events += self._subscribe(mono_ns)
        elif refused:
            events += self._refusal(request.topics[0], reply.ret_msg or reply.retMsg, mono_ns)

    def _only_request(self, op: str) -> _Request | None:
        """Some refusals carry no req_id: they can only be attributed while a single request is open."""
        if len(self._requests) != 1:
            return None
        ((request_id, request),) = self._requests.items()
        if op not in ("", request.op):
            return None
        del self._requests[request_id]
        return request

    def _ask_singly(self, request: _Request, mono_ns: int) -> None:
        """Ask again topic by topic, so that each gets its own answer: which one is bad is not read out of a text."""
        waiting = TopicState.ASKED if request.op == "subscribe" else TopicState.LEAVING
        for topic in request.topics:
            if topic.state is waiting:
                self._request(request.op, [topic], mono_ns)

    def _refusal(self, topic: _Topic, text: str, mono_ns: int) -> list[Event]:
        if topic.state is not TopicState.ASKED or text.startswith(_ALREADY):
            return []  # it delivers already, or its snapshot deadline will tell
        self._refusals += 1
        topic.state = TopicState.REFUSED
        topic.snapshot_due_ns = topic.resync_due_ns = None
        topic.retry_ns = mono_ns + seconds_to_ns(self._policy.refused_retry_s)
        return [TopicRefused(instrument=topic.instrument, text=text, mono_ns=mono_ns)]

    def _bad_message(self, error: WireError, mono_ns: int, events: list[Event]) -> None:
        self._refused[error.reason] = self._refused.get(error.reason, 0) + 1
        self._on_refused(error)
        topic = self._topics.get(error.topic)
        if topic is not None and topic.state is not TopicState.LEAVING:
            events.append(Distrust(instrument=topic.instrument, reason=error.reason, mono_ns=mono_ns))


def plan_links(books: Iterable[tuple[InstrumentId, int]], policy: LinkPolicy) -> list[list[tuple[InstrumentId, int]]]:
    """Share books out over connections: one per category, more when topic limits ask for it.

    Args: books: (instrument, depth).
    Returns: for each connection its books, all of one category, in the given order.
    """
    links: list[list[tuple[InstrumentId, int]]] = []
    room: dict[Category, tuple[list[tuple[InstrumentId, int]], int]] = {}
    for instrument, depth in books:
        chars = len(f'"orderbook.{depth}.{instrument.symbol}",')  # and 1 more in all: two brackets, one comma less
        link, used = room.get(instrument.category, ([], 0))
        if not link or len(link) >= policy.max_topics or used + chars + 1 > policy.max_args_chars:
            link, used = [], 0
            links.append(link)
        link.append((instrument, depth))
        room[instrument.category] = (link, used + chars)
    return links
