"""The command line. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow import __version__
from orderflow.signals import as_usual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_CODES: Final = """\
exit codes:
  0        done, or stopped by request (Ctrl-C, SIGTERM, --duration, closed pipe)
  1        a bug in orderflow: please report it with the traceback; `verify`: the recording is damaged or differs;
           `gaps --fail-under`: less is covered
  2        usage or settings are wrong; nothing was connected
  3        the exchange refused the credentials for good
  4        the exchange could not be reached for longer than a given limit
  70       the watchdog ended a program that hung
  130/143  a second Ctrl-C or SIGTERM ended the program at once
"""

_RUN_TEXT: Final = """\
Watch Bybit's order books live: one line of metrics per symbol and interval on standard output, alerts from plugins,
logs on standard error. Public data needs no key. `orderflow demo` shows the same without a network.

Settings come from settings.toml, .secrets.toml, ORDERFLOW_* variables and these options; later wins.
"""

_DEMO_TEXT: Final = """\
The whole program without a network: an exchange simulated in this very process, and the monitor that watches it over
real sockets. On a terminal a live screen, otherwise lines. With --faults the exchange fails every few seconds, and says
so: see books leave `live` and come back. Nothing is sent anywhere; no key is needed. Ctrl-C ends it.

Options and settings are those of `orderflow run`; the market is `sim.seed`'s.
"""

_EXAMPLES: Final = """\
examples:
  orderflow demo                                    the whole program, offline, against the embedded exchange
  orderflow demo --faults                           the same, with an exchange that fails every few seconds
  orderflow run --symbol BTCUSDT --symbol spot:BTCUSDT --interval 1
  orderflow run --log-format json | jq 'select(.event == "alert")'
  orderflow doctor                                  what works from here, and how to mend what does not
  orderflow plugins new whale                       write your own alert in five minutes
"""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line.

    Args: command: the one that will run; the options of `sim` and `bench` stand beside their code, which is only
        imported for them. None: all options of all commands (shell completion).
    """
    parser = argparse.ArgumentParser(
        prog="orderflow",
        description="Real-time order flow for Bybit: live books, metrics you can trust, alerts you can write.",
        epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"orderflow {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_run(commands, "run", "watch the exchange", _run)
    _add_run(commands, "demo", "the same against the embedded exchange; needs nothing", _demo)
    _add_run(commands, "record", "record what the exchange sends, to replay it later", _record)
    _add_import(commands)
    _add_replay(commands)
    _add_alerts(commands)
    _add_gaps(commands)
    _add_verify(commands)
    _add_export(commands, options=command in (None, "export"))
    _add_sim(commands, options=command in (None, "sim"))
    _add_plugins(commands)
    _add_config(commands)
    _add_doctor(commands)
    _add_bench(commands, options=command in (None, "bench"))
    _add_soak(commands, options=command in (None, "soak"))
    completion = _command(commands, "completion", "print a completion script for your shell", _completion)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="eval it, or put it where your shell looks")
    return parser


_Commands = argparse._SubParsersAction  # the type has no public name


def _command(
    commands: _Commands[argparse.ArgumentParser],
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], int] | None,
    *,
    description: str = "",
    epilog: str = "",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=description or f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Options of every command that reads settings."""
    parser.add_argument("--env", metavar="NAME", help="mainnet, testnet, demo_trading or sim")
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of ./settings.toml")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="any setting by its dotted key; repeatable"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print data as JSON")


def _add_run(
    commands: _Commands[argparse.ArgumentParser], name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> None:
    parser = _command(
        commands, name, text, run, description=_DEMO_TEXT if name == "demo" else _RUN_TEXT, epilog=EXIT_CODES
    )
    _add_settings(parser)
    parser.add_argument(
        "--symbol",
        metavar="SYMBOL",
        action="append",
        help="BTCUSDT, or spot:BTCUSDT; repeatable, replaces the settings'",
    )
    parser.add_argument(
        "--category", choices=("linear", "inverse", "spot"), type=_category, help="of symbols without one"
    )
    parser.add_argument("--depth", metavar="N", help="levels per side: 1, 50, 200 or 1000")
    parser.add_argument("--interval", metavar="S", help="seconds between two ticks, 0.1 at the least")
    parser.add_argument("--duration", metavar="S", help="stop after so many seconds (0: run until stopped)")
    parser.add_argument(
        "--max-outage", metavar="S", help="end with exit code 4 after so many seconds without the exchange (0: never)"
    )
    parser.add_argument("--log-format", choices=("human", "json"), help="json: every line of stdout is a JSON object")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="of the log on stderr")
    parser.add_argument("--view", choices=("auto", "live", "lines"), default=None, help="a live screen, or plain lines")
    parser.add_argument("--metrics-port", metavar="PORT", help="serve /metrics for Prometheus, to this machine only")
    parser.add_argument(
        "--busy-poll", action="store_true", help="never let the event loop sleep: less latency, one core always busy"
    )
    parser.add_argument(
        "--book-out", metavar="FILE", type=Path, help="write every book as JSON at the end and on SIGUSR1"
    )
    if name == "record":
        parser.add_argument("folder", metavar="DIR", help="where to; it may hold earlier recordings")
        parser.add_argument(
            "--topic",
            metavar="TOPIC",
            action="append",
            help="record that of each symbol too: tickers, orderbook.1, publicTrade, allLiquidation, ...; repeatable",
        )
        parser.add_argument(
            "--rest-books", metavar="S", help="and a book of each symbol over REST this often, for `orderflow verify`"
        )
    else:
        parser.add_argument("--record", metavar="DIR", help="record the run into this folder as well")
    if name == "demo":
        parser.add_argument("--seed", metavar="N", help="of the simulated market: same seed, same day")
        parser.add_argument(
            "--faults",
            metavar="SEED",
            nargs="?",
            type=int,
            const=1,
            help="let the exchange fail every few seconds, and watch the monitor recover",
        )


def _category(text: str) -> str:
    """Raises: argparse.ArgumentTypeError for options, which one may well look for here."""
    if text in ("option", "options"):
        raise argparse.ArgumentTypeError("options are out of scope; use linear, inverse or spot")
    return text


_IMPORT_TEXT: Final = """\
Turn other people's market data into a recording that replay, backtest, export and the simulated exchange can use:
Bybit's order book archives (*_ob200.data.zip, *_ob500.data.zip), its trade files (*.csv.gz), and JSON lines of V5
messages with or without receive times; plain, gzip or zip. Several files become one recording, merged by time: books
from one, trades from another. Nothing is written unless all of them can be read; memory does not grow with the files.
"""

_IMPORT_EXAMPLES: Final = """\
examples:
  orderflow import 2025-08-22_BTCUSDT_ob200.data.zip BTCUSDT2025-08-22.csv.gz --out tape
  orderflow import spot/*_ETHUSDT_ob200.data.zip --category spot --out august
  orderflow import capture.jsonl.gz --instruments instruments-info-linear.json.gz --out tape --json
  orderflow replay tape

exit codes: 0 imported, 2 refused (the reason on stderr), 130 stopped by Ctrl-C or SIGTERM; then nothing is left behind
"""


def _add_import(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "turn archives, trade files and JSON lines into a recording"
    parser = _command(commands, "import", text, _import, description=_IMPORT_TEXT, epilog=_IMPORT_EXAMPLES)
    add = parser.add_argument
    add("source", nargs="+", type=Path, metavar="SRC", help="archives, trade files, JSON lines")
    add("--out", type=Path, required=True, metavar="DIR", help="the recording's folder; it must not be there yet")
    add("--category", choices=("linear", "inverse", "spot"), help="of all messages, whatever files and names say")
    add("--symbol", metavar="SYMBOL", help="of trade files that neither name it in a column nor in their names")
    add("--instruments", metavar="FILE", type=Path, action="append", help="a recorded instruments-info answer")
    add(
        "--clock",
        choices=("receive", "exchange"),
        help="merge by these times (default: receive, if all have them)",
    )
    _add_json(parser)


_TIME_HELP: Final = "2026-11-22T19:00:05, 19:00 (UTC), Unix seconds, or +90: seconds from the beginning"


def _add_replay(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "run a recording through books, metrics, plugins and alerts"
    parser = _command(commands, "replay", text, _replay)
    _add_recording(parser)
    parser.add_argument("--speed", metavar="X", default="max", help="max, or times real time: 1, 10, ... (default max)")
    parser.add_argument("--json", action="store_true", help="the same JSON lines as a live run")


def _add_alerts(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "alerts", "try alert rules on recordings", None)
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    text = "how often each rule would have fired, when, and for how long"
    backtest = _command(actions, "backtest", text, _backtest)
    _add_recording(backtest)
    _add_json(backtest)


_GAPS_TEXT: Final = """\
Say how much of the time each topic's book could be believed, and why not: coverage, gaps by cause, time to recover,
latency and clock offset. The same figures stand in the closing summary of a live run.
"""


def _add_gaps(commands: _Commands[argparse.ArgumentParser]) -> None:
    codes = "exit codes: 0 done, whatever was found; 1 coverage below --fail-under; 2 usage; 130 stopped before the end"
    parser = _command(commands, "gaps", "data quality of a recording", _gaps, description=_GAPS_TEXT, epilog=codes)
    _add_window(parser)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with a timeline per topic as well")
    parser.add_argument(
        "--fail-under", metavar="PCT", help="exit code 1 when the coverage of any topic is below so many percent"
    )
    _add_json(parser)


def _add_verify(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "check that a recording is whole and its books are right"
    parser = _command(commands, "verify", text, _verify, epilog="exit codes: 0 clean, 1 damage or differences, 2 usage")
    parser.add_argument("path", nargs="+", type=Path, metavar="PATH", help="recordings: files or folders")
    parser.add_argument(
        "--allow", metavar="PPM", default="0", help="differences per million that still count as clean (default 0)"
    )
    _add_json(parser)


def _add_export(commands: _Commands[argparse.ArgumentParser], *, options: bool) -> None:
    parser = _command(commands, "export", "turn recordings into Parquet, or data for hftbacktest", _export)
    if options:
        from orderflow.export.options import add_arguments

        _add_recording(parser)
        add_arguments(parser)


def _add_recording(parser: argparse.ArgumentParser) -> None:
    """Options of every command that gives a recording to an engine with the settings in force."""
    _add_window(parser)
    parser.add_argument("--interval", metavar="S", help="seconds between two ticks in place of the recorded ones")
    _add_settings(parser)


def _add_window(parser: argparse.ArgumentParser) -> None:
    """Which recordings, and what of them."""
    parser.add_argument("path", nargs="+", type=Path, metavar="PATH", help="recordings: files or folders")
    parser.add_argument("--from", dest="from_time", metavar="TIME", help=f"show nothing before: {_TIME_HELP}")
    parser.add_argument("--to", dest="to_time", metavar="TIME", help="stop there")
    parser.add_argument("--symbol", metavar="SYMBOL", action="append", help="only this one; repeatable")


def _add_sim(commands: _Commands[argparse.ArgumentParser], *, options: bool) -> None:
    parser = _command(commands, "sim", "serve the simulated exchange to any Bybit client", _sim)
    if options:
        from orderflow.sim.command import add_arguments

        add_arguments(parser)


def _add_plugins(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "plugins", "list, write and check alert plugins", None)
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = _command(actions, "list", "what is found, what is enabled, and how it is set", _plugins_list)
    _add_settings(listing)
    _add_json(listing)
    new = _command(actions, "new", "write a working plugin and its test to start from", _plugins_new)
    new.add_argument("name", help="lower-case letters, digits and underscores")
    new.add_argument("--folder", type=Path, default=Path("plugins"), help="where to (default: plugins)")
    check = _command(actions, "check", "load plugins and run them against sample ticks", _plugins_check)
    check.add_argument("path", nargs="*", type=Path, help="files; none: those the settings enable")
    _add_settings(check)
    _add_json(check)


def _add_config(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "config", "show, check or begin the settings", None)
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    show = _command(actions, "show", "the settings in force, secrets masked", _config_show)
    _add_settings(show)
    show.add_argument("--origin", action="store_true", help="where each value came from")
    _add_json(show)
    check = _command(actions, "check", "read everything and say what is wrong", _config_check)
    _add_settings(check)
    init = _command(actions, "init", "write settings.toml and .secrets.toml to start from", _config_init)
    init.add_argument("--folder", type=Path, default=Path(), help="where to (default: here)")
    init.add_argument("--force", action="store_true", help="replace files that are there")


def _add_doctor(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "doctor", "check everything a run depends on: pass, warn or fail, and the fix", _doctor)
    _add_settings(parser)
    _add_json(parser)


def _add_bench(commands: _Commands[argparse.ArgumentParser], *, options: bool) -> None:
    parser = _command(commands, "bench", "measure the speed of this program on this machine", _bench)
    if options:
        from orderflow.bench.options import add_arguments

        add_arguments(parser)


def _add_soak(commands: _Commands[argparse.ArgumentParser], *, options: bool) -> None:
    parser = _command(commands, "soak", "play random faults against the monitor and prove what it promises", _soak)
    if options:
        from orderflow.soak.options import add_arguments

        add_arguments(parser)


# --- commands -----------------------------------------------------------------------------------------------------


def settings_options(args: argparse.Namespace) -> dict[str, object]:
    """Command line -> dotted settings keys. Raises: ConfigError for a `--set` without `=`."""
    from orderflow.core.errors import ConfigError
    from orderflow.core.text import escape_text

    options: dict[str, object] = {
        "symbols": None if hasattr(args, "path") else getattr(args, "symbol", None),  # there it picks recorded ones
        "record.folder": getattr(args, "record", None),
        "record.topics": getattr(args, "topic", None),
        "record.rest_books_s": getattr(args, "rest_books", None),
        "category": getattr(args, "category", None),
        "depth": getattr(args, "depth", None),
        "interval_s": getattr(args, "interval", None),
        "duration_s": getattr(args, "duration", None),
        "max_outage_s": getattr(args, "max_outage", None),
        "busy_poll": getattr(args, "busy_poll", None) or None,
        "metrics_http.port": getattr(args, "metrics_port", None),
        "log_format": getattr(args, "log_format", None),
        "log_level": getattr(args, "log_level", None),
        "sim.seed": getattr(args, "seed", None),
    }
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"option --set: {escape_text(text, 60)}: expected KEY=VALUE")
        options[key.strip()] = value
    return {key: value for key, value in options.items() if value is not None}


def _run(args: argparse.Namespace) -> int:
    from orderflow.commands import run

    return run(args, settings_options(args), demo=False)


def _record(args: argparse.Namespace) -> int:
    from orderflow.commands import run

    args.view = "lines"
    quiet = {"record.folder": args.folder, "plugins.enabled": []}  # plugins come into play when it is replayed
    return run(args, {**settings_options(args), **quiet}, demo=False)


def _import(args: argparse.Namespace) -> int:
    from orderflow.importing import main

    return main(args)


def _replay(args: argparse.Namespace) -> int:
    from orderflow.replay.command import replay

    return replay(args, settings_options(args))


def _backtest(args: argparse.Namespace) -> int:
    from orderflow.replay.command import backtest

    return backtest(args, settings_options(args))


def _gaps(args: argparse.Namespace) -> int:
    from orderflow.replay.gaps_command import main

    return main(args)


def _verify(args: argparse.Namespace) -> int:
    from orderflow.verify.command import main

    return main(args)


def _export(args: argparse.Namespace) -> int:
    from orderflow.export.command import export

    return export(args, settings_options(args))


def _demo(args: argparse.Namespace) -> int:
    from orderflow.commands import run

    args.env = args.env or "sim"
    return run(args, settings_options(args), demo=True)


def _sim(args: argparse.Namespace) -> int:
    from orderflow.sim.command import main

    return main(args)


def _plugins_list(args: argparse.Namespace) -> int:
    from orderflow.commands import plugins_list

    return plugins_list(args, settings_options(args))


def _plugins_new(args: argparse.Namespace) -> int:
    from orderflow.commands import plugins_new

    return plugins_new(args)


def _plugins_check(args: argparse.Namespace) -> int:
    from orderflow.commands import plugins_check

    return plugins_check(args, settings_options(args))


def _config_show(args: argparse.Namespace) -> int:
    from orderflow.commands import config_show

    return config_show(args, settings_options(args))


def _config_check(args: argparse.Namespace) -> int:
    from orderflow.commands import config_check

    return config_check(args, settings_options(args))


def _config_init(args: argparse.Namespace) -> int:
    from orderflow.commands import config_init

    return config_init(args)


def _doctor(args: argparse.Namespace) -> int:
    from orderflow.doctor import main

    return main(args, settings_options(args))


def _bench(args: argparse.Namespace) -> int:
    from orderflow.bench.command import main

    return main(args)


def _soak(args: argparse.Namespace) -> int:
    from orderflow.soak.command import main

    return main(args)


def _completion(args: argparse.Namespace) -> int:
    import shtab

    sys.stdout.write(shtab.complete(build_parser(), shell=args.shell) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns: the exit code."""
    from orderflow.core.errors import ConfigError, MisuseError, PluginError

    words = sys.argv[1:] if argv is None else argv
    args = build_parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    if args.command not in ("run", "demo", "record"):
        as_usual()
    try:
        code: int = args.run(args)
    except ConfigError as exc:
        sys.stderr.write("".join(f"orderflow: {problem}\n" for problem in exc.problems))
        return 2
    except (MisuseError, PluginError) as exc:
        from orderflow.core.text import escape_text

        sys.stderr.write(f"orderflow: {escape_text(str(exc), 1000)}\n")
        return 2
    except KeyboardInterrupt:  # before there was anything to stop
        return 0
    except BrokenPipeError:  # the reader of our output went away
        return 0
    return code
