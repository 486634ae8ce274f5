"""The seam between what the venue says and what its sockets do: every fault goes here, none into the venue itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.sim.venue import Action


class Peer(Protocol):
    """What a fault may know of, and do to, a connected client."""

    @property
    def connection_id(self) -> str: ...

    @property
    def endpoint(self) -> str:
        """linear, inverse, spot, private or trade"""

    def cut(self) -> None:
        """Drop the connection without a close frame."""


class Refusal(msgspec.Struct, frozen=True):
    """An HTTP answer in place of a WebSocket upgrade or a REST response."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Faults:
    """Does nothing wrong. A subclass overrides what it wants to break and sets `active`."""

    active = False

    def refuse(self, target: str) -> Refusal | None:
        """Asked for each request head (WebSocket and REST)."""
        return None

    def actions(self, peer: Peer, actions: Sequence[Action]) -> Sequence[Action]:
        """Asked for each answer to a client's message: drop, delay, reorder or change it."""
        return actions

    def messages(self, peer: Peer, topic: str, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Asked for each push of a topic to one client, snapshot included: drop, repeat or change JSON texts."""
        return messages

    def clock_offset_ms(self) -> int:
        """Added to the exchange's clock wherever it is shown."""
        return 0
