"""Driving a replay: sessions one after the other, at a pace, within a window, until somebody stops it."""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING, Final

from orderflow.core.errors import MisuseError
from orderflow.record.reader import BlockStart, Damage
from orderflow.record.records import Frames, Session, Tick, Timer
from orderflow.replay.engine import SessionReplay
from orderflow.ui import jsonlines

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from orderflow.core.types import Alert, FeedChange, InstrumentId, MetricsTick, Summary
    from orderflow.hooks.host import PluginHost
    from orderflow.record.reader import Item, Recording
    from orderflow.record.records import Gap
    from orderflow.replay.engine import Choice, Sink

PROGRESS_S: Final = 0.5


class Pace:
    """Waits until a recorded moment has come. `speed` infinite: never.

    Args: stop: set by a signal; ends every wait.
    """

    def __init__(self, speed: float, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._stop = stop
        self._clock = clock
        self._began: tuple[float, int] | None = None
        self.waits = math.isfinite(speed)

    def restart(self) -> None:
        """A new session: its clock is another one."""
        self._began = None

    def wait(self, mono_ns: int) -> None:
        now = self._clock()
        if self._began is None:
            self._began = now, mono_ns
        due = self._began[0] + (mono_ns - self._began[1]) / 1e9 / self._speed
        if due > now:
            self._stop.wait(due - now)


class Progress:
    """How far a replay is. `say` is called now and then with (share done, messages a second, seconds left or None)."""

    def __init__(self, total_bytes: int, say: Callable[[float, float, float | None], None]) -> None:
        self.messages = 0
        self._total = max(total_bytes, 1)
        self._say = say
        self._began = self._said = time.monotonic()

    def block(self, done_bytes: int) -> None:
        now = time.monotonic()
        if now - self._said < PROGRESS_S:
            return
        self._said = now
        share, spent = done_bytes / self._total, now - self._began
        self._say(share, self.messages / spent, spent / share * (1 - share) if share > 0 else None)


class Window:
    """A sink that hands on what lies between two times (ms, both included), and hashes its ticks and alerts."""

    def __init__(self, sink: Sink, from_ms: float, to_ms: float) -> None:
        self.ticks = self.alerts = 0
        self._sink = sink
        self._from_ms = from_ms
        self._to_ms = to_ms
        self._sum = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the JSON lines of every tick and alert, in order: the same recording and settings give the same."""
        return self._sum.hexdigest()

    def start(self, session: Session, instruments: tuple[InstrumentId, ...], interval_s: float) -> None:
        self._sink.start(session, instruments, interval_s)

    def tick(self, tick: MetricsTick) -> None:
        if self._from_ms <= tick.ts <= self._to_ms:
            self.ticks += 1
            self._sum.update(jsonlines.encode_tick(tick).encode())
            self._sink.tick(tick)

    def alert(self, alert: Alert) -> None:
        if self._from_ms <= alert.tick.ts <= self._to_ms:
            self.alerts += 1
            self._sum.update(jsonlines.encode_alert(alert).encode())
            self._sink.alert(alert)

    def feed(self, change: FeedChange, ts: int) -> None:
        if self._from_ms <= ts <= self._to_ms:
            self._sink.feed(change, ts)

    def trouble(self, trouble: Damage | Gap) -> None:
        self._sink.trouble(trouble)

    def summary(self, summary: Summary, ts: int) -> None:
        self._sink.summary(summary, ts)


class Sessions:
    """Replays sessions one after the other, each with an engine and plugins of its own.

    Args: make_host: plugins of one session.
    """

    def __init__(self, choice: Choice, make_host: Callable[[], PluginHost], sink: Sink) -> None:
        self._choice = choice
        self._make_host = make_host
        self._sink = sink
        self._block: BlockStart | None = None
        self._done = 0  # messages of the sessions before
        self.session: SessionReplay | None = None

    @property
    def messages(self) -> int:
        """How many have been read."""
        return self._done + (self.session.messages if self.session is not None else 0)

    def runs(self, session: Session) -> bool:
        """Whether this is the session that is being replayed."""
        return self.session is not None and self.session.session.session == session.session

    def take(self, item: Item) -> None:
        """The next record, damage or block of a recording."""
        if isinstance(item, Session):
            self._begin(item)
            return
        if isinstance(item, BlockStart):
            self._block = item
        if self.session is not None:
            self.session.take(item)
        elif isinstance(item, Damage):
            self._sink.trouble(item)

    def _begin(self, found: Session) -> None:
        if self.runs(found):
            return  # its next file
        self.finish()
        self.session = self.make(found)
        self.session.start()
        if self._block is not None:
            self.session.take(self._block)  # a file out of the middle says so here

    def make(self, found: Session) -> SessionReplay:
        """What a session is replayed with."""
        return SessionReplay(found, self._choice, self._make_host(), self._sink)

    def finish(self) -> None:
        """No more comes of this session: its closing summary."""
        if self.session is not None:
            self.session.finish()
            self._done += self.session.messages
            self.session = None


def run_replay(
    recording: Recording,
    choice: Choice,
    make_host: Callable[[], PluginHost],
    sink: Sink,
    *,
    stop: threading.Event,
    pace: Pace | None = None,
    to_ns: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Replay every session of a recording, or until `stop` is set. Returns: how many messages were read.

    Args: make_host: plugins of one session; to_ns: nothing later is read.
    """
    sessions = Sessions(choice, make_host, sink)
    for item in recording.items(until_ns=to_ns):
        kind = type(item)
        if kind is BlockStart:
            if stop.is_set():
                break
            if progress is not None:
                progress.messages = sessions.messages
                progress.block(item.done_bytes)  # type: ignore[union-attr]  # told by kind
        elif pace is not None and pace.waits:
            if isinstance(item, Session):
                if not sessions.runs(item):
                    pace.restart()
            elif kind in (Frames, Timer, Tick):
                pace.wait(item.mono_ns)  # type: ignore[union-attr]  # told by its kind
                if stop.is_set():
                    break
        if to_ns is not None and kind in (Frames, Tick) and item.recv_ns > to_ns:  # type: ignore[union-attr]  # told by its kind
            break
        sessions.take(item)
    sessions.finish()
    return sessions.messages


def parse_moment(text: str, begin_ns: int) -> int:
    """`2026-11-22T19:00:05`, `19:00` of the first day (UTC), `+90` seconds from the beginning, or Unix time (s, ms).

    Args: begin_ns: where the recording begins. Returns: wall clock, ns. Raises: MisuseError.
    """
    from datetime import UTC, datetime

    try:
        if text.startswith("+"):
            return begin_ns + round(float(text[1:]) * 1e9)
        if text.replace(".", "", 1).isdigit():
            number = float(text)
            return round(number * (1e6 if number > 1e11 else 1e9))
        if "T" not in text and ":" in text and "-" not in text:
            text = f"{datetime.fromtimestamp(begin_ns / 1e9, UTC):%Y-%m-%d}T{text}"
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise MisuseError(f"{text!a}: no time; expected 2026-11-22T19:00:05, 19:00, +90 or Unix seconds") from None
