"""The exchange's side of a public WebSocket, sans-IO: text in, actions out, in the dialect of each endpoint.

A session never touches a socket or a clock. It answers each client message with a list of actions that the server
carries out in order: send a text, attach a topic (its snapshot goes out at that moment), detach one, wait.
Texts are Bybit's own, letter by letter (docs/simulator.md has the dialect table).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from orderflow.core.types import Category

if TYPE_CHECKING:
    from collections.abc import Iterable

# --- what a session asks of the server ------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send one text message."""

    text: bytes


class Attach(msgspec.Struct, frozen=True, gc=False):
    """From now on this connection gets the topic's frames, beginning with its snapshot when it has one."""

    topic: str


class Detach(msgspec.Struct, frozen=True, gc=False):
    """No more frames of this topic."""

    topic: str


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Let time pass before the actions that follow. Frames of attached topics go out meanwhile."""

    seconds: float


Action = Send | Attach | Detach | Wait


class Verdict(enum.Enum):
    """What the venue says of a topic name on one endpoint."""

    KNOWN = "known"
    NO_HANDLER = "no handler"
    BAD_SYMBOL = "bad symbol"


class Directory(Protocol):
    """Which topics exist."""

    def verdict(self, category: Category, topic: str) -> Verdict: ...


class SessionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What Bybit leaves open or changes now and then."""

    ack_first: bool = False  # Bybit's snapshots tend to come before the ack
    snapshot_delay_s: float = 0.0
    ack_delay_s: float = 0.0  # measured: 0.18 s after the request, data earlier
    pong_delay_s: float = 0.0
    spot_args: int = 10  # most topics in one spot request
    args_chars: int = 21_000  # Bybit's documented limit on the args of one connection
    enforce_args_chars: bool = False  # Bybit has been seen to accept more
    atomic: bool = True  # one bad topic fails its whole request
    public_idle_s: float = 0.0  # cut a public socket that sends nothing and has no topic; 0: never


class Session(Protocol):
    """One connection's protocol state."""

    topics: dict[str, None]
    active_ms: int
    """When this connection last showed life."""

    def receive(self, text: str, now_ms: int) -> list[Action]:
        """Answer one client message. Never raises: whatever a client sends has an answer."""

    def expired(self, now_ms: int) -> bool:
        """True when the venue would cut this connection for silence."""


# --- words on the wire ----------------------------------------------------------------------------------------------


def wire(message: Any) -> bytes:
    """JSON as Bybit's Go servers write it: no blanks, and `<`, `>`, `&` escaped."""
    text = msgspec.json.encode(message)
    if b"<" in text or b">" in text or b"&" in text:
        text = text.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return text


class Request(msgspec.Struct):
    """What a client sends; `req_id` may be a number, and comes back as text."""

    op: str = ""
    args: list[Any] | None = None
    req_id: str | int | float | None = None
    reqId: str | int | float | None = None  # the trade endpoint's spelling

    def request_id(self) -> str | None:
        given = self.req_id if self.req_id is not None else self.reqId
        return None if given is None else str(given)


_REQUEST: Final = msgspec.json.Decoder(Request)


def decode_request(text: str) -> Request | str:
    """The request, or what a Go JSON decoder says is wrong with it."""
    try:
        return _REQUEST.decode(text)
    except msgspec.ValidationError as error:
        return f"json: cannot unmarshal value into Go struct field: {error}"
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        head = text.lstrip()[:1]
        if not head:
            return "unexpected end of JSON input"
        if head not in '{["-0123456789tfn':
            return f"invalid character '{head}' looking for beginning of value"
        return "invalid character in JSON input"


class Dialect:
    """How one public endpoint words its replies (linear and inverse alike; spot differs)."""

    def __init__(self, category: Category, connection_id: str) -> None:
        self._spot = category is Category.SPOT
        self._connection_id = connection_id

    def reply(self, *, success: bool, text: str, op: str, request_id: str | None) -> Send:
        """One acknowledgement. Spot leaves out an id that was not sent, the others say `""`."""
        message: dict[str, Any] = {"success": success, "ret_msg": text, "conn_id": self._connection_id}
        if request_id is not None or not self._spot:
            message["req_id"] = request_id or ""
        message["op"] = op
        return Send(wire(message))

    def done(self, request: Request) -> Send:
        """The success answer to subscribe and unsubscribe."""
        text = request.op if self._spot else ""
        return self.reply(success=True, text=text, op=request.op, request_id=request.request_id())

    def refused(self, request: Request, text: str) -> Send:
        return self.reply(success=False, text=text, op=request.op, request_id=request.request_id())

    def pong(self, request: Request) -> Send:
        """On these endpoints the answer to a ping is called `ping` too."""
        return self.reply(success=True, text="pong", op="ping", request_id=request.request_id())

    def unknown(self, topic: str, verdict: Verdict) -> str:
        """The error text for a topic that cannot be had here."""
        if self._spot and verdict is Verdict.BAD_SYMBOL:
            return f"Invalid symbol :[{topic}]"
        return f"error:handler not found,topic:{topic}"


# --- the session ----------------------------------------------------------------------------------------------------


class PublicSession:
    """One connection to `/v5/public/{category}`.

    Args:
        category: the endpoint.
        directory: which topics exist.
        connection_id: opaque text, the same in every reply of this connection.
        policy: see SessionPolicy.
        now_ms: exchange time at which the connection opened.
    """

    def __init__(
        self, category: Category, directory: Directory, connection_id: str, policy: SessionPolicy, now_ms: int
    ) -> None:
        self.category = category
        self.topics: dict[str, None] = {}
        self._directory = directory
        self._dialect = Dialect(category, connection_id)
        self._policy = policy
        self.active_ms = now_ms

    def receive(self, text: str, now_ms: int) -> list[Action]:
        """Answer one client message (see Session)."""
        self.active_ms = now_ms
        request = decode_request(text)
        if isinstance(request, str):
            refusal = f"Failed to decode incoming data:{request}"
            return [self._dialect.reply(success=False, text=refusal, op="", request_id=None)]
        match request.op:
            case "ping":
                return self._after(self._policy.pong_delay_s, self._dialect.pong(request))
            case "subscribe":
                return self._subscribe(request)
            case "unsubscribe":
                return self._unsubscribe(request)
            case _:
                return [self._dialect.refused(request, "error:invalid op")]

    def expired(self, now_ms: int) -> bool:
        """True for a connection without topics that said nothing for `public_idle_s`."""
        idle_s = self._policy.public_idle_s
        return bool(idle_s) and not self.topics and now_ms - self.active_ms > idle_s * 1000

    def _subscribe(self, request: Request) -> list[Action]:
        good, problem = self._sort(request, self._problem_of_subscribing)
        if problem is not None and (self._policy.atomic or not good):
            return [self._dialect.refused(request, problem)]
        self.topics.update(dict.fromkeys(good))
        data = self._after(self._policy.snapshot_delay_s, *(Attach(topic) for topic in good))
        answer = self._dialect.done(request) if problem is None else self._dialect.refused(request, problem)
        ack = self._after(self._policy.ack_delay_s, answer)
        return ack + data if self._policy.ack_first else data + ack

    def _unsubscribe(self, request: Request) -> list[Action]:
        good, problem = self._sort(request, self._problem_of_naming)
        if problem is not None:
            return [self._dialect.refused(request, problem)]
        held = [topic for topic in good if topic in self.topics]
        for topic in held:
            del self.topics[topic]
        return [*map(Detach, held), *self._after(self._policy.ack_delay_s, self._dialect.done(request))]

    def _sort(self, request: Request, problem_of: Any) -> tuple[list[str], str | None]:
        """The acceptable topics of a request, and what is wrong with the first that is not."""
        topics = request.args or []
        problem = self._problem_of_request(topics)
        if problem is not None:
            return [], problem
        good: dict[str, None] = {}
        for topic in topics:
            trouble = problem_of(topic, good)
            if trouble is None:
                good[topic] = None
            elif problem is None:
                problem = trouble
        return list(good), problem

    def _problem_of_request(self, topics: list[Any]) -> str | None:
        if not topics or not all(isinstance(topic, str) for topic in topics):
            return "Params Error"
        if self.category is Category.SPOT and len(topics) > self._policy.spot_args:
            return f"args size >{self._policy.spot_args}"
        if self._policy.enforce_args_chars and _chars((*self.topics, *topics)) > self._policy.args_chars:
            return f"args length >{self._policy.args_chars}"
        return None

    def _problem_of_naming(self, topic: str, _good: Iterable[str]) -> str | None:
        verdict = self._directory.verdict(self.category, topic)
        return None if verdict is Verdict.KNOWN else self._dialect.unknown(topic, verdict)

    def _problem_of_subscribing(self, topic: str, good: Iterable[str]) -> str | None:
        if topic in self.topics or topic in good:
            return f"error:already subscribed,topic:{topic}"
        return self._problem_of_naming(topic, good)

    @staticmethod
    def _after(seconds: float, *actions: Action) -> list[Action]:
        return [Wait(seconds), *actions] if seconds > 0 and actions else list(actions)


class TradeSession:
    """One connection to `/v5/trade`. Order entry is not simulated: every operation is politely unknown (10404)."""

    def __init__(self, connection_id: str) -> None:
        self.topics: dict[str, None] = {}
        self.active_ms = 0
        self._connection_id = connection_id

    def receive(self, text: str, now_ms: int) -> list[Action]:
        """Ping is answered; anything else is refused in the trade endpoint's words."""
        request = decode_request(text)
        if isinstance(request, str):
            return [self._reply(Request(), 10001, f"Failed to decode incoming data:{request}")]
        if request.op == "ping":
            answer = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [str(now_ms)], "connId": self._connection_id}
            return [Send(wire(answer))]
        return [self._reply(request, 10404, "")]

    def expired(self, now_ms: int) -> bool:
        return False

    def _reply(self, request: Request, code: int, text: str) -> Send:
        message: dict[str, Any] = {"op": request.op}
        if request.request_id() is not None:
            message["reqId"] = request.request_id()
        return Send(wire({**message, "retCode": code, "retMsg": text, "connId": self._connection_id}))


def _chars(topics: Iterable[str]) -> int:
    """Characters of the topics as a JSON array."""
    return 1 + sum(len(topic) + 3 for topic in topics)
