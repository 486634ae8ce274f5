"""A disk that is really full, and one that may only be read: a small file system, where we may mount one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from orderflow.record.reader import Damage, open_recording
from orderflow.record.records import Gap
from tests.faults.program import Exchange, Program, environment, free_port, nowhere
from tests.faults.test_metrics_port import scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.socket


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room. Returns: what takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_full_disk_takes_nothing_down(tmp_path: Path, exchange: Exchange) -> None:
    """Output, log, recording and books, each on a disk without room: the feed goes on, and all resume by themselves."""
    with file_system(tmp_path / "disk", "size=400k") as disk, ExitStack() as stack:
        filler = fill(disk)
        out = stack.enter_context((disk / "ticks.jsonl").open("wb"))
        log = stack.enter_context((disk / "log").open("wb"))
        quick = [*exchange.options, "--interval", "0.1"]
        record = ["--set", "record.keep_free_mb=0", "--set", "record.retry_s=0.2", "--set", "record.flush_s=0.1"]
        (disk / "tape").mkdir()
        port = free_port()
        counted = ["--log-level", "debug", "--metrics-port", str(port)]
        writer = stack.enter_context(Program(tmp_path, *quick, *counted, stdout=out, stderr=log))
        recorder = stack.enter_context(
            Program(tmp_path, *quick, *record, "--record", str(disk / "tape"), "--book-out", str(disk / "books.json"))
        )
        recorder.until_live()
        recorder.until(lambda event: event["event"] == "alert" and event["rule"] == "gap" and event["kind"] == "raise")
        seen = len(recorder.lines)
        tick = recorder.until(lambda event: event["event"] == "tick" and event["state"] == "live", since=seen)
        assert tick["resyncs"] == tick["reconnects"] == 0
        recorder.send(10)  # SIGUSR1
        recorder.until_said("could not write")
        assert not (disk / "books.json").exists()
        assert writer.process.poll() is None
        until(lambda: re.search("orderflow_output_lines_dropped_total [1-9]", scraped(port)), "nothing was dropped")
        assert (disk / "ticks.jsonl").stat().st_size < 4096
        filler.unlink()
        recorder.until(lambda event: event["event"] == "alert" and event["rule"] == "gap" and event["kind"] == "clear")
        until(lambda: b'"summary"' in (disk / "ticks.jsonl").read_bytes() or has_tick(disk), "output never resumed")
        assert writer.stop()[0] == 0
        assert recorder.stop()[0] == 0
        lines = (disk / "ticks.jsonl").read_bytes().splitlines()
        items = list(open_recording(disk / "tape").records())
        books = json.loads((disk / "books.json").read_bytes())
    events = [json.loads(line) for line in lines if line.startswith(b'{"event"') and line.endswith(b"}")]
    assert events[-1]["event"] == "summary"
    assert events[-1]["stats"]["output"]["dropped"] > 0
    assert events[-1]["stats"]["output"]["errors"] > 0
    assert any(event["event"] == "dropped" for event in events)
    assert not [item for item in items if isinstance(item, Damage)]
    assert any(isinstance(item, Gap) for item in items)
    assert books[0]["state"] == "live"


def scraped(port: int) -> str:
    """Its counters; none before it listens."""
    try:
        return scrape(port)[1]
    except OSError:
        return ""


def has_tick(disk: Path) -> bool:
    return b'"event":"tick"' in (disk / "ticks.jsonl").read_bytes()


def test_a_disk_that_may_only_be_read(tmp_path: Path) -> None:
    """It runs there; what it is asked to write there is refused before anything is connected."""
    with file_system(tmp_path / "disk", "size=64k") as disk, ExitStack() as stack:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        bare = environment(HOME="", XDG_CONFIG_HOME="", TMPDIR=str(disk))
        runs = stack.enter_context(Program(disk, *nowhere(), "--duration", "0.3", environ=bare))
        books = stack.enter_context(Program(disk, *nowhere(), "--book-out", "books.json", environ=bare))
        tape = stack.enter_context(Program(disk, *nowhere(), "--record", "tape", environ=bare))
        assert runs.end() == 0, runs.stderr
        assert runs.events[-1]["event"] == "summary"
        for program, word in ((books, "--book-out"), (tape, "record")):
            assert program.end() == 2, program.stderr
            assert word in program.stderr
            assert "Traceback" not in program.stderr
            assert program.lines == []
        assert os.listdir(disk) == []
