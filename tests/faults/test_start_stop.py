"""Being started under odd conditions, and stopped at every moment."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import select
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.program import Exchange, Program, alive_children, environment, nowhere

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.socket

STOP_S = 2.0
MOMENTS = 4  # per test; with the same seed each time


def wait_for_handlers(pid: int, number: int) -> None:
    """Until the interpreter is so far up that our first line has run."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (number - 1) & 1:
                return
        time.sleep(0.001)
    raise AssertionError("no handlers")


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """Options for a peer that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/{{category}}"
        yield [text.replace("ws://127.0.0.1:1/{category}", url) for text in nowhere()]


def check_end(program: Program, number: int, *, summary: bool) -> None:
    code, took_s = program.stop(number)
    assert code == 0, program.stderr
    assert took_s < STOP_S
    assert "Traceback" not in program.stderr
    assert list(alive_children(program.process.pid)) == []
    if summary:
        assert program.events[-1]["event"] == "summary"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_it_starts(tmp_path: Path, number: int) -> None:
    """Imports, settings, plugins, the event loop coming up: at moments all over the first half second."""
    for moment in range(MOMENTS):
        with Program(tmp_path, *nowhere()) as program:
            wait_for_handlers(program.process.pid, signal.SIGTERM)
            time.sleep(0.1 * moment)
            check_end(program, number, summary=False)
            if any(event["event"] == "start" for event in program.events):
                assert program.events[-1]["event"] == "summary"


def test_stopped_while_it_connects_and_backs_off(tmp_path: Path, silent: list[str]) -> None:
    moments = random.Random(7)
    for options in (silent, nowhere()):
        with ExitStack() as stack:
            programs = [stack.enter_context(Program(tmp_path, *options)) for _ in range(MOMENTS // 2)]
            for program in programs:
                program.until(lambda event: event["event"] == "feed")
                time.sleep(moments.uniform(0, 0.1))
                check_end(program, signal.SIGTERM, summary=True)


def test_stopped_while_it_runs_says_goodbye(tmp_path: Path) -> None:
    """Against an exchange that logs what clients do: each one closes its WebSocket before it goes."""
    log = tmp_path / "clients.jsonl"
    moments = random.Random(7)
    with Exchange(client_log=log) as exchange, ExitStack() as stack:
        programs = [
            stack.enter_context(Program(tmp_path, *exchange.options, "--interval", "0.1")) for _ in range(MOMENTS // 2)
        ]
        for program in programs:
            program.until_live()
            time.sleep(moments.uniform(0, 0.1))
            check_end(program, signal.SIGTERM, summary=True)
    goodbyes = [line for line in log.read_text().splitlines() if '"close"' in line and "1000" in line]
    assert len(goodbyes) == len(programs), log.read_text()[-2000:]


def test_stopped_in_a_flood(tmp_path: Path) -> None:
    moments = random.Random(7)
    with Exchange(flood=True) as exchange:
        programs = [Program(tmp_path, *exchange.options, "--interval", "0.1") for _ in range(2)]
        for program in programs:
            with program:
                program.until(lambda event: event["event"] == "tick" and event["updates"] > 100)
                time.sleep(moments.uniform(0, 0.1))
                check_end(program, signal.SIGTERM, summary=True)


def test_no_home_and_a_folder_it_may_not_write_to(tmp_path: Path) -> None:
    folder = tmp_path / "fixed"
    folder.mkdir()
    folder.chmod(0o555)
    environ = environment(HOME="", XDG_CONFIG_HOME="")
    with Program(folder, *nowhere(), "--duration", "0.3", environ=environ) as program:
        assert program.end() == 0
    assert program.events[-1]["event"] == "summary"
    assert list(folder.iterdir()) == []


def shut(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("fds", [(1,), (0, 1, 2)])
def test_started_without_standard_streams(tmp_path: Path, exchange: Exchange, fds: tuple[int, ...]) -> None:
    """A socket of ours must not get the number of a stream: lines would then go to the exchange."""
    out = tmp_path / "books.json"
    options = [*exchange.options, "--duration", "0.8", "--interval", "0.1", "--book-out", str(out)]
    with Program(tmp_path, *options, preexec_fn=partial(shut, *fds)) as program:
        assert program.end() == 0, program.stderr
    assert '"live"' in out.read_text()
    if 1 not in fds:
        assert program.events[-1]["stats"]["links"][0]["connects"] == 1
        assert program.events[-1]["stats"]["links"][0]["losses"] == {}


def test_a_usage_error_without_stderr_is_one(tmp_path: Path) -> None:
    with Program(tmp_path, "--set", "nonsense=1", preexec_fn=partial(shut, 2)) as program:
        assert program.end() == 2


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    command = ["run", "--env", "sim", *nowhere(), "--interval", "0.1"]
    reader = subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with Program(tmp_path, command=command, stdout=reader.stdin) as program:
        assert reader.stdin is not None
        reader.stdin.close()
        assert program.end() == 0
    assert reader.wait(10) == 0
    assert program.stderr == ""


def test_a_full_pipe_does_not_hold_up_feed_or_stop(tmp_path: Path, exchange: Exchange) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    books = tmp_path / "books.json"
    options = ["--interval", "0.1", "--book-out", str(books), *exchange.options]
    with Program(tmp_path, *options, stdout=writing) as program:
        os.close(writing)
        assert select.select([reading], [], [], 20)[0]
        time.sleep(1.2)
        os.set_blocking(reading, False)
        assert len(os.read(reading, 100)) == 100  # full of lines that nobody takes
        code, took_s = program.stop()
    os.close(reading)
    assert (code, program.stderr) == (0, "")
    assert took_s < STOP_S
    assert '"live"' in books.read_text()


def test_a_full_disk_is_said_and_survived(tmp_path: Path, exchange: Exchange) -> None:
    """No file may grow: what a full disk looks like to a program."""
    books = tmp_path / "books.json"
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100, 100))
    with Program(tmp_path, *exchange.options, "--book-out", str(books), preexec_fn=full) as program:
        program.until_live()
        program.send(signal.SIGUSR1)
        program.until_said("could not write")
        assert program.stop()[0] == 0
    assert not books.exists()
    assert list(tmp_path.glob(".books*")) == []
    assert "could not write" in str(program.events[-1]["notes"])


def test_output_to_a_full_disk(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full, Program(tmp_path, *nowhere(), stdout=full) as program:
        program.until_said("cannot write output")
        assert program.stop()[0] == 0
