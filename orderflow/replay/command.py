"""`orderflow replay` and `orderflow alerts backtest`: recordings on the command line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from orderflow import bundled, logs
from orderflow.config.load import load
from orderflow.core.errors import ConfigError, MisuseError, RecordingError
from orderflow.core.text import counted, escape_text
from orderflow.hooks.printed import prints_logged
from orderflow.hooks.setup import log_problems, set_up
from orderflow.record.reader import open_recording
from orderflow.record.records import Session
from orderflow.replay.backtest import Backtest, format_reports
from orderflow.replay.engine import Choice
from orderflow.replay.run import Pace, Progress, Window, parse_moment, run_replay
from orderflow.replay.sinks import HumanSink, JsonSink
from orderflow.ui.line import choose_look, format_duration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TextIO

    from orderflow.config.tree import Settings
    from orderflow.hooks.host import PluginHost
    from orderflow.record.reader import Recording
    from orderflow.replay.engine import Sink


class Job:
    """What every command on a recording needs: the recording, the settings in force, and what of it is wanted."""

    def __init__(self, args: argparse.Namespace, options: Mapping[str, object]) -> None:
        try:
            self.recording = open_recording(*args.path)
            self.session = first_session(self.recording)
        except RecordingError as error:
            raise ConfigError(escape_text(str(error), 1000)) from None
        loaded = load(env=args.env or _known_env(self.session.env), options=options, settings_file=args.config)
        self.settings: Settings = loaded.settings
        logs.configure(self.settings.log_level, colour=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
        begin_ns = self.session.started_ns
        self.from_ns = parse_moment(args.from_time, begin_ns) if args.from_time else None
        self.to_ns = parse_moment(args.to_time, begin_ns) if args.to_time else None
        self.choice = Choice(
            symbols=choose_symbols(args.symbol or (), self.session),
            interval_s=self.settings.interval_s if "interval_s" in options else None,
            book=_changed(options, "book", self.settings.book),
            metrics=_changed(options, "metrics", self.settings.metrics),
        )

    def make_host(self) -> PluginHost:
        return make_host(self.settings)

    def window(self, sink: Sink) -> Window:
        """What lies between `--from` and `--to` for `sink`."""
        from_ms = self.from_ns / 1e6 if self.from_ns is not None else float("-inf")
        return Window(sink, from_ms, self.to_ns / 1e6 if self.to_ns is not None else float("inf"))


def make_host(settings: Settings) -> PluginHost:
    """Plugins as the settings have them; no call is too slow, so that every machine comes to the same result."""
    setup = set_up(settings.plugins, bundled.plugins_folder(), clock=lambda: 0.0)
    setup.check_settings()
    log_problems(setup.problems)
    return setup.host


def first_session(recording: Recording) -> Session:
    """Raises: RecordingError when there is none to be read."""
    for item in recording.records():
        if isinstance(item, Session):
            return item
    raise RecordingError(str(recording.files[0]), 0, "empty", "no session in this recording")


def choose_symbols(given: Iterable[str], session: Session) -> frozenset[str]:
    """What `--symbol` named, as `Choice` wants it. Raises: MisuseError for what is not in the recording."""
    chosen = frozenset(symbol.upper() if ":" not in symbol else _upper(symbol) for symbol in given)
    missing = sorted(symbol for symbol in chosen if not _recorded(symbol, session))
    if missing:
        there = ", ".join(map(str, session.instruments))
        raise MisuseError(f"--symbol: {escape_text(', '.join(missing))} is not in the recording, which has {there}")
    return chosen


def _known_env(name: str) -> str | None:
    from orderflow.config.schema import ENVIRONMENTS

    return name if name in ENVIRONMENTS else None


def _changed(options: Mapping[str, object], table: str, policy: msgspec.Struct) -> dict[str, object]:
    """The fields of a policy that were given on the command line; all others are as they were recorded."""
    prefix = f"{table}."
    names = [key.removeprefix(prefix) for key in options if key.startswith(prefix)]
    return {name: getattr(policy, name) for name in names}


def _upper(symbol: str) -> str:
    category, _, name = symbol.partition(":")
    return f"{category.lower()}:{name.upper()}"


def _recorded(symbol: str, session: Session) -> bool:
    return any(symbol in (key.symbol, str(key)) for key in session.instruments)


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second one ends the program at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_progress(recording: Recording) -> Progress | None:
    """On a terminal that shows nothing else."""
    if not sys.stderr.isatty():
        return None

    def say(share: float, rate: float, left_s: float | None) -> None:
        eta = f", {format_duration(left_s)} left" if left_s is not None else ""
        sys.stderr.write(f"\r\x1b[K{share:.0%}, {rate:.0f} messages/s{eta}")
        sys.stderr.flush()

    return Progress(recording.bytes, say)


def _drive(
    job: Job, window: Window, stop: threading.Event, *, speed: float = float("inf"), progress: bool = False
) -> int:
    shown = show_progress(job.recording) if progress else None
    try:
        return run_replay(
            job.recording,
            job.choice,
            job.make_host,
            window,
            stop=stop,
            pace=Pace(speed, stop),
            to_ns=job.to_ns,
            progress=shown,
        )
    finally:
        if shown is not None:
            sys.stderr.write("\r\x1b[K")


# --- the commands -------------------------------------------------------------------------------------------------


def replay(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    """`orderflow replay`. Returns: the exit code. Raises: ConfigError, MisuseError."""
    speed = parse_speed(args.speed)
    job = Job(args, options)
    stdout = sys.stdout
    window = job.window(_sink(job, args, stdout))
    with prints_logged(errors=False), stoppable() as stop:
        quiet = not stdout.isatty()  # lines scroll by there; a line that counts would be in their way
        messages = _drive(job, window, stop, speed=speed, progress=quiet)
    stdout.flush()
    sys.stderr.write(
        f"replayed {counted(messages, 'message')}: {counted(window.ticks, 'tick')}, {counted(window.alerts, 'alert')}, "
        f"sha256 {window.sha256}\n"
    )
    return 0


def backtest(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    """`orderflow alerts backtest`. Returns: the exit code. Raises: ConfigError, MisuseError."""
    job = Job(args, options)
    account = Backtest()
    window = job.window(account)
    with prints_logged(errors=False), stoppable() as stop:
        _drive(job, window, stop, progress=True)
    reports = account.reports()
    if args.json:
        result = {"watched_s": account.watched_s, "rules": reports, "sha256": window.sha256}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
    else:
        sys.stdout.write(format_reports(reports, account.watched_s) + "\n")
    return 0


def parse_speed(text: str) -> float:
    """`max` is infinity. Raises: MisuseError."""
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise MisuseError(f"--speed: {text!a}: expected max, or how many times as fast, such as 1 or 10")
    return speed


def _sink(job: Job, args: argparse.Namespace, stdout: TextIO) -> Sink:
    put: Callable[[str], object] = stdout.write
    if args.json or job.settings.log_format == "json":
        return JsonSink(put)  # type: ignore[arg-type]  # what `write` returns is not looked at
    look = choose_look(
        job.settings.emoji,
        terminal=stdout.isatty(),
        encoding=getattr(stdout, "encoding", None),
        environ=os.environ,
        categories=len({key.category for key in job.session.instruments}) > 1,
    )
    return HumanSink(put, look)  # type: ignore[arg-type]  # as above
