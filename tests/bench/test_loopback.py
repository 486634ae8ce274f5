"""The server, the clients, and that nothing counts without the right book."""

from __future__ import annotations

import contextlib
import socket
import threading

import msgspec
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request, TextMessage

from orderflow.bench import loopback
from orderflow.bench.client import COMPARED, Job, Kept, Outcome, Sheet, run_job
from orderflow.bench.frames import Frames
from orderflow.bench.loopback import (
    LoopbackError,
    Run,
    _rotated,
    find_fault,
    latencies,
    measure_flood,
    measure_paced,
    measure_tls,
    open_server,
)
from orderflow.bench.plan import QUICK
from orderflow.bench.ratios import BUSY
from orderflow.bench.server import Report, Truth, serve_client
from orderflow.bench.subject import many_symbols

TINY = msgspec.structs.replace(
    QUICK, rounds=1, processes=1, windows=8, flood=6000, flood_s=0.05, paced_s=0.2, rates=(1000.0,), rate=1000.0
)
TRUTH = {"A": Truth(bids={"10.0": "1.5", "9.5": "2"}, asks={"10.5": "3.0"})}
KEPT = Kept(bids=[(10.0, 1.5), (9.5, 2.0)], asks=[(10.5, 3.0)])


def _report(**changes: object) -> Report:
    report = Report(sent=3, first_ns=1000, step_ns=100, late=None, books=TRUTH)
    return msgspec.structs.replace(report, **changes)


def _outcome(**changes: object) -> Outcome:
    outcome = Outcome(messages=3, stamps=[1010, 1120, 1230], books={"A": KEPT})
    return msgspec.structs.replace(outcome, **changes)


def _kept(**changes: object) -> dict[str, Kept]:
    return {"A": msgspec.structs.replace(KEPT, **changes)}


def test_a_right_run_has_no_fault() -> None:
    assert find_fault(_outcome(), _report()) == ""


@pytest.mark.parametrize(
    "outcome, report, fault",
    [
        (_outcome(stamps=[1, 2]), _report(), "2 of 3 messages came"),
        (
            _outcome(books=_kept(bids=[(10.0, 1.5), (9.5, 2.5)])),
            _report(),
            "A: bids differ from the server's in 2 levels of 2",
        ),
        (
            _outcome(books=_kept(bids=[(9.5, 2.0), (10.0, 1.5)])),
            _report(),
            "A: bids differ from the server's in 0 levels of 2",
        ),
        (_outcome(books=_kept(asks=[])), _report(), "A: asks differ from the server's in 1 levels of 1"),
        (_outcome(books={}), _report(), "0 books, the server has 1"),
        (_outcome(), _report(error="BrokenPipeError"), "the server says: BrokenPipeError"),
    ],
)
def test_whatever_is_wrong_with_a_run_is_named(outcome: Outcome, report: Report, fault: str) -> None:
    assert find_fault(outcome, report) == fault


def test_latency_counts_from_when_a_message_was_due() -> None:
    step_ns, count = 2_000_000, 60
    outcome = _outcome(stamps=[1000 + number * step_ns + number for number in range(count)])
    assert latencies(Run(outcome, _report(sent=count, step_ns=step_ns))) == list(range(30, count))  # the edge is half


def test_the_first_tenth_of_a_second_does_not_count() -> None:
    step_ns, count = 2_000_000, 500
    outcome = _outcome(stamps=[1000 + number * step_ns + number for number in range(count)])
    assert latencies(Run(outcome, _report(sent=count, step_ns=step_ns))) == list(range(50, count))


def test_a_sheet_measures_between_its_first_and_last_mark() -> None:
    sheet = Sheet()
    assert not sheet.began
    assert sheet.outcome().messages == 0
    for u in (5, 7, 30):
        sheet.mark(u)
    outcome = sheet.outcome("late")
    assert outcome.messages == 25
    assert outcome.wall_s >= 0
    assert outcome.error == "late"


def test_another_client_is_first_in_each_round() -> None:
    orders = [_rotated(["a", "b", "c"], number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


# --- the server alone ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames() -> Frames:
    return Frames(50, 8)


def _served(frames: Frames, target: str, *, subscribes: bool) -> Report:
    """The report about a client that upgrades, perhaps subscribes, and goes away."""
    server, client = socket.socketpair()
    client.settimeout(10)
    reports: list[Report] = []
    task = threading.Thread(target=lambda: reports.append(serve_client(frames, server)))
    with server, client:
        task.start()
        ws = WSConnection(ConnectionType.CLIENT)
        client.sendall(ws.send(Request(host="localhost", target=target)))
        ws.receive_data(client.recv(4096))
        list(ws.events())
        if subscribes:
            client.sendall(ws.send(TextMessage(data='{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')))
        client.close()
        task.join(20)
    assert reports
    return reports[0]


@pytest.mark.parametrize(
    "target, subscribes",
    [
        ("/v5/public/linear?count=100000&rate=0&topics=1", True),
        ("/v5/public/linear?count=1&rate=0&topics=2", True),
        ("/v5/public/linear", False),
    ],
)
def test_a_client_that_goes_away_is_reported_and_survived(frames: Frames, target: str, subscribes: bool) -> None:
    report = _served(frames, target, subscribes=subscribes)
    assert report.error


# --- processes ----------------------------------------------------------------------------------------------------


@pytest.mark.socket
def test_every_client_ends_a_flood_with_the_servers_book() -> None:
    figures = measure_flood(TINY, 50)
    assert [(figure.name, figure.case) for figure in figures] == [
        (name, client) for name in ("messages", "processor time a message", "peak memory") for client in COMPARED
    ]
    assert all(figure.shown.p50 > 0 for figure in figures)
    assert {len(figure.rounds) for figure in figures} == {TINY.rounds}, "the trial does not count"


def test_floods_last_equally_long(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"orderflow": 100_000.0, "plain": 12_000.0, "trio": 100.0}
    asked: dict[str, list[int]] = {client: [] for client in speeds}

    class Fake:
        def run(self, client: str, count: int, rate: float, *, python: str = "") -> Run:
            asked[client].append(count)
            return Run(Outcome(messages=count, wall_s=count / speeds[client]), _report(sent=count))

    monkeypatch.setattr(loopback, "open_server", lambda *_: contextlib.nullcontext(Fake()))
    plan = msgspec.structs.replace(TINY, rounds=2, processes=2, flood_s=1.0, clients=tuple(speeds))
    figures = {figure.case: figure for figure in measure_flood(plan, 50) if figure.name == "messages"}
    assert asked == {"orderflow": [1000, *[50_000] * 4], "plain": [1000, *[6000] * 4], "trio": [1000] * 5}
    assert {client: [spread.p50 for spread in figure.rounds] for client, figure in figures.items()} == {
        client: [speed] * 2 for client, speed in speeds.items()
    }


@pytest.mark.socket
def test_every_client_gets_every_paced_message() -> None:
    figures = measure_paced(TINY, 50)
    assert [figure.case for figure in figures] == [COMPARED[0], BUSY, *COMPARED[1:], "server"]
    assert [figure.shown.count for figure in figures] == [100, 100, 100, 600]
    assert all(figure.rate == 1000.0 for figure in figures)


def test_a_paced_round_is_shared_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    class Fake:
        def run(self, client: str, count: int, rate: float, *, python: str = "") -> Run:
            asked.append((client, count))
            late_us = len(asked)
            stamps = [number * 1_000_000 + late_us * 1000 for number in range(count)]
            return Run(Outcome(stamps=stamps), _report(sent=count, first_ns=0, step_ns=1_000_000))

    monkeypatch.setattr(loopback, "open_server", lambda *_: contextlib.nullcontext(Fake()))
    plan = msgspec.structs.replace(TINY, rounds=2, processes=3, paced_s=0.6, clients=("orderflow",))
    ours, busy, _ = measure_paced(plan, 50)
    assert (ours.case, busy.case) == ("orderflow", BUSY)
    assert asked[:3] == [("orderflow", 200), (BUSY, 200), (BUSY, 200)]
    assert len(asked) == 12
    assert [(spread.count, spread.p50) for spread in ours.rounds] == [(300, 4.0), (300, 9.0)]
    assert [(spread.count, spread.p50) for spread in busy.rounds] == [(300, 3.0), (300, 10.0)]


@pytest.mark.socket
def test_both_are_measured_over_tls() -> None:
    plan = msgspec.structs.replace(TINY, clients=("orderflow", "trio-websocket"))
    assert {(figure.stage, figure.name, figure.case) for figure in measure_tls(plan)} == {
        ("tls", name, client)
        for name in ("messages", "processor time a message", "peak memory", "sent to book")
        for client in plan.clients
    } | {("tls", "sent to book", BUSY), ("tls", "server late", "server")}


@pytest.mark.socket
def test_a_flood_over_before_it_was_looked_at_is_no_figure() -> None:
    with pytest.raises(LoopbackError, match="too few"):
        measure_flood(msgspec.structs.replace(TINY, flood=6, clients=("trio-websocket",)), 50)


@pytest.mark.socket
def test_the_whole_program_keeps_many_books() -> None:
    symbols = many_symbols(12)  # more than one subscribe request
    with open_server(50, 40, 7) as server:
        run = server.run("program", 100, 2000, symbols=symbols, interval_s=0.1)
        idle = server.run("program", 0, 0, symbols=symbols, idle_s=0.2)
    assert set(run.outcome.books) == set(symbols)
    assert len(run.outcome.stamps) == run.report.sent == 100
    assert idle.outcome.messages == 0
    assert idle.outcome.wall_s >= 0.2
    assert 0 < idle.outcome.resident_mb <= idle.outcome.peak_mb


@pytest.mark.socket
def test_a_client_that_fails_fails_the_bench() -> None:
    with open_server(50, 8, 7) as server, pytest.raises(LoopbackError, match="nobody"):
        server.run("nobody", 10, 0)


async def test_a_client_that_does_not_get_there_says_so(autojump_clock: object) -> None:
    async def never(job: Job, sheet: Sheet, context: object) -> None:
        import trio

        await trio.sleep_forever()

    job = Job(client="never", url="", depth=50, count=1, stamp=False, timeout_s=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orderflow.bench.client.CLIENTS", {"never": never})
        outcome = await run_job(job)
    assert outcome.error == "not done after 9 s"
