"""The other end of the loopback: a process in which one client keeps one book until it has every message.

Clients are functions that know how to keep a book; the sheet they are given takes the times. `orderflow` is the whole
path of `orderflow run`: link, frame cutting, protocol, queue, book task, engine. Others are in `peers.py`.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from orderflow.bench.peers import run_plain
from orderflow.bench.subject import INSTRUMENT
from orderflow.core.engine import Engine
from orderflow.core.policy import LinkPolicy, QueuePolicy, RetryPolicy
from orderflow.core.types import BookUpdate
from orderflow.net.fanout import EventQueue
from orderflow.net.feed import Feed
from orderflow.net.retry import AttemptBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orderflow.core.types import Event, LinkChanged

    Client = Callable[["Job", "Sheet"], Awaitable[None]]
    Apply = Callable[[list[Event]], None]

_TO_MB: Final = 1024 if sys.platform == "linux" else 1024 * 1024


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What this process does: on the command line, as JSON. `stamp`: note the time of every message."""

    client: str
    url: str
    depth: int
    last_u: int
    stamp: bool
    timeout_s: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a client did.

    Args:
        messages: applied between the first and the last look at the clocks, `wall_s` and `cpu_s` apart.
        stamps: monotonic ns at which each delta was in the book, in order; empty unless asked for.
        error: why it did not get to the end.
    """

    messages: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    stamps: list[int] = []
    peak_mb: float = 0.0
    bids: list[tuple[float, float]] = []
    asks: list[tuple[float, float]] = []
    error: str = ""


class Sheet:
    """Takes the times while a client runs, and its book at the end."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.bids: list[tuple[float, float]] = []
        self.asks: list[tuple[float, float]] = []
        self._began: tuple[float, float, int] | None = None
        self._ended: tuple[float, float, int] = (0.0, 0.0, 0)

    @property
    def began(self) -> bool:
        """Whether `mark` was called."""
        return self._began is not None

    def mark(self, u: int) -> None:
        """The book is at `u`: the first call begins the measurement, the last ends it."""
        now = (time.perf_counter(), time.process_time(), u)
        if self._began is None:
            self._began = now
        self._ended = now

    def outcome(self, error: str = "") -> Outcome:
        began = self._began or self._ended
        wall_s, cpu_s, messages = (end - begin for end, begin in zip(self._ended, began, strict=True))
        return Outcome(
            messages=int(messages),
            wall_s=wall_s,
            cpu_s=cpu_s,
            stamps=self.stamps,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _TO_MB,
            bids=self.bids,
            asks=self.asks,
            error=error,
        )


async def run_orderflow(job: Job, sheet: Sheet) -> None:
    """Everything between the socket and the book, as `app.Monitor` puts it together."""
    engine = Engine([(INSTRUMENT, job.depth)], clock=time.monotonic_ns)
    queue = EventQueue(QueuePolicy().events)
    retry = RetryPolicy()
    feed = Feed("bench", job.url, INSTRUMENT.category, [(INSTRUMENT, job.depth)], queue, LinkPolicy())
    book = engine.books[INSTRUMENT]
    done = trio.Event()
    apply = _stamping(engine, job.last_u, sheet, done) if job.stamp else _applying(engine, job.last_u, sheet, done)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, retry, AttemptBudget(retry), _ignore, random.random)
        nursery.start_soon(_run_books, queue, apply)
        await done.wait()
        nursery.cancel_scope.cancel(reason="every message is in the book")
    if book.counters.gaps or book.counters.snapshots != 1:
        raise RuntimeError(f"not one unbroken chain: {book.counters.freeze()}")
    sheet.bids = book.levels.top_bids(job.depth)
    sheet.asks = book.levels.top_asks(job.depth)


async def _run_books(queue: EventQueue, apply: Apply) -> None:
    """The book task of the program."""
    queue.hand_to(apply)
    while True:
        apply(await queue.receive())


def _applying(engine: Engine, last_u: int, sheet: Sheet, done: trio.Event) -> Apply:
    """What the program does with one socket read; looks at the clock at the first deltas and at the last."""
    apply_all, book = engine.apply_all, engine.books[INSTRUMENT]

    def apply(events: list[Event]) -> None:
        apply_all(events)
        if not sheet.began and book.counters.updates > 1 and book.u is not None:
            sheet.mark(book.u)
        if book.u == last_u:
            sheet.mark(last_u)
            done.set()

    return apply


def _stamping(engine: Engine, last_u: int, sheet: Sheet, done: trio.Event) -> Apply:
    """The same, noting when each delta was in the book."""
    apply_one, clock, note = engine.apply, time.monotonic_ns, sheet.stamps.append

    def apply(events: list[Event]) -> None:
        for event in events:
            apply_one(event)
            if type(event) is BookUpdate and not event.snapshot:
                note(clock())
                sheet.mark(event.u)
                if event.u == last_u:
                    done.set()

    return apply


def _ignore(change: LinkChanged) -> None:
    """Nobody looks at the link's states here."""


CLIENTS: Final[Mapping[str, Client]] = {"orderflow": run_orderflow, "plain": run_plain}
"""Name -> client; `orderflow` comes first, the others are what it is compared with."""


async def run_job(job: Job) -> Outcome:
    """Run one client to its last message; what goes wrong is told in the outcome."""
    sheet = Sheet()
    try:
        with trio.fail_after(job.timeout_s):
            await CLIENTS[job.client](job, sheet)
    except trio.TooSlowError:
        return sheet.outcome(f"not done after {job.timeout_s:g} s")
    except Exception as exc:  # noqa: BLE001 - the border of a process: its parent reports it
        return sheet.outcome(f"{type(exc).__name__}: {exc}")
    return sheet.outcome()


def perform(job: Job) -> Outcome:
    """Run any client, ours or another library's."""
    if job.client in CLIENTS:
        return trio.run(run_job, job)
    from orderflow.bench.rivals import run_rival

    sheet = Sheet()
    try:
        run_rival(job, sheet, None)
    except Exception as exc:  # noqa: BLE001 - as above
        return sheet.outcome(f"{type(exc).__name__}: {exc}")
    return sheet.outcome()


if __name__ == "__main__":
    _outcome = perform(msgspec.json.decode(sys.argv[1], type=Job))
    sys.stdout.buffer.write(msgspec.json.encode(_outcome))
