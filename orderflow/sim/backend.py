"""What stands behind the sockets: a live market, a recording, a flood. The server knows only this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.core.types import Category, InstrumentId
    from orderflow.sim.feeds import Publisher, Sink
    from orderflow.sim.rest import Response
    from orderflow.sim.venue import Verdict

PRIVATE: Final = "private"
TRADE: Final = "trade"
"""Endpoint names beside the categories."""


class TrueBook(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's own book: (price text, size text), best first, trimmed decimal text."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    seq: int
    cts: int


class Backend(Protocol):
    """Pure: told the time, never waits."""

    patient: bool
    """True: never drop a slow client, wait for it (recordings at full speed, floods)."""

    def verdict(self, category: Category, topic: str) -> Verdict: ...

    def attach(self, endpoint: str, topic: str, sink: Sink, now_ms: int) -> Sequence[bytes]:
        """Subscribe; the messages this subscriber gets at once."""

    def detach(self, endpoint: str, topic: str, sink: Sink) -> None: ...

    def snapshot(self, endpoint: str, topic: str) -> bytes | None:
        """The window last published on a book topic, as a snapshot message; None where there is no such thing."""

    def step(self, now_ms: float) -> Iterable[tuple[Publisher, Sequence[bytes]]]:
        """Do the next piece of work that is due: messages per topic."""

    def next_ms(self) -> float:
        """When step() has work again; infinity: not before a client asks for something."""

    def halt(self, now_ms: float) -> bool:
        """Time passed in which nothing was done: go on from now. Returns: whether this backend can do so."""

    def respond(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, now_ns: int
    ) -> Response: ...

    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook: ...

    def set_paused(self, paused: bool) -> None: ...
