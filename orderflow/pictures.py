"""What the live view is shown: frames of everything, put together from time to time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from orderflow.core.types import BookView, ViewFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orderflow.config.tree import Settings
    from orderflow.core.engine import Engine
    from orderflow.core.types import Alert, FeedChange, LinkChanged

KEPT: Final = 50
RATE_FRAMES: Final = 20  # the message rate shown is that of so many frames: 5 s by default


class Pictures:
    """Remembers the latest alerts and news, and makes frames.

    Args: links: the state of every link by name, as it is kept; look: (wall ns, monotonic ns), stalls being noticed.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        links: Mapping[str, LinkChanged],
        look: Callable[[], tuple[int, int]],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._links = links
        self._look = look
        self._alerts: deque[Alert] = deque(maxlen=KEPT)
        self._news: deque[tuple[int, FeedChange]] = deque(maxlen=KEPT)
        self._marks: deque[tuple[float, int]] = deque(maxlen=RATE_FRAMES)  # (uptime, messages) of past frames

    def alert(self, alert: Alert) -> None:
        self._alerts.append(alert)

    def feed(self, now_ms: int, change: FeedChange) -> None:
        self._news.append((now_ms, change))

    async def frame(self, uptime_s: float, messages: int) -> ViewFrame:
        """Everything as it is now. Between two books the links have their turn.

        Args: messages: received since the start.
        """
        self._marks.append((uptime_s, messages))
        since_s, before = self._marks[0]
        books: list[BookView] = []
        for key in self._engine.books:
            recv_ns, mono_ns = self._look()
            books.append(self._engine.view(key, self._settings.view.levels, recv_ns, mono_ns))
            await trio.lowlevel.checkpoint()
        return ViewFrame(
            ts=self._look()[0] // 1_000_000,
            uptime_s=uptime_s,
            env=self._settings.env,
            books=tuple(books),
            links=tuple(self._links.values()),
            alerts=tuple(self._alerts),
            messages=messages,
            message_rate=(messages - before) / (uptime_s - since_s) if uptime_s > since_s else 0.0,
            clock=self._engine.clock_offset,
            news=tuple(self._news),
        )
