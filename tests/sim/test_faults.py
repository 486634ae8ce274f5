"""Faults without sockets: how they are written, when they happen, what they make of messages, the control port."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.config.tree import Settings
from orderflow.core.errors import ConfigError, WireError
from orderflow.core.types import BookUpdate, Category, InstrumentId
from orderflow.sim import mangle
from orderflow.sim.chaos import RECIPES, Chaos, watchable
from orderflow.sim.control import Control
from orderflow.sim.faultlist import CORRUPTIONS, KINDS, Armed, parse_fault
from orderflow.sim.faultplan import FaultPlan
from orderflow.sim.faults import Mishap, Refusal
from orderflow.sim.venue import Attach, Send, Wait, wire
from tests import test_faults_live

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.sim.rest import Response

TOPIC = "orderbook.50.BTCUSDT"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def frame(u: int, *, kind: str = "delta", bids: Any = (), asks: Any = ()) -> bytes:
    data = {"s": "BTCUSDT", "b": [list(it) for it in bids], "a": [list(it) for it in asks], "u": u, "seq": 900 + u}
    return wire({"topic": TOPIC, "type": kind, "ts": 1790000000130, "data": data, "cts": 1790000000126})


SNAPSHOT = frame(100, kind="snapshot", bids=[("9.9", "1"), ("9.8", "2")], asks=[("10.1", "1"), ("10.2", "3")])


# --- how faults are written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_is_read_as_it_is_written(name: str) -> None:
    parts = [f"{key}={value}" for key, value in KINDS[name].parameters.items() if value != ""]
    fault = parse_fault(f"{name}:{','.join([*parts, 'category=spot', 'after=1.5', 'n=3', 'seed=9'])}")
    assert parse_fault(str(fault)) == fault
    assert (fault.category, fault.after_s, fault.n, fault.seed) == ("spot", 1.5, 3, 9)


@pytest.mark.parametrize("spec", ["drop:n=0", "drop:p=0", "drop:for=0", "drop:p=1", "drop:after=0,every=0,skip=0"])
def test_a_limit_of_nothing_is_a_limit(spec: str) -> None:
    fault = parse_fault(spec)
    assert parse_fault(str(fault)) == fault
    assert str(parse_fault("drop:n=0,for=0")) == "drop:n=0,for=0"


@pytest.mark.parametrize(
    "spec, word",
    [
        ("dorp", "drop"),
        ("", "there are"),
        ("drop:cuont=1", "count"),
        ("drop:count", "key=value"),
        ("drop:count=1.5", "whole"),
        ("drop:count=nan", "number"),
        ("drop:p=2", "probability"),
        ("drop:p=-1", "number"),
        ("cross:seconds=nan", "number"),
        ("cross:seconds=inf", "number"),
        ("corrupt:how=badly", "nesting"),
        ("drop:\x1b[31m=1", "\\x1b"),
    ],
)
def test_bad_specs_are_refused_with_what_was_expected(spec: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fault(spec)
    assert word in str(caught.value)
    assert "\x1b" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for spec in (text, f"drop:{text}", f"close:{text}"):
        try:
            fault = parse_fault(spec)
        except ConfigError:
            continue
        assert parse_fault(str(fault)) == fault


# --- when they happen -----------------------------------------------------------------------------------------------


def fired(spec: str, times: list[float]) -> list[float]:
    armed = Armed(1, parse_fault(spec), 10.0, random.Random(1))
    return [at for at in times if armed.fires(at)]


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("drop", [10]),  # once, when nothing else is said
        ("drop:n=3", [10, 11, 12]),
        ("drop:skip=2,n=2", [12, 13]),
        ("drop:after=3,n=2", [13, 14]),
        ("drop:for=2", [10, 11]),
        ("drop:every=4", [10, 14, 18]),
        ("drop:p=0", []),
        ("drop:after=5,for=3,every=2", [15, 17]),
        ("mute:after=8", [18, 19]),  # lasting kinds go on
    ],
)
def test_schedules(spec: str, expected: list[int]) -> None:
    assert fired(spec, [float(at) for at in range(10, 20)]) == expected


def test_probability_is_drawn_from_the_seed() -> None:
    times = [10 + at / 100 for at in range(2000)]
    assert 500 < len(fired("drop:p=0.3", times)) < 700
    assert fired("drop:p=0.3", times) == fired("drop:p=0.3", times)


def test_scope() -> None:
    fault = parse_fault("drop:category=linear,topic=orderbook.*.BTCUSDT,connection=abc*")
    assert fault.covers("linear", TOPIC, "abcdef")
    assert not fault.covers("spot", TOPIC, "abcdef")
    assert not fault.covers("linear", "orderbook.50.ETHUSDT", "abcdef")
    assert not fault.covers("linear", TOPIC, "xyz")


# --- what they make of messages -------------------------------------------------------------------------------------


class FakePeer:
    """A connected client that writes down what it gets."""

    connection_id = "peer-1"
    endpoint = "linear"
    opened_s = 0.0

    def __init__(self) -> None:
        self.topics = {TOPIC: None}
        self.sent: list[bytes] = []
        self.acts: list[str] = []

    def deliver(self, topic: str, data: bytes) -> None:
        self.sent.append(data)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **more: self.acts.append(name)


class FakeVenue:
    def __init__(self, *peers: FakePeer) -> None:
        self.peers = list(peers)
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def clients(self) -> list[FakePeer]:
        return self.peers

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        return SNAPSHOT

    def note(self, connection_id: str, event: str, **facts: Any) -> None:
        self.notes.append((event, facts))


class Stage:
    """A plan at work on one topic of one client, time under the test's control."""

    def __init__(self, plan: FaultPlan, peer: FakePeer, venue: FakeVenue) -> None:
        self.plan, self.peer, self.venue = plan, peer, venue

    def push(self, raw: bytes) -> list[dict[str, Any]]:
        return [json.loads(told) for told in self.plan.messages(self.peer, TOPIC, [raw])]

    def us(self, raw: bytes) -> list[int]:
        return [message["data"]["u"] for message in self.push(raw)]


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    plan, peer = FaultPlan(), FakePeer()
    venue = FakeVenue(peer)
    nursery.start_soon(plan.run, venue)
    await trio.testing.wait_all_tasks_blocked()
    return Stage(plan, peer, venue)


async def test_without_faults_the_plan_is_out_of_the_way(stage: Stage) -> None:
    assert not stage.plan.active
    stage.plan.add(parse_fault("drop:n=1"))
    assert stage.plan.active
    stage.plan.clear()
    assert not stage.plan.active


async def test_what_lasts_is_noted_once_for_each_client_and_topic(stage: Stage) -> None:
    stage.plan.add(parse_fault("mute"))
    other = FakePeer()
    other.connection_id = "peer-2"
    for _ in range(3):
        assert stage.push(frame(101)) == []
        assert stage.plan.messages(other, TOPIC, [frame(101)]) == []
        assert stage.plan.messages(other, "tickers.BTCUSDT", [frame(101)]) == []
    noted = [facts["topic"] for event, facts in stage.venue.notes if event == "fault"]
    assert noted == [TOPIC, TOPIC, "tickers.BTCUSDT"]


async def test_a_lost_change_is_never_repeated(stage: Stage) -> None:
    stage.push(SNAPSHOT)
    stage.plan.add(parse_fault("drop"))
    assert stage.push(frame(101, bids=[("9.8", "5")])) == []
    (after,) = stage.push(frame(102, bids=[("9.8", "0"), ("9.7", "1")], asks=[("9.8", "1")]))
    assert (after["data"]["u"], after["data"]["b"], after["data"]["a"]) == (102, [["9.7", "1"]], [["9.8", "1"]])
    assert ("gap", {"topic": TOPIC, "lost": 1}) in stage.venue.notes
    (whole,) = stage.push(SNAPSHOT)
    assert whole == json.loads(SNAPSHOT)
    assert stage.push(frame(101, bids=[("9.8", "7")]))[0]["data"]["b"] == [["9.8", "7"]]


@pytest.mark.parametrize(
    "spec, numbers",
    [
        ("drop:count=2", [[], [], [103], [104]]),
        ("duplicate", [[101, 101], [102], [103], [104]]),
        ("late:count=2", [[101], [102], [103, 101], [104]]),
        ("reorder", [[], [102, 101], [103], [104]]),
        ("unknown-delete", [[101, 102], [103], [104], [105]]),
        ("restart-delta", [[1], [102], [103], [104]]),
        ("resnapshot", [[100], [102], [103], [104]]),  # the fake venue's snapshot stays at 100
        ("restart", [[1], [3], [4], [5]]),
        ("cross:seconds=9", [[101, 102], [103], [104], [105]]),
        ("mute:for=0", [[101], [102], [103], [104]]),
    ],
)
async def test_numbering(stage: Stage, spec: str, numbers: list[list[int]]) -> None:
    stage.push(SNAPSHOT)
    stage.plan.add(parse_fault(spec))
    assert [stage.us(frame(u, bids=[("9.9", str(u))])) for u in (101, 102, 103, 104)] == numbers


async def test_a_crossed_book_is_undone_in_time(autojump_clock: trio.testing.MockClock, stage: Stage) -> None:
    stage.push(SNAPSHOT)
    stage.plan.add(parse_fault("cross:seconds=2"))
    _, crossing = stage.push(frame(101))
    assert max(float(price) for price, _ in crossing["data"]["b"]) > 10.1
    assert stage.plan.planted("linear", TOPIC)
    await trio.sleep(2.1)
    (sent,) = stage.peer.sent
    undone = json.loads(sent[2:] if sent[1] < 126 else sent[4:])
    assert dict(undone["data"]["b"])[crossing["data"]["b"][0][0]] == "0"
    assert undone["data"]["u"] == 103
    await trio.sleep(1)
    assert not stage.plan.planted("linear", TOPIC)
    assert stage.us(frame(102)) == [104]


async def test_a_flood_never_fills_the_hole_of_a_lost_message(
    autojump_clock: trio.testing.MockClock, stage: Stage
) -> None:
    stage.push(SNAPSHOT)
    stage.plan.add(parse_fault("flood:rate=100,seconds=1"))
    stage.push(frame(101))
    await trio.sleep(0.5)
    flooded = len(stage.peer.sent)
    assert flooded > 10
    stage.plan.add(parse_fault("drop"))
    assert stage.us(frame(102)) == []
    await trio.sleep(1)
    assert len(stage.peer.sent) == flooded
    assert stage.us(frame(103)) == [103 + flooded]


@pytest.mark.parametrize("how", CORRUPTIONS)
def test_no_corruption_passes_the_codec(how: str) -> None:
    table = TopicTable(Category.LINEAR, learn=False)
    table.add_book(InstrumentId(Category.LINEAR, "BTCUSDT"), 50)
    codec = FeedCodec(table)
    good = frame(101, bids=[("9.8", "5")], asks=[("10.1", "0")])
    assert isinstance(codec.decode(good, 1, 1), BookUpdate)
    for seed in range(20):
        raw = mangle.corrupt(good, how, random.Random(seed))
        try:
            assert not isinstance(codec.decode(raw, 1, 1), BookUpdate)
        except WireError:
            pass


async def test_replies(stage: Stage) -> None:
    ack = Send(wire({"success": True, "ret_msg": "", "conn_id": "c", "req_id": "s1", "op": "subscribe"}))
    pong = Send(wire({"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "", "op": "ping"}))
    answer = [Attach(TOPIC), ack]
    for spec, expected in [
        ("ack-lost", [Attach(TOPIC)]),
        ("ack-late:delay=3", [Attach(TOPIC), Wait(3.0), ack]),
        ("pong-lost", answer),
    ]:
        stage.plan.clear()
        stage.plan.add(parse_fault(spec))
        assert list(stage.plan.actions(stage.peer, answer)) == expected
    assert list(stage.plan.actions(stage.peer, [pong])) == []
    stage.plan.clear()
    stage.plan.add(parse_fault("ack-foreign"))
    (_, foreign) = stage.plan.actions(stage.peer, answer)
    assert isinstance(foreign, Send)
    assert json.loads(foreign.text)["req_id"] == "zzs1"


async def test_refused_topics_never_reach_the_venue(stage: Stage) -> None:
    stage.plan.add(parse_fault(f"refuse:topic={TOPIC},text=no%1b"))
    text = json.dumps({"op": "subscribe", "req_id": "s1", "args": ["orderbook.50.ETHUSDT", TOPIC]})
    (refusal,) = stage.plan.request(stage.peer, text) or ()
    assert isinstance(refusal, Send)
    assert json.loads(refusal.text) | {"conn_id": ""} == {
        "success": False,
        "ret_msg": "no\x1b",
        "conn_id": "",
        "req_id": "s1",
        "op": "subscribe",
    }
    assert stage.plan.request(stage.peer, text.replace(TOPIC, "tickers.BTCUSDT")) is None
    assert stage.plan.request(stage.peer, text.replace("subscribe", "unsubscribe")) is None


async def test_openings_and_rest_have_scopes_of_their_own(stage: Stage) -> None:
    stage.plan.add(parse_fault("http:category=spot,status=429,retry_after=30"))
    stage.plan.add(parse_fault("rest-slow:topic=/v5/market/time,delay=2"))
    assert stage.plan.refuse("/v5/public/spot") == Refusal(429, (("Retry-After", "30"),))
    assert stage.plan.refuse("/v5/public/linear") is None
    assert stage.plan.refuse("/v5/market/time") == Mishap("delay", 2.0)
    assert stage.plan.refuse("/v5/market/kline?symbol=X") is None


@pytest.mark.parametrize(
    "spec, act",
    [
        ("reset", "reset"),
        ("eof", "cut"),
        ("close:code=1012", "say_close"),
        ("half-close", "half_close"),
        ("torn", "tear"),
        ("stall:seconds=3", "freeze"),
        ("kick:how=close", "say_close"),
    ],
)
async def test_links_are_hit_in_time(autojump_clock: trio.testing.MockClock, stage: Stage, spec: str, act: str) -> None:
    stage.plan.add(parse_fault(f"{spec}{',' if ':' in spec else ':'}after=1,n=1,category=linear"))
    stage.plan.add(parse_fault("reset:category=spot"))
    await trio.sleep(0.9)
    assert stage.peer.acts == []
    await trio.sleep(0.2)
    assert stage.peer.acts == [act]
    await trio.sleep(3)
    assert stage.peer.acts == [act, *(["thaw"] if act == "freeze" else [])]


async def test_clearing_thaws(autojump_clock: trio.testing.MockClock, stage: Stage) -> None:
    stage.plan.add(parse_fault("black-hole:seconds=1000"))
    await trio.sleep(0.1)
    stage.plan.clear()
    assert stage.peer.acts == ["freeze", "thaw"]


async def test_shifted_clock_moves_every_timestamp(stage: Stage) -> None:
    stage.plan.add(parse_fault("clock:offset=-5"))
    assert stage.plan.clock_offset_ms() == -5000
    (told,) = stage.push(SNAPSHOT)
    assert (told["ts"], told["cts"]) == (1789999995130, 1789999995126)


# --- random faults --------------------------------------------------------------------------------------------------


def test_same_seed_same_faults() -> None:
    def drawn(seed: int) -> list[str]:
        chaos = Chaos(seed, 1.0, [("linear", TOPIC), ("spot", TOPIC)])
        return [str(chaos.draw().fault) for _ in range(200)]

    assert drawn(3) == drawn(3) != drawn(4)


def test_every_recipe_is_a_fault_that_ends() -> None:
    for recipe in RECIPES:
        for _ in range(3):
            fault = Chaos(1, 1.0, [("linear", TOPIC)], [recipe]).draw().fault
            assert fault.for_s < 61, recipe  # also where nobody is connected
    assert len(watchable()) >= 8


# --- the control port -----------------------------------------------------------------------------------------------


class FakeServer:
    makes_certificates = False
    paused = False

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan

    def true_book(self, instrument: InstrumentId, depth: int) -> Any:
        raise KeyError(instrument)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def statistics(self) -> dict[str, int]:
        return {"clients": 0}


def ask(control: Control, method: str, path: str, body: str = "", **headers: str) -> tuple[int, Any]:
    given = [("Host", "127.0.0.1:9000"), *headers.items()]
    response: Response = control.respond(method, f"/sim/{path}", given, body.encode(), local=True)
    return response.status, json.loads(response.body)


async def test_control_port(stage: Stage) -> None:
    server = FakeServer(stage.plan)
    control = Control(server)
    assert ask(control, "POST", "faults", "drop:p=0.5\nreset:after=9\n")[1] == {
        "armed": [{"number": 1, "fault": "drop:p=0.5"}, {"number": 2, "fault": "reset:n=1,after=9"}]
    }
    assert ask(control, "POST", "faults", '["mute"]')[0] == 200
    assert [it["state"] for it in ask(control, "GET", "faults")[1]["faults"]] == ["armed"] * 3
    assert ask(control, "DELETE", "faults/2")[0] == 200
    assert ask(control, "DELETE", "faults/2")[0] == 404
    assert [it["state"] for it in ask(control, "DELETE", "faults")[1]["faults"]] == ["over"] * 3
    assert ask(control, "GET", "kinds")[1].keys() == KINDS.keys()
    assert ask(control, "POST", "pause")[1] == {"paused": True}
    assert server.paused
    assert ask(control, "POST", "resume")[1] == {"paused": False}
    assert ask(control, "GET", "statistics")[1] == {"clients": 0, "paused": False}
    assert ask(control, "GET", "book?category=linear&symbol=BTCUSDT")[0] == 404


@pytest.mark.parametrize(
    "method, path, body, status",
    [
        ("POST", "faults", "", 400),
        ("POST", "faults", "dorp", 400),
        ("POST", "faults", "[1", 400),
        ("POST", "faults", "\x00\xff", 400),
        ("GET", "book?category=option&symbol=X", "", 400),
        ("GET", "book?category=linear&symbol=X&depth=1e3", "", 400),
        ("GET", "nothing", "", 404),
        ("PUT", "faults", "", 404),
        ("DELETE", "faults/abc", "", 404),
    ],
)
async def test_bad_requests(stage: Stage, method: str, path: str, body: str, status: int) -> None:
    code, answer = ask(Control(FakeServer(stage.plan)), method, path, body)
    assert (code, list(answer)) == (status, ["error"])


@pytest.mark.parametrize(
    "headers, local, status",
    [
        ([("Host", "localhost:9000")], True, 200),
        ([("host", "[::1]:9000")], True, 200),
        ([("Host", "127.0.0.1:9000")], False, 403),
        ([("Host", "evil.example:9000")], True, 403),
        ([("Host", "127.0.0.1.evil.example")], True, 403),
        ([], True, 403),
        ([("Host", "localhost"), ("Origin", "http://evil.example")], True, 403),
        ([("Host", "localhost"), ("Origin", "null")], True, 403),
    ],
)
async def test_only_this_machine_and_no_web_page(
    stage: Stage, headers: list[tuple[str, str]], local: bool, status: int
) -> None:
    control = Control(FakeServer(stage.plan))
    assert control.respond("GET", "/sim/faults", headers, b"", local=local).status == status


# --- the page -------------------------------------------------------------------------------------------------------


def page_rows() -> dict[str, str]:
    return {
        found[1]: found[0] for found in re.finditer(r"^\| `([a-z][a-z0-9-]*)` \|.*$", PAGE.read_text("utf-8"), re.M)
    }


def test_the_page_tells_of_every_fault() -> None:
    assert page_rows().keys() == KINDS.keys()


@pytest.mark.parametrize("row", test_faults_live.ROWS, ids=lambda row: row.faults)
def test_the_page_says_what_the_tests_see(row: test_faults_live.Row) -> None:
    text = page_rows()[row.faults.partition(" ")[0].partition(":")[0]] if not row.feed or row.loss else ""
    if text and row.loss:
        assert f"`{row.loss}`" in text or "kick" in row.faults or "no-snapshot" in row.faults
    if text and row.state and "no-snapshot" not in row.faults:
        state, reason = row.state
        assert state in text
        assert reason in text


def test_the_page_names_settings_that_exist() -> None:
    tables = {"feed", "retry", "book", "clock", "bybit"}
    for table, name in re.findall(r"`([a-z]+)\.([a-z_]+)`", PAGE.read_text("utf-8")):
        if table in tables:
            struct = next(field.type for field in msgspec.structs.fields(Settings) if field.name == table)
            assert name in {field.name for field in msgspec.structs.fields(struct)}, f"{table}.{name}"
