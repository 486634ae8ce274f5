"""The program itself as a client of the bench: `app.Monitor` with its ticks, the bundled plugins and JSON lines."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from orderflow import bundled
from orderflow.app import Monitor
from orderflow.bench.client import Recorded
from orderflow.config.tree import BybitSettings, PluginSettings, Settings
from orderflow.core.engine import Engine
from orderflow.core.policy import LinkPolicy, RecordPolicy
from orderflow.core.types import BookUpdate
from orderflow.hooks.setup import set_up
from orderflow.record.recorder import ConnectionTap, Recorder
from orderflow.ui.report import JsonReporter
from orderflow.ui.sink import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orderflow.bench.client import Job, Sheet
    from orderflow.core.types import Event
    from orderflow.core.types import Output as Told

_SETTLE_S: Final = 0.5  # from the last snapshot to the beginning of an idle measurement
_ONE_LINK: Final = 1000  # topics: all on one connection


async def run_program(job: Job, sheet: Sheet) -> None:
    """Run it until every delta is in its book, or for `job.idle_s` when none is to come.

    Raises: RuntimeError when a book is not one unbroken chain from one snapshot.
    """
    settings = make_settings(job)
    setup = set_up(settings.plugins, bundled.plugins_folder())
    setup.check_settings()
    with _nowhere() as fd:
        output = Output(fd)
        recorder = _TimedRecorder(Path(job.record_into), settings.record) if job.record_into else None
        monitor = Monitor(settings, setup.host, JsonReporter(output.put), output, recorder=recorder)
        engine = monitor.engine = NotingEngine(settings, job, sheet)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            await engine.done.wait()
            if job.idle_s:
                await _watch_idle(job.idle_s, sheet)
            stats = monitor.stats()
            sheet.queue_peak = next(queue.peak for queue in stats.queues if queue.channel == "events")
            sheet.lag_s = stats.loop_lag_max_s
            _keep_books(engine, sheet)
            monitor.stop("every message is in the book")
    if recorder is not None:
        sheet.recorded = recorder.cost()


@contextmanager
def _nowhere() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def make_settings(job: Job) -> Settings:
    """The settings of a run without REST, with everything else as it is by default."""
    return Settings(
        env="sim",
        symbols=job.symbols,
        depth=job.depth,  # type: ignore[arg-type]  # one of the depths there are
        interval_s=job.interval_s,
        log_format="json",
        bybit=BybitSettings(public_ws_url=job.url, private_ws_url="", rest_url="", ca_file=job.ca_file),
        feed=LinkPolicy(max_topics=_ONE_LINK),
        plugins=PluginSettings(entry_points=False),
    )


_SAMPLED: Final = 16  # of so many reads of the socket one is timed: the clock of a thread is slow to read


class _TimedRecorder(Recorder):
    """Knows what it costs in the feed's thread: processor time, so that other programs do not count."""

    def __init__(self, folder: Path, policy: RecordPolicy) -> None:
        super().__init__(folder, policy)
        self._reads = self._feed_ns = 0
        self._clock_ns = min(_clock_cost_ns() for _ in range(200))

    def batch(self, tap: ConnectionTap, messages: list[bytes], recv_ns: int, mono_ns: int, events: list[Event]) -> None:
        self._reads += 1
        if self._reads % _SAMPLED:
            super().batch(tap, messages, recv_ns, mono_ns, events)
            return
        began = time.thread_time_ns()
        super().batch(tap, messages, recv_ns, mono_ns, events)
        self._feed_ns += (time.thread_time_ns() - began - self._clock_ns) * _SAMPLED

    def cost(self) -> Recorded:
        """Raises: RuntimeError when the recording is not whole."""
        found = self.statistics()
        if found.gaps:
            raise RuntimeError(f"the recording has {found.gaps} gaps")
        return Recorded(
            messages=found.writer.frames,
            bytes=found.writer.bytes,
            feed_s=self._feed_ns / 1e9,
            writer_s=found.writer_cpu_s,
        )


def _clock_cost_ns() -> int:
    began = time.thread_time_ns()
    return time.thread_time_ns() - began


class NotingEngine(Engine):
    """The run's engine, which notes when each delta was in its book. `done`: nothing more is to come."""

    def __init__(self, settings: Settings, job: Job, sheet: Sheet) -> None:
        books = [(instrument, settings.depth) for instrument in settings.instruments]
        super().__init__(books, settings.book, settings.metrics, clock=time.monotonic_ns)
        self.done = trio.Event()
        self._sheet = sheet
        self._deltas = job.count
        self._snapshots = len(books)

    def apply_all(self, events: Iterable[Event]) -> list[Told]:
        outputs: list[Told] = []
        for event in events:
            outputs += super().apply_all((event,))
            if type(event) is BookUpdate:
                self._note(snapshot=event.snapshot)
        return outputs

    def _note(self, *, snapshot: bool) -> None:
        if snapshot:
            self._snapshots -= 1
        else:
            self._sheet.stamps.append(time.monotonic_ns())
            self._deltas -= 1
            self._sheet.mark(-self._deltas)
        if not self._snapshots and not self._deltas:
            self.done.set()


async def _watch_idle(seconds: float, sheet: Sheet) -> None:
    """Processor time and memory while nothing comes."""
    await trio.sleep(_SETTLE_S)
    sheet.mark(0)
    await trio.sleep(seconds)
    sheet.mark(0)


def _keep_books(engine: Engine, sheet: Sheet) -> None:
    """Raises: RuntimeError when one is not an unbroken chain from one snapshot."""
    for key, book in engine.books.items():
        if book.counters.gaps or book.counters.snapshots != 1:
            raise RuntimeError(f"{key}: not one unbroken chain: {book.counters.freeze()}")
        sheet.keep(book.levels.top_bids(book.depth), book.levels.top_asks(book.depth), key.symbol)
