"""Our side of the authenticated private connection, sans-IO: bytes and times in, rows and frames out.

Auth first, then one subscribe request per topic, so that every answer belongs to one topic without reading its text.
Private topics are quiet for hours, so nothing but the acks proves a subscription: without them the link is no good.

One owner drives it: call `data_to_send` after every other call, and `on_time` no later than `next_deadline_ns`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bybit.account import TOPICS, decode, decode_rows
from orderflow.bybit.heartbeat import Heartbeat
from orderflow.bybit.signing import CREDENTIAL_CODES, MaskedText
from orderflow.core.errors import AuthRejected, ConnectionLost, WireError
from orderflow.core.text import escape_text
from orderflow.core.types import PrivateMessage
from orderflow.core.units import NS, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.bybit.signing import Signer
    from orderflow.core.policy import LinkPolicy

# The exchange is busy or restarting, or this address connects too often: no verdict on the credentials.
_TRANSIENT_CODES: Final = frozenset({10000, 10006, 10016, 10018, 10019, 10403, 10429, 20003})
_ALREADY_AUTHENTICATED: Final = 20001
_AUTH: Final = "auth"


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Once per connection: authenticated, and every topic answered; `topics` were accepted."""

    topics: tuple[str, ...]


class PrivateTopicRefused(msgspec.Struct, frozen=True, gc=False):
    """The exchange refused one topic; it will be asked again rarely. `text` is the exchange's, escaped."""

    topic: str
    text: str


class BadMessage(msgspec.Struct, frozen=True, gc=False):
    """A message was refused whole: rows are lost. `reason` is a fixed word; the other texts are escaped."""

    reason: str
    topic: str
    detail: str


PrivateEvent = PrivateMessage | Ready | PrivateTopicRefused | BadMessage


class PrivateStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one connection since it opened."""

    frames: int
    messages: dict[str, int]  # by topic
    rows: dict[str, int]  # by topic
    refused: dict[str, int]  # by WireError.reason
    unknown: int  # topics and replies nobody asked for
    topics_refused: int
    pongs: int


class _Frame(msgspec.Struct):
    """Everything a private connection sends: replies in both dialects, and the envelope of rows."""

    op: str | None = None
    success: bool | None = None
    ret_msg: str | None = None
    retCode: int | None = None
    retMsg: str | None = None
    req_id: str | int | None = None
    reqId: str | int | None = None
    topic: str | None = None
    creationTime: int | str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")

    @property
    def text(self) -> str:
        return self.ret_msg or self.retMsg or ""

    @property
    def accepted(self) -> bool:
        return self.success is True or (self.success is None and self.retCode == 0)


_frame = msgspec.json.Decoder(_Frame)


class PrivateProtocol:
    """One private connection.

    Args:
        doubted: the previous connection's auth was refused in words that may also mean that the frame came too late;
            the same again is final.
        auth_expires_s: how far in the future an auth frame expires: clock error and delay of the way must fit in it.
    """

    def __init__(
        self,
        signer: Signer,
        policy: LinkPolicy,
        *,
        topics: Sequence[str] = TOPICS,
        auth_expires_s: float = 10.0,
        doubted: bool = False,
    ) -> None:
        self._signer = signer
        self._policy = policy
        self._auth_expires_s = auth_expires_s
        self._doubted = doubted
        self._topics = tuple(topics)
        self._waiting: dict[str, int] = {}  # request -> deadline of its ack, oldest first
        self._accepted: dict[str, None] = {}
        self._retry_ns: dict[str, int] = {}  # refused topics
        self._outbox: list[str] = []
        self._heartbeat = Heartbeat(policy)
        self._pings = 0
        self._ready_ns: int | None = None
        self._frames = self._unknown = self._refusals = 0
        self._messages: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._refused: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<PrivateProtocol {', '.join(self._topics)}>"

    @property
    def healthy_s(self) -> float:
        """From being ready to the last frame; pongs count, for rows may not come for hours."""
        return 0.0 if self._ready_ns is None else (self._heartbeat.last_frame_ns - self._ready_ns) / NS

    def statistics(self) -> PrivateStatistics:
        return PrivateStatistics(
            frames=self._frames,
            messages=dict(self._messages),
            rows=dict(self._rows),
            refused=dict(self._refused),
            unknown=self._unknown,
            topics_refused=self._refusals,
            pongs=self._heartbeat.pongs,
        )

    # --- in

    def opened(self, mono_ns: int, exchange_ms: int) -> None:
        """The connection is up: the auth frame follows. `exchange_ms` is the exchange's clock as well as we know it."""
        self._heartbeat.start(mono_ns)
        self._waiting[_AUTH] = mono_ns + seconds_to_ns(self._policy.ack_timeout_s)
        args = self._signer.ws_auth_args(exchange_ms + round(self._auth_expires_s * 1000))
        self._outbox.append(MaskedText(json.dumps({"req_id": _AUTH, "op": "auth", "args": args})))

    def receive(self, raw: bytes, mono_ns: int) -> list[PrivateEvent]:
        """One message. Bad ones are counted and told, the link stays.

        Raises: AuthRejected (the credentials are no good), ConnectionLost (busy exchange; doubtful refusal).
        """
        self._heartbeat.last_frame_ns = mono_ns
        self._frames += 1
        try:
            frame = decode(_frame, raw)
            if frame.topic is not None:
                return self._data(frame)
        except WireError as error:
            self._refused[error.reason] = self._refused.get(error.reason, 0) + 1
            return [BadMessage(error.reason, escape_text(error.topic), escape_text(error.detail))]
        return self._reply(frame, mono_ns)

    # --- out

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._outbox)

    def data_to_send(self) -> list[str]:
        """Text frames to send now, in order; they are handed out once. Never show them: one holds a signature."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_deadline_ns(self) -> int:
        """When `on_time` must be called at the latest."""
        return min((self._heartbeat.due_ns, *self._waiting.values(), *self._retry_ns.values()))

    def on_time(self, mono_ns: int) -> None:
        """Time passed: pings, missing acks, refused topics asked again.

        Raises: HeartbeatLost, ConnectionLost (drop the link).
        """
        if self._heartbeat.on_time(mono_ns):
            self._pings += 1
            self._send({"req_id": f"p{self._pings}", "op": "ping"})
        for request, due_ns in self._waiting.items():
            if mono_ns >= due_ns:
                raise ConnectionLost(f"no answer to {request} in {self._policy.ack_timeout_s:g} s", reason="ack")
        due = [topic for topic, when_ns in self._retry_ns.items() if mono_ns >= when_ns]
        for topic in due:
            del self._retry_ns[topic]
        self._subscribe(due, mono_ns)

    def forgive(self, mono_ns: int) -> None:
        """The whole process stood still until now: everything the peer owes us gets its whole time again."""
        self._heartbeat.forgive(mono_ns)
        due_ns = mono_ns + seconds_to_ns(self._policy.ack_timeout_s)
        self._waiting = dict.fromkeys(self._waiting, due_ns)

    # --- replies

    def _reply(self, frame: _Frame, mono_ns: int) -> list[PrivateEvent]:
        if frame.op == "pong" or frame.ret_msg == "pong":
            self._heartbeat.pong()
            return []
        if frame.op == "auth" and _AUTH in self._waiting:
            self._auth_answered(frame)
            self._subscribe(self._topics, mono_ns)
            return []
        topic = self._topic_of(frame)
        if topic is None:
            self._unknown += 1
            return []
        return self._subscribe_answered(topic, frame, mono_ns)

    def _auth_answered(self, frame: _Frame) -> None:
        """Return when accepted. Raises: AuthRejected, ConnectionLost."""
        del self._waiting[_AUTH]
        if frame.accepted or frame.retCode == _ALREADY_AUTHENTICATED:
            return
        code = frame.retCode
        text = escape_text(self._signer.redact(frame.text))
        if code in _TRANSIENT_CODES:
            raise ConnectionLost(f"auth not answered: {code} {text}", reason="busy")
        if code is not None and code in CREDENTIAL_CODES:
            raise AuthRejected(f"the exchange refused the credentials: {CREDENTIAL_CODES[code]} ({code} {text})")
        if not self._doubted:  # the same words mean a wrong signature and a frame that came too late
            raise ConnectionLost(f"auth refused: {text}", reason=_AUTH)
        raise AuthRejected(
            f"the exchange refused the credentials: {text} (wrong key or secret, or this computer's clock is behind)"
        )

    def _topic_of(self, frame: _Frame) -> str | None:
        """Which subscribe request a reply answers: by its id, else the oldest one open, for answers keep the order."""
        if frame.op != "subscribe":
            return None
        request_id = frame.req_id or frame.reqId
        if request_id:
            return str(request_id) if request_id in self._waiting else None
        return next((request for request in self._waiting if request != _AUTH), None)

    def _subscribe_answered(self, topic: str, frame: _Frame, mono_ns: int) -> list[PrivateEvent]:
        del self._waiting[topic]
        events: list[PrivateEvent] = []
        if frame.accepted:
            self._accepted[topic] = None
        else:
            self._refusals += 1
            self._retry_ns[topic] = mono_ns + seconds_to_ns(self._policy.refused_retry_s)
            events.append(PrivateTopicRefused(topic, escape_text(self._signer.redact(frame.text))))
        if not self._waiting and self._ready_ns is None:
            self._ready_ns = mono_ns
            events.append(Ready(tuple(name for name in self._topics if name in self._accepted)))
        return events

    # --- rows

    def _data(self, frame: _Frame) -> list[PrivateEvent]:
        topic = _base_topic(frame.topic or "")
        if topic is None:
            self._unknown += 1
            return []
        rows = decode_rows(topic, frame.data)
        self._messages[topic] = self._messages.get(topic, 0) + 1
        self._rows[topic] = self._rows.get(topic, 0) + len(rows)
        return [PrivateMessage(topic=topic, creation_ms=_creation_ms(frame, topic), rows=rows)]

    # --- requests

    def _subscribe(self, topics: Iterable[str], mono_ns: int) -> None:
        for topic in topics:
            self._waiting[topic] = mono_ns + seconds_to_ns(self._policy.ack_timeout_s)
            self._send({"req_id": topic, "op": "subscribe", "args": [topic]})

    def _send(self, message: dict[str, object]) -> None:
        self._outbox.append(msgspec.json.encode(message).decode())


def _base_topic(name: str) -> str | None:
    """`order` and `order.linear` are both `order`; `execution.fast` has other rows and is not ours."""
    base, dot, category = name.partition(".")
    if base not in TOPICS or (dot and category not in ("spot", "linear", "inverse", "option")):
        return None
    return base


def _creation_ms(frame: _Frame, topic: str) -> int:
    """Raises: WireError."""
    value = frame.creationTime
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 16):
            raise WireError("number", "creationTime", topic)
        value = int(value)
    if value is None or not 0 <= value < 10**16:
        raise WireError("number", "creationTime", topic)
    return value
