"""Failures of the way to a peer have the name of what failed. The dialling that works is tested in test_ws.py."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
import trio

from orderflow.core.errors import ConnectFailed
from orderflow.net.dial import dial_tcp


class Broken:
    """A TCP socket in a network where every attempt to connect fails."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def connect(self, _: object) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(self._number, os.strerror(self._number))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


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
