"""No link is blamed for what it did not do: each loss the monitor tells has its cause in the exchange's own log.

A program that was stopped or starved, or whose clock was set, is no cause: a loss that only this explains is a false
verdict, unless the program says itself that it was to blame. An exchange that was starved is one, of silence: whoever
waits for it does not get an answer in time.
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
_OWN: Final = "stall"
_STARVED: Final = {  # reason -> (how many seconds before, of so many of them in a row, so many lost)
    **dict.fromkeys(_SILENT, (3.0, 0.75, 0.25)),  # in the shortest of these deadlines an answer may be late by that
    "unstable": (75.0, 1.5, 0.75),  # books that were silent for long are probed again and again
    _OWN: (65.0, 1.0, 0.4),
}


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
        since_s = min(pace.before(at_s, window_s), exchange.before(at_s, window_s))
        lately = ledger.troubles_between(since_s, at_s + 0.1)
        if any(it.name in names and _concerns(ledger, it, change.link, depth) for it in lately):
            continue
        if not _starved(change.reason, pace, exchange, at_s):
            before = [
                it for it in ledger.troubles_between(0.0, at_s + 0.1) if _concerns(ledger, it, change.link, depth)
            ]
            last = ", ".join(f"{it.name} {at_s - it.ts / 1000:.1f} s before" for it in before[-3:])
            where = f"{change.link} depth {depth} at {at_s:.1f}: down with {change.reason} without a cause"
            lost = (
                f"of 5 s it lost {pace.lost_s(at_s - 5, at_s):.2f}, the exchange {exchange.lost_s(at_s - 5, at_s):.2f}"
            )
            yield f"{where} (before it: {last or 'nothing'}; {lost}; {change.detail})"


def _starved(reason: str, pace: Pace, exchange: Pace, at_s: float) -> bool:
    """Whether an exchange that could not run brought it about; or the program itself, where it says so."""
    if reason not in _STARVED:
        return False
    deadline_s, row_s, lost_s = _STARVED[reason]
    whose = pace if reason == _OWN else exchange
    return whose.worst_s(pace.before(at_s, deadline_s), at_s, row_s) >= lost_s


def _concerns(ledger: Ledger, trouble: Event, link: str, depth: str) -> bool:
    """Whether it happened to this program's link; what happens before a connection has a name may be anybody's."""
    connection = ledger.connections.get(trouble.conn)
    if connection is None:
        return True
    return connection.endpoint in ("", link) and (not connection.depths or depth in connection.depths)
