"""Checks over WebSockets: open, answer a ping, deliver each book; and the private one, let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import trio

from orderflow.bybit.private import PrivateProtocol, PrivateTopicRefused, Ready
from orderflow.bybit.protocol import FeedProtocol
from orderflow.core.errors import AuthRejected, TransientFeedError, UpgradeRefused
from orderflow.core.types import BookUpdate, TopicRefused
from orderflow.core.units import NS
from orderflow.doctor.exam import Exam
from orderflow.doctor.findings import Blame, Check, failed, passed, skipped, warned
from orderflow.net.tap import read_clocks
from orderflow.net.ws import open_ws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.core.policy import LinkPolicy
    from orderflow.core.types import InstrumentId
    from orderflow.doctor.network import Network
    from orderflow.net.ws import WebSocketLink

OPEN_S: Final = 8.0
CLOCK_S: Final = 8.0  # the private link signs with the exchange's time, so it waits for it a little
FEW: Final = 10  # books that are told one by one although there is nothing to tell of them
SNAPSHOT_S: Final = 8.0  # for every book and the pong
ACK_S: Final = 4.0  # for the answer to auth, then for those to the account's topics

_PING: Final = '{"req_id":"doctor","op":"ping"}'
_BLOCKED: Final = (403, 429)

_FIXES: Final = {
    "dns": "check the network and the host in {key}",
    "refused": "nobody listens there: check {key} and its port",
    "unreachable": "no way to that address: check network, firewall and VPN",
    "tls": "never ignored: set this computer's clock; behind a proxy of your company, set bybit.ca_file",
    "timeout": "a firewall or proxy may swallow the traffic: try another network, or check {key}",
    "ack": "what answers there does not speak Bybit's V5: check {key}",
}
_OTHER_FIX: Final = "check {key}; if it is right, try again later"
_SIM_FIX: Final = "start the simulated exchange first, in another terminal: orderflow sim --port 9000"


def _policy(network: Network) -> LinkPolicy:
    """The settings' policy, its waits short enough for one look."""
    policy = network.settings.feed
    return msgspec.structs.replace(
        policy,
        open_timeout_s=min(policy.open_timeout_s, OPEN_S),
        close_timeout_s=min(policy.close_timeout_s, 1.0),
        snapshot_timeout_s=min(policy.snapshot_timeout_s, SNAPSHOT_S),
        ack_timeout_s=min(policy.ack_timeout_s, ACK_S),
    )


def _lost(name: str, error: TransientFeedError, key: str, network: Network) -> Check:
    """The failure of a link and its cure."""
    status = error.status if isinstance(error, UpgradeRefused) else 0
    if status in _BLOCKED:
        fix = "this address or country is not served, or asked too often: another network, or wait"
    elif network.settings.env == "sim":
        fix = _SIM_FIX
    else:
        fix = _FIXES.get(error.reason, _OTHER_FIX).format(key=key)
    return failed(name, str(error), fix, Blame.NETWORK)


# --- public -------------------------------------------------------------------------------------------------------


def public_exam(network: Network, link: str, books: Sequence[tuple[InstrumentId, int]]) -> Exam:
    """One public connection as a run would make it, with its books."""
    return Exam(f"socket {link}", _PublicLook(network, link, books).run)


class _PublicLook:
    """One look at one public connection: until every book came or was refused, and the pong is there."""

    def __init__(self, network: Network, link: str, books: Sequence[tuple[InstrumentId, int]]) -> None:
        self._network = network
        self._link = link
        self._instruments = [instrument for instrument, _ in books]
        category = books[0][0].category
        self._url = network.settings.bybit.public_ws_url.replace("{category}", category)
        self._policy = _policy(network)
        self._protocol = FeedProtocol(link, category, books, self._policy)
        self._wake = trio.Event()
        self._done = trio.CancelScope()
        self._books: dict[InstrumentId, Check] = {}
        self._opened_ns = self._pinged_ns = 0
        self._pong_ns: int | None = None
        self._began_ns = 0

    async def run(self) -> Sequence[Check]:
        self._began_ns = read_clocks()[1]
        try:
            async with open_ws(self._url, self._receive, self._policy, ssl_context=self._network.context) as link:
                self._opened_ns = read_clocks()[1]
                self._protocol.opened(self._opened_ns)
                self._done.deadline = trio.current_time() + self._policy.snapshot_timeout_s
                with self._done:
                    await self._drive(link)
        except TransientFeedError as error:
            if not self._opened_ns:
                return self._not_open(error)
            return self._verdict(f"the connection was lost: {error}")
        return self._verdict("")

    async def _drive(self, link: WebSocketLink) -> NoReturn:
        """Ping first, then subscribe; then wait for what comes."""
        self._pinged_ns = read_clocks()[1]
        await link.send(_PING)
        while True:
            self._wake = trio.Event()
            for text in self._protocol.data_to_send():
                await link.send(text)
            await self._wake.wait()

    def _receive(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        for event in self._protocol.receive(messages, recv_ns, mono_ns):
            if isinstance(event, BookUpdate) and event.snapshot and event.instrument not in self._books:
                self._books[event.instrument] = self._live(event)
            elif isinstance(event, TopicRefused):
                fix = "check spelling, category and depth; the exchange's words say which"
                name, text = f"book {event.instrument}", f"refused by the exchange: {event.text}"
                self._books[event.instrument] = failed(name, text, fix, Blame.SETTINGS)
        if self._pong_ns is None and self._protocol.statistics().pongs:
            self._pong_ns = mono_ns
        if self._protocol.has_data_to_send:
            self._wake.set()
        if self._pong_ns is not None and len(self._books) == len(self._instruments):
            self._done.cancel()

    def _live(self, event: BookUpdate) -> Check:
        text = f"live, {len(event.bids)} bids and {len(event.asks)} asks"
        return passed(f"book {event.instrument}", text, (event.mono_ns - self._opened_ns) / 1e6)

    # --- what is said

    def _not_open(self, error: TransientFeedError) -> list[Check]:
        lost = _lost(f"socket {self._link}", error, "bybit.public_ws_url", self._network)
        count = len(self._instruments)
        names = [f"book {instrument}" for instrument in self._instruments] if count <= FEW else [f"books {self._link}"]
        return [lost, *(skipped(name, "no connection") for name in names)]

    def _verdict(self, lost: str) -> list[Check]:
        return [self._socket(lost), *(self._book(instrument, lost) for instrument in self._instruments)]

    def _socket(self, lost: str) -> Check:
        name = f"socket {self._link}"
        if self._pong_ns is None:
            finding = lost or f"open, but no answer to a ping in {self._policy.snapshot_timeout_s:g} s"
            return failed(name, finding, _OTHER_FIX.format(key="bybit.public_ws_url"), Blame.NETWORK)
        open_ms = (self._opened_ns - self._began_ns) / 1e6
        pong_ms = (self._pong_ns - self._pinged_ns) / 1e6
        return passed(name, f"{self._url}: open after {open_ms:.0f} ms, ping answered in {pong_ms:.1f} ms", open_ms)

    def _book(self, instrument: InstrumentId, lost: str) -> Check:
        if (check := self._books.get(instrument)) is not None:
            return check
        refused = ", ".join(f"{count} {reason}" for reason, count in self._protocol.statistics().refused.items())
        finding = lost or f"no snapshot in {self._policy.snapshot_timeout_s:g} s" + (
            f"; messages refused: {refused}" if refused else ""
        )
        return failed(f"book {instrument}", finding, "try again; if it stays, try another depth", Blame.NETWORK)


# --- private ------------------------------------------------------------------------------------------------------


async def check_private(network: Network) -> list[Check]:
    """Whether the credentials open the private connection, and which of its topics they get."""
    url = network.settings.bybit.private_ws_url
    if network.signer is None:
        return [skipped("private", "no credentials: the account's own stream is not used")]
    if not url:
        return [skipped("private", "bybit.private_ws_url is empty: not used")]
    with trio.move_on_after(CLOCK_S):
        await network.clock_asked.wait()
    look = _PrivateLook(network, url)
    began_ns = read_clocks()[1]
    try:
        await look.run()
    except AuthRejected as error:
        return [_auth_refused(str(error))]
    except TransientFeedError as error:
        if error.reason == "auth":
            return [_auth_refused(error.detail)]
        return [_lost("private", error, "bybit.private_ws_url", network)]
    return [look.verdict((read_clocks()[1] - began_ns) / 1e6)]


def _auth_refused(text: str) -> Check:
    fix = "check key, secret and --env: every environment has keys of its own; see also the clock"
    return failed("private", f"credentials refused: {text}", fix, Blame.CREDENTIALS)


class _PrivateLook:
    """One look at the private connection: until every topic is answered."""

    def __init__(self, network: Network, url: str) -> None:
        assert network.signer is not None
        self._network = network
        self._url = url
        policy = _policy(network)
        self._policy = policy
        expires_s = network.settings.bybit.auth_expires_s
        self._protocol = PrivateProtocol(network.signer, policy, auth_expires_s=expires_s)
        self._wake = trio.Event()
        self._done = trio.CancelScope()
        self._topics: tuple[str, ...] | None = None
        self._refused: list[str] = []

    async def run(self) -> None:
        """Raises: TransientFeedError, AuthRejected."""
        async with open_ws(self._url, self._receive, self._policy, ssl_context=self._network.context) as link:
            self._protocol.opened(read_clocks()[1], self._network.exchange_ms())
            self._done.deadline = trio.current_time() + 3 * self._policy.ack_timeout_s  # the protocol gives up before
            with self._done:
                await self._drive(link)

    async def _drive(self, link: WebSocketLink) -> NoReturn:
        while True:
            self._wake = trio.Event()
            self._protocol.on_time(read_clocks()[1])
            for text in self._protocol.data_to_send():
                await link.send(text)
            left_s = (self._protocol.next_deadline_ns() - read_clocks()[1]) / NS
            with trio.move_on_after(max(0.0, left_s)):
                await self._wake.wait()

    def _receive(self, messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
        for raw in messages:
            for event in self._protocol.receive(raw, mono_ns):
                if isinstance(event, Ready):
                    self._topics = event.topics
                    self._done.cancel()
                elif isinstance(event, PrivateTopicRefused):
                    self._refused.append(f"{event.topic}: {event.text}")
        if self._protocol.has_data_to_send:
            self._wake.set()

    def verdict(self, took_ms: float) -> Check:
        if self._topics is None:
            fix = _OTHER_FIX.format(key="bybit.private_ws_url")
            return failed("private", f"not let in after {3 * self._policy.ack_timeout_s:g} s", fix, Blame.NETWORK)
        if self._refused:
            return warned("private", f"let in, but refused: {'; '.join(self._refused)}", "check the key's permissions")
        return passed("private", f"{self._url}: let in, gets {', '.join(self._topics)}", took_ms)
