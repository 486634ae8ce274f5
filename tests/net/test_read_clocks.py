"""Both clocks are read together, or read again: a process that is preempted between them has not seen a clock step."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from orderflow.net import tap

if TYPE_CHECKING:
    import pytest


class Machine:
    """Time that runs by itself, and stands between two readings as long as it is told to."""

    def __init__(self, *pauses_ns: int) -> None:
        self.now_ns = 0
        self._pauses_ns = list(pauses_ns)

    def monotonic_ns(self) -> int:
        return self._read()

    def time_ns(self) -> int:
        return 10**18 + self._read()

    def _read(self) -> int:
        now_ns = self.now_ns
        self.now_ns += self._pauses_ns.pop(0) if self._pauses_ns else 50
        return now_ns


def apart_ns(monkeypatch: pytest.MonkeyPatch, *pauses_ns: int) -> int:
    machine = Machine(*pauses_ns)
    monkeypatch.setattr(tap, "_monotonic_ns", machine.monotonic_ns)
    monkeypatch.setattr(tap, "_time_ns", machine.time_ns)
    wall_ns, mono_ns = tap.read_clocks()
    return abs(wall_ns - 10**18 - mono_ns)


def test_a_preempted_reading_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart_ns(monkeypatch) <= 50
    for pauses in ([5_000_000], [50, 5_000_000], [5_000_000, 5_000_000], [50, 9_000_000, 50, 9_000_000]):
        assert apart_ns(monkeypatch, *pauses) <= 1_000, pauses


def test_a_machine_that_is_always_late_gets_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart_ns(monkeypatch, *[3_000_000] * 100) <= 3_000_000


def test_real_clocks_go_forward() -> None:
    readings = [tap.read_clocks()[1] for _ in range(100)]
    assert all(earlier <= later for earlier, later in pairwise(readings))
