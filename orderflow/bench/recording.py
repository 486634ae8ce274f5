"""What recording costs a run, and how fast a recording is replayed."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow import bundled
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.loopback import open_server
from orderflow.bench.results import Figure, single
from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.config.tree import PluginSettings
from orderflow.core.policy import RecordPolicy
from orderflow.core.types import LinkUp, Syncing
from orderflow.hooks.setup import set_up
from orderflow.record.format import Encoder
from orderflow.record.reader import open_recording
from orderflow.record.records import Control, End, Opened, Session, encode_event
from orderflow.record.writer import RecordingWriter
from orderflow.replay.engine import Choice
from orderflow.replay.run import Window, run_replay
from orderflow.replay.sinks import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderflow.bench.client import Outcome
    from orderflow.bench.frames import Frames
    from orderflow.bench.plan import Plan
    from orderflow.core.types import Summary
    from orderflow.hooks.host import PluginHost

RATE: Final = 5000.0
"""Messages/s at which the cost of recording is promised."""
_MESSAGE_NS: Final = 200_000  # from one message of the replayed recording to the next: the same rate
_TIMER: Final = 500  # messages between two timers: 0.1 s
_TICK: Final = 5000
_BLOCK: Final = 2500  # messages in a block: what is flushed every 0.5 s


def measure_recorder(plan: Plan) -> list[Figure]:
    """The whole program fed at 5,000 messages/s, without and with a recording, in turn. Raises: LoopbackError."""
    depth = plan.depths[0]
    count = round(RATE * plan.paced_s)
    rows: dict[tuple[str, str, str], list[float]] = {}
    with open_server(depth, plan.windows, plan.seed) as server, tempfile.TemporaryDirectory() as folder:
        for number in range(plan.rounds):
            alone = server.run("program", count, RATE).outcome
            _add(rows, ("processor time a message", "not recorded", "us"), alone.cpu_s / alone.messages * 1e6)
            outcome = server.run("program", count, RATE, record_into=str(Path(folder) / f"{number}")).outcome
            for key, value in _costs(outcome):
                _add(rows, key, value)
    return [
        Figure(
            stage="record", name=name, case=case, unit=unit, depth=depth, rate=RATE,
            rounds=tuple(single(value) for value in values),
        )
        for (name, case, unit), values in rows.items()
    ]  # fmt: skip


def _add(rows: dict[tuple[str, str, str], list[float]], key: tuple[str, str, str], value: float) -> None:
    rows.setdefault(key, []).append(value)


def _costs(outcome: Outcome) -> Iterator[tuple[tuple[str, str, str], float]]:
    """What one recorded run cost. The recorder's share is of the same run without it, by its own clocks: two runs of
    one program on a busy machine lie further apart than what is looked for."""
    recorded = outcome.recorded
    assert recorded is not None
    whole_us = outcome.cpu_s / outcome.messages * 1e6
    feed_us, writer_us = (spent / recorded.messages * 1e6 for spent in (recorded.feed_s, recorded.writer_s))
    yield ("processor time a message", "recorded", "us"), whole_us
    yield ("of it the recorder", "in the feed's thread", "us"), feed_us
    yield ("of it the recorder", "in its own thread", "us"), writer_us
    yield ("share of the run", "recorder", "%"), (feed_us + writer_us) / (whole_us - feed_us - writer_us) * 100
    yield ("on the disk a message", "recorded", "bytes"), recorded.bytes / recorded.messages


def measure_replay(plan: Plan, frames: Frames) -> list[Figure]:
    """Microseconds of one core a delta: decoded alone, and replayed with plugins and the output's hash, in turn.

    Raises: WrongBook when a replay does not end with the book that the messages say.
    """
    raws = [frames.snapshot, *frames.deltas(plan.replay)]
    spans: dict[str, list[float]] = {"decoded alone": [], "replayed": []}
    with tempfile.TemporaryDirectory() as folder:
        _write_tape(Path(folder), raws, frames.depth)
        for _ in range(plan.rounds):
            spans["decoded alone"].append(_time_decode(raws, frames.depth))
            spans["replayed"].append(_time_replay(Path(folder), len(raws), frames.last_u(plan.replay)))
    return [
        Figure(
            stage="replay", name="delta", case=case, unit="us", depth=frames.depth,
            rounds=tuple(single(span) for span in found),
        )
        for case, found in spans.items()
    ]  # fmt: skip


def _time_decode(raws: list[bytes], depth: int) -> float:
    table = TopicTable(INSTRUMENT.category, learn=False)
    table.add_book(INSTRUMENT, depth)
    decode = FeedCodec(table).decode
    began = time.process_time()
    for raw in raws:
        decode(raw, 0, 0)
    return (time.process_time() - began) / len(raws) * 1e6


class _Last(Silent):
    """Keeps the book's last sequence number. A replay tells it at its end."""

    def __init__(self) -> None:
        self.u: int | None = None

    def summary(self, summary: Summary, ts: int) -> None:
        self.u = summary.books[0].u


def _time_replay(folder: Path, count: int, last_u: int) -> float:
    recording = open_recording(folder)
    last = _Last()
    window = Window(last, float("-inf"), float("inf"))
    began = time.process_time()
    read = run_replay(recording, Choice(), _make_host, window, stop=threading.Event())
    took = time.process_time() - began
    if (read, last.u) != (count, last_u):
        raise WrongBook(f"replayed {read} of {count} messages, to u {last.u} in place of {last_u}")
    return took / count * 1e6


def _make_host() -> PluginHost:
    return set_up(PluginSettings(entry_points=False), bundled.plugins_folder(), clock=lambda: 0.0).host


def _write_tape(folder: Path, raws: list[bytes], depth: int) -> None:
    """A recording of these messages as a run would have made it."""
    writer = RecordingWriter(folder, RecordPolicy(keep_free_mb=0), bytes(16))
    writer.rotate(None)
    encoder = Encoder()
    began_ns = time.time_ns()
    _begin(encoder, depth, began_ns)
    for number, raw in enumerate(raws, 1):
        later = number * _MESSAGE_NS
        encoder.frames(1, [raw], began_ns + later, later)
        if number % _TIMER == 0:
            encoder.timer(encoder.items, later)
        if number % _TICK == 0:
            encoder.tick(encoder.items, began_ns + later, later)
        if number % _BLOCK == 0:
            writer.write(encoder.take())
    encoder.timer(encoder.items, (len(raws) + 1) * _MESSAGE_NS)
    encoder.note(End(reason="stopped"))
    writer.close(encoder.take())


def _begin(encoder: Encoder, depth: int, began_ns: int) -> None:
    """A session, its connection and its subscription."""
    category = INSTRUMENT.category
    encoder.note(
        Session(
            session=bytes(16).hex(), version="bench", env="sim", instruments=[INSTRUMENT], depth=depth,
            interval_s=1.0, started_ns=began_ns,
        )
    )  # fmt: skip
    books = [(INSTRUMENT.symbol, depth)]
    encoder.note(
        Opened(connection=1, link="bench", category=category, url="", books=books, recv_ns=began_ns, mono_ns=0)
    )
    up = LinkUp(link="bench", instruments=(INSTRUMENT,), mono_ns=0)
    syncing = Syncing(instrument=INSTRUMENT, reason="subscribe", mono_ns=0)
    encoder.items += 1
    encoder.note(Control(events=[encode_event(up), encode_event(syncing)]))
