"""hftbacktest itself reads what we export, and its own depth is our book.

It runs in a process of its own: from this environment when it is installed there, or from the interpreter that
HFTBACKTEST_PYTHON names (it wants an older numpy and brings plotting libraries, so it is in no extra).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy", reason="needs the extra `export`")

from orderflow.cli import main
from orderflow.core.types import Level
from tests.export.tapes import MS, T0_MS, Tape, book, trade
from tests.export.test_tables import replayed
from tests.record.tapes import BTC, T0

if TYPE_CHECKING:
    from orderflow.core.types import Level

PYTHON = os.environ.get("HFTBACKTEST_PYTHON")
SCRIPT = Path(__file__).parents[1] / "peers" / "run_hftbacktest.py"
TICK, LOT = "0.1", "0.001"

pytestmark = pytest.mark.peers


def hftbacktest(files: list[str], times: list[int]) -> dict[str, Any]:
    if PYTHON is None and find_spec("hftbacktest") is None:
        pytest.skip("hftbacktest is not installed, and HFTBACKTEST_PYTHON names no interpreter that has it")
    plan = {"files": files, "times": times, "tick_size": float(TICK), "lot_size": float(LOT)}
    command = [PYTHON or sys.executable, str(SCRIPT), json.dumps(plan)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class Market:
    """A wandering book of which each message says what changed; now and then a restart, a gap, a late trade."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._mid = 1000  # in ticks
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.u = 10

    def _levels(self) -> tuple[dict[int, int], dict[int, int]]:
        spread = self._random.randint(1, 3)
        bids = {self._mid - n: self._random.randint(1, 9000) for n in range(20) if self._random.random() < 0.8}
        asks = {self._mid + spread + n: self._random.randint(1, 9000) for n in range(20) if self._random.random() < 0.8}
        return bids, asks

    def snapshot(self, cts: int) -> bytes:
        self._sides = self._levels()
        self.u += 100
        bids, asks = ([(_price(p), _size(s)) for p, s in side.items()] for side in self._sides)
        return book(self.u, bids, asks, "snapshot", cts=cts)

    def delta(self, cts: int) -> bytes:
        self._mid += self._random.choice((-6, -1, 0, 0, 1, 6))
        after = self._levels()
        changes = []
        for old, new in zip(self._sides, after, strict=True):
            kept = {p: s for p, s in old.items() if p in new and self._random.random() < 0.5}
            new.update(kept)
            gone = [(_price(p), "0") for p in old if p not in new]
            changes.append(gone + [(_price(p), _size(s)) for p, s in new.items() if old.get(p) != s])
        self._sides = after
        self.u += 1
        return book(self.u, *changes, cts=cts)

    def gap(self, cts: int) -> bytes:
        self.u += 5
        return self.delta(cts)


def _price(ticks: int) -> str:
    return f"{ticks / 10:.1f}"


def _size(lots: int) -> str:
    return f"{lots / 1000:.3f}"


def record(folder: Path, behind_ms: int) -> None:
    """Ten minutes over midnight. `behind_ms`: our clock is late by so much."""
    market, chance = Market(3), random.Random(4)
    start = (T0 // (86_400_000 * MS) + 1) * 86_400_000 - 300_000 - T0_MS  # ms after T0
    tape = Tape(folder, [BTC])
    tape.fact(TICK, LOT)
    for step in range(1200):
        at = start + step * 500
        cts = T0_MS + at
        latency = 3 + chance.randint(0, 30) - behind_ms
        kind = market.snapshot if step % 400 == 0 else market.gap if step % 400 == 380 else market.delta
        messages = [kind(cts)]
        if chance.random() < 0.4:  # matched before the book that shows it, told after it
            messages.append(trade(_price(1000), "0.5", match=cts - chance.randint(0, 40)))
        tape.frames((at + latency) * MS, messages)
        if step % 20 == 19:
            tape.tick((at + latency + 100) * MS)
        if step % 100 == 0:
            tape.block()
    tape.close()


def in_ticks(levels: list[Level]) -> dict[str, float]:
    return {str(round(price / float(TICK))): size for price, size in levels}


@pytest.mark.parametrize("behind_ms", [0, 900], ids=["clock right", "clock behind"])
def test_its_depth_is_our_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], behind_ms: int
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "tape", behind_ms)
    assert main(["export", "tape", "--format", "hftbacktest", "--out", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [day["date"] for day in told["days"]] == ["2026-09-21", "2026-09-22"]
    assert (told["shift_ns"] > 0) is (behind_ms > 0)
    assert all(day["rows"] > day["events"] for day in told["days"])  # late trades are split
    kept = replayed(tmp_path / "tape")
    live = [tick for tick in kept.ticks if tick.live]
    assert len(kept.ticks) > len(live) > 50  # the gaps were seen
    times = [tick.ts * MS + told["shift_ns"] for tick in live]
    files = [str(tmp_path / "out" / day["file"]) for day in told["days"]]
    seen = hftbacktest(files, times)
    assert seen["least_latency_ns"] >= 1
    for found, (_, ours) in zip(seen["books"], kept.books, strict=True):
        assert (found["bids"], found["asks"]) == (in_ticks(ours["bid"]), in_ticks(ours["ask"]))
        assert found["best_bid_tick"] == max(map(int, found["bids"]))
        assert found["best_ask_tick"] == min(map(int, found["asks"]))
    assert seen["trades"] > 300


def test_a_days_file_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "tape", 0)
    assert main(["export", "tape", "--format", "hftbacktest", "--out", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    second = told["days"][1]
    kept = replayed(tmp_path / "tape")
    live = zip([tick for tick in kept.ticks if tick.live], kept.books, strict=True)
    after = [(tick.ts * MS, ours) for tick, (_, ours) in live if tick.ts * MS > second["first_local_ts"]]
    seen = hftbacktest([str(tmp_path / "out" / second["file"])], [time for time, _ in after[:5]])
    assert [found["bids"] for found in seen["books"]] == [in_ticks(ours["bid"]) for _, ours in after[:5]]
