"""What a book is compared with: the touch a ticker or level 1 names, a whole book from REST or a checkpoint.

Each is the exchange's word on the book at one cross sequence (`seq`), whatever topic it came on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from orderflow.core.types import Level, TickerUpdate


class Touch(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask at `seq`. `exact`: `seq` is that of this very state, as in book messages.

    A ticker's `cs` lies somewhere in the interval its values were read in.
    """

    name: str
    seq: int
    at_ms: int
    mono_ns: int
    bid: Level | None
    ask: Level | None
    exact: bool


class Whole(msgspec.Struct, frozen=True, gc=False):
    """A book, best first, at `seq`. `own`: it is our own (a checkpoint), so that state must have been recorded."""

    name: str
    seq: int
    at_ms: int
    mono_ns: int
    bids: list[Level]
    asks: list[Level]
    own: bool = False


Reference = Touch | Whole


class TickerTouch:
    """The touch that a stream of tickers carries forward: deltas leave out what did not change."""

    __slots__ = ("_ask", "_ask_size", "_bid", "_bid_size", "_known")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Something was missed: nothing is known until a snapshot."""
        self._known = False
        self._bid = self._bid_size = self._ask = self._ask_size = 0.0

    def update(self, name: str, ticker: TickerUpdate) -> Touch | None:
        """The touch after a message; None: it has none, or no place in the sequence."""
        if ticker.snapshot:
            self.forget()
            self._known = True
        if not self._known:
            return None
        self._bid = ticker.bid if ticker.bid is not None else self._bid
        self._bid_size = ticker.bid_size if ticker.bid_size is not None else self._bid_size
        self._ask = ticker.ask if ticker.ask is not None else self._ask
        self._ask_size = ticker.ask_size if ticker.ask_size is not None else self._ask_size
        bid = (self._bid, self._bid_size) if self._bid and self._bid_size else None
        ask = (self._ask, self._ask_size) if self._ask and self._ask_size else None
        if ticker.cross_seq is None or (bid is None and ask is None):
            return None
        return Touch(name, ticker.cross_seq, ticker.exchange_ms, ticker.mono_ns, bid, ask, False)
