"""Where the time goes: every nanosecond of a message's way stands in one step."""

from __future__ import annotations

import msgspec
import pytest

from orderflow.bench.client import Outcome
from orderflow.bench.loopback import Run, latencies
from orderflow.bench.plan import QUICK
from orderflow.bench.profile import measure_profile, shares, split
from orderflow.bench.server import Report

STEPS = {"read": [10, 20, 30], "cut": [1, 2, 3], "decode": [100, 200, 300], "apply": [5, 5, 5]}
RUN = Run(
    Outcome(messages=2, wall_s=0.000_002, stamps=[1500, 1900, 2000], steps=STEPS),
    Report(sent=3, first_ns=1000, step_ns=100, late=None, books={}),
)


def test_the_steps_of_a_message_add_up_to_its_latency() -> None:
    total = latencies(RUN)
    found = split(RUN)
    assert found["wake"] == [500 - 116, 800 - 227, 800 - 338][-len(total) :]
    assert [sum(parts) for parts in zip(*found.values(), strict=True)] == total


def test_the_steps_of_a_flood_add_up_to_its_time() -> None:
    found = shares(RUN)
    assert found["decode"] == pytest.approx(0.2)
    assert found["rest"] == pytest.approx(1 - 0.020 - 0.002 - 0.2 - 0.005)


@pytest.mark.socket
def test_every_step_is_measured_with_the_server_s_book_at_the_end() -> None:
    plan = msgspec.structs.replace(QUICK, rounds=1, windows=8, flood=1000, paced_s=0.2, rate=1000.0)
    figures = {(figure.name.partition(":")[0], figure.case): figure for figure in measure_profile(plan)}
    steps = ["awake to read and stamped", "to messages", "to events", "to book"]
    assert [name for name, case in figures if case == "paced"] == ["due to awake", *steps]
    assert [name for name, case in figures if case == "flood"] == [*steps, "between reads"]
    assert all(figures[name, case].shown.p50 > 0 for name in steps for case in ("paced", "flood"))
    assert {figure.rate for figure in figures.values()} == {1000.0, None}
