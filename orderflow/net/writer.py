"""The one writer of a connection: sends what its protocol has to say, when it has to say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from orderflow.core.units import NS
from orderflow.net.tap import STALL_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.net.tap import Clock


class Speaker(Protocol):
    """A protocol, sans-IO, that has frames to send and deadlines to keep."""

    def data_to_send(self) -> list[str]: ...
    def next_deadline_ns(self) -> int: ...
    def forgive(self, mono_ns: int) -> None: ...


class Writer:
    """Args: on_time: called with the monotonic time before frames are taken; send: sends one frame."""

    def __init__(
        self,
        speaker: Speaker,
        on_time: Callable[[int], None],
        send: Callable[[str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._speaker = speaker
        self._on_time = on_time
        self._send = send
        self._clock = clock
        self._wake = trio.Event()

    def wake(self) -> None:
        """There is something to do before the next deadline."""
        self._wake.set()

    async def run(self) -> NoReturn:
        """Write until cancelled. Raises: what `on_time` and `send` raise."""
        due_ns = self._mono_ns()
        while True:
            self._wake = trio.Event()
            now_ns = self._mono_ns()  # looked at once: no standstill fits between excuse and verdict
            if now_ns - due_ns > STALL_S * NS:
                self._speaker.forgive(now_ns)
            self._on_time(now_ns)
            for text in self._speaker.data_to_send():
                await self._send(text)
            due_ns = self._speaker.next_deadline_ns()
            await self._wait_until(due_ns)

    async def _wait_until(self, due_ns: int) -> None:
        """Or until woken."""
        with trio.move_on_after(max(0, due_ns - self._mono_ns()) / NS):
            await self._wake.wait()
        if self._mono_ns() >= due_ns:  # what is due may be here: the reader has its turn before any verdict
            await trio.lowlevel.checkpoint()  # Trio looks into the sockets: we may have slept since it last did ...
            await trio.lowlevel.checkpoint()  # ... and the reader takes what is there, in whatever order they run

    def _mono_ns(self) -> int:
        return self._clock()[1]
