"""`orderflow record` as a program: real sockets, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.core.errors import RecordingError
from orderflow.record.reader import Damage, open_recording
from orderflow.sim.server import SimConfig, SimServer, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.socket


@pytest.fixture
async def exchange(nursery: trio.Nursery) -> AsyncIterator[SimServer]:
    yield await nursery.start(serve, SimConfig())
    nursery.cancel_scope.cancel()


def environment(exchange: SimServer) -> dict[str, str]:
    return {**os.environ, **exchange.environment(), "ORDERFLOW_RECORD__FLUSH_S": "0.1"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "orderflow", *words, "--env", "sim", "--symbol", "BTCUSDT", "--interval", "0.2"]


async def test_record_then_a_second_writer_then_a_kill_then_a_restart(exchange: SimServer, tmp_path: Path) -> None:
    folder = str(tmp_path / "tape")
    async with trio.open_nursery() as nursery:
        first: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command("record", folder),
                env=environment(exchange),
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        )
        with trio.fail_after(15):
            while not await trio.to_thread.run_sync(messages, folder):  # noqa: ASYNC110 - another process's files
                await trio.sleep(0.1)
        second = await trio.run_process(
            command("run", "--record", folder, "--duration", "1"),
            env=environment(exchange),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        assert second.returncode == 2
        assert f"process {first.pid} records into it".encode() in second.stderr
        first.send_signal(signal.SIGKILL)
    killed = open_recording(folder)
    content = killed.files[0].read_bytes()
    third = await trio.run_process(
        command("record", folder, "--duration", "1"),
        env=environment(exchange),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert third.returncode == 0
    assert b"a day at this rate" in third.stdout
    assert killed.files[0].read_bytes() == content
    recording = open_recording(folder)
    assert len(recording.files) == 2
    assert [item.reason for item in recording.records() if isinstance(item, Damage)] == ["torn"]


def messages(folder: str) -> int:
    """How many a reader finds; it may look while the file is being written."""
    try:
        return len(list(open_recording(folder).messages()))
    except (RecordingError, OSError):  # nothing is there yet
        return 0
