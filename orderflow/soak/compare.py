"""Our books beside the exchange's, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orderflow.core.types import LIVE, InstrumentId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.core.types import BookDump
    from orderflow.sim.server import SimServer

SHOWN = 5


class Difference(NamedTuple):
    """One side of a book. `late`: time may mend it.

    Namely of a book that is not live, or not as far as the exchange's, or told of a level that looks true and is not.
    """

    text: str
    late: bool


def differences(books: Iterable[BookDump], server: SimServer, depth: int) -> list[Difference]:
    """One per side that differs; none: every book equals the exchange's, price and size of every level."""
    found: list[Difference] = []
    for book in books:
        truth = server.true_book(InstrumentId(book.category, book.symbol), depth)
        where = f"depth {depth} {book.category}:{book.symbol} ({book.state.value}, seq {book.seq} of {truth.seq})"
        planted = server.plan.planted(book.category.value, f"orderbook.{depth}.{book.symbol}")
        late = book.state is not LIVE or book.seq != truth.seq or planted
        for name, ours, theirs in (("bids", book.bids, truth.bids), ("asks", book.asks, truth.asks)):
            if ours != theirs:
                found.append(Difference(f"{where} {name}: {_first_differences(ours, theirs)}", late))
    return found


def _first_differences(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> str:
    """The first few levels that only one of the two has."""
    only_ours = _missing(ours, set(theirs))
    only_theirs = _missing(theirs, set(ours))
    return f"{len(ours)} levels against {len(theirs)}; only ours {only_ours}, only the exchange's {only_theirs}"


def _missing(levels: list[tuple[str, str]], there: set[tuple[str, str]]) -> list[tuple[str, str]]:
    return [level for level in levels if level not in there][:SHOWN]
