"""Whole processes: how much memory `orderflow run` takes, and how soon commands are there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from orderflow.bench.memory import resident_mb
from orderflow.bench.results import Figure, single
from orderflow.bench.spawn import child_environment, module_command, orderflow_command, spawned
from orderflow.core.errors import OrderflowError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orderflow.bench.plan import Plan

CROWDS: Final = ((1, 50), (10, 50), (10, 200))
"""(symbols, depth) of the runs of which the memory is read."""
_START_DEPTH: Final = 50
_STARTS: Final[Mapping[str, Sequence[str]]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import orderflow.app": (sys.executable, "-c", "import orderflow.app"),
    "orderflow --help": orderflow_command("--help"),
}


class ProcessError(OrderflowError):
    """A process that should have run did not: its figures count for nothing."""


@contextmanager
def local_exchange(symbols: int) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A simulated exchange in a process of its own.

    Yields: the variables that point orderflow at it, and the names of `symbols` busy instruments.
    Raises: ProcessError.
    """
    command = module_command(
        "orderflow.sim.command", "--port", "0", "--json", "--symbols", "BTCUSDT", "--count", str(symbols - 1)
    )
    names = ["BTCUSDT", *(f"SIM{number:04d}USDT" for number in range(symbols - 1))]
    with spawned(command) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ProcessError("the simulated exchange did not start")
        yield json.loads(line)["environment"], names


@contextmanager
def monitor(environment: Mapping[str, str], names: Sequence[str], depth: int) -> Iterator[subprocess.Popen[bytes]]:
    """`orderflow run` with JSON lines, in an empty folder, so that nobody's settings count."""
    options = [option for name in names for option in ("--symbol", name)]
    command = orderflow_command("run", "--log-format", "json", "--depth", str(depth), "--interval", "1", *options)
    with (
        tempfile.TemporaryDirectory(prefix="orderflow-bench-") as folder,
        spawned(command, environment=environment, directory=folder) as process,
    ):
        yield process


def wait_live(process: subprocess.Popen[bytes], books: int = 1) -> None:
    """Read a monitor's lines until so many books have become live. Raises: ProcessError when it ends before."""
    assert process.stdout is not None
    live: set[str] = set()
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "feed" and event["kind"] == "book" and event["state"] == "live":
            live.add(event["symbol"])
            if len(live) >= books:
                return
    raise ProcessError(f"`orderflow run` ended with {len(live)} of {books} books live")


# --- the stages ---------------------------------------------------------------------------------------------------


def measure_memory(plan: Plan) -> list[Figure]:
    """Peak resident memory of `orderflow run` after its books were live for a while. Raises: ProcessError."""
    figures = []
    for symbols, depth in CROWDS:
        with local_exchange(symbols) as (environment, names), monitor(environment, names, depth) as process:
            wait_live(process, symbols)
            _drain(process, plan.watch_s)
            peak = resident_mb(process.pid)[1]
        case = f"{symbols} symbol{'s' if symbols > 1 else ''}"
        rounds = (single(peak),)
        figures.append(Figure(stage="memory", name="memory", case=case, unit="MB", rounds=rounds, depth=depth))
    return figures


def _drain(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Read a monitor's lines, of which one comes every second, for about so long."""
    assert process.stdout is not None
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.stdout.readline():
        pass


def measure_startup(plan: Plan) -> list[Figure]:
    """Seconds from exec to the end of short commands, and to the first live book. Raises: ProcessError."""
    seconds: dict[str, list[float]] = {name: [] for name in [*_STARTS, "first live book"]}
    with local_exchange(1) as (environment, names):
        for _ in range(plan.starts):
            for name, command in _STARTS.items():
                seconds[name].append(_time_command(command))
            began = time.perf_counter()
            with monitor(environment, names, _START_DEPTH) as process:
                wait_live(process)
                seconds["first live book"].append(time.perf_counter() - began)
    return [
        Figure(stage="startup", name=name, case="", unit="s", rounds=tuple(single(took) for took in values))
        for name, values in seconds.items()
    ]


def _time_command(command: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=child_environment(), check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise ProcessError(f"{command[-1]}: exit code {done.returncode}")
    return took
