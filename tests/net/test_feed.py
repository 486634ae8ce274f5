"""One public link as tasks, over memory streams: the test plays the exchange, on a clock that jumps."""

from __future__ import annotations

import json
from collections import deque
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

from orderflow.core.engine import Engine
from orderflow.core.errors import ConnectFailed
from orderflow.core.policy import LinkPolicy, RetryPolicy
from orderflow.core.types import (
    BookState,
    BookUpdate,
    Category,
    Distrust,
    InstrumentId,
    LinkDown,
    LinkUp,
    ResyncNeeded,
    Syncing,
    TopicRefused,
)
from orderflow.net.fanout import EventQueue
from orderflow.net.feed import Feed
from orderflow.net.retry import AttemptBudget
from tests.bybit.wirebook import ack, book, encode, no_handler, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.core.types import Event, LinkChanged
    from orderflow.net.feed import FeedTap

    Peer = Callable[["Session"], Awaitable[object]]
    Clock = trio.testing.MockClock

URL = "ws://venue.test/v5/public/linear"
A, B = (InstrumentId(Category.LINEAR, symbol) for symbol in ("AUSDT", "BUSDT"))
TOPIC = {key: f"orderbook.50.{key.symbol}" for key in (A, B)}
RETRY = RetryPolicy(base_s=2.0)  # with rng 0.5: waits of 1, 2, 4 ... s
POLICY = LinkPolicy()
WALL_NS = 1_790_000_000 * 10**9


def clock() -> tuple[int, int]:
    mono_ns = int(trio.current_time() * 1e9)
    return WALL_NS + mono_ns, mono_ns


class Session:
    """The exchange's end of one connection, frames and all."""

    def __init__(self, stream: trio.testing.MemoryReceiveStream | Any) -> None:
        self.stream = stream
        self.wire = WSConnection(ConnectionType.SERVER)
        self._heard: deque[Any] = deque()

    async def _event(self) -> Any:
        while not self._heard:
            data = await self.stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("the client is gone")
            self.wire.receive_data(data)
            self._heard.extend(self.wire.events())
        return self._heard.popleft()

    async def accept(self) -> None:
        assert isinstance(await self._event(), Request)
        await self.stream.send_all(self.wire.send(AcceptConnection()))

    async def hear(self) -> dict[str, Any] | None:
        """The next request; None once the client says goodbye or is gone."""
        while True:
            event = await self._event()
            if isinstance(event, TextMessage | BytesMessage):
                request: dict[str, Any] = json.loads(event.data)
                return request
            if isinstance(event, CloseConnection):
                return None

    async def say(self, *messages: bytes) -> None:
        """All in one piece."""
        await self.stream.send_all(b"".join(self.wire.send(TextMessage(data=text.decode())) for text in messages))


class Exchange:
    """Memory connections, each served by the next peer of a script (the last one for all that follow)."""

    def __init__(self, *peers: Peer | Exception) -> None:
        self.peers = list(peers)
        self.times: list[float] = []
        self.streams: list[Any] = []
        self.heard: list[list[dict[str, Any]]] = []  # per connection
        self.nursery: trio.Nursery | None = None

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        peer = self.peers[0] if len(self.peers) == 1 else self.peers.pop(0)
        if isinstance(peer, Exception):
            raise peer
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams += [ours, theirs]
        assert self.nursery is not None
        self.nursery.start_soon(self._serve, peer, theirs)
        return ours

    async def _serve(self, peer: Peer, stream: Any) -> None:
        session = Session(stream)
        try:
            await session.accept()
            await peer(session)
        except (trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)


class Market:
    """An ordinary peer: answers as Bybit does and remembers what it was asked."""

    def __init__(self, *, u: int = 100) -> None:
        self.u = dict.fromkeys(TOPIC.values(), u)
        self.requests: list[dict[str, Any]] = []
        self.session: Session | None = None

    async def __call__(self, session: Session) -> None:
        self.session = session
        while (request := await session.hear()) is not None:
            self.requests.append(request)
            await session.say(*self.answer(request))

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        if request["op"] == "ping":
            return [encode({"success": True, "ret_msg": "pong", "req_id": request["req_id"], "op": "ping"})]
        if request["op"] == "unsubscribe":
            return [ack(request)]
        return [*(self.snapshot(topic) for topic in request["args"]), ack(request)]

    def snapshot(self, topic: str) -> bytes:
        return book(topic, self.u[topic], snapshot=True)

    def delta(self, topic: str) -> bytes:
        self.u[topic] += 1
        return book(topic, self.u[topic], bids=[("98", str(self.u[topic]))], asks=[])

    @property
    def story(self) -> list[tuple[str, list[str]]]:
        return [(request["op"], request.get("args", [])) for request in self.requests]


class Bench:
    """A feed, its queue and a book task, run over an exchange."""

    def __init__(
        self,
        *peers: Peer | Exception,
        limit: int = 1000,
        policy: LinkPolicy = POLICY,
        make_tap: Callable[[], FeedTap] | None = None,
    ) -> None:
        self.exchange = Exchange(*peers)
        self.queue = EventQueue(limit)
        self.events: list[Event] = []
        self.changes: list[LinkChanged] = []
        self.engine = Engine([(A, 50), (B, 50)])
        self.gate = trio.Event()  # the book task works only while this is set
        self.gate.set()
        self.feed = Feed(
            "linear",
            URL,
            Category.LINEAR,
            [(A, 50), (B, 50)],
            self.queue,
            policy,
            dial=self.exchange.dial,
            clock=clock,
            make_tap=make_tap,
        )

    async def over(self, seconds: float, *during: Callable[[], Awaitable[object]]) -> None:
        async with trio.open_nursery() as nursery:
            self.exchange.nursery = nursery
            nursery.start_soon(self._books)
            for task in during:
                nursery.start_soon(task)
            with trio.move_on_after(seconds):
                await self.feed.run(RETRY, AttemptBudget(RETRY), self.changes.append, lambda: 0.5)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async def _books(self) -> None:
        while True:
            await self.gate.wait()
            for event in chain.from_iterable(await self.queue.receive()):
                self.events.append(event)
                for output in self.engine.apply(event):
                    if isinstance(output, ResyncNeeded):
                        self.feed.resync(output.instrument, output.reason)

    @property
    def story(self) -> list[str]:
        return [f"{change.state} {change.reason}".strip() for change in self.changes]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def after_last_link_up(self) -> list[Event]:
        last = max(index for index, event in enumerate(self.events) if isinstance(event, LinkUp))
        return self.events[last:]


async def test_a_link_connects_subscribes_and_feeds(autojump_clock: Clock) -> None:
    market = Market()
    bench = Bench(market)

    async def move() -> None:
        await trio.sleep(1)
        assert market.session is not None
        await market.session.say(market.delta(TOPIC[A]), market.delta(TOPIC[A]), market.delta(TOPIC[B]))

    await bench.over(65, move)
    assert bench.story == ["connecting", "up"]
    assert market.story == [("subscribe", [TOPIC[A], TOPIC[B]]), *[("ping", [])] * 3]
    kinds = [type(event) for event in bench.events[:5]]
    assert kinds == [LinkUp, Syncing, Syncing, BookUpdate, BookUpdate]
    updates = bench.of(BookUpdate)
    assert [(update.instrument, update.u) for update in updates] == [(A, 100), (B, 100), (A, 101), (A, 102), (B, 101)]
    last = updates[-1]
    assert last.recv_ns - last.mono_ns == WALL_NS
    assert {book.state for book in bench.engine.books.values()} == {BookState.LIVE} or bench.of(LinkDown)
    statistics = bench.feed.statistics()
    assert (statistics.connects, statistics.frames, statistics.losses) == (1, 9, {})
    assert isinstance(bench.events[-1], LinkDown)  # told even when the program ends it


class Tape:
    """Writes down what it is told of one connection."""

    def __init__(self) -> None:
        self.story: list[tuple[str, Any]] = []

    def opened(self) -> None:
        self.story.append(("opened", None))

    def batch(self, messages: list[bytes], recv_ns: int, mono_ns: int, events: list[Event]) -> None:
        self.story.append(("batch", (messages, recv_ns - mono_ns, [type(event) for event in events])))

    def sent(self, text: str) -> None:
        self.story.append(("sent", json.loads(text)["op"]))

    def lost(self, reason: str, detail: str) -> None:
        self.story.append(("lost", (reason, detail)))


async def test_a_listener_hears_of_everything_that_passes(autojump_clock: Clock) -> None:
    tapes: list[Tape] = []

    def make_tap() -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    bench = Bench(hang_up, ConnectFailed("nobody there", reason="refused"), Market(), make_tap=make_tap)
    await bench.over(10)
    snapshot = book(TOPIC[A], 7, snapshot=True)
    assert tapes[0].story == [
        ("opened", None),
        ("sent", "subscribe"),
        ("batch", ([snapshot], WALL_NS, [BookUpdate])),
        ("lost", ("eof", "end of stream")),
    ]
    assert tapes[1].story == [("lost", ("refused", "nobody there"))]
    assert [what for what, _ in tapes[2].story] == ["opened", "sent", "batch"]
    assert bench.feed.instruments == (A, B)


async def test_what_connections_counted_is_added_up_once(autojump_clock: Clock) -> None:
    bench = Bench(hang_up, hang_up, Market())
    await bench.over(10)
    statistics = bench.feed.statistics()
    assert (statistics.connects, statistics.losses, statistics.frames) == (3, {"eof": 2}, 1 + 1 + 3)


# --- losses


async def hang_up(session: Session) -> None:
    await session.hear()
    await session.say(book(TOPIC[A], 7, snapshot=True))


async def end_in_mid_frame(session: Session) -> None:
    await session.hear()
    await session.stream.send_all(b"\x81\x7e\x01\x00half")


async def close_properly(session: Session) -> None:
    await session.hear()
    await session.stream.send_all(session.wire.send(CloseConnection(code=1012, reason="restart")))
    await session.hear()


async def say_nothing(session: Session) -> None:
    while await session.hear():
        pass


async def feed_but_never_pong(session: Session) -> None:
    request = await session.hear()
    assert request is not None
    await session.say(*(book(topic, 1, snapshot=True) for topic in request["args"]))
    for u in range(2, 1000):
        await trio.sleep(1)
        await session.say(book(TOPIC[A], u))


async def pong_but_never_feed(session: Session) -> None:
    market = Market()
    while (request := await session.hear()) is not None:
        await session.say(*(market.answer(request) if request["op"] == "ping" else [ack(request)]))


async def violate(session: Session) -> None:
    await session.stream.send_all(b"\x83\x00")
    await session.hear()


async def talk_latin(session: Session) -> None:
    await session.stream.send_all(b"\x81\x02\xff\xfe")
    await session.hear()


async def gap_for_ever(session: Session) -> None:
    market = Market()
    u = 100
    while (request := await session.hear()) is not None:
        await session.say(*market.answer(request))
        if request["op"] == "subscribe" and TOPIC[A] in request["args"]:
            await trio.sleep(2)
            u += 100
            await session.say(book(TOPIC[A], u))


LOSSES: list[tuple[Peer | Exception, str, float]] = [
    (ConnectFailed("nobody there", reason="refused"), "refused", 0),
    (hang_up, "eof", 0),
    (end_in_mid_frame, "eof", 0),
    (close_properly, "closed", 0),
    (violate, "protocol", 0),
    (talk_latin, "protocol", 0),
    (say_nothing, "snapshot", 25),
    (feed_but_never_pong, "pong", 30),
    (pong_but_never_feed, "snapshot", 20),
    (gap_for_ever, "unstable", 14),
]


@pytest.mark.parametrize(
    "peer, reason, after_s", LOSSES, ids=[f"{getattr(loss[0], '__name__', 'refused')}" for loss in LOSSES]
)
async def test_every_loss_has_its_name_and_the_link_comes_back(
    autojump_clock: Clock, peer: Peer | Exception, reason: str, after_s: float
) -> None:
    market = Market(u=500)
    bench = Bench(peer, market)
    began = trio.current_time()
    await bench.over(after_s + 10)
    lost = "down " + reason
    opened = [] if isinstance(peer, Exception) else ["up"]
    assert bench.story == ["connecting", *opened, lost, "connecting", "up"]
    assert bench.exchange.times[1] - began == pytest.approx(after_s + 1, abs=1.1)  # and the goodbye, at most 1 s
    assert bench.feed.statistics().losses == {reason: 1}
    assert market.story[0] == ("subscribe", [TOPIC[A], TOPIC[B]])
    fresh = bench.after_last_link_up()
    assert [type(event) for event in fresh[:3]] == [LinkUp, Syncing, Syncing]
    assert [event.u for event in fresh if isinstance(event, BookUpdate)] == [500, 500]
    downs = bench.of(LinkDown)
    assert [down.reason for down in downs] == [reason, "closed"]
    assert downs[0].instruments == (A, B)


async def test_books_leave_live_with_the_link_and_start_afresh(autojump_clock: Clock) -> None:
    bench = Bench(hang_up, ConnectFailed("x"), ConnectFailed("x"), Market())
    states: list[tuple[BookState, BookState]] = []

    async def look() -> None:
        for _ in range(3):
            await trio.sleep(0.4)
            states.append((bench.engine.books[A].state, bench.engine.books[B].state))
            await trio.sleep(3.6)

    await bench.over(20, look)
    assert states == [(BookState.EMPTY,) * 2, (BookState.EMPTY,) * 2, (BookState.LIVE,) * 2]
    assert bench.engine.books[A].counters.reconnects == 1


@pytest.mark.parametrize("passes", range(6))
async def test_nothing_of_a_link_comes_behind_its_loss(autojump_clock: Clock, passes: int) -> None:
    """A snapshot that is read in the moment of the verdict must not make a book live whose link is gone."""

    async def speak_up(session: Session) -> None:
        await session.hear()
        verdict_s = trio.current_time() + 30
        await trio.sleep(15)
        await session.say(*(book(topic, 7, snapshot=True) for topic in TOPIC.values()))  # frames, but no pong
        await trio.sleep_until(verdict_s)
        for _ in range(passes):  # of the scheduler; it shuffles
            await trio.lowlevel.checkpoint()
        await session.say(*(book(topic, 7, snapshot=True) for topic in TOPIC.values()))

    for _ in range(6):
        bench = Bench(speak_up, ConnectFailed("x"))
        await bench.over(30.5)
        assert bench.of(LinkDown)
        assert isinstance(bench.events[-1], LinkDown)
        assert {model.state for model in bench.engine.books.values()} == {BookState.EMPTY}


@pytest.mark.parametrize("spoil", [b"\x83\x00", b"\x81\x02\xff\xfe"])
async def test_books_leave_live_at_once_though_the_goodbye_takes_its_time(autojump_clock: Clock, spoil: bytes) -> None:
    """The peer keeps the connection open and says nothing more, so closing takes its whole second."""
    broken_ns: list[int] = []

    async def break_and_stay(session: Session) -> None:
        await session.hear()
        await session.say(*(book(topic, 7, snapshot=True) for topic in TOPIC.values()))
        await trio.sleep(3)
        broken_ns.append(clock()[1])
        await session.stream.send_all(spoil)
        await trio.sleep(30)

    bench = Bench(break_and_stay, Market())
    frames: list[int] = []

    async def count() -> None:
        for _ in range(7):
            frames.append(bench.feed.statistics().frames)
            await trio.sleep(0.99)

    began_ns = clock()[1]
    await bench.over(8, count)
    assert frames == sorted(frames)
    first, last = bench.of(LinkDown)
    assert (first.reason, last.reason) == ("protocol", "closed")
    assert first.mono_ns == broken_ns[0]
    second_try_ns = round((bench.exchange.times[1]) * 1e9)
    assert second_try_ns - began_ns == pytest.approx(5e9, abs=1e7)  # 3 s, the goodbye, the wait


async def test_accept_and_kick_is_backed_off(autojump_clock: Clock) -> None:
    bench = Bench(hang_up)
    await bench.over(400)
    gaps = [later - earlier for earlier, later in pairwise(bench.exchange.times)]
    assert [round(gap) for gap in gaps[:7]] == [1, 2, 4, 8, 16, 30, 30]


async def test_a_link_that_was_healthy_for_long_is_tried_again_at_once(autojump_clock: Clock) -> None:
    async def live_a_while(session: Session) -> None:
        async with trio.open_nursery() as nursery:
            market = Market()
            nursery.start_soon(market, session)
            for _ in range(62):
                await trio.sleep(1)
                await session.say(market.delta(TOPIC[A]))
            nursery.cancel_scope.cancel()

    bench = Bench(*[hang_up] * 5, live_a_while, Market())
    await bench.over(200)
    waits = [change.retry_s for change in bench.changes if change.state == "down"]
    assert waits == [1, 2, 4, 8, 16, 1]


# --- the queue


async def test_an_overrun_ends_the_link_and_starts_afresh(autojump_clock: Clock) -> None:
    """The book task stands still; what came in meanwhile is not lost in silence: the books start over."""
    flooding, calm = Market(), Market(u=900)
    bench = Bench(flooding, calm, limit=50)

    async def flood() -> None:
        await trio.sleep(1)
        bench.gate = trio.Event()
        for _ in range(60):
            assert flooding.session is not None
            try:
                await flooding.session.say(flooding.delta(TOPIC[A]))
            except (trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                break  # the link went
            await trio.testing.wait_all_tasks_blocked()
        bench.gate.set()

    await bench.over(10, flood)
    assert bench.story == ["connecting", "up", "down overrun", "connecting", "up"]
    assert bench.queue.statistics().overruns == 1
    (down, _) = bench.of(LinkDown)
    assert down.reason == "overrun"
    model = bench.engine.books[A]
    assert model.counters.gaps == 0
    assert [event.u for event in bench.after_last_link_up() if isinstance(event, BookUpdate)] == [900, 900]


# --- resync


async def test_a_gap_resyncs_one_topic_and_leaves_the_link(autojump_clock: Clock) -> None:
    market = Market()
    bench = Bench(market)

    async def skip() -> None:
        await trio.sleep(1)
        assert market.session is not None
        market.u[TOPIC[A]] += 5
        await market.session.say(market.delta(TOPIC[A]), market.delta(TOPIC[B]))
        await trio.sleep(1)
        await market.session.say(market.delta(TOPIC[A]))
        await trio.testing.wait_all_tasks_blocked()
        assert bench.engine.books[A].state is BookState.LIVE
        assert bench.engine.books[A].u == market.u[TOPIC[A]]

    await bench.over(10, skip)
    assert market.story == [
        ("subscribe", [TOPIC[A], TOPIC[B]]),
        ("unsubscribe", [TOPIC[A]]),
        ("subscribe", [TOPIC[A]]),
    ]
    assert bench.story == ["connecting", "up"]
    counters = bench.engine.books[A].counters
    assert (counters.gaps, counters.missed, counters.resyncs, counters.reconnects) == (1, 5, 1, 0)
    assert bench.engine.books[B].counters.resyncs == 0
    assert bench.feed.statistics().resyncs == 1


async def test_a_bad_message_of_a_book_resyncs_it(autojump_clock: Clock) -> None:
    market = Market()
    bench = Bench(market)

    async def spoil() -> None:
        await trio.sleep(1)
        assert market.session is not None
        await market.session.say(market.delta(TOPIC[A])[:-9])

    await bench.over(10, spoil)
    assert [op for op, _ in market.story] == ["subscribe", "unsubscribe", "subscribe"]
    assert bench.feed.statistics().refused == {"json": 1}


async def test_a_message_that_is_refused_is_said_in_one_short_line(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    market = Market()
    bench = Bench(market)
    odd = book(TOPIC[A], 101).replace(b"delta", "\u202e".encode() + b"x" * 3000)

    async def talk_nonsense() -> None:
        await trio.sleep(1)
        assert market.session is not None
        await market.session.say(b"\x1b[31mno json", odd)

    await bench.over(5, talk_nonsense)
    first, second = (record.getMessage() for record in caplog.records if record.name == "orderflow.net.feed")
    assert first.startswith("linear: message refused: json: ")
    assert second.startswith(f"linear: message refused: {TOPIC[A]}, shape: type is ")
    for line in (first, second):
        assert line.isprintable()
        assert len(line) < 240


async def test_of_many_refused_messages_some_are_said(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    market = Market()
    bench = Bench(market)

    async def talk_nonsense() -> None:
        for _ in range(2):
            await trio.sleep(10)
            assert market.session is not None
            await market.session.say(*[b"no json"] * 500)

    await bench.over(25, talk_nonsense)
    said = [record.getMessage() for record in caplog.records if record.name == "orderflow.net.feed"]
    assert [line.startswith("linear: message refused: json") for line in said] == [*[True] * 10, False] * 2
    assert "only counted" in said[10]
    assert bench.feed.statistics().refused == {"json": 1000}


class OnlyRefuses(Market):
    """One topic; of the other it says nothing."""

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        if request["op"] == "subscribe":
            return [refusal(no_handler(TOPIC[A]), req_id=request["req_id"])] if TOPIC[A] in request["args"] else []
        return super().answer(request)


@pytest.mark.parametrize(
    ("peer", "delivers"),
    [(Market(), True), (OnlyRefuses(), True), (pong_but_never_feed, False), (ConnectFailed("x"), False)],
    ids=["feeds", "refuses", "only pongs", "not there"],
)
async def test_a_link_delivers_when_the_exchange_has_answered(
    autojump_clock: Clock, peer: Peer | Exception, delivers: bool
) -> None:
    bench = Bench(peer)
    assert not bench.feed.delivers
    seen: list[bool] = []

    async def look() -> None:
        await trio.sleep(5)
        seen.append(bench.feed.delivers)

    await bench.over(6, look)
    assert seen == [delivers]
    assert not bench.feed.delivers, "the link is gone"


async def test_a_refused_topic_is_told_and_the_other_runs(autojump_clock: Clock) -> None:
    class Picky(Market):
        def answer(self, request: dict[str, Any]) -> list[bytes]:
            if TOPIC[B] in request.get("args", ()):
                return [refusal(no_handler(TOPIC[B]), req_id=request["req_id"])]
            return super().answer(request)

    bench = Bench(Picky())
    states: list[BookState] = []

    async def look() -> None:
        await trio.sleep(50)
        states.extend(model.state for model in bench.engine.books.values())

    await bench.over(60, look)
    (refused,) = bench.of(TopicRefused)
    assert refused.instrument == B
    assert states == [BookState.LIVE, BookState.CLOSED]
    assert bench.feed.statistics().topics_refused == 1


async def test_resyncs_asked_for_while_the_link_is_down_are_forgotten(autojump_clock: Clock) -> None:
    market = Market()
    bench = Bench(hang_up, market)

    async def ask() -> None:
        bench.feed.resync(A, "too early")
        await trio.sleep(0.5)
        bench.feed.resync(A, "link is down")

    await bench.over(10, ask)
    assert [op for op, _ in market.story] == ["subscribe"]


async def test_a_resync_the_old_link_did_not_live_to_do_is_not_done_on_the_new_one(autojump_clock: Clock) -> None:
    """The book finds its gap while the link, broken for another reason, is saying goodbye."""

    async def gap_and_go(session: Session) -> None:
        await session.hear()
        messages = (book(TOPIC[A], 7, snapshot=True), book(TOPIC[A], 9))
        frames = [session.wire.send(TextMessage(data=text.decode())) for text in messages]
        await session.stream.send_all(b"".join(frames) + b"\x83\x00")
        await trio.sleep(5)

    market = Market()
    bench = Bench(gap_and_go, market)
    await bench.over(10)
    assert bench.engine.books[A].counters.gaps == 1
    assert bench.story == ["connecting", "up", "down protocol", "connecting", "up"]
    assert [op for op, _ in market.story] == ["subscribe"]


# --- time


async def test_a_stall_of_ours_is_not_held_against_the_peer(autojump_clock: Clock) -> None:
    """The clock jumps as it does for a process that was stopped; the pong comes a little later."""

    class Slow(Market):
        def answer(self, request: dict[str, Any]) -> list[bytes]:
            return [] if request["op"] == "ping" else super().answer(request)

    market = Slow()
    bench = Bench(market)

    async def stall() -> None:
        await trio.sleep(25)  # a ping is out, its pong due at 30
        autojump_clock.jump(3600)
        await trio.sleep(3)
        assert market.session is not None
        ping = next(request for request in market.requests if request["op"] == "ping")
        await market.session.say(encode({"op": "pong", "req_id": ping["req_id"]}))
        await trio.sleep(2)

    await bench.over(3634, stall)
    assert bench.story == ["connecting", "up"]


async def test_frozen_while_a_link_is_opened_it_is_opened_again_at_once(autojump_clock: Clock) -> None:
    market = Market()
    bench = Bench(market)
    dial = bench.exchange.dial

    async def freeze_at_first(host: str, port: int) -> trio.abc.Stream:
        stream = await dial(host, port)
        if len(bench.exchange.times) == 1:
            autojump_clock.jump(3600)
        return stream

    bench.feed._dial = freeze_at_first
    await bench.over(3605)
    assert bench.story == ["connecting", "down stall", "connecting", "up"]
    assert bench.exchange.times == pytest.approx([0, 3601])
    assert market.story == [("subscribe", [TOPIC[A], TOPIC[B]])]
    assert bench.feed.statistics().losses == {"stall": 1}


async def test_a_stall_right_before_a_verdict_is_not_held_against_the_peer(autojump_clock: Clock) -> None:
    """The acknowledgement is due at 5 s; the process stands still when its writer has just woken. Trio shuffles."""

    async def freeze() -> None:
        await trio.sleep(5)
        autojump_clock.jump(3600)

    for _ in range(20):
        bench = Bench(Market())
        await bench.over(3605, freeze)
        assert bench.story == ["connecting", "up"]


async def test_resyncs_of_a_stall_share_their_requests(autojump_clock: Clock) -> None:
    market = Market()
    bench = Bench(market)

    async def doubt_all() -> None:
        await trio.sleep(5)
        autojump_clock.jump(3600)
        now_ns = clock()[1]
        bench.queue.put_control(
            [Distrust(instrument=key, reason="stall", mono_ns=now_ns, refused=False) for key in (A, B)]
        )
        await trio.sleep(3)
        assert {model.state for model in bench.engine.books.values()} == {BookState.LIVE}

    await bench.over(3610, doubt_all)
    both = [TOPIC[A], TOPIC[B]]
    assert bench.story == ["connecting", "up"]
    assert [told for told in market.story if told[0] != "ping"] == [
        ("subscribe", both),
        ("unsubscribe", both),
        ("subscribe", both),
    ]


# --- leaving


class Steps(trio.abc.Instrument):
    """Cancels a scope at the n-th step of any task."""

    def __init__(self, scope: trio.CancelScope, number: int) -> None:
        self.left = number
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


def test_cancelled_at_any_step_it_leaves_nothing_behind() -> None:
    async def once(number: int) -> bool:
        """Returns: whether the run was over before the step came."""
        market = Market()
        bench = Bench(hang_up, market)
        scope = trio.CancelScope()
        steps = Steps(scope, number)
        trio.lowlevel.add_instrument(steps)
        async with trio.open_nursery() as nursery:
            bench.exchange.nursery = nursery
            with scope, trio.move_on_after(25):
                await bench.feed.run(RETRY, AttemptBudget(RETRY), bench.changes.append, lambda: 0.5)
            trio.lowlevel.remove_instrument(steps)
            nursery.cancel_scope.deadline = trio.current_time() + 5
        for stream in bench.exchange.streams:
            with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                await stream.send_all(b"x")
        told = []
        while bench.queue.statistics().depth:
            items = await bench.queue.receive()
            told += [type(event) for item in items for event in item if isinstance(event, LinkUp | LinkDown)]
        assert not told or told[-1] is LinkDown
        assert all(after is LinkDown for kind, after in pairwise(told) if kind is LinkUp)
        assert bench.feed._current is None
        return steps.left > 0

    number = 1
    while not trio.run(once, number, clock=trio.testing.MockClock(autojump_threshold=0)):
        number += 1 if number < 150 else 7
    assert number > 100
