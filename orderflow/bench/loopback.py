"""Socket to book over loopback: a server process, and one client process a measurement, in alternating rounds."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from orderflow.bench.client import CLIENTS, Job, Outcome
from orderflow.bench.results import Figure, Spread, single, spread
from orderflow.bench.server import Listening, Orders, Report
from orderflow.bench.spawn import child_environment, module_command, spawned
from orderflow.bench.subject import FIRST_U
from orderflow.core.errors import OrderflowError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderflow.bench.plan import Plan

_MARGIN_S: Final = 20.0
_SLOWEST: Final = 2000  # messages/s that a client must reach in a flood, or it is given up
_SHARE: Final = {50: 1.0, 200: 0.5, 1000: 0.25}  # of the plan's flood, by depth
_EDGE: Final = 50  # first messages of a paced run, not counted: the client has only just started


class LoopbackError(OrderflowError):
    """A client did not end, or not with the server's book: its figures count for nothing."""


class Run(NamedTuple):
    """One client's run and the server's side of it."""

    outcome: Outcome
    report: Report


class Server:
    """The server process. Made by `open_server`."""

    def __init__(self, process: subprocess.Popen[bytes], depth: int) -> None:
        self._process = process
        self._depth = depth
        self._port = msgspec.json.decode(self._line(), type=Listening).port

    def run(self, client: str, count: int, rate: float) -> Run:
        """Let one client have `count` messages; rate 0 is a flood. Raises: LoopbackError."""
        lasts_s = count / rate if rate else count / _SLOWEST
        job = Job(
            client=client,
            url=f"ws://127.0.0.1:{self._port}/v5/public/linear?count={count}&rate={rate:g}",
            depth=self._depth,
            last_u=FIRST_U + count,
            stamp=bool(rate),
            timeout_s=lasts_s + _MARGIN_S,
        )
        outcome = _run_client(job)
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
def open_server(depth: int, windows: int, seed: int) -> Iterator[Server]:
    """A server process for one depth. Raises: LoopbackError."""
    orders = msgspec.json.encode(Orders(depth=depth, windows=windows, seed=seed)).decode()
    with spawned(module_command("orderflow.bench.server", orders)) as process:
        yield Server(process, depth)


def _run_client(job: Job) -> Outcome:
    """Run one client in a process of its own. Raises: LoopbackError."""
    command = module_command("orderflow.bench.client", msgspec.json.encode(job).decode())
    done = subprocess.run(command, capture_output=True, env=child_environment(), check=False)
    if done.returncode:
        raise LoopbackError(f"{job.client}: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    if outcome.error:
        raise LoopbackError(f"{job.client}: {outcome.error}")
    return outcome


def find_fault(outcome: Outcome, report: Report) -> str:
    """What is wrong with a run: messages lost, or a book that is not the server's, level by level; "" for nothing."""
    if outcome.stamps and len(outcome.stamps) != report.sent:
        return f"{len(outcome.stamps)} of {report.sent} messages came"
    for side, got, true in (("bids", outcome.bids, report.bids), ("asks", outcome.asks, report.asks)):
        want = sorted(((float(price), float(size)) for price, size in true.items()), reverse=side == "bids")
        if got != want:
            wrong = len(set(got) ^ set(want))
            return f"{side} differ from the server's in {wrong} levels of {len(want)}"
    return f"the server says: {report.error}" if report.error else ""


# --- the stages ---------------------------------------------------------------------------------------------------


def measure_flood(plan: Plan, depth: int) -> list[Figure]:
    """Messages/s and processor time a message of every client, back to back. Raises: LoopbackError."""
    rates: dict[str, list[Spread]] = defaultdict(list)
    costs: dict[str, list[Spread]] = defaultdict(list)
    for client, run in _rounds(plan, depth, round(plan.flood * _SHARE[depth]), 0):
        outcome = run.outcome
        rates[client].append(single(outcome.messages / outcome.wall_s))
        costs[client].append(single(outcome.cpu_s / outcome.messages * 1e6))
    return [
        *(_flood("messages", client, "msg/s", depth, found, more_is_better=True) for client, found in rates.items()),
        *(_flood("processor time a message", client, "us", depth, found) for client, found in costs.items()),
    ]


def _rounds(plan: Plan, depth: int, count: int, rate: float) -> Iterator[tuple[str, Run]]:
    """Every client's runs, the clients in turn. Another library that does not get there is named and left out.

    Raises: LoopbackError for our own.
    """
    clients = list(plan.clients)
    with open_server(depth, plan.windows, plan.seed) as server:
        for _ in range(plan.rounds):
            for client in clients.copy():
                try:
                    yield client, server.run(client, count, rate)
                except LoopbackError as exc:
                    if client in CLIENTS:
                        raise
                    sys.stderr.write(f"left out: {escape_text(str(exc), 300)}\n")
                    clients.remove(client)


def _flood(
    name: str, client: str, unit: str, depth: int, rounds: Sequence[Spread], *, more_is_better: bool = False
) -> Figure:
    return Figure(
        stage="flood", name=name, case=client, unit=unit, rounds=tuple(rounds), depth=depth,
        more_is_better=more_is_better,
    )  # fmt: skip


def measure_paced(plan: Plan, depth: int) -> list[Figure]:
    """Latency from the scheduled send time to the applied book at the plan's rate. Raises: LoopbackError.

    The server's own lateness is part of it, and a figure of its own.
    """
    spreads: dict[str, list[Spread]] = defaultdict(list)
    late: list[Spread] = []
    for client, run in _rounds(plan, depth, plan.paced, plan.rate):
        spreads[client].append(spread(latencies(run)))
        if run.report.late is not None:
            late.append(run.report.late)
    found = [("sent to book", client, rounds) for client, rounds in spreads.items()]
    return [
        Figure(stage="paced", name=name, case=case, unit="us", rounds=tuple(rounds), depth=depth, rate=plan.rate)
        for name, case, rounds in [*found, ("server late", "server", late)]
    ]


def latencies(run: Run) -> list[int]:
    """Nanoseconds from when each delta was due to when it was in the book; the first few are left out."""
    first_ns, step_ns = run.report.first_ns, run.report.step_ns
    return [at - first_ns - number * step_ns for number, at in enumerate(run.outcome.stamps)][_EDGE:]
