"""No link is blamed for what it did not do: each loss the monitor tells has its cause in the exchange's own log.

A program that was stopped or starved, or whose clock was set, is no cause: a loss that only this explains is a false
verdict. An exchange that was starved is one, of silence: whoever waits for it does not get an answer in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.core.types import LinkChanged
from orderflow.sim.faultlist import KINDS, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderflow.soak.ledger import Event, Ledger
    from orderflow.soak.pace import Pace
    from orderflow.soak.watched import Diary

_ENDS: Final = frozenset({"reset", "eof", "close", "half-close", "goodbye", "torn", "kick"})
_OPENINGS: Final = frozenset({"hangup", "reset-upgrade", "garbage", "silent", "drip", "http"})
_SILENCES: Final = frozenset({"stall", "black-hole", "pong-lost", "pong-late"})
_TOPICS: Final = frozenset(name for name, it in KINDS.items() if it.stage in (Stage.TOPIC, Stage.BOOK, Stage.REPLY))

CAUSES: Final[dict[str, tuple[frozenset[str], float]]] = {
    "reset": (_ENDS | _OPENINGS, 5.0),
    "eof": (_ENDS | _OPENINGS, 5.0),
    "closed": (_ENDS | _OPENINGS | {"certificate"}, 5.0),
    "protocol": (frozenset({"bad-utf8", "bad-frame", "oversized"}), 5.0),
    "pong": (_SILENCES, 8.0),
    "idle": (_SILENCES, 8.0),
    "send": (_SILENCES | _ENDS, 20.0),
    "timeout": (frozenset({"silent", "drip"}) | _SILENCES, 5.0),
    "status": (frozenset({"http"}), 5.0),
    "garbage": (frozenset({"garbage"}), 5.0),
    "tls": (frozenset({"certificate"}), 5.0),
    "snapshot": (_TOPICS | _SILENCES, 15.0),
    "unstable": (_TOPICS | _SILENCES, 75.0),
    "overrun": (frozenset({"flood", "stall"}), 10.0),
}
"""Reason of a loss -> (faults that bring it about, how many seconds before at most)."""


_SILENT: Final = frozenset({"pong", "idle", "timeout", "snapshot", "send"})
_STARVED_S: Final = 0.2  # of the last ...
_DEADLINE_S: Final = 3.0


def unexplained(
    ledger: Ledger, depth: str, diary: Diary, pace: Pace, exchange: Pace, began_s: float, ended_s: float
) -> Iterator[str]:
    """Losses without a cause between these times.

    Args: depth: what tells this program's connections from the others'; pace: of the program; exchange: of that.
    """
    for at_s, change in diary.changes:
        if not isinstance(change, LinkChanged) or change.state != "down" or not began_s <= at_s <= ended_s:
            continue
        names, window_s = CAUSES.get(change.reason, (frozenset(), 0.0))
        since_s = at_s - window_s - pace.lost_s(at_s - window_s, at_s)
        before = [
            it for it in ledger.troubles if it.ts / 1000 <= at_s + 0.1 and _concerns(ledger, it, change.link, depth)
        ]
        starved = change.reason in _SILENT and exchange.lost_s(at_s - _DEADLINE_S, at_s) >= _STARVED_S
        if not starved and not any(it.name in names and it.ts / 1000 >= since_s for it in before):
            last = ", ".join(f"{it.name} {at_s - it.ts / 1000:.1f} s before" for it in before[-3:])
            where = f"{change.link} depth {depth} at {at_s:.1f}: down with {change.reason} without a cause"
            lost = (
                f"of 5 s it lost {pace.lost_s(at_s - 5, at_s):.2f}, the exchange {exchange.lost_s(at_s - 5, at_s):.2f}"
            )
            yield f"{where} (before it: {last or 'nothing'}; {lost}; {change.detail})"


def _concerns(ledger: Ledger, trouble: Event, link: str, depth: str) -> bool:
    """Whether it happened to this program's link; what happens before a connection has a name may be anybody's."""
    connection = ledger.connections.get(trouble.conn)
    if connection is None:
        return True
    return connection.endpoint in ("", link) and (not connection.depths or depth in connection.depths)
