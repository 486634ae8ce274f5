"""Checks over REST: reachable, the clock, the instruments, and what the API key may do."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from orderflow.bybit.rest import CredentialsRefused, RestError, RestPaused, RestRefused
from orderflow.core.clock import OffsetEstimator
from orderflow.core.errors import WireError
from orderflow.doctor.findings import Blame, Check, failed, passed, skipped, warned
from orderflow.net.rest import open_rest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.bybit.rest import ApiKeyInfo
    from orderflow.core.types import ClockOffset
    from orderflow.doctor.network import Network
    from orderflow.net.rest import RestClient

PART_S: Final = 6.0  # for the clock, then for the instruments, then for the account: together within the exam's time
EXPIRES_SOON_DAYS: Final = 14
NOT_FOUND: Final = 404
_WITHDRAW: Final = "Withdraw"

_FIXES: Final = {
    "dns": "check the network and the host in bybit.rest_url",
    "refused": "nobody listens there: check bybit.rest_url and its port",
    "connect": "check the network, a firewall, and bybit.rest_url",
    "tls": "never ignored: set this computer's clock; behind a proxy of your company, set bybit.ca_file",
    "timeout": "a firewall or proxy may swallow the traffic: try another network",
    "status": "if it stays: is bybit.rest_url right, and the exchange in maintenance?",
    "exchange": "the exchange is busy: try again",
}
_OTHER_FIX: Final = "check bybit.rest_url: what answers there does not speak Bybit's V5"
_SIM_FIX: Final = "start the simulated exchange first, in another terminal: orderflow sim --port 9000"
_WORKS: Final = "a run works without, but knows neither clock offset nor tick sizes"
_BLOCKED_FIX: Final = "the sockets may still work: a run then knows neither clock offset nor instruments; rest_url = ''"


async def check_rest(network: Network) -> list[Check]:
    """Everything REST tells. Sets `network.clock_asked`, whatever happens."""
    try:
        return await _check_rest(network)
    finally:
        network.clock_asked.set()


async def _check_rest(network: Network) -> list[Check]:
    bybit = network.settings.bybit
    if not bybit.rest_url:
        return [skipped("rest", "bybit.rest_url is empty: neither clock offset nor instruments are asked for")]
    await trio.to_thread.run_sync(importlib.import_module, "httpx")  # its import must not hold up the other checks
    async with open_rest(
        bybit.rest_url,
        min(bybit.rest_timeout_s, PART_S),
        signer=network.signer,
        window_ms=bybit.recv_window_ms,
        exchange_ms=network.exchange_ms,
        ssl_context=network.context,
    ) as rest:
        checks = await _within(lambda: _check_clock(network, rest), "rest", network)
        network.clock_asked.set()
        if all(check.name != "clock" for check in checks):  # not reachable
            return [*checks, *_not_asked(network)]
        checks += await _within(lambda: _check_instruments(network, rest), "instruments", network)
        if network.signer is not None:
            checks += await _within(lambda: _check_key(rest), "api key", network)
            checks += await _within(lambda: _check_account(rest), "account", network)
    return checks


def _not_asked(network: Network) -> list[Check]:
    names = ["clock", "instruments", *(("api key", "account") if network.signer else ())]
    return [skipped(name, "REST does not answer") for name in names]


async def _within(ask: Callable[[], Awaitable[list[Check]]], name: str, network: Network) -> list[Check]:
    """What `ask` finds, or why it did not, each under its own deadline."""
    began = trio.current_time()
    try:
        with trio.fail_after(PART_S):
            checks = await ask()
    except trio.TooSlowError:
        return [_without(name, f"no answer in {PART_S:g} s", _FIXES["timeout"])]
    except CredentialsRefused as exc:
        fix = "check key, secret and --env: every environment has keys of its own"
        return [failed(name, exc.detail, fix, Blame.CREDENTIALS)]
    except RestPaused as exc:
        return [warned(name, str(exc), _BLOCKED_FIX)]
    except RestError as exc:
        fix = _FIXES.get(exc.reason, _OTHER_FIX)
        return [_without(name, str(exc), _SIM_FIX if network.settings.env == "sim" else fix)]
    except WireError as exc:
        return [_without(name, f"an answer that makes no sense: {exc}", _OTHER_FIX)]
    took_ms = (trio.current_time() - began) * 1000
    return [check if check.took_ms is not None else _timed(check, took_ms) for check in checks]


def _without(name: str, finding: str, fix: str) -> Check:
    """REST that does not answer stops no run: the sockets alone decide whether the exchange can be reached."""
    return warned(name, f"{finding}; {_WORKS}", fix)


def _timed(check: Check, took_ms: float) -> Check:
    return msgspec.structs.replace(check, took_ms=took_ms)


# --- clock --------------------------------------------------------------------------------------------------------


async def _check_clock(network: Network, rest: RestClient) -> list[Check]:
    """Asks for the time as often as a run does at its start; the first answer proves REST."""
    policy = network.settings.clock
    estimator = OffsetEstimator(policy.window_s)
    first = await rest.server_time()
    offset = estimator.add(first)
    for _ in range(min(policy.burst, 5) - 1):
        offset = estimator.add(await rest.server_time())
    round_trip_ms = first.round_trip_ns / 1e6
    reachable = passed("rest", f"{network.settings.bybit.rest_url} answers", round_trip_ms)
    if offset is None:
        return [reachable, warned("clock", "this computer's clock was set meanwhile", "run it again")]
    network.offset_ms = offset.offset_ms
    return [reachable, _judge(offset, policy.warn_offset_ms)]


def _judge(offset: ClockOffset, limit_ms: float) -> Check:
    side = "ahead of" if offset.offset_ms > 0 else "behind"
    text = f"{abs(offset.offset_ms):.1f} ms {side} the exchange's, ± {offset.error_ms:.1f} ms"
    if abs(offset.offset_ms) - offset.error_ms > limit_ms:
        return warned("clock", text, "set this computer's clock: timedatectl set-ntp true")
    return passed("clock", text)


# --- instruments --------------------------------------------------------------------------------------------------


async def _check_instruments(network: Network, rest: RestClient) -> list[Check]:
    found = await rest.instruments(network.settings.instruments)
    if found.missing:
        missing = ", ".join(map(str, found.missing))
        fix = "check spelling and category: BTCUSDT is linear or spot, BTCUSD inverse"
        return [failed("instruments", f"not listed by the exchange: {missing}", fix, Blame.SETTINGS)]
    facts = [f"{item.id} tick {item.tick_size} lot {item.lot_size}" for item in found.found[:3]]
    more = len(found.found) - 3
    return [passed("instruments", "; ".join(facts) + (f" and {more} more" if more > 0 else ""))]


# --- account ------------------------------------------------------------------------------------------------------


async def _check_key(rest: RestClient) -> list[Check]:
    try:
        info = await rest.api_key_info()
    except RestRefused as exc:
        return _no_such_endpoint("api key", exc)
    text = _describe(info)
    if info.days_left is not None and info.days_left <= EXPIRES_SOON_DAYS:
        return [warned("api key", text, "make a new one on the exchange's page soon")]
    if any(permission.endswith(f".{_WITHDRAW}") for permission in info.permissions):
        return [warned("api key", text, "a key that may withdraw is not needed here: take that permission away")]
    return [passed("api key", text)]


def _describe(info: ApiKeyInfo) -> str:
    days = "does not expire" if info.days_left is None else f"{info.days_left} days left"
    rights = "may only read" if info.read_only else "may trade" if info.permissions else "may do nothing"
    bound = "any address" if not info.ips or "*" in info.ips else f"{len(info.ips)} addresses"
    return f"accepted, {days}, {rights} ({', '.join(info.permissions) or 'no permissions'}), from {bound}"


async def _check_account(rest: RestClient) -> list[Check]:
    try:
        accounts = await rest.wallet_balance()
    except RestRefused as exc:
        return _no_such_endpoint("account", exc)
    return [passed("account", f"the wallet can be read ({len(accounts)} account{'s' * (len(accounts) != 1)})")]


def _no_such_endpoint(name: str, error: RestRefused) -> list[Check]:
    """The simulated exchange has no account over REST. Raises: the error, when it is another one."""
    if error.ret_code != NOT_FOUND:
        raise error
    return [skipped(name, "this exchange does not tell over REST (the simulated one does not)")]
