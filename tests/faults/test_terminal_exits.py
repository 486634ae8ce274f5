"""Exits that run no clean-up, on a real terminal with the live view on: the terminal is as it was before."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.program import environment, nowhere
from tests.hooks.plugin_files import tick_hook, write_plugin

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.socket

MODES = {b"1049": b"l", b"25": b"h", b"7": b"h", b"2026": b"l"}
"""Private modes of the terminal and how they must be left: main screen, cursor on, lines wrap, no update going on."""


class OnTerminal:
    """`orderflow run` with its live view, as the foreground job of a terminal of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._ours, theirs = pty.openpty()
        self._theirs = theirs  # kept open: the terminal outlives its program
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "orderflow", "run", "--env", "sim", "--view", "live", *nowhere(), *options]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(TERM="xterm-256color", LANG="C.UTF-8", PYTHONUTF8="1"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while b"\x00the end\x00" not in self.shown:
            self.shown += os.read(self._ours, 65536)

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + 20
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown[-2000:]
            time.sleep(0.01)

    def end(self) -> int:
        code = self.process.wait(20)
        self.after = termios.tcgetattr(self._theirs)
        os.write(self._theirs, b"\x00the end\x00")
        self._reader.join(10)
        return code

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()
        os.close(self._ours)
        os.close(self._theirs)

    def check_restored(self) -> str:
        """Modes, colours, echo. Returns: what stands on the screen behind the view."""
        assert self.after == self.before
        for mode, left in MODES.items():
            used = re.findall(rb"\x1b\[\?" + mode + rb"([hl])", self.shown)
            assert len(used) > 1, mode
            assert used[-1] == left, mode
        behind = self.shown.rpartition(b"\x1b[?1049l")[2]
        assert re.search(rb"\x1b[^\[]|\x1b\[[\d;?]*[^\d;?m]", behind) is None  # no piece of a picture
        return behind.decode()


class Hang(NamedTuple):
    line: str
    limits: list[str]
    number: signal.Signals | None
    code: int


HANGS = (
    Hang("import time; time.sleep(1000)", ["watch.plugin_hang_s=0.6"], None, 70),
    Hang("import re; re.match('(a*)*b', 'a' * 40)", ["watch.plugin_hang_s=0.6"], None, 70),
    Hang(
        "while True: __import__('time').sleep(0.01)",  # a signal just before one long sleep would wait for its end
        ["watch.plugin_hang_s=60", "watch.stop_hang_s=1.1", "stop_timeout_s=1"],
        signal.SIGTERM,
        70,
    ),
    Hang("while True: pass", ["watch.plugin_hang_s=60"], signal.SIGINT, 130),
)


def test_the_terminal_comes_back(tmp_path: Path) -> None:
    with ExitStack() as stack:  # side by side: they do nothing but hang
        programs = [stack.enter_context(start(tmp_path / str(at), case)) for at, case in enumerate(HANGS)]
        for at, (program, case) in enumerate(zip(programs, HANGS, strict=True)):
            program.until(b"\x1b[?1049h")
            until_exists(tmp_path / str(at) / "in it")
            if case.number is not None:
                program.process.send_signal(case.number)
            if case.code == 130:
                insist(program.process)
        for program, case in zip(programs, HANGS, strict=True):
            assert program.end() == case.code
            behind = program.check_restored()
            if case.code == 70:
                assert "plugin hanger is in its orderflow_tick" in behind
                assert "hanger.py" in behind
                assert "ended with exit code 70" in behind


def insist(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C until it ends: two that come before it had its turn are one to the kernel."""
    for _ in range(40):
        time.sleep(0.1)
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)


def start(folder: Path, case: Hang) -> OnTerminal:
    plugins = folder / "plugins"
    plugins.mkdir(mode=0o755, parents=True)
    write_plugin(plugins, "hanger", tick_hook("open('in it', 'w').close()", case.line))
    options = ["plugins.folders=plugins", "plugins.enabled=hanger", *case.limits]
    return OnTerminal(folder, "--interval", "0.5", *(word for each in options for word in ("--set", each)))


def until_exists(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
