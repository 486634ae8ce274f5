"""Where the time goes: one message's way through orderflow's own parts, step by step.

The parts are those of a feed (`open_ws`, `FeedProtocol`, `EventQueue`, `Engine`), put together here with a look at the
clock between any two. The looks are in the figures: some 0.1 us each, more with cold caches.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import trio

from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.protocol import FeedProtocol
from orderflow.core.engine import Engine
from orderflow.core.policy import LinkPolicy, QueuePolicy
from orderflow.core.types import BookUpdate
from orderflow.net.fanout import EventQueue
from orderflow.net.tap import read_clocks
from orderflow.net.ws import open_ws

if TYPE_CHECKING:
    import ssl

    from orderflow.bench.client import Job, Sheet
    from orderflow.core.types import Event

PROFILED: Final = "profiled"
"""The client's name."""
STEPS: Final = ("read", "cut", "decode", "apply")
"""What the client does with what one read brought, in order."""


async def run_profiled(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """One connection, without retries and pings. What each step of a read took goes to the sheet, for each delta."""
    probe = _Probe(job, sheet)
    trio.lowlevel.add_instrument(probe)
    async with open_ws(job.url, probe.on_batch, LinkPolicy(), ssl_context=context, clock=probe.clock) as link:
        for text in probe.subscribe():
            await link.send(text)
        await probe.done.wait()
    trio.lowlevel.remove_instrument(probe)
    levels = probe.engine.books[INSTRUMENT].levels
    sheet.keep(levels.top_bids(job.depth), levels.top_asks(job.depth))


class _Probe(trio.abc.Instrument):
    """The parts of a feed, and when the last read came to which of them.

    Added before the feed's own instrument, so that it sees the event loop wake up first.
    """

    def __init__(self, job: Job, sheet: Sheet) -> None:
        self.done = trio.Event()
        self.engine = Engine([(INSTRUMENT, job.depth)], clock=time.monotonic_ns)
        self._protocol = FeedProtocol("bench", INSTRUMENT.category, [(INSTRUMENT, job.depth)], LinkPolicy())
        self._queue = EventQueue(QueuePolicy().events)
        self._queue.hand_to(self._apply)
        self._last_u = job.last_u
        self._sheet = sheet
        self._awake_ns = self._read_ns = 0

    def subscribe(self) -> list[str]:
        """Texts to send."""
        self._protocol.opened(time.monotonic_ns())
        return self._protocol.data_to_send()

    def after_io_wait(self, timeout: float) -> None:
        self._awake_ns = time.monotonic_ns()

    def clock(self) -> tuple[int, int]:
        stamps = read_clocks()
        self._read_ns = time.monotonic_ns()
        return stamps

    def on_batch(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        """As a feed does."""
        cut_ns = time.monotonic_ns()
        events = self._protocol.receive(messages, recv_ns, mono_ns)
        decoded_ns = time.monotonic_ns()
        if events:
            self._queue.put_nowait(events)
        self._note(events, cut_ns, decoded_ns, time.monotonic_ns())

    def _apply(self, events: list[Event]) -> None:
        self.engine.apply_all(events)

    def _note(self, events: list[Event], cut_ns: int, decoded_ns: int, applied_ns: int) -> None:
        deltas = [event for event in events if type(event) is BookUpdate and not event.snapshot]
        moments = (self._awake_ns, self._read_ns, cut_ns, decoded_ns, applied_ns)
        for step, (begin_ns, end_ns) in zip(STEPS, pairwise(moments), strict=True):
            self._sheet.steps[step] += [(end_ns - begin_ns) // len(deltas) for _ in deltas]
        for event in deltas:
            self._sheet.stamps.append(applied_ns)
            self._sheet.mark(event.u)
            if event.u == self._last_u:
                self.done.set()
        self._awake_ns = self._read_ns = time.monotonic_ns()  # for what else this read brought
