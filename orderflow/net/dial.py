"""Getting a byte stream to a host: URL, DNS, TCP, the TLS context; every failure is named (`ConnectFailed.reason`)."""

from __future__ import annotations

import errno
import os
import re
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import certifi
import trio

from orderflow.core.errors import ConfigError, ConnectFailed, MisuseError
from orderflow.core.text import escape_text
from orderflow.net.tcp import TcpStream

if TYPE_CHECKING:
    from socket import gaierror

_LABEL: Final = r"[A-Za-z0-9_\-]"
_HOST: Final = re.compile(
    rf"(?:{_LABEL}{{1,63}}\.)*{_LABEL}{{1,57}}\.?"  # 57: with `:65535` behind it still a label to the idna codec
    r"|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._\-]{1,15})?"
)
_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}


class Endpoint(NamedTuple):
    """A WebSocket URL taken apart. `target` is the request target: path and query."""

    host: str
    port: int
    target: str
    tls: bool

    @property
    def host_header(self) -> str:
        """The `Host:` header; the port is named unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """`wss://host[:port]/path[?query]` -> Endpoint.

    Raises: MisuseError for anything else (settings are checked before they come here).
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MisuseError(f"not a WebSocket URL: {escape_text(url)} ({escape_text(str(error))})") from None
    host = parts.hostname or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host) or not _TARGET.fullmatch(target) or port == 0:
        raise MisuseError(f"not a WebSocket URL: {escape_text(url)}")
    if parts.username is not None or parts.fragment:
        raise MisuseError(f"a WebSocket URL has no user and no fragment: ...@{escape_text(host)}")
    return Endpoint(host, port or _DEFAULT_PORTS[parts.scheme], target, parts.scheme == "wss")


async def dial_tcp(host: str, port: int) -> trio.abc.Stream:
    """Look the name up and connect, all addresses raced (RFC 8305). Trio sets TCP_NODELAY on every socket stream.

    Raises: ConnectFailed: dns, refused, unreachable.
    """
    try:
        return TcpStream(await trio.open_tcp_stream(host, port))
    except trio.socket.gaierror as error:
        raise _name_failed(host, error) from error
    except OSError as error:
        raise _tcp_failed(f"{host} port {port}", error) from error


def make_ssl_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A client context that verifies certificate and host name: the system's authorities and certifi's.

    Args: ca_file: PEM file with further authorities.
    Raises: ConfigError when `ca_file` cannot be used.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # SSLError is one
            raise ConfigError(
                f"ca_file {escape_text(ca_file)}: no usable PEM file ({escape_text(str(error))})"
            ) from error
    return context


def _name_failed(host: str, error: gaierror) -> ConnectFailed:
    return ConnectFailed(f"{host}: {escape_text(error.strerror or str(error))}", reason="dns")


def _tcp_failed(where: str, error: OSError) -> ConnectFailed:
    """Trio reports the failures of all addresses as the cause of one OSError without a number."""
    cause = error.__cause__
    attempts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause or error,)
    numbers = sorted({attempt.errno for attempt in attempts if isinstance(attempt, OSError) and attempt.errno})
    detail = "; ".join(map(os.strerror, numbers)) or escape_text(str(error))
    reason = "refused" if errno.ECONNREFUSED in numbers else "unreachable"
    return ConnectFailed(f"{where}: {detail}", reason=reason)
