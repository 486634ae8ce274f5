"""One run of the monitor: the channels, the nursery tree, and what flows between them (docs/architecture.md).

root
 |- output, alert_sink, view          consumers: outlive the producers, get a moment to drain
 |- isolates                          plugins in processes of their own: calls to them, their alerts
 '- producers                         cancelled first
     |- signals, duration
     |- feed ... feed                 one per connection, each with a link nursery of its own
     |- books    events -> Engine -> state changes, resyncs
     |- timer    time  -> Engine -> lasting crosses, silence
     |- metrics  every interval: Engine -> ticks -> plugins -> alerts
     '- facts    REST: instruments, clock offset;  private: the account's own stream
"""

from __future__ import annotations

import gc
import importlib
import logging
import random
import signal
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import msgspec
import trio

from orderflow import __version__
from orderflow.bookfile import BookFile
from orderflow.bybit.protocol import plan_links
from orderflow.core.engine import Engine
from orderflow.core.errors import FatalFeedError, OrderflowError
from orderflow.core.text import counted, escape_text
from orderflow.core.types import (
    Alert,
    BookStateChanged,
    ClockOffset,
    ClockStepped,
    Distrust,
    Event,
    FeedChange,
    InstrumentId,
    LinkChanged,
    MetricsTick,
    Output,
    PrivateMessage,
    ResyncNeeded,
    Started,
    Stopping,
    Summary,
    TickDue,
    TimerDue,
    ViewFrame,
)
from orderflow.hooks.specs import StartInfo
from orderflow.isolates import Isolates
from orderflow.net.dial import make_ssl_context
from orderflow.net.fanout import DropOldest, EventQueue, Latest
from orderflow.net.feed import Feed
from orderflow.net.retry import AttemptBudget
from orderflow.net.tap import read_clocks
from orderflow.net.watch import LoopWatch, stay_awake
from orderflow.pictures import Pictures
from orderflow.stats import gather

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from orderflow.config.tree import Settings
    from orderflow.core.stats import ServerStats, Stats
    from orderflow.hooks.host import PluginHost
    from orderflow.net.listen import Listener
    from orderflow.net.private import PrivateLink
    from orderflow.net.rest import RestClient
    from orderflow.net.tap import Clock
    from orderflow.record.recorder import Recorder
    from orderflow.recording import Recording
    from orderflow.signals import StopSignals
    from orderflow.ui.report import Reporter
    from orderflow.ui.sink import Output as StandardOutput
    from orderflow.watchdog import Watchdog

log = logging.getLogger(__name__)

TIMER_S: Final = 0.1
TICK_PAUSE_S: Final = 0.001  # between the ticks of two books
FACTS_RETRY_S: Final = 30.0
EXIT_OK: Final = 0
EXIT_REFUSED: Final = 3
EXIT_UNREACHABLE: Final = 4
OUTAGE_STEP_S: Final = 1.0


class Show(Protocol):
    """A live view: shows frames until their channel closes; calls `on_quit` when the user has seen enough."""

    async def __call__(self, frames: trio.MemoryReceiveChannel[ViewFrame], *, on_quit: Callable[[], None]) -> None: ...


class Port(Protocol):
    """A port of ours that tells the counters to who asks (serve.py)."""

    async def run(self, stats: Callable[[], Stats]) -> NoReturn: ...

    def statistics(self) -> ServerStats: ...


class Monitor:
    """Everything one run holds. Build it, `await run()`, read the exit code.

    Args:
        output: standard output; when its reader goes away the run ends.
        show: the live view; None: lines only. serve: the port of /metrics, run for as long as the program.
        signals: where SIGINT and SIGTERM arrive; None: they are not ours. watchdog: told that the event loop lives.
        book_out: where every book is written at the end and on SIGUSR1.
        recorder: records the run; closed at its end.
    """

    def __init__(
        self,
        settings: Settings,
        host: PluginHost,
        reporter: Reporter,
        output: StandardOutput,
        *,
        show: Show | None = None,
        serve: Port | None = None,
        signals: StopSignals | None = None,
        watchdog: Watchdog | None = None,
        book_out: Path | None = None,
        recorder: Recorder | None = None,
        clock: Clock = read_clocks,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._host = host
        self._reporter = reporter
        self._output = output
        self._show = show
        self._serve = serve
        self._signals = signals
        self._watchdog = watchdog
        self._clock = clock
        self._rng = rng
        books = [(instrument, settings.depth) for instrument in settings.instruments]
        self.engine = Engine(books, settings.book, settings.metrics, clock=time.monotonic_ns)
        self._book_file = BookFile(book_out, self.engine) if book_out is not None else None
        self._recorder = recorder
        events = settings.queues.events
        self._queue = EventQueue(events) if recorder is None else recorder.make_queue(events)
        self._alerts: DropOldest[Alert] = DropOldest(settings.queues.alerts)
        self._isolates = Isolates(host, settings.queues.isolated, self._put_alerts)
        self._frames: Latest[ViewFrame] = Latest()
        self._private: DropOldest[PrivateMessage] = DropOldest(settings.queues.events)
        self._private_link: PrivateLink | None = None
        self._rest: RestClient | None = None
        self._final_ticks: tuple[MetricsTick, ...] = ()
        self._final_stats: Stats | None = None
        self._alert_count = 0
        self._links: dict[str, LinkChanged] = {}
        self._notes: dict[str, str] = {}
        self._watch = LoopWatch(settings.watch, clock, self._stalled, self._clock_stepped)
        self._recording = self._make_recording()
        self._pictures = Pictures(settings, self.engine, self._links, self._watch.look)
        self._producing = trio.CancelScope()
        self._stopping = ""
        self._final_books: bytes | None = None
        self._exit_code = EXIT_OK
        self._began = 0.0
        self._feeds: list[Feed] = []
        self._feed_of: dict[InstrumentId, Feed] = {}
        self._listeners: list[Listener] = []

    def _make_recording(self) -> Recording | None:
        if self._recorder is None:
            return None
        from orderflow.recording import Recording

        return Recording(self._recorder, self._settings, self.engine, self._put_alerts, self._clock, self._watch.look)

    # --- life

    async def run(self) -> int:
        """Run until stopped. Returns: the exit code. Raises: whatever is a bug."""
        settings = self._settings
        self._began = trio.current_time()
        names = [str(instrument) for instrument in settings.instruments]
        async with trio.open_nursery() as consumers:
            await consumers.start(self._run_signals)
            await consumers.start(self._run_output)
            consumers.start_soon(self._watch.run, self._beat)
            if self._serve is not None:
                consumers.start_soon(self._serve.run, self.stats)
            drained = trio.Event()
            consumers.start_soon(self._run_alert_sink, drained)
            self._reporter.start(__version__, settings.env, names, settings.depth, settings.interval_s)
            started_ns, mono_ns = self._clock()
            if self._recording is not None:
                self._recording.begin(started_ns)
                consumers.start_soon(self._recording.run)
            self._give(Started(recv_ns=started_ns, mono_ns=mono_ns))
            await consumers.start(self._isolates.run)
            self._host.start(
                StartInfo(
                    version=__version__,
                    env=settings.env,
                    instruments=tuple(settings.instruments),
                    depth=settings.depth,
                    interval_s=settings.interval_s,
                    ts=started_ns // 1_000_000,
                )
            )
            shown = trio.Event()
            if self._show is None:
                shown.set()
            else:
                consumers.start_soon(self._run_view, shown)
            await self._produce()
            with trio.move_on_after(settings.stop_timeout_s / 8):
                await self._isolates.settled()  # alerts of the last ticks
            self._frames.close()
            self._alerts.close()
            with trio.move_on_after(settings.stop_timeout_s / 4):
                await shown.wait()
                await drained.wait()
            await self._close()
            consumers.cancel_scope.cancel(reason="stopped")
        return self._exit_code

    def stop(self, reason: str) -> None:
        """End the run, in order; the first reason counts."""
        if self._stopping:
            return
        self._stopping = reason
        if self._watchdog is not None:
            self._watchdog.stopping()
        self._take_last_look()
        self._producing.cancel(reason=reason)

    async def _produce(self) -> None:
        settings = self._settings
        budget = AttemptBudget(settings.retry)
        self._make_feeds()
        _set_aside()
        try:
            with self._producing:
                async with trio.open_nursery() as producers:
                    producers.start_soon(self._run_books)
                    producers.start_soon(self._run_timer)
                    producers.start_soon(self._run_metrics)
                    for feed in self._feeds:
                        producers.start_soon(feed.run, settings.retry, budget, self._tell_feed, self._rng)
                    for listener in self._listeners:
                        producers.start_soon(listener.run, settings.retry, budget, self._tell_feed, self._rng)
                    if settings.bybit.rest_url:
                        producers.start_soon(self._run_facts)
                    if settings.bybit.api_key and settings.bybit.private_ws_url:
                        producers.start_soon(self._run_private_sink)
                        producers.start_soon(self._run_private, budget)
                    if settings.busy_poll:
                        producers.start_soon(stay_awake)
                    producers.start_soon(self._run_stats)
                    if settings.max_outage_s:
                        producers.start_soon(self._run_outage, settings.max_outage_s)
                    if settings.duration_s:
                        producers.start_soon(self._run_duration)
                    if self._show is not None:
                        producers.start_soon(self._run_frames)
        except* FatalFeedError as group:
            self._refused_for_good(str(group.exceptions[0]))
        finally:
            gc.unfreeze()
        self._take_last_look()

    def _refused_for_good(self, text: str) -> None:
        self._exit_code = EXIT_REFUSED
        self._note("refused", f"refused for good: {escape_text(text)}")
        self.stop("refused for good")

    def _take_last_look(self) -> None:
        """Books and ticks as they are before the links go down: for the summary and `book_out`. Once."""
        if self._final_ticks:
            return
        recv_ns, mono_ns = self._watch.look()
        self._give(Stopping(recv_ns=recv_ns, mono_ns=mono_ns))
        self._final_ticks = tuple(self.engine.view(key, 1, recv_ns, mono_ns).tick for key in self.engine.books)
        self._final_stats = self.stats()
        self._final_books = self._book_file.dump() if self._book_file is not None else None

    def _make_feeds(self) -> None:
        settings = self._settings
        context = self._ssl_context()
        seen: dict[str, int] = {}
        for books in plan_links(((key, settings.depth) for key in settings.instruments), settings.feed):
            category = books[0][0].category
            number = seen[category] = seen.get(category, 0) + 1
            name = f"{category}" if number == 1 else f"{category}#{number}"
            feed = Feed(
                name,
                settings.bybit.public_ws_url.replace("{category}", category),
                category,
                books,
                self._queue,
                settings.feed,
                ssl_context=context,
                clock=self._clock,
                make_tap=self._recording.tap_of(name, books) if self._recording is not None else None,
            )
            self._feeds.append(feed)
            self._feed_of.update(dict.fromkeys(feed.instruments, feed))
        if self._recording is not None:
            self._listeners = self._recording.make_listeners(context)

    def _ssl_context(self) -> ssl.SSLContext | None:
        """None: the default one, which is made when it is first needed."""
        ca_file = self._settings.bybit.ca_file
        return make_ssl_context(ca_file) if ca_file else None

    # --- producers

    async def _run_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        token = trio.lowlevel.current_trio_token()

        def stop(name: str) -> None:
            """Called in the middle of anything, a hanging plugin included: the watchdog's time begins at once."""
            if self._watchdog is not None:
                self._watchdog.stopping()
            token.run_sync_soon(self.stop, name)

        with (
            trio.open_signal_receiver(signal.SIGUSR1) as signals,
            self._signals.directed(stop) if self._signals is not None else nullcontext(),
        ):
            task_status.started()
            async for _ in signals:
                if self._book_file is not None:
                    await self._write_books(self._book_file, self._book_file.dump())

    def _beat(self) -> None:
        if self._watchdog is not None:
            self._watchdog.beat()

    async def _run_private(self, budget: AttemptBudget) -> None:
        """The account's own stream. Credentials that are refused end the run: whoever set them wants to know."""
        from orderflow.bybit.signing import Signer
        from orderflow.net.private import PrivateLink

        bybit = self._settings.bybit
        assert bybit.api_key is not None
        assert bybit.api_secret is not None
        link = self._private_link = PrivateLink(
            bybit.private_ws_url,
            Signer(bybit.api_key, bybit.api_secret),
            self._settings.feed,
            self._private.put,
            exchange_ms=self._exchange_ms,
            auth_expires_s=bybit.auth_expires_s,
            ssl_context=self._ssl_context(),
            clock=self._clock,
        )
        refused = await link.run(self._settings.retry, budget, self._tell_feed, self._rng)
        self._refused_for_good(str(refused))

    async def _run_private_sink(self) -> None:
        while True:
            self._host.private(await self._private.receive())

    def _exchange_ms(self) -> int:
        """The exchange's clock as well as we know it."""
        offset = self.engine.clock_offset
        return self._clock()[0] // 1_000_000 - (round(offset.offset_ms) if offset else 0)

    async def _run_stats(self) -> None:
        while True:
            await trio.sleep(self._settings.stats_interval_s)
            self._reporter.stats(self.stats())

    async def _run_outage(self, limit_s: float) -> None:
        """End a run that has been without the exchange for too long. Time spent standing still does not count."""
        step_s = min(OUTAGE_STEP_S, limit_s / 4)
        without_s = 0.0
        before_s = trio.current_time()
        while without_s < limit_s:
            await trio.sleep(step_s)
            now_s = trio.current_time()
            without_s += min(now_s - before_s, 2 * step_s)
            before_s = now_s
            if any(feed.delivers for feed in self._feeds):
                without_s = 0.0
        self._exit_code = EXIT_UNREACHABLE
        self._note("outage", f"the exchange could not be reached for {limit_s:g} s (max_outage_s)")
        self.stop("unreachable")

    async def _run_duration(self) -> None:
        await trio.sleep(self._settings.duration_s)
        self.stop("duration")

    async def _run_books(self) -> None:
        """Feed the engine: what waits in the queue, and while nothing does, straight from the links."""
        self._queue.hand_to(self._apply)
        try:
            while True:
                for events in await self._queue.receive():
                    self._apply(events)
        finally:
            self._queue.hand_to(None)

    def _apply(self, events: list[Event]) -> None:
        """One queue item. What comes behind the last look is not of this run any more."""
        if self._stopping:
            return
        outputs = self.engine.apply_all(events)
        if outputs:
            self._route(outputs)
        if self._recorder is not None:
            self._recorder.item_applied()

    def _give(self, event: Event) -> tuple[Output, ...]:
        """To the engine, past the queue."""
        if self._recorder is not None:
            self._recorder.given(event)
        return self.engine.apply(event)

    async def _run_timer(self) -> None:
        while True:
            await trio.sleep(TIMER_S)
            self._route(self._give(TimerDue(mono_ns=self._watch.look()[1])))

    async def _run_metrics(self) -> None:
        interval_s = self._settings.interval_s
        pause_s = min(TICK_PAUSE_S, interval_s / 2 / len(self.engine.books))
        due = trio.current_time()
        while True:
            due += interval_s
            now = trio.current_time()
            if due < now:  # we stood still: no burst of overdue ticks
                due = now + interval_s
            await trio.sleep_until(due)
            for instrument in self.engine.books:
                self._tick(instrument)
                await trio.sleep(pause_s)  # fifty books at once would hold the links up

    def _tick(self, instrument: InstrumentId) -> None:
        recv_ns, mono_ns = self._watch.look()
        for tick in self._give(TickDue(recv_ns=recv_ns, mono_ns=mono_ns, instrument=instrument)):
            if isinstance(tick, MetricsTick):
                self._reporter.tick(tick)
                self._put_alerts(self._host.tick(tick))

    def _put_alerts(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self._alerts.put(alert)

    async def _run_frames(self) -> None:
        while True:
            uptime_s = trio.current_time() - self._began
            self._frames.put(await self._pictures.frame(uptime_s, self._message_count()))
            await trio.sleep(self._settings.view.refresh_s)

    async def _run_facts(self) -> None:
        """REST: what the instruments are, what time it is. The program works without; it says what it did not learn."""
        await trio.to_thread.run_sync(importlib.import_module, "httpx")  # a heavy import must not hold the feed
        from orderflow.net.clock import run_clock
        from orderflow.net.rest import open_rest

        _set_aside()

        bybit = self._settings.bybit
        async with (
            open_rest(bybit.rest_url, bybit.rest_timeout_s, bybit.ca_file, clock=self._clock) as rest,
            trio.open_nursery() as nursery,
        ):
            self._rest = rest
            nursery.start_soon(self._learn_instruments, rest)
            if self._recording is not None:
                nursery.start_soon(self._recording.run_rest_books, rest)
            await run_clock(rest, self._settings.clock, self._learn_offset, trouble=self._note_clock)

    async def _learn_instruments(self, rest: RestClient) -> None:
        wanted = set(self._settings.instruments)
        while True:
            try:
                found = await rest.instruments(wanted)
            except OrderflowError as exc:
                self._note("instruments", f"instruments unknown, REST says {escape_text(str(exc))}")
            else:
                self._queue.put_control(list(found.found))
                missing = ", ".join(sorted(map(str, found.missing)))
                self._note("instruments", f"not listed by the exchange: {missing}" if missing else "")
                return
            await trio.sleep(FACTS_RETRY_S)

    def _learn_offset(self, offset: ClockOffset) -> None:
        """At once, and not before a step of our clock is noticed: this offset was measured after it."""
        self._watch.look()
        self._give(offset)

    def _note_clock(self, text: str) -> None:
        self._note("clock", f"clock offset unknown or old: {text}" if text else "", say=False)  # the task said it

    def _note(self, key: str, text: str, *, say: bool = True) -> None:
        """Remember, and say once, what could not be learnt; "" takes it back."""
        if say and text and self._notes.get(key) != text:
            log.warning("%s", text)
        if text:
            self._notes[key] = text
        else:
            self._notes.pop(key, None)

    # --- routing

    def _route(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, BookStateChanged):
                self._tell_feed(output)
            elif isinstance(output, ResyncNeeded):
                self._feed_of[output.instrument].resync(output.instrument, output.reason)

    def _tell_feed(self, change: FeedChange) -> None:
        now_ms = self._clock()[0] // 1_000_000
        if isinstance(change, LinkChanged):
            change = msgspec.structs.replace(change, ts=now_ms)
            self._links[change.link] = change
            if self._recorder is not None:
                self._recorder.link_changed(change)
        self._pictures.feed(now_ms, change)
        self._reporter.feed(change)
        self._host.feed_change(change)

    # --- time that went wrong

    def _stalled(self, length_s: float) -> None:
        """We stood still: what the books hold may be long past, and nobody knows what the links have lost."""
        log.warning("the program stood still for %.1f s: no book is believed until it is fresh", length_s)
        self._reporter.stall(length_s)
        for event in self._queue.take_all():  # else a snapshot from before would make its book live again
            self._route(self.engine.apply(event))
        mono_ns = self._clock()[1]
        for key in self.engine.books:
            doubt = Distrust(instrument=key, reason="stall", mono_ns=mono_ns, refused=False)
            self._route(self._give(doubt))

    def _clock_stepped(self, by_s: float) -> None:
        """Durations do not mind, but the offset to the exchange's clock moved along."""
        log.warning("our clock was set %s by %.3f s", "forward" if by_s > 0 else "back", abs(by_s))
        recv_ns, mono_ns = self._clock()
        self._give(ClockStepped(by_ms=by_s * 1000, recv_ns=recv_ns, mono_ns=mono_ns))

    # --- consumers

    async def _run_output(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self._output.run(task_status)
        self.stop("nobody reads the output")

    async def _run_alert_sink(self, drained: trio.Event) -> None:
        try:
            while True:
                alert = await self._alerts.receive()
                self._alert_count += 1
                self._pictures.alert(alert)
                self._reporter.alert(alert)
        except trio.EndOfChannel:
            drained.set()

    async def _run_view(self, shown: trio.Event) -> None:
        assert self._show is not None
        try:
            await self._show(self._frames.receiver, on_quit=lambda: self.stop("quit"))
        finally:
            shown.set()

    # --- figures

    def _message_count(self) -> int:
        return sum(feed.statistics().frames for feed in self._feeds)

    async def _write_books(self, file: BookFile, data: bytes) -> None:
        """Trouble with the disk is said and survived."""
        try:
            await file.write(data)
        except OSError as exc:
            self._note("book_out", f"could not write {file.path}: {exc.strerror}")

    def stats(self) -> Stats:
        """Every counter of the program as it is now."""
        return gather(
            uptime_s=trio.current_time() - self._began,
            mono_ns=self._watch.look()[1],
            feeds=self._feeds,
            private=self._private_link,
            links=self._links,
            engine=self.engine,
            queues={
                "events": self._queue.statistics(),
                "alerts": self._alerts.statistics(),
                "private": self._private.statistics(),
                "isolated": self._isolates.statistics(),
            },
            host=self._host,
            watch=self._watch,
            rest=None if self._rest is None else self._rest.statistics(),
            output=self._output.statistics(),
            server=None if self._serve is None else self._serve.statistics(),
        )

    # --- the end

    async def _close(self) -> None:
        if self._book_file is not None and self._final_books is not None:
            with trio.move_on_after(self._settings.stop_timeout_s / 8):
                await self._write_books(self._book_file, self._final_books)
        if self._recording is not None:
            with trio.move_on_after(self._settings.stop_timeout_s * 3 / 8):
                await self._recording.close()
        summary = self._summary()
        self._host.stop(summary)
        with trio.move_on_after(self._settings.stop_timeout_s / 8):
            await self._isolates.settled()
        self._reporter.summary(summary)

    def _summary(self) -> Summary:
        ticks = self._final_ticks
        notes = [*self._notes.values(), *self._host.notes()]
        if self._private_link is not None:
            counts = self._private_link.statistics().messages
            told = ", ".join(f"{count} {topic}" for topic, count in sorted(counts.items())) or "none"
            notes.append(f"private messages: {told}")
        if self._alerts.dropped:
            notes.append(f"{counted(self._alerts.dropped, 'alert')} dropped because more came than could be shown")
        if self._private.dropped:
            notes.append(f"{counted(self._private.dropped, 'private message')} dropped because plugins were too slow")
        if lost := self._isolates.statistics().overruns:
            notes.append(f"{counted(lost, 'call')} of isolated plugins dropped because the plugins were too slow")
        if self._recording is not None:
            notes.append(self._recording.note())
        stats = self._final_stats or self.stats()
        return Summary(
            uptime_s=trio.current_time() - self._began,
            messages=self._message_count(),
            refused=sum(sum(link.refused.values()) for link in stats.links),
            gaps=sum(tick.counters.gaps for tick in ticks),
            resyncs=sum(tick.counters.resyncs for tick in ticks),
            reconnects=sum(max(0, feed.statistics().connects - 1) for feed in self._feeds),
            alerts=self._alert_count,
            books=ticks,
            hops=self.engine.total_latency(),
            clock=self.engine.clock_offset,
            notes=tuple(notes),
            stats=stats,
            quality=self.engine.quality(self._clock()[1]),
        )


def _set_aside() -> None:
    """Spare the garbage collector what start-up made: some 50,000 objects that stay for good.

    A full collection would stop the feed for 10 to 30 ms to look at them; of what a run makes, it takes 1 ms.
    """
    gc.freeze()
