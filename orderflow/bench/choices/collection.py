"""How long a full garbage collection takes of what start-up leaves, set aside and not; in a process of its own.

As a module of its own it imports what a run imports and prints, as JSON, the milliseconds of each turn.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from statistics import median

import msgspec

from orderflow.bench.options import CHOICES
from orderflow.bench.processes import ProcessError
from orderflow.bench.results import Figure, single
from orderflow.bench.spawn import child_environment, module_command

_TIMEOUT_S = 60.0


class Collections(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of a full collection, turn by turn. `objects`: that start-up left."""

    set_aside: list[float]
    looked_at: list[float]
    objects: int


def measure_collection(rounds: int, turns: int) -> list[Figure]:
    """A full collection with and without `gc.freeze`. Raises: ProcessError."""
    runs = [_ask(turns) for _ in range(rounds)]
    cases = {"set aside by gc.freeze": "set_aside", "looked at": "looked_at"}
    return [
        Figure(
            stage=CHOICES,
            name="full collection after start-up",
            case=case,
            unit="ms",
            rounds=tuple(single(median(getattr(run, field))) for run in runs),
        )
        for case, field in cases.items()
    ]


def _ask(turns: int) -> Collections:
    """Raises: ProcessError."""
    command = module_command("orderflow.bench.choices.collection", str(turns))
    done = subprocess.run(command, capture_output=True, env=child_environment(), timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise ProcessError(f"full collection: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    return msgspec.json.decode(done.stdout, type=Collections)


def time_collections(turns: int) -> Collections:
    """Full collections of this process, with what it has made so far set aside and not, alternately."""
    gc.collect()
    objects = len(gc.get_objects())
    set_aside, looked_at = [], []
    for _ in range(turns):
        gc.freeze()
        set_aside.append(_collect_ms())
        gc.unfreeze()
        looked_at.append(_collect_ms())
    return Collections(set_aside=set_aside, looked_at=looked_at, objects=objects)


def _collect_ms() -> float:
    began = time.perf_counter_ns()
    gc.collect()
    return (time.perf_counter_ns() - began) / 1e6


def _start_up() -> object:
    """What a run with REST has when its feed runs: the program, settings, plugins, an HTTP client."""
    import trio

    from orderflow import bundled
    from orderflow.app import Monitor
    from orderflow.config.cage import dynaconf_tokens
    from orderflow.config.tree import PluginSettings
    from orderflow.hooks.setup import set_up
    from orderflow.net.rest import open_rest

    async def import_http() -> None:
        async with open_rest("http://127.0.0.1", 1.0):
            pass

    trio.run(import_http)
    return Monitor, dynaconf_tokens(), set_up(PluginSettings(entry_points=False), bundled.plugins_folder())


if __name__ == "__main__":
    _kept = _start_up()
    sys.stdout.buffer.write(msgspec.json.encode(time_collections(int(sys.argv[1]))))
