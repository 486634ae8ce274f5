"""Every fault the exchange can play: names, parameters, and how they are written (docs/faults.md, docs/simulator.md).

    drop:topic=orderbook.50.BTCUSDT,p=0.01          lose one message in a hundred of one book
    http:category=spot,status=429,retry_after=30    answer upgrades on the spot endpoint with HTTP 429
    reset:every=10,n=3                              reset all connections every 10 s, three times

Pure: text in, frozen `Fault` out.
"""

from __future__ import annotations

import difflib
import enum
import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

Value = str | int | float


class Stage(enum.Enum):
    """Where on the way to a client a fault sits."""

    TLS = "tls"  # the handshake, before anything is asked
    OPENING = "opening"  # the upgrade to WebSocket
    LINK = "link"  # an open connection, whatever is said on it
    REPLY = "reply"  # answers to what clients send
    TOPIC = "topic"  # pushed messages, snapshots included
    BOOK = "book"  # pushed messages of book topics behind the snapshot
    REST = "rest"
    CLOCK = "clock"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One fault by name.

    Args: parameters: name -> default, whose type is the parameter's; choices: what a text parameter may be;
        lasting: stays until it is removed. Others happen once, unless p, n, for or every say otherwise.
    """

    name: str
    stage: Stage
    text: str
    parameters: Mapping[str, Value] = {}
    choices: Mapping[str, tuple[str, ...]] = {}
    lasting: bool = False


_HOW_CUT: Final = ("reset", "eof", "close")
CORRUPTIONS: Final = ("json", "types", "nan", "number", "huge", "nesting", "control", "shape", "missing")


def _kinds(*kinds: Kind) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}


def _opening(name: str, text: str, /, **parameters: Value) -> Kind:
    return Kind(name=name, stage=Stage.OPENING, text=text, parameters=parameters, lasting=True)


def _link(name: str, text: str, /, **parameters: Value) -> Kind:
    return Kind(name=name, stage=Stage.LINK, text=text, parameters=parameters)


def _reply(name: str, text: str, /, **parameters: Value) -> Kind:
    return Kind(name=name, stage=Stage.REPLY, text=text, parameters=parameters, lasting=True)


def _book(name: str, text: str, /, **parameters: Value) -> Kind:
    return Kind(name=name, stage=Stage.BOOK, text=text, parameters=parameters)


KINDS: Final = _kinds(
    # TLS
    Kind(
        name="certificate",
        stage=Stage.TLS,
        text="a certificate no client may accept: another name's, expired, not begun, of an unknown authority",
        parameters={"how": "expired"},
        choices={"how": ("name", "expired", "early", "unknown")},
        lasting=True,
    ),
    # opening
    _opening("http", "upgrades get this HTTP status", status=503, retry_after=0, location=""),
    _opening("silent", "the upgrade is read and never answered"),
    _opening(
        "drip", "an answer to the upgrade that comes byte by byte, one in so many seconds, and never ends", seconds=0.5
    ),
    _opening("garbage", "bytes that are no HTTP in answer to the upgrade", bytes=64),
    _opening("hangup", "end of stream instead of an answer to the upgrade"),
    _opening("reset-upgrade", "TCP reset instead of an answer to the upgrade"),
    # the link
    _link("reset", "TCP reset"),
    _link("eof", "end of stream without a close frame"),
    _link("close", "close frame with this code", code=1001, reason="going away"),
    _link("half-close", "we end our side of TCP and go on listening"),
    _link("goodbye", "close frame, but TCP stays open and everything goes on", code=1000),
    _link("torn", "half a frame, then a TCP reset"),
    _link("stall", "neither read nor written for so many seconds; then everything at once", seconds=5.0),
    _link("black-hole", "read and ignored, nothing written, for so many seconds", seconds=60.0),
    _link("bad-utf8", "a text frame that is not UTF-8"),
    _link("bad-frame", "a frame with a reserved opcode"),
    _link("oversized", "a text message of so many bytes", bytes=5 * 1024 * 1024),
    _link("pings", "so many WebSocket pings a second, for so many seconds", rate=100, seconds=2.0),
    Kind(
        name="kick",
        stage=Stage.LINK,
        text="every connection ends so many seconds after it opened",
        parameters={"delay": 0.1, "how": "reset"},
        choices={"how": _HOW_CUT},
        lasting=True,
    ),
    # replies
    _reply("ack-late", "acks of subscribe and unsubscribe come so many seconds late", delay=6.0),
    _reply("ack-lost", "no acks; subscriptions work all the same"),
    _reply("ack-foreign", "acks carry the id of another request"),
    _reply("refuse", "subscribing to the topic is refused", text=""),
    _reply("pong-late", "pongs come so many seconds late", delay=5.0),
    _reply("pong-lost", "no pongs"),
    # topics
    Kind(name="no-snapshot", stage=Stage.TOPIC, text="the snapshot after a subscribe is lost", lasting=True),
    Kind(name="mute", stage=Stage.TOPIC, text="nothing is pushed (without topic=: on no topic)", lasting=True),
    Kind(name="extra", stage=Stage.TOPIC, text="unknown keys, and a message of an unknown topic before each"),
    # books
    _book("drop", "so many messages are lost, with changes that are never repeated", count=1),
    _book("duplicate", "a message comes twice"),
    _book("late", "a message comes again behind so many others", count=3),
    _book("reorder", "a message comes behind the next"),
    Kind(
        name="corrupt",
        stage=Stage.BOOK,
        text="a message nobody can use",
        parameters={"how": "any"},
        choices={"how": ("any", *CORRUPTIONS)},
    ),
    _book("cross", "the best bid lies above the best ask for so many seconds", seconds=2.0),
    _book("lock", "the best bid equals the best ask for so many seconds", seconds=2.0),
    _book("unknown-delete", "a level is deleted that never was"),
    _book("overfull", "so many levels more than the topic's depth", count=5),
    _book("foreign", "a message whose data names another symbol", symbol="NOPEUSDT"),
    _book("restart", "a snapshot with u = 1; the numbering goes on from it"),
    _book("restart-delta", "a delta with u = 1"),
    _book("resnapshot", "a snapshot in mid-stream"),
    Kind(
        name="empty-side",
        stage=Stage.BOOK,
        text="one side of the book is empty for so many seconds",
        parameters={"side": "asks", "seconds": 2.0},
        choices={"side": ("bids", "asks")},
    ),
    _book("flood", "so many extra messages a second that change nothing, for so many seconds", rate=5000, seconds=2.0),
    # REST and the clock
    Kind(
        name="rest-http",
        stage=Stage.REST,
        text="REST requests get this HTTP status",
        parameters={"status": 503, "retry_after": 0},
        lasting=True,
    ),
    Kind(
        name="rest-slow",
        stage=Stage.REST,
        text="REST answers come so many seconds late",
        parameters={"delay": 5.0},
        lasting=True,
    ),
    Kind(name="rest-garbage", stage=Stage.REST, text="REST answers are no JSON", lasting=True),
    Kind(name="rest-hangup", stage=Stage.REST, text="REST connections end without an answer", lasting=True),
    Kind(
        name="clock",
        stage=Stage.CLOCK,
        text="the exchange's clock is off by so many seconds, in REST and in every timestamp",
        parameters={"offset": 5.0},
        lasting=True,
    ),
)


def kinds_table() -> dict[str, dict[str, Any]]:
    """All there is, as plain data."""
    return {
        name: {"stage": kind.stage.value, "text": kind.text, "parameters": kind.parameters, "choices": kind.choices}
        for name, kind in KINDS.items()
    }


_COMMON: Final = ("category", "topic", "connection", "p", "n", "after", "for", "every", "skip", "seed")
LONGEST_S: Final = 1e6


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong, where, and how often.

    Scope: `category` is an endpoint (linear, inverse, spot, private, trade); `topic` and `connection` may hold `*`;
    "" is all. Of the opportunities in scope the first `skip` pass, then each is taken with probability `p` (drawn
    from `seed`), at most `n` times, not sooner than `every_s` after the last; only from `after_s` to `after_s + for_s`
    seconds after it was armed.
    """

    name: str
    category: str = ""
    topic: str = ""
    connection: str = ""
    p: float = 1.0
    n: int | None = None
    after_s: float = 0.0
    for_s: float = math.inf
    every_s: float = 0.0
    skip: int = 0
    seed: int = 0
    values: dict[str, Value] = {}

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def number(self, parameter: str) -> float:
        return float(self.values.get(parameter, self.kind.parameters[parameter]))

    def text(self, parameter: str) -> str:
        return str(self.values.get(parameter, self.kind.parameters[parameter]))

    def covers(self, endpoint: str, topic: str = "", connection_id: str = "") -> bool:
        """Whether this endpoint, topic and connection are in scope. "" for what does not apply here."""
        return (
            self.category in ("", endpoint)
            and (not self.topic or not topic or fnmatchcase(topic, self.topic))
            and (not self.connection or not connection_id or fnmatchcase(connection_id, self.connection))
        )

    def __str__(self) -> str:
        """As it is written; `parse_fault` reads it back."""
        shown: dict[str, object] = {name: getattr(self, name) for name in ("category", "topic", "connection")}
        shown |= {"p": self.p, "n": self.n, "after": self.after_s, "for": self.for_s, "every": self.every_s}
        shown |= {"skip": self.skip, "seed": self.seed, **self.values}
        usual = {"p": 1.0, "for": math.inf, "after": 0, "every": 0, "skip": 0, "seed": 0}
        if not self.kind.lasting and self.n is None and self.for_s == math.inf and not self.every_s:
            del usual["p"]  # without any limit it would be read as once
        given = [
            f"{key}={_written(value)}"
            for key, value in shown.items()
            if key in self.values or value not in (usual.get(key), "", None)
        ]
        return f"{self.name}:{','.join(given)}" if given else self.name


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace("%", "%25").replace(",", "%2c")


def parse_fault(spec: str) -> Fault:
    """`name:key=value,key=value`; `%xx` stands for any byte of a value. Raises: ConfigError."""
    name, _, rest = spec.strip().partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise _trouble(spec, f"no such fault{_nearest(name, list(KINDS))}; there are {', '.join(KINDS)}")
    common: dict[str, Value] = {}
    own: dict[str, Value] = {}
    for part in filter(None, rest.split(",")):
        key, equals, text = part.partition("=")
        key, value = key.strip(), unquote(text.strip())
        if not equals:
            raise _trouble(spec, f"{escape_text(part, 40)}: expected key=value")
        if key in kind.parameters:
            own[key] = _own_value(spec, kind, key, value)
        elif key in _COMMON:
            common[key] = _common_value(spec, key, value)
        else:
            known = [*kind.parameters, *_COMMON]
            raise _trouble(spec, f"{escape_text(key, 40)}: {name} has no such parameter{_nearest(key, known)}")
    return _made(kind, common, own)


def _made(kind: Kind, common: dict[str, Value], own: dict[str, Value]) -> Fault:
    once = not kind.lasting and not common.keys() & {"p", "n", "for", "every"}
    n = common.get("n", 1 if once else None)
    return Fault(
        name=kind.name,
        category=str(common.get("category", "")),
        topic=str(common.get("topic", "")),
        connection=str(common.get("connection", "")),
        p=float(common.get("p", 1.0)),
        n=None if n is None else int(n),
        after_s=float(common.get("after", 0.0)),
        for_s=float(common.get("for", math.inf)),
        every_s=float(common.get("every", 0.0)),
        skip=int(common.get("skip", 0)),
        seed=int(common.get("seed", 0)),
        values=own,
    )


def _own_value(spec: str, kind: Kind, key: str, text: str) -> Value:
    default = kind.parameters[key]
    allowed = kind.choices.get(key)
    if allowed is not None and text not in allowed:
        raise _trouble(spec, f"{key}: expected one of {', '.join(allowed)}")
    if isinstance(default, str):
        return text
    return _number(spec, key, text, whole=isinstance(default, int), signed=key == "offset")


def _common_value(spec: str, key: str, text: str) -> Value:
    if key in ("category", "topic", "connection"):
        return text
    value = _number(spec, key, text, whole=key in ("n", "skip", "seed"))
    if key == "p" and value > 1:
        raise _trouble(spec, "p: expected a probability from 0 to 1")
    return value


def _number(spec: str, key: str, text: str, *, whole: bool, signed: bool = False) -> int | float:
    try:
        value: int | float = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not (-LONGEST_S if signed else 0) <= value <= (2**63 if key == "seed" else 1e9):
        raise _trouble(spec, f"{key}={escape_text(text, 40)}: expected a {'whole ' if whole else ''}number")
    return value


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _trouble(spec: str, text: str) -> ConfigError:
    return ConfigError(f"fault {escape_text(spec, 80)}: {text}")


class Armed:
    """A fault that waits for its opportunities. Args: number: its name for the control port; now_s: armed when."""

    def __init__(self, number: int, fault: Fault, now_s: float, rng: Random) -> None:
        self.number = number
        self.fault = fault
        self.fired = 0
        self.seen = 0
        self._from_s = now_s + fault.after_s
        self._last_s = -math.inf
        self._rng = rng
        self._hit: set[tuple[str, str]] = set()

    def hits_first(self, connection_id: str, topic: str) -> bool:
        """Whether it has not hit this topic of this client before: what lasts is told of once to each."""
        key = (connection_id, topic)
        known = key in self._hit
        self._hit.add(key)
        return not known

    def open(self, now_s: float) -> bool:
        """Whether it may happen now."""
        return not self.over(now_s) and now_s >= self._from_s and now_s - self._last_s >= self.fault.every_s

    def over(self, now_s: float) -> bool:
        """Whether it will never happen again."""
        fault = self.fault
        return (fault.n is not None and self.fired >= fault.n) or now_s >= self._from_s + fault.for_s

    def fires(self, now_s: float) -> bool:
        """Here is an opportunity in scope: take it?"""
        if not self.open(now_s):
            return False
        self.seen += 1
        if self.seen <= self.fault.skip or (self.fault.p < 1 and self._rng.random() >= self.fault.p):
            return False
        self.fired += 1
        self._last_s = now_s
        return True
