"""The server's side of one connection, piece by piece."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, cast

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Pong, Request, TextMessage

from orderflow.bench.certificate import HOST, papers
from orderflow.bench.server import Peer, Wire, _make_context, _parse_target, _send_all, _share

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = "/v5/public/linear?count=10&rate=500&topics=3"


class Pieces:
    """A wire on which given bytes come in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[at : at + size] for at in range(0, len(data), size)]
        self.sent = b""

    def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def send(self, *frames: bytes) -> None:
        self.sent += b"".join(frames)


@pytest.mark.parametrize("size", [1, 7, 64, 65_536])
def test_requests_are_whole_however_they_come(size: int) -> None:
    client = WSConnection(ConnectionType.CLIENT)
    hello = client.send(Request(host="localhost", target=TARGET))
    wire = Pieces(hello, size)
    peer = Peer(cast("Wire", wire))
    while not peer.target:
        peer.listen()
    assert peer.target == TARGET
    client.receive_data(wire.sent)
    assert isinstance(next(client.events()), AcceptConnection)

    asked = ["{" + "x" * 200 + "}", "{}"]
    data = b"".join(client.send(TextMessage(data=text)) for text in asked) + client.send(Ping(payload=b"p"))
    wire.sent = b""
    wire._pieces = Pieces(data, size)._pieces
    while not peer.gone:
        peer.listen()
    assert peer.requests == asked
    client.receive_data(wire.sent)
    assert [event.payload for event in client.events() if isinstance(event, Pong)] == [b"p"]


def test_a_url_says_what_a_connection_is_for() -> None:
    task = _parse_target(TARGET)
    assert (task.count, task.step_ns, task.topics) == (10, 2_000_000, 3)
    assert _parse_target("/?count=1&rate=0&topics=1").step_ns == 0


@pytest.mark.parametrize("count, topics", [(10, 3), (0, 2), (1, 5), (12, 4)])
def test_messages_are_shared_out_one_after_the_other(count: int, topics: int) -> None:
    shares = [_share(count, topics, number) for number in range(topics)]
    assert shares == [len(range(number, count, topics)) for number in range(topics)]


def test_messages_leave_when_they_are_due() -> None:
    sent: list[bytes] = []

    class Out:
        def send_sealed(self, data: bytes) -> None:
            sent.append(data)

    late = _send_all(cast("Wire", Out()), [b"a", b"b", b"c"], 0, 0)  # long overdue
    assert sent == [b"a", b"b", b"c"]
    assert late == sorted(late)
    assert min(late) > 0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_over_tls_every_message_is_a_record_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with papers() as tls:
        wires: list[Wire] = []
        context = _make_context(tls.key_file)
        task = threading.Thread(target=lambda: wires.append(Wire(ours, context)))
        task.start()
        with ssl.create_default_context(cafile=tls.ca_file).wrap_socket(theirs, server_hostname=HOST) as client:
            task.join(20)
            (wire,) = wires
            frames = [json.dumps({"n": n}).encode() for n in range(5)]
            sealed = wire.seal(frames)
            records = []
            while sealed:
                size = 5 + int.from_bytes(sealed[3:5], "big")
                records.append(sealed[:size])
                sealed = sealed[size:]
            assert len(records) == 5
            wire.send_sealed(b"".join(records))
            assert b"".join(client.recv(65_536) for _ in frames) == b"".join(frames)
            client.sendall(b"hello")
            assert wire.receive() == b"hello"
        assert wire.receive() == b""
