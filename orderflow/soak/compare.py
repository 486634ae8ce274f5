"""Our books beside the exchange's, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.core.types import LIVE, InstrumentId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.core.types import BookDump
    from orderflow.sim.server import SimServer

SHOWN = 5


def differences(books: Iterable[BookDump], server: SimServer, depth: int, *, late: bool = True) -> list[str]:
    """One line per side that differs; none: every book equals the exchange's, price and size of every level.

    Args: late: also of books that have not got as far as the exchange's. Without it: what no waiting excuses.
    """
    lines: list[str] = []
    for book in books:
        truth = server.true_book(InstrumentId(book.category, book.symbol), depth)
        if not late and (book.seq != truth.seq or book.state is not LIVE):
            continue
        where = f"{book.category}:{book.symbol} ({book.state.value}, seq {book.seq} of {truth.seq})"
        for name, ours, theirs in (("bids", book.bids, truth.bids), ("asks", book.asks, truth.asks)):
            if ours != theirs:
                lines.append(f"{where} {name}: {_first_differences(ours, theirs)}")
    return lines


def _first_differences(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> str:
    """The first few levels that only one of the two has."""
    only_ours = [level for level in ours if level not in theirs][:SHOWN]
    only_theirs = [level for level in theirs if level not in ours][:SHOWN]
    return f"{len(ours)} levels against {len(theirs)}; only ours {only_ours}, only the exchange's {only_theirs}"
