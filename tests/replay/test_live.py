"""A live run against the simulated exchange, and the replay of its own recording: the same, one by one."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from orderflow import bundled
from orderflow.app import Monitor
from orderflow.config.tree import BybitSettings, PluginSettings, Settings
from orderflow.core.figures import Cause
from orderflow.core.policy import BookPolicy, RecordPolicy, RetryPolicy
from orderflow.core.types import AlertKind, BookState, Category, InstrumentId, MetricsTick, Percentiles
from orderflow.core.units import NS
from orderflow.hooks.setup import set_up
from orderflow.net.tap import read_clocks
from orderflow.record.reader import Damage, open_recording
from orderflow.record.recorder import Recorder
from orderflow.record.records import Gap, Lost, Sent
from orderflow.replay.engine import Choice
from orderflow.replay.gaps import survey_gaps
from orderflow.replay.run import Pace, Window, run_replay
from orderflow.replay.sinks import Silent
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.faultlist import parse_fault
from orderflow.sim.server import SimConfig, SimServer, serve
from orderflow.ui.sink import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from orderflow.core.types import Alert, FeedChange, Summary
    from orderflow.hooks.host import PluginHost

SYMBOLS = ("linear:BTCUSDT", "linear:ETHUSDT", "spot:BTCUSDT", "inverse:BTCUSD")
PLUGINS = PluginSettings(
    enabled=("spread", "latency", "liquidity"),
    tables={
        "spread": {"raise_above": 0.0001, "clear_below": 0.00005, "for_s": 0, "clear_for_s": 0, "cooldown_s": 0},
        "latency": {"raise_above": 1.5, "clear_below": 1.4, "trust_clock": True, "for_s": 0, "clear_for_s": 0},
    },
)


class Kept(Silent):
    """Keeps what it is told; a reporter and a sink."""

    def __init__(self) -> None:
        self.ticks: list[MetricsTick] = []
        self.alerts: list[Alert] = []
        self.changes: list[FeedChange] = []

    def start(self, *rest: object) -> None:  # type: ignore[override]
        pass

    def tick(self, tick: MetricsTick) -> None:
        self.ticks.append(tick)

    def alert(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def feed(self, change: FeedChange, ts: int = 0) -> None:
        self.changes.append(change)

    def summary(self, summary: Summary, ts: int = 0) -> None:
        self.last = summary

    def stall(self, length_s: float) -> None:
        pass

    def stats(self, stats: object) -> None:
        pass


def without_our_own_work(ticks: Iterable[MetricsTick]) -> list[MetricsTick]:
    """A replay has no processing latencies: they are left out of the comparison."""
    nothing = Percentiles()
    return [
        msgspec.structs.replace(
            tick, hops=msgspec.structs.replace(tick.hops, socket_to_book=nothing, book_to_metrics=nothing)
        )
        for tick in ticks
    ]


def alerts_of(kept: Kept) -> list[Alert]:
    ticks = without_our_own_work(alert.tick for alert in kept.alerts)
    return [msgspec.structs.replace(alert, tick=tick) for alert, tick in zip(kept.alerts, ticks, strict=True)]


def make_host() -> PluginHost:
    return set_up(PLUGINS, bundled.plugins_folder(), clock=lambda: 0.0).host


def replay(folder: Path, choice: Choice | None = None, speed: float = float("inf")) -> tuple[Kept, str]:
    kept = Kept()
    window = Window(kept, float("-inf"), float("inf"))
    stop = threading.Event()
    run_replay(open_recording(folder), choice or Choice(), make_host, window, stop=stop, pace=Pace(speed, stop))
    return kept, window.sha256


@pytest.fixture
async def exchange(nursery: trio.Nursery) -> AsyncIterator[SimServer]:
    known = catalogue_by_id()
    wanted = [InstrumentId(Category(text.split(":")[0]), text.split(":")[1]) for text in SYMBOLS]
    yield await nursery.start(serve, SimConfig(instruments=tuple(known[key] for key in wanted), seed=3))
    nursery.cancel_scope.cancel()


@pytest.mark.socket
async def test_a_replay_gives_what_the_live_run_gave(exchange: SimServer, tmp_path: Path) -> None:
    folder = tmp_path / "tape"
    settings = Settings(
        env="sim",
        symbols=SYMBOLS,
        interval_s=0.1,
        stop_timeout_s=30.0,  # whatever a busy disk takes
        retry=RetryPolicy(base_s=0.05, cap_s=0.05),
        record=RecordPolicy(rotate_mb=0.01, flush_s=0.1, keep_free_mb=0),
        plugins=PLUGINS,
        bybit=BybitSettings(public_ws_url=exchange.public_url, private_ws_url="", rest_url=exchange.rest_url),
    )
    live = Kept()
    recorder = Recorder(folder, settings.record)
    set_by_ns = 0

    def clock() -> tuple[int, int]:
        """Ours, and somebody sets it."""
        wall_ns, mono_ns = read_clocks()
        return wall_ns + set_by_ns, mono_ns

    with (tmp_path / "out").open("wb") as sink:
        monitor = Monitor(
            settings,
            make_host(),
            live,  # type: ignore[arg-type]
            Output(sink.fileno()),
            recorder=recorder,
            clock=clock,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            with trio.move_on_after(10):
                await all_live(monitor)
                for client in exchange.clients():
                    if client.endpoint == "linear":
                        client.cut()
                await trio.sleep(0.5)
                await all_live(monitor)
                await trio.sleep(0.5)
                set_by_ns = 3600 * NS
                await trio.sleep(1.0)
            monitor.stop("test")

    again, sha256 = replay(folder)
    assert len(live.ticks) > 50
    assert len(live.alerts) > 5
    for seen, expected in zip(again.ticks, without_our_own_work(live.ticks), strict=True):
        assert seen == expected
    assert alerts_of(again) == alerts_of(live)
    assert again.changes == live.changes
    assert (again.last.messages, again.last.reconnects) == (live.last.messages, 1)
    assert again.last.quality == live.last.quality
    report = survey_gaps(open_recording(folder), Choice(), stop=threading.Event(), topics=4)
    assert report is not None
    assert {topic.quality for topic in report.topics} == set(live.last.quality)
    assert {topic.quality.gaps for topic in report.topics if topic.quality.category == "linear"} == {1}
    assert replay(folder)[1] == sha256
    assert replay(folder, speed=20)[1] == sha256

    recording = open_recording(folder)
    assert len(recording.files) > 1  # it was rotated in between, and nothing shows
    records = list(recording.records())
    assert not [record for record in records if isinstance(record, Damage)]
    assert [record.reason for record in records if isinstance(record, Lost)] in (["eof"], ["reset"])
    assert sum("subscribe" in record.text for record in records if isinstance(record, Sent)) == 4
    check_later_files(recording.files[1], again)


@pytest.mark.socket
async def test_the_quality_of_a_recording_is_that_of_the_live_run(exchange: SimServer, tmp_path: Path) -> None:
    settings = Settings(
        env="sim",
        symbols=SYMBOLS,
        interval_s=0.2,
        stop_timeout_s=30.0,  # whatever a busy disk takes
        book=BookPolicy(stale_after_s=0.6, crossed_hold_s=0.2),
        retry=RetryPolicy(base_s=0.05, cap_s=0.05),
        record=RecordPolicy(flush_s=0.1, keep_free_mb=0),
        bybit=BybitSettings(public_ws_url=exchange.public_url, private_ws_url="", rest_url=exchange.rest_url),
    )
    hit = "topic=orderbook.50.ETHUSDT"
    faults = {  # what each is known by
        f"drop:{hit},count=3": Cause.SEQUENCE,
        f"corrupt:{hit},how=json": Cause.REFUSED,
        f"cross:{hit},seconds=0.6": Cause.CROSSED,
        f"mute:{hit},for=1.2": Cause.STALE,
    }
    eth = InstrumentId(Category.LINEAR, "ETHUSDT")
    live = Kept()
    host = set_up(PluginSettings(enabled=()), None).host
    recorder = Recorder(tmp_path / "tape", settings.record)
    with (tmp_path / "out").open("wb") as sink:
        monitor = Monitor(settings, host, live, Output(sink.fileno()), recorder=recorder)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            with trio.fail_after(20):
                await all_live(monitor)
                exchange.plan.add(parse_fault(f"duplicate:{hit}"))
                causes = monitor.engine.books[eth].coverage.state.causes
                for fault, cause in faults.items():
                    exchange.plan.add(parse_fault(fault))
                    while cause not in causes:  # noqa: ASYNC110 - the product's state, no event
                        await trio.sleep(0.02)
                    await all_live(monitor)
                for client in exchange.clients():
                    if client.endpoint == "linear":
                        client.cut()
                while Cause.DISCONNECT not in causes:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                await all_live(monitor)
            monitor.stop("test")
    report = survey_gaps(open_recording(tmp_path / "tape"), Choice(), stop=threading.Event(), topics=4)
    assert report is not None
    found = {InstrumentId(Category(one.quality.category), one.quality.symbol): one.quality for one in report.topics}
    assert set(found.values()) == set(live.last.quality)
    assert {one.cause for one in found[eth].causes} == {Cause.START, Cause.DISCONNECT, *faults.values()}
    assert found[eth].duplicates == 1
    assert found[eth].missed >= 3
    assert found[eth].recovery_s.count >= 3
    assert found[InstrumentId(Category.SPOT, "BTCUSDT")].gaps == 0
    again, _ = replay(tmp_path / "tape")
    assert again.last.quality == live.last.quality
    assert [tick.quality for tick in again.ticks] == [tick.quality for tick in live.ticks]


def check_later_files(path: Path, whole: Kept) -> None:
    """A file out of the middle is a recording of its own: its checkpoint says what came before."""
    alone, _ = replay(path)
    assert alone.ticks
    found = survey_gaps(open_recording(path), Choice(), stop=threading.Event(), topics=4)
    assert found is not None
    assert found.from_ms > whole.ticks[0].ts - 100
    assert found.to_ms - found.from_ms < whole.ticks[-1].ts - whole.ticks[0].ts
    by_key = {(tick.ts, tick.instrument): tick for tick in whole.ticks}
    for tick in alone.ticks[4:]:  # the interval that was cut has fewer samples
        expected = by_key[tick.ts, tick.instrument]
        assert (tick.bid, tick.ask, tick.imbalance, tick.u, tick.counters) == (
            expected.bid,
            expected.ask,
            expected.imbalance,
            expected.u,
            expected.counters,
        )


async def all_live(monitor: Monitor) -> None:
    while set(monitor.engine.states().values()) != {BookState.LIVE}:  # noqa: ASYNC110 - the product's state, no event
        await trio.sleep(0.02)


@pytest.mark.socket
async def test_a_disk_that_fails_raises_an_alert_and_the_run_goes_on(
    exchange: SimServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        env="sim",
        symbols=SYMBOLS,
        interval_s=0.1,
        stop_timeout_s=30.0,  # whatever a busy disk takes
        record=RecordPolicy(flush_s=0.05, retry_s=0.05, keep_free_mb=0),
        bybit=BybitSettings(public_ws_url=exchange.public_url, private_ws_url="", rest_url=""),
    )
    live = Kept()
    recorder = Recorder(tmp_path / "tape", settings.record)

    def full(file: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (tmp_path / "out").open("wb") as sink:
        host = set_up(PluginSettings(enabled=()), None).host
        monitor = Monitor(settings, host, live, Output(sink.fileno()), recorder=recorder)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            with trio.fail_after(10):
                await all_live(monitor)
                with monkeypatch.context() as patched:
                    patched.setattr("orderflow.record.writer._File.write", full)
                    while not live.alerts:  # noqa: ASYNC110 - what it was told, no event
                        await trio.sleep(0.02)
                while len(live.alerts) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                await trio.sleep(0.3)
            assert set(monitor.engine.states().values()) == {BookState.LIVE}
            monitor.stop("test")
    assert [(alert.plugin, alert.rule, alert.kind) for alert in live.alerts] == [
        ("recorder", "gap", AlertKind.RAISE),
        ("recorder", "gap", AlertKind.CLEAR),
    ]
    assert any("1 gap" in note for note in live.last.notes)
    (gap,) = (record for record in open_recording(tmp_path / "tape").records() if isinstance(record, Gap))
    assert gap.reason == "disk"
    again, _ = replay(tmp_path / "tape")
    assert {tick.instrument for tick in again.ticks[-4:] if tick.live} == set(settings.instruments)
