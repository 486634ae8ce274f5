"""What a run that is recorded does beside running: taps, connections only listened to, REST books, news of gaps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from orderflow import __version__
from orderflow.bybit.listen import plan_listening
from orderflow.net.listen import Listener
from orderflow.record.news import gap_alert, summary_note
from orderflow.record.records import Session
from orderflow.record.restbooks import record_rest_books

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from orderflow.config.tree import Settings
    from orderflow.core.engine import Engine
    from orderflow.core.types import Alert, Category, InstrumentId
    from orderflow.net.feed import FeedTap
    from orderflow.net.rest import RestClient
    from orderflow.net.tap import Clock
    from orderflow.record.recorder import GapNews, Recorder


class Recording:
    """The recorder's place in one run. `begin` it, `run` it in a nursery, `close` it there.

    Args: put_alerts: told of gaps in the recording; clock: (wall ns, monotonic ns); look: the same, stalls noticed.
    """

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings,
        engine: Engine,
        put_alerts: Callable[[Iterable[Alert]], None],
        clock: Clock,
        look: Clock,
    ) -> None:
        self.recorder = recorder
        self._settings = settings
        self._engine = engine
        self._put_alerts = put_alerts
        self._clock = clock
        self._look = look

    def begin(self, started_ns: int) -> None:
        settings = self._settings
        session = Session(
            session="",
            version=__version__,
            env=settings.env,
            instruments=list(settings.instruments),
            depth=settings.depth,
            interval_s=settings.interval_s,
            book=settings.book,
            metrics=settings.metrics,
            started_ns=started_ns,
            plugins=list(settings.plugins.enabled),
        )
        self.recorder.begin(self._engine, session, self._tell_gap)

    async def run(self) -> None:
        await self.recorder.run()

    async def close(self) -> None:
        await self.recorder.close()

    def tap_of(self, link: str, books: list[tuple[InstrumentId, int]]) -> Callable[[], FeedTap]:
        """What listens to each new connection of a feed."""
        category = books[0][0].category
        return lambda: self.recorder.connection(link, category, self._url(category), books)

    def make_listeners(self, context: ssl.SSLContext | None) -> list[Listener]:
        """Connections for what is recorded beside the books."""
        settings = self._settings
        if not settings.record.topics:
            return []
        listeners: list[Listener] = []
        plan = plan_listening(settings.instruments, settings.record.topics, settings.feed)
        for number, (category, topics) in enumerate(plan, 1):
            link, url = f"beside#{number} {category}", self._url(category)
            make_tap = partial(self.recorder.connection, link, category, url, (), topics)
            listeners.append(
                Listener(link, url, topics, settings.feed, make_tap, ssl_context=context, clock=self._clock)
            )
        return listeners

    async def run_rest_books(self, rest: RestClient) -> None:
        """Note REST books beside the recorded ones, if that is wanted."""
        if every_s := self._settings.record.rest_books_s:
            await record_rest_books(rest, self.recorder, self._settings.instruments, every_s, self._clock)

    def note(self) -> str:
        """A line of the closing summary."""
        return summary_note(self.recorder.statistics(), self.recorder.folder)

    def _url(self, category: Category) -> str:
        return self._settings.bybit.public_ws_url.replace("{category}", category)

    def _tell_gap(self, news: GapNews) -> None:
        """A gap in the recording began or ended: an alert, with any book's tick as its evidence."""
        recv_ns, mono_ns = self._look()
        key = next(iter(self._engine.books))
        self._put_alerts([gap_alert(news, self._engine.view(key, 1, recv_ns, mono_ns).tick)])
