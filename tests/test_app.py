"""The whole program against the simulated exchange: real sockets, real clock, real processes."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orderflow import bookfile
from orderflow.app import Monitor
from orderflow.config.tree import BybitSettings, PluginSettings, Settings
from orderflow.core.policy import ClockPolicy
from orderflow.core.text import plain_decimal
from orderflow.core.types import (
    BookState,
    BookStateChanged,
    Category,
    Distrust,
    InstrumentId,
    LinkChanged,
    MetricsTick,
    Summary,
)
from orderflow.hooks.setup import set_up
from orderflow.net.tap import read_clocks
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.server import SimConfig, SimServer, serve
from orderflow.ui.sink import Output
from tests.faults.program import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from orderflow.core.stats import Stats
    from orderflow.core.types import Alert, FeedChange

pytestmark = pytest.mark.socket

ROOT = Path(__file__).resolve().parents[1]
SYMBOLS = ("linear:BTCUSDT", "linear:ETHUSDT", "spot:BTCUSDT", "inverse:BTCUSD")
TICK_KEYS = {
    *("ts", "category", "symbol", "state", "reason", "bid", "ask", "mid", "spread", "spread_pct", "spread_bps"),
    *("imbalance", "liquidity", "latency_ms", "book_age_ms", "u", "updates", "gaps", "resyncs", "reconnects"),
}


def instrument(text: str) -> InstrumentId:
    category, _, symbol = text.partition(":")
    return InstrumentId(Category(category), symbol)


@pytest.fixture
async def exchange(nursery: trio.Nursery) -> AsyncIterator[SimServer]:
    known = catalogue_by_id()
    config = SimConfig(instruments=tuple(known[instrument(symbol)] for symbol in SYMBOLS), seed=11)
    server: SimServer = await nursery.start(serve, config)
    yield server
    nursery.cancel_scope.cancel()


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.started = False
        self.ticks: list[MetricsTick] = []
        self.changes: list[FeedChange] = []
        self.alerts: list[Alert] = []
        self.summaries: list[Summary] = []

    def start(self, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> None:
        self.started = True

    def tick(self, tick: MetricsTick) -> None:
        self.ticks.append(tick)

    def alert(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def feed(self, change: FeedChange) -> None:
        self.changes.append(change)

    def stall(self, length_s: float) -> None:
        raise AssertionError("nothing stands still here")

    def stats(self, stats: Stats) -> None:
        pass

    def summary(self, summary: Summary) -> None:
        self.summaries.append(summary)


class Run:
    """A monitor in this process, its output going nowhere."""

    def __init__(self, server: SimServer | None, tmp_path: Path, **more: Any) -> None:
        urls = {"public_ws_url": "ws://127.0.0.1:9/{category}", "private_ws_url": "", "rest_url": ""}
        if server is not None:
            urls |= {"public_ws_url": server.public_url, "rest_url": server.rest_url}
        self.book_out: Path | None = more.pop("book_out", None)
        clock = more.pop("now", read_clocks)
        self.settings = Settings(
            **{
                "plugins": PluginSettings(enabled=()),
                "env": "sim",
                "symbols": SYMBOLS,
                "interval_s": 0.2,
                "bybit": BybitSettings(**urls),
            }
            | more
        )
        self.told = Told()
        self._sink = (tmp_path / "out").open("wb")
        self.output = Output(self._sink.fileno())
        host = set_up(self.settings.plugins, ROOT / "plugins").host
        self.monitor = Monitor(self.settings, host, self.told, self.output, book_out=self.book_out, clock=clock)
        self.code: int | None = None

    async def __call__(self) -> None:
        self.code = await self.monitor.run()
        self._sink.close()

    async def until(self, condition: Any, seconds: float = 30.0) -> None:
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for is the product's state; it has no event
                await trio.sleep(0.02)

    def all_live(self) -> bool:
        return set(self.monitor.engine.states().values()) == {BookState.LIVE}

    def books(self) -> dict[InstrumentId, tuple[Any, Any]]:
        dumps = self.monitor.engine.dump(plain_decimal)
        return {InstrumentId(dump.category, dump.symbol): (dump.bids, dump.asks) for dump in dumps}


def true_books(server: SimServer, depth: int) -> dict[InstrumentId, tuple[Any, Any]]:
    books = {}
    for symbol in SYMBOLS:
        book = server.true_book(instrument(symbol), depth)
        books[instrument(symbol)] = (book.bids, book.asks)
    return books


# --- in this process


@pytest.mark.parametrize("by_s", [3600, -3600])
async def test_a_clock_that_is_set_is_said_and_hurts_nothing(
    exchange: SimServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, by_s: int
) -> None:
    set_by_ns = 0

    def clock() -> tuple[int, int]:
        wall_ns, mono_ns = read_clocks()
        return wall_ns + set_by_ns, mono_ns

    rules = {"spread": {"raise_above": 1e-9, "for_s": 600.0}, "liquidity": {"raise_below": 1e9, "for_s": 0.2}}
    plugins = PluginSettings(enabled=("spread", "liquidity"), tables=rules)
    often = ClockPolicy(interval_s=0.2)
    run = Run(exchange, tmp_path, now=clock, clock=often, plugins=plugins, interval_s=0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(run.all_live)
        await run.until(lambda: len(run.told.alerts) == len(SYMBOLS) and run.monitor.engine.clock_offset)
        before = len(run.told.ticks)
        set_by_ns = by_s * 1_000_000_000
        await run.until(lambda: "learning its offset to the exchange afresh" in caplog.text)
        await run.until(lambda: len(run.told.ticks) > before + 40)
        run.monitor.stop("test")
    word = "forward" if by_s > 0 else "back"
    assert f"our clock was set {word} by 3600.0" in caplog.text
    assert "set it; latencies are corrected meanwhile" in caplog.text
    assert run.told.summaries[0].stats is not None
    assert run.told.summaries[0].stats.clock_steps == 1
    assert abs(run.told.ticks[-1].ts - run.told.ticks[0].ts) > 3_500_000
    assert all(tick.live for tick in run.told.ticks[before:])
    assert len(run.told.alerts) == len(SYMBOLS)  # nothing raised, nothing cleared
    for tick in run.told.ticks[before:]:
        assert tick.latency_error_ms is not None
        assert abs(tick.hops.gateway_to_socket.max or 0) < 10_000
    assert [change for change in run.told.changes if isinstance(change, LinkChanged) and change.state == "down"] == []


@pytest.mark.parametrize("depth", [1, 50, 1000])
async def test_books_equal_the_exchanges_level_by_level(exchange: SimServer, tmp_path: Path, depth: int) -> None:
    run = Run(exchange, tmp_path, depth=depth)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(run.all_live)
        await run.until(lambda: len(run.told.ticks) >= 16)
        exchange.pause()
        await trio.sleep(0.5)  # the slowest topic publishes every 0.2 s
        assert run.books() == true_books(exchange, depth)
        run.monitor.stop("test")
    assert run.code == 0
    (summary,) = run.told.summaries
    assert (summary.gaps, summary.refused, summary.resyncs, summary.reconnects) == (0, 0, 0, 0)
    assert summary.messages > 15
    assert {tick.instrument for tick in summary.books} == {instrument(symbol) for symbol in SYMBOLS}


async def test_ticks_carry_what_was_learnt_of_market_and_clock(exchange: SimServer, tmp_path: Path) -> None:
    run = Run(exchange, tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)

        def learnt() -> bool:
            last = run.told.ticks[-4:]
            return len(last) == 4 and all(
                tick.live and tick.base_coin and tick.latency_error_ms is not None and tick.latency_ms is not None
                for tick in last
            )

        await run.until(learnt)
        run.monitor.stop("test")
    ticks = run.told.ticks
    assert [tick.instrument for tick in ticks[:4]] == [instrument(symbol) for symbol in SYMBOLS]
    for tick in ticks[-4:]:
        assert tick.bid is not None
        assert tick.ask is not None
        assert tick.mid is not None
        assert tick.bid < tick.mid < tick.ask
        assert tick.imbalance is not None
        assert -1 <= tick.imbalance <= 1
        assert tick.liquidity is not None
        assert tick.liquidity > 0
        assert tick.latency_ms is not None
        assert abs(tick.latency_ms) < 1000
    inverse = next(tick for tick in reversed(ticks) if tick.category is Category.INVERSE)
    assert (inverse.base_coin, inverse.quote_coin) == ("BTC", "USD")
    links = [change for change in run.told.changes if isinstance(change, LinkChanged)]
    assert {change.link for change in links if change.state == "up"} == {"linear", "spot", "inverse"}
    assert all(change.ts > 1_600_000_000_000 for change in links)


async def test_ticks_keep_their_interval(exchange: SimServer, tmp_path: Path) -> None:
    run = Run(exchange, tmp_path, symbols=SYMBOLS[:1], interval_s=0.1, duration_s=1.05)
    began = trio.current_time()
    await run()
    assert 1.0 < trio.current_time() - began < 2.5
    assert 5 <= len(run.told.ticks) <= 10
    assert run.code == 0


async def test_a_lost_link_takes_its_books_with_it_and_brings_them_back(exchange: SimServer, tmp_path: Path) -> None:
    run = Run(exchange, tmp_path)
    linear = [instrument(symbol) for symbol in SYMBOLS if symbol.startswith("linear")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(run.all_live)
        for client in exchange.clients():
            if client.endpoint == "linear":
                client.cut()
        await run.until(lambda: any(run.monitor.engine.books[key].counters.reconnects for key in linear))
        await run.until(run.all_live)
        exchange.pause()
        await trio.sleep(0.3)
        assert run.books() == true_books(exchange, 50)
        run.monitor.stop("test")
    left = [c.instrument for c in run.told.changes if isinstance(c, BookStateChanged) and c.old is BookState.LIVE]
    assert sorted(left) == sorted(linear)
    assert run.told.summaries[0].reconnects == 1


async def test_with_nothing_to_connect_to_it_says_so_and_stops(tmp_path: Path) -> None:
    run = Run(None, tmp_path, duration_s=0.5)
    began = trio.current_time()
    await run()
    assert trio.current_time() - began < 2
    assert run.code == 0
    downs = [change for change in run.told.changes if isinstance(change, LinkChanged) and change.state == "down"]
    assert {change.reason for change in downs} == {"refused"}
    assert all(not tick.live and tick.bid is None for tick in run.told.ticks)
    assert run.told.ticks
    assert run.told.summaries[0].messages == 0


async def test_what_comes_behind_the_last_look_is_not_of_this_run(exchange: SimServer, tmp_path: Path) -> None:
    run = Run(exchange, tmp_path)
    doubts = [Distrust(instrument=instrument(symbol), reason="shape", mono_ns=0) for symbol in SYMBOLS]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(run.all_live)
        run.monitor.stop("test")
        run.monitor._queue.put_nowait([*doubts])  # as a link does that read them in that very moment
    changes = [change for change in run.told.changes if isinstance(change, BookStateChanged)]
    assert "shape" not in {change.reason for change in changes}


async def test_what_start_up_made_is_set_aside_for_the_time_of_the_run(tmp_path: Path) -> None:
    run = Run(None, tmp_path, duration_s=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(lambda: run.told.changes)
        assert gc.get_freeze_count() > 10_000
        run.monitor.stop("test")
    assert gc.get_freeze_count() == 0


async def test_between_two_books_ticks_the_links_have_their_turn(exchange: SimServer, tmp_path: Path) -> None:
    run = Run(exchange, tmp_path, interval_s=0.1)
    turns = 0
    seen: list[int] = []
    told = run.told.tick

    def tick(tick: MetricsTick) -> None:
        seen.append(turns)
        told(tick)

    run.told.tick = tick  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        while len(seen) < 4 * len(SYMBOLS):
            turns += 1
            await trio.lowlevel.checkpoint()
        run.monitor.stop("enough")
    assert max(Counter(seen).values()) <= 2  # of what is due together, Trio chooses the order


class _Naps(trio.abc.Instrument):
    """Counts how often the event loop was ready to sleep, and how often it was not."""

    def __init__(self) -> None:
        self.asleep = self.awake = 0

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            self.asleep += 1
        else:
            self.awake += 1


@pytest.mark.parametrize("busy", [True, False])
async def test_the_event_loop_stays_awake_where_busy_poll_is_set(tmp_path: Path, busy: bool) -> None:
    run = Run(None, tmp_path, duration_s=0.3, busy_poll=busy)
    naps = _Naps()
    trio.lowlevel.add_instrument(naps)
    await run()
    trio.lowlevel.remove_instrument(naps)
    assert (naps.awake > 20 * naps.asleep) is busy


async def test_lines_that_nobody_took_are_counted(tmp_path: Path) -> None:
    run = Run(None, tmp_path)
    reading, writing = os.pipe()
    output = Output(writing, max_bytes=1000)
    for _ in range(3000):
        output.put("x" * 99)
    run.monitor._output = output
    run._sink.close()
    counts = run.monitor.stats().output
    assert 2000 < counts.dropped < 3000
    assert counts.lines < 1000
    os.close(reading)
    os.close(writing)


async def test_books_are_written_at_the_end(exchange: SimServer, tmp_path: Path) -> None:
    path = tmp_path / "books.json"
    run = Run(exchange, tmp_path, book_out=path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(run.all_live)
        exchange.pause()
        await trio.sleep(0.3)
        run.monitor.stop("test")
    check_books(path, exchange)


async def test_a_disk_that_refuses_the_books_costs_nothing_else(exchange: SimServer, tmp_path: Path) -> None:
    run = Run(exchange, tmp_path, book_out=tmp_path / "no such folder" / "books.json", duration_s=0.4)
    await run()
    assert run.code == 0
    assert any("could not write" in note for note in run.told.summaries[0].notes)


async def test_books_are_written_one_after_the_other(
    exchange: SimServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that hangs on a bad disk neither mixes with the next nor keeps the program."""
    running: list[int] = []
    most: list[int] = []

    def slow(path: Path, data: bytes) -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.4)
        running.pop()

    monkeypatch.setattr(bookfile, "_replace_file", slow)
    run = Run(exchange, tmp_path, book_out=tmp_path / "books.json")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await run.until(lambda: run.told.ticks)
        os.kill(os.getpid(), signal.SIGUSR1)
        await run.until(lambda: running)
        began = trio.current_time()
        run.monitor.stop("test")
    assert trio.current_time() - began < run.settings.stop_timeout_s
    assert max(most) == 1


# --- as a process


class Process:
    """`orderflow run` in a folder of its own, against the exchange."""

    def __init__(self, server: SimServer, folder: Path, *options: str, stdout: int = subprocess.PIPE) -> None:
        folder.mkdir(exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ORDERFLOW_")}
        environment |= server.environment() | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
        symbols = [part for symbol in SYMBOLS for part in ("--symbol", symbol)]
        command = [sys.executable, "-m", "orderflow", "run", "--env", "sim", "--interval", "0.2", *symbols, *options]
        self._stderr = (folder / "stderr").open("wb+")
        self.popen = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=stdout, stderr=self._stderr, stdin=subprocess.DEVNULL
        )
        self.lines: list[str] = []
        self.errors = ""

    async def read(self, until: str = "") -> None:
        """Lines of stdout, up to one that holds `until`, or all."""

        def work() -> None:
            assert self.popen.stdout is not None
            for line in self.popen.stdout:
                self.lines.append(line.decode())
                if until and until in self.lines[-1]:
                    return

        with trio.fail_after(60):
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def end(self, number: int | None = None) -> tuple[int, float]:
        """Send a signal and wait. Returns: (exit code, seconds, without those the machine was busy)."""
        watch = Stopwatch(self.popen.pid)
        if number is not None:
            self.popen.send_signal(number)

        def work() -> tuple[int, float]:
            if self.popen.stdout is not None:
                self.lines += self.popen.stdout.read().decode().splitlines(keepends=True)
                self.popen.stdout.close()
            took_s = watch.until_end()
            self._stderr.seek(0)
            self.errors = self._stderr.read().decode()
            return self.popen.wait(), took_s

        try:
            return await trio.to_thread.run_sync(work)
        finally:
            self.popen.kill()
            self._stderr.close()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


LIVE = '"state":"live"'


def check_books(path: Path, server: SimServer) -> None:
    """The file holds the exchange's books as they are now."""
    found = json.loads(path.read_bytes())
    assert [f"{book['category']}:{book['symbol']}" for book in found] == list(SYMBOLS)
    for book in found:
        assert book["state"] == "live"
        assert isinstance(book["u"], int)
        assert isinstance(book["seq"], int)
        true = server.true_book(InstrumentId(Category(book["category"]), book["symbol"]), 50)
        assert [tuple(level) for level in book["bids"]] == true.bids
        assert [tuple(level) for level in book["asks"]] == true.asks


async def test_json_lines_books_on_demand_and_a_stop_by_sigint(exchange: SimServer, tmp_path: Path) -> None:
    path = tmp_path / "books.json"
    process = Process(exchange, tmp_path / "run", "--log-format", "json", "--book-out", str(path))
    await process.read(until='"event":"tick"')
    await process.read(until=LIVE)
    exchange.pause()
    await trio.sleep(0.5)
    process.popen.send_signal(signal.SIGUSR1)
    with trio.fail_after(20):
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.02)
    check_books(path, exchange)
    assert process.popen.poll() is None
    path.unlink()
    code, seconds = await process.end(signal.SIGINT)
    assert (code, seconds < 2) == (0, True), process.errors
    check_books(path, exchange)
    assert sorted(os.listdir(tmp_path)) == ["books.json", "run"]  # no half-written file is left
    events = process.events()
    assert [event["event"] for event in events[:1] + events[-1:]] == ["start", "summary"]
    assert {event["event"] for event in events} >= {"start", "tick", "feed", "summary"}
    ticks = [event for event in events if event["event"] == "tick"]
    assert all(event.keys() >= TICK_KEYS for event in ticks)
    assert all(isinstance(event["ts"], int) for event in events)
    assert not any(text in line for line in process.lines for text in ("NaN", "Infinity"))
    summary = events[-1]
    assert {"uptime_s", "messages", "gaps", "reconnects", "alerts", "hops"} <= summary.keys()
    assert (summary["gaps"], summary["reconnects"]) == (0, 0)
    assert summary["messages"] > 0


async def test_plain_lines_and_a_stop_by_sigterm(exchange: SimServer, tmp_path: Path) -> None:
    process = Process(exchange, tmp_path / "run")
    await process.read(until="Updates:")
    code, seconds = await process.end(signal.SIGTERM)
    assert (code, seconds < 2) == (0, True), process.errors
    line = next(line for line in process.lines if "Updates:" in line)
    for word in ("Bid:", "Ask:", "Mid:", "Spread:", "Imbalance:", "Liquidity:", "Latency:"):
        assert word in line
    assert "Traceback" not in process.errors


async def test_after_its_duration_it_ends_with_a_summary(exchange: SimServer, tmp_path: Path) -> None:
    process = Process(exchange, tmp_path / "run", "--duration", "0.7", "--log-format", "json")
    code, _ = await process.end()
    assert code == 0, process.errors
    summary = process.events()[-1]
    assert summary["event"] == "summary"
    assert summary["uptime_s"] >= 0.7


async def test_when_nobody_reads_its_output_it_ends_quietly(exchange: SimServer, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    process = Process(exchange, tmp_path / "run", "--log-format", "json", stdout=theirs)
    os.close(theirs)
    assert (await trio.to_thread.run_sync(os.read, ours, 10)).startswith(b'{"event"')
    os.close(ours)
    code, seconds = await process.end()
    assert (code, seconds < 5) == (0, True)
    assert "Traceback" not in process.errors
    assert "BrokenPipe" not in process.errors
