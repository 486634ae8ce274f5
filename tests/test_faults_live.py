"""Every fault against the real monitor over real sockets: its name, the wire, the book after it.

One row per fault. The assertion is threefold (reliability.md section 4): the state or loss by its name and counter, the
exchange's own log of what the client did, and in the end every book equal to the exchange's, level by level.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import pytest
import trio

from orderflow.core.policy import QueuePolicy
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.faultlist import KINDS, parse_fault
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve
from orderflow.sim.tls import OwnTls
from orderflow.soak.compare import Difference, differences
from orderflow.soak.watched import Watched, open_watched, quick_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from orderflow.app import Monitor
    from orderflow.core.types import Event

pytestmark = pytest.mark.socket

BTC, ETH = InstrumentId(Category.LINEAR, "BTCUSDT"), InstrumentId(Category.LINEAR, "ETHUSDT")
HIT: Final = "topic=orderbook.50.BTCUSDT"
IN_TIME_S: Final = 20.0  # waited for, if it must be: the machine may be busy


class Row(NamedTuple):
    """Args: faults: armed together; state: what the hit book passes through; loss: why the link goes down; counter: of
    the hit book, and the least it grows by; feed: a counter of the link; wire: a word of the exchange's log."""

    faults: str
    state: tuple[str, str] | None = None
    loss: str = ""
    counter: tuple[str, int] | None = None
    feed: str = ""
    wire: tuple[str, Any] | None = None

    @property
    def harmless(self) -> bool:
        return self.state is None and not self.loss


ROWS: Final = (
    # TLS
    Row("certificate:how=name,for=1 reset", loss="tls", wire=("tls", 1)),
    Row("certificate:how=expired,for=1 reset", loss="tls", wire=("tls", 1)),
    Row("certificate:how=early,for=1 reset", loss="tls", wire=("tls", 1)),
    Row("certificate:how=unknown,for=1 reset", loss="tls", wire=("tls", 1)),
    # opening
    Row("http:status=503,n=2 reset", loss="status"),
    Row("http:status=502,n=1 reset", loss="status"),
    Row("http:status=302,location=ws://127.0.0.1:1/,n=1 reset", loss="status"),
    Row("silent:n=1 reset", loss="timeout"),
    Row("drip:n=1 reset", loss="timeout"),
    Row("garbage:n=1 reset", loss="garbage"),
    Row("hangup:n=1 reset", loss="closed"),
    Row("reset-upgrade:n=1 reset", loss="closed"),
    # the link
    Row("reset", loss="reset"),
    Row("eof", loss="eof"),
    Row("close:code=1012", loss="closed", wire=("close", 1012)),
    Row("half-close", loss="eof"),
    Row("goodbye", loss="closed", wire=("close", 1000)),
    Row("torn", loss="reset"),
    Row("stall:seconds=3", loss="pong"),
    Row("black-hole:seconds=3", loss="pong"),
    Row("bad-utf8", loss="protocol", wire=("close", 1007)),
    Row("bad-frame", loss="protocol", wire=("close", 1002)),
    Row("oversized", loss="protocol", wire=("close", 1009)),
    Row("kick:for=1", loss="reset"),
    Row("pings:rate=100,seconds=0.5", wire=("pong", 40)),
    Row("stall:seconds=0.4"),
    # replies
    Row(f"ack-late:delay=0.7,for=2 drop:{HIT}", state=("suspect", "gap"), feed="acks_missing"),
    Row(f"ack-lost:for=2 drop:{HIT}", state=("suspect", "gap"), feed="acks_missing"),
    Row(f"ack-foreign:for=2 drop:{HIT}", state=("suspect", "gap"), feed="unknown"),
    Row(f"refuse:{HIT},n=2,text=%1b[31mno reset", state=("closed", "refused"), feed="topics_refused"),
    Row("pong-late:delay=0.3,for=1"),
    Row("pong-lost:for=2", loss="pong"),
    # topics
    Row(f"no-snapshot:{HIT},n=1 drop:{HIT}", state=("suspect", "gap"), counter=("resyncs", 2)),
    Row(f"no-snapshot:{HIT},n=2 drop:{HIT}", loss="snapshot"),
    Row(f"mute:{HIT},for=2", state=("stale", "silent"), counter=("resyncs", 1)),
    Row("extra:for=0.5", feed="unknown"),
    # books
    Row(f"drop:{HIT}", state=("suspect", "gap"), counter=("gaps", 1)),
    Row(f"drop:{HIT},count=9", state=("suspect", "gap"), counter=("missed", 9)),
    Row(f"duplicate:{HIT}", counter=("duplicates", 1)),
    Row(f"late:{HIT},count=4", counter=("duplicates", 1)),
    Row(f"reorder:{HIT}", state=("suspect", "gap"), counter=("gaps", 1)),
    *(
        Row(f"corrupt:{HIT},how={how}", state=("suspect", reason), counter=("resyncs", 1))
        for how, reason in {
            "json": "json",
            "types": "shape",
            "nan": "number",
            "number": "number",
            "nesting": "shape",
            "control": "symbol",
            "shape": "gap",
            "missing": "shape",
        }.items()
    ),
    Row(f"corrupt:{HIT},how=huge", state=("suspect", ""), counter=("refused", 1)),
    Row(f"foreign:{HIT}", state=("suspect", "symbol"), counter=("refused", 1)),
    Row(f"cross:{HIT},seconds=1", state=("suspect", "crossed"), counter=("resyncs", 1)),
    Row(f"cross:{HIT},seconds=0.1", state=("suspect", "crossed"), counter=("crossed", 1)),
    Row(f"lock:{HIT},seconds=1", state=("suspect", "locked"), counter=("resyncs", 1)),
    Row(f"lock:{HIT},seconds=0.1", counter=("locked", 1)),
    Row(f"unknown-delete:{HIT}", counter=("unknown_deletes", 1)),
    Row(f"overfull:{HIT}", state=("suspect", "depth"), counter=("refused", 1)),
    Row(f"restart:{HIT}", counter=("restarts", 1)),
    Row(f"restart-delta:{HIT}", state=("suspect", "restart"), counter=("resyncs", 1)),
    Row(f"resnapshot:{HIT}", counter=("snapshots", 1)),
    Row(f"empty-side:{HIT},seconds=0.3", counter=("snapshots", 2)),
    Row(f"flood:{HIT},rate=3000,seconds=0.5", counter=("updates", 1200)),
    Row(f"flood:{HIT},rate=3000,seconds=0.6 pings:rate=50,seconds=0.4", wire=("pong", 15)),
    # REST
    Row("rest-http:for=1"),
    Row("rest-slow:delay=1,for=1"),
    Row("rest-garbage:for=1"),
    Row("rest-hangup:for=1"),
    Row("clock:offset=-30,for=1"),
)


class Scene(NamedTuple):
    server: SimServer
    watched: Watched
    log: Path

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def counter(self, name: str) -> int:
        value: int = getattr(self.watched.monitor.engine.books[BTC].counters, name)
        return value

    def feed(self, name: str) -> int:
        (feed,) = self.watched.monitor._feeds
        value: int = getattr(feed.statistics(), name)
        return value

    async def ends_well(self) -> None:
        """Every book live again, and equal to the exchange's."""
        self.server.plan.clear()
        assert await self.watched.wait(self.watched.all_live, IN_TIME_S), self.watched.monitor.engine.states()
        self.server.pause()
        assert await self.watched.wait(lambda: not self.differing(), IN_TIME_S), self.differing()
        assert self.watched.all_live()

    def check_log(self) -> None:
        """The exchange's log: whole JSON lines, in order of time, with every fault that happened."""
        events = self.events()
        assert all({"ts", "conn", "event"} <= event.keys() for event in events)
        happened = Counter(event["name"] for event in events if event["event"] == "fault")
        assert happened == self.server.plan.counts
        if "clock" not in happened:
            assert all(first["ts"] <= second["ts"] for first, second in pairwise(events))

    def differing(self) -> list[Difference]:
        return differences(self.watched.books(), self.server, 50)


@asynccontextmanager
async def scene(tmp_path: Path, tls: OwnTls | None = None, queues: QueuePolicy | None = None) -> AsyncIterator[Scene]:
    known = catalogue_by_id()
    log = tmp_path / "clients.jsonl"
    config = SimConfig(
        instruments=(known[BTC], known[ETH]), account=False, server=ServerPolicy(client_log=log), tls=tls
    )
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, config)
        settings = quick_settings(server, ["BTCUSDT", "ETHUSDT"])
        if tls is not None:
            (tmp_path / "ca.pem").write_bytes(tls.authority_pem)
            bybit = msgspec.structs.replace(settings.bybit, ca_file=str(tmp_path / "ca.pem"))
            settings = msgspec.structs.replace(settings, bybit=bybit)
        settings = msgspec.structs.replace(settings, queues=queues or settings.queues)
        async with open_watched(settings) as watched:
            assert await watched.wait(watched.all_live, IN_TIME_S)
            yield Scene(server, watched, log)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.faults.replace(HIT, "").replace(" ", "+"))
async def test_fault(row: Row, tmp_path: Path) -> None:
    tls = OwnTls("127.0.0.1") if row.faults.startswith("certificate") else None
    async with scene(tmp_path, tls) as play:
        before = play.counter(row.counter[0]) if row.counter else 0
        feed_before = play.feed(row.feed) if row.feed else 0
        seen = len(play.watched.diary.changes)
        faults = [parse_fault(spec) for spec in row.faults.split(" ")]
        for fault in faults:
            play.server.plan.add(fault)

        def changes() -> list[Any]:
            return [change for _, change in list(play.watched.diary.changes)[seen:]]

        def shown() -> bool:
            if row.loss and row.loss not in {loss.reason for loss in play.watched.diary.losses()}:
                return False
            if row.state is not None and not any(
                _matches(state, row.state) for state in play.watched.diary.states(BTC)
            ):
                return False
            if row.counter is not None and play.counter(row.counter[0]) - before < row.counter[1]:
                return False
            if row.feed and play.feed(row.feed) <= feed_before:
                return False
            if row.wire is not None and not _on_the_wire(play.events(), row.wire):
                return False
            assert play.server.true_book(BTC, 50).bids  # whatever goes wrong on the way, the truth can be had
            return all(play.server.plan.counts.get(fault.name) for fault in faults if fault.kind.stage.value != "clock")

        assert await play.watched.wait(shown, IN_TIME_S), (changes(), play.server.plan.counts)
        if row.harmless:
            assert changes() == []
        await play.ends_well()
        play.check_log()
        if "topic=" in row.faults and not row.loss and "reset" not in row.faults:
            assert play.watched.diary.states(ETH)[1:] == play.watched.diary.states(ETH)[1:2], "the other book suffers"


def _matches(state: tuple[str, str], wanted: tuple[str, str]) -> bool:
    return state[0] == wanted[0] and wanted[1] in ("", state[1])


def _on_the_wire(events: list[dict[str, Any]], wanted: tuple[str, Any]) -> bool:
    name, value = wanted
    mine = [event for event in events if event["event"] == name]
    return any(event["code"] == value for event in mine) if name == "close" else len(mine) >= value


def test_every_fault_has_a_row() -> None:
    played = {parse_fault(spec).name for row in ROWS for spec in row.faults.split(" ")}
    assert played == set(KINDS)


# --- what a row cannot say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, retry_after, least_s, most_s", [(403, 0, 0.5, 0.5), (429, 0, 0.5, 0.5), (429, 1, 1, 1)]
)
async def test_refusals_pause(tmp_path: Path, status: int, retry_after: int, least_s: float, most_s: float) -> None:
    async with scene(tmp_path) as play:
        play.server.plan.add(parse_fault(f"http:status={status},retry_after={retry_after},n=1"))
        play.server.plan.add(parse_fault("reset"))
        diary = play.watched.diary
        assert await play.watched.wait(lambda: len(diary.losses()) == 2, IN_TIME_S)
        assert least_s <= (diary.losses()[1].retry_s or 0) <= most_s
        await play.ends_well()


async def test_one_resubscribe_per_reconnect(tmp_path: Path) -> None:
    async with scene(tmp_path) as play:
        play.server.plan.add(parse_fault("reset:every=0.4,n=3"))
        assert await play.watched.wait(lambda: len(play.watched.diary.losses()) == 3, IN_TIME_S)
        await play.ends_well()
        opened = [event["conn"] for event in play.events() if event["event"] == "open"]
        asked = [event["conn"] for event in play.events() if '"subscribe"' in event.get("text", "")]
        assert asked == opened
        assert len(opened) == 4


async def test_gap_generator_does_not_make_a_storm(tmp_path: Path) -> None:
    """At most one resync a second per topic, and after six in a minute the link is dropped instead."""
    async with scene(tmp_path) as play:
        play.server.plan.add(parse_fault(f"drop:{HIT},p=0.5"))
        await play.watched.wait(lambda: bool(play.watched.diary.losses()), 30.0)
        assert [loss.reason for loss in play.watched.diary.losses()] == ["unstable"]
        left = [event["ts"] for event in play.events() if '"unsubscribe"' in event.get("text", "")]
        assert len(left) == 6
        assert min(later - earlier for earlier, later in pairwise(left)) >= 950
        await play.ends_well()


async def test_accept_and_kick_is_backed_off(tmp_path: Path) -> None:
    async with scene(tmp_path) as play:
        play.server.plan.add(parse_fault("kick:delay=0.02,for=3"))
        await trio.sleep(3)
        losses = play.watched.diary.losses()
        assert 3 <= len(losses) < 30  # without back-off: a hundred
        assert [loss.attempt for loss in losses] == list(range(1, len(losses) + 1))
        await play.ends_well()


@contextmanager
def held_up(monitor: Monitor) -> Iterator[None]:
    """The book task takes nothing for the time of the block, as if it could not keep up."""
    queue = monitor._queue
    receive, released = queue.receive, trio.Event()

    async def wait_first() -> list[Event]:
        await released.wait()
        return await receive()

    queue.hand_to(None)
    queue.receive = wait_first  # type: ignore[method-assign] # the seam
    try:
        yield
    finally:
        queue.receive = receive  # type: ignore[method-assign]
        queue.hand_to(monitor._apply)
        released.set()


async def test_an_overrun_drops_the_link_and_starts_afresh(tmp_path: Path) -> None:
    """Book data that nobody takes is never lost in silence: not one message of it, and then none of it is believed."""
    async with scene(tmp_path, queues=QueuePolicy(events=300)) as play:
        monitor, diary = play.watched.monitor, play.watched.diary
        seen = len(diary.states(BTC))
        with held_up(monitor):
            play.server.plan.add(parse_fault(f"flood:{HIT},rate=3000,seconds=1"))
            assert await play.watched.wait(lambda: bool(diary.losses()), IN_TIME_S)
        assert diary.losses()[0].reason == "overrun"
        # The books learn of it behind everything that still waits for them.
        told = ("empty", "overrun")
        assert await play.watched.wait(lambda: all(told in diary.states(key)[seen:] for key in (BTC, ETH)), IN_TIME_S)
        await play.ends_well()
        assert len(diary.losses()) == 1
        for key in (BTC, ETH):  # every book of the link, flooded or not
            states = [state for state in diary.states(key)[seen:] if state[0] in ("empty", "live")]
            assert states == [("empty", "overrun"), ("live", "snapshot")]
        assert (play.counter("gaps"), play.counter("refused"), play.counter("resyncs")) == (0, 0, 0)
        stats = monitor.stats()
        assert {queue.channel: queue.overruns for queue in stats.queues}["events"] == 1
        opened = [event["conn"] for event in play.events() if event["event"] == "open"]
        asked = [json.loads(event["text"])["op"] for event in play.events() if "text" in event]
        assert len(opened) == 2
        assert [op for op in asked if op != "ping"] == ["subscribe", "subscribe"]


def test_the_demo_announces_what_its_exchange_does_on_purpose() -> None:
    program = (
        "import sys, orderflow.commands as commands; from orderflow.cli import main; commands.DEMO_FAULTS_PER_S = 5;"
        "sys.exit(main(['demo', '--faults', '--duration', '2.5', '--interval', '0.5', '--log-format', 'json']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.count("on purpose") >= 4
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(event["event"] == "tick" and event["state"] == "live" for event in events)


async def test_shifted_clock_is_learnt(tmp_path: Path) -> None:
    async with scene(tmp_path) as play:
        play.server.plan.add(parse_fault("clock:offset=20"))
        engine = play.watched.monitor.engine

        def learnt() -> bool:
            return engine.clock_offset is not None and abs(engine.clock_offset.offset_ms + 20_000) < 500

        assert await play.watched.wait(learnt, IN_TIME_S), engine.clock_offset
