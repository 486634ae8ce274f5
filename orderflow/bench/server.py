"""The exchange's end of the loopback: a process that sends ready-made messages as fast as it goes, or by the clock.

Plain blocking sockets and one client at a time: on a small machine a server's work is the client's loss. (`orderflow
sim --flood` serves any client and never ends, and makes each message when it is due.) What a connection is for stands
in its URL: `/v5/public/linear?count=N&rate=R`, rate 0 being a flood. On standard output: one line when it listens, one
report a connection.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from orderflow.bench.frames import Frames, TextLevels
from orderflow.bench.results import Spread, spread
from orderflow.sim.connection import text_frame

SETTLE_S: Final = 0.2  # between the snapshot and the first delta
CLIENT_TIMEOUT_S: Final = 60.0
_CHUNK: Final = 64  # messages of a flood in one send
_SPIN_NS: Final = 150_000  # a sleep oversleeps by less than this; the rest is waited for awake


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What this process serves: on the command line, as JSON."""

    depth: int
    windows: int
    seed: int


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    port: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection was sent.

    Args:
        first_ns: monotonic time at which the first delta was due; step_ns: from one to the next (0: a flood).
        late: how long after its time each message was handed to the kernel, in microseconds; None for a flood.
        bids, asks: the book the client must have in the end.
        error: why the client did not get everything.
    """

    sent: int
    last_u: int
    first_ns: int
    step_ns: int
    late: Spread | None
    bids: TextLevels
    asks: TextLevels
    error: str = ""


class Peer:
    """One client's connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(CLIENT_TIMEOUT_S)
        self._sock = sock
        self._ws = WSConnection(ConnectionType.SERVER)
        self.target = ""
        self.subscription = ""
        self.gone = False

    def listen(self) -> None:
        """Take what comes next and answer what wants an answer. Raises: OSError; RemoteProtocolError."""
        data = self._sock.recv(65_536)
        if not data:
            self.gone = True
            return
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, Request):
                self.target = event.target
                self._sock.sendall(self._ws.send(AcceptConnection()))
            elif isinstance(event, Ping):
                self._sock.sendall(self._ws.send(event.response()))
            elif isinstance(event, TextMessage):
                self.subscription += event.data
            elif isinstance(event, CloseConnection):
                self._sock.sendall(self._ws.send(event.response()))
                self.gone = True

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)


def serve(orders: Orders) -> None:
    """Serve one client after the other until standard output is closed or the process is ended."""
    frames = Frames(orders.depth, orders.windows, orders.seed)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _say(Listening(port=listener.getsockname()[1]))
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _say(serve_client(frames, sock))


def serve_client(frames: Frames, sock: socket.socket) -> Report:
    """One connection, from its upgrade to its end."""
    peer = Peer(sock)
    count, step_ns = 0, 0
    first_ns, late = 0, None
    error = ""
    try:
        while not peer.subscription and not peer.gone:
            peer.listen()
        count, step_ns = _parse_target(peer.target)
        chunks = _chunks(frames.deltas(count), 1 if step_ns else _CHUNK)
        peer.send(text_frame(_acknowledgement(peer.subscription)) + text_frame(frames.snapshot))
        first_ns = time.monotonic_ns() + round(SETTLE_S * 1e9)
        late = _send_all(peer, chunks, first_ns, step_ns)
        while not peer.gone:
            peer.listen()
    except (OSError, RemoteProtocolError, ValueError, LookupError, msgspec.DecodeError) as exc:
        error = f"{type(exc).__name__}: {exc}"
    bids, asks = frames.book_after(count)
    return Report(
        sent=count,
        last_u=frames.last_u(count),
        first_ns=first_ns,
        step_ns=step_ns,
        late=spread(late) if late and step_ns else None,
        bids=bids,
        asks=asks,
        error=error,
    )


def _parse_target(target: str) -> tuple[int, int]:
    """Messages to send and nanoseconds between two. Raises: LookupError, ValueError."""
    query = parse_qs(urlsplit(target).query, strict_parsing=True)
    rate = float(query["rate"][0])
    return int(query["count"][0]), round(1e9 / rate) if rate else 0


def _chunks(deltas: list[bytes], size: int) -> list[bytes]:
    framed = [text_frame(raw) for raw in deltas]
    return [b"".join(framed[at : at + size]) for at in range(0, len(framed), size)]


def _send_all(peer: Peer, chunks: list[bytes], first_ns: int, step_ns: int) -> list[int]:
    """Send each chunk when it is due, or at once when that is over. Returns: how late each was, in nanoseconds."""
    late = []
    clock, sleep, send = time.monotonic_ns, time.sleep, peer.send
    for number, chunk in enumerate(chunks):
        due_ns = first_ns + number * step_ns
        spare_ns = due_ns - clock() - _SPIN_NS
        if spare_ns > 0:
            sleep(spare_ns / 1e9)
        while (now_ns := clock()) < due_ns:
            pass
        late.append(now_ns - due_ns)
        send(chunk)
    return late


def _acknowledgement(subscription: str) -> bytes:
    """The answer of linear to the client's subscribe. Raises: msgspec.DecodeError."""
    request = msgspec.json.decode(subscription, type=dict)
    request_id = request.get("req_id", "")
    answer = {"success": True, "ret_msg": "", "conn_id": "bench", "req_id": request_id, "op": "subscribe"}
    return msgspec.json.encode(answer)


def _say(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(msgspec.json.decode(sys.argv[1], type=Orders))
