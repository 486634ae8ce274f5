"""What the books really were: every published window by its `seq`, beside which every tick of a live book is held."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from orderflow.core.types import Category
from orderflow.net.frames import FrameCutter

if TYPE_CHECKING:
    from orderflow.core.types import InstrumentId
    from orderflow.sim.server import SimServer

KEPT: Final = 500  # windows of one topic: ten seconds of the busiest
LEVELS: Final = 10


class Truth(NamedTuple):
    """The top of one published window."""

    bid: float
    bid_size: float
    ask: float
    ask_size: float
    near_bids: float  # size of the best LEVELS
    near_asks: float


class _Data(msgspec.Struct):
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]
    seq: int


class _Message(msgspec.Struct):
    type: str
    data: _Data


_decoder: Final = msgspec.json.Decoder(_Message, strict=False)


class Claim(Protocol):
    """What a tick says of its book (MetricsTick, or a line of JSON)."""

    @property
    def live(self) -> bool: ...
    @property
    def seq(self) -> int | None: ...
    @property
    def bid(self) -> float | None: ...
    @property
    def bid_size(self) -> float | None: ...
    @property
    def ask(self) -> float | None: ...
    @property
    def ask_size(self) -> float | None: ...
    @property
    def liquidity_bid(self) -> float | None: ...
    @property
    def liquidity_ask(self) -> float | None: ...


class Witness:
    """A subscriber no fault touches. It remembers the newest windows of one topic, and judges ticks by them."""

    connection_id = ""  # what faults leave alone

    def __init__(self, server: SimServer, instrument: InstrumentId, depth: int) -> None:
        self.endpoint = instrument.category.value
        self.topic = f"orderbook.{depth}.{instrument.symbol}"
        self.judged = 0
        self._server = server
        self.wrong: list[str] = []
        self._inverse = instrument.category is Category.INVERSE
        self._sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self._windows: dict[int, Truth | None] = {}  # None: a side was empty
        self._order: deque[int] = deque()
        self._cutter = FrameCutter(1 << 30)
        for message in server.backend.attach(self.endpoint, self.topic, self, server.now_ms()):
            self._take(message)

    def deliver(self, topic: str, frame: bytes) -> None:
        for message in self._cutter.feed(frame):
            self._take(message)

    def judge(self, tick: Claim) -> None:
        """Hold a tick of a live book beside the window it says it is of.

        One exemption: `cross` and `lock` put a bid into what one client is told. A bid at the best ask is a book that
        could be true, so while it stands (and until its removal has reached everyone) the bids of that topic prove
        nothing. Its asks do, and nothing excuses a bid above the ask.
        """
        if not tick.live or tick.seq is None:
            return
        where = f"{self.endpoint} {self.topic} at seq {tick.seq}"
        if tick.bid is not None and tick.ask is not None and tick.bid > tick.ask:
            self.wrong.append(f"{where}: bid {tick.bid} above ask {tick.ask}")
        if tick.seq not in self._windows:
            self.wrong.append(f"{where}: no window of the last {KEPT} has it")
            return
        truth = self._windows[tick.seq]
        if truth is None:
            return
        self.judged += 1
        planted = self._server.plan.planted(self.endpoint, self.topic)
        for name, mine, real in zip(Truth._fields, self._numbers(tick), truth, strict=True):
            excused = planted and "bid" in name
            if mine is not None and not excused and not math.isclose(mine, real, rel_tol=1e-9):
                self.wrong.append(f"{where}: {name} {mine}, was {real}")

    def _numbers(self, tick: Claim) -> tuple[float | None, ...]:
        """As in Truth. Sizes of inverse contracts are told in coins, windows hold contracts: only prices count."""
        if self._inverse:
            return tick.bid, None, tick.ask, None, None, None
        return tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.liquidity_bid, tick.liquidity_ask

    def _take(self, raw: bytes) -> None:
        message = _decoder.decode(raw)
        if message.type == "snapshot":
            self._sides = ({}, {})
        for side, levels in zip(self._sides, (message.data.b, message.data.a), strict=True):
            for price, size in levels:
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        bids = sorted(self._sides[0].items(), reverse=True)[:LEVELS]
        asks = sorted(self._sides[1].items())[:LEVELS]
        whole = Truth(*bids[0], *asks[0], _total(bids), _total(asks)) if bids and asks else None
        self._remember(message.data.seq, whole)

    def _remember(self, seq: int, truth: Truth | None) -> None:
        if seq not in self._windows:
            self._order.append(seq)
        self._windows[seq] = truth
        if len(self._order) > KEPT:
            del self._windows[self._order.popleft()]


def _total(levels: list[tuple[float, float]]) -> float:
    return sum(size for _, size in levels)
