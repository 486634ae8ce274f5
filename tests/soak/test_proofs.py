"""Every promise of a soak can be broken: sound evidence passes, and each doctored piece of it is caught by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from orderflow.core.policy import RetryPolicy
from orderflow.core.types import BookState, BookStateChanged, Category, InstrumentId, LinkChanged
from orderflow.soak.causes import CAUSES, unexplained
from orderflow.soak.ledger import Ledger, attempts
from orderflow.soak.pace import Pace
from orderflow.soak.process import Life, recording_faults, standstill_faults
from orderflow.soak.proofs import PROOFS, Evidence, prove
from orderflow.soak.usage import GROWTH_BYTES, Usage, growth
from orderflow.soak.watched import Diary, SetClock
from tests.record.tapes import T0, simple_tape
from tests.ui.test_metrics_doc import STATS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderflow.core.stats import Stats

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
TOPIC = "orderbook.50.BTCUSDT"
PACE = Pace(lambda: 0.0)
REST = Usage(rss_bytes=50_000_000, descriptors=20, tasks=60)


def link(state: str, at_s: float, **more: Any) -> tuple[float, LinkChanged]:
    return at_s, LinkChanged(link="linear", state=state, **more)


def book(state: BookState, at_s: float, reason: str = "") -> tuple[float, BookStateChanged]:
    change = BookStateChanged(instrument=BTC, old=BookState.EMPTY, new=state, reason=reason, mono_ns=0)
    return at_s, change


def asks(op: str, at_s: float, conn: str = "a") -> dict[str, Any]:
    text = json.dumps({"op": op, "args": [TOPIC]})
    return {"ts": round(at_s * 1000), "conn": conn, "event": "text", "text": text}


def opened(at_s: float, conn: str = "a") -> dict[str, Any]:
    return {"ts": round(at_s * 1000), "conn": conn, "event": "open", "target": "/v5/public/linear"}


def happened(name: str, at_s: float, conn: str = "a") -> dict[str, Any]:
    return {"ts": round(at_s * 1000), "conn": conn, "event": "fault", "name": name}


def log(*events: dict[str, Any]) -> Ledger:
    return Ledger(map(msgspec.json.encode, events))


STORY = (
    opened(10.0),
    asks("subscribe", 10.1),
    {"ts": 20_000, "conn": "a", "event": "gap", "topic": TOPIC, "lost": 1},
    asks("unsubscribe", 20.1),
    asks("subscribe", 20.2),
    happened("reset", 30.0),
    {"ts": 30_000, "conn": "a", "event": "end"},
    opened(30.3, "b"),
    asks("subscribe", 30.4, "b"),
)
"""A gap that is seen, a reset and a connection after it."""


def said() -> Diary:
    diary = Diary(now=lambda: 0.0)
    diary.changes.extend(
        [
            link("connecting", 10.0),
            link("up", 10.0),
            book(BookState.LIVE, 10.2),
            book(BookState.SUSPECT, 20.01, "gap"),
            book(BookState.LIVE, 20.3),
            link("down", 30.01, reason="reset", retry_s=0.1, attempt=1),
            link("connecting", 30.2),
            link("up", 30.3),
            book(BookState.LIVE, 30.5),
        ]
    )
    return diary


def counters(connects: int = 2, resyncs: int = 1) -> Stats:
    """Of the story: two connections, and one resync of its book."""
    (link,), (book,) = STATS.links, STATS.books
    change = msgspec.structs.replace
    return change(STATS, links=(change(link, connects=connects),), books=(change(book, resyncs={"gap": resyncs}),))


def sound(tmp_path: Path) -> Evidence:
    pace = Pace(lambda: 0.0)
    life = Life(0, tmp_path, 0.0)
    life.stopped.append((15.0, 17.0))
    life.stalls.append((17.1, 2.05))
    return Evidence(
        not_live=([], [], []),
        differing=[],
        wrong_numbers=[],
        judged={"50": 7},
        ledger=log(*STORY),
        stats={"50": counters()},
        diaries={"50": said()},
        paces={"50": pace},
        exchange_pace=pace,
        usage=[(REST, REST)],
        rss=[50_000_000] * 40,
        jumps=3,
        steps=3,
        lives=[life],
        recorded=[],
        ended=[],
        kills=0,
        links=1,
        faults_s=(12.0, 60.0),
    )


def told(it: Evidence, *changes: Any) -> None:
    it.diaries["50"].changes.extend(changes)


def rewritten(it: Evidence, *events: dict[str, Any]) -> None:
    it.ledger = log(*STORY, *events)
    it.stats["50"] = counters(resyncs=9)


def unseen(it: Evidence) -> None:
    kept = [row for row in it.diaries["50"].changes if getattr(row[1], "reason", "") != "gap"]
    it.diaries["50"].changes.clear()
    it.diaries["50"].changes.extend(kept)


DOCTORED: dict[str, Callable[[Evidence], None]] = {
    "all books live at first": lambda it: it.not_live[0].append("BTCUSDT is syncing"),
    "all books live after the faults": lambda it: it.not_live[1].append("BTCUSDT is syncing"),
    "all books live in the end": lambda it: it.not_live[2].append("BTCUSDT is stale"),
    "every book equals the exchange's, level by level": lambda it: it.differing.append("a level"),
    "no number from a wrong book": lambda it: it.wrong_numbers.append("bid 1.0, was 2.0"),
    "ticks were judged": lambda it: it.judged.update({"200": 0}),
    "every gap was seen": unseen,
    "links came up as often as connections were opened": lambda it: told(it, link("up", 40.0)),
    "one subscribe per topic and connection, resync or refusal": lambda it: rewritten(it, asks("subscribe", 50, "b")),
    "resyncs within their budget": lambda it: rewritten(
        it, *(asks(op, 50 + step, "b") for step in (0.0, 0.4) for op in ("unsubscribe", "subscribe"))
    ),
    "counters know all that the exchange heard": lambda it: it.stats.update({"50": counters(resyncs=0)}),
    "waits between attempts within their bounds": lambda it: told(
        it, link("down", 31.0, reason="reset", retry_s=9.0, attempt=1)
    ),
    "attempts within their budget": lambda it: told(it, *(link("connecting", 50 + at / 10) for at in range(60))),
    "every loss of a link has its cause at the exchange": lambda it: told(
        it, link("down", 50.0, reason="pong", retry_s=0.1, attempt=1)
    ),
    "standstills are said, and no burst comes behind them": lambda it: it.lives[0].stalls.clear(),
    "a set clock is noticed": lambda it: setattr(it, "steps", 2),
    "recordings read, killed ones to their last second": lambda it: it.recorded.append("recording 0: torn"),
    "the program stops in time and in order": lambda it: it.ended.append("it took 2.5 s to stop"),
    "descriptors and tasks are back": lambda it: it.usage.append((REST, msgspec.structs.replace(REST, descriptors=21))),
    "memory is bounded": lambda it: it.rss.extend([50_000_000 + 2 * GROWTH_BYTES] * 40),
}


def test_sound_evidence_breaks_no_promise(tmp_path: Path) -> None:
    checks = prove(sound(tmp_path))
    assert [check.name for check in checks] == list(PROOFS)
    assert [check for check in checks if not check.kept] == []


def test_every_promise_has_its_doctor() -> None:
    assert DOCTORED.keys() == PROOFS.keys()


@pytest.mark.parametrize("name", list(PROOFS))
def test_what_is_doctored_is_found_by_its_own_name(name: str, tmp_path: Path) -> None:
    evidence = sound(tmp_path)
    DOCTORED[name](evidence)
    assert [check.name for check in prove(evidence) if not check.kept] == [name]


@pytest.mark.parametrize("connects, resyncs, wrong", [(2, 1, 0), (9, 9, 0), (1, 1, 1), (2, 0, 1), (0, 0, 2)])
def test_counters_may_know_more_than_was_heard_but_not_less(connects: int, resyncs: int, wrong: int) -> None:
    assert len(list(log(*STORY).uncounted("50", counters(connects, resyncs)))) == wrong
    assert not list(log(*STORY).uncounted("200", counters(connects, resyncs)))


# --- causes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(CAUSES))
def test_a_loss_needs_a_cause_of_its_kind_in_time_and_on_its_own_link(reason: str) -> None:
    names, window_s = CAUSES[reason]
    name = min(names)
    diary = Diary(now=lambda: 0.0)
    diary.changes.append(link("down", 100.0, reason=reason))
    begin = (opened(5.0), asks("subscribe", 5.1))
    pace, exchange = Pace(lambda: 0.0), Pace(lambda: 0.0)

    def wrong(*events: dict[str, Any], depth: str = "50") -> int:
        return len(list(unexplained(log(*begin, *events), depth, diary, pace, exchange, 0.0, 1e9)))

    assert wrong() == 1
    assert wrong(happened(name, 99.0)) == 0
    assert wrong(happened(name, 100 - window_s - 1)) == 1
    assert wrong(happened(name, 101.0)) == 1  # causes come first
    assert wrong(happened("unknown-delete" if reason not in ("snapshot", "unstable") else "pings", 99.0)) == 1
    assert wrong(happened(name, 99.0), depth="200") == 1  # the other program's connection
    assert wrong({**opened(6.0, "b"), "target": "/v5/public/spot"}, happened(name, 99.0, "b")) == 1  # the other link
    assert wrong(happened(name, 99.0, "")) == 0  # before the connection had a name
    pace.lose(90.0, 99.5)
    assert wrong(happened(name, 100 - window_s - 1)) == 0  # of the time it had
    assert wrong() == 1  # that it could not run itself is no cause
    exchange.lose(99.0, 99.3)
    assert wrong() == (reason not in ("pong", "idle", "timeout", "snapshot", "send"))  # who is starved is silent


@pytest.mark.parametrize(
    "reason, whose, from_s, to_s, explained",
    [
        ("stall", "program", 98.0, 99.0, True),  # what it says of itself
        ("stall", "program", 98.0, 98.2, False),  # it did run
        ("stall", "program", 20.0, 30.0, False),  # that is long past
        ("stall", "exchange", 98.0, 99.0, False),
        ("unstable", "exchange", 50.0, 51.0, True),  # books fell silent, and were probed too often
        ("unstable", "exchange", 50.0, 50.5, False),
        ("unstable", "program", 50.0, 51.0, False),
        ("pong", "exchange", 98.0, 98.2, False),  # an answer is not as late as that
        ("pong", "exchange", 95.0, 96.0, False),
        ("pong", "program", 98.0, 99.0, False),
        ("reset", "exchange", 98.0, 99.0, False),  # silence it was not
    ],
)
def test_what_starving_explains(reason: str, whose: str, from_s: float, to_s: float, explained: bool) -> None:
    diary = Diary(now=lambda: 0.0)
    diary.changes.append(link("down", 100.0, reason=reason))
    paces = {"program": Pace(lambda: 0.0), "exchange": Pace(lambda: 0.0)}
    paces[whose].lose(from_s, to_s)
    found = unexplained(log(opened(5.0)), "50", diary, paces["program"], paces["exchange"], 0.0, 1e9)
    assert (list(found) == []) is explained


def test_a_reason_nobody_knows_is_never_explained() -> None:
    diary = Diary(now=lambda: 0.0)
    diary.changes.append(link("down", 100.0, reason="mood"))
    assert list(unexplained(log(happened("reset", 99.0)), "50", diary, *[Pace(lambda: 0.0)] * 2, 0.0, 1e9))


# --- budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, apart_s, wrong", [(10, 0.1, 0), (11, 0.1, 1), (12, 0.1, 2), (40, 1.1, 0)])
def test_attempts_are_counted_on_both_sides(count: int, apart_s: float, wrong: int) -> None:
    policy = RetryPolicy(attempts_per_window=10, window_s=10.0)
    diary = Diary(now=lambda: 0.0)
    diary.changes.extend(link("connecting", at * apart_s) for at in range(count))
    assert len(list(attempts(diary, policy, PACE))) == wrong
    assert not list(attempts(diary, policy, PACE, lives=4))
    kinds = ("open", "tls", "botched")
    events = [
        {"ts": round(at * apart_s * 1000), "conn": "", "event": kinds[at % 3], "target": "/v5/public/linear"}
        for at in range(count)
    ]
    assert len(list(log(*events).attempts(policy, 1, PACE))) == wrong
    assert not list(log(*events).attempts(policy, 4, PACE))
    assert not log({"ts": 1, "conn": "", "event": "botched", "target": "/v5/market/time"}).attempts_ms


def test_attempts_of_who_was_held_up() -> None:
    policy = RetryPolicy(attempts_per_window=2, window_s=10.0)
    diary = Diary(now=lambda: 0.0)
    diary.changes.extend(link("connecting", at_s) for at_s in (100.0, 105.0, 109.0))
    heard = log(*(opened(at_s, str(at_s)) for at_s in (100.0, 105.0, 109.0)))
    for lost, wrong in (((), 1), ((98.5, 99.5), 1), ((98.9, 100.0), 0)):  # of what it was busy with long before: no
        pace = Pace(lambda: 0.0)
        if lost:
            pace.lose(*lost)
        assert len(list(attempts(diary, policy, pace))) == wrong
        assert len(list(heard.attempts(policy, 1, pace))) == wrong


# --- the program as a process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stalls, wrong",
    [
        ([], 1),
        ([(17.05, 2.02)], 0),
        ([(17.05, 0.6)], 1),  # said, but not how long
        ([(16.0, 2.0)], 1),  # before it was over
        ([(30.0, 2.0)], 1),  # much too late
    ],
)
def test_a_standstill_must_be_said(stalls: list[tuple[float, float]], wrong: int, tmp_path: Path) -> None:
    life = Life(0, tmp_path, 0.0)
    life.stopped += [(15.0, 17.0), (20.0, 20.3)]  # the second is too short to count
    life.stalls += stalls
    assert len(standstill_faults([life], PACE)) == wrong
    life.bursts.append("BTCUSDT: three ticks within 0.01 s")
    assert len(standstill_faults([life], PACE)) == wrong + 1


@pytest.mark.parametrize(
    "from_s, to_s, said, excused",
    [
        (17.0, 21.0, (20.9, 5.9), True),  # it was continued, and did not run
        (18.5, 21.0, (20.9, 5.9), False),  # when it ran at first
        (14.2, 15.0, (17.05, 5.2), True),  # it was starved before it was stopped
        (10.0, 11.0, (17.05, 5.2), False),  # long before
        (17.0, 21.0, (23.0, 2.0), False),  # too late all the same
        (17.0, 21.0, None, False),
    ],
)
def test_a_standstill_is_as_long_as_the_machine_makes_it(
    from_s: float, to_s: float, said: tuple[float, float] | None, excused: bool, tmp_path: Path
) -> None:
    life = Life(0, tmp_path, 0.0)
    life.stopped.append((15.0, 17.0))
    life.stalls += [said] if said else []
    pace = Pace(lambda: 0.0)
    pace.lose(15.0, 17.0)
    pace.lose(from_s, to_s)
    assert (standstill_faults([life], pace) == []) is excused


@pytest.mark.parametrize("killed_s, wrong", [(17.9, 0), (18.1, 1)])
def test_who_is_killed_first_need_not_say_it(killed_s: float, wrong: int, tmp_path: Path) -> None:
    life = Life(0, tmp_path, 0.0)
    life.stopped.append((15.0, 17.0))
    life.killed_s = killed_s
    assert len(standstill_faults([life], PACE)) == wrong


LAST_S = T0 / 1e9 + 3.0  # of the tape


@pytest.mark.parametrize(
    "known_s, ended_s, killed, wrong",
    [
        (0.0, 10.0, False, 0),
        (5.0, 10.0, False, 1),  # data that had been shown is missing
        (5.0, 10.0, True, 1),
        (5.0, 5.5, True, 0),  # of the last second before the kill
        (5.0, 5.5, False, 1),  # an orderly end loses nothing
    ],
)
def test_what_a_recording_may_lack(tmp_path: Path, known_s: float, ended_s: float, killed: bool, wrong: int) -> None:
    life = Life(0, tmp_path, 0.0)
    life.recording = simple_tape(tmp_path)
    life.known_s = [LAST_S - 1, LAST_S + known_s]
    if not known_s:
        life.known_s = [LAST_S - 3]
    found = recording_faults(life, LAST_S + ended_s, killed=killed, pace=Pace(lambda: 0.0))
    assert len(found) == wrong, found


@pytest.mark.parametrize("killed", [True, False])
def test_a_torn_end_is_a_killed_programs_right(tmp_path: Path, killed: bool) -> None:
    life = Life(0, tmp_path, 0.0)
    tape = simple_tape(tmp_path)
    file = max((path for path in (tape.rglob("*") if tape.is_dir() else [tape]) if path.is_file()), key=str)
    life.recording = tape
    file.write_bytes(file.read_bytes()[:-7])
    found = recording_faults(life, LAST_S, killed=killed, pace=Pace(lambda: 0.0))
    assert bool(found) is not killed
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    assert recording_faults(life, LAST_S, killed=True, pace=Pace(lambda: 0.0))  # nobody has a right to that


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    life = Life(0, tmp_path, 0.0)
    pace = Pace(lambda: 0.0)
    assert recording_faults(life, 1.0, killed=True, pace=pace) == []  # killed before there was anything
    life.known_s = [0.5]
    assert recording_faults(life, 1.0, killed=True, pace=pace)


def test_a_killed_recording_lacks_the_last_second_of_the_time_there_was(tmp_path: Path) -> None:
    life = Life(0, tmp_path, 0.0)
    life.recording = simple_tape(tmp_path)
    life.known_s = [LAST_S + 5.0]
    starved = Pace(lambda: 0.0)
    starved.lose(LAST_S + 5.5, LAST_S + 6.9)
    assert len(recording_faults(life, LAST_S + 6.9, killed=True, pace=PACE)) == 1
    assert recording_faults(life, LAST_S + 6.9, killed=True, pace=starved) == []
    assert len(recording_faults(life, LAST_S + 6.9, killed=False, pace=starved)) == 1


# --- measures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples, grew",
    [
        ([], 0),
        ([0] * 30 + [99] * 29, 0),  # too few to tell
        ([0] * 25 + [50] * 75, 0),  # the first quarter does not count
        ([0] * 25 + [50] * 20 + [900] * 5 + [50] * 25 + [60] * 20 + [900] * 5, 10),  # nor does a peak
    ],
)
def test_growth_is_that_of_the_second_half(samples: list[int], grew: int) -> None:
    assert growth(samples) == grew


def test_a_set_clock_moves_the_wall_and_nothing_else() -> None:
    clock = SetClock()
    wall, mono = clock()
    clock.jump(-3600)
    later_wall, later_mono = clock()
    assert -3600e9 <= later_wall - wall < -3590e9
    assert 0 <= later_mono - mono < 10e9
    assert clock.jumps == 1
