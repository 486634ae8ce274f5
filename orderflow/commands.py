"""What the commands of the command line do. Imported once a command is known; the monitor only where it runs."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from orderflow import bundled, logs
from orderflow.config.load import Loaded, load, read
from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text
from orderflow.hooks.printed import prints_logged
from orderflow.hooks.problems import ProblemKind
from orderflow.hooks.setup import Setup, log_problems, set_up

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from orderflow.app import Show
    from orderflow.config.tree import Settings
    from orderflow.record.recorder import Recorder
    from orderflow.serve import MetricsPort
    from orderflow.signals import StopSignals
    from orderflow.sim.server import SimServer
    from orderflow.ui.report import Reporter
    from orderflow.ui.sink import Output
    from orderflow.watchdog import Watchdog

log = logging.getLogger(__name__)

DEMO_FAULTS_PER_S: Final = 1 / 6


def load_settings(args: argparse.Namespace, options: Mapping[str, object]) -> Loaded:
    """Read the settings this command line asks for and make logging ready. Raises: ConfigError."""
    loaded = read_settings(args, options)
    if loaded.problems:
        raise ConfigError(*loaded.problems)
    return loaded


def check_all(loaded: Loaded, setup: Setup) -> None:
    """Raises: ConfigError with everything that is wrong, in the settings and in the plugins' own tables."""
    own = [
        f"{where}: {problem}" if (where := loaded.where(problem.key)) else str(problem)
        for problem in setup.problems
        if problem.kind is ProblemKind.SETTINGS
    ]
    if loaded.problems or own:
        raise ConfigError(*loaded.problems, *own)


def read_settings(args: argparse.Namespace, options: Mapping[str, object]) -> Loaded:
    """`load_settings` without a verdict: what is wrong stands in `problems`."""
    loaded = read(env=args.env, options=options, settings_file=args.config)
    settings = loaded.settings
    logs.register_secret(settings.bybit.api_key)
    logs.register_secret(settings.bybit.api_secret)
    logs.register_secret(settings.metrics_http.token)
    logs.configure(settings.log_level, colour=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    return loaded


# --- run and demo -------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace, options: Mapping[str, object], *, demo: bool) -> int:
    """`orderflow run` and `orderflow demo`."""
    from orderflow.watchdog import Watchdog

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is a book to write
    loaded = read_settings(args, options)
    watchdog = Watchdog(loaded.settings.watch)
    watchdog.start()
    setup = set_up(
        loaded.settings.plugins,
        bundled.plugins_folder(),
        watch=lambda host: setattr(watchdog, "call", lambda: host.current_call),
    )
    with closing(setup.host):  # processes of isolated plugins
        return _run(args, loaded, setup, watchdog, demo=demo)


def _run(args: argparse.Namespace, loaded: Loaded, setup: Setup, watchdog: Watchdog, *, demo: bool) -> int:
    import trio

    from orderflow.serve import open_metrics
    from orderflow.signals import StopSignals

    check_all(loaded, setup)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    log_problems(setup.problems)
    _check_book_out(args.book_out)
    recorder = _recorder(loaded.settings)
    serve = open_metrics(loaded.settings.metrics_http)
    live = _wants_view(args.view, loaded.settings)
    prepared = Prepared(loaded.settings, setup, args, StopSignals(keep=True), watchdog, live, recorder, serve)
    try:
        with prints_logged():
            return trio.run(_demo if demo else _monitor, prepared)
    except BaseExceptionGroup as group:
        wrong, rest = group.split(ConfigError)
        if wrong is None or rest is not None:
            raise
        raise _first(wrong) from None
    finally:
        watchdog.stopping()  # what still runs at the exit of the interpreter may hang as well
        logs.flush()


class Prepared(NamedTuple):
    """Everything a run is made of before there is an event loop."""

    settings: Settings
    setup: Setup
    args: argparse.Namespace
    signals: StopSignals
    watchdog: Watchdog
    live: bool
    recorder: Recorder | None = None
    serve: MetricsPort | None = None


def _recorder(settings: Settings) -> Recorder | None:
    """Raises: ConfigError when it cannot record where it is asked to."""
    if not settings.record.folder:
        return None
    from orderflow.record.recorder import Recorder

    return Recorder(Path(settings.record.folder), settings.record)


def _first(group: BaseExceptionGroup[ConfigError]) -> ConfigError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConfigError)
    return error


def _check_book_out(path: Path | None) -> None:
    """Find out now, not at the end of the run, that the books cannot be written. Raises: ConfigError."""
    if path is None:
        return
    shown = escape_text(str(path), 300)
    if path.is_dir() or not path.name:
        raise ConfigError(f"option --book-out: {shown}: is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise ConfigError(f"option --book-out: {shown}: no such folder; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"option --book-out: {shown}: the folder is not writable")


async def _monitor(prepared: Prepared) -> int:
    from orderflow.app import Monitor
    from orderflow.ui.sink import Output

    settings, setup, args, signals, watchdog, live, recorder, serve = prepared
    show: Show | None = None
    if live:
        from orderflow.ui.terminal import restore_terminal, run_terminal

        signals.restore = watchdog.restore = restore_terminal
        show = partial(run_terminal, keys_fd=0 if sys.stdin and sys.stdin.isatty() else None)
    output = Output(confess=_confession(settings))
    monitor = Monitor(
        settings,
        setup.host,
        _reporter(settings, output, live=show is not None, recorder=recorder if args.command == "record" else None),
        output,
        show=show,
        signals=signals,
        watchdog=watchdog,
        book_out=args.book_out,
        recorder=recorder,
        serve=serve,
    )
    return await monitor.run()


async def _demo(prepared: Prepared) -> int:
    """The monitor and the embedded exchange in one nursery; the exchange outlives the monitor."""
    import msgspec
    import trio

    from orderflow.sim.catalogue import catalogue_by_id
    from orderflow.sim.server import ServerPolicy, SimConfig, serve

    settings = prepared.settings
    known = catalogue_by_id()
    listed = tuple(known[key] for key in settings.instruments if key in known)
    config = SimConfig(
        instruments=listed,
        seed=settings.sim.seed,
        server=ServerPolicy(host=settings.sim.host, port=settings.sim.port),
    )
    async with trio.open_nursery() as nursery:
        try:
            server: SimServer = await nursery.start(lambda task_status: serve(config, task_status=task_status))
        except OSError as exc:
            where = f"{settings.sim.host} port {settings.sim.port}"
            raise ConfigError(f"sim.host, sim.port: cannot listen on {where}: {exc.strerror or exc}") from None
        addresses = msgspec.structs.replace(
            settings.bybit,
            public_ws_url=server.public_url,
            private_ws_url=server.private_url,
            rest_url=server.rest_url,
        )
        if prepared.args.faults is not None:
            nursery.start_soon(_misbehave, server, settings, prepared.args.faults)
        code = await _monitor(prepared._replace(settings=msgspec.structs.replace(settings, bybit=addresses)))
        nursery.cancel_scope.cancel(reason="the monitor stopped")
    return code


async def _misbehave(server: SimServer, settings: Settings, seed: int) -> None:
    """`demo --faults`: something goes wrong every few seconds, and is announced."""
    from orderflow.sim.chaos import Chaos, Chosen, watchable

    def tell(chosen: Chosen) -> None:
        log.warning("fault, on purpose: %s", chosen.story)

    topics = [(key.category.value, f"orderbook.{settings.depth}.{key.symbol}") for key in settings.instruments]
    await Chaos(seed, DEMO_FAULTS_PER_S, topics, watchable()).run(server.plan, tell)


def _wants_view(choice: str | None, settings: Settings) -> bool:
    """A live screen on a terminal that can show one, unless lines were asked for. Raises: ConfigError."""
    from orderflow.ui.ability import can_show

    if choice == "lines" or settings.log_format == "json":
        return False
    able = can_show(1, _encoding(), os.environ)
    if choice == "live" and not able:
        raise ConfigError("option --view: live: needs a UTF-8 terminal of 60x16 or more; use --view lines")
    return able


def _encoding() -> str | None:
    """Of the real standard output, which is redirected while the monitor runs."""
    return getattr(sys.__stdout__, "encoding", None)


def _reporter(settings: Settings, output: Output, *, live: bool, recorder: Recorder | None = None) -> Reporter:
    """Args: recorder: of `orderflow record`, which tells of that and of no ticks."""
    from orderflow.ui.line import choose_look
    from orderflow.ui.report import HumanReporter, JsonReporter, SummaryReporter

    def masked(text: str) -> None:
        """An exchange may send back what it was sent, and a plugin may say anything."""
        output.put(logs.mask_secrets(text))

    put = masked if logs.knows_secrets() else output.put
    if settings.log_format == "json":
        return JsonReporter(put)
    look = choose_look(
        settings.emoji,
        terminal=os.isatty(1),
        encoding=_encoding(),
        environ=os.environ,
        categories=len({key.category for key in settings.instruments}) > 1,
    )
    if recorder is not None:
        from orderflow.record.news import progress_line
        from orderflow.ui.recording import RecordReporter

        return RecordReporter(put, look, lambda: progress_line(recorder.statistics()))
    return SummaryReporter(put, look) if live else HumanReporter(put, look)


def _confession(settings: Settings) -> Callable[[int], str]:
    """The line that stands where a slow reader of our output missed some."""
    import time

    from orderflow.ui import jsonlines

    if settings.log_format == "json":
        return lambda lines: jsonlines.encode_dropped(lines, ts=time.time_ns() // 1_000_000) + "\n"
    return lambda lines: f"... {lines} lines dropped here: the reader of this output was too slow\n"


# --- plugins ------------------------------------------------------------------------------------------------------


def plugins_list(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    from orderflow.hooks import commands

    listing = commands.list_plugins(load_settings(args, options).settings.plugins, bundled.plugins_folder())
    _print(_json(listing) if args.json else commands.format_list(listing))
    return 0


def plugins_new(args: argparse.Namespace) -> int:
    from orderflow.hooks import commands
    from orderflow.hooks.discovery import discover

    enabled = load().settings.plugins.enabled
    taken = discover(bundled.plugins_folder(), (), entry_points=True).names
    new = commands.new_plugin(args.name, args.folder, taken)
    _print(commands.format_new(new, enabled))
    return 0


def plugins_check(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    from orderflow.hooks import commands

    settings = load_settings(args, options).settings
    report = commands.check_plugins(settings.plugins, bundled.plugins_folder(), args.path)
    _print(_json(report) if args.json else commands.format_check(report))
    return 0 if report.ok else 2


# --- config -------------------------------------------------------------------------------------------------------


def config_show(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    from orderflow.config.show import render

    _print(render(load_settings(args, options), origin=args.origin, as_json=args.json))
    return 0


def config_check(args: argparse.Namespace, options: Mapping[str, object]) -> int:
    """Settings and the plugins' own tables: everything that would stop a run."""
    from orderflow.config.show import render_check

    loaded = read_settings(args, options)
    setup = set_up(loaded.settings.plugins, bundled.plugins_folder())
    setup.host.close()
    check_all(loaded, setup)
    _print(render_check(loaded))
    return 0


def config_init(args: argparse.Namespace) -> int:
    from orderflow.config.init import init

    for path in init(args.folder, force=args.force):
        _print(f"wrote {escape_text(str(path), 1000)}")
    return 0


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _print(text: str) -> None:
    """Raises: ConfigError when standard output takes nothing (a full disk); a reader that went away is no error."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more at its end
        if not isinstance(exc, BrokenPipeError):
            raise ConfigError(f"standard output: {exc.strerror}") from None
