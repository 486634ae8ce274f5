"""The clock task against a scripted time source, on a clock that jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.bybit.rest import RestBlocked, RestUnavailable
from orderflow.core.clock import TimeSample
from orderflow.core.errors import WireError
from orderflow.core.policy import ClockPolicy
from orderflow.net.clock import run_clock

if TYPE_CHECKING:
    from orderflow.core.types import ClockOffset

MS = 1_000_000
POLICY = ClockPolicy(interval_s=30, burst=3, window_s=600, warn_offset_ms=500)


class Exchange:
    """A time source `offset_ms` behind us, answering in `round_trip_ms`; `failures` are raised one per question."""

    def __init__(self, offset_ms: int = 0, round_trip_ms: int = 20) -> None:
        self.offset_ms = offset_ms
        self.round_trip_ms = round_trip_ms
        self.failures: list[Exception] = []
        self.asked: list[float] = []

    async def server_time(self) -> TimeSample:
        self.asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        mono = int(trio.current_time() * 1e9)
        wall = 1_790_000_000_000 * MS + mono + self.offset_ms * MS
        return TimeSample(
            sent_ns=wall,
            sent_mono_ns=mono,
            received_ns=wall + self.round_trip_ms * MS,
            received_mono_ns=mono + self.round_trip_ms * MS,
            server_ns=wall - self.offset_ms * MS + self.round_trip_ms * MS // 2,
            resolution_ns=1,
        )


class Run:
    """What one run of the task said."""

    def __init__(self) -> None:
        self.offsets: list[ClockOffset] = []
        self.troubles: list[str] = []

    async def over(self, exchange: Exchange, seconds: float, policy: ClockPolicy = POLICY) -> None:
        with trio.move_on_after(seconds):
            await run_clock(exchange, policy, self.offsets.append, trouble=self.troubles.append)


async def test_a_burst_then_the_interval(autojump_clock: trio.testing.MockClock) -> None:
    run, exchange = Run(), Exchange(offset_ms=250)
    began = trio.current_time()
    await run.over(exchange, 61)
    assert [at - began for at in exchange.asked] == pytest.approx([0, 0, 0, 30, 60], abs=0.01)
    assert len(run.offsets) == 5
    assert run.offsets[0].offset_ms == pytest.approx(250)
    assert run.offsets[0].error_ms == pytest.approx(10, abs=0.01)
    assert run.troubles == []


async def test_trouble_is_told_once_per_change_and_survived(autojump_clock: trio.testing.MockClock) -> None:
    run, exchange = Run(), Exchange()
    exchange.failures = [
        RestUnavailable("a", reason="dns"),
        RestUnavailable("b", reason="dns"),
        RestBlocked("c", pause_s=600),
        WireError("json", "\x1b[31m"),
    ]
    await run.over(exchange, 100)
    assert len(run.troubles) == 4
    assert "dns" in run.troubles[0]
    assert "blocked" in run.troubles[1]
    assert "\x1b" not in run.troubles[2]
    assert run.troubles[-1] == ""
    assert run.offsets


async def test_failures_are_asked_again_ever_more_slowly_up_to_the_interval(
    autojump_clock: trio.testing.MockClock,
) -> None:
    run, exchange = Run(), Exchange()
    exchange.failures = [RestUnavailable(reason="refused")] * 1000
    await run.over(exchange, 150)
    pauses = [later - earlier for earlier, later in zip(exchange.asked, exchange.asked[1:], strict=False)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], abs=0.01)
    assert len(run.troubles) == 1
    assert run.offsets == []


async def test_a_set_clock_is_learnt_afresh_with_a_burst(autojump_clock: trio.testing.MockClock) -> None:
    run, exchange = Run(), Exchange()

    async def set_clock() -> None:
        await trio.sleep(45)
        exchange.offset_ms = 3_600_000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_clock)
        await run.over(exchange, 62)
    assert len(exchange.asked) == 3 + 1 + 1 + 3  # burst, 30 s, 60 s finds out, burst
    assert run.offsets[-1].offset_ms == pytest.approx(3_600_000)


async def test_bugs_are_not_swallowed(autojump_clock: trio.testing.MockClock) -> None:
    exchange = Exchange()
    exchange.failures = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await Run().over(exchange, 10)
