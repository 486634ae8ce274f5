"""The REST client: deadlines, retries and pauses in memory; TLS, limits and hostile answers over real sockets."""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import json
import logging
import socket
import ssl
import traceback
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trustme

from orderflow.bybit.rest import CredentialsRefused, RestBlocked, RestError, RestLimited, RestRefused, RestUnavailable
from orderflow.bybit.signing import Signer, verify_rest
from orderflow.config.secrets import Secret
from orderflow.core.errors import ConfigError, MisuseError, WireError
from orderflow.core.types import Category, InstrumentId
from orderflow.net import answers
from orderflow.net import rest as net_rest
from orderflow.net.rest import open_rest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BASE = "http://127.0.0.1:9"
KEY, SECRET = "canaryKEYvalue0001", "canarySECRETvalue-zyxwvu"
NOW_MS = 1_790_000_000_000
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")

Answer = tuple[int, dict[str, str], bytes]


def ok(result: object, code: int = 0, message: str = "OK") -> Answer:
    return 200, {}, json.dumps({"retCode": code, "retMsg": message, "result": result}).encode()


TIME = ok({"timeSecond": "1790000000", "timeNano": "1790000000423213947"})


class Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 1000):
            await trio.lowlevel.checkpoint()
            yield self._content[start : start + 1000]


class Scripted(httpx.AsyncBaseTransport):
    """Answers in memory: the script's items in order, the last one for ever; exceptions are raised, floats slept."""

    def __init__(self, *script: Answer | Exception | float) -> None:
        self._script = list(script)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(trio.current_time())
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, float):
            await trio.sleep(item)
            item = TIME
        await trio.lowlevel.checkpoint()
        if isinstance(item, Exception):
            raise item
        status, headers, content = item
        return httpx.Response(status, headers=headers, stream=Body(content))

    @property
    def targets(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.requests]


def row(symbol: str) -> dict[str, object]:
    return {
        "symbol": symbol,
        "status": "Trading",
        "baseCoin": symbol[:3],
        "quoteCoin": "USDT",
        "priceFilter": {"tickSize": "0.1"},
        "lotSizeFilter": {"qtyStep": "0.01"},
    }


def rows(*symbols: str, cursor: str = "") -> Answer:
    return ok({"list": [row(symbol) for symbol in symbols], "nextPageCursor": cursor})


# --- calls


async def test_server_time_is_stamped_on_both_sides() -> None:
    clocks = iter([(1_000, 10), (3_000, 2_010)])
    async with open_rest(BASE, 5, transport=Scripted(TIME), clock=lambda: next(clocks)) as rest:
        sample = await rest.server_time()
    assert (sample.sent_ns, sample.sent_mono_ns, sample.received_ns, sample.received_mono_ns) == (
        1_000,
        10,
        3_000,
        2_010,
    )
    assert (sample.server_ns, sample.resolution_ns) == (1790000000423213947, 1)


async def test_few_instruments_are_asked_for_singly() -> None:
    transport = Scripted(rows("BTCUSDT"), ok({}, 10001, "params error: symbol invalid"), rows())
    wanted = [BTC, InstrumentId(Category.LINEAR, "NOPEUSDT"), InstrumentId(Category.SPOT, "GONEUSDT")]
    async with open_rest(BASE, 5, transport=transport) as rest:
        got = await rest.instruments(wanted)
    assert [str(found.id) for found in got.found] == ["linear:BTCUSDT"]
    assert [str(missing) for missing in got.missing] == ["linear:NOPEUSDT", "spot:GONEUSDT"]
    assert transport.targets == [
        "/v5/market/instruments-info?category=linear&symbol=BTCUSDT",
        "/v5/market/instruments-info?category=linear&symbol=NOPEUSDT",
        "/v5/market/instruments-info?category=spot&symbol=GONEUSDT",
    ]


SIX = [f"AA{letter}USDT" for letter in "ABCDEF"]


async def test_many_instruments_are_read_from_pages_until_all_are_found() -> None:
    transport = Scripted(rows(*SIX[:4], cursor="a%3D1%26b"), rows(*SIX[4:], "ZZZUSDT", cursor="c"), rows("NEVERUSDT"))
    async with open_rest(BASE, 5, transport=transport) as rest:
        got = await rest.instruments(InstrumentId(Category.LINEAR, symbol) for symbol in SIX)
    assert [found.id.symbol for found in got.found] == SIX
    assert got.missing == ()
    assert transport.targets == [
        "/v5/market/instruments-info?category=linear&limit=1000",
        "/v5/market/instruments-info?category=linear&limit=1000&cursor=a%3D1%26b",
    ]


async def test_a_circle_of_pages_ends() -> None:
    transport = Scripted(rows("ONEUSDT", cursor="x"))
    async with open_rest(BASE, 5, transport=transport) as rest:
        got = await rest.instruments(InstrumentId(Category.LINEAR, symbol) for symbol in SIX)
    assert len(got.missing) == 6
    assert len(transport.requests) == 2


async def test_nothing_wanted_asks_nothing() -> None:
    transport = Scripted(TIME)
    async with open_rest(BASE, 5, transport=transport) as rest:
        assert await rest.instruments([]) == net_rest.InstrumentsFound((), ())
    assert transport.requests == []


async def test_orderbook() -> None:
    book = {"s": "BTCUSDT", "b": [["1.5", "2"]], "a": [["1.6", "3"]], "u": 5, "seq": 6, "ts": 7, "cts": 8}
    async with open_rest(BASE, 5, transport=Scripted(ok(book))) as rest:
        assert (await rest.orderbook(BTC)).bids == (("1.5", "2"),)


# --- time


async def test_transient_failures_are_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    transport = Scripted(httpx.ConnectError("no"), (503, {}, b"busy"), rows("BTCUSDT"))
    async with open_rest(BASE, 5, transport=transport, rng=lambda: 0.5) as rest:
        assert (await rest.instruments([BTC])).missing == ()
        assert rest.statistics() == net_rest.RestStatistics(requests=3, failures=2, retries=2, pauses=0, held_back=0)
    assert [later - earlier for earlier, later in zip(transport.times, transport.times[1:], strict=False)] == [
        pytest.approx(net_rest.RETRY_PAUSE_S)
    ] * 2


async def test_retries_end(autojump_clock: trio.testing.MockClock) -> None:
    transport = Scripted((502, {}, b""))
    async with open_rest(BASE, 60, transport=transport) as rest:
        with pytest.raises(RestUnavailable) as caught:
            await rest.orderbook(BTC)
    assert caught.value.reason == "status"
    assert len(transport.requests) == net_rest.RETRIES + 1


async def test_one_deadline_over_all_tries(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with open_rest(BASE, 3, transport=Scripted(httpx.ReadError("gone"), 3600.0)) as rest:
        with pytest.raises(RestUnavailable) as caught:
            await rest.orderbook(BTC)
    assert caught.value.reason == "timeout"
    assert trio.current_time() - began == pytest.approx(3)


async def test_a_clock_sample_is_not_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    transport = Scripted(httpx.ConnectError("no"), TIME)
    async with open_rest(BASE, 5, transport=transport) as rest:
        with pytest.raises(RestUnavailable):
            await rest.server_time()
    assert len(transport.requests) == 1


@pytest.mark.parametrize(
    "answer, kind, pause_s",
    [
        ((403, {}, b"blocked"), RestBlocked, 60),
        ((403, {"Retry-After": "120"}, b"blocked"), RestBlocked, 120),
        ((429, {"Retry-After": "30"}, b""), RestLimited, 60),
        (
            (429, {"Retry-After": "Mon, 21 Sep 2026 14:15:20 GMT", "Date": "Mon, 21 Sep 2026 14:13:20 GMT"}, b""),
            RestLimited,
            120,
        ),
        (ok({}, 10006, "Too many visits."), RestLimited, 2),
    ],
)
async def test_left_alone_when_told_so(
    autojump_clock: trio.testing.MockClock, answer: Answer, kind: type[RestError], pause_s: float
) -> None:
    transport = Scripted(answer, TIME)
    async with open_rest(BASE, 5, transport=transport) as rest:
        for _ in range(3):
            with pytest.raises(RestError) as caught:
                await rest.orderbook(BTC)
            assert type(caught.value) is kind
        assert len(transport.requests) == 1
        assert rest.statistics().held_back == 2
        await trio.sleep(pause_s - 0.5)
        with pytest.raises(kind):
            await rest.server_time()
        await trio.sleep(1)
        await rest.server_time()
        assert len(transport.requests) == 2


async def test_each_refusal_in_a_row_doubles_the_pause_and_an_answer_starts_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    blocked: Answer = (403, {}, b"")
    transport = Scripted(blocked, blocked, blocked, blocked, blocked, blocked, TIME, blocked, TIME)
    async with open_rest(BASE, 5, transport=transport) as rest:
        while len(transport.requests) < 9:
            with contextlib.suppress(RestBlocked):
                await rest.server_time()
            await trio.sleep(1)
    waits = [round(later - earlier) for earlier, later in itertools.pairwise(transport.times)]
    assert waits == [60, 120, 240, 480, 600, 600, 1, 60]


async def test_refusals_are_not_tried_again() -> None:
    for answer in (ok({}, 110001, "no"), (404, {}, b""), (302, {"Location": "http://127.0.0.1:1/"}, b"")):
        transport = Scripted(answer)
        async with open_rest(BASE, 5, transport=transport) as rest:
            with pytest.raises(RestRefused):
                await rest.orderbook(BTC)
        assert len(transport.requests) == 1


async def test_cancelled_in_every_phase(autojump_clock: trio.testing.MockClock) -> None:
    for script in ([3600.0], [httpx.ConnectError("no")]):
        async with open_rest(BASE, 60, transport=Scripted(*script)) as rest:
            with trio.move_on_after(0.1) as scope:
                await rest.orderbook(BTC)
            assert scope.cancelled_caught


# --- bodies


@pytest.mark.parametrize(
    "headers, content, reason",
    [
        ({"Content-Encoding": "br"}, b"x", "shape"),
        ({"Content-Encoding": "gzip"}, b"not gzip", "shape"),
        ({}, b"not json", "json"),
        ({}, b"\xff\xfe", "json"),
        ({}, b"", "json"),
    ],
)
async def test_bad_bodies(headers: dict[str, str], content: bytes, reason: str) -> None:
    async with open_rest(BASE, 5, transport=Scripted((200, headers, content))) as rest:
        with pytest.raises(WireError) as caught:
            await rest.server_time()
    assert caught.value.reason == reason


async def test_gzip_is_understood_and_a_cut_one_is_noticed() -> None:
    zipped = gzip.compress(TIME[2])
    transport = Scripted((200, {"Content-Encoding": "gzip"}, zipped), (200, {"Content-Encoding": "gzip"}, zipped[:-9]))
    async with open_rest(BASE, 5, transport=transport) as rest:
        assert (await rest.server_time()).server_ns == 1790000000423213947
        with pytest.raises(RestUnavailable) as caught:
            await rest.server_time()
    assert caught.value.reason == "closed"


async def test_a_body_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_BODY_BYTES", 10_000)
    bomb = zlib.compressobj(wbits=31)
    zipped = bomb.compress(b"0" * 10_000_000) + bomb.flush()
    for answer in ((200, {}, b"0" * 20_000), (200, {"Content-Encoding": "gzip"}, zipped)):
        async with open_rest(BASE, 5, transport=Scripted(answer)) as rest:
            with pytest.raises(WireError) as caught:
                await rest.server_time()
        assert caught.value.reason == "size"


@pytest.mark.parametrize(
    "url", ["", "api.bybit.com", "ftp://a", "https://", "https://u:p@a", "https://a?b=c", "http://a:0", "http://a:x"]
)
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="rest_url"):
        async with open_rest(url, 5):
            raise AssertionError("opened")


# --- credentials


async def test_signed_calls_satisfy_the_exchange() -> None:
    transport = Scripted(ok({"list": [{"accountType": "UNIFIED"}]}), ok({"readOnly": 0, "permissions": {}}))
    signer = Signer(Secret(KEY), Secret(SECRET))
    async with open_rest(BASE + "/base", 5, "", signer, transport=transport, exchange_ms=lambda: NOW_MS) as rest:
        assert (await rest.wallet_balance())[0].account_type == "UNIFIED"
        assert (await rest.api_key_info()).read_only is False
    for request in transport.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert verify_rest(headers, request.url.query.decode(), lambda key: SECRET if key == KEY else None, NOW_MS) == 0
    assert transport.targets[0] == "/base/v5/account/wallet-balance?accountType=UNIFIED"


async def test_public_calls_carry_no_credentials() -> None:
    transport = Scripted(TIME)
    async with open_rest(BASE, 5, "", Signer(KEY, SECRET), transport=transport) as rest:
        await rest.server_time()
    assert not [name for name in transport.requests[0].headers if name.lower().startswith("x-bapi")]


async def test_signed_calls_need_a_signer() -> None:
    async with open_rest(BASE, 5, transport=Scripted(TIME)) as rest:
        with pytest.raises(MisuseError):
            await rest.wallet_balance()


async def test_canary_in_logs_errors_and_tracebacks(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither key, secret nor signature, plain or encoded, in anything produced when signed calls fail."""
    caplog.set_level(logging.DEBUG)
    signer = Signer(Secret(KEY), Secret(SECRET))
    shown: list[str] = []
    echo = f"error sign! origin_string[{NOW_MS}{KEY}5000accountType=UNIFIED]"
    script: list[Any] = [
        httpx.ReadError("gone"),
        ok({}, 10004, echo),
        ok({}, 10001, echo),
        (400, {}, echo.encode()),
        (500, {}, echo.encode()),
        (200, {}, b"no json " + echo.encode()),
    ]
    for item in script:
        transport = Scripted(item)
        async with open_rest(
            BASE, 5, "", signer, transport=transport, exchange_ms=lambda: NOW_MS, rng=lambda: 0
        ) as rest:
            with pytest.raises((RestError, WireError)) as caught:
                await rest.wallet_balance()
            report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            frames = [frame for frame in report.stack if "orderflow/" in frame.filename]
            assert frames
            shown += [repr(frame.locals) for frame in frames]
            shown += [str(caught.value), repr(caught.value), repr(rest), repr(signer)]
            chain = caught.value.__context__, caught.value.__cause__
            assert not any(isinstance(error, httpx.HTTPError) for error in chain)
        signature = transport.requests[0].headers["X-BAPI-SIGN"]
        assert len(signature) == 64
        everything = "\n".join([*shown, caplog.text])
        for hidden in (KEY, SECRET, signature, signature[:12], base64.b64encode(SECRET.encode()).decode()[:20]):
            assert hidden not in everything


# --- real sockets


@asynccontextmanager
async def serving(reply: bytes | None, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers every request with `reply` verbatim and closes (None: reads and says nothing)."""

    async def handle(stream: trio.abc.Stream) -> None:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await stream.receive_some(65536)
            if reply is None:
                await trio.sleep_forever()
            else:
                await stream.send_all(reply)
        except (trio.BrokenResourceError, ssl.SSLError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


def http(body: bytes, head: str = "HTTP/1.1 200 OK") -> bytes:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.socket
async def test_over_a_real_socket() -> None:
    async with serving(http(TIME[2])) as url, open_rest(url, 5) as rest:
        sample = await rest.server_time()
        assert 0 < sample.round_trip_ns < 5_000_000_000


@pytest.mark.socket
@pytest.mark.parametrize(
    "reply, reason",
    [
        (b"", "closed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "closed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", "garbage"),
        (http(b"", "HTTP/1.1 503 Service Unavailable"), "status"),
    ],
)
async def test_peers_that_talk_nonsense(reply: bytes, reason: str) -> None:
    async with serving(reply) as url, open_rest(url, 5) as rest:
        with pytest.raises(RestUnavailable) as caught:
            await rest.server_time()
        assert caught.value.reason == reason


@pytest.mark.socket
async def test_a_silent_peer_costs_the_deadline() -> None:
    async with serving(None) as url, open_rest(url, 0.2) as rest:
        with pytest.raises(RestUnavailable) as caught, trio.fail_after(3):
            await rest.server_time()
        assert caught.value.reason == "timeout"


@pytest.mark.socket
async def test_a_closed_port_is_named() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with open_rest(f"http://127.0.0.1:{port}", 5) as rest:
            with pytest.raises(RestUnavailable) as caught:
                await rest.server_time()
    assert caught.value.reason == "refused"


class NoNames(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


async def test_a_name_that_does_not_resolve_is_named() -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    async with open_rest("http://exchange.invalid", 5) as rest:
        with pytest.raises(RestUnavailable) as caught:
            await rest.server_time()
    assert caught.value.reason == "dns"


@pytest.mark.socket
async def test_redirects_are_not_followed() -> None:
    reached: list[str] = []
    async with serving(http(TIME[2])) as elsewhere:
        head = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}/v5/market/time"
        async with serving(http(b"", head)) as url, open_rest(url, 5) as rest:
            with pytest.raises(RestRefused) as caught:
                reached.append(str((await rest.server_time()).server_ns))
    assert caught.value.reason == "redirect"
    assert reached == []


@pytest.mark.socket
async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    for name, trusted, reason in [("127.0.0.1", True, ""), ("127.0.0.1", False, "tls"), ("localhost", True, "tls")]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        trust = str(ca_file) if trusted else ""
        async with serving(http(TIME[2]), context) as url, open_rest(url, 5, trust) as rest:
            if not reason:
                await rest.server_time()
                continue
            with pytest.raises(RestUnavailable) as caught:
                await rest.server_time()
            assert caught.value.reason == reason


async def test_an_unusable_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_file"):
        async with open_rest("https://127.0.0.1:9", 5, str(tmp_path / "none.pem")):
            raise AssertionError("opened")


@pytest.mark.socket
async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(http(TIME[2])) as url, open_rest(url, 5) as rest:
        await rest.server_time()


async def test_credentials_error_is_a_refusal() -> None:
    async with open_rest(BASE, 5, "", Signer(KEY, SECRET), transport=Scripted(ok({}, 10003, "bad"))) as rest:
        with pytest.raises(CredentialsRefused):
            await rest.api_key_info()
