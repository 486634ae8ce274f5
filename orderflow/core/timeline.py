"""What happened to one topic, in the order of time, in memory that does not grow with the recording."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from orderflow.core.figures import NO_GAPS, Cause, GapSeen, Stretch
from orderflow.core.quality import RECORDER_REASON, UNRECORDED_REASON, cause_of
from orderflow.core.types import LIVE, BookState
from orderflow.core.units import NS

if TYPE_CHECKING:
    from collections.abc import Iterable

UNRECORDED: Final = "unrecorded"
WORST_LAST: Final = (
    *(BookState.LIVE.value, BookState.SYNCING.value, BookState.STALE.value, BookState.SUSPECT.value),
    *(BookState.EMPTY.value, BookState.CLOSED.value, UNRECORDED),
)
"""The states of a timeline; where several fall together, the last of them here is shown."""
_BADNESS: Final = {state: number for number, state in enumerate(WORST_LAST)}
_MS: Final = 1_000_000


class _Piece(NamedTuple):
    state: str
    from_ns: int
    to_ns: int
    parts: int
    lost_ns: int

    def join(self, other: _Piece) -> _Piece:
        state = max(self.state, other.state, key=_BADNESS.__getitem__)
        return _Piece(state, self.from_ns, other.to_ns, self.parts + other.parts, self.lost_ns + other.lost_ns)


class Timeline:
    """Stretches of states, at most `limit` of them: when there are more, short neighbours become one."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 8)
        self._pieces: list[_Piece] = []

    def add(self, state: str, from_ns: int, to_ns: int) -> None:
        """The next stretch; one that took no time does not show."""
        if from_ns == to_ns:
            return
        piece = _Piece(state, from_ns, to_ns, 1, 0 if state == LIVE.value else to_ns - from_ns)
        pieces = self._pieces
        if pieces and pieces[-1].state == state:
            last = pieces[-1]
            pieces[-1] = last.join(piece)._replace(parts=last.parts if last.parts == 1 else last.parts + 1)
            return
        pieces.append(piece)
        if len(pieces) > self._limit:
            self._pieces = _coarsened(pieces, self._limit * 3 // 4)

    def stretches(self) -> tuple[Stretch, ...]:
        return tuple(
            Stretch(
                state=piece.state,
                from_ms=piece.from_ns // _MS,
                to_ms=piece.to_ns // _MS,
                parts=piece.parts,
                lost_s=round(piece.lost_ns / NS, 6),
            )
            for piece in self._pieces
        )


def _coarsened(pieces: list[_Piece], limit: int) -> list[_Piece]:
    """Short neighbours put together, as few as will do to leave `limit` pieces."""
    grain_ns = (pieces[-1].to_ns - pieces[0].from_ns) // (8 * limit) + 1
    found = pieces
    while len(found) > limit:
        found = _joined(pieces, grain_ns)
        grain_ns *= 2
    return found


def _joined(pieces: Iterable[_Piece], grain_ns: int) -> list[_Piece]:
    """Neighbours put together while they stay within `grain_ns`: any two left in a row are longer than that."""
    found: list[_Piece] = []
    for piece in pieces:
        if found and piece.to_ns - found[-1].from_ns <= grain_ns:
            found[-1] = found[-1].join(piece)
        else:
            found.append(piece)
    return found


class GapLog:
    """The longest gaps, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: list[tuple[int, int, GapSeen]] = []  # a heap: length, number, gap
        self._count = 0

    def add(self, gap: GapSeen, ns: int) -> None:
        self._count += 1
        heapq.heappush(self._kept, (ns, -self._count, gap))  # of equal ones the first stays
        if len(self._kept) > self._limit:
            heapq.heappop(self._kept)

    @property
    def left_out(self) -> int:
        return self._count - len(self._kept)

    def gaps(self) -> tuple[GapSeen, ...]:
        """In the order of time."""
        return tuple(gap for _, _, gap in sorted(self._kept, key=lambda item: -item[1]))


class Chronicle:
    """Turns one topic's changes of state into a timeline and a list of gaps. Times as for `Coverage`."""

    def __init__(self, stretches: int, gaps: int) -> None:
        self.timeline = Timeline(stretches)
        self.gaps = GapLog(gaps)
        self._begun = False
        self._state = BookState.EMPTY.value
        self._since_ns = 0
        self._lost_since_ns = 0
        self._why = Cause.START, "start", ""

    def begin(self, at_ns: int, cause: Cause | None = None) -> None:
        """What was before does not show. `cause`: as for `Coverage`."""
        self._begun = True
        self._since_ns = self._lost_since_ns = at_ns
        if cause is Cause.UNRECORDED and self._state != LIVE.value:
            self._state, self._why = UNRECORDED, (cause, UNRECORDED_REASON, "")

    def change(self, new: BookState, reason: str, detail: str, at_ns: int) -> None:
        state = UNRECORDED if reason in (RECORDER_REASON, UNRECORDED_REASON) and new is not LIVE else new.value
        at_ns = max(at_ns, self._since_ns)
        self._pass(at_ns)
        was_live, live = self._state == LIVE.value, new is LIVE
        if live and not was_live:
            self._close(at_ns, at_ns)
        elif was_live and not live:
            self._lost_since_ns = at_ns
            self._why = cause_of(new, reason), reason, detail
        self._state, self._since_ns = state, at_ns

    def end(self, at_ns: int) -> None:
        at_ns = max(at_ns, self._since_ns)
        self._pass(at_ns)
        if self._state != LIVE.value:
            self._close(at_ns, None)
        self._begun = False

    def _pass(self, at_ns: int) -> None:
        if self._begun:
            self.timeline.add(self._state, self._since_ns, at_ns)

    def _close(self, at_ns: int, to_ns: int | None) -> None:
        cause, reason, detail = self._why
        if not self._begun or cause in NO_GAPS:
            return
        ns = at_ns - self._lost_since_ns
        gap = GapSeen(
            from_ms=self._lost_since_ns // _MS,
            to_ms=None if to_ns is None else to_ns // _MS,
            seconds=round(ns / NS, 6),
            cause=cause,
            reason=reason,
            detail=detail,
        )
        self.gaps.add(gap, ns)
