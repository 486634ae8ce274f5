"""Failures of the way to a peer have the name of what failed. The dialling that works is tested in test_ws.py."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from orderflow.core.errors import ConfigError, ConnectFailed, MisuseError
from orderflow.net.dial import Endpoint, dial_tcp, make_ssl_context, parse_endpoint

if TYPE_CHECKING:
    from pathlib import Path

# --- URLs

_LABEL = "a" * 63
URLS = {
    "ws://h": Endpoint("h", 80, "/", False),
    "WSS://H.Example": Endpoint("h.example", 443, "/", True),
    "wss://h.example./": Endpoint("h.example.", 443, "/", True),
    "ws://h:1/": Endpoint("h", 1, "/", False),
    "ws://h:65535/?": Endpoint("h", 65535, "/", False),
    "ws://h?a=b": Endpoint("h", 80, "/?a=b", False),
    "wss://h/v5/public/linear?a=b&c=%20": Endpoint("h", 443, "/v5/public/linear?a=b&c=%20", True),
    "ws://h/~!": Endpoint("h", 80, "/~!", False),
    "ws://under_score.a-b.0/": Endpoint("under_score.a-b.0", 80, "/", False),
    f"ws://{_LABEL}.{_LABEL}.{'b' * 57}/": Endpoint(f"{_LABEL}.{_LABEL}.{'b' * 57}", 80, "/", False),
    "ws://[::1]": Endpoint("::1", 80, "/", False),
    "ws://[fe80::1%eth0]:81/": Endpoint("fe80::1%eth0", 81, "/", False),
    f"ws://[fe80::1%{'x' * 15}]/": Endpoint(f"fe80::1%{'x' * 15}", 80, "/", False),
    "ws://[::ffff:192.0.2.1]/": Endpoint("::ffff:192.0.2.1", 80, "/", False),
}


@pytest.mark.parametrize(("url", "endpoint"), URLS.items())
def test_urls_are_taken_apart(url: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "h",
        "//h/",
        "http://h/",
        "ws://",
        "ws:///x",
        "ws://h:0/",
        "ws://h:65536/",
        "ws://h:x/",
        "ws://h/a b",
        "ws://h/\x7f",
        "ws://h?\u00e9",
        f"ws://{_LABEL}a.b/",
        f"ws://{'b' * 58}/",
        f"ws://[fe80::1%{'x' * 16}]/",
        "ws://[1]/",
    ],
)
def test_what_is_no_websocket_url_is_shown(url: str) -> None:
    with pytest.raises(MisuseError, match="not a WebSocket URL: "):
        parse_endpoint(url)


@pytest.mark.parametrize("url", ["ws://me@h/", "ws://:hunter2@h/", "ws://@h/", "ws://me:hunter2@h/", "ws://h/#f"])
def test_a_url_with_a_user_or_a_fragment_is_not_shown(url: str) -> None:
    with pytest.raises(MisuseError) as caught:
        parse_endpoint(url)
    assert str(caught.value).endswith("a WebSocket URL has no user and no fragment: ...@h")


@pytest.mark.parametrize(
    ("endpoint", "header", "text"),
    [
        (Endpoint("h", 80, "/", False), "h", "h:80"),
        (Endpoint("h", 443, "/", False), "h:443", "h:443"),
        (Endpoint("h", 443, "/", True), "h", "h:443"),
        (Endpoint("h", 80, "/", True), "h:80", "h:80"),
        (Endpoint("::1", 80, "/", False), "[::1]", "[::1]:80"),
        (Endpoint("::1", 81, "/", False), "[::1]:81", "[::1]:81"),
    ],
)
def test_an_endpoint_as_text(endpoint: Endpoint, header: str, text: str) -> None:
    assert (endpoint.host_header, str(endpoint)) == (header, text)


# --- TLS contexts


def test_the_context_verifies_and_is_up_to_date() -> None:
    context = make_ssl_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_SSLv3
    assert context.get_ca_certs()


def test_certifis_authorities_are_trusted_whatever_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)
    assert len(make_ssl_context().get_ca_certs()) > 50


def test_further_authorities_are_trusted_as_well(tmp_path: Path) -> None:
    path = tmp_path / "more.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    assert len(make_ssl_context(str(path)).get_ca_certs()) == len(make_ssl_context().get_ca_certs()) + 1


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_without_authorities_is_a_mistake_in_the_settings(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "none.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"ca_file {path}: no usable PEM file"):
        make_ssl_context(str(path))


# --- ways that fail


class Broken:
    """A TCP socket in a network where every attempt to connect fails."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def connect(self, _: object) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(self._number, os.strerror(self._number))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Nameless(trio.abc.HostnameResolver):
    """Knows no name."""

    def __init__(self, *said: str) -> None:
        self._said = said

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        raise socket.gaierror(*((socket.EAI_NONAME,) if self._said else ()), *self._said)

    async def getnameinfo(self, *_: object) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("said", "detail"), [(("not known\x1b",), r"stream.test: not known\x1b"), ((), "stream.test: ")]
)
async def test_a_name_that_does_not_resolve(said: tuple[str, ...], detail: str) -> None:
    trio.socket.set_custom_hostname_resolver(Nameless(*said))
    with pytest.raises(ConnectFailed) as caught:
        await dial_tcp("stream.test", 443)
    assert (caught.value.reason, caught.value.detail) == ("dns", detail)


def all_failed(cause: OSError) -> OSError:
    """As Trio says it of a host with one address."""
    error = OSError("all attempts to connect failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (OSError(errno.ECONNREFUSED, "no"), "refused", os.strerror(errno.ECONNREFUSED)),
        (OSError(errno.EMFILE, "no"), "unreachable", os.strerror(errno.EMFILE)),
        (OSError("no number\x1b"), "unreachable", r"no number\x1b"),
        (all_failed(OSError(errno.ECONNREFUSED, "no")), "refused", os.strerror(errno.ECONNREFUSED)),
        (all_failed(OSError("no number")), "unreachable", "all attempts to connect failed"),
    ],
)
async def test_an_error_of_one_attempt_or_of_none_is_named(
    monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str, detail: str
) -> None:
    async def fail(host: str, port: int) -> Any:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(trio, "open_tcp_stream", fail)
    with pytest.raises(ConnectFailed) as caught:
        await dial_tcp("h", 1)
    assert (caught.value.reason, caught.value.detail) == (reason, f"h port 1: {detail}")


class Network(trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """Names have two addresses, one after the other of which cannot be reached for the given reasons."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = list(numbers)

    def socket(self, *_: object, **__: object) -> Any:
        return Broken(self._numbers.pop(0))

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *stream, ("2001:db8::1", 443, 0, 0)),
            (socket.AF_INET, *stream, ("192.0.2.1", 443)),
        ]

    async def getnameinfo(self, *_: object) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("numbers", "reason", "detail"),
    [
        ((errno.ENETUNREACH, errno.EHOSTUNREACH), "unreachable", "Network is unreachable; No route to host"),
        ((errno.EHOSTUNREACH, errno.ECONNREFUSED), "refused", "Connection refused; No route to host"),
        ((errno.ETIMEDOUT, errno.ETIMEDOUT), "unreachable", "Connection timed out"),
    ],
)
async def test_what_kept_us_from_every_address_is_named(numbers: tuple[int, ...], reason: str, detail: str) -> None:
    network = Network(*numbers)
    trio.socket.set_custom_hostname_resolver(network)  # of this run of Trio, so of this test
    trio.socket.set_custom_socket_factory(network)
    with pytest.raises(ConnectFailed) as caught:
        await dial_tcp("stream.test", 443)
    assert (caught.value.reason, caught.value.detail) == (reason, f"stream.test port 443: {detail}")
