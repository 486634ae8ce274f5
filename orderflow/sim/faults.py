"""The seam between what the venue says and what its sockets do: every fault goes here, none into the venue itself.

`Faults` breaks nothing; `faultplan.FaultPlan` breaks what it is told to, `faultlist` names all there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from orderflow.sim.venue import Action


class Peer(Protocol):
    """What a fault may know of, and do to, a connected client. Nothing here waits."""

    @property
    def connection_id(self) -> str: ...

    @property
    def endpoint(self) -> str:
        """linear, inverse, spot, private or trade"""

    @property
    def topics(self) -> Container[str]:
        """What it is subscribed to."""

    @property
    def opened_s(self) -> float:
        """When it connected, on the server's monotonic clock."""

    def deliver(self, topic: str, frame: bytes) -> None:
        """Queue ready bytes behind what waits for this client already."""

    def cut(self) -> None:
        """Drop the connection without a close frame."""

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""

    def say_close(self, code: int, reason: str, *, finish: bool) -> None:
        """Send a close frame; `finish`: end as RFC 6455 has it, otherwise go on as if nothing had been said."""

    def half_close(self) -> None:
        """Send what waits, then end of stream; go on listening."""

    def tear(self, frame: bytes) -> None:
        """Send what waits and the first half of `frame`, then reset."""

    def freeze(self, *, deaf: bool) -> None:
        """Send nothing from now on. Deaf: take nothing in either; otherwise take it in and ignore it."""

    def thaw(self) -> None:
        """Send what has gathered, and listen again."""

    def ping(self) -> None:
        """Send one WebSocket ping."""


class Venue(Protocol):
    """The running server, as far as faults need it."""

    def clients(self) -> Sequence[Peer]: ...

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        """The window last published on a book topic, as a snapshot message; None where there is none."""

    def note(self, connection_id: str, event: str, **facts: Any) -> None:
        """One line for the log of what happens on connections."""


class Refusal(msgspec.Struct, frozen=True):
    """An HTTP answer in place of a WebSocket upgrade or a REST response."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Mishap(msgspec.Struct, frozen=True):
    """Something else than an answer: what `mishaps.play` does with the stream once a request head was read.

    Args: how: silent, drip, garbage, hangup, reset, delay; seconds: of one step, or of the delay; data: what is sent.
    """

    how: str
    seconds: float = 0.0
    data: bytes = b""


class Faults:
    """Does nothing wrong. A subclass overrides what it wants to break and sets `active`."""

    active: Any = False

    async def run(self, venue: Venue) -> None:
        """Runs beside the server, for what happens by itself and in time."""

    def certificate(self) -> str:
        """Asked for each TLS handshake: what shall be wrong (tls.OwnTls), "" for nothing."""
        return ""

    def refuse(self, target: str) -> Refusal | Mishap | None:
        """Asked for each request head (WebSocket and REST)."""
        return None

    def request(self, peer: Peer, text: str) -> Sequence[Action] | None:
        """Asked for each message of a client: an answer in the venue's place, which then never hears of it."""
        return None

    def actions(self, peer: Peer, actions: Sequence[Action]) -> Sequence[Action]:
        """Asked for each answer to a client's message: drop, delay, reorder or change it."""
        return actions

    def messages(self, peer: Peer, topic: str, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Asked for each push of a topic to one client, snapshot included: drop, repeat or change JSON texts."""
        return messages

    def forget(self, peer: Peer) -> None:
        """This client is gone."""

    def clock_offset_ms(self) -> int:
        """Added to the exchange's clock wherever it is shown."""
        return 0
