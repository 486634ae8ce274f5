"""The writers against real pipes, terminals and files: never wait, never tear a line, confess what is missing."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orderflow.ui.sink import LineWriter, Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def pipe(size: int = 4096) -> Iterator[tuple[int, list[int]]]:
    """(write end, [read end]): remove the read end from the list when the test closes it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    open_readers = [reader]
    try:
        yield writer, open_readers
    finally:
        for fd in (writer, *open_readers):
            os.close(fd)


def read_all_until_quiet(fd: int, writer: LineWriter | Output) -> bytes:
    """Read what is and will be there until the writer has nothing left."""
    os.set_blocking(fd, False)
    data = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            data += os.read(fd, 65536)
        except BlockingIOError:
            if writer.idle:
                return data
            time.sleep(0.001)
    raise AssertionError("the writer never got rid of its lines")


def test_lines_arrive_in_order_and_whole() -> None:
    with pipe(1 << 16) as (fd, (reader,)):
        writer = LineWriter(fd)
        for i in range(500):
            writer.put(f"line {i}\n")
        assert writer.close(5)
        assert os.read(reader, 1 << 16).decode().splitlines() == [f"line {i}" for i in range(500)]
        assert writer.statistics().lines == 500
        assert writer.statistics().dropped == 0


def test_a_reader_that_stands_still_costs_old_lines_not_time() -> None:
    with pipe() as (fd, (reader,)):
        writer = LineWriter(fd, max_bytes=10_000, confess=lambda n: f"lost {n}\n")
        began = time.monotonic()
        for i in range(20_000):
            writer.put(f"{i:09}\n")
        assert time.monotonic() - began < 3  # put never waited for the pipe
        assert not writer.flush(0.01)
        during = writer.statistics()
        assert during.pending_bytes <= 10_000
        lines = read_all_until_quiet(reader, writer).decode().splitlines()
        assert lines[-1] == "000019999"
        numbers = [int(line) for line in lines if not line.startswith("lost")]
        assert numbers == sorted(numbers)
        lost = sum(int(line.split()[1]) for line in lines if line.startswith("lost"))
        assert lost == writer.statistics().dropped == 20_000 - len(numbers) > 0
        assert writer.close(5)


def test_a_closed_pipe_is_quiet_and_final() -> None:
    gone = threading.Event()
    with pipe() as (fd, readers):
        os.close(readers.pop())
        writer = LineWriter(fd, on_gone=gone.set)
        writer.put("x\n")
        assert gone.wait(20)
        writer.put("y\n")
        assert writer.statistics().broken
        assert writer.statistics().dropped == 2
        assert not writer.statistics().errors
        assert writer.idle
        assert writer.close(1)


def test_a_closed_descriptor_does_not_raise() -> None:
    with pipe() as (fd, _):
        copy = os.dup(fd)
    os.close(copy)
    writer = LineWriter(copy)
    writer.put("x\n")
    writer.close(1)
    assert writer.statistics().broken


def test_a_full_disk_is_told_once_and_survived() -> None:
    told: list[int | None] = []
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = LineWriter(fd, on_error=lambda exc: told.append(exc.errno))
        for _ in range(3):
            writer.put("x\n")
            assert writer.flush(5)
        assert writer.close(1)
        assert told == [errno.ENOSPC]
        assert writer.statistics().errors == writer.statistics().dropped == 3
        assert not writer.statistics().broken
    finally:
        os.close(fd)


def test_a_descriptor_somebody_made_non_blocking_loses_nothing() -> None:
    with pipe() as (fd, (reader,)):
        os.set_blocking(fd, False)
        writer = LineWriter(fd)
        for i in range(2000):
            writer.put(f"{i}\n")
        lines = read_all_until_quiet(reader, writer).decode().splitlines()
        assert lines == [str(i) for i in range(2000)]
        assert not os.get_blocking(fd)
        assert writer.close(1)


def test_a_lone_surrogate_is_shown_not_raised() -> None:
    with pipe() as (fd, (reader,)):
        writer = LineWriter(fd)
        writer.put("a\ud800b\n")
        assert writer.close(5)
        assert os.read(reader, 100) == b"a\\ud800b\n"


@pytest.mark.socket
async def test_output_returns_when_the_reader_goes_away() -> None:
    with pipe() as (fd, readers), trio.fail_after(20):
        output = Output(fd)
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await output.run()
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            os.close(readers.pop())
            output.put("anybody there")
            await trio.sleep_forever()
        assert output.statistics().broken


@pytest.mark.socket
async def test_output_that_broke_before_it_ran_returns_too() -> None:
    with pipe() as (fd, readers), trio.fail_after(20):
        os.close(readers.pop())
        output = Output(fd)
        output.put("early")
        await output.run()


@pytest.mark.socket
async def test_a_blocked_stdout_does_not_stall_the_loop_and_stop_is_bounded() -> None:
    with pipe() as (fd, (reader,)):
        output = Output(fd, max_bytes=50_000, flush_s=0.1)
        worst = 0.0
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(output.run)
                for _ in range(100):
                    began = trio.current_time()
                    for _ in range(20):
                        output.put("x" * 100)
                    await trio.lowlevel.checkpoint()
                    worst = max(worst, trio.current_time() - began)
                began = trio.current_time()
                nursery.cancel_scope.cancel()
        assert worst < 1
        assert trio.current_time() - began < 2
        assert output.statistics().dropped > 0
        os.set_blocking(reader, False)
        assert set(os.read(reader, 65536).decode().split()) == {"x" * 100}  # what got through is whole


@pytest.mark.socket
async def test_cancelled_output_flushes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        output = Output(file.fileno())
        async with trio.open_nursery() as nursery:
            await nursery.start(output.run)
            for i in range(100):
                output.put(f"line {i}")
            nursery.cancel_scope.cancel()
    assert path.read_text().splitlines() == [f"line {i}" for i in range(100)]


def test_a_terminal_keeps_its_flags() -> None:
    main, terminal = pty.openpty()
    try:
        writer = LineWriter(terminal)
        writer.put("hello\n")
        assert writer.close(5)
        assert os.read(main, 100).split() == [b"hello"]
        assert os.get_blocking(terminal)
    finally:
        os.close(main)
        os.close(terminal)
