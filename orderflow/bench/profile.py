"""Where the time goes: what each step of a message's way takes, alone and in a flood."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from orderflow.bench.loopback import latencies, open_server
from orderflow.bench.profiled import PROFILED
from orderflow.bench.results import Figure, Spread, single, spread

if TYPE_CHECKING:
    from orderflow.bench.loopback import Run
    from orderflow.bench.plan import Plan

WAKE: Final = "wake"
REST: Final = "rest"
_ROWS: Final = {
    WAKE: "due to awake",
    "read": "awake to read and stamped",
    "cut": "to messages",
    "decode": "to events: decoded, vetted, counted",
    "apply": "to book: handed on, applied, checked, stamped",
    REST: "between reads: the scheduler, the kernel",
}


def measure_profile(plan: Plan) -> list[Figure]:
    """Each step at the first depth: at the plan's rate, and a message's share of it in a flood.

    Raises: LoopbackError.
    """
    depth = plan.depths[0]
    paced: dict[str, list[Spread]] = defaultdict(list)
    flood: dict[str, list[Spread]] = defaultdict(list)
    count = max(20, round(plan.rate * plan.paced_s))
    with open_server(depth, plan.windows, plan.seed) as server:
        for _ in range(plan.rounds):
            for step, spans in split(server.run(PROFILED, count, plan.rate)).items():
                paced[step].append(spread(spans))
            for step, mean_us in shares(server.run(PROFILED, plan.flood, 0)).items():
                flood[step].append(single(mean_us))
    return [
        Figure(
            stage="profile", name=_ROWS[step], case=case, unit="us", rounds=tuple(rounds), depth=depth, rate=rate
        )
        for case, rate, steps in (("paced", plan.rate, paced), ("flood", None, flood))
        for step, rounds in steps.items()
    ]  # fmt: skip


def split(run: Run) -> dict[str, list[int]]:
    """Nanoseconds of each step of each delta of a paced run, from when it was due; the first few are left out."""
    total = latencies(run)
    steps = {step: spans[-len(total) :] for step, spans in run.outcome.steps.items()}
    return {WAKE: [whole - sum(parts) for whole, *parts in zip(total, *steps.values(), strict=True)], **steps}


def shares(run: Run) -> dict[str, float]:
    """Microseconds a message of each step of a flood, and of what lies between two reads."""
    outcome = run.outcome
    means = {step: sum(spans) / len(spans) / 1e3 for step, spans in outcome.steps.items()}
    return {**means, REST: outcome.wall_s / outcome.messages * 1e6 - sum(means.values())}
