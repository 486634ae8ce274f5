"""The exchange's side of `/v5/private`, sans-IO: auth, subscriptions in both forms, pong, the idle cut."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from orderflow.bybit.signing import verify_ws_auth
from orderflow.sim.venue import Action, Attach, Detach, Request, Send, decode_request, wire

if TYPE_CHECKING:
    from collections.abc import Mapping

Keys = dict[str, str]
"""API key -> HMAC secret, or an RSA public key in PEM form."""

DEFAULT_KEYS: Final[Mapping[str, str]] = {"simKey0001": "simSecret-abcdefghijklmnop"}

FORMS: Final[Mapping[str, tuple[str, ...]]] = {
    "order": ("spot", "linear", "inverse", "option"),
    "execution": ("spot", "linear", "inverse", "option"),
    "execution.fast": ("spot", "linear", "inverse", "option"),
    "position": ("linear", "inverse", "option"),
    "wallet": (),
    "greeks": (),
}
"""Topics of a private connection and the categories each can be narrowed to. `greeks` never says anything here."""

TOPICS: Final = frozenset(FORMS) | {f"{name}.{category}" for name, cats in FORMS.items() for category in cats}
DCP_TOPICS: Final = frozenset({"dcp.future", "dcp.spot", "dcp.option"})  # accepted; they never carry data
DEFAULT_ACTIVE_S: Final = 600.0
SHORTEST_ACTIVE_S: Final = 30.0
NOT_AUTHORIZED: Final = "Request not authorized"  # Bybit's own words are not known


def active_time_s(text: str) -> float:
    """`max_active_time` of the URL (`30s` to `600s`, `1m`); anything else is the default of 10 minutes."""
    match = re.fullmatch(r"([0-9]{1,3})([sm])", text, re.ASCII)
    if match is None:
        return DEFAULT_ACTIVE_S
    seconds = float(match[1]) * (60 if match[2] == "m" else 1)
    return seconds if SHORTEST_ACTIVE_S <= seconds <= DEFAULT_ACTIVE_S else DEFAULT_ACTIVE_S


def family(topic: str) -> str:
    """`order.linear` and `order` are one family: they exclude each other."""
    return topic if topic in FORMS or topic in DCP_TOPICS else topic.rpartition(".")[0]


class PrivateSession:
    """One connection to `/v5/private`.

    Args:
        keys: who may come in.
        connection_id: opaque text of this connection.
        active_s: neither a request nor a message for this long, and the connection is cut.
        now_ms: exchange time at which it opened.
    """

    def __init__(self, keys: Mapping[str, str], connection_id: str, active_s: float, now_ms: int) -> None:
        self.topics: dict[str, None] = {}
        self.active_ms = now_ms
        self.api_key: str | None = None
        self._keys = keys
        self._connection_id = connection_id
        self._active_s = active_s

    def receive(self, text: str, now_ms: int) -> list[Action]:
        """Answer one client message (see venue.Session)."""
        self.active_ms = now_ms
        request = decode_request(text)
        if isinstance(request, str):
            return [self._reply(Request(), success=False, text=f"Failed to decode incoming data:{request}")]
        match request.op:
            case "ping":
                return [self._pong(request, now_ms)]
            case "auth":
                return [self._auth(request, now_ms)]
            case "subscribe" | "unsubscribe" if self.api_key is None:
                return [self._reply(request, success=False, text=NOT_AUTHORIZED)]
            case "subscribe":
                return self._subscribe(request)
            case "unsubscribe":
                return self._unsubscribe(request)
            case _:
                return [self._reply(request, success=False, text="error:invalid op")]

    def expired(self, now_ms: int) -> bool:
        return now_ms - self.active_ms > self._active_s * 1000

    def _pong(self, request: Request, now_ms: int) -> Send:
        given = request.request_id()
        head: dict[str, Any] = {} if given is None else {"req_id": given}
        return Send(wire({**head, "op": "pong", "args": [str(now_ms)], "conn_id": self._connection_id}))

    def _auth(self, request: Request, now_ms: int) -> Send:
        key = verify_ws_auth(request.args, self._keys.get, now_ms)
        if key is None:
            return self._reply(request, success=False, text="Params Error")
        self.api_key = key
        return self._reply(request, success=True, text="")

    def _subscribe(self, request: Request) -> list[Action]:
        """The good topics are subscribed even when others in the request are bad."""
        good, bad = [], []
        families = {family(topic) for topic in self.topics}
        for topic in request.args or []:
            known = isinstance(topic, str) and (topic in TOPICS or topic in DCP_TOPICS)
            if not known or family(topic) in families:
                bad.append(str(topic))
                continue
            families.add(family(topic))
            good.append(topic)
        self.topics.update(dict.fromkeys(good))
        if not bad and good:
            return [*map(Attach, good), self._reply(request, success=True, text="")]
        return [*map(Attach, good), self._reply(request, success=False, text=_partial(good, bad))]

    def _unsubscribe(self, request: Request) -> list[Action]:
        held = [topic for topic in request.args or [] if isinstance(topic, str) and topic in self.topics]
        for topic in held:
            self.topics.pop(topic, None)
        return [*map(Detach, held), self._reply(request, success=True, text="")]

    def _reply(self, request: Request, *, success: bool, text: str) -> Send:
        message: dict[str, Any] = {
            "success": success,
            "ret_msg": text,
            "op": request.op,
            "conn_id": self._connection_id,
        }
        if request.request_id() is not None:
            message["req_id"] = request.request_id()
        return Send(wire(message))


def _partial(good: list[str], bad: list[str]) -> str:
    return (
        "Batch subscription partially succeeded and partially failed.Successful subscriptions are as follows:"
        f"[{','.join(good)}]. Subscription to the following topics failed because the topic does not exist or there is"
        f" a subscription conflict:[{','.join(bad)}]."
    )
