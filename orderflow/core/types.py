"""Frozen values that cross module borders. Units end the names; `recv_ns` is our wall clock, `mono_ns` our monotonic
clock, `exchange_ms` and `engine_ms` are the exchange's (`ts`, `cts`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.figures import Quality, TickQuality
from orderflow.core.stats import Stats  # noqa: TC001 - msgspec resolves the annotation at run time

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = tuple[float, float]
"""(price, size). Sizes are as the exchange sends them: base coin, or USD contracts on inverse."""


class Category(enum.StrEnum):
    """Bybit product types this program watches. Options are out of scope."""

    LINEAR = "linear"
    INVERSE = "inverse"
    SPOT = "spot"


class InstrumentId(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """(category, symbol): the key of everything. `BTCUSDT` exists as spot and as linear."""

    category: Category
    symbol: str

    def __str__(self) -> str:
        return f"{self.category}:{self.symbol}"


class BookState(enum.StrEnum):
    """Whether a book may be believed; only `live` books give metrics."""

    EMPTY = "empty"  # nothing asked for yet, or the link is down
    SYNCING = "syncing"  # asked for, waiting for its snapshot
    LIVE = "live"
    SUSPECT = "suspect"  # contradicted: gap, cross, refused message; being resynced
    STALE = "stale"  # silent for too long; being probed
    CLOSED = "closed"  # refused by the exchange, or the program is stopping


LIVE: Final = BookState.LIVE


class Instrument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What instruments-info says of one instrument, as far as the monitor needs it.

    Decimal facts stay text (exact); decimals are derived from them. Sizes of inverse contracts are in quote currency.
    """

    id: InstrumentId
    base_coin: str
    quote_coin: str
    tick_size: str
    lot_size: str
    price_decimals: int
    size_decimals: int
    status: str = "Trading"


# --- events: what the engine is fed ------------------------------------------------------------------------------


class BookUpdate(msgspec.Struct, frozen=True, gc=False):
    """One order book message. Levels are (price, absolute size), size 0 deletes; a snapshot replaces the book."""

    instrument: InstrumentId
    depth: int
    snapshot: bool
    bids: list[Level]
    asks: list[Level]
    u: int
    seq: int
    exchange_ms: int
    engine_ms: int | None
    recv_ns: int
    mono_ns: int


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One public trade. `buy` is the taker's side; `size` as on the wire (USD contracts on inverse)."""

    instrument: InstrumentId
    price: float
    size: float
    buy: bool
    match_ms: int
    trade_id: str
    block: bool
    rpi: bool
    seq: int
    recv_ns: int
    mono_ns: int


class Liquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation. `long_liquidated`: a long position, so the forced order sold. Price is the bankruptcy price."""

    instrument: InstrumentId
    price: float
    size: float
    long_liquidated: bool
    match_ms: int
    recv_ns: int
    mono_ns: int


class TickerUpdate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A ticker message; an absent field (None) is unchanged on a delta. Spot tickers never carry bid and ask."""

    instrument: InstrumentId
    snapshot: bool
    exchange_ms: int
    cross_seq: int | None
    last: float | None = None
    bid: float | None = None
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None
    mark: float | None = None
    index: float | None = None
    open_interest: float | None = None
    funding_rate: float | None = None
    recv_ns: int
    mono_ns: int


class Syncing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subscribe for this book went out (first one, after a reconnect, or a resync)."""

    instrument: InstrumentId
    reason: str
    mono_ns: int


class Distrust(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of this book was refused whole, or the program stood still: the book is unproven until a snapshot."""

    instrument: InstrumentId
    reason: str
    mono_ns: int
    refused: bool = True  # whether it was a message, to be counted


class LinkUp(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A connection is open; its topics are about to be subscribed."""

    link: str
    instruments: tuple[InstrumentId, ...]
    mono_ns: int


class LinkDown(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A connection ended: every book on it leaves `live` at once."""

    link: str
    instruments: tuple[InstrumentId, ...]
    reason: str
    mono_ns: int


class TopicRefused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exchange refused this book's topic; `text` is the exchange's and untrusted."""

    instrument: InstrumentId
    text: str
    mono_ns: int


class ClockOffset(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Our wall clock minus the exchange's, and the bound on its error (half the best round trip)."""

    offset_ms: float
    error_ms: float
    mono_ns: int


class Started(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The run begins: from here on every topic is asked for."""

    recv_ns: int
    mono_ns: int


class Stopping(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The run ends: what comes after, links that close, is no loss."""

    recv_ns: int
    mono_ns: int


class ClockStepped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody set our wall clock forward by `by_ms` (back: negative); both clocks as they were read after it."""

    by_ms: float
    recv_ns: int
    mono_ns: int


class TimerDue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Time passed: books are checked for lasting crosses and silence."""

    mono_ns: int


class TickDue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A metrics interval ended: the tick of one instrument is due, or of all (None)."""

    recv_ns: int
    mono_ns: int
    instrument: InstrumentId | None = None


Event = (
    BookUpdate
    | Trade
    | Liquidation
    | TickerUpdate
    | Syncing
    | Distrust
    | LinkUp
    | LinkDown
    | TopicRefused
    | Instrument
    | ClockOffset
    | ClockStepped
    | Started
    | Stopping
    | TimerDue
    | TickDue
)


# --- outputs: what the engine says -------------------------------------------------------------------------------


class Percentiles(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A latency distribution in milliseconds. `count` samples; all None when there were none."""

    count: int = 0
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    max: float | None = None


class HopLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time goes, per hop (docs/metrics.md). `gateway_to_socket` is signed and offset-corrected."""

    engine_to_gateway: Percentiles = Percentiles()
    gateway_to_socket: Percentiles = Percentiles()
    socket_to_book: Percentiles = Percentiles()
    book_to_metrics: Percentiles = Percentiles()


class BookCounters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counts since start for one book."""

    updates: int = 0  # messages applied, snapshots and deltas
    snapshots: int = 0
    gaps: int = 0  # jumps in `u`
    missed: int = 0  # messages those jumps say were lost
    duplicates: int = 0  # `u` repeated or went back
    early_deltas: int = 0  # deltas before a snapshot
    unknown_deletes: int = 0  # levels deleted that were not held
    restarts: int = 0  # snapshots with u == 1
    crossed: int = 0  # times the book became crossed
    locked: int = 0  # times best bid and best ask became equal
    refused: int = 0  # messages refused whole
    resyncs: int = 0
    reconnects: int = 0


class MetricsTick(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one instrument at the end of one interval (docs/metrics.md, `orderflow-metrics` names).

    Values that need a live book, or a side that is empty, are None and `reason` says why ("" when all is well).
    Sizes, imbalance and liquidity are in base coin. `ts` is our wall clock in ms, `mono_ns` our monotonic clock in ns:
    what lies between two ticks of one run is their difference in `mono_ns`, for the wall clock may be set.
    """

    ts: int
    mono_ns: int
    category: Category
    symbol: str
    state: BookState
    reason: str
    depth: int
    base_coin: str | None = None  # None, like the next three: instruments-info not known
    quote_coin: str | None = None
    price_decimals: int | None = None
    size_decimals: int | None = None
    bid: float | None = None
    ask: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    mid: float | None = None
    weighted_mid: float | None = None
    spread: float | None = None
    spread_pct: float | None = None
    spread_bps: float | None = None
    imbalance: float | None = None  # depth_imbalance(N), in [-1, 1]
    queue_imbalance: float | None = None
    liquidity: float | None = None  # both sides, top N, base coin
    liquidity_bid: float | None = None
    liquidity_ask: float | None = None
    band_bps: float | None = None
    band_bid: float | None = None  # base coin within band_bps of mid
    band_ask: float | None = None
    truncated: bool = False  # fewer levels than N, or the last level held lies inside the band
    latency_ms: float | None = None  # median signed, offset-corrected feed latency of this interval
    latency_error_ms: float | None = None  # uncertainty of the offset; None: offset unknown, latency uncorrected
    latency_negative: int = 0  # samples below zero in this interval
    book_age_ms: float | None = None
    u: int | None = None
    seq: int | None = None
    counters: BookCounters = BookCounters()
    hops: HopLatency = HopLatency()
    quality: TickQuality = TickQuality()

    @property
    def instrument(self) -> InstrumentId:
        return InstrumentId(self.category, self.symbol)

    @property
    def live(self) -> bool:
        return self.state is LIVE


class BookStateChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A book changed state; `reason` is a short fixed word (gap, crossed, snapshot, link_down, ...)."""

    instrument: InstrumentId
    old: BookState
    new: BookState
    reason: str
    mono_ns: int
    detail: str = ""  # for people: sizes of gaps, time to recover; may hold untrusted text


class ResyncNeeded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The book cannot go on: its topic must be unsubscribed and subscribed again."""

    instrument: InstrumentId
    reason: str


Output = MetricsTick | BookStateChanged | ResyncNeeded


class LinkChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A connection's state for people and plugins: `connecting`, `up`, `down`.

    `reason` is a short fixed word, `detail` is for people and already escaped; `retry_s` is the wait before the next
    try.
    """

    link: str
    state: str
    reason: str = ""
    detail: str = ""
    retry_s: float | None = None
    attempt: int = 0
    ts: int = 0


FeedChange = LinkChanged | BookStateChanged
"""What plugins and logs are told about the quality of the feed."""


class Severity(enum.StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertKind(enum.StrEnum):
    RAISE = "raise"
    CLEAR = "clear"
    NOTICE = "notice"  # a one-off with no clear to follow


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert with its evidence. Plugins return these; the host routes them.

    `rule` names the rule inside `plugin` (the host fills in `plugin`); `since_ms` is when the condition began;
    `tick` is the tick that decided.
    """

    rule: str
    kind: AlertKind
    severity: Severity
    message: str
    tick: MetricsTick
    metric: str = ""
    value: float | None = None
    threshold: float | None = None
    since_ms: int | None = None
    plugin: str = ""


class BookDump(msgspec.Struct, frozen=True, kw_only=True):
    """A whole book for bug reports and comparisons; prices and sizes as exact decimal text, best level first."""

    category: Category
    symbol: str
    state: BookState
    u: int | None
    seq: int | None
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


# --- the account: what the private connection says ----------------------------------------------------------------
# Decimals stay the exchange's exact text ("" when it sent none); enumerations stay its words; times are its ms.


class OrderRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One state change of one order. Derive fills from executions: a rejected order may carry a filled quantity."""

    category: str
    symbol: str
    order_id: str
    order_link_id: str
    side: str
    order_type: str
    time_in_force: str
    status: str
    price: str
    qty: str
    avg_price: str
    leaves_qty: str
    filled_qty: str
    filled_value: str
    reduce_only: bool
    cancel_type: str
    reject_reason: str
    created_ms: int | None
    updated_ms: int | None


class ExecutionRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fill, or a funding, ADL, ... entry (`exec_type`). Several rows can share one `seq`."""

    category: str
    symbol: str
    exec_id: str
    exec_type: str
    order_id: str
    order_link_id: str
    side: str
    price: str
    qty: str
    value: str
    fee: str
    fee_currency: str
    maker: bool
    leaves_qty: str
    closed_size: str
    exec_ms: int | None
    seq: int | None


class PositionRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One position as it stands now; flat: `side` "" and `size` "0". `seq` -1: never traded."""

    category: str
    symbol: str
    position_idx: int  # 0 one-way, 1 hedge long, 2 hedge short
    side: str
    size: str
    entry_price: str
    mark_price: str
    value: str
    leverage: str
    liquidation_price: str
    unrealised_pnl: str
    realised_pnl: str  # of the current position
    status: str
    updated_ms: int | None
    seq: int | None


class CoinBalance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One coin of a wallet."""

    coin: str
    equity: str
    wallet_balance: str
    usd_value: str
    locked: str
    borrowed: str
    unrealised_pnl: str


class WalletRow(msgspec.Struct, frozen=True, kw_only=True):
    """One account's totals (in USD) and its coins. Unrealised PnL alone triggers no message."""

    account_type: str
    total_equity: str
    total_wallet_balance: str
    total_margin_balance: str
    total_available_balance: str
    total_unrealised_pnl: str
    initial_margin_rate: str
    maintenance_margin_rate: str
    coins: tuple[CoinBalance, ...]


PrivateRow = OrderRow | ExecutionRow | PositionRow | WalletRow


class PrivateMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the private connection.

    `topic` is `order`, `execution`, `position` or `wallet`, and every row is of that kind.
    """

    topic: str
    creation_ms: int
    rows: tuple[PrivateRow, ...]


# --- views --------------------------------------------------------------------------------------------------------


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """What a live view shows of one book: best levels first, and a fresh set of metrics (not a tick plugins saw)."""

    tick: MetricsTick
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class ViewFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One picture of the whole program, conflated: only the newest matters."""

    ts: int
    uptime_s: float
    env: str
    books: tuple[BookView, ...]
    links: tuple[LinkChanged, ...]
    alerts: tuple[Alert, ...]  # newest last, bounded
    messages: int
    message_rate: float  # per second
    clock: ClockOffset | None = None
    news: tuple[tuple[int, FeedChange], ...] = ()  # (wall ms, what happened), newest last, bounded


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The closing summary."""

    uptime_s: float
    messages: int
    refused: int  # messages refused whole, of books and others
    gaps: int
    resyncs: int
    reconnects: int
    alerts: int
    books: tuple[MetricsTick, ...]
    hops: HopLatency
    clock: ClockOffset | None = None
    notes: tuple[str, ...] = ()  # what could not be learnt or did not work
    stats: Stats | None = None
    quality: tuple[Quality, ...] = ()  # one per book (docs/quality.md)


def parse_instrument(text: str, default: Category) -> InstrumentId:
    """`BTCUSDT` or `spot:BTCUSDT` -> InstrumentId.

    Raises: ValueError naming the value and what was expected (options are named as out of scope).
    """
    head, colon, tail = text.partition(":")
    category_text, symbol = (head, tail) if colon else (default.value, head)
    category_text = category_text.strip().lower()
    if category_text in ("option", "options"):
        raise ValueError(f"{text!r}: options are out of scope; use linear, inverse or spot")
    try:
        category = Category(category_text)
    except ValueError:
        raise ValueError(f"{text!r}: unknown category {category_text!r}; use linear, inverse or spot") from None
    symbol = symbol.strip().upper()
    if not is_symbol(symbol):
        raise ValueError(f"{text!r}: not a Bybit symbol; expected 2-40 letters, digits or dashes such as BTCUSDT")
    if symbol.endswith(("-C", "-P")) or (symbol.count("-") >= 3):
        raise ValueError(f"{text!r}: looks like an option; options are out of scope")
    return InstrumentId(category, symbol)


_SYMBOL_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def is_symbol(text: str) -> bool:
    """Whether `text` can be a Bybit symbol (upper-case ASCII letters, digits, dashes; 2 to 40 characters)."""
    return 2 <= len(text) <= 40 and _SYMBOL_CHARS.issuperset(text) and text[0] != "-" and text[-1] != "-"


def sort_instruments(instruments: Iterable[InstrumentId]) -> tuple[InstrumentId, ...]:
    """Unique, in a stable order (category, then symbol)."""
    return tuple(sorted(set(instruments)))
