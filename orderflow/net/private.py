"""The private connection as Trio tasks: PrivateProtocol on top of open_ws, kept up for ever. Nothing places orders."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from orderflow.bybit.private import BadMessage, PrivateProtocol, PrivateStatistics, PrivateTopicRefused, Ready
from orderflow.core.errors import AuthRejected, TransientFeedError
from orderflow.core.text import escape_text
from orderflow.core.types import LinkChanged, PrivateMessage
from orderflow.net.retry import supervise
from orderflow.net.tap import read_clocks
from orderflow.net.writer import Writer
from orderflow.net.ws import open_ws

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from orderflow.bybit.private import PrivateEvent
    from orderflow.bybit.signing import Signer
    from orderflow.core.policy import LinkPolicy, RetryPolicy
    from orderflow.net.retry import AttemptBudget, LinkHealth
    from orderflow.net.tap import Clock
    from orderflow.net.ws import Dial

log = logging.getLogger(__name__)

LINK: Final = "private"
_MAX_TOLD: Final = 50


class PrivateLinkStatistics(PrivateStatistics, frozen=True, kw_only=True):
    """Counts since start, over all connections."""

    connects: int
    losses: dict[str, int]  # by reason


class PrivateLink:
    """The authenticated connection; `run` it in a nursery.

    Args:
        deliver: gets every message, in order, from the task that reads the socket; must not raise or block.
        exchange_ms: the exchange's clock as well as we know it (wall clock minus the learnt offset): auth frames
            expire by it.
    """

    def __init__(
        self,
        url: str,
        signer: Signer,
        policy: LinkPolicy,
        deliver: Callable[[PrivateMessage], None],
        *,
        exchange_ms: Callable[[], int] | None = None,
        auth_expires_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        dial: Dial | None = None,
        clock: Clock = read_clocks,
    ) -> None:
        self._url = url
        self._signer = signer
        self._policy = policy
        self._deliver = deliver
        self._exchange_ms = exchange_ms or (lambda: clock()[0] // 1_000_000)
        self._auth_expires_s = auth_expires_s
        self._ssl_context = ssl_context
        self._dial = dial
        self._clock = clock
        self._doubted = False
        self._told: set[str] = set()
        self._protocol: PrivateProtocol | None = None
        self._past: list[PrivateStatistics] = []
        self._connects = 0
        self._losses: dict[str, int] = {}

    async def run(
        self,
        retry: RetryPolicy,
        budget: AttemptBudget,
        notify: Callable[[LinkChanged], None],
        rng: Callable[[], float],
    ) -> AuthRejected:
        """Keep the connection up. Returns only when the exchange refused the credentials for good, with the reason.

        The rest of the program can go on without this link, so the refusal is told (`down`, reason `auth`) and
        returned, not raised.
        """

        def tell(change: LinkChanged) -> None:
            notify(msgspec.structs.replace(change, detail=self._signer.redact(change.detail)))

        try:
            await supervise(LINK, self._run_link, retry, budget, tell, rng)
        except AuthRejected as error:
            tell(LinkChanged(link=LINK, state="down", reason="auth", detail=escape_text(str(error), 400)))
            error.__context__ = None  # a verdict, not a crash: no frames that hold what was received
            return error.with_traceback(None)

    def statistics(self) -> PrivateLinkStatistics:
        parts = [*self._past, *([self._protocol.statistics()] if self._protocol else [])]
        sums = msgspec.structs.asdict(_sum_up(parts))
        return PrivateLinkStatistics(connects=self._connects, losses=dict(self._losses), **sums)

    # --- one connection

    async def _run_link(self, health: LinkHealth, up: Callable[[], None]) -> NoReturn:
        """One connection, from dialling to its loss. Raises: TransientFeedError, AuthRejected."""
        protocol = PrivateProtocol(
            self._signer, self._policy, auth_expires_s=self._auth_expires_s, doubted=self._doubted
        )
        writer: Writer | None = None

        def on_batch(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
            for raw in messages:
                for event in protocol.receive(raw, mono_ns):
                    self._handle(event, up)
            if writer is not None and protocol.has_data_to_send:
                writer.wake()

        try:
            async with open_ws(
                self._url,
                on_batch,
                self._policy,
                dial=self._dial,
                ssl_context=self._ssl_context,
                clock=self._clock,
            ) as link:
                self._protocol = protocol
                self._connects += 1
                writer = Writer(protocol, protocol.on_time, link.send, self._clock)
                protocol.opened(self._clock()[1], self._exchange_ms())
                await writer.run()  # losing the link cancels this; open_ws then raises why
        except TransientFeedError as error:
            self._losses[error.reason] = self._losses.get(error.reason, 0) + 1
            self._doubted = self._doubted or error.reason == "auth"
            raise
        finally:
            health.healthy_s = protocol.healthy_s
            self._protocol = None
            self._past = [_sum_up([*self._past, protocol.statistics()])]

    def _handle(self, event: PrivateEvent, up: Callable[[], None]) -> None:
        match event:
            case PrivateMessage():
                self._deliver(event)
            case Ready(topics):
                self._doubted = False
                up()
                log.info("private connection ready: %s", ", ".join(topics) or "no topic accepted")
            case PrivateTopicRefused(topic, text):
                self._tell_once(f"topic {topic}", "private topic %s refused: %s", topic, text)
            case BadMessage(reason, topic, detail):
                self._tell_once(
                    f"bad {reason} {topic}", "private message refused (%s, topic %s): %s", reason, topic, detail
                )

    def _tell_once(self, what: str, message: str, *texts: str) -> None:
        """The counters have the rest."""
        if what not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(what)
            log.warning(message, *texts)


def _sum_up(parts: list[PrivateStatistics]) -> PrivateStatistics:
    return PrivateStatistics(
        frames=sum(part.frames for part in parts),
        messages=_total(part.messages for part in parts),
        rows=_total(part.rows for part in parts),
        refused=_total(part.refused for part in parts),
        unknown=sum(part.unknown for part in parts),
        topics_refused=sum(part.topics_refused for part in parts),
        pongs=sum(part.pongs for part in parts),
    )


def _total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for key, number in count.items():
            total[key] = total.get(key, 0) + number
    return total
