"""The program's own work on one message and one tick, timed in this process without sockets and tasks.

Hot is back to back; cold has a sleep before each sample, because between two messages of a calm market the processor's
caches and frequency go elsewhere and the same Python takes several times as long.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.protocol import FeedProtocol
from orderflow.bybit.topics import TopicTable
from orderflow.core.engine import Engine
from orderflow.core.errors import OrderflowError
from orderflow.core.metrics import depth_imbalance
from orderflow.core.policy import LinkPolicy
from orderflow.core.types import LIVE, BookUpdate, MetricsTick, TickDue

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.bench.frames import Frames
    from orderflow.core.types import Event
    from orderflow.hooks.host import PluginHost

    Wait = Callable[[], None]
    """Called before each sample, outside the timed span."""

TOP: int = 10  # levels a side of the imbalance that the limit is about
BETWEEN_TICKS: int = 10


class WrongBook(OrderflowError):
    """What was measured did not do its work: the figures are worthless."""


def no_wait() -> None:
    """Back to back."""


class Pause:
    """Sleeps so that samples come at `rate` a second."""

    def __init__(self, rate: float) -> None:
        self._step_ns = round(1e9 / rate)
        self._due_ns = time.perf_counter_ns()

    def __call__(self) -> None:
        now_ns = time.perf_counter_ns()
        self._due_ns = max(self._due_ns + self._step_ns, now_ns)
        time.sleep((self._due_ns - now_ns) / 1e9)


def make_engine(depth: int) -> Engine:
    """An engine as a run has it, for the one book of the bench."""
    return Engine([(INSTRUMENT, depth)], clock=time.monotonic_ns)


def make_protocol(depth: int) -> FeedProtocol:
    """A connection's protocol, opened, as a run has it."""
    protocol = FeedProtocol("bench", INSTRUMENT.category, [(INSTRUMENT, depth)], LinkPolicy())
    protocol.opened(time.monotonic_ns())
    return protocol


def time_parts(frames: Frames, count: int, wait: Wait, warm_up: int = 300) -> dict[str, list[int]]:
    """Nanoseconds of `decode`, `apply` (the engine, with stamps and checks) and `imbalance`, one after the other.

    Raises: WrongBook when the book is not the one the messages say.
    """
    table = TopicTable(INSTRUMENT.category, learn=False)
    table.add_book(INSTRUMENT, frames.depth)
    decode = FeedCodec(table).decode
    engine = make_engine(frames.depth)
    levels = engine.books[INSTRUMENT].levels
    clock, apply = time.perf_counter_ns, engine.apply
    spans: dict[str, list[int]] = {"decode": [], "apply": [], "imbalance": []}
    notes = [spans[name].append for name in spans]
    for number, raw in enumerate([frames.snapshot, *frames.deltas(warm_up + count)]):
        if number > warm_up:
            wait()
        stamps = time.time_ns(), time.monotonic_ns()
        at = clock()
        event = decode(raw, *stamps)
        decoded = clock()
        assert type(event) is BookUpdate
        apply(event)
        applied = clock()
        depth_imbalance(levels, TOP)
        done = clock()
        if number > warm_up:
            for note, took in zip(notes, (decoded - at, applied - decoded, done - applied), strict=True):
                note(took)
    check_book(frames, warm_up + count, engine)
    return spans


def time_messages(frames: Frames, count: int, wait: Wait, warm_up: int = 300) -> list[int]:
    """Nanoseconds from a message's text to the applied book, the way a link and the book task do it.

    Raises: WrongBook.
    """
    engine = make_engine(frames.depth)
    protocol = make_protocol(frames.depth)
    receive, apply, clock = protocol.receive, engine.apply, time.perf_counter_ns
    spans: list[int] = []
    for number, raw in enumerate([frames.snapshot, *frames.deltas(warm_up + count)]):
        if number > warm_up:
            wait()
        recv_ns, mono_ns = time.time_ns(), time.monotonic_ns()
        began = clock()
        for event in receive([raw], recv_ns, mono_ns):
            apply(event)
        took = clock() - began
        if number > warm_up:
            spans.append(took)
    check_book(frames, warm_up + count, engine)
    return spans


def time_ticks(
    frames: Frames, count: int, wait: Wait, host: PluginHost | None, encode: Callable[[MetricsTick], str] | None
) -> list[int]:
    """Nanoseconds of one tick: metrics and percentiles; with `host` also its plugins, with `encode` also the line.

    Ten messages come between two ticks, untimed. Raises: WrongBook.
    """
    engine = make_engine(frames.depth)
    receive, apply, clock = make_protocol(frames.depth).receive, engine.apply, time.perf_counter_ns
    raws = frames.deltas(count * BETWEEN_TICKS)
    spans: list[int] = []
    for number in range(count):
        wait()
        batch = raws[number * BETWEEN_TICKS : (number + 1) * BETWEEN_TICKS]
        for event in _events(receive, [frames.snapshot, *batch] if number == 0 else batch):
            apply(event)
        due = TickDue(recv_ns=time.time_ns(), mono_ns=time.monotonic_ns())
        began = clock()
        for tick in apply(due):
            assert isinstance(tick, MetricsTick)
            if encode is not None:
                encode(tick)
            if host is not None:
                host.tick(tick)
        spans.append(clock() - began)
    check_book(frames, len(raws), engine)
    return spans


def _events(receive: Callable[[list[bytes], int, int], list[Event]], batch: list[bytes]) -> list[Event]:
    return receive(batch, time.time_ns(), time.monotonic_ns())


def check_book(frames: Frames, count: int, engine: Engine) -> None:
    """Whether the engine's book is what `count` messages make. Raises: WrongBook."""
    book = engine.books[INSTRUMENT]
    bids, asks = frames.book_after(count)
    wanted = [{float(price): float(size) for price, size in side.items()} for side in (bids, asks)]
    if book.state is not LIVE or wanted != [book.levels.bids, book.levels.asks]:
        raise WrongBook(f"the book after {count} messages is {book.state} and not the market's")
