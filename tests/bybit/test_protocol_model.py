"""FeedProtocol and Engine together against a small model of the exchange, faults and all.

Whatever happens, either the link is given up by a TransientFeedError (and a new one is made), or, once the faults stop,
every book equals the exchange's. On the way the protocol never repeats itself: no second unsubscribe while one is
unanswered, and no subscribe for a topic that the exchange holds as subscribed.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orderflow.bybit.protocol import FeedProtocol, Resyncs
from orderflow.core.engine import Engine
from orderflow.core.errors import TransientFeedError
from orderflow.core.policy import BookPolicy, LinkPolicy
from orderflow.core.types import BookState, Category, Distrust, Event, InstrumentId, LinkDown, ResyncNeeded, TimerDue
from orderflow.core.units import NS

from .wirebook import ack, already, book, encode, no_handler, refusal

SYMBOLS = ("A", "B", "C")
BOOKS = [(InstrumentId(Category.LINEAR, symbol), 50) for symbol in SYMBOLS]
TOPICS = tuple(f"orderbook.50.{symbol}" for symbol in SYMBOLS)


class Exchange:
    """The other end: what it holds, what it has been sent and not yet read, what it has sent and we have not read."""

    def __init__(self) -> None:
        self.inbox: deque[dict[str, Any]] = deque()
        self.wire: deque[bytes] = deque()
        self.held: set[str] = set()
        self.books = {topic: ({90: 1}, {110: 1}) for topic in TOPICS}
        self.u = dict.fromkeys(TOPICS, 100)
        self.unlisted: set[str] = set()
        self.mute: set[str] = set()  # subscribed, but nothing comes
        self.nameless = False  # a refusal went out that names no request: it may be taken for another's

    def hang_up(self) -> None:
        self.inbox.clear()
        self.wire.clear()
        self.held.clear()

    def change(self, topic: str, price: int, size: int) -> None:
        side = self.books[topic][price > 100]
        if size == 0 and (price not in side or len(side) == 1):
            return
        if size:
            side[price] = size
        else:
            del side[price]
        self.u[topic] += 1  # the topic's own count goes on, whoever is subscribed
        if topic in self.held:
            level = [(str(price), str(size))]
            bids, asks = ([], level) if price > 100 else (level, [])
            self._push(topic, book(topic, self.u[topic], bids=bids, asks=asks))

    def snapshot(self, topic: str) -> None:
        bids, asks = self.levels(topic)
        self._push(topic, book(topic, self.u[topic], snapshot=True, bids=bids, asks=asks))

    def levels(self, topic: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        bids, asks = self.books[topic]
        return (
            [(str(price), str(bids[price])) for price in sorted(bids, reverse=True)],
            [(str(price), str(asks[price])) for price in sorted(asks)],
        )

    def _push(self, topic: str, message: bytes) -> None:
        if topic not in self.mute:
            self.wire.append(message)

    def serve(self, *, acks: bool = True, ids: bool = True) -> None:
        """Take one request; `acks` False loses its answer, `ids` False answers a refusal without an id."""
        request = self.inbox.popleft()
        answer = self._answer(request, ids)
        if acks:
            self.wire.append(answer)

    def _answer(self, request: dict[str, Any], ids: bool) -> bytes:
        if request["op"] == "ping":
            return encode({"success": True, "ret_msg": "pong", "req_id": request["req_id"], "op": "ping"})
        req_id = request["req_id"] if ids else None
        if request["op"] == "unsubscribe":
            self.held.difference_update(request["args"])
            return ack(request)
        for topic in request["args"]:
            if topic in self.held:
                assert self.nameless, f"asked for {topic}, which is subscribed"
                return refusal(already(topic), req_id=req_id)
            if topic in self.unlisted:
                self.nameless = self.nameless or not ids
                return refusal(no_handler(topic), req_id=req_id)
        for topic in request["args"]:
            self.held.add(topic)
            self.snapshot(topic)
        return ack(request)


class Conversation(RuleBasedStateMachine):
    @initialize(unlisted=st.sets(st.sampled_from(TOPICS), max_size=1))
    def connect(self, unlisted: set[str]) -> None:
        self.exchange = Exchange()
        self.exchange.unlisted = unlisted
        self.now_ns = 1000 * NS
        self.engine = Engine(BOOKS, BookPolicy())
        self.queue: deque[Event] = deque()
        self.hurt: set[str] = set()  # topics of which messages were lost: right again with the next change only
        self.resyncs: defaultdict[InstrumentId, Resyncs] = defaultdict(deque)
        self.open()

    def open(self) -> None:
        self.lost: TransientFeedError | None = None
        self.unanswered: set[str] = set()  # topics with an unsubscribe that was neither answered nor given up
        self.protocol = FeedProtocol("linear", Category.LINEAR, BOOKS, LinkPolicy(), resyncs=self.resyncs)
        self.queue.extend(self.protocol.opened(self.now_ns))
        self.send()

    @precondition(lambda self: self.lost is not None)
    @rule()
    def connect_again(self) -> None:
        self.exchange.hang_up()
        self.queue.append(
            LinkDown(link="linear", instruments=self.protocol.instruments, reason="x", mono_ns=self.now_ns)
        )
        self.open()

    # --- the client's tasks

    def send(self) -> None:
        for text in self.protocol.data_to_send():
            frame = json.loads(text)
            for topic in frame.get("args", ()):
                if frame["op"] == "unsubscribe":
                    assert topic not in self.unanswered, f"{topic} is being left already"
                    self.unanswered.add(topic)
                else:
                    self.unanswered.discard(topic)
            self.exchange.inbox.append(frame)

    def receive(self, count: int) -> None:
        messages = [self.exchange.wire.popleft() for _ in range(min(count, len(self.exchange.wire)))]
        if messages:
            self.queue.extend(self.protocol.receive(messages, self.now_ns, self.now_ns))
            self.send()

    def digest(self, count: int) -> None:
        try:
            for _ in range(min(count, len(self.queue))):
                for output in self.engine.apply(self.queue.popleft()):
                    if isinstance(output, ResyncNeeded):
                        self.queue.extend(self.protocol.resync([(output.instrument, output.reason)], self.now_ns))
        except TransientFeedError as error:
            self.lost = error
        self.send()

    def pass_time(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * NS)
        try:
            while (due_ns := self.protocol.next_deadline_ns()) <= end_ns:
                self.now_ns = max(self.now_ns, due_ns)
                self.queue.extend(self.protocol.on_time(self.now_ns))
                assert self.protocol.next_deadline_ns() > self.now_ns, "a deadline that does not go away"
                self.send()
        except TransientFeedError as error:
            self.lost = error
        self.now_ns = end_ns
        self.queue.append(TimerDue(mono_ns=end_ns))

    # --- what may happen

    alive = precondition(lambda self: self.lost is None)

    @alive
    @rule(count=st.integers(1, 20))
    def we_read(self, count: int) -> None:
        self.receive(count)

    @alive
    @rule(count=st.integers(1, 20))
    def engine_works(self, count: int) -> None:
        self.digest(count)

    @alive
    @precondition(lambda self: self.exchange.inbox)
    @rule(acks=st.sampled_from([True, True, True, False]), ids=st.sampled_from([True, True, False]))
    def exchange_reads(self, acks: bool, ids: bool) -> None:
        self.exchange.serve(acks=acks or self.exchange.inbox[0]["op"] == "ping", ids=ids)

    @alive
    @rule(topic=st.sampled_from(TOPICS), price=st.integers(85, 115), size=st.integers(0, 3))
    def market_moves(self, topic: str, price: int, size: int) -> None:
        if not 95 < price < 105:
            self.exchange.change(topic, price, size)

    @alive
    @rule(topic=st.sampled_from(TOPICS))
    def exchange_repeats_a_snapshot(self, topic: str) -> None:
        if topic in self.exchange.held:
            self.exchange.snapshot(topic)

    @alive
    @precondition(lambda self: self.exchange.wire)
    @rule(data=st.data(), what=st.sampled_from(["lose", "repeat", "spoil", "swap"]))
    def data_is_hurt(self, data: st.DataObject, what: str) -> None:
        wire = self.exchange.wire
        index = data.draw(st.integers(0, len(wire) - 1))
        if b'"topic"' not in wire[index]:
            return
        self.hurt.add(json.loads(wire[index])["topic"] if wire[index].endswith(b"}") else "")
        if what == "lose":
            del wire[index]
        elif what == "repeat":
            wire.insert(index, wire[index])
        elif what == "spoil":
            wire[index] = wire[index][:-12]
        elif index:
            wire[index], wire[index - 1] = wire[index - 1], wire[index]

    @alive
    @rule(topic=st.sampled_from(TOPICS))
    def a_topic_goes_mute_or_speaks_again(self, topic: str) -> None:
        self.exchange.mute ^= {topic}
        self.hurt.add(topic)

    @alive
    @rule(seconds=st.floats(1.0, 100.0))
    def we_stand_still(self, seconds: float) -> None:
        """No book is believed, all are resynced at once, and nobody is blamed."""
        self.now_ns += round(seconds * NS)
        self.protocol.forgive(self.now_ns)
        doubts: list[tuple[InstrumentId, str]] = []
        for key, _ in BOOKS:
            for output in self.engine.apply(Distrust(instrument=key, reason="stall", mono_ns=self.now_ns)):
                if isinstance(output, ResyncNeeded):
                    doubts.append((output.instrument, output.reason))
        try:
            self.queue.extend(self.protocol.resync(doubts, self.now_ns))
        except TransientFeedError as error:
            self.lost = error
        self.send()

    @alive
    @rule(seconds=st.floats(0.01, 12.0))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @invariant()
    def what_is_asked_is_what_is_watched(self) -> None:
        if hasattr(self, "exchange"):
            assert self.exchange.held <= set(TOPICS) - self.exchange.unlisted

    def teardown(self) -> None:
        """The faults stop: every book gets right, on this link or the next."""
        if not hasattr(self, "exchange"):
            return
        self.exchange.mute.clear()
        self.exchange.unlisted.clear()
        for _ in range(80):
            self._all_quiet()
            if self.lost is not None:
                self.connect_again()
            for topic in TOPICS:  # a change that was lost shows with the next one only
                self.exchange.change(topic, 80, 1 + self.exchange.u[topic] % 7)
            self._all_quiet()
            if all(self._agrees(topic, key) for topic, (key, _) in zip(TOPICS, BOOKS, strict=True)):
                return
            self.pass_time(5)
        raise AssertionError({str(key): (book.state, book.reason) for key, book in self.engine.books.items()})

    def _agrees(self, topic: str, key: InstrumentId) -> bool:
        model = self.engine.books[key]
        bids, asks = self.exchange.levels(topic)
        return (
            model.state is BookState.LIVE
            and [(f"{price:g}", f"{size:g}") for price, size in model.levels.top_bids(99)] == bids
            and [(f"{price:g}", f"{size:g}") for price, size in model.levels.top_asks(99)] == asks
        )

    @invariant()
    def a_live_book_is_at_most_behind(self) -> None:
        """A live book whose feed is whole and read to the end is the exchange's."""
        if not hasattr(self, "exchange") or self.lost or self.queue or self.exchange.wire or self.exchange.inbox:
            return
        for topic, (key, _) in zip(TOPICS, BOOKS, strict=True):
            if topic not in self.hurt and self.engine.books[key].state is BookState.LIVE:
                assert self._agrees(topic, key)

    def _all_quiet(self) -> None:
        while self.lost is None and (self.exchange.inbox or self.exchange.wire or self.queue):
            while self.exchange.inbox:
                self.exchange.serve()
            self.receive(1000)
            self.digest(1000)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
