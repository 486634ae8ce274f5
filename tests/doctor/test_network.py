"""The doctor against the simulated exchange: healthy, and ill in each way it knows."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio
import trustme

from orderflow.doctor.findings import Blame, Status, exit_code
from orderflow.sim.faults import Faults, Refusal
from orderflow.sim.private import DEFAULT_KEYS

from .conftest import HASTY, all_at, examine, exchange, listening

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orderflow.sim.faults import Peer
    from orderflow.sim.venue import Action

pytestmark = [pytest.mark.socket, pytest.mark.usefixtures("place")]

((KEY, SECRET),) = DEFAULT_KEYS.items()
NETWORK = ["rest", "clock", "instruments", "socket linear", "book linear:BTCUSDT"]


def with_key(monkeypatch: pytest.MonkeyPatch, secret: str = SECRET) -> None:
    monkeypatch.setenv("ORDERFLOW_BYBIT__API_KEY", KEY)
    monkeypatch.setenv("ORDERFLOW_BYBIT__API_SECRET", secret)


async def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch)
    symbols = ["linear:BTCUSDT", "linear:ETHUSDT", "spot:BTCUSDT", "inverse:BTCUSD"]
    async with exchange(symbols=symbols) as (_, urls):
        report = await examine({**urls, "symbols": symbols})
    assert report.trouble == {}
    assert exit_code(report.checks) == 0
    books = [check.name for check in report.checks if check.name.startswith("book ")]
    assert sorted(books) == sorted(f"book {name}" for name in symbols)
    for name in (*NETWORK, "private", "credentials", "settings", "plugins"):
        assert report.status(name) is Status.PASS, report[name]
    assert all(check.took_ms is not None and check.took_ms >= 0 for check in report.checks)


async def test_without_credentials_nothing_private_is_tried() -> None:
    async with exchange() as (sim, urls):
        report = await examine(urls)
        assert sim.statistics().opened == 1
    assert report.status("private") is report.status("credentials") is Status.SKIP
    assert not any(check.name in ("api key", "account") for check in report.checks)


def a_closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch)
    report = await examine(all_at(a_closed_port()))
    assert report.trouble == {"rest": Status.WARN, "socket linear": Status.FAIL, "private": Status.FAIL}
    assert "orderflow sim" in report["socket linear"].fix
    assert report.status("book linear:BTCUSDT") is Status.SKIP
    assert exit_code(report.checks) == Blame.NETWORK == 4


async def test_the_cure_outside_of_the_simulation_is_another() -> None:
    report = await examine(all_at(a_closed_port()), env="testnet")
    assert report["socket linear"].fix == "nobody listens there: check bybit.public_ws_url and its port"


async def test_many_books_without_a_connection_are_one_line() -> None:
    report = await examine({**all_at(a_closed_port()), "symbols": [f"A{number}USDT" for number in range(50)]})
    assert report.status("books linear") is Status.SKIP
    assert not any(check.name.startswith("book ") for check in report.checks)


async def be_silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def test_a_server_that_says_nothing_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch)
    began = trio.current_time()
    async with listening(be_silent) as port:
        report = await examine({**all_at(port), **HASTY})
    assert trio.current_time() - began < 10
    assert report.trouble == {"rest": Status.WARN, "socket linear": Status.FAIL, "private": Status.FAIL}
    assert "no answer to upgrade" in report["socket linear"].finding


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def talk_nonsense(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\x1b[31mSSH-2.0-nonsense\r\n\r\n")
    await trio.sleep_forever()


@pytest.mark.parametrize("handler", [hang_up, talk_nonsense])
async def test_something_else_answers(handler: object) -> None:
    async with listening(handler) as port:
        report = await examine(all_at(port))
    assert report.trouble == {"rest": Status.WARN, "socket linear": Status.FAIL}
    assert not any("\x1b" in check.finding + check.fix for check in report.checks)


def tls_server(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_nobody_trusts() -> None:
    async with exchange(tls=tls_server(trustme.CA()), host="localhost") as (_, urls):
        report = await examine(urls, env="testnet")
    assert report.trouble == {"rest": Status.WARN, "socket linear": Status.FAIL}
    assert "bybit.ca_file" in report["socket linear"].fix
    assert "bybit.ca_file" in report["rest"].fix


async def test_an_authority_of_ones_own(place: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    async with exchange(tls=tls_server(authority), host="localhost") as (_, urls):
        report = await examine({**urls, "bybit.ca_file": str(place / "ca.pem")})
    assert report.trouble == {}
    assert report.status("dns localhost") is Status.PASS


async def test_an_authority_that_is_none(place: Path) -> None:
    (place / "ca.pem").write_text("nothing")
    report = await examine({"bybit.ca_file": str(place / "ca.pem")})
    assert report["tls"].blame is Blame.SETTINGS
    assert report.trouble == {"tls": Status.FAIL}


class RestForbidden(Faults):
    """What some countries see: REST is blocked, the sockets work."""

    active = True

    def refuse(self, target: str) -> Refusal | None:
        return Refusal(403, body=b"\x1b]0;blocked\x07") if target.startswith("/v5/market") else None


async def test_rest_is_blocked() -> None:
    async with exchange(RestForbidden()) as (_, urls):
        report = await examine(urls)
    assert report.trouble == {"rest": Status.WARN}
    assert "403" in report["rest"].finding
    assert report.status("book linear:BTCUSDT") is Status.PASS
    assert report.status("clock") is report.status("instruments") is Status.SKIP
    assert exit_code(report.checks) == 0


class AllForbidden(Faults):
    active = True

    def refuse(self, target: str) -> Refusal | None:
        return Refusal(403)


async def test_the_sockets_are_blocked_too() -> None:
    async with exchange(AllForbidden()) as (_, urls):
        report = await examine(urls)
    assert report.status("socket linear") is Status.FAIL
    assert "country" in report["socket linear"].fix


async def test_a_secret_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch, "another")
    async with exchange() as (_, urls):
        report = await examine(urls)
    assert report.trouble == {"private": Status.FAIL}
    assert exit_code(report.checks) == Blame.CREDENTIALS == 3


async def test_a_symbol_nobody_knows() -> None:
    async with exchange() as (_, urls):
        report = await examine({**urls, "symbols": ["BTCUSDT", "NOPEUSDT"]})
    assert report.trouble == {"instruments": Status.FAIL, "book linear:NOPEUSDT": Status.FAIL}
    assert "refused by the exchange" in report["book linear:NOPEUSDT"].finding
    assert report.status("book linear:BTCUSDT") is Status.PASS
    assert exit_code(report.checks) == Blame.SETTINGS == 2


class OtherTime(Faults):
    active = True

    def __init__(self, offset_ms: int) -> None:
        self.offset_ms = offset_ms

    def clock_offset_ms(self) -> int:
        return self.offset_ms


@pytest.mark.parametrize("offset_ms, words", [(-2000, "ahead of"), (2500, "behind")])
async def test_a_clock_that_is_wrong(offset_ms: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is warned about; what is signed is signed with the exchange's time and accepted."""
    with_key(monkeypatch)
    async with exchange(OtherTime(offset_ms)) as (_, urls):
        report = await examine({**urls, "bybit.auth_expires_s": 1.0})
    assert report.trouble == {"clock": Status.WARN}
    assert words in report["clock"].finding
    assert report.status("private") is Status.PASS


class Mute(Faults):
    """Books or answers that never come."""

    active = True

    def __init__(self, *, books: bool = False, answers: bool = False) -> None:
        self._books = books
        self._answers = answers

    def actions(self, peer: Peer, actions: Sequence[Action]) -> Sequence[Action]:
        return () if self._answers else actions

    def messages(self, peer: Peer, topic: str, messages: Sequence[bytes]) -> Sequence[bytes]:
        return () if self._books else messages


async def test_a_book_that_does_not_come() -> None:
    async with exchange(Mute(books=True)) as (_, urls):
        report = await examine({**urls, "feed.snapshot_timeout_s": 0.5})
    assert report.trouble == {"book linear:BTCUSDT": Status.FAIL}
    assert report["book linear:BTCUSDT"].blame is Blame.NETWORK


async def test_an_exchange_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch)
    async with exchange(Mute(answers=True)) as (_, urls):
        report = await examine({**urls, "feed.ack_timeout_s": 0.5})
    assert report.status("socket linear") is report.status("private") is Status.FAIL
    assert exit_code(report.checks) == Blame.NETWORK


async def test_a_name_that_does_not_resolve() -> None:
    urls = {
        "bybit.public_ws_url": "wss://nowhere.invalid/v5/public/{category}",
        "bybit.rest_url": "https://nowhere.invalid",
    }
    report = await examine(urls, env="testnet")
    assert {name for name, status in report.trouble.items() if status is Status.FAIL} == {
        "dns nowhere.invalid",
        "socket linear",
    }


@pytest.mark.parametrize("rest", ["http://127.0.0.1:1", "https://nowhere.invalid", "https://127.0.0.1:1"])
async def test_rest_that_cannot_be_reached_stops_no_run(rest: str) -> None:
    """The sockets work: so would a run, and the exit code says so."""
    async with exchange() as (_, urls):
        report = await examine({**urls, "bybit.rest_url": rest})
    assert set(report.trouble.values()) == {Status.WARN}
    assert "a run works without" in report["rest"].finding
    assert exit_code(report.checks) == 0


async def test_without_rest() -> None:
    async with exchange() as (_, urls):
        report = await examine({**urls, "bybit.rest_url": ""})
    assert report.trouble == {}
    assert report.status("rest") is Status.SKIP


class Recorded:
    """REST answers of one account, by path."""

    answers: ClassVar[dict[str, str]] = {
        "/v5/market/time": '{"retCode":0,"result":{"timeNano":"1790000000123456789"},"time":1790000000123}',
        "/v5/market/instruments-info": '{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","baseCoin":"BTC",'
        '"quoteCoin":"USDT","status":"Trading","priceFilter":{"tickSize":"0.10"},'
        '"lotSizeFilter":{"qtyStep":"0.001"}}]}}',
        "/v5/account/wallet-balance": '{"retCode":0,"result":{"list":[{"accountType":"UNIFIED","coin":[]}]}}',
    }

    def __init__(self, key_info: str) -> None:
        self._answers = {**self.answers, "/v5/user/query-api": key_info}

    async def serve(self, stream: trio.SocketStream) -> None:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                more = await stream.receive_some()
                if not more:
                    return
                received += bytes(more)
            head, _, received = received.partition(b"\r\n\r\n")
            path = head.split(b" ")[1].split(b"?")[0].decode()
            body = self._answers.get(path, "{}").encode()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def key_info(days: int = 60, read_only: int = 1, wallet: str = "") -> str:
    return (
        f'{{"retCode":0,"result":{{"readOnly":{read_only},"permissions":{{"Wallet":[{wallet}],"Spot":["SpotTrade"]}},'
        f'"ips":["*"],"deadlineDay":{days}}}}}'
    )


@pytest.mark.parametrize(
    "answer, status, words",
    [
        (key_info(), Status.PASS, "60 days left, may only read (Spot.SpotTrade), from any address"),
        (key_info(days=3), Status.WARN, "3 days left"),
        (key_info(read_only=0, wallet='"Withdraw"'), Status.WARN, "may trade (Wallet.Withdraw"),
        ('{"retCode":10003,"retMsg":"API key is invalid: canary"}', Status.FAIL, "not valid here"),
        ('{"retCode":10010,"retMsg":"unmatched IP"}', Status.FAIL, "bound to other IP addresses"),
        ("<html>", Status.WARN, "makes no sense"),
    ],
)
async def test_what_the_key_may_do(answer: str, status: Status, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch)
    async with listening(Recorded(answer).serve) as port:
        report = await examine({**all_at(port), "bybit.private_ws_url": ""})
    assert report.status("api key") is status, report["api key"]
    assert words in report["api key"].finding
    assert report.status("account") is Status.PASS
