"""The exchange's REST interface over httpx on Trio. httpx is imported when a client is opened, not before.

Deadline per call, answers of bounded size, TLS always verified, redirects never followed. Proxies, netrc and CA files
named in the environment are not used: what this program talks to is written in its settings and nowhere else.
"""

from __future__ import annotations

import random
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import trio

from orderflow.bybit.rest import (
    API_KEY_INFO,
    SERVER_TIME,
    WALLET_BALANCE,
    ApiKeyInfo,
    InstrumentPage,
    RestBook,
    RestError,
    RestPaused,
    RestRefused,
    RestRequest,
    RestUnavailable,
    instruments_request,
    orderbook_request,
    parse_api_key,
    parse_instruments,
    parse_orderbook,
    parse_server_time,
    parse_wallet,
    pause_s,
    status_error,
)
from orderflow.bybit.signing import BAD_PARAMETER, DEFAULT_WINDOW_MS
from orderflow.core.clock import TimeSample
from orderflow.core.errors import ConfigError, MisuseError, WireError
from orderflow.core.types import Category, Instrument, InstrumentId, WalletRow, sort_instruments
from orderflow.core.units import NS
from orderflow.net.answers import read_body, translated
from orderflow.net.dial import make_ssl_context
from orderflow.net.tap import read_clocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    import httpx

    from orderflow.bybit.signing import Signer
    from orderflow.net.tap import Clock

T = TypeVar("T")

RETRIES: Final = 2
RETRY_PAUSE_S: Final = 0.5
KEEPALIVE_S: Final = 75.0  # longer than the pause between two clock samples, which need a warm connection
CLOSE_TIMEOUT_S: Final = 1.0
ASK_SINGLY: Final = 5  # up to so many symbols of one category are asked for one by one, more by reading the whole list
MAX_PAGES: Final = 50


class InstrumentsFound(msgspec.Struct, frozen=True):
    """Answer to `RestClient.instruments`: `missing` are not known to the exchange, or not trading."""

    found: tuple[Instrument, ...]
    missing: tuple[InstrumentId, ...]


class RestStatistics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counts since the client was opened."""

    requests: int
    failures: int
    retries: int
    pauses: int  # times the exchange asked to be left alone
    held_back: int  # calls refused by ourselves while the exchange wanted to be left alone


class RestClient:
    """An open client; made by `open_rest`. Every call raises RestError or WireError and nothing else.

    After an answer that asks to be left alone (blocked, too often), calls fail at once without asking until it is over;
    each such answer in a row doubles the pause.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        timeout_s: float,
        signer: Signer | None,
        window_ms: int,
        exchange_ms: Callable[[], int],
        clock: Clock,
        rng: Callable[[], float],
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._signer = signer
        self._window_ms = window_ms
        self._exchange_ms = exchange_ms
        self._clock = clock
        self._rng = rng
        self._paused: RestPaused | None = None
        self._paused_until = 0.0
        self._paused_in_a_row = 0
        self._requests = self._failures = self._retries = self._pauses = self._held_back = 0

    def __repr__(self) -> str:
        return f"<RestClient {self._client.base_url} {self._signer!r}>"

    async def server_time(self) -> TimeSample:
        """One sample for the clock offset. Not retried: the caller samples again anyway."""
        sent_ns, sent_mono_ns = self._clock()
        (received_ns, received_mono_ns), server = await self._call(
            SERVER_TIME, lambda body: (self._clock(), parse_server_time(body)), retries=0
        )
        return TimeSample(
            sent_ns=sent_ns,
            sent_mono_ns=sent_mono_ns,
            received_ns=received_ns,
            received_mono_ns=received_mono_ns,
            server_ns=server.ns,
            resolution_ns=server.resolution_ns,
        )

    async def instruments(self, wanted: Iterable[InstrumentId]) -> InstrumentsFound:
        """Facts of the given instruments. The deadline holds for each request."""
        found: dict[InstrumentId, Instrument] = {}
        ids = sort_instruments(wanted)
        for category in Category:
            symbols = [instrument.symbol for instrument in ids if instrument.category is category]
            pages = await (self._singly if len(symbols) <= ASK_SINGLY else self._pages)(category, symbols)
            found.update((row.id, row) for page in pages for row in page.instruments)
        return InstrumentsFound(
            tuple(found[instrument] for instrument in ids if instrument in found),
            tuple(instrument for instrument in ids if instrument not in found),
        )

    async def orderbook(self, instrument: InstrumentId, levels: int = 1000) -> RestBook:
        """The book as REST has it, up to `levels` (1 to 1000) per side."""
        return await self._call(orderbook_request(instrument, levels), lambda body: parse_orderbook(body, instrument))

    async def orderbook_text(self, instrument: InstrumentId, levels: int) -> str:
        """The same as it came; it has been found to be the book of this instrument."""

        def checked(body: bytes) -> str:
            parse_orderbook(body, instrument)
            return body.decode()

        return await self._call(orderbook_request(instrument, levels), checked)

    async def wallet_balance(self) -> tuple[WalletRow, ...]:
        """The unified account. Needs a signer."""
        return await self._call(WALLET_BALANCE, parse_wallet)

    async def api_key_info(self) -> ApiKeyInfo:
        """What our key may do. Needs a signer."""
        return await self._call(API_KEY_INFO, parse_api_key)

    def statistics(self) -> RestStatistics:
        return RestStatistics(
            requests=self._requests,
            failures=self._failures,
            retries=self._retries,
            pauses=self._pauses,
            held_back=self._held_back,
        )

    # --- instruments

    async def _singly(self, category: Category, symbols: Iterable[str]) -> list[InstrumentPage]:
        """One request per symbol. An unknown symbol is answered as a bad parameter, or by an empty list."""
        pages: list[InstrumentPage] = []
        for symbol in symbols:
            try:
                pages.append(await self._page(category, symbol))
            except RestRefused as error:
                if error.ret_code != BAD_PARAMETER:
                    raise
        return pages

    async def _pages(self, category: Category, symbols: Iterable[str]) -> list[InstrumentPage]:
        """Pages of the category until nothing is missing or the list ends."""
        missing = set(symbols)
        pages: list[InstrumentPage] = []
        cursors = {""}
        cursor = ""
        while missing and len(pages) < MAX_PAGES:
            page = await self._page(category, cursor=cursor)
            pages.append(page)
            missing -= {row.id.symbol for row in page.instruments}
            cursor = page.cursor
            if cursor in cursors:  # "": the end; any other one: the list runs in a circle
                break
            cursors.add(cursor)
        return pages

    async def _page(self, category: Category, symbol: str = "", cursor: str = "") -> InstrumentPage:
        request = instruments_request(category, symbol, cursor)
        return await self._call(request, lambda body: parse_instruments(body, category))

    # --- one call

    async def _call(self, request: RestRequest, parse: Callable[[bytes], T], retries: int = RETRIES) -> T:
        """What `parse` makes of the answer, within the deadline, transient failures tried again."""
        self._hold_back()
        if request.signed and self._signer is None:
            raise MisuseError(f"{request.path} needs credentials")
        with trio.move_on_after(self._timeout_s) as scope:
            while True:
                try:
                    return await self._attempt(request, parse)
                except RestUnavailable:
                    if retries <= 0:
                        raise
                retries -= 1
                self._retries += 1
                await trio.sleep(RETRY_PAUSE_S * (0.5 + self._rng()))
        assert scope.cancelled_caught
        self._failures += 1
        raise RestUnavailable(f"no answer in {self._timeout_s:g} s", reason="timeout")

    def _hold_back(self) -> None:
        if self._paused is None:
            return
        left_s = self._paused_until - trio.current_time()
        if left_s <= 0:
            self._paused = None
            return
        self._held_back += 1
        raise type(self._paused)(self._paused.detail, reason=self._paused.reason, pause_s=left_s)

    async def _attempt(self, request: RestRequest, parse: Callable[[bytes], T]) -> T:
        self._requests += 1
        try:
            answer = parse(await self._exchange(request))
            self._paused_in_a_row = 0
            return answer
        except RestPaused as error:
            self._paused, self._paused_until = error, trio.current_time() + pause_s(error, self._paused_in_a_row)
            self._paused_in_a_row += 1
            self._pauses += 1
            self._failures += 1
            raise
        except (RestError, WireError):
            self._failures += 1
            raise

    async def _exchange(self, request: RestRequest) -> bytes:
        """Send one request and read its answer; the headers of signed ones are made as it leaves."""
        message = self._client.build_request("GET", request.target)
        auth = self._sign if request.signed else None
        response = await translated(self._client.send(message, auth=auth, stream=True), "garbage")
        try:
            body = await translated(read_body(response), "closed")
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await response.aclose()
        if request.signed and self._signer is not None:
            body = self._signer.redact(body.decode("utf-8", "replace")).encode()
        if response.status_code == 200:
            return body
        raise status_error(response.status_code, response.headers, body, self._clock()[0] / NS)

    def _sign(self, message: httpx.Request) -> httpx.Request:
        """Adds the headers that authenticate exactly the query that is about to be sent."""
        assert self._signer is not None
        query = message.url.query.decode("ascii")
        message.headers.update(self._signer.rest_headers(self._exchange_ms(), self._window_ms, query))
        return message


@asynccontextmanager
async def open_rest(
    base_url: str,
    timeout_s: float,
    ca_file: str = "",
    signer: Signer | None = None,
    *,
    window_ms: int = DEFAULT_WINDOW_MS,
    exchange_ms: Callable[[], int] | None = None,
    clock: Clock = read_clocks,
    rng: Callable[[], float] = random.random,
    ssl_context: ssl.SSLContext | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[RestClient]:
    """A client for the time of the block; nothing is connected before the first call.

    Args:
        base_url: http:// or https://, a path prefix allowed.
        timeout_s: deadline of one call, retries included.
        ca_file: PEM file with further authorities.
        signer: for signed calls; exchange_ms: the exchange's clock as we know it (default: ours) for their timestamps.
        ssl_context: instead of one made from `ca_file` (each takes time and 2 MB); it must verify.
        transport: instead of sockets, for tests.
    Raises: ConfigError for another kind of URL or an unusable `ca_file`.
    """
    import httpx

    client = httpx.AsyncClient(
        base_url=_checked(base_url),
        verify=ssl_context or _tls(base_url, ca_file),
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # ours bounds the whole call
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=KEEPALIVE_S),
        headers={"User-Agent": "orderflow", "Accept": "application/json", "Accept-Encoding": "gzip"},
    )
    own_ms = exchange_ms or (lambda: clock()[0] // 1_000_000)
    try:
        yield RestClient(client, timeout_s, signer, window_ms, own_ms, clock, rng)
    finally:
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await client.aclose()


def _checked(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("bybit.rest_url: expected http(s)://host[:port][/path]")
    return base_url


def _tls(base_url: str, ca_file: str) -> ssl.SSLContext:
    if urlsplit(base_url).scheme == "https":
        return make_ssl_context(ca_file or None)
    return ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # never used, and trusting nobody: reading the authorities takes time
