"""The faults that are armed, and their opportunities: what `SimServer` asks on the way of every message.

Arm with `add`, by `orderflow sim --fault`, or over the control port; `faultlist` has the names. What happens is noted
in the server's log: `fault` (its name, number, topic) and `gap` (a client was shown a jump in `u` that it must detect).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from orderflow.core.types import Category
from orderflow.sim import mishaps
from orderflow.sim.bookfaults import BookFaults
from orderflow.sim.faultlist import Armed, Fault, Stage
from orderflow.sim.faults import Faults, Mishap, Refusal
from orderflow.sim.linkfaults import play_link_fault
from orderflow.sim.mangle import Strand, frame_of_unknown_topic, is_snapshot, moved_in_time, with_extras
from orderflow.sim.venue import Dialect, Send, Verdict, Wait, decode_request, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orderflow.sim.faults import Peer, Venue
    from orderflow.sim.venue import Action

POLL_S: Final = 0.02
KEPT: Final = 100  # faults that are over, for those who ask
PUBLIC: Final = tuple(category.value for category in Category)


class FaultState(msgspec.Struct, frozen=True, kw_only=True):
    """One fault as the control port shows it."""

    number: int
    fault: str
    state: str  # armed, over
    seen: int
    fired: int


class FaultPlan(Faults):
    """Plays faults. Args: faults: armed when the server starts; rng: of those without a seed of their own."""

    def __init__(self, faults: Iterable[Fault] = (), rng: random.Random | None = None) -> None:
        self._first = list(faults)
        self._rng = rng or random.Random(0)
        self._numbers = itertools.count(1)
        self._armed: dict[int, Armed] = {}
        self._over: deque[Armed] = deque(maxlen=KEPT)
        self._strands: dict[tuple[Peer, str], Strand] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._frozen: dict[Peer, None] = {}
        self._wake = trio.Event()
        self._venue: Venue | None = None
        self._books = BookFaults(self.at, self._snapshot)
        self.counts: dict[str, int] = {}
        """How often each fault has happened."""

    # --- arming

    @property
    def active(self) -> bool:
        return bool(self._armed or self._later or self._strands or self._first)

    def add(self, fault: Fault) -> int:
        """Arm a fault of the running server; returns its number."""
        number = next(self._numbers)
        self._armed[number] = Armed(number, fault, trio.current_time(), random.Random(fault.seed or self._rng.random()))
        self._wake.set()
        return number

    def remove(self, number: int) -> bool:
        """Disarm one; what it did already stays done. False: there is none of this number."""
        armed = self._armed.pop(number, None)
        if armed is not None:
            self._over.append(armed)
        return armed is not None

    def clear(self) -> None:
        """Disarm all, and let frozen connections go on. Changes that were lost stay lost: clients must recover."""
        for number in list(self._armed):
            self.remove(number)
        for peer in list(self._frozen):
            self._thaw(peer)

    def planted(self, endpoint: str, topic: str) -> bool:
        """Whether some client is being told of a level that could be true and is not: what it sees proves nothing."""
        return bool(self._books.planted.get((endpoint, topic)))

    def listing(self) -> list[FaultState]:
        """Those that are over first."""
        groups = (("over", list(self._over)), ("armed", list(self._armed.values())))
        return [
            FaultState(number=it.number, fault=str(it.fault), state=state, seen=it.seen, fired=it.fired)
            for state, group in groups
            for it in group
        ]

    # --- time

    async def run(self, venue: Venue) -> None:
        self._venue = venue
        for fault in self._first:
            self.add(fault)
        self._first = []
        while True:
            self._wake = trio.Event()
            now_s = trio.current_time()
            while self._later and self._later[0][0] <= now_s:
                heapq.heappop(self._later)[2]()
            self._play_links(venue, now_s)
            self._drop_finished(now_s)
            with trio.move_on_at(self._next_s(now_s)):
                await self._wake.wait()

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._later, (trio.current_time() + delay_s, next(self._ticket), act))
        self._wake.set()

    def _next_s(self, now_s: float) -> float:
        due_s = self._later[0][0] if self._later else float("inf")
        return min(due_s, now_s + POLL_S) if self._armed else due_s

    def _drop_finished(self, now_s: float) -> None:
        for number, armed in list(self._armed.items()):
            if armed.over(now_s):
                self.remove(number)
        if not self._armed and not self._later:
            self._strands = {key: strand for key, strand in self._strands.items() if not strand.plain}

    def _happening(self, stage: Stage, endpoint: str, topic: str = "", peer: Peer | None = None) -> list[Armed]:
        """Armed faults of a stage that could happen here and now."""
        connection_id = peer.connection_id if peer is not None else ""
        return [
            armed
            for armed in self._armed.values()
            if armed.fault.kind.stage is stage and armed.fault.covers(endpoint, topic, connection_id)
        ]

    def _first_to_fire(self, stage: Stage, endpoint: str, topic: str = "", peer: Peer | None = None) -> Armed | None:
        if not self._armed:
            return None
        now_s = trio.current_time()
        for armed in self._happening(stage, endpoint, topic, peer):
            if armed.fires(now_s):
                self._tell(armed, peer, topic)
                return armed
        return None

    def _tell(self, armed: Armed, peer: Peer | None, topic: str = "", **facts: Any) -> None:
        name = armed.fault.name
        self.counts[name] = self.counts.get(name, 0) + 1
        if self._venue is not None:
            connection_id = peer.connection_id if peer is not None else ""
            self._venue.note(connection_id, "fault", name=name, number=armed.number, topic=topic, **facts)

    # --- TLS, opening and REST

    def certificate(self) -> str:
        armed = self._first_to_fire(Stage.TLS, "")
        return "" if armed is None else armed.fault.text("how")

    def refuse(self, target: str) -> Refusal | Mishap | None:
        path = target.partition("?")[0]
        endpoint = path.rpartition("/")[2]
        is_socket = path.startswith("/v5/public/") or path in ("/v5/private", "/v5/trade")
        armed = self._first_to_fire(Stage.OPENING, endpoint) if is_socket else self._first_to_fire(Stage.REST, "", path)
        return None if armed is None else _botch(armed.fault)

    def clock_offset_ms(self) -> int:
        if not self._armed:
            return 0
        now_s = trio.current_time()
        clocks = [armed for armed in self._happening(Stage.CLOCK, "") if armed.open(now_s)]
        return round(sum(armed.fault.number("offset") for armed in clocks) * 1000)

    # --- links

    def _play_links(self, venue: Venue, now_s: float) -> None:
        for armed in [armed for armed in self._armed.values() if armed.fault.kind.stage is Stage.LINK]:
            fault = armed.fault
            peers = [peer for peer in venue.clients() if fault.covers(peer.endpoint, "", peer.connection_id)]
            if fault.name == "kick":
                peers = [peer for peer in peers if now_s - peer.opened_s >= fault.number("delay")]
            if peers and armed.fires(now_s):
                for peer in peers:
                    self._tell(armed, peer)
                    play_link_fault(peer, fault, self)

    def freeze(self, peer: Peer, seconds: float, *, deaf: bool) -> None:
        """Freeze a connection for so many seconds."""
        peer.freeze(deaf=deaf)
        self._frozen[peer] = None
        self.at(seconds, lambda: self._thaw(peer))

    def _thaw(self, peer: Peer) -> None:
        if peer in self._frozen:
            del self._frozen[peer]
            peer.thaw()

    def forget(self, peer: Peer) -> None:
        self._frozen.pop(peer, None)
        for key in [key for key in self._strands if key[0] is peer]:
            del self._strands[key]

    # --- replies

    def request(self, peer: Peer, text: str) -> Sequence[Action] | None:
        if peer.endpoint not in PUBLIC or not any(armed.fault.name == "refuse" for armed in self._armed.values()):
            return None
        request = decode_request(text)
        if isinstance(request, str) or request.op != "subscribe":
            return None
        dialect = Dialect(Category(peer.endpoint), peer.connection_id)
        for topic in map(str, request.args or ()):
            armed = self._fires_by_name("refuse", peer, topic)
            if armed is not None:
                said = armed.fault.text("text") or dialect.unknown(topic, Verdict.NO_HANDLER)
                return [dialect.refused(request, said)]
        return None

    def actions(self, peer: Peer, actions: Sequence[Action]) -> Sequence[Action]:
        kept: list[Action] = []
        late: list[tuple[float, Action]] = []
        for action in actions:
            if not isinstance(action, Send):
                kept.append(action)
                continue
            what = "pong" if b'"pong"' in action.text else "ack"
            armed = self._fires_by_name(f"{what}-lost", peer) or self._fires_by_name(f"{what}-late", peer)
            if armed is None:
                foreign = self._fires_by_name("ack-foreign", peer) if what == "ack" else None
                kept.append(_foreign_ack(action) if foreign else action)
            elif armed.fault.name.endswith("-late"):
                late.append((armed.fault.number("delay"), action))
        return [*kept, *(part for delay_s, action in late for part in (Wait(delay_s), action))]

    def _fires_by_name(self, name: str, peer: Peer, topic: str = "") -> Armed | None:
        now_s = trio.current_time()
        for armed in self._happening(Stage.REPLY, peer.endpoint, topic, peer):
            if armed.fault.name == name and armed.fires(now_s):
                self._tell(armed, peer, topic)
                return armed
        return None

    # --- pushed messages

    def messages(self, peer: Peer, topic: str, messages: Sequence[bytes]) -> Sequence[bytes]:
        if not peer.connection_id:
            return messages  # one of our own that only looks on
        strand = self._strands.setdefault((peer, topic), Strand())
        out = [told for raw in messages for told in self._pass_on(peer, topic, strand, raw)]
        offset_ms = self.clock_offset_ms()
        if offset_ms:
            out = [moved_in_time(raw, offset_ms) for raw in out]
        if strand.plain and not self._armed and not self._later:
            del self._strands[peer, topic]
        return out

    def _pass_on(self, peer: Peer, topic: str, strand: Strand, raw: bytes) -> list[bytes]:
        first = is_snapshot(raw) and not topic.startswith("orderbook.1.")
        muted = self._muted(peer, topic, first=first)
        if muted or (strand.to_lose and not first):
            strand.to_lose = max(0, strand.to_lose - 1)
            strand.lose(raw)
            return []
        armed = None if first else self._first_to_fire(Stage.BOOK, peer.endpoint, topic, peer)
        if armed is not None:
            out = self._books.play(armed.fault, peer, topic, strand, raw)
        else:
            self._note_gap(peer, topic, strand, first=first)
            out = [strand.carry(raw), *_let_go(strand)]
        if self._fires_here("extra", peer, topic):
            out = [part for told in out for part in (frame_of_unknown_topic(0), _extended(told))]
        return out

    def _muted(self, peer: Peer, topic: str, *, first: bool) -> bool:
        """Nothing of this topic, or at least not this snapshot, shall pass."""
        return self._fires_here("mute", peer, topic) or (first and self._fires_here("no-snapshot", peer, topic))

    def _fires_here(self, name: str, peer: Peer, topic: str) -> bool:
        now_s = trio.current_time()
        for armed in self._happening(Stage.TOPIC, peer.endpoint, topic, peer):
            if armed.fault.name == name and armed.fires(now_s):
                if armed.hits_first(peer.connection_id, topic) or name == "no-snapshot":
                    self._tell(armed, peer, topic)
                return True
        return False

    def _note_gap(self, peer: Peer, topic: str, strand: Strand, *, first: bool) -> None:
        """A message passes behind lost ones: from its `u` the client must see that it missed some."""
        if strand.missing and not first and not strand.hurt and self._venue is not None:
            self._venue.note(peer.connection_id, "gap", topic=topic, lost=strand.missing)
            strand.hurt = True
        strand.missing = 0

    def _snapshot(self, peer: Peer, topic: str) -> bytes | None:
        return None if self._venue is None else self._venue.snapshot(peer.endpoint, topic)


def _let_go(strand: Strand) -> list[bytes]:
    """Held messages whose turn has come."""
    if not strand.held:
        return []
    strand.held = [(left - 1, raw) for left, raw in strand.held]
    due = [raw for left, raw in strand.held if left <= 0]
    strand.held = [(left, raw) for left, raw in strand.held if left > 0]
    return due


def _extended(raw: bytes) -> bytes:
    try:
        return with_extras(raw)
    except (msgspec.DecodeError, AttributeError, RecursionError):
        return raw  # one that another fault has spoilt already


def _foreign_ack(action: Send) -> Send:
    reply = msgspec.json.decode(action.text)
    return Send(wire({**reply, "req_id": f"zz{reply.get('req_id', '')}"}))


def _botch(fault: Fault) -> Refusal | Mishap:
    match fault.name:
        case "http" | "rest-http":
            headers = []
            if fault.number("retry_after"):
                headers.append(("Retry-After", f"{fault.number('retry_after'):g}"))
            if fault.name == "http" and fault.text("location"):
                headers.append(("Location", fault.text("location")))
            return Refusal(int(fault.number("status")), tuple(headers))
        case "garbage":
            return Mishap("garbage", data=mishaps.garbage(int(fault.number("bytes")), fault.seed))
        case "drip":
            return Mishap("drip", fault.number("seconds"))
        case "rest-slow":
            return Mishap("delay", fault.number("delay"))
        case "rest-garbage":
            return Refusal(200, (("Content-Type", "application/json"),), b'{"retCode":0,"result":[[[nan')
        case "reset-upgrade":
            return Mishap("reset")
        case "silent":
            return Mishap("silent")
        case _:
            return Mishap("hangup")
