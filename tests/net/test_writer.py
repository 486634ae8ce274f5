"""The one writer of a connection, on a clock that jumps: what is due is sent when it is due, and once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orderflow.core.units import NS
from orderflow.net.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

FAR_NS = 10**18


def clock() -> tuple[int, int]:
    return 0, int(trio.current_time() * NS)


class Script:
    """A protocol that wants to send the given texts at the given times."""

    def __init__(self, *due: tuple[float, str]) -> None:
        self.due = list(due)
        self.looked: list[float] = []
        self.forgiven: list[float] = []
        self._outbox: list[str] = []

    def on_time(self, mono_ns: int) -> None:
        self.looked.append(mono_ns / NS)
        while self.due and self.due[0][0] * NS <= mono_ns:
            self._outbox.append(self.due.pop(0)[1])

    def data_to_send(self) -> list[str]:
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_deadline_ns(self) -> int:
        return round(self.due[0][0] * NS) if self.due else FAR_NS

    def forgive(self, mono_ns: int) -> None:
        self.forgiven.append(mono_ns / NS)


class Judging(Script):
    """Notes in `order` when it looks."""

    order: list[str]

    def on_time(self, mono_ns: int) -> None:
        super().on_time(mono_ns)
        self.order.append("verdict")


class Run:
    """A writer and what it sent."""

    def __init__(self, script: Script, on_time: Callable[[int], None] | None = None) -> None:
        self.sent: list[tuple[float, str]] = []
        self.writer = Writer(script, on_time or script.on_time, self.send, clock)

    async def send(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append((trio.current_time(), text))

    async def over(self, seconds: float, during: Callable[[], None] = lambda: None, at_s: float = 0.0) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.run)
            await trio.sleep(at_s)
            during()
            await trio.sleep(seconds - at_s)
            nursery.cancel_scope.cancel()


async def test_frames_go_out_when_they_are_due(autojump_clock: trio.testing.MockClock) -> None:
    script = Script((0, "first"), (2, "b"), (2, "c"), (7.5, "d"))
    run = Run(script)
    await run.over(10)
    assert run.sent == [(0, "first"), (2, "b"), (2, "c"), (7.5, "d")]
    assert script.looked == [0, 2, 7.5]
    assert script.forgiven == []


async def test_woken_it_looks_before_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    script = Script((60, "late"))
    run = Run(script)

    def ask() -> None:
        script.due.insert(0, (0, "now"))
        run.writer.wake()
        run.writer.wake()

    await run.over(10, ask, at_s=3)
    assert run.sent == [(3, "now")]
    assert script.looked == [0, 3]


async def test_waking_up_while_it_sends_is_not_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """What is asked for during a send is seen right after it, not at the next deadline."""
    script = Script((0, "a"), (100, "z"))
    run = Run(script)

    def ask_during_send(mono_ns: int) -> None:
        script.on_time(mono_ns)
        if len(script.looked) == 1:
            run.writer.wake()
            script.due.insert(0, (0, "b"))

    run.writer = Writer(script, ask_during_send, run.send, clock)
    await run.over(1)
    assert run.sent == [(0, "a"), (0, "b")]


@pytest.mark.parametrize("late_s, forgiven", [(0.9, False), (1.0, False), (1.1, True), (3600, True)])
async def test_only_who_stood_still_is_forgiving(
    autojump_clock: trio.testing.MockClock, late_s: float, forgiven: bool
) -> None:
    script = Script((5, "due"))
    run = Run(script)
    await run.over(4 + late_s + 5, lambda: autojump_clock.jump(1 + late_s), at_s=4)
    assert script.forgiven == ([5 + late_s] if forgiven else [])
    assert run.sent == [(5 + late_s, "due")]


async def test_the_reader_has_its_turn_before_a_verdict(autojump_clock: trio.testing.MockClock) -> None:
    """Deadline and data come at the same moment: the data is taken in first. Trio shuffles tasks, so many times."""
    order: list[str] = []

    async def read(seconds: float) -> None:
        await trio.sleep(seconds)
        order.append("read")

    for _ in range(20):
        script = Judging((trio.current_time() + 5, "due"))
        script.order = order
        run = Run(script)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, 5)
            await run.over(6)
    assert order == ["verdict", "read", "verdict"] * 20


async def test_woken_before_it_runs_it_looks_as_it_would_have(autojump_clock: trio.testing.MockClock) -> None:
    script = Script((2, "b"))
    run = Run(script)
    run.writer.wake()
    await run.over(3)
    assert (run.sent, script.looked) == ([(2, "b")], [0, 2])


async def test_what_sending_raises_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    async def send(text: str) -> None:
        raise ZeroDivisionError

    script = Script((0, "a"))
    with pytest.raises(ZeroDivisionError):
        await Writer(script, script.on_time, send, clock).run()


class Awaited:
    """Something is due at one time; it should have come before that is judged."""

    def __init__(self, due_s: float) -> None:
        self.due_ns = round(due_s * 1e9)
        self.came = False
        self.verdicts: list[bool] = []

    def on_time(self, mono_ns: int) -> None:
        if mono_ns >= self.due_ns:
            self.verdicts.append(self.came)

    def data_to_send(self) -> list[str]:
        return []

    def next_deadline_ns(self) -> int:
        return 1 << 62 if self.verdicts else self.due_ns

    def forgive(self, mono_ns: int) -> None:
        raise AssertionError("nothing stood still")


async def test_what_lies_in_the_socket_is_read_before_any_verdict(autojump_clock: trio.testing.MockClock) -> None:
    """Preempted right behind Trio's look into the sockets: only its next look finds what came. Trio shuffles."""

    def clock() -> tuple[int, int]:
        return round(trio.current_time() * 1e9), round(trio.current_time() * 1e9)

    async def nothing(text: str) -> None:
        raise AssertionError("there is nothing to send")

    async def read(awaited: Awaited) -> None:
        await trio.sleep_until(awaited.due_ns / 1e9)
        await trio.lowlevel.checkpoint()  # found one pass of the scheduler after the writer's deadline
        awaited.came = True

    for _ in range(30):
        awaited = Awaited(trio.current_time() + 10)
        with trio.move_on_after(11):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Writer(awaited, awaited.on_time, nothing, clock).run)
                nursery.start_soon(read, awaited)
        assert awaited.verdicts == [True]
