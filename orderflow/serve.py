"""The HTTP port of a run: /metrics for Prometheus. Bound before anything is connected, so trouble is told at once."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, NoReturn

from orderflow.core.errors import ConfigError
from orderflow.core.stats import ServerStats
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.config.tree import MetricsHttpSettings
    from orderflow.core.stats import Stats
    from orderflow.net.http import HttpServer

log = logging.getLogger(__name__)


class MetricsPort:
    """The port, listening already; made by `open_metrics`. Connections wait until it is `run`."""

    def __init__(self, make_server: Callable[[Callable[[], Stats]], HttpServer]) -> None:
        self._make_server = make_server
        self._server: HttpServer | None = None

    async def run(self, stats: Callable[[], Stats]) -> NoReturn:
        """Serve `stats` until cancelled."""
        self._server = self._make_server(stats)
        await self._server.run()

    def statistics(self) -> ServerStats:
        if self._server is None:
            return ServerStats(served=0, refused={}, cut=0, failed=0)
        counts = self._server.statistics()
        return ServerStats(served=counts.served, refused=counts.refused, cut=counts.cut, failed=counts.failed)


def open_metrics(settings: MetricsHttpSettings) -> MetricsPort | None:
    """Listen as the settings say; None: they do not ask for it. Raises: ConfigError."""
    if not settings.port:
        return None
    try:
        from orderflow.net.http import LOOPBACK_NAMES, Guard, HttpServer
        from orderflow.ui.prometheus import render
    except ImportError as error:
        raise ConfigError(
            f"metrics_http.port: needs {error.name}: pip install 'bybit-orderflow[metrics]', or leave the port out"
        ) from None
    listener = _listen(settings)
    token = settings.token.reveal() if settings.token else ""
    guard = Guard(names=LOOPBACK_NAMES | {name.lower() for name in settings.allowed_hosts}, token=token)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info("counters for Prometheus: http://%s:%d/metrics", host, settings.port)

    def make_server(stats: Callable[[], Stats]) -> HttpServer:
        return HttpServer(listener, {"/metrics": lambda accept: render(stats(), accept)}, guard, settings)

    return MetricsPort(make_server)


def _listen(settings: MetricsHttpSettings) -> socket.socket:
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, settings.port), family=family, backlog=64)
    except OSError as error:
        where = escape_text(f"{settings.host} port {settings.port}", 100)
        raise ConfigError(f"metrics_http.port: cannot listen on {where}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
