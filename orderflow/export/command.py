"""`orderflow export`: recordings as Parquet or for hftbacktest. A process of its own: heavy libraries are fine here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow import __version__
from orderflow.core.errors import ConfigError, MisuseError
from orderflow.core.text import escape_text
from orderflow.export.needs import needs
from orderflow.export.target import Abandoned, new_folder
from orderflow.export.walk import Walk, stops_at
from orderflow.record.reader import BlockStart, Damage
from orderflow.replay.command import Job, show_progress, stoppable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path
    from threading import Event

    from orderflow.export.events import EventSpooler
    from orderflow.export.npz import DayFile
    from orderflow.replay.run import Progress

MANIFEST: Final = "export.json"
STOPPED: Final = 130
"""Exit code, as of any program that Ctrl-C ends before it is done: what was asked for is not there."""


class Result(msgspec.Struct, kw_only=True):
    """What was exported; also written as `export.json` into the folder.

    Args: rows, files: Parquet, by table; days: hftbacktest; refused: messages that could not be read as any of ours;
        left_out: messages and block trades that are no part of an hftbacktest book; damages: places of the recording.
    """

    format: str
    version: str
    recordings: list[str]
    from_ns: int | None
    to_ns: int | None
    messages: int = 0
    refused: int = 0
    damages: list[str] = []
    rows: dict[str, int] = {}
    files: dict[str, int] = {}
    days: list[DayFile] = []
    left_out: int = 0
    shift_ns: int = 0
    bytes: int = 0


class _Export:
    """One run of the command."""

    def __init__(self, job: Job, args: argparse.Namespace, stop: Event, progress: Progress | None) -> None:
        self.job = job
        self.args = args
        self.stop = stop
        self.progress = progress
        self.result = Result(
            format=args.format,
            version=__version__,
            recordings=[path.name for path in job.recording.files],
            from_ns=job.from_ns,
            to_ns=job.to_ns,
        )

    def run(self, folder: Path) -> Result:
        """Fill a folder. Raises: Abandoned when it is asked to stop."""
        (self._parquet if self.args.format == "parquet" else self._hftbacktest)(folder)
        if self.stop.is_set():
            raise Abandoned
        result = self.result
        result.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
        return result

    def _parquet(self, folder: Path) -> None:
        from orderflow.export.parquet import ParquetWriter
        from orderflow.export.schemas import SCHEMAS
        from orderflow.export.tables import TableReader

        tables = self.args.table or list(SCHEMAS)
        reader = TableReader(
            self.job.recording,
            tables,
            self.job.choice,
            self.job.make_host,
            from_ns=self.job.from_ns,
            to_ns=self.job.to_ns,
            stop=self.stop,
            progress=self.progress,
        )
        with ParquetWriter(folder) as writer:
            for table, batch in reader:
                writer.add(table, batch)
        self.result.rows = {table: writer.rows.get(table, 0) for table in tables}
        self.result.files = {table: writer.files.get(table, 0) for table in tables}
        self._account(reader.walk, reader.damages)

    def _hftbacktest(self, folder: Path) -> None:
        from orderflow.export.events import EventSpooler
        from orderflow.export.npz import write_days

        spooler = EventSpooler(folder, round(self.args.feed_latency * 1e6))
        self._spool(spooler)
        least_ns = spooler.least_ns
        self.result.shift_ns = max(0, 1 - least_ns) if least_ns is not None else 0
        self.result.left_out = spooler.left_out
        for spools in spooler.finish():
            fact = spooler.facts.get(spools[0].instrument)
            tick_size, lot_size = (fact.tick_size, fact.lot_size) if fact is not None else (None, None)
            for day in write_days(spools, folder, self.result.shift_ns):
                self.result.days.append(msgspec.structs.replace(day, tick_size=tick_size, lot_size=lot_size))
                if self.stop.is_set():
                    raise Abandoned

    def _spool(self, spooler: EventSpooler) -> None:
        walk = Walk(spooler, self.job.choice, self.job.from_ns)
        damages: list[Damage] = []
        for item in self.job.recording.items(until_ns=self.job.to_ns):
            if isinstance(item, BlockStart):
                if self.stop.is_set():
                    raise Abandoned
                if self.progress is not None:
                    self.progress.messages = walk.messages
                    self.progress.block(item.done_bytes)
            elif isinstance(item, Damage):
                damages.append(item)
            elif stops_at(item, self.job.to_ns):
                break
            walk.take(item)
        walk.finish()
        self._account(walk, damages)

    def _account(self, walk: Walk, damages: list[Damage]) -> None:
        self.result.messages = walk.messages
        self.result.refused = walk.refused
        self.result.damages = [escape_text(str(damage), 500) for damage in damages]


def export(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    """`orderflow export`. Returns: the exit code. Raises: ConfigError, MisuseError."""
    needs("export", *(("pyarrow", "numpy") if args.format == "parquet" else ("numpy",)))
    _check(args)
    job = Job(args, options)
    with stoppable() as stop:
        progress = show_progress(job.recording)
        try:
            with new_folder(args.out) as folder:
                result = _Export(job, args, stop, progress).run(folder)
        except Abandoned:
            sys.stderr.write("stopped: nothing was written\n")
            return STOPPED
        except OverflowError:
            raise ConfigError("the recording holds a number of more than 64 bits where none can be") from None
        finally:
            if progress is not None:
                sys.stderr.write("\r\x1b[K")
    for damage in result.damages:
        sys.stderr.write(f"Recording: {damage}\n")
    sys.stdout.write(_as_json(result) if args.json else f"{_as_text(result, args.out)}\n")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises: MisuseError for options that do not go together."""
    if args.format != "parquet" and args.table:
        raise MisuseError("--table: chooses among the tables of --format parquet")
    if args.format != "hftbacktest" and args.feed_latency:
        raise MisuseError("--feed-latency: belongs to --format hftbacktest")
    if not 0 <= args.feed_latency < 60_000:
        raise MisuseError(f"--feed-latency: {args.feed_latency}: expected milliseconds from 0 to 60000")


def _as_json(result: Result) -> str:
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n"


def _as_text(result: Result, out: Path) -> str:
    """What a person wants to know."""
    lines = [f"{escape_text(str(out), 300)}: {result.bytes / 1e6:.1f} MB from {result.messages} messages"]
    lines += [f"  {table}: {rows} rows in {result.files[table]} files" for table, rows in result.rows.items()]
    lines += [f"  {day.file}: {day.events} events" for day in result.days]
    for count, what in (
        (result.refused, "messages could not be read"),
        (result.left_out, "messages are no part of a book: duplicates, deltas behind a gap, block trades"),
    ):
        if count:
            lines.append(f"  {count} {what}")
    if result.shift_ns >= 1000:
        lines.append(f"  our clock was behind: {result.shift_ns / 1e6:.3f} ms were added to every receive time")
    return "\n".join(lines)
