"""The exchange fails in every way while a run is recorded; the replay of it is that run, one by one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.app import Monitor
from orderflow.config.tree import BybitSettings, Settings
from orderflow.core.policy import BookPolicy, LinkPolicy, RecordPolicy, RetryPolicy
from orderflow.core.types import BookStateChanged, LinkChanged
from orderflow.record.reader import Damage, open_recording
from orderflow.record.recorder import Recorder
from orderflow.record.records import Fed, Lost, Opened
from orderflow.sim.faultlist import parse_fault
from orderflow.ui.sink import Output
from orderflow.verify.run import verify
from tests.record.tapes import simple_tape
from tests.replay.test_live import (
    PLUGINS,
    SYMBOLS,
    Kept,
    alerts_of,
    all_live,
    exchange,
    make_host,
    replay,
    without_our_own_work,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.sim.server import SimServer

__all__ = ["exchange"]  # the fixture

FAULTS = (
    "drop", "duplicate", "reorder", "late:count=3", "corrupt:how=json", "corrupt:how=nan", "corrupt:how=control",
    "foreign", "cross:seconds=0.15", "cross:seconds=0.02", "lock:seconds=0.02", "unknown-delete", "overfull", "restart",
    "restart-delta", "resnapshot", "empty-side:seconds=0.1", "reset", "eof", "torn", "bad-frame", "extra:for=0.1",
    "ack-late:delay=0.1,for=0.3", "ack-lost:for=0.3", "no-snapshot:n=1", "flood:rate=3000,seconds=0.1",
)  # fmt: skip


def misbehave(server: SimServer, dice: random.Random) -> None:
    """One fault of a topic or a connection chosen by lot."""
    text = dice.choice(FAULTS)
    category, _, symbol = dice.choice(SYMBOLS).partition(":")
    name, colon, parameters = text.partition(":")
    places = [f"category={category}"]
    if name not in ("reset", "eof", "torn", "bad-frame", "extra", "ack-late", "ack-lost"):
        places.append(f"topic=orderbook.50.{symbol}")
    server.plan.add(parse_fault(f"{name}:{','.join([*places, *([parameters] if colon else [])])}"))


def settings_for(server: SimServer) -> Settings:
    """Short deadlines, and a connection of its own for every book."""
    return Settings(
        env="sim",
        symbols=SYMBOLS,
        interval_s=0.1,
        stop_timeout_s=30.0,  # a disk that others keep busy may not cost the end of the recording here
        feed=LinkPolicy(
            max_topics=1, ack_timeout_s=0.3, snapshot_timeout_s=0.4, resync_interval_s=0.02, resyncs_per_minute=1000
        ),
        retry=RetryPolicy(base_s=0.02, cap_s=0.05, attempts_per_window=10_000),
        book=BookPolicy(crossed_hold_s=0.1),
        record=RecordPolicy(rotate_mb=0.05, flush_s=0.1, keep_free_mb=0),
        plugins=PLUGINS,
        bybit=BybitSettings(public_ws_url=server.public_url, private_ws_url="", rest_url=server.rest_url),
    )


@pytest.mark.socket
async def test_a_replay_gives_what_a_run_full_of_faults_gave(exchange: SimServer, tmp_path: Path) -> None:
    folder, live, dice = tmp_path / "tape", Kept(), random.Random(11)
    settings = settings_for(exchange)
    recorder = Recorder(folder, settings.record)
    with (tmp_path / "out").open("wb") as sink:
        host = make_host()
        monitor = Monitor(settings, host, live, Output(sink.fileno()), recorder=recorder)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            with trio.fail_after(20):
                await all_live(monitor)
                for _ in range(40):
                    misbehave(exchange, dice)
                    await trio.sleep(0.05)
                await all_live(monitor)
            monitor.stop("test")

    again, _ = replay(folder)
    for seen, expected in zip(again.ticks, without_our_own_work(live.ticks), strict=True):
        assert seen == expected
    assert alerts_of(again) == alerts_of(live)
    assert again.changes == live.changes
    assert (again.last.messages, again.last.gaps, again.last.resyncs, again.last.refused, again.last.reconnects) == (
        live.last.messages,
        live.last.gaps,
        live.last.resyncs,
        live.last.refused,
        live.last.reconnects,
    )
    reasons = {change.reason for change in live.changes if isinstance(change, BookStateChanged)}
    assert len(reasons) > 6, reasons  # it was no calm run
    assert {change.link for change in live.changes if isinstance(change, LinkChanged)} == {
        "linear", "linear#2", "spot", "inverse",
    }  # fmt: skip

    records = list(open_recording(folder).records())
    assert not [record for record in records if isinstance(record, Damage)]
    assert [record for record in records if isinstance(record, Fed)]
    opened = {record.connection for record in records if isinstance(record, Opened)}
    assert len(opened) > 4
    assert {record.connection for record in records if isinstance(record, Lost)} < opened
    report = verify([folder])
    assert not report.findings  # every gap in it was met live, and mended
    assert sum(book.gaps for book in report.books) > 0


def test_the_output_is_the_same_whatever_the_hash_seed(tmp_path: Path) -> None:
    """Two interpreters that order their sets differently."""
    simple_tape(tmp_path / "tape", 200)
    command = [sys.executable, "-m", "orderflow", "replay", "tape", "--json"]
    command += ["--set", "plugins.spread.raise_above=0.01", "--set", "plugins.liquidity.raise_below=100"]
    said = set()
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
        said.add((done.stdout, done.stderr))
    ((out, err),) = said
    assert out.count(b'"event":"tick"') == 10
    assert b'"event":"alert"' in out
    assert b"sha256 " in err
