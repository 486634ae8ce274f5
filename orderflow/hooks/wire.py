"""What passes between the program and the process of an isolated plugin: MessagePack behind a length of four bytes.

The process is not trusted: whatever it sends is bounded and typed, and a tick never comes back from it, so that none
can be altered on the way.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from orderflow.core.types import (
    Alert,
    AlertKind,
    BookStateChanged,
    ExecutionRow,
    LinkChanged,
    MetricsTick,
    OrderRow,
    PositionRow,
    PrivateMessage,
    Severity,
    Summary,
    WalletRow,
)
from orderflow.hooks.discovery import Source  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.hooks.problems import Problem  # noqa: TC001 - as above
from orderflow.hooks.specs import StartInfo

MAX_BYTES: Final = 8 * 2**20
"""Of one message. A hundred alerts of the longest kind are less than one tenth of it."""
_HEAD: Final = 4


class Nonsense(Exception):
    """The other side sent what this protocol does not have."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to the process: the plugin it is for, its table, and how many alerts of one call count."""

    source: Source
    table: dict[str, Any]
    max_alerts: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The plugin is loaded. `config`: its effective settings, secrets masked."""

    version: str
    hooks: tuple[str, ...]
    config: dict[str, Any]


class Unfit(msgspec.Struct, frozen=True, kw_only=True, tag="unfit"):
    """The plugin cannot be used."""

    problems: tuple[Problem, ...]


class Said(msgspec.Struct, frozen=True, kw_only=True, tag="said"):
    """The plugin logged something."""

    level: int
    text: str


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """An alert without its tick."""

    rule: str
    kind: AlertKind
    severity: Severity
    message: str
    metric: str
    value: int | float | None
    threshold: int | float | None
    since_ms: int | None


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """How call `number` went (`calling.Outcome`)."""

    number: int
    took_s: float
    alerts: tuple[Verdict, ...] = ()
    rejected: int = 0
    cut: bool = False
    error: str = ""


FromPlugin = Ready | Unfit | Said | Answer

_encode: Final = msgspec.msgpack.Encoder().encode
_from_plugin: Final[msgspec.msgpack.Decoder[FromPlugin]] = msgspec.msgpack.Decoder(FromPlugin)
_load: Final = msgspec.msgpack.Decoder(Load)
_call: Final[msgspec.msgpack.Decoder[tuple[int, str, str, msgspec.Raw]]] = msgspec.msgpack.Decoder(
    tuple[int, str, str, msgspec.Raw]
)
_PRIVATE: Final = "private:"
_ARGUMENTS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    kind.__name__: msgspec.msgpack.Decoder(kind)
    for kind in (StartInfo, Summary, LinkChanged, BookStateChanged, MetricsTick, Alert)
} | {
    _PRIVATE + topic: msgspec.msgpack.Decoder(tuple[str, int, tuple[row, ...]])  # type: ignore[valid-type]  # made at run time
    for topic, row in (
        ("order", OrderRow),
        ("execution", ExecutionRow),
        ("position", PositionRow),
        ("wallet", WalletRow),
    )
}


def encode(message: Load | FromPlugin) -> bytes:
    """A message with its length. Raises: Nonsense when it is too long or holds what cannot be sent."""
    return _whole(message)


def _whole(message: Any) -> bytes:
    try:
        data = _encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise Nonsense(f"it cannot be sent: {type(exc).__name__}") from None
    if len(data) > MAX_BYTES:
        raise Nonsense(f"it is longer than {MAX_BYTES} bytes")
    return len(data).to_bytes(_HEAD, "big") + data


def encode_call(number: int, hook: str, argument: Any) -> bytes:
    """One call of a hook, with its length. Raises: Nonsense, as `encode` does."""
    kind, plain = type(argument).__name__, argument
    if isinstance(argument, PrivateMessage):
        kind, plain = _PRIVATE + argument.topic, (argument.topic, argument.creation_ms, argument.rows)
    return _whole((number, hook, kind, plain))


def decode_call(data: bytes) -> tuple[int, str, Any]:
    """(number, hook, argument): the argument equal to the one that was encoded."""
    number, hook, kind, raw = _call.decode(data)
    argument = _ARGUMENTS[kind].decode(raw)
    if kind.startswith(_PRIVATE):
        topic, creation_ms, rows = argument
        argument = PrivateMessage(topic=topic, creation_ms=creation_ms, rows=rows)
    return number, hook, argument


def decode_load(data: bytes) -> Load:
    return _load.decode(data)


def decode_from_plugin(data: bytes) -> FromPlugin:
    """Raises: Nonsense."""
    try:
        return _from_plugin.decode(data)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Nonsense(str(exc)) from None


def verdict(alert: Alert) -> Verdict:
    return Verdict(
        alert.rule,
        alert.kind,
        alert.severity,
        alert.message,
        alert.metric,
        alert.value,
        alert.threshold,
        alert.since_ms,
    )


def alert_of(verdict: Verdict, tick: MetricsTick) -> Alert:
    """The alert again, about the tick we know."""
    fields = {name: getattr(verdict, name) for name in verdict.__struct_fields__}
    return Alert(tick=tick, **fields)


class Cutter:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole message; None: not here yet. Raises: Nonsense for one that is too long."""
        buffer = self._buffer
        if len(buffer) < _HEAD:
            return None
        size = int.from_bytes(buffer[:_HEAD], "big")
        if size > MAX_BYTES:
            raise Nonsense(f"a message of {size} bytes")
        if len(buffer) < _HEAD + size:
            return None
        message = bytes(buffer[_HEAD : _HEAD + size])
        del buffer[: _HEAD + size]
        return message
