"""Foreign files into one recording: planned, merged by time, written aside and moved into place when it is whole."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow import __version__
from orderflow.core.errors import ConfigError
from orderflow.core.policy import RecordPolicy
from orderflow.core.text import escape_text
from orderflow.core.types import Category, InstrumentId, LinkDown, LinkUp, Syncing
from orderflow.foreign.merge import Arrival, Clock, arrivals, check_order, merge, span_of
from orderflow.foreign.plan import Connection, Plan, make_plan
from orderflow.foreign.source import Source, Survey, survey
from orderflow.record.folder import LOCK, MANIFEST, recording_files
from orderflow.record.format import Encoder
from orderflow.record.records import FED_ALL, FED_NOTHING, Control, End, Opened, Session, encode_event
from orderflow.record.writer import RecordingWriter, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from orderflow.core.types import Event, Instrument
    from orderflow.foreign.heard import Problem

INTERVAL_S: Final = 1.0
_BLOCK_BYTES: Final = 2_000_000
_MARK: Final = ".import"  # in the folder of an import that is not finished
_POLICY: Final = RecordPolicy(rotate_mb=1e6, rotate_s=1e7, level=3)
"""One file, however long: a later one could begin with no picture of the books, because no engine runs here."""


class ImportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one file. `left_out`: lines that were no messages; `damaged`: it could not be read to its end."""

    file: str
    kind: str
    messages: int
    left_out: int
    damaged: bool
    sorted: bool  # a trade file that was not in order
    problems: list[Problem]


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    folder: str
    messages: int
    topics: dict[str, int]  # by kind: orderbook, publicTrade, ...
    instruments: list[str]
    inferred: list[str]
    passed_over: list[str]
    clock: str
    first_ns: int
    last_ns: int
    bytes: int
    files: list[ImportedFile]


class Import:
    """One import. `look` at the files, then `write` them; nothing is written before all of them were looked at.

    Args: category, symbol: for files that do not say; known: facts from elsewhere; tell: called now and then.

    Raises: RecordingError for a file that cannot be used, ConfigError for files that do not go together.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        category: Category | None = None,
        symbol: str | None = None,
        known: Mapping[InstrumentId, Instrument] | None = None,
        clock: Clock | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.sources = [Source(path, category=category, symbol=symbol, tell=tell) for path in paths]
        self.surveys: list[Survey] = []
        self.messages = 0  # written so far
        self._known = known or {}
        self._clock = clock

    @property
    def total_messages(self) -> int:
        return sum(found.messages for found in self.surveys)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(source.file.size for source in self.sources)

    @property
    def position(self) -> int:
        """Bytes of all files read in this pass."""
        return sum(source.file.position for source in self.sources)

    def look(self) -> Plan:
        """Go through all files once. Raises: RecordingError, ConfigError."""
        self.surveys = [survey(source) for source in self.sources]
        plan = make_plan(self.sources, self.surveys, self._known, self._clock)
        for source, found in zip(self.sources, self.surveys, strict=True):
            check_order(source, found, plan.clock)
            source.file.position = 0
        return plan

    def write(self, plan: Plan, folder: Path) -> Imported:
        """Write the recording. Raises: ConfigError when `folder` is there; OSError, and then nothing is left."""
        refuse_existing(folder)
        place = folder.absolute()
        aside = place.with_name(f"{place.name}.importing")
        _prepare(aside)
        writer = RecordingWriter(aside, _POLICY, plan.session, clock=lambda: plan.first_ns)
        try:
            _clear(aside)  # of an import that was killed
            writer.rotate(None)
            topics = self._write_all(writer, plan, aside)
            written = writer.statistics().bytes
            (aside / _MARK).unlink()
            aside.rename(place)  # fails when somebody else made one meanwhile that is not empty
            sync_folder(place.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                writer.close(None)
            _clear(aside)
            _remove(aside)
            raise
        return self._account(plan, folder, topics, written)

    def _write_all(self, writer: RecordingWriter, plan: Plan, aside: Path) -> dict[str, int]:
        homes = [next(iter(found.topics)) for found in self.surveys]
        connections = [plan.connections[topic.category, topic.connection] for topic in homes]
        tape = _Tape(writer, plan, [source.path.name for source in self.sources], connections)
        for arrival in merge(self._streams(plan, aside)):
            self.messages += arrival.heard is not None
            tape.take(arrival)
        tape.close()
        return tape.topics

    def _streams(self, plan: Plan, aside: Path) -> list[tuple[int, Callable[[], Iterator[Arrival]]]]:
        def stream(number: int, source: Source, first_ns: int) -> Callable[[], Iterator[Arrival]]:
            return lambda: arrivals(source, number, first_ns, plan.clock, aside)

        return [
            (span_of(found, plan.clock).first_ns, stream(number, source, span_of(found, plan.clock).first_ns))
            for number, (source, found) in enumerate(zip(self.sources, self.surveys, strict=True))
        ]

    def _account(self, plan: Plan, folder: Path, topics: dict[str, int], written: int) -> Imported:
        return Imported(
            folder=str(folder),
            messages=self.messages,
            topics=topics,
            instruments=[str(key) for key in plan.instruments],
            inferred=[str(key) for key in plan.inferred],
            passed_over=plan.passed_over,
            clock=plan.clock,
            first_ns=plan.first_ns,
            last_ns=plan.last_ns,
            bytes=written,
            files=[
                ImportedFile(
                    file=source.path.name,
                    kind=found.kind,
                    messages=found.messages,
                    left_out=source.problems.lines,
                    damaged=source.problems.damage is not None,
                    sorted=found.kind == "trades" and not source.trades_in_order,
                    problems=source.problems.all(),
                )
                for source, found in zip(self.sources, self.surveys, strict=True)
            ],
        )


class _Tape:
    """The recording being written. Args: names, connections: of each file, the latter the first it speaks of."""

    def __init__(
        self, writer: RecordingWriter, plan: Plan, names: Sequence[str], connections: Sequence[Connection]
    ) -> None:
        self.topics: dict[str, int] = {}
        self._writer = writer
        self._plan = plan
        self._encoder = Encoder()
        self._last = list(connections)  # of each file, the connection of its last message
        self._books: dict[int, set[InstrumentId]] = {}  # of each file
        self._head(names)

    def _head(self, names: Sequence[str]) -> None:
        plan, encoder = self._plan, self._encoder
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        session = Session(
            session=plan.session.hex(),
            version=__version__,
            env="import",
            instruments=plan.instruments,
            depth=plan.depth,
            interval_s=INTERVAL_S,
            started_ns=plan.first_ns,
            timed=False,
            source=f"import: {escape_text(shown, 300)}",
            clock=plan.clock,
        )
        encoder.note(session)
        encoder.stamp(plan.first_ns)
        self._control([*plan.facts])
        linked: set[InstrumentId] = set()
        for connection in plan.connections.values():
            self._open(connection, linked)

    def _open(self, connection: Connection, linked: set[InstrumentId]) -> None:
        at_ns = self._plan.first_ns
        self._encoder.note(
            Opened(
                connection=connection.number,
                link=connection.link,
                category=connection.category,
                url="",
                books=connection.books,
                recv_ns=at_ns,
                mono_ns=at_ns,
            )
        )
        keys = tuple(dict.fromkeys(InstrumentId(connection.category, symbol) for symbol, _ in connection.books))
        new = tuple(key for key in keys if key not in linked)  # a book that goes over to another connection goes on
        linked.update(new)
        if new:
            up = LinkUp(link=connection.link, instruments=new, mono_ns=at_ns)
            self._control([up, *(Syncing(instrument=key, reason="subscribe", mono_ns=at_ns) for key in new)])

    def _control(self, events: Sequence[Event]) -> None:
        self._encoder.items += 1
        self._encoder.note(Control(events=[encode_event(event) for event in events]))

    def take(self, arrival: Arrival) -> None:
        """One message. Raises: OSError."""
        at_ns, file, heard = arrival
        if heard is None:
            self._broken(file, at_ns)
            return
        connection = self._connection(file, heard.category, heard.connection)
        fed = FED_NOTHING
        if heard.topic:
            kind = heard.topic.partition(".")[0]
            self.topics[kind] = self.topics.get(kind, 0) + 1
            if (heard.category, heard.topic) in self._plan.fed:
                fed = FED_ALL
                key = InstrumentId(heard.category, heard.topic.rpartition(".")[2])
                self._books.setdefault(file, set()).add(key)
        encoder = self._encoder
        encoder.frames(connection.number, (heard.raw,), at_ns, at_ns, fed)
        if encoder.size > _BLOCK_BYTES:
            self._writer.write(encoder.take())

    def _connection(self, file: int, category: Category, name: str) -> Connection:
        """An acknowledgement does not tell its category: it belongs to the connection its file spoke of last."""
        connection = self._plan.connections.get((category, name)) or self._last[file]
        self._last[file] = connection
        return connection

    def _broken(self, file: int, at_ns: int) -> None:
        """The rest of a file cannot be read: its books are not to be believed until another goes on with them."""
        keys = tuple(sorted(self._books.get(file, ())))
        if keys:
            self._control([LinkDown(link="import", instruments=keys, reason="damaged_file", mono_ns=at_ns)])

    def close(self) -> None:
        """Raises: OSError."""
        self._encoder.note(End(reason="stopped"))
        self._writer.close(self._encoder.take())


def refuse_existing(folder: Path) -> None:
    """Raises: ConfigError when something is there already."""
    try:
        free = not folder.is_symlink() and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir())))
    except OSError as error:
        raise ConfigError(f"--out {escape_text(str(folder), 200)}: {error.strerror}") from None
    if not free:
        raise ConfigError(f"--out {escape_text(str(folder), 200)}: it is there already; choose another folder")


def _prepare(aside: Path) -> None:
    """A folder to write in. Raises: ConfigError when there is one that no import left behind."""
    try:
        if aside.exists() and any(aside.iterdir()) and not (aside / _MARK).exists():
            raise ConfigError(f"import: {escape_text(str(aside), 200)} is in the way: nothing an import left behind")
        aside.mkdir(parents=True, exist_ok=True)
        (aside / _MARK).touch()
    except OSError as error:
        raise ConfigError(f"import: {escape_text(str(aside), 200)}: cannot be written: {error.strerror}") from None


def _clear(aside: Path) -> None:
    """Remove what an import that did not come to its end has written, and nothing else."""
    with contextlib.suppress(OSError):
        for path in (*recording_files(aside), aside / MANIFEST):
            path.unlink(missing_ok=True)


def _remove(aside: Path) -> None:
    with contextlib.suppress(OSError):
        for name in (_MARK, LOCK):
            (aside / name).unlink(missing_ok=True)
        aside.rmdir()
