"""Our side of a connection, sans-IO: what is asked for, what answers mean, what is overdue."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.bybit.protocol import TOPICS_PER_REQUEST, FeedProtocol, Resyncs, plan_links
from orderflow.core.errors import HeartbeatLost, SyncFailed
from orderflow.core.policy import LinkPolicy
from orderflow.core.types import (
    BookUpdate,
    Category,
    Distrust,
    InstrumentId,
    LinkUp,
    Syncing,
    TopicRefused,
)
from orderflow.core.units import NS

from .wirebook import ack, already, book, encode, no_handler, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.core.types import Event

POLICY = LinkPolicy()


def linear(symbol: str) -> InstrumentId:
    return InstrumentId(Category.LINEAR, symbol)


class Link:
    """A protocol, its clock, and every frame it wanted to send."""

    def __init__(
        self,
        *symbols: str,
        policy: LinkPolicy = POLICY,
        depth: int = 50,
        at_s: float = 100.0,
        resyncs: defaultdict[InstrumentId, Resyncs] | None = None,
    ) -> None:
        self.now_ns = round(at_s * NS)
        self.keys = [linear(symbol) for symbol in symbols or ("A",)]
        self.depth = depth
        books = [(key, depth) for key in self.keys]
        self.protocol = FeedProtocol("linear", Category.LINEAR, books, policy, resyncs=resyncs)
        self.events: list[Event] = self.protocol.opened(self.now_ns)
        self.requests: list[dict[str, Any]] = []
        self._collect()

    def _collect(self) -> list[dict[str, Any]]:
        assert self.protocol.has_data_to_send == bool(self.protocol._outbox)
        fresh = [json.loads(text) for text in self.protocol.data_to_send()]
        assert not self.protocol.has_data_to_send
        self.requests += fresh
        return fresh

    def topic(self, symbol: str = "A") -> str:
        return f"orderbook.{self.depth}.{symbol}"

    def receive(self, *messages: bytes) -> list[dict[str, Any]]:
        """Returns: the frames it sends in answer."""
        self.events += self.protocol.receive(messages, self.now_ns + 5, self.now_ns)
        return self._collect()

    def snapshot(self, symbol: str = "A", u: int = 10) -> list[dict[str, Any]]:
        return self.receive(book(self.topic(symbol), u, snapshot=True))

    def resync(self, symbol: str = "A", reason: str = "gap") -> list[dict[str, Any]]:
        return self.resync_all(symbol, reason=reason)

    def resync_all(self, *symbols: str, reason: str = "stall") -> list[dict[str, Any]]:
        self.events += self.protocol.resync([(linear(symbol), reason) for symbol in symbols], self.now_ns)
        return self._collect()

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Let time pass, calling `on_time` when it is due; pings are answered at once unless there is silence."""
        end_ns = self.now_ns + round(seconds * NS)
        sent: list[dict[str, Any]] = []
        while self.protocol.next_deadline_ns() <= end_ns:
            due_ns = self.protocol.next_deadline_ns()
            assert due_ns >= self.now_ns or not sent, "a deadline was not met by on_time"
            self.now_ns = max(self.now_ns, due_ns)
            self.events += self.protocol.on_time(self.now_ns)
            fresh = self._collect()
            sent += fresh
            for frame in fresh:
                if frame["op"] == "ping":
                    self.receive(encode({"success": True, "ret_msg": "pong", "op": "ping", "req_id": frame["req_id"]}))
        self.now_ns = end_ns
        return sent

    def acked(self, frames: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [frame for request in frames for frame in self.receive(ack(request))]

    def take_events(self, kind: type | None = None) -> list[Event]:
        taken = [event for event in self.events if kind is None or isinstance(event, kind)]
        self.events = []
        return taken


def ops(frames: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """(op, symbols) of each frame."""
    return [(frame["op"], [name.rpartition(".")[2] for name in frame.get("args", ())]) for frame in frames]


def test_opening_tells_the_link_and_asks_for_every_book_at_once() -> None:
    link = Link("A", "B", "C")
    assert ops(link.requests) == [("subscribe", ["A", "B", "C"])]
    assert link.requests[0]["args"] == ["orderbook.50.A", "orderbook.50.B", "orderbook.50.C"]
    up, *syncing = link.take_events()
    assert up == LinkUp(link="linear", instruments=tuple(link.keys), mono_ns=link.now_ns)
    assert syncing == [Syncing(instrument=key, reason="subscribe", mono_ns=link.now_ns) for key in link.keys]


def test_a_request_never_names_more_topics_than_spot_allows() -> None:
    link = Link(*(f"S{number}" for number in range(25)))
    assert [len(frame["args"]) for frame in link.requests] == [10, 10, 5]
    assert TOPICS_PER_REQUEST == 10
    assert len({frame["req_id"] for frame in link.requests}) == 3
    assert [name for frame in link.requests for name in frame["args"]] == [
        f"orderbook.50.S{number}" for number in range(25)
    ]


def test_frames_are_handed_out_once() -> None:
    link = Link()
    assert link.protocol.data_to_send() == []


# --- data and acks


def test_data_counts_before_its_ack() -> None:
    link = Link()
    link.take_events()
    link.snapshot(u=10)
    link.receive(book(link.topic(), 11))
    updates = link.take_events()
    assert [(update.u, update.snapshot) for update in updates if isinstance(update, BookUpdate)] == [
        (10, True),
        (11, False),
    ]
    assert link.acked(link.requests) == []
    assert link.advance(300) != []  # pings only
    assert {op for op, _ in ops(link.requests)} == {"subscribe", "ping"}
    assert link.protocol.statistics().acks_missing == 0


def test_all_messages_of_a_read_carry_its_stamps() -> None:
    link = Link()
    link.take_events()
    link.receive(book(link.topic(), 1, snapshot=True), b"junk", book(link.topic(), 2))
    first, second = link.take_events(BookUpdate)
    assert isinstance(first, BookUpdate)
    assert isinstance(second, BookUpdate)
    assert {(update.recv_ns, update.mono_ns) for update in (first, second)} == {(link.now_ns + 5, link.now_ns)}
    assert (link.protocol.statistics().frames, link.protocol.statistics().refused) == (3, {"json": 1})


def test_a_missing_ack_is_counted_and_nothing_else() -> None:
    link = Link()
    link.snapshot()
    link.take_events()
    assert link.advance(4.9) == []
    assert link.protocol.statistics().acks_missing == 0
    assert link.advance(0.2) == []
    assert link.protocol.statistics().acks_missing == 1
    assert link.take_events() == []


@pytest.mark.parametrize("req_id", ["", "s99", 77])
def test_an_ack_for_nothing_we_asked_is_counted_as_unknown(req_id: object) -> None:
    link = Link()
    link.receive(encode({"success": True, "ret_msg": "", "op": "subscribe", "req_id": req_id}))
    assert link.protocol.statistics().unknown == 1
    link.advance(5)
    assert link.protocol.statistics().acks_missing == 1  # the real one is still waited for


def test_unknown_topics_and_unknown_keys_are_harmless() -> None:
    link = Link()
    link.snapshot()
    link.take_events()
    message = json.loads(book(link.topic(), 11)) | {"new": [1, {"x": None}]}
    link.receive(encode(message), encode({"topic": "mystery.A", "data": {}}), book("orderbook.1.A", 3))
    assert len(link.take_events(BookUpdate)) == 1
    assert (link.protocol.statistics().unknown, link.protocol.statistics().refused) == (2, {})


def test_topics_nobody_asked_for_are_not_learnt() -> None:
    link = Link("BTCUSDT")
    link.take_events()
    link.receive(
        book("orderbook.50.ETHUSDT", 11, symbol="ETHUSDT", snapshot=True),
        encode({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": []}),
    )
    assert link.take_events() == []
    assert link.protocol.statistics().unknown == 2


# --- refusals


def test_one_refused_topic_of_several_is_found_and_the_others_run_on() -> None:
    link = Link("A", "B", "C")
    link.take_events()
    singles = link.receive(refusal(no_handler("orderbook.50.B"), req_id=link.requests[0]["req_id"]))
    assert ops(singles) == [("subscribe", ["A"]), ("subscribe", ["B"]), ("subscribe", ["C"])]
    for symbol, request in zip("ABC", singles, strict=True):
        if symbol == "B":
            link.receive(refusal(no_handler("orderbook.50.B"), req_id=request["req_id"]))
        else:
            link.snapshot(symbol)
            link.acked([request])
    refused = link.take_events(TopicRefused)
    assert refused == [
        TopicRefused(instrument=linear("B"), text="error:handler not found,topic:orderbook.50.B", mono_ns=link.now_ns)
    ]
    assert link.protocol.statistics().topics_refused == 1
    assert ops(link.advance(299)) == [("ping", [])] * 14


def test_a_refused_topic_is_asked_for_again_rarely_and_alone() -> None:
    link = Link("A")
    link.receive(refusal(no_handler("orderbook.50.A"), req_id=link.requests[0]["req_id"]))
    link.take_events()
    asked = [frame for frame in link.advance(301) if frame["op"] == "subscribe"]
    assert ops(asked) == [("subscribe", ["A"])]
    assert [event.reason for event in link.take_events() if isinstance(event, Syncing)] == ["retry"]
    link.receive(refusal("still no", req_id=asked[0]["req_id"]))
    assert [event.text for event in link.take_events() if isinstance(event, TopicRefused)] == ["still no"]
    assert ops([frame for frame in link.advance(301) if frame["op"] != "ping"]) == [("subscribe", ["A"])]


def test_a_refused_topic_that_is_fed_all_the_same_counts_as_subscribed() -> None:
    """Data counts, not answers: asking again would only be refused as `already subscribed`."""
    link = Link("A")
    link.receive(refusal("no", req_id=link.requests[0]["req_id"]))
    link.snapshot()
    assert {op for op, _ in ops(link.advance(400))} == {"ping"}
    assert ops(link.resync()) == [("unsubscribe", ["A"])]


def test_already_subscribed_is_no_failure() -> None:
    link = Link("A")
    link.take_events()
    link.receive(refusal(already("orderbook.50.A"), req_id=link.requests[0]["req_id"]))
    link.snapshot()
    assert link.take_events(TopicRefused) == []
    assert {op for op, _ in ops(link.advance(400))} == {"ping"}
    assert link.protocol.statistics().topics_refused == 0


def test_already_subscribed_without_a_snapshot_is_resynced() -> None:
    link = Link("A")
    link.receive(refusal(already("orderbook.50.A"), req_id=link.requests[0]["req_id"]))
    assert ops(link.advance(10)) == [("unsubscribe", ["A"])]


def test_a_late_refusal_of_a_topic_that_delivers_is_ignored() -> None:
    link = Link("A")
    link.snapshot()
    link.receive(refusal("error:odd", req_id=link.requests[0]["req_id"]))
    assert link.take_events(TopicRefused) == []


def test_a_batch_refused_after_some_of_it_delivers_repeats_only_the_rest() -> None:
    link = Link("A", "B", "C")
    link.snapshot("B")
    singles = link.receive(refusal(no_handler("orderbook.50.C"), req_id=link.requests[0]["req_id"]))
    assert ops(singles) == [("subscribe", ["A"]), ("subscribe", ["C"])]


def test_a_refusal_without_an_id_belongs_to_the_only_open_request() -> None:
    link = Link("A")
    link.receive(refusal("args size >10"))
    assert [event.text for event in link.take_events() if isinstance(event, TopicRefused)] == ["args size >10"]


def test_a_refusal_without_an_id_is_not_attributed_while_several_requests_are_open() -> None:
    link = Link(*(f"S{number}" for number in range(11)))
    link.take_events()
    assert link.receive(refusal("args size >10")) == []
    assert link.take_events() == []
    assert link.protocol.statistics().unknown == 1


def test_a_refusal_with_a_foreign_id_is_nobodys() -> None:
    """A late answer to a request whose ack was given up must not hit the request that is open now."""
    link = Link("A")
    link.take_events()
    assert link.receive(refusal("error:whatever", req_id="s77")) == []
    assert link.take_events() == []
    assert link.protocol.statistics().unknown == 1
    link.snapshot()
    assert {op for op, _ in ops(link.advance(400))} == {"ping"}


def test_a_refusal_without_an_id_of_another_operation_is_nobodys() -> None:
    link = Link("A")
    link.take_events()
    link.receive(refusal("error:invalid op", op="ping"))
    assert link.take_events() == []


def test_a_success_without_an_id_is_nobodys() -> None:
    """Only refusals are known to come without one; this may answer anything."""
    link = synced("A")
    link.resync()
    assert link.receive(encode({"success": True, "ret_msg": "", "op": "unsubscribe"})) == []
    assert link.protocol.statistics().unknown == 1
    assert ops(link.advance(5)) == [("subscribe", ["A"])]
    assert link.protocol.statistics().acks_missing == 1


def test_a_refusal_without_an_id_answers_its_request_for_good() -> None:
    link = Link("A")
    link.receive(refusal("args size >10"))
    link.receive(refusal("args size >10"))
    assert link.protocol.statistics().unknown == 1  # the second one is nobody's
    link.advance(6)
    assert link.protocol.statistics().acks_missing == 0


def test_two_topics_refused_together_are_asked_for_one_by_one() -> None:
    link = Link("A", "B")
    link.take_events()
    singles = link.receive(refusal(no_handler("orderbook.50.B"), req_id=link.requests[0]["req_id"]))
    assert ops(singles) == [("subscribe", ["A"]), ("subscribe", ["B"])]
    assert link.take_events() == []


def test_a_refused_topic_has_nothing_to_resync() -> None:
    link = Link("A")
    link.receive(refusal("no", req_id=link.requests[0]["req_id"]))
    link.take_events()
    assert link.resync() == []
    assert link.take_events() == []
    assert link.protocol.statistics().resyncs == 0


@pytest.mark.parametrize(
    "reply, refused",
    [
        ({"success": True, "retCode": 0}, False),
        ({"retCode": 0, "retMsg": "OK"}, False),
        ({"success": True}, False),
        ({}, False),
        ({"retCode": 1}, True),
        ({"success": False}, True),
        ({"success": False, "retCode": 0}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["req_id", "reqId"])
def test_what_counts_as_a_refusal_under_either_name_of_the_id(
    reply: dict[str, object], refused: bool, key: str
) -> None:
    link = Link("A")
    link.receive(encode({"op": "subscribe", key: link.requests[0]["req_id"], **reply}))
    assert link.protocol.statistics().topics_refused == refused
    link.advance(6)
    assert (link.protocol.statistics().unknown, link.protocol.statistics().acks_missing) == (0, 0)


def test_a_refusal_in_the_trade_dialect_is_a_refusal() -> None:
    link = Link("A")
    reply = {"op": "subscribe", "reqId": link.requests[0]["req_id"], "retCode": 10404, "retMsg": "nope", "connId": "x"}
    link.receive(encode(reply))
    assert [event.text for event in link.take_events() if isinstance(event, TopicRefused)] == ["nope"]


# --- resync


def synced(*symbols: str, **link_options: Any) -> Link:
    link = Link(*symbols, **link_options)
    for key in link.keys:
        link.snapshot(key.symbol)
    link.acked(link.requests)
    link.take_events()
    return link


def test_a_resync_unsubscribes_and_subscribes_after_the_ack() -> None:
    link = synced("A", "B")
    leaving = link.resync("A", "gap")
    assert ops(leaving) == [("unsubscribe", ["A"])]
    assert link.take_events() == [Syncing(instrument=linear("A"), reason="gap", mono_ns=link.now_ns)]
    assert ops(link.acked(leaving)) == [("subscribe", ["A"])]
    assert link.take_events() == []  # the resync was told when it began
    link.snapshot("A", 50)
    assert {op for op, _ in ops(link.advance(400))} == {"ping"}
    assert link.protocol.statistics().resyncs == 1


def test_a_second_resync_while_one_is_under_way_is_the_same_one() -> None:
    link = synced("A")
    leaving = link.resync()
    assert link.resync() == []
    link.acked(leaving)
    assert link.protocol.statistics().resyncs == 1


def test_without_the_ack_of_its_unsubscribe_a_resync_goes_on() -> None:
    link = synced("A")
    link.resync()
    assert link.advance(4.9) == []
    assert ops(link.advance(0.2)) == [("subscribe", ["A"])]
    assert link.protocol.statistics().acks_missing == 1


def test_a_refused_unsubscribe_does_not_stop_a_resync() -> None:
    link = synced("A")
    (leaving,) = link.resync()
    again = link.receive(refusal("error:no", op="unsubscribe", req_id=leaving["req_id"]))
    assert ops(again) == [("subscribe", ["A"])]
    assert link.take_events(TopicRefused) == []


def test_what_still_comes_of_a_subscription_being_left_is_not_used() -> None:
    """A snapshot of the old subscription would make the book live just when its feed ends."""
    link = synced("A", "B")
    leaving = link.resync("A")
    link.take_events()
    link.receive(
        book(link.topic("A"), 11),
        book(link.topic("A"), 12, snapshot=True),
        b'{"topic":"orderbook.50.A","type":"delta"}',
        book(link.topic("B"), 11),
    )
    assert [event.instrument.symbol for event in link.take_events() if isinstance(event, BookUpdate | Distrust)] == [
        "B"
    ]
    assert link.protocol.statistics().frames == 7
    link.acked(leaving)
    link.snapshot("A", 20)
    assert [event.u for event in link.take_events() if isinstance(event, BookUpdate)] == [20]


def test_a_second_resync_within_a_second_waits_for_its_turn() -> None:
    link = synced("A")
    link.acked(link.resync())
    link.snapshot()
    link.take_events()
    link.advance(0.4)
    assert link.resync("A", "again") == []
    assert link.resync("A", "third") == []
    assert link.take_events() == []
    assert link.advance(0.5) == []
    assert ops(link.advance(0.2)) == [("unsubscribe", ["A"])]
    assert [event.reason for event in link.take_events() if isinstance(event, Syncing)] == ["again"]


def test_a_resync_that_waits_for_its_turn_is_dropped_when_the_topic_is_refused() -> None:
    link = synced("A")
    (asked,) = link.acked(link.resync())
    link.advance(0.2)
    assert link.resync("A", "shape") == []  # a bad message came before any snapshot
    link.receive(refusal("gone", req_id=asked["req_id"]))
    assert len(link.take_events(TopicRefused)) == 1
    assert {op for op, _ in ops(link.advance(290))} == {"ping"}
    assert ops([frame for frame in link.advance(12) if frame["op"] != "ping"]) == [("subscribe", ["A"])]


def resync_fully(link: Link, symbol: str = "A") -> None:
    link.acked(link.resync(symbol))
    link.snapshot(symbol)


def test_six_resyncs_a_minute_are_the_limit_and_then_the_link_goes() -> None:
    link = synced("A", "B")
    for _ in range(6):
        resync_fully(link)
        link.advance(5)
    resync_fully(link, "B")  # each topic has its own budget
    with pytest.raises(SyncFailed) as caught:
        link.resync("A", "gap")
    assert caught.value.reason == "unstable"


@pytest.mark.parametrize("ours", [0, 3, 6])
def test_a_feed_is_not_called_unstable_for_our_own_standstills(ours: int) -> None:
    link = synced("A")
    for nth in range(7):
        reason = "stall" if nth == ours else "gap"
        if nth == 6:
            with pytest.raises(SyncFailed) as caught:
                link.resync("A", reason)
        else:
            link.acked(link.resync("A", reason))
            link.snapshot()
            link.advance(5)
    assert caught.value.reason == "stall"


def test_a_standstill_of_more_than_a_minute_ago_excuses_nothing() -> None:
    link = synced("A")
    link.acked(link.resync("A", "stall"))
    link.snapshot()
    link.advance(50)
    for _ in range(6):
        link.advance(2)
        resync_fully(link)
    with pytest.raises(SyncFailed) as caught:
        link.resync("A", "gap")
    assert caught.value.reason == "unstable"


@pytest.mark.parametrize("more_ns, allowed", [(0, False), (1, True)])
def test_a_minute_is_a_whole_one(more_ns: int, allowed: bool) -> None:
    link = synced("A")
    first_ns = link.now_ns
    for _ in range(6):
        resync_fully(link)
        link.advance(2)
    link.now_ns = first_ns + 60 * NS + more_ns
    if allowed:
        assert ops(link.resync()) == [("unsubscribe", ["A"])]
    else:
        with pytest.raises(SyncFailed):
            link.resync()


def test_a_minute_later_the_budget_is_whole_again() -> None:
    link = synced("A")
    for _ in range(12):
        resync_fully(link)
        link.advance(10.1)
    assert link.protocol.statistics().resyncs == 12


@given(st.lists(st.floats(0.0, 8.0), min_size=1, max_size=60), st.integers(1, 6))
def test_resyncs_keep_their_distance_and_their_budget(waits: list[float], per_minute: int) -> None:
    policy = LinkPolicy(resyncs_per_minute=per_minute, resync_interval_s=2.0)
    link = synced("A", policy=policy)
    sent_ns: list[int] = []
    try:
        for wait in waits:
            frames = link.resync()
            frames += link.advance(wait)
            for frame in frames:
                if frame["op"] == "unsubscribe":
                    sent_ns.append(link.now_ns)
                    link.acked([frame])
                    link.snapshot()
    except SyncFailed:
        assert len(sent_ns) >= per_minute
    # `now` is where the step ended, so gaps are exact only up to one step; the protocol's own record is exact
    record = [sent for sent, _ in link.protocol._by_instrument[linear("A")].resyncs]
    assert all(later - earlier >= 2 * NS for earlier, later in itertools.pairwise(record))
    for index, when in enumerate(record):
        assert sum(when <= other <= when + 60 * NS for other in record[index:]) <= per_minute


# --- many resyncs at once, as after a standstill


def test_resyncs_asked_for_together_share_requests() -> None:
    symbols = [f"S{number}" for number in range(25)]
    link = synced(*symbols)
    leaving = link.resync_all(*symbols)
    assert [(op, len(names)) for op, names in ops(leaving)] == [("unsubscribe", size) for size in (10, 10, 5)]
    assert {event.reason for event in link.take_events() if isinstance(event, Syncing)} == {"stall"}
    asked = link.acked(leaving)
    assert [(op, len(names)) for op, names in ops(asked)] == [("subscribe", size) for size in (10, 10, 5)]
    link.acked(asked)
    for symbol in symbols:
        link.snapshot(symbol)
    assert {op for op, _ in ops(link.advance(300))} == {"ping"}
    assert link.protocol.statistics().resyncs == 25


def test_a_topic_asked_for_twice_is_left_once() -> None:
    link = synced("A", "B")
    assert ops(link.resync_all("A", "B", "A")) == [("unsubscribe", ["A", "B"])]


def test_what_is_under_way_does_not_keep_the_others_from_leaving_together() -> None:
    link = synced("A", "B", "C")
    link.resync("B")
    assert ops(link.resync_all("A", "B", "C")) == [("unsubscribe", ["A", "C"])]


def test_resyncs_that_waited_for_their_turn_leave_together() -> None:
    link = synced("A", "B")
    link.acked(link.acked(link.resync_all("A", "B")))
    link.snapshot("A")
    link.snapshot("B")
    link.advance(0.5)
    assert link.resync_all("A", "B") == []
    assert ops(link.advance(0.6)) == [("unsubscribe", ["A", "B"])]


def test_topics_without_a_snapshot_leave_together() -> None:
    link = Link("A", "B", "C")
    link.snapshot("B")
    assert ops(link.advance(10)) == [("unsubscribe", ["A", "C"])]


def test_a_lost_ack_of_many_is_one_ack_and_all_go_on() -> None:
    link = synced("A", "B")
    link.resync_all("A", "B")
    assert ops(link.advance(5)) == [("subscribe", ["A", "B"])]
    assert link.protocol.statistics().acks_missing == 1


def test_of_a_refused_batch_each_topic_leaves_alone() -> None:
    """Else the subscribe that follows would be refused for all of them, and none of them is fed meanwhile."""
    link = synced("A", "B")
    (leaving,) = link.resync_all("A", "B")
    singles = link.receive(refusal("error:no", op="unsubscribe", req_id=leaving["req_id"]))
    assert ops(singles) == [("unsubscribe", ["A"]), ("unsubscribe", ["B"])]
    assert ops(link.receive(ack(singles[0]))) == [("subscribe", ["A"])]
    late = link.receive(refusal("error:no", op="unsubscribe", req_id=singles[1]["req_id"]))
    assert ops(late) == [("subscribe", ["B"])]  # refused or not: subscribing again tells
    assert link.protocol.statistics().acks_missing == 0


# --- no snapshot


def test_no_snapshot_is_resynced_once_and_then_ends_the_link() -> None:
    link = Link("A", "B")
    link.acked(link.requests)
    link.snapshot("B")
    link.take_events()
    assert link.advance(9.9) == []
    leaving = link.advance(0.2)
    assert ops(leaving) == [("unsubscribe", ["A"])]
    assert [event.reason for event in link.take_events() if isinstance(event, Syncing)] == ["no_snapshot"]
    assert ops(link.acked(leaving)) == [("subscribe", ["A"])]
    with pytest.raises(SyncFailed) as caught:
        link.advance(11)
    assert caught.value.reason == "snapshot"


def test_a_snapshot_after_the_second_asking_makes_a_fresh_start() -> None:
    link = Link("A")
    for _ in range(3):
        leaving = link.advance(10)
        assert ops(leaving)[-1] == ("unsubscribe", ["A"])
        link.acked(leaving[-1:])
        link.snapshot()
        link.advance(1)
        link.acked(link.resync())


def test_a_resync_for_want_of_a_snapshot_waits_for_its_turn_too() -> None:
    """The deadline is met once: its turn comes later, and is no second snapshot that did not come."""
    link = synced("A", policy=LinkPolicy(snapshot_timeout_s=0.5, resync_interval_s=2, ack_timeout_s=0.1))
    link.acked(link.resync())
    assert link.advance(1.9) == []
    assert ops(link.advance(0.2))[:1] == [("unsubscribe", ["A"])]


def test_a_silent_topic_among_busy_ones_does_not_take_the_link_from_them() -> None:
    link = synced("A", "B")
    link.acked(link.resync("A", "silent"))
    link.advance(9)
    link.receive(book(link.topic("B"), 11))
    link.take_events()
    assert {op for op, _ in ops(link.advance(60))} == {"ping"}
    assert link.take_events() == []


def test_a_probe_that_brought_nothing_is_repeated_after_a_minute() -> None:
    """Its book may have been believed when it went out, and then needs the snapshot."""
    link = synced("A", "B")
    link.acked(link.resync("A", "silent"))
    for _ in range(3):
        link.advance(9)
        link.receive(book(link.topic("B"), 11))
        assert {op for op, _ in ops(link.advance(60.9))} == {"ping"}
        asked = [frame for frame in link.advance(1) if frame["op"] != "ping"]
        assert ops(asked) == [("unsubscribe", ["A"])]
        link.acked(asked)
    link.receive(book(link.topic("A"), 20, snapshot=True))
    assert {op for op, _ in ops(link.advance(300))} == {"ping"}, "it has what it waited for"


def test_a_silent_topic_alone_is_resynced_once_more_and_then_ends_the_link() -> None:
    link = synced("A", "B")
    link.acked(link.resync("A", "silent"))  # the last word of B came in the same moment: too early to count
    assert ops([frame for frame in link.advance(10) if frame["op"] != "ping"]) == [("unsubscribe", ["A"])]
    with pytest.raises(SyncFailed) as caught:
        link.advance(20)
    assert caught.value.reason == "snapshot"


def test_resyncs_are_counted_over_all_connections_of_a_link() -> None:
    past: defaultdict[InstrumentId, Resyncs] = defaultdict(deque)
    link = synced("A", "B", resyncs=past)
    for _ in range(6):
        resync_fully(link)
        link.advance(1)
    later = synced("A", "B", resyncs=past, at_s=link.now_ns / NS + 1)
    assert ops(later.resync("B")) == [("unsubscribe", ["B"])]
    with pytest.raises(SyncFailed):
        later.resync("A")
    much_later = synced("A", "B", resyncs=past, at_s=link.now_ns / NS + 61)
    assert ops(much_later.resync("A")) == [("unsubscribe", ["A"])]


def test_a_resync_right_after_the_last_connections_waits_for_its_turn() -> None:
    past: defaultdict[InstrumentId, Resyncs] = defaultdict(deque)
    link = synced("A", resyncs=past)
    link.resync()
    later = synced("A", resyncs=past, at_s=link.now_ns / NS + 0.4)
    assert later.resync() == []
    assert ops(later.advance(0.7)) == [("unsubscribe", ["A"])]


def test_a_delta_is_no_snapshot() -> None:
    link = Link("A")
    link.receive(book(link.topic(), 11))
    assert ops(link.advance(10)) == [("unsubscribe", ["A"])]


# --- heartbeat


def test_a_ping_every_twenty_seconds() -> None:
    link = synced("A")
    began = link.now_ns
    times = []
    for _ in range(5):
        link.advance((link.protocol.next_deadline_ns() - link.now_ns) / NS)
        times.append((link.now_ns - began) / NS)
    assert times == [20, 40, 60, 80, 100]
    pings = [frame for frame in link.requests if frame["op"] == "ping"]
    assert len(pings) == 5
    assert len({frame["req_id"] for frame in pings}) == 5
    assert link.protocol.statistics().pongs == 5


PONGS = {
    "linear": {"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "h7", "op": "ping"},
    "linear without an id": {"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "", "op": "ping"},
    "spot without an id": {"success": True, "ret_msg": "pong", "conn_id": "c", "op": "ping"},
    "option": {"args": ["1790000000456"], "op": "pong"},
    "private": {"req_id": "h7", "op": "pong", "args": ["1790000000456"], "conn_id": "c"},
    "trade": {"retCode": 0, "retMsg": "OK", "op": "pong", "data": ["1790000000456"], "connId": "c"},
    "numeric id": {"success": True, "ret_msg": "pong", "req_id": 50869, "op": "ping"},
}


@pytest.mark.parametrize("dialect", PONGS)
def test_every_dialect_of_pong_is_heard(dialect: str) -> None:
    link = synced("A")
    link.now_ns += 20 * NS
    link.protocol.on_time(link.now_ns)
    link.receive(encode(PONGS[dialect]))
    link.now_ns += 10 * NS
    link.protocol.on_time(link.now_ns)
    assert link.protocol.statistics().pongs == 1
    assert link.protocol.statistics().unknown == 0


def test_no_pong_in_ten_seconds_is_a_loss_though_data_flows() -> None:
    link = synced("A")
    link.now_ns += 20 * NS
    link.protocol.on_time(link.now_ns)
    for u in range(11, 21):
        link.now_ns += NS - 1
        link.receive(book(link.topic(), u))
        link.protocol.on_time(link.now_ns)
    link.now_ns += 10
    with pytest.raises(HeartbeatLost) as caught:
        link.protocol.on_time(link.now_ns)
    assert (caught.value.reason, str(caught.value)) == ("pong", "pong: no pong in 10 s")


def test_pings_more_often_than_pongs_are_due_do_not_put_off_the_verdict() -> None:
    link = synced("A", policy=LinkPolicy(ping_interval_s=2, pong_timeout_s=10))
    pings = []
    for _ in range(11):
        link.now_ns += NS
        link.protocol.on_time(link.now_ns)
        pings += link._collect()
    assert len(pings) == 1
    link.now_ns += NS
    with pytest.raises(HeartbeatLost):
        link.protocol.on_time(link.now_ns)


def test_no_frame_at_all_in_thirty_seconds_is_a_loss() -> None:
    policy = LinkPolicy(ping_interval_s=60)
    link = synced("A", policy=policy)
    assert link.protocol.next_deadline_ns() == link.now_ns + 30 * NS
    link.now_ns += 30 * NS
    with pytest.raises(HeartbeatLost) as caught:
        link.protocol.on_time(link.now_ns)
    assert caught.value.reason == "idle"


def test_a_quiet_book_does_not_lose_a_link_that_answers_pings() -> None:
    assert {op for op, _ in ops(synced("A").advance(3600))} == {"ping"}


# --- bad messages

BAD = {
    "no JSON": (b'{"topic":"orderbook.50.A","type":"delta",', "json"),
    "no data": (b'{"topic":"orderbook.50.A","type":"delta","ts":1}', "shape"),
    "a price that is none": (book("orderbook.50.A", 11, bids=[("nan", "1")]), "number"),
    "foreign symbol": (book("orderbook.50.A", 11, symbol="B"), "symbol"),
}


def test_why_a_message_is_refused_is_told() -> None:
    told: list[tuple[str, str]] = []
    protocol = FeedProtocol(
        "linear", Category.LINEAR, [(linear("A"), 50)], POLICY, lambda error: told.append((error.reason, error.topic))
    )
    protocol.opened(0)
    raws = [b"nonsense", book("orderbook.50.A", 9, snapshot=True), *(raw for raw, _ in BAD.values())]
    protocol.receive(raws, 5, 0)
    assert told == [("json", ""), *((reason, "orderbook.50.A") for _, reason in BAD.values())]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_message_of_a_book_makes_the_book_distrusted(case: str) -> None:
    raw, reason = BAD[case]
    link = synced("A", "B")
    link.receive(raw)
    assert link.take_events() == [Distrust(instrument=linear("A"), reason=reason, mono_ns=link.now_ns)]
    assert link.protocol.statistics().refused == {reason: 1}


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"[" * 5000, b'{"topic":"orderbook.50.Z"', b"\xff\xfe", b"null"])
def test_a_bad_message_of_nobody_is_counted(raw: bytes) -> None:
    link = synced("A")
    link.receive(raw)
    assert link.take_events() == []
    assert sum(link.protocol.statistics().refused.values()) == 1


@given(st.lists(st.binary(max_size=80) | st.sampled_from([case[0] for case in BAD.values()]), max_size=6))
def test_receive_raises_nothing(messages: list[bytes]) -> None:
    link = synced("A")
    link.receive(*messages)
    assert link.protocol.statistics().frames == len(messages) + 2


# --- our own stalls


def test_a_stall_of_ours_is_not_held_against_the_peer() -> None:
    """We stood still from before the pong was due until long after: the peer gets its whole time again."""
    link = synced("A", "B")
    link.acked(link.resync("B"))  # its snapshot is awaited
    link.advance(0)
    link.now_ns += 20 * NS
    with pytest.raises(HeartbeatLost):
        _stalled(link, forgiven=False)
    link = synced("A", "B")
    link.acked(link.resync("B"))
    _stalled(link, forgiven=True)
    for second in range(9):
        link.now_ns += NS
        link.protocol.on_time(link.now_ns)
        assert link.protocol.statistics().acks_missing == (second >= 4)
    link.receive(encode(PONGS["linear"]), book(link.topic("B"), 30, snapshot=True))
    assert {op for op, _ in ops(link.advance(100))} == {"ping"}


def _stalled(link: Link, *, forgiven: bool) -> None:
    link.now_ns += 3600 * NS
    if forgiven:
        link.protocol.forgive(link.now_ns)
    link.events += link.protocol.on_time(link.now_ns)
    assert ops(link._collect()) == [("ping", [])]


def test_after_a_stall_a_dead_peer_is_still_found() -> None:
    link = synced("A")
    link.now_ns += 3600 * NS
    link.receive(book(link.topic(), 11))  # the reader may run before the stall is noticed
    link.protocol.forgive(link.now_ns)
    link.protocol.on_time(link.now_ns)
    assert ops(link._collect()) == [("ping", [])]
    link.now_ns += 10 * NS
    with pytest.raises(HeartbeatLost):
        link.protocol.on_time(link.now_ns)


# --- sharing books out


def test_one_link_per_category_in_the_given_order() -> None:
    keys = [
        (linear("A"), 50),
        (InstrumentId(Category.SPOT, "A"), 50),
        (linear("B"), 200),
        (InstrumentId(Category.INVERSE, "C"), 1),
    ]
    assert plan_links(keys, POLICY) == [[keys[0], keys[2]], [keys[1]], [keys[3]]]
    assert plan_links([], POLICY) == []


def args_chars(books: Sequence[tuple[InstrumentId, int]]) -> int:
    """Length of the `args` array of one connection, as Bybit counts it."""
    return len(json.dumps([f"orderbook.{depth}.{key.symbol}" for key, depth in books], separators=(",", ":")))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_link_is_filled_to_the_last_character(count: int) -> None:
    books = [(linear(f"S{number}"), 50) for number in range(count + 1)]
    full = args_chars(books[:count])
    assert [len(link) for link in plan_links(books, LinkPolicy(max_args_chars=full))] == [count, 1]
    assert [len(link) for link in plan_links(books[:count], LinkPolicy(max_args_chars=full))] == [count]
    if count > 1:
        assert len(plan_links(books[:count], LinkPolicy(max_args_chars=full - 1))) == 2


@given(
    st.lists(
        st.tuples(
            st.builds(
                InstrumentId,
                st.sampled_from(Category),
                st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=30),
            ),
            st.sampled_from([1, 50, 200, 1000]),
        ),
        max_size=60,
    ),
    st.integers(1, 12),
    st.integers(60, 400),
)
def test_links_stay_within_their_limits(books: list[tuple[InstrumentId, int]], max_topics: int, max_chars: int) -> None:
    links = plan_links(books, LinkPolicy(max_topics=max_topics, max_args_chars=max_chars))
    assert sorted(book for link in links for book in link) == sorted(books)
    for link in links:
        assert len({key.category for key, _ in link}) == 1
        assert 1 <= len(link) <= max_topics
        assert args_chars(link) <= max_chars
    for category in Category:
        own = [link for link in links if link[0][0].category is category]
        for link, following in itertools.pairwise(own):
            longer = [*link, following[0]]
            assert len(longer) > max_topics or args_chars(longer) > max_chars, "another link was opened too soon"
        together = [book for link in own for book in link]
        assert together == [book for book in books if book[0].category is category]


# --- as mutation testing found it unwatched


def test_a_new_protocol_knows_nothing_yet() -> None:
    protocol = FeedProtocol("linear", Category.LINEAR, [(linear("A"), 50)], POLICY)
    assert (protocol.category, protocol.first_data_ns, protocol.last_data_ns) == (Category.LINEAR, None, None)


def test_when_books_were_fed_is_known() -> None:
    link = synced("A")
    began = link.now_ns
    link.now_ns += 3 * NS
    link.receive(book(link.topic(), 11))
    link.now_ns += 3 * NS
    link.receive(b"junk")
    assert (link.protocol.first_data_ns, link.protocol.last_data_ns) == (began, began + 3 * NS)


def test_health_is_the_time_from_the_first_data_to_the_last() -> None:
    link = Link("A")
    assert link.protocol.healthy_s == 0
    link.now_ns += 5 * NS
    link.receive(book(link.topic(), 9))  # of a book that nothing is known of yet
    assert link.protocol.healthy_s == 0
    link.snapshot()
    assert link.protocol.healthy_s == 0
    link.now_ns += 7 * NS
    link.receive(book(link.topic(), 11))
    link.now_ns += 3 * NS
    assert link.protocol.healthy_s == 7


def test_a_resync_asked_for_while_one_is_under_way_leaves_nothing_behind() -> None:
    link = synced("A")
    leaving = link.resync()
    assert link.resync() == []
    link.acked(leaving)
    link.snapshot()
    assert {op for op, _ in ops(link.advance(30))} == {"ping"}
    assert link.protocol.statistics().resyncs == 1


def test_being_called_early_changes_nothing() -> None:
    link = synced("A")
    resync_fully(link)
    assert link.resync() == []  # waits for its turn
    link.now_ns += NS // 2
    assert link.protocol.on_time(link.now_ns) == []
    assert link._collect() == []


def test_a_pong_that_was_due_in_a_stall_of_ours_gets_its_whole_time_again() -> None:
    link = synced("A")
    link.now_ns += 20 * NS
    link.protocol.on_time(link.now_ns)  # the ping
    link.now_ns += 3600 * NS
    link.protocol.forgive(link.now_ns)
    assert link.protocol.on_time(link.now_ns) == []
    link.now_ns += 10 * NS
    with pytest.raises(HeartbeatLost):
        link.protocol.on_time(link.now_ns)


def test_a_snapshot_is_not_waited_for_while_its_topic_is_being_left() -> None:
    link = Link("A")
    link.advance(9)
    leaving = link.resync("A", "shape")
    link.advance(2)
    link.acked(leaving)
    assert ops(link.advance(10))[-1:] == [("unsubscribe", ["A"])], "the first that did not come, not the second"
