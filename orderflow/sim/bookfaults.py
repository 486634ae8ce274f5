"""Faults of book messages: lost, repeated, spoilt, made up. What is made up is undone, or healed by a snapshot."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from orderflow.sim import mangle
from orderflow.sim.connection import text_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.sim.faultlist import Fault
    from orderflow.sim.faults import Peer
    from orderflow.sim.mangle import Strand

MARGIN: Final = 10  # worst levels put aside while a level stands that is not the exchange's
FLOOD_STEP_S: Final = 0.01
UNDONE_S: Final = 0.5  # what undoes it has reached every client


class BookFaults:
    """Args: at: do something after so many seconds; snapshot: of a topic as published last, or None."""

    def __init__(
        self, at: Callable[[float, Callable[[], None]], None], snapshot: Callable[[Peer, str], bytes | None]
    ) -> None:
        self._at = at
        self._snapshot = snapshot
        self.planted: dict[tuple[str, str], int] = {}
        """(endpoint, topic) -> how many levels stand in it now that are not the exchange's and look as if they were."""
        self._rng = random.Random(0)

    def play(self, fault: Fault, peer: Peer, topic: str, strand: Strand, raw: bytes) -> list[bytes]:
        """What this client gets in place of the message `raw`, the newest of its topic."""
        match fault.name:
            case "drop":
                strand.to_lose = int(fault.number("count")) - 1
                strand.lose(raw)
                return []
            case "duplicate":
                told = strand.carry(raw)
                return [told, told]
            case "late":
                told = strand.carry(raw)
                strand.held.append((int(fault.number("count")), told))
                return [told]
            case "reorder":
                strand.held.append((1, strand.carry(raw)))
                strand.missing += 1
                return []
            case "corrupt":
                return self._spoilt(strand, raw, mangle.corrupt(raw, fault.text("how"), self._rng))
            case "foreign" if topic.startswith("orderbook."):
                return self._spoilt(strand, raw, mangle.foreign(raw, fault.text("symbol")))
            case "restart-delta" if topic.startswith("orderbook."):
                return self._spoilt(strand, raw, mangle.renumbered(raw, 1))
        return self._with_book(fault, peer, topic, strand, raw)

    @staticmethod
    def _spoilt(strand: Strand, raw: bytes, instead: bytes) -> list[bytes]:
        strand.lose(raw)
        strand.hurt = True
        return [instead]

    def _with_book(self, fault: Fault, peer: Peer, topic: str, strand: Strand, raw: bytes) -> list[bytes]:
        """Faults that need to know the whole book."""
        snapshot = None if topic.startswith("orderbook.1.") else self._snapshot(peer, topic)
        if snapshot is None or not mangle.read(snapshot)["data"]["b"] or not mangle.read(snapshot)["data"]["a"]:
            return [strand.carry(raw)]
        told = strand.carry(raw)
        match fault.name:
            case "resnapshot":
                return [strand.carry(snapshot)]
            case "restart":
                restarted = strand.carry(mangle.renumbered(snapshot, 1))
                strand.shift = 1 - int(mangle.read(snapshot)["data"]["u"])
                return [restarted]
            case "empty-side":
                return [self._emptied(fault, peer, topic, strand, snapshot)]
            case "unknown-delete":
                lowest = _smallest(mangle.read(snapshot)["data"]["b"][0][0], 1)
                return [told, self._put_in(strand, [[lowest, "0"]])]
            case "overfull":
                strand.hurt = True
                return [told, self._put_in(strand, _too_many(mangle.read(snapshot), topic, int(fault.number("count"))))]
            case "flood":
                life = strand.life  # the flood comes behind this message
                self._at(0.0, lambda: self._flood(fault, peer, topic, strand, fault.number("seconds"), life))
                return [told]
            case _:
                return [told, self._crossed(fault, peer, topic, strand, mangle.read(snapshot)["data"])]

    @staticmethod
    def _put_in(strand: Strand, bids: mangle.Levels) -> bytes:
        """One more delta behind the last, which everything after it is counted on from."""
        like = strand.told
        strand.told = mangle.delta(like, bids, [], strand.next_u())
        return strand.told

    def _plant(self, key: tuple[str, str], count: int) -> None:
        self.planted[key] = self.planted.get(key, 0) + count

    def _later(self, peer: Peer, topic: str, strand: Strand, delay_s: float, make: Callable[[], bytes | None]) -> None:
        """Send one more message after a while, unless a snapshot has made it pointless."""
        life = strand.life

        def send() -> None:
            if strand.life == life and topic in peer.topics:
                message = make()
                if message is not None:
                    peer.deliver(topic, text_frame(message))

        self._at(delay_s, send)

    # --- made-up books

    def _crossed(self, fault: Fault, peer: Peer, topic: str, strand: Strand, book: dict[str, Any]) -> bytes:
        """Put a bid at or above the best ask. Some of the worst bids go, so that the depth is kept meanwhile."""
        asks, bids = book["a"], book["b"]
        price = asks[0][0] if fault.name == "lock" else asks[min(1, len(asks) - 1)][0]
        if fault.name == "cross" and len(asks) == 1:
            return self._put_in(strand, [])
        aside = [level[0] for level in bids[max(1, len(bids) - MARGIN) :]]
        depth = int(topic.split(".")[1])
        if len(bids) < depth:
            aside = aside[: max(0, len(bids) + MARGIN - depth)]

        def undo() -> bytes | None:
            snapshot = self._snapshot(peer, topic)
            if snapshot is None:
                return None
            now = dict(mangle.read(snapshot)["data"]["b"])
            levels = [[at, now[at]] for at in aside if at in now]
            return self._put_in(strand, [[price, now.get(price, "0")], *levels])

        strand.hurt = True  # should it last, the client refuses the book
        key, seconds = (peer.endpoint, topic), fault.number("seconds")
        self._plant(key, 1)
        self._later(peer, topic, strand, seconds, undo)
        self._at(seconds + UNDONE_S, lambda: self._plant(key, -1))
        return self._put_in(strand, [[price, asks[0][1]], *([at, "0"] for at in aside)])

    def _emptied(self, fault: Fault, peer: Peer, topic: str, strand: Strand, snapshot: bytes) -> bytes:
        side = "b" if fault.text("side") == "bids" else "a"
        message = mangle.read(snapshot)
        message["data"][side] = []
        told = strand.carry(mangle.write(message))
        strand.bare = side

        def fill() -> bytes | None:
            whole = self._snapshot(peer, topic)
            return None if whole is None else strand.carry(whole)

        self._later(peer, topic, strand, fault.number("seconds"), fill)
        return told

    def _flood(self, fault: Fault, peer: Peer, topic: str, strand: Strand, left_s: float, life: int) -> None:
        """Deltas that state the best bid again, some now, the rest later."""
        snapshot = self._snapshot(peer, topic)
        if strand.life != life or topic not in peer.topics or snapshot is None:
            return
        if not strand.missing:  # else it would fill the hole in the numbering with something else
            best = mangle.read(snapshot)["data"]["b"][:1]
            count = round(fault.number("rate") * FLOOD_STEP_S)
            peer.deliver(topic, b"".join([text_frame(self._put_in(strand, best)) for _ in range(count)]))
        if left_s > 0:
            self._at(FLOOD_STEP_S, lambda: self._flood(fault, peer, topic, strand, left_s - FLOOD_STEP_S, life))


def _smallest(like: str, steps: int) -> str:
    """A price text with the decimals of another, far below any book."""
    _, dot, fraction = like.partition(".")
    if not dot:
        return str(steps)
    return f"0.{str(steps).rjust(len(fraction), '0')}"


def _too_many(message: dict[str, Any], topic: str, count: int) -> mangle.Levels:
    bids = message["data"]["b"]
    missing = max(0, int(topic.split(".")[1]) - len(bids))
    return [[_smallest(bids[0][0], step), "1"] for step in range(1, missing + count + 1)]
