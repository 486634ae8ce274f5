"""Driving a verification: files, then every record once, then the recordings of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.core.errors import RecordingError
from orderflow.record.format import SUFFIX
from orderflow.record.reader import BlockStart, Damage, open_recording
from orderflow.record.records import (
    Checkpoint,
    Control,
    End,
    Frames,
    Gap,
    Lost,
    Opened,
    RestAnswer,
    Session,
    Tick,
)
from orderflow.sim.recordings import read_recording
from orderflow.verify.books import Books
from orderflow.verify.files import Files
from orderflow.verify.order import Order
from orderflow.verify.results import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orderflow.core.types import Category
    from orderflow.record.reader import Item, Recording

PROGRESS_EVERY: Final = 64  # blocks


def verify(paths: Sequence[Path], progress: Callable[[float], None] | None = None) -> Report:
    """Read everything once. Memory does not grow with the length.

    Args: progress: told now and then which share of the bytes is done.
    Raises: RecordingError when there is nothing to read at all; ConfigError for a file that cannot be read.
    """
    report = Report(paths=[str(path) for path in paths], findings=[], notes=[], books=[], comparisons=[])
    own = [path for path in paths if _is_own(path)]
    if own:
        recording = open_recording(*own)
        files = Files(recording, [path for path in own if path.is_dir()])
        files.check(report)
        _Reading(report, recording, files).run(progress)
    for path in paths:
        if path not in own:
            _read_foreign(path, report)
    return report


def _is_own(path: Path) -> bool:
    """Whether it is, or should be, a recording of ours. What is not there at all is reported as such."""
    return path.suffix == SUFFIX or not path.is_file()


class _Reading:
    """One pass over our own recordings."""

    def __init__(self, report: Report, recording: Recording, files: Files) -> None:
        self._report = report
        self._recording = recording
        self._files = files
        self._known_torn = {str(path) for path in recording.files if files.confessed(path)}
        self._session = ""
        self._order = Order(report, self._where)
        self._books = Books(report)
        self._ended = ""
        self._done = 0
        self._first_ns = self._last_ns = 0

    def _where(self) -> str:
        return f"session {self._session[:8]}, byte {self._done} of all files"

    def run(self, progress: Callable[[float], None] | None) -> None:
        report, recording = self._report, self._recording
        report.files, report.bytes = len(recording.files), recording.bytes
        for item in recording.items():
            self._take(item)
            if progress is not None and type(item) is BlockStart and report.blocks % PROGRESS_EVERY == 0:
                progress(item.done_bytes / max(recording.bytes, 1))
        self._end_session()

    def _take(self, item: Item) -> None:
        kind = type(item)
        if kind is Frames:
            self._frames(item)  # type: ignore[arg-type]  # told by `kind`
        elif kind is BlockStart:
            self._report.blocks += 1
            self._done = item.done_bytes  # type: ignore[union-attr]  # told by its kind
        elif kind is Session:
            self._begin(item)  # type: ignore[arg-type]  # told by its kind
        elif kind is Damage:
            self._damage(item)  # type: ignore[arg-type]  # told by its kind
        else:
            self._note(item)
        self._order.take(item)

    def _frames(self, record: Frames) -> None:
        self._report.messages += len(record.messages)
        self._last_ns = record.recv_ns
        message = self._books.message
        for raw in record.messages:
            message(record.connection, raw, record.recv_ns, record.mono_ns)

    def _begin(self, session: Session) -> None:
        self._ended = ""
        if session.session == self._session:
            return
        self._end_session()
        self._report.sessions += 1
        self._session = session.session
        self._order.begin()
        self._books = Books(self._report, session)
        self._first_ns = self._last_ns = session.started_ns

    def _end_session(self) -> None:
        self._books.finish()
        self._report.seconds += max(0.0, (self._last_ns - self._first_ns) / 1e9)
        if self._ended == "rotated":
            self._report.fault("missing", self._where(), "the session goes on in a file that is not there")
        self._ended = ""

    def _damage(self, damage: Damage) -> None:
        if damage.reason == "torn" and damage.file in self._known_torn:
            self._report.notes.append(f"{damage} (known: its program was killed, had trouble, or still writes)")
        else:
            self._report.fault(damage.reason, damage.file, f"at byte {damage.offset}: {damage.detail}")
        if damage.reason != "torn":  # after which nothing comes, or a file that says itself what it follows on
            self._books.doubt()

    def _note(self, item: Item) -> None:
        books = self._books
        try:
            if isinstance(item, Opened):
                books.opened(item.connection, item.category, [symbol for symbol, _ in item.books])
            elif isinstance(item, Lost):
                books.lost(item.connection)
            elif isinstance(item, Control):
                books.control(item)
            elif isinstance(item, Checkpoint):
                books.checkpoint(item)
            elif isinstance(item, RestAnswer):
                books.rest(item)
            elif isinstance(item, Gap):
                self._report.gaps += 1
                self._report.missing_messages += item.frames
                books.doubt()
            elif isinstance(item, End):
                self._ended = item.reason
            elif isinstance(item, Tick):
                self._last_ns = item.recv_ns
        except ValueError as error:  # an event of a kind this version does not know
            self._report.notes.append(f"{self._where()}: {error}")


def _read_foreign(path: Path, report: Report) -> None:
    """Another program's recording (`sim --from` reads the same): messages alone, so there is no order to check."""
    connections: dict[Category, int] = {}
    books = Books(report)
    first_ms = last_ms = None
    for message in read_recording(path):
        number = connections.setdefault(message.category, len(connections) + 1)
        books.opened(number, message.category)
        at_ns = round(message.at_ms * 1e6)
        books.message(number, message.raw, at_ns, at_ns)
        report.messages += 1
        first_ms, last_ms = first_ms if first_ms is not None else message.at_ms, message.at_ms
    if first_ms is None:
        raise RecordingError(str(path), 0, "foreign", "no message of Bybit's V5 streams in this file")
    books.finish()
    report.files += 1
    report.bytes += path.stat().st_size
    report.seconds += ((last_ms or 0.0) - (first_ms or 0.0)) / 1000
    report.notes.append(f"{path.name}: another program's recording: no hashes, blocks or order to check")
