"""`orderflow sim`: serve the simulated exchange to any client until stopped."""

from __future__ import annotations

import argparse
import json
import random
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
import trio

from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import CATALOGUE, catalogue_by_id, make_instruments
from orderflow.sim.chaos import Chaos, Chosen
from orderflow.sim.faultlist import Stage, kinds_table, parse_fault
from orderflow.sim.faultplan import FaultPlan
from orderflow.sim.server import ServerPolicy, SimConfig, serve, serve_backend
from orderflow.sim.tls import OwnTls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orderflow.sim.backend import Backend
    from orderflow.sim.instruments import SimInstrument
    from orderflow.sim.server import SimServer

USAGE_ERROR: Final = 2
CANNOT_LISTEN: Final = 1
DEFAULT_PORT: Final = 9000
_NOT_SHIFTED: Final = (
    "orderflow sim: timestamps are the recorded ones: latencies against the clock of today mean nothing"
    " (--shift-time, at speed 1, moves them to now)"
)
BOOK_DEPTHS: Final = (1, 50, 200, 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `orderflow sim`."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=DEFAULT_PORT, help="port, 0 for any free one (default: %(default)s)")
    add("--symbols", metavar="LIST", help="list only these, e.g. BTCUSDT,spot:BTCUSDT,inverse:BTCUSD (default: all)")
    add("--count", type=int, default=0, metavar="N", help="list N synthetic linear symbols as well")
    add("--seed", type=int, default=7, help="same seed, same day (default: %(default)s)")
    add("--play", "--from", type=Path, nargs="+", metavar="PATH", help="serve recordings, not a simulated market")
    add("--instruments", type=Path, metavar="FILE", help="with --play: a recorded instruments-info answer")
    add("--speed", default="1", metavar="X", help="with --play: 1, 10, ... or max (default: %(default)s)")
    add("--shift-time", action="store_true", help="with --play: move the recorded timestamps to now")
    add("--flood", action="store_true", help="push ready-made book deltas as fast as clients take them")
    add("--rate", type=float, metavar="N", help="push ready-made book deltas at N messages a second")
    add("--depth", type=int, default=50, choices=BOOK_DEPTHS, help="with --flood and --rate (default: %(default)s)")
    add("--calibrate", type=Path, metavar="DIR", help="print sim against the recordings in DIR, then exit")
    add("--tls", type=Path, metavar="FILE", help="serve wss and https; FILE gets the authority clients must trust")
    add("--tls-cert", type=Path, metavar="FILE", help="the same with a PEM certificate of yours")
    add("--tls-key", type=Path, metavar="FILE", help="PEM key, when it is not in the certificate's file")
    add("--client-log", type=Path, metavar="FILE", help="append what clients send as JSON lines")
    add("--fault", metavar="SPEC", action="append", default=[], help="play a fault, e.g. drop:p=0.01; repeatable")
    add("--faults", choices=("random", "list"), help="random: draw faults for ever; list: show what there is, and exit")
    add("--fault-seed", type=int, default=1, metavar="N", help="of --faults random (default: %(default)s)")
    add("--fault-rate", type=float, default=0.2, metavar="R", help="faults a second (default: %(default)s)")
    add("--json", action="store_true", help="print the endpoints as one JSON object")


def main(args: argparse.Namespace) -> int:
    """Run `orderflow sim`. Returns: the exit code (0 stopped by a signal, 1 cannot listen, 2 usage)."""
    try:
        if args.calibrate is not None:
            return _calibrate(args)
        if args.faults == "list":
            return _list_faults(args)
        return _serve_until_stopped(args)
    except ConfigError as error:
        for problem in error.problems:
            print(f"orderflow sim: {problem}", file=sys.stderr)  # noqa: T201 - a command's own output
        return USAGE_ERROR


def _serve_until_stopped(args: argparse.Namespace) -> int:
    code = 0
    try:
        trio.run(run_sim, args)
    except* OSError as group:
        print(f"orderflow sim: {group.exceptions[0]}", file=sys.stderr)  # noqa: T201 - the command's output
        code = CANNOT_LISTEN
    return code


async def run_sim(args: argparse.Namespace) -> None:
    """Serve as the options say until SIGINT or SIGTERM. Raises: ConfigError; OSError when it cannot listen."""
    start = _starter(args)
    chaos = _chaos(args) if args.faults == "random" else None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            server: SimServer = await nursery.start(start)
            announce(server, as_json=args.json, authority=args.tls)
            if chaos is not None:
                nursery.start_soon(chaos.run, server.plan, _tell)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
    statistics = server.statistics()
    print(  # noqa: T201 - the command's output
        f"served {statistics.opened} connections, {statistics.messages} messages, {statistics.requests} requests",
        file=sys.stderr,
    )


def announce(server: SimServer, *, as_json: bool, authority: Path | None = None) -> None:
    """Print where the exchange is and how to point clients at it. `authority`: the file they must trust."""
    environment = server.environment()
    if authority is not None:
        environment["ORDERFLOW_BYBIT__CA_FILE"] = str(authority.absolute())
    shown = json.dumps(endpoints(server, environment)) if as_json else _human(server, environment)
    print(shown, flush=True)  # noqa: T201 - the command's output


def endpoints(server: SimServer, environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        "event": "sim",
        "host": server.host,
        "port": server.port,
        "rest": server.rest_url,
        "public": {category.value: server.ws_url(category) for category in Category},
        "private": server.private_url,
        "environment": environment,
    }


def _human(server: SimServer, environment: Mapping[str, str]) -> str:
    rest, public = server.rest_url, server.ws_url("linear")
    exports = "\n".join(f"  export {name}='{value}'" for name, value in environment.items())
    return (
        f"simulated Bybit V5 on {server.host}:{server.port}\n"
        f"  public   {server.public_url}\n  private  {server.private_url}\n  REST     {rest}\n"
        f"orderflow (then: orderflow run):\n{exports}\n"
        f"pybit (before the first WebSocket; REST: HTTP().endpoint):\n"
        f"  pybit.unified_trading.PUBLIC_WSS = '{server.ws_url('{CHANNEL_TYPE}')}'\n"
        f"ccxt (each category alike; REST: urls['api']['public'] = '{rest}'):\n"
        f"  exchange.urls['api']['ws']['public']['linear'] = '{public}'\n"
        f"Ctrl-C stops it."
    )


# --- from options to a running server -------------------------------------------------------------------------------


def _starter(args: argparse.Namespace) -> Callable[..., Awaitable[NoReturn]]:
    """The server task the options ask for, ready for `nursery.start()`."""
    policy = ServerPolicy(host=args.host, port=args.port, client_log=args.client_log, seed=args.seed)
    tls = _own_tls(args) or tls_context(args.tls_cert, args.tls_key)
    first = [parse_fault(spec) for spec in args.fault]
    if args.tls is None and any(fault.kind.stage is Stage.TLS for fault in first):
        raise ConfigError("--fault certificate: needs --tls FILE")
    faults = FaultPlan(first, random.Random(args.fault_seed))
    backend = _other_backend(args)
    if backend is not None:

        async def start_backend(*, task_status: trio.TaskStatus[SimServer]) -> NoReturn:
            await serve_backend(backend, policy, faults=faults, tls=tls, task_status=task_status)

        return start_backend
    config = SimConfig(
        instruments=choose(args.symbols, args.count), seed=args.seed, server=policy, faults=faults, tls=tls
    )

    async def start(*, task_status: trio.TaskStatus[SimServer]) -> NoReturn:
        await serve(config, task_status=task_status)

    return start


def _other_backend(args: argparse.Namespace) -> Backend | None:
    """A recording or a flood, when asked for."""
    if args.play:
        from orderflow.sim.play import PlayBackend, parse_speed

        backend = PlayBackend.open(args.play, parse_speed(args.speed), args.instruments, shift_time=args.shift_time)
        if not args.shift_time:
            print(_NOT_SHIFTED, file=sys.stderr)  # noqa: T201 - the command's output
        return backend
    if args.flood or args.rate is not None:
        from orderflow.sim.flood import FloodBackend

        items = choose(args.symbols or "BTCUSDT", args.count)
        return FloodBackend.prepare(items, args.depth, args.rate, args.seed)
    return None


def choose(symbols: str | None, count: int) -> tuple[SimInstrument, ...]:
    """The instruments of `--symbols` and `--count`. Raises: ConfigError for a name that is not in the catalogue."""
    synthetic = make_instruments(count) if count > 0 else ()
    if symbols is None:
        return (*CATALOGUE, *synthetic)
    known = catalogue_by_id()
    chosen: dict[InstrumentId, SimInstrument] = {}
    problems: list[str] = []
    for name in symbols.split(","):
        category, _, symbol = name.strip().rpartition(":")
        wanted = InstrumentId(Category(category), symbol) if category in tuple(Category) else None
        if not category:
            wanted = next((item for item in known if item.symbol == symbol), None)
        if wanted is None or wanted not in known:
            names = ", ".join(str(item) for item in known)
            problems.append(f"--symbols: {name!a} is not listed here; there are {names}")
        else:
            chosen[wanted] = known[wanted]
    if problems:
        raise ConfigError(*problems)
    return (*chosen.values(), *synthetic)


def _own_tls(args: argparse.Namespace) -> OwnTls | None:
    """Raises: ConfigError when its authority cannot be written."""
    if args.tls is None:
        return None
    if args.tls_cert is not None:
        raise ConfigError("--tls, --tls-cert: one of them; --tls makes its own certificate")
    tls = OwnTls(args.host)
    try:
        args.tls.write_bytes(tls.authority_pem)
    except OSError as error:
        raise ConfigError(f"--tls: {escape_text(str(args.tls), 200)}: {error.strerror}") from error
    return tls


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """A server context, or None without a certificate. Raises: ConfigError when the files do not serve."""
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-cert: {error}") from error
    return context


def _chaos(args: argparse.Namespace) -> Chaos:
    """Random faults on the books of everything that is listed. Raises: ConfigError."""
    if not 0 < args.fault_rate <= 1000:
        raise ConfigError("--fault-rate: expected faults a second, above 0")
    listed = [(item.id.category.value, f"orderbook.*.{item.id.symbol}") for item in choose(args.symbols, args.count)]
    return Chaos(args.fault_seed, args.fault_rate, listed)


def _tell(chosen: Chosen) -> None:
    print(f"fault: {chosen.story} ({chosen.fault})", file=sys.stderr, flush=True)  # noqa: T201 - the command's output


def _list_faults(args: argparse.Namespace) -> int:
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(kinds_table()), indent=1).decode())  # noqa: T201 - the command's output
        return 0
    for name, kind in kinds_table().items():
        given = ", ".join(f"{key}={value}" for key, value in kind["parameters"].items())
        print(f"{name:15} {kind['text']}{f' ({given})' if given else ''}")  # noqa: T201 - the command's output
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    from orderflow.sim.calibrate import calibration_table, format_table

    if not args.calibrate.is_dir():
        raise ConfigError(f"--calibrate: {args.calibrate.name}: no such folder")
    try:
        rows = calibration_table(args.calibrate, args.seed)
    except ConfigError as error:
        raise ConfigError(f"--calibrate: {error}") from None
    text = msgspec.json.encode(rows).decode() if args.json else format_table(rows)
    print(text)  # noqa: T201 - a command's own output
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="orderflow sim", description=__doc__)
    add_arguments(_parser)
    sys.exit(main(_parser.parse_args()))
