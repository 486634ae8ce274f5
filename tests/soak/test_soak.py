"""A short soak must pass, and every one of its checks must be able to fail."""

from __future__ import annotations

import json
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from orderflow.cli import main
from orderflow.core.policy import LinkPolicy, RetryPolicy
from orderflow.core.types import BookDump, BookState, BookStateChanged, Category, InstrumentId, LinkChanged, MetricsTick
from orderflow.sim.backend import TrueBook
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.server import SimConfig, SimServer, serve
from orderflow.soak.command import format_report
from orderflow.soak.compare import differences
from orderflow.soak.ledger import Ledger, waits
from orderflow.soak.run import Check, Report, SoakPlan, Usage, soak
from orderflow.soak.watched import Diary
from orderflow.soak.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
TOPIC = "orderbook.50.BTCUSDT"


@pytest.mark.slow
@pytest.mark.socket
def test_a_short_soak_keeps_every_promise() -> None:
    report = trio.run(partial(soak, SoakPlan(duration_s=14, seed=5, rate=5)))
    assert report.kept, format_report(report)
    assert report.facts["ticks_judged"] > 200
    assert report.facts["gaps_shown"] > 3
    assert len(report.facts["faults"]) >= 15


@pytest.mark.socket
def test_the_command_prints_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--duration", "0.5", "--rate", "2", "--seed", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all(check["wrong"] == [] for check in report["checks"])
    assert report["plan"] == {"duration_s": 0.5, "seed": 3, "rate": 2.0}


@pytest.mark.socket
def test_ctrl_c_ends_the_faults_and_has_everything_checked() -> None:
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if "from now on" in text:
            signal.raise_signal(signal.SIGINT)

    report = trio.run(partial(soak, SoakPlan(duration_s=1000, seed=1, rate=1), tell))
    assert report.kept, format_report(report)
    assert report.facts["faults"] == {}


@pytest.mark.parametrize("words", [["--duration", "0"], ["--rate", "-1"], ["--duration", "nan"], ["--duration", "x"]])
def test_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["soak", *words])
    assert caught.value.code == 2


def test_a_broken_promise_is_shown_and_counts() -> None:
    usage = Usage(rss_bytes=1, descriptors=2, tasks=3)
    facts: dict[str, Any] = {"faults": {}, "losses": {}, "connections": 1, "gaps": 0, "gaps_shown": 0, "resyncs": 0}
    facts |= {"refused": 0, "ticks_judged": 0}
    checks = [Check(name="good", wrong=[]), Check(name="bad", wrong=["x\x1b[31m"] * 20)]
    report = Report(plan=SoakPlan(), checks=checks, before=usage, after=usage, facts=facts)
    text = format_report(report)
    assert not report.kept
    assert "BROKEN bad" in text
    assert "10 more" in text
    assert "\x1b" not in text


# --- the ledger -----------------------------------------------------------------------------------------------------


def ledger(*events: dict[str, Any]) -> Ledger:
    begin = {"ts": 1_000, "conn": "a", "event": "open", "target": "/v5/public/linear"}
    return Ledger(msgspec.json.encode({"ts": 2_000, "conn": "a", **event}) for event in (begin, *events))


def asks(op: str, *topics: str, ts: int = 2_000) -> dict[str, Any]:
    return {"event": "text", "ts": ts, "text": json.dumps({"op": op, "args": topics})}


def diary(*changes: tuple[float, Any]) -> Diary:
    book = Diary()
    book.changes.extend(changes)
    return book


def became(state: BookState, reason: str = "") -> BookStateChanged:
    return BookStateChanged(instrument=BTC, old=BookState.EMPTY, new=state, reason=reason, mono_ns=0)


GAP = {"event": "gap", "ts": 10_000, "topic": TOPIC, "lost": 2}
LIVE_BEFORE = (5.0, became(BookState.LIVE))


@pytest.mark.parametrize(
    "events, changes, wrong",
    [
        ([GAP], [LIVE_BEFORE], 1),
        ([GAP], [LIVE_BEFORE, (10.01, became(BookState.SUSPECT, "gap"))], 0),
        ([GAP], [LIVE_BEFORE, (12.0, became(BookState.SUSPECT, "gap"))], 1),  # much too late
        ([GAP], [LIVE_BEFORE, (9.0, became(BookState.SYNCING))], 0),  # was not believed anyway
        ([GAP, {"event": "end", "ts": 10_100}], [LIVE_BEFORE], 0),  # cut before it could be read
        ([GAP, {"event": "fault", "name": "stall", "ts": 9_000}], [LIVE_BEFORE], 0),  # frozen
    ],
)
def test_gaps_must_be_seen(events: list[dict[str, Any]], changes: list[Any], wrong: int) -> None:
    assert len(list(ledger(*events).gaps({"50": diary(*changes)}))) == wrong


@pytest.mark.parametrize(
    "events, wrong",
    [
        ([asks("subscribe", TOPIC)], 0),
        ([asks("subscribe", TOPIC), asks("subscribe", TOPIC)], 1),
        ([asks("subscribe", TOPIC), asks("unsubscribe", TOPIC), asks("subscribe", TOPIC)], 0),
        ([asks("subscribe", TOPIC), {"event": "fault", "name": "refuse"}, asks("subscribe", TOPIC)], 0),
    ],
)
def test_one_subscribe_each(events: list[dict[str, Any]], wrong: int) -> None:
    assert len(list(ledger(*events).resubscribes())) == wrong


@pytest.mark.parametrize(
    "times, wrong",
    [([0, 1000, 2000], 0), ([0, 500], 1), ([at * 5_000 for at in range(7)], 1), ([at * 11_000 for at in range(9)], 0)],
)
def test_resync_budget(times: list[int], wrong: int) -> None:
    events = [asks("unsubscribe", TOPIC, ts=2_000 + at) for at in times]
    assert len(list(ledger(*events).resyncs(LinkPolicy()))) == wrong


def test_what_lay_unread_on_a_frozen_connection_proves_nothing_about_time() -> None:
    frozen = {"event": "fault", "name": "stall", "ts": 2_500}
    late, soon = asks("unsubscribe", TOPIC, ts=4_500), asks("unsubscribe", TOPIC, ts=4_600)
    assert list(ledger(late, soon).resyncs(LinkPolicy()))
    assert not list(ledger(frozen, late, soon).resyncs(LinkPolicy()))


def test_reconnects_must_agree() -> None:
    up = (1.0, LinkChanged(link="linear", state="up"))
    book = ledger(asks("subscribe", TOPIC))
    assert not list(book.reconnects([diary(up)]))
    assert list(book.reconnects([diary(up, up)]))
    assert list(book.reconnects([diary()]))


@pytest.mark.parametrize(
    "retry_s, attempt, again_s, wrong",
    [(0.5, 1, 0.5, 0), (0.5, 1, 0.1, 1), (1.5, 1, 1.5, 1), (1.5, 2, 1.6, 0), (7.0, 9, 7.0, 1)],
)
def test_waits_must_be_bounded_and_waited(retry_s: float, attempt: int, again_s: float, wrong: int) -> None:
    down = LinkChanged(link="linear", state="down", reason="reset", retry_s=retry_s, attempt=attempt)
    story = diary((0.0, down), (again_s, LinkChanged(link="linear", state="connecting")))
    assert len(list(waits(story, RetryPolicy(base_s=1.0, cap_s=5.0)))) == wrong


# --- books and ticks ------------------------------------------------------------------------------------------------


class Exchange:
    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook:
        return TrueBook(bids=[("9", "1"), ("8", "2")], asks=[("10", "1")], seq=1, cts=1)


@pytest.mark.parametrize(
    "bids, wrong",
    [
        ([("9", "1"), ("8", "2")], 0),
        ([("9", "1")], 1),
        ([("9", "1"), ("8", "3")], 1),
        ([("9", "1"), ("8", "2"), ("7", "1")], 1),
        ([("8", "2"), ("9", "1")], 1),
    ],
)
def test_every_level_counts(bids: list[tuple[str, str]], wrong: int) -> None:
    book = BookDump(
        category=BTC.category, symbol=BTC.symbol, state=BookState.LIVE, u=1, seq=1, bids=bids, asks=[("10", "1")]
    )
    assert len(differences([book], Exchange(), 2)) == wrong


def variants(good: MetricsTick) -> Iterator[tuple[MetricsTick, int]]:
    change = msgspec.structs.replace
    assert good.bid is not None
    yield good, 0
    yield change(good, bid=good.bid * 1.0001), 1
    yield change(good, ask_size=12345.0), 1
    yield change(good, liquidity_bid=0.5), 1
    yield change(good, bid=None, bid_size=None), 0  # says nothing about it
    yield change(good, seq=(good.seq or 0) + 1), 1  # of no window at all
    yield change(good, state=BookState.SUSPECT, bid=1.0), 0  # nobody believes it


@pytest.mark.socket
async def test_wrong_numbers_are_caught() -> None:
    async with trio.open_nursery() as nursery:
        server: SimServer = await nursery.start(serve, SimConfig(instruments=(catalogue_by_id()[BTC],), account=False))
        witness = Witness(server, BTC, 50)
        await trio.sleep(0.3)
        (seq, truth), *_ = list(witness._windows.items())[-1:]
        good = MetricsTick(
            ts=1,
            mono_ns=1_000_000,
            category=BTC.category,
            symbol=BTC.symbol,
            state=BookState.LIVE,
            reason="",
            depth=50,
            bid=truth.bid,
            bid_size=truth.bid_size,
            ask=truth.ask,
            ask_size=truth.ask_size,
            liquidity_bid=truth.near_bids,
            liquidity_ask=truth.near_asks,
            seq=seq,
        )
        for tick, wrong in variants(good):
            witness.wrong.clear()
            witness.judge(tick)
            assert len(witness.wrong) == wrong, tick
        nursery.cancel_scope.cancel()
