"""The other end of the loopback: a process in which one client keeps its books until it has every message.

Clients are functions that know how to keep a book; the sheet they are given takes the times. `orderflow` is the whole
path of `orderflow run`: link, frame cutting, protocol, queue, book task, engine. `program` is the run itself, ticks,
plugins and lines included. Others are in `peers.py` and `rivals.py`.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from orderflow.bench.memory import resident_mb
from orderflow.bench.peers import run_bare, run_least, run_plain
from orderflow.bench.profiled import PROFILED, run_profiled
from orderflow.bench.ratios import BUSY, OURS
from orderflow.bench.subject import FIRST_U, INSTRUMENT
from orderflow.core.engine import Engine
from orderflow.core.policy import LinkPolicy, QueuePolicy, RetryPolicy
from orderflow.core.types import BookUpdate
from orderflow.net.dial import make_ssl_context
from orderflow.net.fanout import EventQueue
from orderflow.net.feed import Feed
from orderflow.net.retry import AttemptBudget
from orderflow.net.watch import stay_awake

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    from orderflow.core.types import Event, LinkChanged
    from orderflow.net.ws import Dial

    Client = Callable[["Job", "Sheet", ssl.SSLContext | None], Awaitable[None]]
    Apply = Callable[[list[Event]], None]

Level = tuple[float, float]
"""price, size"""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What this process does: on the command line, as JSON.

    Args:
        count: deltas to come, over all topics. stamp: note the time of each.
        ca_file: PEM file of the authority that signed the server's certificate; "" for ws://.
        symbols: of the topics; a client that is compared keeps the first alone.
        interval_s: between two ticks, of `program`. idle_s: how long that is watched when nothing is to come.
        record_into: a folder that `program` records into; "": it does not record.
    """

    client: str
    url: str
    depth: int
    count: int
    stamp: bool
    timeout_s: float
    ca_file: str = ""
    symbols: tuple[str, ...] = (INSTRUMENT.symbol,)
    interval_s: float = 1.0
    idle_s: float = 0.0
    record_into: str = ""

    @property
    def last_u(self) -> int:
        """`u` of the last delta, when there is one topic."""
        return FIRST_U + self.count


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A client's book, best level first."""

    bids: list[Level]
    asks: list[Level]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A recording of a run: its messages and bytes, and the seconds it took in the feed's thread and in its own."""

    messages: int
    bytes: int
    feed_s: float
    writer_s: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a client did.

    Args:
        messages: applied between the first and the last look at the clocks, `wall_s` and `cpu_s` apart.
        stamps: monotonic ns at which each delta was in the book, in order; empty unless asked for.
        resident_mb: at the end; peak_mb: at most until then.
        recorded: what a recording cost, when there was one.
        queue_peak: most events that ever waited for the book task; lag_s: the latest the event loop came to its beat.
        steps: nanoseconds of each step of each delta, of the profiled client.
        error: why it did not get to the end.
    """

    messages: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    stamps: list[int] = []
    resident_mb: float = 0.0
    peak_mb: float = 0.0
    books: dict[str, Kept] = {}
    recorded: Recorded | None = None
    queue_peak: int = 0
    lag_s: float = 0.0
    steps: dict[str, list[int]] = {}
    error: str = ""


class Sheet:
    """Takes the times while a client runs, and its books at the end."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.books: dict[str, Kept] = {}
        self.recorded: Recorded | None = None
        self.queue_peak = 0
        self.lag_s = 0.0
        self.steps: defaultdict[str, list[int]] = defaultdict(list)
        self._began: tuple[float, float, int] | None = None
        self._ended: tuple[float, float, int] = (0.0, 0.0, 0)

    @property
    def began(self) -> bool:
        """Whether `mark` was called."""
        return self._began is not None

    def mark(self, number: int) -> None:
        """So many messages are in the book, counted from anywhere: the first call begins the measurement, the last
        ends it."""
        now = (time.perf_counter(), time.process_time(), number)
        if self._began is None:
            self._began = now
        self._ended = now

    def keep(self, bids: list[Level], asks: list[Level], symbol: str = INSTRUMENT.symbol) -> None:
        """A book as it is at the end, best level first."""
        self.books[symbol] = Kept(bids=bids, asks=asks)

    def outcome(self, error: str = "") -> Outcome:
        began = self._began or self._ended
        wall_s, cpu_s, messages = (end - begin for end, begin in zip(self._ended, began, strict=True))
        now_mb, peak_mb = resident_mb(os.getpid())
        return Outcome(
            messages=int(messages),
            wall_s=wall_s,
            cpu_s=cpu_s,
            stamps=self.stamps,
            resident_mb=now_mb,
            peak_mb=peak_mb,
            books=self.books,
            recorded=self.recorded,
            queue_peak=self.queue_peak,
            lag_s=self.lag_s,
            steps=self.steps,
            error=error,
        )


async def run_orderflow(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """Everything between the socket and the book, as `app.Monitor` puts it together."""
    gc.freeze()  # as the program does
    await keep_book(job, sheet, context)


async def keep_book(
    job: Job,
    sheet: Sheet,
    context: ssl.SSLContext | None,
    *,
    dial: Dial | None = None,
    policy: LinkPolicy | None = None,
    straight: bool = True,
) -> None:
    """The whole path until the last message is in the book.

    Args: dial: as of `Feed`; straight: events go to the book at once while none wait, as they do in the program.
    Raises: RuntimeError when a message was lost.
    """
    engine = Engine([(INSTRUMENT, job.depth)], clock=time.monotonic_ns)
    queue = EventQueue(QueuePolicy().events)
    retry = RetryPolicy()
    books = [(INSTRUMENT, job.depth)]
    feed = Feed(
        "bench", job.url, INSTRUMENT.category, books, queue, policy or LinkPolicy(), ssl_context=context, dial=dial
    )
    done = trio.Event()
    apply = applier(job, engine, sheet, done)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, retry, AttemptBudget(retry), _ignore, random.random)
        nursery.start_soon(_run_books if straight else _run_books_in_turn, queue, apply)
        await done.wait()
        nursery.cancel_scope.cancel(reason="every message is in the book")
    sheet.queue_peak = queue.statistics().peak
    hand_in(job, engine, sheet)


def hand_in(job: Job, engine: Engine, sheet: Sheet) -> None:
    """The engine's book, at the end. Raises: RuntimeError when a message was lost."""
    book = engine.books[INSTRUMENT]
    if book.counters.gaps or book.counters.snapshots != 1:
        raise RuntimeError(f"not one unbroken chain: {book.counters.freeze()}")
    sheet.keep(book.levels.top_bids(job.depth), book.levels.top_asks(job.depth))


async def run_busy(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    """The same with `busy_poll`: an event loop that never sleeps."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay_awake)
        await run_orderflow(job, sheet, context)
        nursery.cancel_scope.cancel(reason="every message is in the book")


async def _run_books(queue: EventQueue, apply: Apply) -> None:
    """The book task of the program."""
    queue.hand_to(apply)
    await _run_books_in_turn(queue, apply)


async def _run_books_in_turn(queue: EventQueue, apply: Apply) -> None:
    """The same where everything waits for its turn."""
    while True:
        for events in await queue.receive():
            apply(events)


def applier(job: Job, engine: Engine, sheet: Sheet, done: trio.Event) -> Apply:
    """What takes the events of one socket read, notes what the job wants to know and sets `done` behind the last."""
    return (_stamping if job.stamp else _applying)(engine, job.last_u, sheet, done)


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


async def _run_program(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
    from orderflow.bench.program import run_program

    await run_program(job, sheet)


COMPARED: Final = (OURS, "plain")
"""Always measured; orderflow comes first."""
CLIENTS: Final[Mapping[str, Client]] = {
    OURS: run_orderflow,
    BUSY: run_busy,
    "plain": run_plain,
    "trio-websocket": run_bare,
    "trio": run_least,
    "program": _run_program,
    PROFILED: run_profiled,
}
"""Name -> client; what is not among them is a rival."""


async def run_job(job: Job, client: Client | None = None) -> Outcome:
    """Run one client, by its name unless it is given, to its last message; what goes wrong is told in the outcome."""
    sheet = Sheet()
    context = make_ssl_context(job.ca_file) if job.ca_file else None
    try:
        with trio.fail_after(job.timeout_s):
            await (client or CLIENTS[job.client])(job, sheet, context)
    except trio.TooSlowError:
        return sheet.outcome(f"not done after {job.timeout_s:g} s")
    except Exception as exc:  # noqa: BLE001 - the border of a process: its parent reports it
        return sheet.outcome(_told(exc))
    return sheet.outcome()


def perform(job: Job) -> Outcome:
    """Run any client, ours or another library's."""
    if job.client in CLIENTS:
        return trio.run(run_job, job)
    from orderflow.bench.rivals import run_rival

    sheet = Sheet()
    try:
        run_rival(job, sheet)
    except TimeoutError:
        return sheet.outcome(f"not done after {job.timeout_s:g} s")
    except Exception as exc:  # noqa: BLE001 - as above
        return sheet.outcome(_told(exc))
    return sheet.outcome()


def _told(error: BaseException) -> str:
    """The first thing that went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    _outcome = perform(msgspec.json.decode(sys.argv[1], type=Job))
    sys.stdout.buffer.write(msgspec.json.encode(_outcome))
