"""The order of rows that hftbacktest wants, made in one pass over rows in the order they were received.

hftbacktest reads a file twice at once: rows flagged EXCH at `exch_ts`, rows flagged LOCAL at `local_ts`, and wants each
of the two sorted. Most rows serve both. One that arrives after something younger (a trade behind the book that it
changed) is split: its EXCH half goes up to where it happened, its LOCAL half stays. A row is moved by `LATE_NS` at the
most, so only that much is in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orderflow.core.units import NS
from orderflow.export.events import EVENT, EXCH, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orderflow.export.events import Events

    Times = np.ndarray[Any, np.dtype[np.int64]]

LATE_NS: Final = 10 * NS


def in_order(chunks: Iterable[Events], floor_ns: int = 0, late_ns: int = LATE_NS) -> Iterator[Events]:
    """Rows sorted by `local_ts`, in pieces -> rows with their flags, in pieces.

    Args:
        floor_ns: nothing happened earlier (the day before ended there); late_ns: how far a row is moved at most; one
            that is later counts as having happened that long before the youngest.
    """
    newest = floor_ns
    rows = np.zeros(0, EVENT)
    keys = np.zeros(0, np.int64)  # of each row: the youngest `exch_ts` up to it. Sorted
    for chunk in chunks:
        if not len(chunk):
            continue
        fresh, fresh_keys, halves = _split(chunk, newest, floor_ns, late_ns)
        newest = int(fresh_keys[-1])
        rows, keys = np.concatenate([rows, fresh]), np.concatenate([keys, fresh_keys])
        at = np.searchsorted(keys, halves["exch_ts"], side="right")
        rows, keys = np.insert(rows, at, halves), np.insert(keys, at, halves["exch_ts"])
        done = int(np.searchsorted(keys, newest - late_ns, side="right"))
        yield rows[:done]
        rows, keys = rows[done:], keys[done:]
    yield rows


def _split(chunk: Events, newest: int, floor_ns: int, late_ns: int) -> tuple[Events, Times, Events]:
    """(rows where they were received, their keys, EXCH halves of those that come late, sorted)."""
    fresh = chunk.copy()
    exch = np.maximum(fresh["exch_ts"], floor_ns)
    keys = np.maximum.accumulate(np.concatenate([[newest], exch]))
    exch = np.maximum(exch, keys[:-1] - late_ns)
    fresh["exch_ts"] = exch
    late = exch < keys[:-1]
    fresh["ev"] |= np.where(late, np.uint64(LOCAL), np.uint64(LOCAL | EXCH))
    halves = fresh[late]
    halves["ev"] ^= np.uint64(LOCAL | EXCH)
    return fresh, keys[1:], halves[np.argsort(halves["exch_ts"], kind="stable")]
