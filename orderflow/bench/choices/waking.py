"""From the event loop's waking to the book: what is ours of a latency, without server and kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import ssl

    from orderflow.bench.client import Client, Job, Sheet


class Wakings(trio.abc.Instrument):
    """Notes how long after a waking the one message that it brought was in the book.

    Args: stamps: when each message was, as it goes on; spans: takes the nanoseconds.
    """

    def __init__(self, stamps: list[int], spans: list[int]) -> None:
        self._stamps = stamps
        self._spans = spans
        self._seen = 0
        self._sleeps = False
        self._awake_ns = 0

    def before_io_wait(self, timeout: float) -> None:
        self._sleeps = timeout > 0
        if not self._sleeps:  # some task has more to do
            return
        seen, self._seen = self._seen, len(self._stamps)
        if self._seen == seen + 1 and self._awake_ns:
            self._spans.append(self._stamps[-1] - self._awake_ns)

    def after_io_wait(self, timeout: float) -> None:
        if self._sleeps:
            self._awake_ns = time.monotonic_ns()


async def noting_wakings(
    client: Client, spans: list[int], job: Job, sheet: Sheet, context: ssl.SSLContext | None
) -> None:
    """The client as it is. Begins before the client does, so that it sees the waking before any instrument of its."""
    wakings = Wakings(sheet.stamps, spans)
    trio.lowlevel.add_instrument(wakings)
    try:
        await client(job, sheet, context)
    finally:
        trio.lowlevel.remove_instrument(wakings)
