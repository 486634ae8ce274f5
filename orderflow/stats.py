"""Gathers every counter of a run into one picture (core/stats.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.core.stats import BookStats, LinkStats, OutputStats, PluginStats, QueueStats, RestStats, Stats
from orderflow.core.units import NS
from orderflow.net.feed import FeedStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orderflow.core.engine import Engine
    from orderflow.core.stats import ServerStats
    from orderflow.core.types import InstrumentId, LinkChanged
    from orderflow.hooks.host import PluginHost
    from orderflow.net.fanout import QueueStatistics
    from orderflow.net.feed import Feed
    from orderflow.net.private import PrivateLink, PrivateLinkStatistics
    from orderflow.net.rest import RestStatistics
    from orderflow.net.watch import LoopWatch
    from orderflow.ui.sink import OutputStatistics

    _LinkCounts = tuple[str, FeedStatistics | PrivateLinkStatistics, tuple[InstrumentId, ...]]


def gather(
    *,
    uptime_s: float,
    mono_ns: int,
    feeds: Iterable[Feed],
    private: PrivateLink | None,
    links: Mapping[str, LinkChanged],
    engine: Engine,
    queues: Mapping[str, QueueStatistics],
    host: PluginHost,
    watch: LoopWatch,
    rest: RestStatistics | None,
    output: OutputStatistics,
    server: ServerStats | None,
) -> Stats:
    """The counters as they are at `mono_ns`.

    Args: links: what each link last said of itself; rest: None before the client is there; server: None without one.
    """
    offset = engine.clock_offset
    counts: list[_LinkCounts] = [(f.link, f.statistics(), f.instruments) for f in feeds]
    if private is not None:
        counts.append(("private", private.statistics(), ()))
    return Stats(
        uptime_s=round(uptime_s, 3),
        links=tuple(
            _link(name, count, _refused(count, engine, books), links.get(name)) for name, count, books in counts
        ),
        books=tuple(_books(engine, mono_ns)),
        queues=tuple(
            QueueStats(channel=channel, depth=queue.depth, peak=queue.peak, overruns=queue.overruns)
            for channel, queue in queues.items()
        ),
        plugins=tuple(_plugins(host)),
        rest=_rest(rest),
        output=OutputStats(lines=output.lines, dropped=output.dropped, errors=output.errors),
        server=server,
        loop_lag_s=round(watch.lag_s, 6),
        loop_lag_max_s=round(watch.max_lag_s, 6),
        stalls=watch.stalls,
        stalled_s=round(watch.stalled_s, 3),
        clock_steps=watch.clock_steps,
        clock_offset_s=offset.offset_ms / 1000 if offset else None,
        clock_error_s=offset.error_ms / 1000 if offset else None,
    )


def _refused(
    counts: FeedStatistics | PrivateLinkStatistics, engine: Engine, books: Iterable[InstrumentId]
) -> dict[str, int]:
    """Messages refused, by reason: by the protocol, and by the books those that could be read (`depth`, `restart`)."""
    refused = dict(counts.refused)
    for key in books:
        for reason, count in engine.books[key].refusals.items():
            refused[reason] = refused.get(reason, 0) + count
    return refused


def _link(
    name: str, counts: FeedStatistics | PrivateLinkStatistics, refused: dict[str, int], last: LinkChanged | None
) -> LinkStats:
    return LinkStats(
        link=name,
        up=last is not None and last.state == "up",
        connects=counts.connects,
        losses=dict(counts.losses),
        retry_s=round(last.retry_s, 3) if last is not None and last.retry_s is not None else 0.0,
        frames=counts.frames,
        refused=refused,
        topics_refused=counts.topics_refused,
        acks_missing=counts.acks_missing if isinstance(counts, FeedStatistics) else 0,
        unknown=counts.unknown,
    )


def _rest(counts: RestStatistics | None) -> RestStats:
    if counts is None:
        return RestStats(requests=0, failures=0, retries=0, pauses=0, held_back=0)
    return RestStats(
        requests=counts.requests,
        failures=counts.failures,
        retries=counts.retries,
        pauses=counts.pauses,
        held_back=counts.held_back,
    )


def _books(engine: Engine, mono_ns: int) -> Iterator[BookStats]:
    for key, book in engine.books.items():
        yield BookStats(
            category=key.category,
            symbol=key.symbol,
            state=book.state,
            age_s=None if book.last_mono_ns is None else round((mono_ns - book.last_mono_ns) / NS, 3),
            gaps=book.counters.gaps,
            resyncs=dict(engine.resyncs[key]),
            quality=book.coverage.tick(mono_ns),
        )


def _plugins(host: PluginHost) -> Iterator[PluginStats]:
    for plugin in host.statistics().plugins:
        yield PluginStats(
            plugin=plugin.name,
            state=plugin.state,
            calls=plugin.calls,
            failures=plugin.failures,
            seconds=round(plugin.total_s, 6),
            disabled=plugin.state == "disabled",
        )
