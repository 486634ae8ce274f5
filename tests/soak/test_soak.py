"""A short soak must pass, and every one of its checks must be able to fail."""

from __future__ import annotations

import json
import signal
import tempfile
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
from orderflow.soak import command
from orderflow.soak.command import format_report
from orderflow.soak.compare import differences
from orderflow.soak.ledger import Ledger, waits
from orderflow.soak.pace import Pace
from orderflow.soak.proofs import PROOFS, Check
from orderflow.soak.run import Report, SoakPlan, _Soak, soak
from orderflow.soak.usage import Usage
from orderflow.soak.watched import Diary
from orderflow.soak.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
TOPIC = "orderbook.50.BTCUSDT"


@pytest.mark.slow
@pytest.mark.socket
def test_a_short_soak_keeps_every_promise() -> None:
    report = trio.run(partial(soak, SoakPlan(duration_s=6, seed=5, rate=8)))
    said, facts = format_report(report), report.facts
    assert report.kept, said
    if report.unsure:
        pytest.skip(f"this machine gives too little to judge by\n{said}")
    assert [check.name for check in report.checks] == list(PROOFS), said
    had_s = facts["had_s"]  # of the six seconds: what happens in them depends on what the machine gave
    assert facts["ticks_judged"] > 40 * had_s, said
    assert len(facts["faults"]) > 2.5 * had_s, said
    assert facts["gaps_shown"] > 0.5 * had_s, said
    if had_s > 5.5:
        assert facts["freezes"] >= 1, said
        assert facts["kills"] >= 1, said
        assert facts["losses"].get("tls", 0) >= 1, said


@pytest.mark.slow
@pytest.mark.socket
def test_ctrl_c_ends_the_faults_and_has_everything_checked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(text: str) -> None:
        if "from now on" in text:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "_quiet", tell)
    code = main(["soak", "--duration", "1000", "--rate", "2", "--seed", "3", "--json"])
    said = capsys.readouterr().out
    assert code == 0, said
    report = json.loads(said)
    assert all(check["wrong"] == [] for check in report["checks"]), said
    assert report["plan"] == {"duration_s": 1000.0, "seed": 3, "rate": 2.0}
    assert report["facts"]["faults"] == {}


@pytest.mark.parametrize("words", [["--duration", "0"], ["--rate", "-1"], ["--duration", "nan"], ["--duration", "x"]])
def test_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["soak", *words])
    assert caught.value.code == 2


def test_a_broken_promise_is_shown_and_counts() -> None:
    usage = Usage(rss_bytes=1, descriptors=2, tasks=3)
    counts = (
        "connections gaps gaps_shown resyncs refused ticks_judged freezes kills clock_jumps longest_starved_s had_s"
    )
    facts: dict[str, Any] = {"faults": {}, "losses": {}, "program_rss": [], "program_growth": 0, "starved_s": [0, 0]}
    facts |= dict.fromkeys(counts.split(), 0)
    checks = [Check(name="good", wrong=[]), Check(name="bad", wrong=["x\x1b[31m"] * 20)]
    report = Report(plan=SoakPlan(), checks=checks, unsure=["\x1b"], before=usage, after=usage, facts=facts)
    text = format_report(report)
    assert not report.kept
    assert "BROKEN" in text.splitlines()[-1]
    assert "UNSURE" in text
    assert "too little" in format_report(msgspec.structs.replace(report, checks=checks[:1])).splitlines()[-1]
    assert "every" in format_report(msgspec.structs.replace(report, checks=[], unsure=[])).splitlines()[-1]
    assert "BROKEN bad" in text
    assert "10 more" in text
    assert "\x1b" not in text
    kept = msgspec.structs.replace(report, folder="/somewhere/\x1b[31m")
    assert "/somewhere/" in format_report(kept).splitlines()[-2]


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


PACE = Pace(lambda: 0.0)
BLACK_HOLE: dict[str, Any] = {"event": "fault", "name": "black-hole"}
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
    assert len(list(ledger(*events).gaps({"50": diary(*changes)}, {"50": PACE}, PACE))) == wrong


def test_a_gap_is_seen_a_second_later_of_the_time_there_was() -> None:
    starved = Pace(lambda: 0.0)
    starved.lose(10.1, 11.9)
    late = diary(LIVE_BEFORE, (12.5, became(BookState.SUSPECT, "gap")))
    assert list(ledger(GAP).gaps({"50": late}, {"50": PACE}, PACE))
    assert not list(ledger(GAP).gaps({"50": late}, {"50": starved}, PACE))
    assert not list(ledger(GAP).gaps({"50": late}, {"50": PACE}, starved))  # who shows it may be starved as well
    assert not list(ledger(GAP).gaps({"200": late}, {"200": PACE}, PACE))  # shown to somebody else


@pytest.mark.parametrize(
    "events, wrong",
    [
        ([asks("subscribe", TOPIC)], 0),
        ([asks("subscribe", TOPIC), asks("subscribe", TOPIC)], 1),
        ([asks("subscribe", TOPIC), asks("unsubscribe", TOPIC), asks("subscribe", TOPIC)], 0),
        ([asks("subscribe", TOPIC), {"event": "fault", "name": "refuse"}, asks("subscribe", TOPIC)], 0),
        ([asks("subscribe", TOPIC), BLACK_HOLE, *[asks("subscribe", TOPIC)] * 2], 0),
        ([asks("subscribe", TOPIC), BLACK_HOLE, *[asks("subscribe", TOPIC)] * 3], 1),
        ([asks("subscribe", TOPIC), {"event": "fault", "name": "stall"}, asks("subscribe", TOPIC)], 1),
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
    assert len(list(ledger(*events).resyncs(LinkPolicy(), {"50": PACE}, PACE))) == wrong


def test_what_lay_unread_on_a_frozen_connection_proves_nothing_about_time() -> None:
    frozen = {"event": "fault", "name": "stall", "ts": 2_500}
    late, soon = asks("unsubscribe", TOPIC, ts=4_500), asks("unsubscribe", TOPIC, ts=4_600)
    assert list(ledger(late, soon).resyncs(LinkPolicy(), {"50": PACE}, PACE))
    assert not list(ledger(frozen, late, soon).resyncs(LinkPolicy(), {"50": PACE}, PACE))
    starved = Pace(lambda: 0.0)
    starved.lose(3.5, 4.5)
    assert not list(ledger(late, soon).resyncs(LinkPolicy(), {"50": PACE}, starved))  # the first one was heard late
    assert not list(ledger(late, soon).resyncs(LinkPolicy(), {"50": starved}, PACE))  # or said late
    assert list(ledger(late, soon).resyncs(LinkPolicy(), {"200": starved}, PACE))  # by somebody else


def test_reconnects_must_agree() -> None:
    up = (1.0, LinkChanged(link="linear", state="up"))
    book = ledger(asks("subscribe", TOPIC))
    assert not list(book.reconnects([diary(up)]))
    assert list(book.reconnects([diary(up, up)]))
    assert list(book.reconnects([diary()]))
    assert not list(book.reconnects([diary()], killed=1))


@pytest.mark.parametrize(
    "retry_s, attempt, again_s, wrong",
    [(0.5, 1, 0.5, 0), (0.5, 1, 0.1, 1), (1.5, 1, 1.5, 1), (1.5, 2, 1.6, 0), (7.0, 9, 7.0, 1)],
)
def test_waits_must_be_bounded_and_waited(retry_s: float, attempt: int, again_s: float, wrong: int) -> None:
    down = LinkChanged(link="linear", state="down", reason="reset", retry_s=retry_s, attempt=attempt)
    story = diary((0.0, down), (again_s, LinkChanged(link="linear", state="connecting")))
    assert len(list(waits(story, RetryPolicy(base_s=1.0, cap_s=5.0)))) == wrong


def test_a_loss_that_was_heard_late_shortens_no_wait() -> None:
    down = LinkChanged(link="linear", state="down", reason="reset", retry_s=0.8, attempt=1)
    story = diary((10.0, down), (10.5, LinkChanged(link="linear", state="connecting")))
    starved = Pace(lambda: 0.0)
    starved.lose(9.6, 10.0)
    policy = RetryPolicy(base_s=1.0, cap_s=5.0)
    assert list(waits(story, policy, PACE))
    assert not list(waits(story, policy, starved, PACE))


# --- books and ticks ------------------------------------------------------------------------------------------------


class Exchange:
    def __init__(self, *planted: tuple[str, str]) -> None:
        self.plan = self
        self.planted_topics = planted

    def planted(self, endpoint: str, topic: str) -> bool:
        return (endpoint, topic) in self.planted_topics

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
    behind = msgspec.structs.replace(book, seq=0)
    doubted = msgspec.structs.replace(book, state=BookState.SYNCING)
    lied_to = Exchange(("linear", "orderbook.2.BTCUSDT"))
    for it, exchange, late in (
        (book, Exchange(), False),
        (behind, Exchange(), True),
        (doubted, Exchange(), True),
        (book, lied_to, True),
    ):
        assert [found.late for found in differences([it], exchange, 2)] == [late] * wrong


def variants(good: MetricsTick) -> Iterator[tuple[MetricsTick, int]]:
    change = msgspec.structs.replace
    assert good.bid is not None
    yield good, 0
    yield change(good, bid=good.bid * 0.9999), 1
    yield change(good, ask_size=12345.0), 1
    yield change(good, liquidity_bid=0.5), 1
    yield change(good, bid=None, bid_size=None), 0  # says nothing about it
    yield change(good, seq=(good.seq or 0) + 1), 1  # of no window at all
    yield change(good, seq=5), 1  # of one that is long past
    yield change(good, bid=good.ask, bid_size=None), 1
    yield change(good, bid=(good.ask or 0) + 1, bid_size=None), 2  # not even a book
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
        server.plan._books.planted[witness.endpoint, witness.topic] = 1  # somebody is told of a bid that is none
        for tick, wrong in (
            (good, 0),
            (msgspec.structs.replace(good, bid=good.ask), 0),
            (msgspec.structs.replace(good, bid=(good.ask or 0) + 1), 1),
            (msgspec.structs.replace(good, ask_size=12345.0), 1),
        ):
            witness.wrong.clear()
            witness.judge(tick)
            assert len(witness.wrong) == wrong, tick
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("wrong", [[], ["a number from a wrong book"]])
def test_what_broke_a_promise_can_be_looked_at(
    wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left behind else."""
    usage = Usage(rss_bytes=1, descriptors=1, tasks=1)
    check = Check(name="numbers", wrong=wrong)

    async def run(it: _Soak) -> Report:
        (it._folder / "clients.jsonl").touch()
        return Report(plan=SoakPlan(), checks=[check], unsure=[], before=usage, after=usage, facts={})

    monkeypatch.setattr(_Soak, "run", run)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    report = trio.run(soak, SoakPlan())
    assert [str(log.parent) for log in tmp_path.glob("*/clients.jsonl")] == ([report.folder] if wrong else [])
    assert len([*tmp_path.iterdir()]) == len(wrong)
