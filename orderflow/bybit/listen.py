"""Our side of a public connection that is only listened to, sans-IO: topics are kept subscribed, nothing is decoded.

For what is recorded beside the books: a second opinion on them (tickers, level 1), trades, liquidations. Nobody here
reads the data, so there are no snapshots to wait for; an ack that does not come is asked for again with everything else
on the next connection.

One owner drives it: call `data_to_send` after every other call, and `on_time` no later than `next_deadline_ns`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.bybit.heartbeat import Heartbeat
from orderflow.bybit.wire import WireReply
from orderflow.core.types import Category
from orderflow.core.units import seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.core.policy import LinkPolicy
    from orderflow.core.types import InstrumentId

_NEVER_NS: Final = 1 << 63
_DATA: Final = b'{"topic":"'
_NOT_ON_SPOT: Final = ("allLiquidation", "adlAlert", "insurance")
_reply: Final = msgspec.json.Decoder(WireReply, strict=False)


class ListenProtocol:
    """One connection of one category. Args: topics: whole, such as `tickers.BTCUSDT`."""

    def __init__(self, topics: Sequence[str], policy: LinkPolicy) -> None:
        self.topics = tuple(topics)
        self.frames = 0
        self.first_data_ns: int | None = None
        self.last_data_ns: int | None = None
        self._policy = policy
        self._requests: dict[str, str] = {}  # request -> topic: one each, because a bad one would fail its neighbours
        self._retry_ns: dict[str, int] = {}  # refused topics
        self._outbox: list[str] = []
        self._count = 0
        self._heartbeat = Heartbeat(policy)

    # --- in

    def opened(self, mono_ns: int) -> None:
        self._heartbeat.start(mono_ns)
        for topic in self.topics:
            self._subscribe(topic)

    def receive(self, messages: Iterable[bytes], mono_ns: int) -> list[tuple[str, str]]:
        """Every message of one socket read. Returns: (topic, the exchange's untrusted words) of refused topics."""
        self._heartbeat.last_frame_ns = mono_ns
        refused: list[tuple[str, str]] = []
        for raw in messages:
            self.frames += 1
            if raw.startswith(_DATA):
                self.first_data_ns = mono_ns if self.first_data_ns is None else self.first_data_ns
                self.last_data_ns = mono_ns
            else:
                refused += self._answer(raw, mono_ns)
        return refused

    def _answer(self, raw: bytes, mono_ns: int) -> list[tuple[str, str]]:
        try:
            reply = _reply.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return []  # recorded as it is, for whoever reads the recording
        if reply.ret_msg == "pong" or reply.op == "pong":
            self._heartbeat.pong()
            return []
        topic = self._requests.pop(str(reply.req_id or reply.reqId), None)
        if topic is None or not (reply.success is False or reply.retCode not in (None, 0)):
            return []
        self._retry_ns[topic] = mono_ns + seconds_to_ns(self._policy.refused_retry_s)
        return [(topic, reply.ret_msg or reply.retMsg)]

    # --- out

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._outbox)

    def data_to_send(self) -> list[str]:
        """Text frames to send now, in order; they are handed out once."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_deadline_ns(self) -> int:
        """When `on_time` must be called at the latest."""
        return min(self._heartbeat.due_ns, *self._retry_ns.values(), _NEVER_NS)

    def on_time(self, mono_ns: int) -> None:
        """Time passed: pings, and refused topics asked for again. Raises: HeartbeatLost (drop the link)."""
        if self._heartbeat.on_time(mono_ns):
            self._send({"req_id": self._request_id("p"), "op": "ping"})
        for topic in [topic for topic, due_ns in self._retry_ns.items() if mono_ns >= due_ns]:
            del self._retry_ns[topic]
            self._subscribe(topic)

    def forgive(self, mono_ns: int) -> None:
        """The whole process stood still until now: what the peer owes us gets its whole time again."""
        self._heartbeat.forgive(mono_ns)

    def _subscribe(self, topic: str) -> None:
        request_id = self._request_id("s")
        self._requests[request_id] = topic
        self._send({"req_id": request_id, "op": "subscribe", "args": [topic]})

    def _request_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _send(self, message: dict[str, object]) -> None:
        self._outbox.append(msgspec.json.encode(message).decode())


def plan_listening(
    instruments: Iterable[InstrumentId], kinds: Sequence[str], policy: LinkPolicy
) -> list[tuple[Category, list[str]]]:
    """Share topics out over connections, as `plan_links` does with books.

    Args: kinds: topics without their symbol: `tickers`, `orderbook.1`. What a category does not have is left out.
    """
    links: list[tuple[Category, list[str]]] = []
    room: dict[Category, tuple[list[str], int]] = {}
    for instrument in instruments:
        category = instrument.category
        for kind in kinds:
            if category is Category.SPOT and kind in _NOT_ON_SPOT:
                continue
            topic = f"{kind}.{instrument.symbol}"
            topics, used = room.get(category, ([], 0))
            if not topics or len(topics) >= policy.max_topics or used + len(topic) + 4 > policy.max_args_chars:
                topics, used = [], 0
                links.append((category, topics))
            topics.append(topic)
            room[category] = (topics, used + len(topic) + 3)
    return links
