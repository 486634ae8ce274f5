"""Data quality of a recording: its sessions through engines of their own, without metrics, plugins and alerts."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import MisuseError
from orderflow.core.figures import Cause, GapReport, TopicReport
from orderflow.core.latency import LatencyHistogram
from orderflow.core.quality import RECORDER_REASON, UNRECORDED_REASON, Coverage, Tally, figures, total
from orderflow.core.timeline import Chronicle
from orderflow.core.types import BookState, BookStateChanged, Started, Stopping
from orderflow.hooks.host import PluginHost
from orderflow.record.reader import BlockStart, Damage
from orderflow.record.records import Frames, Tick, Timer
from orderflow.replay.engine import SessionReplay
from orderflow.replay.run import Sessions
from orderflow.replay.sinks import Silent, trouble_text

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from orderflow.core.book import Book
    from orderflow.core.types import Event, InstrumentId, Output
    from orderflow.record.reader import Item, Recording
    from orderflow.record.records import Checkpoint, Gap, Session
    from orderflow.replay.engine import Choice
    from orderflow.replay.run import Progress

MAX_TROUBLES: Final = 100
MAX_STRETCHES: Final = 5000  # of all topics together: a report must stay small
MAX_GAPS: Final = 2000

_LAST_NS: Final = 2**63 - 1  # in the year 2262
_COUNTERS: Final = ("gaps", "missed", "duplicates", "refused", "resyncs")


class Topic:
    """One topic over all sessions, on one clock: the wall clock of each session's beginning, and how long since."""

    def __init__(self, stretches: int, gaps: int) -> None:
        self.coverage = Coverage()
        self.tally = Tally()
        self.chronicle = Chronicle(stretches, gaps)
        self._begun = False
        self._left_ns: int | None = None  # when the last session ended that had it

    def begin(self, at_ns: int, cause: Cause | None = None) -> None:
        if not self._begun:
            self._begun = True
            self.coverage.begin(at_ns, cause)
            self.chronicle.begin(at_ns, cause)

    def leave(self, at_ns: int) -> None:
        """A session is over."""
        self._left_ns = at_ns

    def miss(self) -> None:
        """That session was not the end of it: nobody recorded since."""
        if self._left_ns is not None:
            self.change(BookState.EMPTY, UNRECORDED_REASON, "", self._left_ns)
            self._left_ns = None

    def change(self, new: BookState, reason: str, detail: str, at_ns: int) -> None:
        self.coverage.change(new, reason, at_ns)
        self.chronicle.change(new, reason, detail, at_ns)

    def end(self, at_ns: int) -> None:
        if self._left_ns is not None and at_ns > self._left_ns:
            self.miss()
        self.coverage.end(at_ns)
        self.chronicle.end(at_ns)


class Survey(Silent):
    """What all sessions together came to. Memory is bounded by the number of topics.

    Args: from_ns, to_ns: wall clock; None: where the recording begins, ends.
    """

    def __init__(self, from_ns: int | None, to_ns: int | None, topics: int) -> None:
        self.from_ns = from_ns
        self.to_ns = to_ns
        self.sessions = 0
        self.over = False  # what comes now lies behind `to_ns`
        self._topics: dict[InstrumentId, Topic] = {}
        self._stretches = MAX_STRETCHES // max(topics, 1)
        self._gaps = MAX_GAPS // max(topics, 1) + 1
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._troubles: list[str] = []
        self._troubles_left_out = 0

    def trouble(self, trouble: Damage | Gap) -> None:
        if isinstance(trouble, Damage):  # a report is passed on: where the files lie is nobody's business
            trouble = msgspec.structs.replace(trouble, file=PurePath(trouble.file).name)
        if len(self._troubles) < MAX_TROUBLES:
            self._troubles.append(trouble_text(trouble).removeprefix("Recording: "))
        else:
            self._troubles_left_out += 1

    def enter(self, keys: Iterable[InstrumentId], at_ns: int) -> dict[InstrumentId, Topic]:
        """A session begins with these topics."""
        self.sessions += 1
        if self._first_ns is None:
            self._first_ns = at_ns
        found: dict[InstrumentId, Topic] = {}
        for key in keys:
            topic = found[key] = self._topics.setdefault(key, Topic(self._stretches, self._gaps))
            topic.miss()
            if self.from_ns is not None and self.from_ns < at_ns:
                topic.begin(self.from_ns, Cause.UNRECORDED)
            topic.change(BookState.EMPTY, "start", "", at_ns)
            if self.from_ns is None:
                topic.begin(at_ns)
        return found

    def leave(self, topics: Iterable[Topic], at_ns: int) -> None:
        """It is over."""
        self._last_ns = at_ns if self._last_ns is None else max(self._last_ns, at_ns)
        for topic in topics:
            topic.leave(at_ns)

    def report(self, recording: Recording) -> GapReport:
        """Raises: MisuseError when nothing was recorded in the time asked for."""
        first_ns = self.from_ns if self.from_ns is not None else self._first_ns
        last_ns = self.to_ns if self.to_ns is not None else self._last_ns
        if first_ns is None or last_ns is None or self._last_ns is None or min(self._last_ns, last_ns) < first_ns:
            raise MisuseError("nothing was recorded in the time asked for (--from, --to)")
        rows: list[TopicReport] = []
        for key, topic in sorted(self._topics.items()):
            topic.begin(first_ns)
            topic.end(last_ns)
            rows.append(_topic_report(key, topic, last_ns))
        return GapReport(
            from_ms=first_ns // 1_000_000,
            to_ms=last_ns // 1_000_000,
            sessions=self.sessions,
            files=len(recording.files),
            bytes=recording.bytes,
            total=total((topic.coverage.sums(last_ns), topic.tally) for topic in self._topics.values()),
            topics=tuple(rows),
            troubles=tuple(self._troubles),
            troubles_left_out=self._troubles_left_out,
        )


def _topic_report(key: InstrumentId, topic: Topic, at_ns: int) -> TopicReport:
    return TopicReport(
        quality=figures(topic.coverage.sums(at_ns), topic.tally, key.category.value, key.symbol),
        gaps=topic.chronicle.gaps.gaps(),
        gaps_left_out=topic.chronicle.gaps.left_out,
        stretches=topic.chronicle.timeline.stretches(),
    )


class SessionSurvey(SessionReplay):
    """One session's part of a survey. Ticks and what plugins would be told are left out: nobody asks."""

    def __init__(self, session: Session, choice: Choice, survey: Survey) -> None:
        super().__init__(session, choice, PluginHost(), survey)
        self._survey = survey
        self._topics: dict[InstrumentId, Topic] = {}
        self._ahead_ns: int | None = None  # wall clock minus monotonic clock, as the session began
        self._seen_ns = 0  # monotonic
        self._stopped_ns: int | None = None
        self._opens_ns = survey.from_ns  # where counting begins; None: it has begun
        self._before: dict[InstrumentId, list[int]] = {key: [0] * len(_COUNTERS) for key in self.engine.books}

    def take(self, item: Item) -> None:
        to_ns = self._survey.to_ns
        if to_ns is not None and self._ahead_ns is not None and isinstance(item, (Frames, Timer, Tick)):
            self._survey.over = self._at(item.mono_ns) > to_ns
        if self._survey.over:
            self._apply_until(self._items)
        else:
            super().take(item)

    def _at(self, mono_ns: int) -> int:
        """On the survey's clock; a recording that lies cannot lead out of what a calendar can show."""
        return min(max(mono_ns + (self._ahead_ns or 0), 0), _LAST_NS)

    def _apply(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Started) and self._ahead_ns is None:
                self._ahead_ns = event.recv_ns - event.mono_ns
                at_ns = self._at(event.mono_ns)
                self._topics = self._survey.enter(self.engine.books, at_ns)
                if self._opens_ns is not None and self._opens_ns <= at_ns:
                    self._opens_ns = None
            super()._apply([event])
            if isinstance(event, Stopping):
                self._stopped_ns = event.mono_ns
                self._count()

    def _apply_frames(self, record: Frames) -> None:
        if self._opens_ns is not None and self._at(record.mono_ns) >= self._opens_ns:
            self._open_window()
        super()._apply_frames(record)

    def _open_window(self) -> None:
        """Here the time begins that was asked for: what came before does not count."""
        at_ns, self._opens_ns = self._opens_ns, None
        self.engine.offsets = LatencyHistogram()
        for key, book in self.engine.books.items():
            book.hops.clear()
            book.hops.begin()
            self._before[key] = _counts(book)
            if at_ns is not None:
                self._topics[key].begin(at_ns)

    def _tell(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, BookStateChanged) and self._stopped_ns is None:
                hole = output.reason == RECORDER_REASON  # which began after the last thing that was recorded
                at_ns = self._at(max(output.mono_ns, self._seen_ns) if hole else output.mono_ns)
                if self._survey.over and self._survey.to_ns is not None and at_ns > self._survey.to_ns:
                    continue
                if self._opens_ns is not None and at_ns >= self._opens_ns:
                    self._open_window()
                topic = self._topics.get(output.instrument)
                if topic is not None:
                    topic.change(output.new, output.reason, output.detail, at_ns)

    def _timer(self, record: Timer) -> None:
        super()._timer(record)
        self._seen_ns = max(self._seen_ns, record.mono_ns)

    def _give_ticks(self, recv_ns: int, mono_ns: int, instrument: InstrumentId | None = None) -> None:
        self.last_recv_ns, self.last_mono_ns = recv_ns, mono_ns

    def _checkpoint(self, record: Checkpoint) -> None:
        if self._sure:
            return
        counts = {key: _counts(book) for key, book in self.engine.books.items()}
        super()._checkpoint(record)
        for key, book in self.engine.books.items():
            now = _counts(book)  # what happened in the hole is not in the recording
            before = zip(self._before[key], now, counts[key], strict=True)
            self._before[key] = [old + new - known for old, new, known in before]
            if key in self._topics:
                self._topics[key].change(book.state, book.reason or "checkpoint", "", self._at(record.mono_ns))

    def finish(self) -> None:
        if not self.session.timed:
            self._apply_until(self._items)
        if self._ahead_ns is None:
            return  # not a single time in it
        if self._stopped_ns is None:
            self._count()
            self._stopped_ns = max(self._seen_ns, self.last_mono_ns)
        to_ns = self._survey.to_ns
        ended_ns = to_ns if self._survey.over and to_ns is not None else self._at(self._stopped_ns)
        self._survey.leave(self._topics.values(), ended_ns)

    def _count(self) -> None:
        """Add what the messages of this session came to."""
        if self._opens_ns is not None:
            if self._opens_ns > self._at(max(self._seen_ns, self.last_mono_ns)):
                return  # all of it lies before the time asked for
            self._open_window()
        for key in self.engine.books:
            tally = self.engine.tally(key)
            jumps, missed, duplicates, refused, resyncs = self._before[key]
            tally.jumps -= jumps
            tally.missed -= missed
            tally.duplicates -= duplicates
            tally.refused -= refused
            tally.resyncs -= resyncs
            self._topics[key].tally.add(tally)


def _counts(book: Book) -> list[int]:
    return [getattr(book.counters, name) for name in _COUNTERS]


class _Surveys(Sessions):
    def __init__(self, choice: Choice, survey: Survey) -> None:
        super().__init__(choice, PluginHost, survey)
        self._survey = survey

    def make(self, found: Session) -> SessionReplay:
        return SessionSurvey(found, self._choice, self._survey)


def _clamped(at_ns: int | None) -> int | None:
    return None if at_ns is None else min(max(at_ns, 0), _LAST_NS)


def survey_gaps(
    recording: Recording,
    choice: Choice,
    *,
    stop: threading.Event,
    topics: int,
    from_ns: int | None = None,
    to_ns: int | None = None,
    progress: Progress | None = None,
) -> GapReport | None:
    """The quality of every session of a recording; None when `stop` was set before its end.

    Args: topics: how many there are, about: they share the memory.

    Raises: MisuseError when nothing was recorded between `from_ns` and `to_ns`.
    """
    survey = Survey(_clamped(from_ns), _clamped(to_ns), topics)
    sessions = _Surveys(choice, survey)
    for item in recording.items():
        if isinstance(item, BlockStart):
            if stop.is_set():
                return None
            if progress is not None:
                progress.messages = sessions.messages
                progress.block(item.done_bytes)
        sessions.take(item)
        if survey.over:
            break
    sessions.finish()
    return survey.report(recording)
