"""A public connection that is only recorded, as Trio tasks: ListenProtocol on top of open_ws.

It is apart from the connections that feed the books: whatever happens to it, and however much comes on it, they do not
notice.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

import trio

from orderflow.bybit.listen import ListenProtocol
from orderflow.core.errors import TransientFeedError
from orderflow.core.text import escape_text
from orderflow.core.units import NS
from orderflow.net.retry import first_leaf, supervise
from orderflow.net.tap import read_clocks
from orderflow.net.writer import Writer
from orderflow.net.ws import open_ws

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from orderflow.core.policy import LinkPolicy, RetryPolicy
    from orderflow.core.types import LinkChanged
    from orderflow.net.feed import FeedTap
    from orderflow.net.retry import AttemptBudget, LinkHealth
    from orderflow.net.tap import Clock
    from orderflow.net.ws import Dial

log = logging.getLogger(__name__)


class Listener:
    """Keeps topics subscribed and hands every message to a tap. Args: make_tap: of each new connection."""

    def __init__(
        self,
        link: str,
        url: str,
        topics: Sequence[str],
        policy: LinkPolicy,
        make_tap: Callable[[], FeedTap],
        *,
        ssl_context: ssl.SSLContext | None = None,
        dial: Dial | None = None,
        clock: Clock = read_clocks,
    ) -> None:
        self.link = link
        self._url = url
        self._topics = topics
        self._policy = policy
        self._make_tap = make_tap
        self._ssl_context = ssl_context
        self._dial = dial
        self._clock = clock
        self._wake = trio.Event()
        self._told: set[str] = set()

    async def run(
        self,
        retry: RetryPolicy,
        budget: AttemptBudget,
        notify: Callable[[LinkChanged], None],
        rng: Callable[[], float],
    ) -> NoReturn:
        """Keep the connection up for ever. Raises: whatever is a bug."""
        await supervise(self.link, self._run_link, retry, budget, notify, rng)

    async def _run_link(self, health: LinkHealth, up: Callable[[], None]) -> NoReturn:
        """One connection, from dialling to its loss. Raises: TransientFeedError, alone or in a group."""
        protocol = ListenProtocol(self._topics, self._policy)
        tap = self._make_tap()
        writer: Writer | None = None

        def on_batch(messages: list[bytes], recv_ns: int, mono_ns: int) -> None:
            tap.batch(messages, recv_ns, mono_ns, [])
            for topic, text in protocol.receive(messages, mono_ns):
                self._refused(topic, text)
            if protocol.has_data_to_send and writer is not None:
                writer.wake()

        async def send(text: str) -> None:
            await ws.send(text)
            tap.sent(text)

        try:
            async with open_ws(
                self._url, on_batch, self._policy, dial=self._dial, ssl_context=self._ssl_context, clock=self._clock
            ) as ws:
                writer = Writer(protocol, protocol.on_time, send, self._clock)
                tap.opened()
                protocol.opened(self._clock()[1])
                up()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(writer.run)
                    await ws.wait_closed()
        except* TransientFeedError as group:
            tap.lost(first_leaf(group).reason, first_leaf(group).detail)
            raise
        finally:
            if protocol.first_data_ns is not None and protocol.last_data_ns is not None:
                health.healthy_s = (protocol.last_data_ns - protocol.first_data_ns) / NS
        raise AssertionError("a connection ends by raising")

    def _refused(self, topic: str, text: str) -> None:
        """Once each: asked for again, it will be refused again."""
        if topic not in self._told:
            self._told.add(topic)
            log.warning("recording: the exchange refused %s: %s", escape_text(topic), escape_text(text, 200))
