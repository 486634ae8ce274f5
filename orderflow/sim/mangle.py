"""Book messages made wrong, or made up: pure functions from texts to texts.

A message is taken apart into plain dicts here and put together again, in the order of its keys.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

Levels = list[list[str]]
"""[price text, size text] each, as on the wire."""

NESTING: Final = 100_000
_STAMP: Final = re.compile(rb'("(?:ts|cts|T)":)([0-9]{13})\b')
_NUMBERS: Final = ("nan", "inf", "1e5", "1_000", " 1", "-1", "+1", "1.2.3", "", "\u0661", "0x10")
_CONTROL: Final = "\x1b[31mred\x07\u202e<b>"


def is_snapshot(raw: bytes) -> bool:
    return b'"type":"snapshot"' in raw[:200]


def read(raw: bytes) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(raw)
    return message


def write(message: Any) -> bytes:
    return msgspec.json.encode(message)


def delta(like: bytes, bids: Iterable[Iterable[str]], asks: Iterable[Iterable[str]], u: int) -> bytes:
    """A delta of the same topic and time as the message `like`, with these levels and this `u`."""
    message = read(like)
    message["type"] = "delta"
    message["data"] |= {"b": [list(level) for level in bids], "a": [list(level) for level in asks], "u": u}
    return write(message)


def renumbered(raw: bytes, u: int) -> bytes:
    message = read(raw)
    message["data"]["u"] = u
    return write(message)


def moved_in_time(raw: bytes, offset_ms: int) -> bytes:
    """Every timestamp of the exchange moved by so much."""
    return _STAMP.sub(lambda found: found[1] + b"%d" % (int(found[2]) + offset_ms), raw)


def foreign(raw: bytes, symbol: str) -> bytes:
    message = read(raw)
    message["data"]["s"] = symbol
    return write(message)


def with_extras(raw: bytes) -> bytes:
    """The same message with keys nobody knows."""
    message = read(raw)
    if isinstance(message.get("data"), dict):
        message["data"]["zzNew"] = {"of": ["2027", None]}
    return write({**message, "zzEnvelope": 1.5})


def frame_of_unknown_topic(ts: int) -> bytes:
    return write({"topic": "zzNew.1.BTCUSDT", "type": "snapshot", "ts": ts, "data": {"x": "1"}})


# --- corruptions ----------------------------------------------------------------------------------------------------


def corrupt(raw: bytes, how: str, rng: Random) -> bytes:
    """A message nobody can use, of one of `faultlist.CORRUPTIONS` ("any": drawn)."""
    name = rng.choice(list(_WAYS)) if how == "any" else how
    try:
        return _WAYS[name](raw, rng)
    except (KeyError, TypeError):  # not a book message: there is nothing in it to spoil that way
        return _cut_off(raw, rng)


def _cut_off(raw: bytes, rng: Random) -> bytes:
    return raw[: max(60, len(raw) // 2)] if len(raw) > 70 else raw[:-1]


def _wrong_types(raw: bytes, rng: Random) -> bytes:
    message = read(raw)
    message["data"]["b"] = {"price": True}
    return write(message)


def _no_numbers(raw: bytes, rng: Random) -> bytes:
    message = read(raw)
    message["data"]["b"] = [[rng.choice(_NUMBERS), "1"]]
    return write(message)


def _nan(raw: bytes, rng: Random) -> bytes:
    message = read(raw)
    message["data"]["a"] = [["NaN", "1"], ["1", "Infinity"]]
    return write(message)


def _huge(raw: bytes, rng: Random) -> bytes:
    message = read(raw)
    if rng.random() < 0.5:
        message["data"]["b"] = [["1" * 400, "1"]]
        return write(message)
    text: bytes = write(message)
    return text.replace(b'"u":', b'"u":9' + b"9" * 60, 1)


def _nested(raw: bytes, rng: Random) -> bytes:
    topic: bytes = read(raw)["topic"].encode()
    return b'{"topic":"' + topic + b'","type":"delta","ts":1,"data":' + b"[" * NESTING + b"]" * NESTING + b"}"


def _control(raw: bytes, rng: Random) -> bytes:
    message = read(raw)
    message["data"]["s"] = _CONTROL
    return write(message)


def _other_shape(raw: bytes, rng: Random) -> bytes:
    return rng.choice((b"[]", b"null", b'"hello"', b"17", b"[1,2", b"{}x", b"", b"true"))


def _missing(raw: bytes, rng: Random) -> bytes:
    message = read(raw)
    del message["data"][rng.choice(("u", "s", "b"))]
    return write(message)


_WAYS: Final[dict[str, Callable[[bytes, Random], bytes]]] = {
    "json": _cut_off,
    "types": _wrong_types,
    "nan": _nan,
    "number": _no_numbers,
    "huge": _huge,
    "nesting": _nested,
    "control": _control,
    "shape": _other_shape,
    "missing": _missing,
}


# --- what one client has been told of one topic -------------------------------------------------------------------


class Strand:
    """The way of one book topic to one client, while it differs from what the exchange publishes.

    `shift` is added to every `u` behind messages that were put in or left out of the count. `scars` are levels whose
    change was lost: nothing about them passes until a snapshot, so that no later message heals the loss. `bare` names
    the side of which nothing passes.
    """

    def __init__(self) -> None:
        self.shift = 0
        self.scars: set[tuple[str, str]] = set()
        self.bare = ""
        self.held: list[tuple[int, bytes]] = []  # (messages to let pass first, message)
        self.to_lose = 0  # so many more messages
        self.missing = 0  # messages that a client cannot have had
        self.hurt = False  # told something else that it must refuse, since the last snapshot
        self.life = 0  # grows with every snapshot
        self.told: bytes = b""  # the last message that passed

    @property
    def plain(self) -> bool:
        """Nothing of it differs from the original."""
        return not (self.shift or self.scars or self.bare or self.held or self.to_lose or self.missing)

    def renew(self) -> None:
        """A snapshot passes: the client knows the truth again."""
        self.shift = 0
        self.scars.clear()
        self.bare = ""
        self.held.clear()
        self.to_lose = self.missing = 0
        self.hurt = False
        self.life += 1

    def lose(self, raw: bytes) -> None:
        """This message will never arrive: neither shall the changes in it."""
        self.missing += 1
        try:
            data = read(raw)["data"]
            self.scars |= {(side, price) for side in ("b", "a") for price, _ in data[side]}
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            pass  # no book message: nothing that could be healed

    def carry(self, raw: bytes) -> bytes:
        """The message as this client gets it."""
        if is_snapshot(raw):
            self.renew()
        elif self.shift or self.scars or self.bare:
            raw = self._changed(raw)
        self.told = raw
        return raw

    def next_u(self) -> int:
        """The number a message put in behind the last gets; what follows is shifted by one."""
        self.shift += 1
        return int(read(self.told)["data"]["u"]) + 1

    def _changed(self, raw: bytes) -> bytes:
        message = read(raw)
        data = message["data"]
        for side in ("b", "a"):
            if self.bare == side:
                data[side] = []
            elif self.scars:
                data[side] = [level for level in data[side] if (side, level[0]) not in self.scars]
        data["u"] += self.shift
        return write(message)
