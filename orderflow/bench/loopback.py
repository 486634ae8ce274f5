"""Socket to book over loopback: a server process, and one client process a measurement, in alternating rounds."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import trio

from orderflow.bench.certificate import HOST, papers
from orderflow.bench.client import CLIENTS, Job, Outcome, run_job
from orderflow.bench.ratios import BUSY
from orderflow.bench.results import Figure, Spread, single, spread
from orderflow.bench.server import Listening, Orders, Report
from orderflow.bench.spawn import child_environment, module_command, spawned
from orderflow.core.errors import OrderflowError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orderflow.bench.certificate import Papers
    from orderflow.bench.client import Client
    from orderflow.bench.plan import Plan

_MARGIN_S: Final = 20.0
_SLOWEST: Final = 1000  # messages/s that a client must reach in a flood, or it is given up
_TRIAL_SHARE: Final = 6  # of the messages of a flood, to see how many a client takes in a second
_EDGE_S: Final = 0.1  # of a paced run, not counted: the client has only just started


class LoopbackError(OrderflowError):
    """A client did not end, or not with the server's book: its figures count for nothing."""


class Run(NamedTuple):
    """One client's run and the server's side of it."""

    outcome: Outcome
    report: Report


class Server:
    """The server process. Made by `open_server`. Args: ca_file: of its authority; "" without TLS."""

    def __init__(self, process: subprocess.Popen[bytes], depth: int, ca_file: str) -> None:
        self._process = process
        self._depth = depth
        self._ca_file = ca_file
        self._port = msgspec.json.decode(self._line(), type=Listening).port

    def run(
        self,
        client: str,
        count: int,
        rate: float,
        *,
        python: str = "",
        symbols: tuple[str, ...] = (),
        interval_s: float = 1.0,
        idle_s: float = 0.0,
        record_into: str = "",
    ) -> Run:
        """Let one client have `count` messages; rate 0 is a flood. The rest: see `Job`. Raises: LoopbackError."""
        job = self._job(
            client, count, rate, interval_s=interval_s, idle_s=idle_s, record_into=record_into, topics=len(symbols) or 1
        )
        if symbols:
            job = msgspec.structs.replace(job, symbols=symbols)
        return self._judged(client, _run_client(job, python))

    def run_here(self, name: str, client: Client, count: int, rate: float, *, stamp: bool | None = None) -> Run:
        """The same in this process, for what takes turns in it.

        Args: stamp: note when each message is in the book; None: unless it is a flood.
        Raises: LoopbackError.
        """
        job = self._job(name, count, rate)
        if stamp is not None:
            job = msgspec.structs.replace(job, stamp=stamp)
        outcome = trio.run(run_job, job, client)
        if outcome.error:
            raise LoopbackError(f"{name}: {outcome.error}")
        return self._judged(name, outcome)

    def _job(
        self, client: str, count: int, rate: float, *, interval_s: float = 1.0, idle_s: float = 0.0,
        record_into: str = "", topics: int = 1,
    ) -> Job:  # fmt: skip
        scheme = "wss" if self._ca_file else "ws"
        return Job(
            client=client,
            url=f"{scheme}://{HOST}:{self._port}/v5/public/linear?count={count}&rate={rate:g}&topics={topics}",
            depth=self._depth,
            count=count,
            stamp=bool(rate),
            timeout_s=(count / rate if rate else count / _SLOWEST) + idle_s + _MARGIN_S,
            ca_file=self._ca_file,
            interval_s=interval_s,
            idle_s=idle_s,
            record_into=record_into,
        )

    def _judged(self, client: str, outcome: Outcome) -> Run:
        """Raises: LoopbackError when messages were lost or the book is not ours."""
        report = msgspec.json.decode(self._line(), type=Report)
        fault = find_fault(outcome, report)
        if fault:
            raise LoopbackError(f"{client}: {fault}")
        return Run(outcome, report)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoopbackError("the server process ended")
        return line


@contextmanager
def open_server(depth: int, windows: int, seed: int, tls: Papers | None = None) -> Iterator[Server]:
    """A server process for one depth. Raises: LoopbackError."""
    orders = Orders(depth=depth, windows=windows, seed=seed, key_file=tls.key_file if tls else "")
    with spawned(module_command("orderflow.bench.server", msgspec.json.encode(orders).decode())) as process:
        yield Server(process, depth, tls.ca_file if tls else "")


def _run_client(job: Job, python: str = "") -> Outcome:
    """Run one client in a process of its own. Raises: LoopbackError."""
    command = module_command("orderflow.bench.client", msgspec.json.encode(job).decode(), python=python)
    done = subprocess.run(command, capture_output=True, env=child_environment(), check=False)
    if done.returncode:
        raise LoopbackError(f"{job.client}: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    try:
        outcome = msgspec.json.decode(done.stdout, type=Outcome)
    except msgspec.MsgspecError as exc:  # a library that prints
        raise LoopbackError(f"{job.client}: no outcome: {exc}") from None
    if outcome.error:
        raise LoopbackError(f"{job.client}: {outcome.error}")
    return outcome


def find_fault(outcome: Outcome, report: Report) -> str:
    """What is wrong with a run: messages lost, or a book that is not the server's, level by level; "" for nothing."""
    if outcome.stamps and len(outcome.stamps) != report.sent:
        return f"{len(outcome.stamps)} of {report.sent} messages came"
    if outcome.books.keys() != report.books.keys():
        return f"{len(outcome.books)} books, the server has {len(report.books)}"
    for symbol, truth in report.books.items():
        book = outcome.books[symbol]
        for side, got, true in (("bids", book.bids, truth.bids), ("asks", book.asks, truth.asks)):
            want = sorted(((float(price), float(size)) for price, size in true.items()), reverse=side == "bids")
            if got != want:
                wrong = len(set(got) ^ set(want))
                return f"{symbol}: {side} differ from the server's in {wrong} levels of {len(want)}"
    return f"the server says: {report.error}" if report.error else ""


# --- the stages ---------------------------------------------------------------------------------------------------


def measure_flood(plan: Plan, depth: int) -> list[Figure]:
    """Messages/s and processor time a message of every client, back to back. Raises: LoopbackError."""
    return _flood(plan, depth, "flood", None)


def measure_paced(plan: Plan, depth: int) -> list[Figure]:
    """Latency from the scheduled send time to the applied book at each rate. Raises: LoopbackError.

    The server's own lateness is part of it, and a figure of its own.
    """
    rates = plan.rates if depth == plan.depths[0] else (plan.rate,)
    return [figure for rate in rates for figure in _paced(plan, depth, rate, "paced", None)]


def measure_tls(plan: Plan) -> list[Figure]:
    """Both over TLS, at the first depth and the plan's rate. Raises: LoopbackError."""
    depth = plan.depths[0]
    with papers() as tls:
        return [
            *_flood(plan, depth, "tls", tls),
            *_paced(plan, depth, plan.rate, "tls", tls),
        ]


def _flood(plan: Plan, depth: int, stage: str, tls: Papers | None) -> list[Figure]:
    """Floods that last equally long, whoever takes them: what a machine does beside them disturbs all the same."""
    counts: dict[str, int] = {}  # after a trial
    turns: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    rates: dict[str, list[Spread]] = defaultdict(list)
    costs: dict[str, list[Spread]] = defaultdict(list)
    peaks: dict[str, list[Spread]] = defaultdict(list)

    def count(client: str) -> int:
        return counts.get(client, plan.flood // _TRIAL_SHARE)

    for client, run in _rounds(plan, 1 + plan.rounds * plan.processes, plan.clients, depth, count, 0, tls):
        outcome = run.outcome
        if not outcome.messages:
            raise LoopbackError(f"{client}: took everything in one read: too few messages to measure")
        rate = outcome.messages / outcome.wall_s
        if client not in counts:
            counts[client] = max(count(client), round(rate * plan.flood_s / plan.processes))
            continue
        turns[client].append((rate, outcome.cpu_s / outcome.messages * 1e6, outcome.peak_mb))
        if len(turns[client]) == plan.processes:
            for rounds, values in zip((rates, costs, peaks), zip(*turns.pop(client), strict=True), strict=True):
                rounds[client].append(single(median(values)))
    found = (("messages", "msg/s", rates), ("processor time a message", "us", costs), ("peak memory", "MB", peaks))
    return [
        Figure(
            stage=stage, name=name, case=client, unit=unit, rounds=tuple(by_client[client]), depth=depth,
            more_is_better=name == "messages",
        )
        for name, unit, by_client in found
        for client in plan.clients
        if client in by_client
    ]  # fmt: skip


def _paced(plan: Plan, depth: int, rate: float, stage: str, tls: Papers | None) -> list[Figure]:
    spreads: dict[str, list[Spread]] = defaultdict(list)
    late: list[Spread] = []
    ours, *others = plan.clients
    clients = (ours, BUSY, *others)
    turns: dict[str, list[list[int]]] = defaultdict(list)
    count = max(20, round(rate * plan.paced_s / plan.processes))
    rounds = plan.rounds * plan.processes
    for client, run in _rounds(plan, rounds, clients, depth, lambda _: count, rate, tls):
        turns[client].append(latencies(run))
        if len(turns[client]) == plan.processes:
            spreads[client].append(spread(list(chain.from_iterable(turns.pop(client)))))
        if run.report.late is not None:
            late.append(run.report.late)
    found: list[tuple[str, str, Sequence[Spread]]] = [
        ("sent to book", client, spreads[client]) for client in clients if client in spreads
    ]
    return [
        Figure(stage=stage, name=name, case=case, unit="us", rounds=tuple(rounds), depth=depth, rate=rate)
        for name, case, rounds in [*found, ("server late", "server", late)]
    ]


def _rounds(
    plan: Plan,
    rounds: int,
    names: Sequence[str],
    depth: int,
    count: Callable[[str], int],
    rate: float,
    tls: Papers | None,
) -> Iterator[tuple[str, Run]]:
    """Every client's runs of so many messages, the clients in turn, another one first in each round.

    Another library that does not get there is named and left out.

    Raises: LoopbackError for our own.
    """
    clients = list(names)
    with open_server(depth, plan.windows, plan.seed, tls) as server:
        for number in range(rounds):
            for client in _rotated(clients, number):
                python = "" if client in CLIENTS else plan.peers_python
                try:
                    yield client, server.run(client, count(client), rate, python=python)
                except LoopbackError as exc:
                    if client in CLIENTS:
                        raise
                    sys.stderr.write(f"left out: {escape_text(str(exc), 300)}\n")
                    clients.remove(client)


def _rotated(clients: list[str], by: int) -> list[str]:
    """Another one first."""
    at = by % len(clients)
    return clients[at:] + clients[:at]


def latencies(run: Run) -> list[int]:
    """Nanoseconds from when each delta was due to when it was in the book; the first few are left out."""
    first_ns, step_ns = run.report.first_ns, run.report.step_ns
    edge = min(len(run.outcome.stamps) // 2, round(_EDGE_S * 1e9 / step_ns))
    return [at - first_ns - number * step_ns for number, at in enumerate(run.outcome.stamps)][edge:]
