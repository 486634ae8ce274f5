"""The exchange's end of the loopback: a process that sends ready-made messages as fast as it goes, or by the clock.

Plain blocking sockets and one client at a time: on a small machine a server's work is the client's loss. (`orderflow
sim --flood` serves any client and never ends, and makes each message when it is due.) What a connection is for stands
in its URL: `/v5/public/linear?count=N&rate=R&topics=T`, rate 0 being a flood. Deltas come when so many topics are
subscribed, to one topic after the other. On standard output: one line when it listens, one report a connection.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from orderflow.bench.frames import Frames, TextLevels, Track
from orderflow.bench.results import Spread, spread
from orderflow.sim.connection import text_frame

SETTLE_S: Final = 0.2  # between the snapshot and the first delta
_ROUND_TRIP_S: Final = 0.02  # before a request is answered: pybit notes one only after it was sent
CLIENT_TIMEOUT_S: Final = 60.0
_CHUNK: Final = 64  # messages of a flood in one send
_SPIN_NS: Final = 150_000  # a sleep oversleeps by less than this; the rest is waited for awake


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What this process serves: on the command line, as JSON. `key_file`: speak TLS with this key and certificate."""

    depth: int
    windows: int
    seed: int
    key_file: str = ""


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    port: int


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """The book of one topic as the client must have it in the end."""

    bids: TextLevels
    asks: TextLevels


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection was sent.

    Args:
        first_ns: monotonic time at which the first delta was due; step_ns: from one to the next (0: a flood).
        late: how long after its time each message was handed to the kernel, in microseconds; None for a flood.
        books: by symbol.
        error: why the client did not get everything.
    """

    sent: int
    first_ns: int
    step_ns: int
    late: Spread | None
    books: dict[str, Truth]
    error: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the client's URL asks for. `step_ns`: between two deltas; 0: a flood."""

    count: int
    step_ns: int
    topics: int


class Wire:
    """One accepted socket, with TLS when there is a context. Raises: OSError, of which ssl.SSLError is one."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        sock.settimeout(CLIENT_TIMEOUT_S)
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True) if context else None
        if self._tls is not None:
            self._shake_hands(self._tls)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._sock.sendall(self._outgoing.read())
                self._fill()
            else:
                return self._sock.sendall(self._outgoing.read())

    def _fill(self) -> None:
        if data := self._sock.recv(65_536):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def receive(self) -> bytes:
        """What comes next; b"" when the client is gone."""
        if self._tls is None:
            return self._sock.recv(65_536)
        while True:
            try:
                return self._tls.read(65_536)
            except ssl.SSLWantReadError:
                self._fill()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""

    def seal(self, frames: list[bytes]) -> bytes:
        """The bytes that carry these frames; over TLS a record each, as the exchange writes. Send in this order."""
        if self._tls is None:
            return b"".join(frames)
        for frame in frames:
            self._tls.write(frame)
        return self._outgoing.read()

    def send_sealed(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send(self, *frames: bytes) -> None:
        self._sock.sendall(self.seal(list(frames)))


class Peer:
    """One client's connection."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._ws = WSConnection(ConnectionType.SERVER)
        self.target = ""
        self.requests: list[str] = []
        self._text = ""  # of a request that is not whole yet
        self.gone = False

    def listen(self) -> None:
        """Take what comes next and answer what wants an answer. Raises: OSError; RemoteProtocolError."""
        data = self.wire.receive()
        if not data:
            self.gone = True
            return
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, Request):
                self.target = event.target
                self.wire.send(self._ws.send(AcceptConnection()))
            elif isinstance(event, Ping):
                self.wire.send(self._ws.send(event.response()))
            elif isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.requests.append(self._text)
                    self._text = ""
            elif isinstance(event, CloseConnection):
                self.wire.send(self._ws.send(event.response()))
                self.gone = True


def serve(orders: Orders) -> None:
    """Serve one client after the other until standard output is closed or the process is ended."""
    frames = Frames(orders.depth, orders.windows, orders.seed)
    context = _make_context(orders.key_file) if orders.key_file else None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _say(Listening(port=listener.getsockname()[1]))
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _say(serve_client(frames, sock, context))


def _make_context(key_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(key_file)
    return context


def serve_client(frames: Frames, sock: socket.socket, context: ssl.SSLContext | None = None) -> Report:
    """One connection, from its upgrade to its end."""
    session = Session(frames)
    error = ""
    try:
        session.run(Peer(Wire(sock, context)))
    except (OSError, RemoteProtocolError, ValueError, LookupError, TypeError, msgspec.MsgspecError) as exc:
        error = f"{type(exc).__name__}: {exc}"
    return session.report(error)


class Session:
    """What one client asks for and is sent."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._task = Task(count=0, step_ns=0, topics=1)
        self._tracks: dict[str, Track] = {}  # by symbol, in the order of subscription
        self._first_ns = 0
        self._late: list[int] = []

    def run(self, peer: Peer) -> None:
        """Raises: OSError, RemoteProtocolError; ValueError, LookupError, TypeError, MsgspecError for an odd client."""
        self._subscribe(peer)
        frames = [text_frame(raw) for raw in self._deltas()]
        step_ns = self._task.step_ns
        size = 1 if step_ns else _CHUNK
        chunks = [peer.wire.seal(frames[at : at + size]) for at in range(0, len(frames), size)]
        self._first_ns = time.monotonic_ns() + round(SETTLE_S * 1e9)
        self._late = _send_all(peer.wire, chunks, self._first_ns, step_ns)
        while not peer.gone:
            peer.listen()

    def _subscribe(self, peer: Peer) -> None:
        """Answer requests until every topic is subscribed. Raises: ConnectionError when the client leaves before."""
        while not peer.target or len(self._tracks) < self._task.topics:
            peer.listen()
            if peer.gone:
                raise ConnectionError("the client left before it had subscribed")
            if peer.target:
                self._task = _parse_target(peer.target)
            if peer.requests:
                time.sleep(_ROUND_TRIP_S)
            while peer.requests:
                self._answer(peer, peer.requests.pop(0))

    def _answer(self, peer: Peer, text: str) -> None:
        """Acknowledge a request; a snapshot for each of its topics."""
        request = msgspec.json.decode(text, type=dict)
        answer = {"success": True, "ret_msg": "", "conn_id": "bench", "req_id": request.get("req_id", "")}
        frames = [text_frame(msgspec.json.encode({**answer, "op": request["op"]}))]
        for topic in request["args"] if request["op"] == "subscribe" else ():
            symbol = str(topic).rpartition(".")[2]
            track = self._tracks[symbol] = self._frames.track(symbol, len(self._tracks))
            frames.append(text_frame(track.snapshot))
        peer.wire.send(*frames)

    def _deltas(self) -> list[bytes]:
        """Every delta in the order of sending: one of each topic, then the next of each."""
        count = self._task.count
        tracks = list(self._tracks.values())
        each = [track.deltas(_share(count, len(tracks), number)) for number, track in enumerate(tracks)]
        return [each[number % len(tracks)][number // len(tracks)] for number in range(count)]

    def report(self, error: str) -> Report:
        count, step_ns, late = self._task.count, self._task.step_ns, self._late
        books = {}
        for number, (symbol, track) in enumerate(self._tracks.items()):
            bids, asks = track.book_after(_share(count, len(self._tracks), number))
            books[symbol] = Truth(bids=bids, asks=asks)
        return Report(
            sent=count,
            first_ns=self._first_ns,
            step_ns=step_ns,
            late=spread(late) if late and step_ns else None,
            books=books,
            error=error,
        )


def _share(count: int, topics: int, number: int) -> int:
    """How many of `count` messages go to the topic `number`."""
    return (count - number + topics - 1) // topics


def _parse_target(target: str) -> Task:
    """Raises: LookupError, ValueError."""
    query = parse_qs(urlsplit(target).query, strict_parsing=True)
    rate = float(query["rate"][0])
    step_ns = round(1e9 / rate) if rate else 0
    return Task(count=int(query["count"][0]), step_ns=step_ns, topics=int(query["topics"][0]))


def _send_all(wire: Wire, chunks: list[bytes], first_ns: int, step_ns: int) -> list[int]:
    """Send each chunk when it is due, or at once when that is over. Returns: how late each was, in nanoseconds."""
    late = []
    clock, sleep, send = time.monotonic_ns, time.sleep, wire.send_sealed
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


def _say(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(msgspec.json.decode(sys.argv[1], type=Orders))
