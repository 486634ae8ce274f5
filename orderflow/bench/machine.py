"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from orderflow import __version__
from orderflow.bench.results import spread

_PACKAGES: Final = ("trio", "trio-websocket", "wsproto", "msgspec", "sortedcontainers")
_NAPS: Final = 100


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the machine and the interpreter.

    Args:
        cores: that this process may use.
        load: of the last minute when the bench began; other work on the machine shows up in every figure.
        clock_ns: what reading the clock once adds to every timed span.
        wake_us: median by which a 2 ms sleep oversleeps: what any waiting program pays before its first instruction.
    """

    orderflow: str
    python: str
    system: str
    cpu: str
    cores: int
    load: float | None
    clock_ns: float
    wake_us: float
    packages: dict[str, str]


def describe_machine() -> Machine:
    """Look around; takes a quarter of a second."""
    return Machine(
        orderflow=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu_name(Path("/proc/cpuinfo")),
        cores=_usable_cores(),
        load=_load(),
        clock_ns=_clock_cost_ns(),
        wake_us=_oversleep_us(),
        packages={name: metadata.version(name) for name in _PACKAGES},
    )


def _cpu_name(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _clock_cost_ns() -> float:
    clock = time.perf_counter_ns
    began = clock()
    for _ in range(10_000):
        clock()
    return round((clock() - began) / 10_000, 1)


def _oversleep_us() -> float:
    late = []
    for _ in range(_NAPS):
        began = time.perf_counter_ns()
        time.sleep(0.002)
        late.append(time.perf_counter_ns() - began - 2_000_000)
    return round(spread(late).p50, 1)
