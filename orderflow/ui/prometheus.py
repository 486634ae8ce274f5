"""The counters as Prometheus reads them. Imported only when /metrics is served.

Names and labels are fixed; label values are our own words, names of plugins, and symbols that passed validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from orderflow.core.types import BookState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from orderflow.core.stats import OutputStats, RestStats, ServerStats, Stats

_BOOK: Final = ("category", "symbol")


def render(stats: Stats, accept: str) -> tuple[str, bytes]:
    """(content type, body) in the format the client asks for by its Accept header."""
    encode, content_type = choose_encoder(accept)
    return content_type, encode(_Collector(stats))


class _Collector:
    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        yield from _links(self._stats)
        yield from _books(self._stats)
        yield from _machinery(self._stats)
        yield from _plugins(self._stats)
        yield from _rest(self._stats.rest)
        yield from _output(self._stats.output)
        if self._stats.server is not None:
            yield from _server(self._stats.server)


def _links(stats: Stats) -> Iterator[Metric]:
    up = GaugeMetricFamily("orderflow_link_up", "Whether the connection is up.", labels=["link"])
    connects = CounterMetricFamily("orderflow_link_connects", "Connections opened.", labels=["link"])
    losses = CounterMetricFamily("orderflow_link_losses", "Connections lost or not had.", labels=["link", "reason"])
    retry = GaugeMetricFamily("orderflow_link_retry_seconds", "Wait before the next attempt.", labels=["link"])
    frames = CounterMetricFamily("orderflow_frames", "Messages received.", labels=["link"])
    refused = CounterMetricFamily("orderflow_frames_refused", "Messages refused whole.", labels=["link", "reason"])
    topics = CounterMetricFamily("orderflow_topics_refused", "Topics the exchange refused.", labels=["link"])
    acks = CounterMetricFamily("orderflow_acks_missing", "Answers that did not come in time.", labels=["link"])
    unknown = CounterMetricFamily("orderflow_frames_unknown", "Topics and answers not asked for.", labels=["link"])
    for link in stats.links:
        up.add_metric([link.link], link.up)
        connects.add_metric([link.link], link.connects)
        retry.add_metric([link.link], link.retry_s)
        frames.add_metric([link.link], link.frames)
        topics.add_metric([link.link], link.topics_refused)
        acks.add_metric([link.link], link.acks_missing)
        unknown.add_metric([link.link], link.unknown)
        for reason, count in link.losses.items():
            losses.add_metric([link.link, reason], count)
        for reason, count in link.refused.items():
            refused.add_metric([link.link, reason], count)
    yield from (up, connects, losses, retry, frames, refused, topics, acks, unknown)


def _books(stats: Stats) -> Iterator[Metric]:
    state = GaugeMetricFamily("orderflow_book_state", "1 for the state a book is in.", labels=[*_BOOK, "state"])
    age = GaugeMetricFamily("orderflow_book_age_seconds", "Time since the last applied update.", labels=_BOOK)
    gaps = CounterMetricFamily("orderflow_book_gaps", "Jumps in the update numbers.", labels=_BOOK)
    resyncs = CounterMetricFamily("orderflow_book_resyncs", "Topics subscribed afresh.", labels=[*_BOOK, "reason"])
    ratio = GaugeMetricFamily("orderflow_book_coverage_ratio", "Share of the run it was live.", labels=_BOOK)
    lost = CounterMetricFamily("orderflow_book_gap_seconds", "Time without a live book, once it was.", labels=_BOOK)
    for book in stats.books:
        key = [book.category, book.symbol]
        for one in BookState:
            state.add_metric([*key, one.value], one.value == book.state)
        if book.age_s is not None:
            age.add_metric(key, book.age_s)
        gaps.add_metric(key, book.gaps)
        lost.add_metric(key, book.quality.gap_s)
        if book.quality.coverage_pct is not None:
            ratio.add_metric(key, book.quality.coverage_pct / 100)
        for reason, count in book.resyncs.items():
            resyncs.add_metric([*key, reason], count)
    yield from (state, age, gaps, resyncs, ratio, lost)


def _machinery(stats: Stats) -> Iterator[Metric]:
    depth = GaugeMetricFamily("orderflow_queue_depth", "Items waiting in a channel.", labels=["channel"])
    overruns = CounterMetricFamily("orderflow_queue_overruns", "Times a channel was full.", labels=["channel"])
    for queue in stats.queues:
        depth.add_metric([queue.channel], queue.depth)
        overruns.add_metric([queue.channel], queue.overruns)
    lag = GaugeMetricFamily("orderflow_loop_lag_seconds", "How late the event loop's last beat came.")
    lag.add_metric([], stats.loop_lag_s)
    yield from (depth, overruns, lag)
    yield _counter("orderflow_stalls", "Times the program stood still.", stats.stalls)
    yield _counter("orderflow_clock_steps", "Times the wall clock was set.", stats.clock_steps)
    if stats.clock_offset_s is not None:
        offset = GaugeMetricFamily("orderflow_clock_offset_seconds", "Our clock minus the exchange's.")
        offset.add_metric([], stats.clock_offset_s)
        yield offset


def _plugins(stats: Stats) -> Iterator[Metric]:
    failures = CounterMetricFamily("orderflow_plugin_failures", "Failed calls.", labels=["plugin"])
    seconds = GaugeMetricFamily("orderflow_plugin_seconds", "Time spent in its calls since start.", labels=["plugin"])
    disabled = GaugeMetricFamily("orderflow_plugin_disabled", "Whether it was disabled.", labels=["plugin"])
    for plugin in stats.plugins:
        failures.add_metric([plugin.plugin], plugin.failures)
        seconds.add_metric([plugin.plugin], plugin.seconds)
        disabled.add_metric([plugin.plugin], plugin.disabled)
    yield from (failures, seconds, disabled)


def _rest(rest: RestStats) -> Iterator[Metric]:
    yield _counter("orderflow_rest_requests", "REST requests made.", rest.requests)
    yield _counter("orderflow_rest_failures", "REST requests that failed.", rest.failures)
    yield _counter("orderflow_rest_retries", "REST requests made again.", rest.retries)
    yield _counter("orderflow_rest_pauses", "Times the exchange asked to be left alone.", rest.pauses)
    yield _counter("orderflow_rest_held_back", "REST requests not made during such a pause.", rest.held_back)


def _output(output: OutputStats) -> Iterator[Metric]:
    yield _counter("orderflow_output_lines", "Lines written to standard output.", output.lines)
    yield _counter("orderflow_output_lines_dropped", "Lines its reader did not take.", output.dropped)
    yield _counter("orderflow_output_errors", "Writes that were refused.", output.errors)


def _server(server: ServerStats) -> Iterator[Metric]:
    yield _counter("orderflow_http_served", "Requests of this port that were answered.", server.served)
    yield _counter("orderflow_http_cut", "Connections to this port that took too long.", server.cut)
    yield _counter("orderflow_http_failed", "Connections to this port that ended in an error.", server.failed)
    refused = CounterMetricFamily("orderflow_http_refused", "Requests that were refused.", labels=["reason"])
    for reason, count in server.refused.items():
        refused.add_metric([reason], count)
    yield refused


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value)
