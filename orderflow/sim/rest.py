"""The REST market endpoints, pure: request in, response out. The venue's data comes through `MarketData`."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from orderflow.core.types import Category
from orderflow.sim.venue import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CATEGORIES: Final = ("spot", "linear", "inverse", "option")
KLINE_INTERVALS: Final = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")
PARAMETER_ERROR: Final = 10001


class Response(msgspec.Struct, frozen=True):
    """One HTTP answer; Content-Length is the server's business."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """A book as REST shows it: (price text, size text) best first, and the counters of the deepest WebSocket topic."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    ts: int
    cts: int
    u: int
    seq: int


class MarketData(Protocol):
    """What the endpoints show. Symbols that do not exist give None (or an empty list)."""

    def instrument_rows(self, category: Category) -> Sequence[Mapping[str, Any]]: ...

    def book_view(self, category: Category, symbol: str, now_ms: int) -> BookView | None: ...

    def trade_rows(self, category: Category, symbol: str, limit: int) -> Sequence[Mapping[str, Any]] | None:
        """Newest first."""

    def ticker_rows(self, category: Category, symbol: str) -> Sequence[Mapping[str, Any]]:
        """All symbols when `symbol` is empty."""

    def kline_rows(
        self, category: Category, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> Sequence[Sequence[str]] | None:
        """[start, open, high, low, close, volume, turnover], newest first; start and end are inclusive."""


class BadParameter(Exception):
    """Becomes retCode 10001 with this text."""


class Rest:
    """Answers `GET /v5/market/...`.

    Args: data: see MarketData. Options are out of scope: their lists are empty.
    """

    def __init__(self, data: MarketData) -> None:
        self._data = data
        self._routes: dict[str, Callable[[Query, int], Any]] = {
            "/v5/market/time": self._time,
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/orderbook": self._orderbook,
            "/v5/market/recent-trade": self._trades,
            "/v5/market/tickers": self._tickers,
            "/v5/market/kline": self._klines,
        }

    def respond(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, now_ns: int
    ) -> Response:
        """The answer to one request. `target` is path and query as sent; `now_ns` the exchange's clock."""
        parts = urlsplit(target)
        route = self._routes.get(parts.path)
        if route is None:
            return _plain(404, "404 page not found", now_ns)
        if method != "GET":
            return _plain(400, "bad request method", now_ns)
        if body:
            return _plain(403, "GET with a body is not allowed", now_ns)
        try:
            return _json(0, "OK", route(Query(parts.query), now_ns), now_ns)
        except BadParameter as error:
            return _json(PARAMETER_ERROR, f"params error: {error}", {}, now_ns)

    def _time(self, query: Query, now_ns: int) -> dict[str, str]:
        return {"timeSecond": str(now_ns // 1_000_000_000), "timeNano": str(now_ns)}

    def _instruments(self, query: Query, now_ns: int) -> dict[str, Any]:
        category = query.category()
        rows = [] if category is None else list(self._data.instrument_rows(category))
        symbol, coin, status = query.text("symbol"), query.text("baseCoin"), query.text("status", "Trading")
        rows = [
            row
            for row in rows
            if (not symbol or row["symbol"] == symbol)
            and (not coin or row["baseCoin"] == coin.upper())
            and (bool(symbol) or row["status"] == status)
        ]
        if symbol and not rows and category is not None:
            raise BadParameter("symbol invalid")
        if category is Category.SPOT:  # spot has no paging
            return {"category": query.text("category"), "list": rows}
        page, cursor = _page(rows, query.number("limit", 500, 1000), query.text("cursor"))
        return {"category": query.text("category"), "list": page, "nextPageCursor": cursor}

    def _orderbook(self, query: Query, now_ns: int) -> dict[str, Any]:
        category, symbol = query.market()
        view = self._data.book_view(category, symbol, now_ns // 1_000_000)
        if view is None:
            raise BadParameter("symbol invalid")
        limit = query.number("limit", 1 if category is Category.SPOT else 25, 1000)
        return {
            "s": symbol,
            "b": view.bids[:limit],
            "a": view.asks[:limit],
            "ts": view.ts,
            "u": view.u,
            "seq": view.seq,
            "cts": view.cts,
        }

    def _trades(self, query: Query, now_ns: int) -> dict[str, Any]:
        category, symbol = query.market()
        limit = query.number("limit", 60, 60) if category is Category.SPOT else query.number("limit", 500, 1000)
        rows = self._data.trade_rows(category, symbol, limit)
        if rows is None:
            raise BadParameter("symbol invalid")
        return {"category": category, "list": rows}

    def _tickers(self, query: Query, now_ns: int) -> dict[str, Any]:
        category, symbol = query.category(), query.text("symbol")
        rows = [] if category is None else self._data.ticker_rows(category, symbol)
        if symbol and not rows:
            raise BadParameter("symbol invalid")
        return {"category": query.text("category"), "list": rows}

    def _klines(self, query: Query, now_ns: int) -> dict[str, Any]:
        category, symbol = query.market(default="linear")
        interval = query.text("interval")
        if interval not in KLINE_INTERVALS:
            raise BadParameter("interval invalid")
        limit = query.number("limit", 200, 1000)
        start_ms, end_ms = query.optional_number("start"), query.optional_number("end")
        rows = self._data.kline_rows(category, symbol, interval, start_ms, end_ms, limit)
        if rows is None:
            raise BadParameter("symbol invalid")
        return {"category": category, "symbol": symbol, "list": rows}


class Query:
    """Typed access to the parameters of a request; BadParameter says which one is wrong."""

    def __init__(self, query: str) -> None:
        self._values = dict(parse_qsl(query, keep_blank_values=True))

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name) or default

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number from 1; larger than `most` counts as `most`."""
        value = self.optional_number(name)
        if value is None:
            return default
        if value < 1:
            raise BadParameter(f"{name} invalid")
        return min(value, most)

    def optional_number(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            raise BadParameter(f"{name} invalid")
        return int(text)

    def category(self, default: str = "") -> Category | None:
        """None for `option`, which exists but is empty here."""
        name = self.text("category", default)
        if name not in CATEGORIES:
            raise BadParameter("category invalid" if name else "category is required")
        return None if name == "option" else Category(name)

    def market(self, default: str = "") -> tuple[Category, str]:
        """Category and symbol of a request that needs both."""
        category, symbol = self.category(default), self.text("symbol")
        if not symbol:
            raise BadParameter("symbol is required")
        if category is None:
            raise BadParameter("symbol invalid")
        return category, symbol


def _page(rows: list[Mapping[str, Any]], limit: int, cursor: str) -> tuple[list[Mapping[str, Any]], str]:
    """The rows behind `cursor`, and the percent-encoded cursor of the next page ("" on the last one)."""
    start = 0
    if cursor:
        last = unquote(cursor).removeprefix("last=")
        symbols = [row["symbol"] for row in rows]
        if last not in symbols:
            raise BadParameter("cursor invalid")
        start = symbols.index(last) + 1
    page = rows[start : start + limit]
    more = start + limit < len(rows)
    return page, quote(f"last={page[-1]['symbol']}", safe="") if more else ""


def _headers(kind: str, now_ns: int, body: bytes) -> tuple[tuple[str, str], ...]:
    trace = f"{zlib.crc32(body):08x}{now_ns & 0xFFFFFFFF:08x}"
    return (("Content-Type", kind), ("Traceid", trace), ("Timenow", str(now_ns // 1_000_000)))


def _json(code: int, text: str, result: Any, now_ns: int) -> Response:
    envelope = {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": now_ns // 1_000_000}
    body = wire(envelope)
    return Response(200, _headers("application/json; charset=utf-8", now_ns, body), body)


def _plain(status: int, text: str, now_ns: int) -> Response:
    body = text.encode()
    return Response(status, _headers("text/plain; charset=utf-8", now_ns, body), body)
