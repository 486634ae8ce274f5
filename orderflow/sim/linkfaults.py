"""Faults of an open connection, whatever is being said on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from orderflow.sim.connection import text_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.sim.faultlist import Fault
    from orderflow.sim.faults import Peer

NOT_UTF8: Final = b"\x81\x06{\xff\xfe\xc0\xaf}"
RESERVED_OPCODE: Final = b"\x83\x02hi"
PING_STEP_S: Final = 0.02


class Timer(Protocol):
    """What takes time (FaultPlan)."""

    def at(self, delay_s: float, act: Callable[[], None]) -> None: ...

    def freeze(self, peer: Peer, seconds: float, *, deaf: bool) -> None: ...


def play_link_fault(peer: Peer, fault: Fault, timer: Timer) -> None:
    match fault.name:
        case "kick":
            _end(peer, fault.text("how"))
        case "reset" | "eof":
            _end(peer, fault.name)
        case "close":
            peer.say_close(int(fault.number("code")), fault.text("reason"), finish=True)
        case "goodbye":
            peer.say_close(int(fault.number("code")), "", finish=False)
        case "half-close":
            peer.half_close()
        case "torn":
            peer.tear(text_frame(b'{"topic":"orderbook.50.' + b"X" * 200 + b'"}'))
        case "stall" | "black-hole":
            timer.freeze(peer, fault.number("seconds"), deaf=fault.name == "stall")
        case "bad-utf8":
            peer.deliver("", NOT_UTF8)
        case "bad-frame":
            peer.deliver("", RESERVED_OPCODE)
        case "oversized":
            peer.deliver("", text_frame(b" " * int(fault.number("bytes"))))
        case "pings":
            _ping(peer, timer, fault.number("rate") * PING_STEP_S, fault.number("seconds"), 0.0)


def _end(peer: Peer, how: str) -> None:
    if how == "reset":
        peer.reset()
    elif how == "eof":
        peer.cut()
    else:
        peer.say_close(1001, "", finish=True)


def _ping(peer: Peer, timer: Timer, each_step: float, left_s: float, owed: float) -> None:
    """Some pings now, the rest later."""
    owed += each_step
    while owed >= 1:
        peer.ping()
        owed -= 1
    if left_s > 0:
        timer.at(PING_STEP_S, lambda: _ping(peer, timer, each_step, left_s - PING_STEP_S, owed))
