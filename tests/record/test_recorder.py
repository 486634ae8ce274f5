"""The recorder in trouble: whatever the disk does, the feed goes on and the recording says what it misses."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orderflow.config.tree import Settings
from orderflow.core.engine import Engine
from orderflow.core.errors import FeedOverrun
from orderflow.core.policy import RecordPolicy
from orderflow.core.types import Category, Distrust, TickDue, TimerDue
from orderflow.net.tap import read_clocks
from orderflow.record.reader import Damage, open_recording
from orderflow.record.recorder import GapNews, Recorder, make_codec
from orderflow.record.records import Checkpoint, End, Fed, Frames, Gap, Given, Refused
from orderflow.recording import Recording
from orderflow.replay.engine import Choice, SessionReplay
from orderflow.replay.sinks import Silent
from tests.record.tapes import BTC, M0, T0, book, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderflow.core.types import Event, MetricsTick
    from orderflow.record.reader import Item

POLICY = RecordPolicy(keep_free_mb=0, flush_s=0.05, retry_s=0.05, queue_frames=50)


class Bench:
    """A feed, a queue and an engine, as far as a recorder sees them."""

    def __init__(self, folder: Path, policy: RecordPolicy = POLICY) -> None:
        self.now = 0
        self.news: list[GapNews] = []
        self.recorder = Recorder(folder, policy, lambda: (T0 + self.now, M0 + self.now))
        self.engine = Engine([(BTC, 50)])
        self.recorder.begin(self.engine, session(), self.news.append)
        self.queue = self.recorder.make_queue(100)
        self.tap = self.recorder.connection("linear", Category.LINEAR, "wss://x/linear", [(BTC, 50)])
        self.tap.opened()
        self.codec = make_codec(Category.LINEAR, [(BTC, 50)])
        self.u = 10
        self.feed(book(10, "snapshot"))

    def feed(self, *messages: bytes, fed: Callable[[list[Event]], list[Event]] = lambda events: events) -> None:
        """One socket read, applied at once."""
        self.receive(*messages, fed=fed)
        self.apply()

    def receive(self, *messages: bytes, fed: Callable[[list[Event]], list[Event]] = lambda events: events) -> None:
        self.now += 10_000_000
        stamps = (T0 + self.now, M0 + self.now)
        events = fed([self.codec.decode(raw, *stamps) for raw in messages])  # type: ignore[misc]
        self.tap.batch(list(messages), *stamps, events)
        if events:
            self.queue.put_nowait(events)

    def apply(self) -> None:
        for event in self.queue.take_all():
            self.engine.apply(event)
        self.recorder.given(TimerDue(mono_ns=M0 + self.now))
        self.engine.apply(TimerDue(mono_ns=M0 + self.now))

    def deltas(self, count: int) -> None:
        for _ in range(count):
            self.u += 1
            self.feed(book(self.u, size=str(self.u)))

    def tick(self) -> MetricsTick:
        due = TickDue(recv_ns=T0 + self.now, mono_ns=M0 + self.now)
        self.recorder.given(due)
        (tick,) = self.engine.apply(due)
        return tick  # type: ignore[return-value]

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(5):
            while not condition():  # noqa: ASYNC110 - the recorder's state, which has no event
                await trio.sleep(0.005)


class Ticks(Silent):
    def __init__(self) -> None:
        self.ticks: list[MetricsTick] = []

    def tick(self, tick: MetricsTick) -> None:
        self.ticks.append(tick)


def replayed(items: list[Item]) -> list[MetricsTick]:
    from orderflow.hooks.host import PluginHost

    sink = Ticks()
    replay = SessionReplay(session(), Choice(), PluginHost(), sink)
    for item in items:
        replay.take(item)
    return sink.ticks


def same_book(replay: MetricsTick, live: MetricsTick) -> bool:
    fields = ("ts", "state", "bid", "ask", "bid_size", "u", "seq", "counters")
    return all(getattr(replay, name) == getattr(live, name) for name in fields)


async def test_what_waits_for_its_thread_when_the_end_comes_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    settings = Settings(symbols=("linear:BTCUSDT",), record=POLICY)
    recording = Recording(bench.recorder, settings, bench.engine, list, read_clocks, read_clocks)
    threads = trio.to_thread.current_default_thread_limiter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recording.run)
        await bench.until(lambda: bench.recorder.statistics().writer.frames == 1 and not threads.borrowed_tokens)
        for holder in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(holder)
        bench.deltas(20)
        await bench.until(lambda: threads.statistics().tasks_waiting == 1)  # it has them in hand
        async with trio.open_nursery() as closing:
            closing.start_soon(recording.close)
            await trio.testing.wait_all_tasks_blocked()
            for holder in range(int(threads.total_tokens)):
                threads.release_on_behalf_of(holder)
        nursery.cancel_scope.cancel()
    items = list(open_recording(tmp_path).items())
    assert not [item for item in items if isinstance(item, Damage)]
    assert sum(isinstance(item, Frames) for item in items) == 21
    assert isinstance(items[-1], End)


async def test_a_disk_that_hangs_costs_a_gap_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    may_go = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.recorder.run)
        bench.deltas(5)
        await bench.until(lambda: bench.recorder.statistics().writer.frames == 6)
        real = bench.recorder._writer._write
        monkeypatch.setattr(bench.recorder._writer, "_write", lambda chunk: (may_go.wait(5), real(chunk)))
        bench.deltas(10)
        await trio.sleep(0.1)  # the thread hangs now
        began = time.perf_counter()
        bench.deltas(100)
        took = time.perf_counter() - began
        assert took < 0.5
        assert [(news.began, news.reason) for news in bench.news] == [(True, "behind")]
        assert bench.recorder.statistics().gap == "behind"
        lost = bench.recorder.statistics().lost_frames
        assert 0 < lost <= 100
        may_go.set()
        await bench.until(lambda: bench.recorder._may_resume)
        bench.deltas(5)
        live = bench.tick()
        assert [news.began for news in bench.news] == [True, False]
        lost += 1  # the one it woke up with
        nursery.cancel_scope.cancel()
    await bench.recorder.close()
    items = list(open_recording(tmp_path).items())
    (gap,) = (item for item in items if isinstance(item, Gap))
    assert (gap.reason, gap.frames) == ("behind", lost)
    frames = [item for item in items if isinstance(item, Frames)]
    assert sum(len(item.messages) for item in frames) + lost == 121
    assert len([item for item in items if isinstance(item, Checkpoint)]) == 1
    assert not [item for item in items if isinstance(item, Damage)]
    (tick,) = replayed(items)
    assert tick.live
    assert same_book(tick, live)


async def test_a_full_disk_costs_a_gap_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.recorder.run)
        bench.deltas(5)
        await bench.until(lambda: bench.recorder.statistics().writer.frames == 6)

        def full(data: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("orderflow.record.writer._File.write", lambda self, data: full(data))
            bench.deltas(7)
            await bench.until(lambda: bool(bench.news))
            bench.deltas(8)
            await trio.sleep(0.15)  # tried again in vain
            assert [(news.began, news.reason) for news in bench.news] == [(True, "disk")]
        await bench.until(lambda: bench.recorder._may_resume)
        bench.deltas(3)
        live = bench.tick()
        await bench.until(lambda: bench.recorder.statistics().writer.frames == 8)
        nursery.cancel_scope.cancel()
    await bench.recorder.close()
    assert bench.news[-1].frames == 16 == bench.recorder.statistics().lost_frames  # the one it woke up with included
    recording = open_recording(tmp_path)
    assert len(recording.files) == 2
    items = list(recording.items())
    (gap,) = (item for item in items if isinstance(item, Gap))
    assert (gap.reason, gap.frames) == ("disk", 16)
    assert isinstance(items[-1], End)
    (tick,) = replayed(items)
    assert same_book(tick, live)


async def test_a_gap_that_is_open_at_the_end_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, RecordPolicy(keep_free_mb=0, queue_frames=3))
    bench.deltas(20)  # nobody writes
    await bench.recorder.close()
    items = list(open_recording(tmp_path).records())
    (gap,) = (item for item in items if isinstance(item, Gap))
    assert gap.frames == 18
    assert items[-1] == End(reason="stopped")


async def test_nothing_is_lost_without_trouble_and_a_short_run_is_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.deltas(30)
    live = bench.tick()
    await bench.recorder.close()
    items = list(open_recording(tmp_path).items())
    assert not [item for item in items if isinstance(item, (Damage, Gap))]
    (tick,) = replayed(items)
    assert same_book(tick, live)


async def test_what_the_engine_got_of_mixed_batches_is_noted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ack = b'{"success":true,"ret_msg":"","op":"subscribe","req_id":"s1"}'
    doubt = Distrust(instrument=BTC, reason="json", mono_ns=M0)
    bench.feed(ack, fed=lambda events: [])
    bench.feed(ack, book(11), fed=lambda events: events[1:])
    bench.feed(book(99), book(12), fed=lambda events: events[1:])  # the first was of a topic being left
    bench.feed(book(13), book(14), fed=lambda events: [events[0], doubt, events[1]])
    bench.recorder.given(doubt)
    bench.engine.apply(doubt)
    live = bench.tick()
    await bench.recorder.close()
    records = list(open_recording(tmp_path).records())
    noted = [
        [item if isinstance(item, int) else item[0] for item in note.items] for note in records if isinstance(note, Fed)
    ]
    assert noted == [[1], [1], [0, "Distrust", 1]]
    assert len([record for record in records if isinstance(record, Given)]) == 1
    (tick,) = replayed(list(open_recording(tmp_path).items()))
    assert same_book(tick, live)
    assert tick.counters.refused == 2


async def test_a_batch_that_the_queue_refused_was_no_item(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.recorder.make_queue(1)
    bench.queue._limit = 1
    bench.receive(book(11))
    with pytest.raises(FeedOverrun):
        bench.receive(book(12))
    bench.apply()
    live = bench.tick()
    await bench.recorder.close()
    records = list(open_recording(tmp_path).items())
    assert len([record for record in records if isinstance(record, Refused)]) == 1
    (tick,) = replayed(records)
    assert same_book(tick, live)
    assert tick.u == 11
