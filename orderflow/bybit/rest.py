"""REST without I/O: what to ask, what an answer means.

A business error is HTTP 200 with a `retCode`; everything that is no usable answer becomes one of the RestErrors, named
after what the caller does next. Text from outside is escaped in them, and credentials are never in them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import msgspec

from orderflow.bybit.account import decode, decode_rows
from orderflow.bybit.signing import CREDENTIAL_CODES, OUTSIDE_WINDOW
from orderflow.core.errors import OrderflowError, WireError
from orderflow.core.httpdate import retry_after_s
from orderflow.core.text import escape_bytes, escape_text
from orderflow.core.types import Category, Instrument, InstrumentId, WalletRow, is_symbol

if TYPE_CHECKING:
    from collections.abc import Mapping

# --- errors -------------------------------------------------------------------------------------------------------


class RestError(OrderflowError):
    """REST gave no usable answer. `reason` is a fixed word, `detail` is escaped and for people."""

    reason = "rest"

    def __init__(self, detail: str = "", *, reason: str | None = None) -> None:
        if reason is not None:
            self.reason = reason
        self.detail = detail
        super().__init__(f"{self.reason}: {detail}" if detail else self.reason)


class RestUnavailable(RestError):
    """Not now: try again (dns, refused, connect, tls, timeout, closed, garbage, status, exchange)."""

    reason = "connect"


class RestPaused(RestError):
    """Not for a while: asking again at once makes it worse.

    Args: pause_s: how long to leave it alone, when it is the first time; asked_s: what the exchange asks for itself.
    """

    reason = "limited"

    def __init__(
        self, detail: str = "", *, reason: str | None = None, pause_s: float, asked_s: float | None = None
    ) -> None:
        self.pause_s = pause_s
        self.asked_s = asked_s
        super().__init__(detail, reason=reason)


class RestLimited(RestPaused):
    """Asked too often (HTTP 429, retCode 10006)."""


class RestBlocked(RestPaused):
    """HTTP 403, or an account of a restricted region: this country is not served, or this address asked far too often.

    The public sockets may well work.
    """

    reason = "blocked"


class RestRefused(RestError):
    """The request itself is refused; asking again cannot help. `ret_code` is the exchange's, or the HTTP status."""

    reason = "refused"

    def __init__(self, detail: str = "", *, reason: str | None = None, ret_code: int) -> None:
        self.ret_code = ret_code
        super().__init__(detail, reason=reason)


class CredentialsRefused(RestRefused):
    """The API key, its signature or its permissions are refused."""

    reason = "credentials"


REFUSED_PAUSE_S: Final = 60.0  # HTTP 403 and 429, as for upgrades
REGION_PAUSE_S: Final = 600.0
BUDGET_PAUSE_S: Final = 2.0  # retCode 10006: budgets are rolling seconds
MAX_PAUSE_S: Final = 600.0

_UNAVAILABLE: Final = frozenset({10000, 10016, 10019, 10429})
_LIMITED: Final = frozenset({10006, 10018})
_BLOCKED: Final = frozenset({10009, 10024})


def status_error(status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> RestError:
    """What an HTTP status other than 200 means.

    Args: headers: case-insensitive or with lower-case names; body: as much of it as is at hand; now_s: Unix time.
    """
    detail = f"HTTP {status}"
    if body:
        detail += f": {escape_bytes(body, 120)}"
    if status in (403, 429):
        asked_s = retry_after_s(headers.get("retry-after", "").strip(), headers.get("date", "").strip(), now_s)
        if status == 429:
            return RestLimited(detail, pause_s=REFUSED_PAUSE_S, asked_s=asked_s)
        hint = "this country is not served, or this address asked too often"
        return RestBlocked(f"{detail} ({hint})", pause_s=REFUSED_PAUSE_S, asked_s=asked_s)
    if status == 401:
        return CredentialsRefused("HTTP 401: key invalid or authentication headers missing", ret_code=status)
    if status >= 500 or status == 408:
        return RestUnavailable(detail, reason="status")
    return RestRefused(detail, reason="redirect" if 300 <= status < 400 else "status", ret_code=status)


def pause_s(error: RestPaused, again: int) -> float:
    """How long to leave the exchange alone: doubling each time, `Retry-After` obeyed when it asks for more, bounded.

    Args: again: how often in a row it asked before.
    """
    least_s = error.pause_s * 2.0 ** min(again, 60)
    return min(MAX_PAUSE_S, max(least_s, error.asked_s or 0.0))


def code_error(code: int, message: str) -> RestError:
    """What a non-zero `retCode` means. `message` is the exchange's."""
    if code in CREDENTIAL_CODES:  # told in our words: the exchange's repeat the key and the signed text
        return CredentialsRefused(f"retCode {code}: {CREDENTIAL_CODES[code]}", ret_code=code)
    detail = f"retCode {code}: {escape_text(message)}"
    if code in _UNAVAILABLE:
        return RestUnavailable(detail, reason="exchange")
    if code in _LIMITED:
        return RestLimited(detail, pause_s=BUDGET_PAUSE_S)
    if code in _BLOCKED:
        return RestBlocked(detail, reason="region", pause_s=REGION_PAUSE_S)
    return RestRefused(detail, reason="clock" if code == OUTSIDE_WINDOW else "refused", ret_code=code)


# --- requests -----------------------------------------------------------------------------------------------------


class RestRequest(msgspec.Struct, frozen=True, gc=False):
    """One GET. `query` is exactly what stands behind the `?`."""

    path: str
    query: str = ""
    signed: bool = False

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


SERVER_TIME: Final = RestRequest("/v5/market/time")
WALLET_BALANCE: Final = RestRequest("/v5/account/wallet-balance", "accountType=UNIFIED", signed=True)
API_KEY_INFO: Final = RestRequest("/v5/user/query-api", signed=True)
PAGE_SIZE: Final = 1000


def instruments_request(category: Category, symbol: str = "", cursor: str = "") -> RestRequest:
    """All trading instruments of a category, a page at a time, or the one `symbol`.

    `cursor` comes from the previous page; the exchange percent-encodes it and it goes back as it came.
    """
    query = urlencode({"category": category, **({"symbol": symbol} if symbol else {"limit": PAGE_SIZE})})
    if cursor:
        query += f"&cursor={quote(cursor, safe='%')}"
    return RestRequest("/v5/market/instruments-info", query)


def orderbook_request(instrument: InstrumentId, levels: int) -> RestRequest:
    """Args: levels: 1 to 1000 per side."""
    query = urlencode({"category": instrument.category, "symbol": instrument.symbol, "limit": levels})
    return RestRequest("/v5/market/orderbook", query)


# --- answers ------------------------------------------------------------------------------------------------------


class ServerTime(msgspec.Struct, frozen=True, gc=False):
    """The exchange's clock, cut off to a multiple of `resolution_ns`."""

    ns: int
    resolution_ns: int


class InstrumentPage(msgspec.Struct, frozen=True):
    """One page of instruments-info. `skipped` rows made no sense; `cursor` "" ends the list."""

    instruments: tuple[Instrument, ...]
    cursor: str
    skipped: int


class RestBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book as REST shows it: (price, size) text, best first. `u` counts like the 1000-level topic."""

    instrument: InstrumentId
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    u: int
    seq: int
    ts_ms: int
    engine_ms: int | None


class ApiKeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may do. Texts are the exchange's and untrusted."""

    read_only: bool
    permissions: tuple[str, ...]  # `Wallet.AccountTransfer`, ...
    ips: tuple[str, ...]  # `*`: any
    days_left: int | None  # None: does not expire


class _Envelope(msgspec.Struct):
    retCode: int
    retMsg: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: int | str | None = None


class _Time(msgspec.Struct):
    timeSecond: int | str | None = None
    timeNano: int | str | None = None


class _List(msgspec.Struct):
    list: tuple[msgspec.Raw, ...] | None = None
    nextPageCursor: str | None = None


class _PriceFilter(msgspec.Struct):
    tickSize: str = ""


class _LotFilter(msgspec.Struct):
    qtyStep: str | None = None
    basePrecision: str | None = None  # spot's name for it


class _Instrument(msgspec.Struct):
    symbol: str
    baseCoin: str
    quoteCoin: str
    priceFilter: _PriceFilter
    lotSizeFilter: _LotFilter
    status: str | None = None
    priceScale: int | str | None = None


class _Book(msgspec.Struct):
    s: str
    b: tuple[tuple[str, str], ...]
    a: tuple[tuple[str, str], ...]
    u: int
    seq: int = 0
    ts: int | str = 0
    cts: int | str | None = None


class _ApiKey(msgspec.Struct):
    readOnly: int | bool = 0
    permissions: dict[str, tuple[str, ...] | None] = {}
    ips: tuple[str, ...] | None = None
    deadlineDay: int | str | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_time = msgspec.json.Decoder(_Time)
_list = msgspec.json.Decoder(_List)
_instrument = msgspec.json.Decoder(_Instrument)
_book = msgspec.json.Decoder(_Book)
_api_key = msgspec.json.Decoder(_ApiKey)

_COIN: Final = re.compile(r"[A-Za-z0-9]{1,30}\Z", re.ASCII)
_STATUS: Final = re.compile(r"[A-Za-z]{1,30}\Z", re.ASCII)
_PLAIN: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,18})?\Z", re.ASCII)
_MAX_DECIMALS: Final = 18
_NS_RANGE: Final = range(10**18, 10**19)  # 2001 to 2286


def parse_server_time(body: bytes) -> ServerTime:
    """Nanoseconds where the exchange gives them, else its milliseconds.

    Raises: RestError, WireError.
    """
    envelope = _open(body)
    result = decode(_time, envelope.result)
    if (nano := _number(result.timeNano)) is not None:
        ns, resolution_ns = nano, 1_000_000 if nano % 1_000_000 == 0 else 1
    elif (millis := _number(envelope.time)) is not None:
        ns, resolution_ns = millis * 1_000_000, 1_000_000
    else:
        ns, resolution_ns = (_number(result.timeSecond) or 0) * 1_000_000_000, 1_000_000_000
    if ns not in _NS_RANGE:
        raise WireError("number", "server time out of range")
    return ServerTime(ns, resolution_ns)


def parse_instruments(body: bytes, category: Category) -> InstrumentPage:
    """One page. A row that makes no sense is skipped and counted, the others are good.

    Raises: RestError, WireError.
    """
    result = decode(_list, _open(body).result)
    rows = result.list or ()
    found: list[Instrument] = []
    for raw in rows:
        try:
            found.append(_to_instrument(decode(_instrument, raw), category))
        except WireError:
            continue
    return InstrumentPage(tuple(found), result.nextPageCursor or "", len(rows) - len(found))


def _to_instrument(row: _Instrument, category: Category) -> Instrument:
    tick = row.priceFilter.tickSize
    lot = row.lotSizeFilter.qtyStep or row.lotSizeFilter.basePrecision or ""
    if not (is_symbol(row.symbol) and _COIN.match(row.baseCoin) and _COIN.match(row.quoteCoin)):
        raise WireError("symbol", row.symbol)
    if not (_is_step(tick) and _is_step(lot)):
        raise WireError("number", row.symbol)
    status = row.status or ""
    return Instrument(
        id=InstrumentId(category, row.symbol),
        base_coin=row.baseCoin,
        quote_coin=row.quoteCoin,
        tick_size=tick,
        lot_size=lot,
        price_decimals=_price_decimals(tick, _number(row.priceScale)),
        size_decimals=_decimals(lot),
        status=status if _STATUS.match(status) else "",
    )


def _price_decimals(tick: str, scale: int | None) -> int:
    """The exchange's display scale, unless it could not show every tick."""
    needed = _decimals(tick)
    return scale if scale is not None and needed <= scale <= _MAX_DECIMALS else needed


def _decimals(step: str) -> int:
    """Fraction digits a step needs: 0.10 -> 1, 0.001 -> 3, 5 -> 0."""
    return len(step.partition(".")[2].rstrip("0"))


def _is_step(text: str) -> bool:
    return _PLAIN.match(text) is not None and float(text) > 0


def parse_orderbook(body: bytes, instrument: InstrumentId) -> RestBook:
    """Raises: RestError; WireError, also when it is the book of another symbol."""
    book = decode(_book, _open(body).result)
    if book.s != instrument.symbol:
        raise WireError("symbol", f"asked for {instrument.symbol}, got {book.s}")
    if not all(_PLAIN.match(price) and _PLAIN.match(size) for side in (book.b, book.a) for price, size in side):
        raise WireError("number", "a level is no plain decimal")
    return RestBook(
        instrument=instrument,
        bids=book.b,
        asks=book.a,
        u=book.u,
        seq=book.seq,
        ts_ms=_number(book.ts) or 0,
        engine_ms=_number(book.cts),
    )


def parse_wallet(body: bytes) -> tuple[WalletRow, ...]:
    """The accounts of a wallet-balance answer. Raises: RestError, WireError."""
    result = decode(_list, _open(body).result)
    rows = decode_rows("wallet", b"[" + b",".join(bytes(raw) for raw in result.list or ()) + b"]")
    return tuple(row for row in rows if isinstance(row, WalletRow))


def parse_api_key(body: bytes) -> ApiKeyInfo:
    """Raises: RestError, WireError."""
    row = decode(_api_key, _open(body).result)
    return ApiKeyInfo(
        read_only=bool(row.readOnly),
        permissions=tuple(f"{group}.{name}" for group, names in row.permissions.items() for name in names or ()),
        ips=row.ips or (),
        days_left=_number(row.deadlineDay),
    )


def _open(body: bytes) -> _Envelope:
    envelope = decode(_envelope, body)
    if envelope.retCode != 0:
        raise code_error(envelope.retCode, envelope.retMsg or "")
    return envelope


def _number(value: int | str | None) -> int | None:
    """A count that may come as text, or not at all. Raises: WireError for other text."""
    if value is None or value == "":
        return None
    if isinstance(value, int):
        return value
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise WireError("number", "expected digits")
    return int(value)
