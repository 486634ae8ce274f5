"""Every hook a plugin can implement. This file is the contract; docs/plugins.md is the guide.

What holds for all of them:

- **Called from** the program's own thread, between two steps of the event loop, one plugin after the other in the order
  of `plugins.enabled`. While a hook runs nothing else does: no message is read, no ping is answered. (An isolated
  plugin is called in a process of its own, a little later; docs/plugins.md says what is different there.)
- **Sync and quick.** `async def` is refused. A call has a budget (`plugins.budget_ms`, 20 ms); over it you are warned
  about, and over `plugins.disable_over_ms` (1 s) the plugin is disabled. Do slow work in a thread of your own.
- **If it raises**, anything including `SystemExit`, that is contained: the other plugins still get their call, the
  failure is counted, and after `plugins.max_failures` (5) in a row the plugin is disabled and said so once.
- **Arguments** are frozen: nothing a plugin does changes what the next one sees. A hook takes `self` and the one
  argument named here, or `self` alone when it needs no argument.
- **Returns** None, except `orderflow_tick`. Anything else counts as a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import pluggy

from orderflow.core.types import InstrumentId  # noqa: TC001 - msgspec resolves the annotation at run time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.core.types import Alert, FeedChange, MetricsTick, PrivateMessage, Summary

PROJECT: Final = "orderflow"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a method of `Plugin` as a hook implementation. Use it bare: `@hookimpl`, without options."""


class StartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be watched.

    Args:
        version: of orderflow; env: `mainnet`, `testnet`, `demo_trading` or `sim`.
        instruments: every instrument that will tick, in a stable order.
        depth: levels per side of the books; interval_s: seconds between two ticks of one instrument.
        ts: our wall clock, ms.
    """

    version: str
    env: str
    instruments: tuple[InstrumentId, ...]
    depth: int
    interval_s: float
    ts: int


@hookspec
def orderflow_start(info: StartInfo) -> None:
    """The program is about to connect.

    Called once, before any other hook, from the task that builds everything. Budget: `plugins.budget_ms`, and nothing
    connects before it returns. If it raises, that is contained and the plugin still gets the hooks that follow.

    Args: info: what will be watched.
    Returns: None.
    Since: 0.1.0. Example::

        @hookimpl
        def orderflow_start(self, info):
            self.seen = {instrument: 0 for instrument in info.instruments}
    """


@hookspec
def orderflow_stop(summary: Summary) -> None:
    """The program is stopping: links are down, no tick will follow.

    Called once, last, from the closing of the program, which has to end within `stop_timeout_s` (2 s) altogether.
    Budget: `plugins.budget_ms`. If it raises, that is contained. A disabled plugin is not called.

    Args: summary: the closing summary (seconds, counts, milliseconds).
    Returns: None.
    Since: 0.1.0. Example::

        @hookimpl
        def orderflow_stop(self, summary):
            self.file.write(f"{summary.alerts} alerts in {summary.uptime_s:.0f} s")
    """


@hookspec
def orderflow_feed_change(change: FeedChange) -> None:
    """A connection or a book changed state.

    Called from the task that applies the change, when it happens: a few times a minute on a healthy feed, a burst of
    one per book when a link goes down. Budget: `plugins.budget_ms`. If it raises, that is contained.

    Args: change: `LinkChanged` (state `connecting`, `up`, `down`) or `BookStateChanged` (old and new `BookState`).
    Returns: None.
    Since: 0.1.0. Example::

        @hookimpl
        def orderflow_feed_change(self, change):
            if isinstance(change, LinkChanged) and change.state == "down":
                self.losses += 1
    """


@hookspec
def orderflow_tick(tick: MetricsTick) -> Iterable[Alert] | None:
    """The metrics of one instrument at the end of one interval.

    Called from the metrics task for every instrument, every `interval_s` (default 5 s, down to 0.1 s), also when the
    book is not live: then metrics are None, and `tick.state` and `tick.reason` say why. Budget: `plugins.budget_ms`,
    counted until the last alert has been taken from what is returned.

    Args: tick: prices in quote currency, sizes in base coin, `_ms` milliseconds, `_pct` percent, `_bps` basis points.
    Returns: alerts about this very tick, or None. At most `plugins.max_alerts_per_call` (100) of one call are taken.
        The host fills in `plugin`; an alert whose fields are not what `Alert` says is refused and counts as a failure.
    If it raises, alerts already yielded are kept and the failure is contained.
    Since: 0.1.0. Example::

        @hookimpl
        def orderflow_tick(self, tick):
            if tick.spread == 0:
                yield notice(tick, "locked", "best bid and best ask are equal", metric="spread", value=0.0)
    """


@hookspec
def orderflow_alert(alert: Alert) -> None:
    """An alert of any plugin, this one's own too.

    Called from the metrics task right after all plugins have had the tick that decided. Budget: `plugins.budget_ms`;
    hand the alert to a thread or a queue of your own when sending it takes longer. If it raises, that is contained.

    Args: alert: with `plugin` filled in. Its text may come from outside: escape it before showing it.
    Returns: None.
    Since: 0.1.0. Example::

        @hookimpl
        def orderflow_alert(self, alert):
            self.outbox.put_nowait(alert)
    """


@hookspec
def orderflow_private(message: PrivateMessage) -> None:
    """A message of the private connection: order, execution, position or wallet.

    Called from the task of the private connection, once for each message, only when credentials are set. Budget:
    `plugins.budget_ms`. If it raises, that is contained.

    Args: message: the topic, the exchange's time in ms, and the rows, typed by topic; decimals stay exact text.
    Returns: None.
    Since: 0.1.0. Example::

        @hookimpl
        def orderflow_private(self, message):
            if message.topic == "execution":
                self.fills += len(message.rows)
    """


TICK_HOOK: Final = "orderflow_tick"

HOOKS: Final[dict[str, str]] = {
    "orderflow_start": "info",
    "orderflow_stop": "summary",
    "orderflow_feed_change": "change",
    TICK_HOOK: "tick",
    "orderflow_alert": "alert",
    "orderflow_private": "message",
}
"""Every hook and the name of its one argument."""
