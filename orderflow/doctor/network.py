"""What the network examinations share, and the list of them."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from orderflow.bybit.protocol import plan_links
from orderflow.bybit.signing import Signer
from orderflow.core.errors import ConfigError
from orderflow.doctor import links, rest
from orderflow.doctor.exam import Exam
from orderflow.doctor.findings import Blame, Check, Status, failed, passed, skipped, warned
from orderflow.doctor.names import check_name
from orderflow.net.dial import make_ssl_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from orderflow.config.tree import Settings

DEFAULT_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}


class Network:
    """Settings, the TLS context, the credentials, and the exchange's clock as soon as it is known."""

    def __init__(self, settings: Settings, context: ssl.SSLContext, signer: Signer | None) -> None:
        self.settings = settings
        self.context = context
        self.signer = signer
        self.offset_ms = 0.0  # ours minus theirs
        self.clock_asked = trio.Event()  # the offset is known, or will not be

    def exchange_ms(self) -> int:
        return time.time_ns() // 1_000_000 - round(self.offset_ms)


def network_exams(settings: Settings) -> list[Exam]:
    """Every examination that needs the network, or one that says why there is none."""
    bybit = settings.bybit
    try:
        context = make_ssl_context(bybit.ca_file or None)
    except ConfigError as exc:
        return [_told("tls", failed("tls", str(exc), "give bybit.ca_file a PEM file", Blame.SETTINGS))]
    credentials, signer = _credentials(settings)
    network = Network(settings, context, signer)
    exams = [_told("credentials", credentials)]
    exams += [Exam(f"dns {host}", partial(_check_name, network, host, port)) for host, port in _hosts(network)]
    exams.append(Exam("rest", lambda: rest.check_rest(network)))
    counts: dict[str, int] = {}
    for books in plan_links(((key, settings.depth) for key in settings.instruments), settings.feed):
        category = books[0][0].category
        counts[category] = counts.get(category, 0) + 1
        name = category if counts[category] == 1 else f"{category}#{counts[category]}"
        exams.append(links.public_exam(network, name, books))
    exams.append(Exam("private", lambda: links.check_private(network)))
    return exams


def _told(name: str, check: Check) -> Exam:
    async def run() -> Sequence[Check]:
        return (check,)

    return Exam(name, run)


def _credentials(settings: Settings) -> tuple[Check, Signer | None]:
    """Whether key and secret could sign; whether they are accepted, only the exchange knows."""
    bybit = settings.bybit
    fix = "write both into .secrets.toml, or set ORDERFLOW_BYBIT__API_KEY and ORDERFLOW_BYBIT__API_SECRET"
    if not bybit.api_key and not bybit.api_secret:
        return skipped("credentials", "no API key set: public data needs none"), None
    if not bybit.api_key or not bybit.api_secret:
        missing = "bybit.api_secret" if bybit.api_key else "bybit.api_key"
        return failed("credentials", f"{missing} is missing", fix, Blame.SETTINGS), None
    try:
        signer = Signer(bybit.api_key, bybit.api_secret)
    except ConfigError as exc:
        return failed("credentials", str(exc), fix, Blame.SETTINGS), None
    return passed("credentials", f"a key and a secret of the kind {signer.kind}"), signer


async def _check_name(network: Network, host: str, port: int) -> list[Check]:
    """A host that is asked for REST alone stops no run."""
    needed = any(urlsplit(url).hostname == host for url in _sockets(network))
    return [
        warned(check.name, check.finding, check.fix) if check.status is Status.FAIL and not needed else check
        for check in await check_name(host, port)
    ]


def _sockets(network: Network) -> list[str]:
    bybit = network.settings.bybit
    return [bybit.public_ws_url, *([bybit.private_ws_url] if network.signer and bybit.private_ws_url else [])]


def _hosts(network: Network) -> list[tuple[str, int]]:
    """Every host a run would connect to, once."""
    hosts: dict[str, int] = {}
    for url in filter(None, (*_sockets(network), network.settings.bybit.rest_url)):
        parts = urlsplit(url)
        hosts.setdefault(parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
    return list(hosts.items())
