"""The live view on real pseudo-terminals: it comes, follows keys, and gives the terminal back however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.ui.terminal import restore_terminal, run_terminal
from tests.ui.frames import make_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.socket
ENTER = b"\x1b[?1049h\x1b[?25l"
LEAVE = b"\x1b[?1049l"
END = b"\x1b[?2026l"  # of a picture


@contextmanager
def terminal(columns: int = 100, rows: int = 30) -> Iterator[tuple[int, int]]:
    """(our end, the program's end)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.set_blocking(ours, False)
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


class Screen:
    """What arrived at our end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = b""

    def read(self) -> None:
        try:
            while chunk := os.read(self.fd, 65536):
                self.data += chunk
        except BlockingIOError:
            pass

    async def wait_for(self, text: bytes) -> None:
        """Until `text` was shown."""
        while True:
            self.read()
            if text in self.data:
                return
            await trio.lowlevel.wait_readable(self.fd)


async def feed(frames: trio.MemorySendChannel[object], screen: Screen, text: bytes, second: int = 0) -> None:
    """Send frames until the screen shows `text`."""
    with trio.fail_after(20):
        while text not in screen.data:
            await frames.send(make_frame(second, 4))
            second += 1
            with trio.move_on_after(0.05):
                await screen.wait_for(text)


async def test_shows_and_leaves_at_the_end_of_the_frames() -> None:
    with terminal() as (ours, theirs):
        before = termios.tcgetattr(theirs)
        screen = Screen(ours)
        send, receive = trio.open_memory_channel[object](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_terminal(receive, on_quit=lambda: None, fd=theirs, keys_fd=None))
            await feed(send, screen, b"BTCUSDT")
            assert screen.data.startswith(ENTER)
            send.close()
        screen.read()
        assert screen.data.endswith(LEAVE)
        assert b"\x1b[?25h" in screen.data
        assert termios.tcgetattr(theirs) == before
        assert os.get_blocking(theirs)


async def test_only_changed_lines_are_sent_and_a_resize_redraws() -> None:
    with terminal(100, 30) as (ours, theirs):
        screen = Screen(ours)
        send, receive = trio.open_memory_channel[object](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_terminal(receive, on_quit=lambda: None, fd=theirs, keys_fd=None))
            await feed(send, screen, END)
            first, _, screen.data = screen.data.partition(END)
            assert b"BTCUSDT" in first
            await feed(send, screen, END, second=77_777)
            following = screen.data.partition(END)[0]
            assert b"\x1b[2J" not in following
            assert 0 < len(following) < len(first)
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
            screen.data = b""
            await feed(send, screen, b"\x1b[40;1H")
            assert b"\x1b[2J" in screen.data
            send.close()


@pytest.mark.parametrize("how", ["cancel", "error"])
async def test_the_terminal_comes_back_after(how: str) -> None:
    with terminal() as (ours, theirs):
        screen = Screen(ours)
        send, receive = trio.open_memory_channel[object](0)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: run_terminal(receive, on_quit=lambda: None, fd=theirs, keys_fd=None))
                await feed(send, screen, b"BTCUSDT")
                if how == "cancel":
                    nursery.cancel_scope.cancel()
                else:
                    await send.send("no frame")
        except* AttributeError:
            assert how == "error"
        screen.read()
        assert screen.data.endswith(LEAVE)


async def test_a_terminal_that_stands_still_delays_nothing() -> None:
    with terminal() as (_, theirs):
        send, receive = trio.open_memory_channel[object](0)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: run_terminal(receive, on_quit=lambda: None, fd=theirs, keys_fd=None))
                for second in range(50):  # nobody reads: the pseudo-terminal is full after the first picture
                    await send.send(make_frame(second, 4))
                nursery.cancel_scope.cancel()


KEYS = """
import os, sys, trio
sys.path.insert(0, os.getcwd())
from orderflow.ui.terminal import run_terminal
from tests.ui.frames import make_frame
async def main():
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel(0)
        async def show():
            await run_terminal(receive, on_quit=nursery.cancel_scope.cancel)
        nursery.start_soon(show)
        for second in range(10**6):
            await send.send(make_frame(second, 4))
            await trio.sleep(0.02)
trio.run(main)
"""


@asynccontextmanager
async def child() -> AsyncIterator[tuple[int, Screen]]:
    """(pid, its screen) of a real program whose controlling terminal is ours."""
    pid, ours = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-c", KEYS])
    try:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        os.set_blocking(ours, False)
        with trio.fail_after(20):
            yield pid, Screen(ours)
    finally:
        os.close(ours)
        try:
            os.kill(pid, signal.SIGKILL)
            await trio.to_thread.run_sync(os.waitpid, pid, 0)
        except ProcessLookupError:
            pass  # the test saw it end


async def test_keys_choose_a_book_and_quit() -> None:
    async with child() as (pid, screen):
        before = termios.tcgetattr(screen.fd)
        await screen.wait_for(b"q quit")
        screen.data = b""
        os.write(screen.fd, b"\t")
        await screen.wait_for(b"50 levels")
        assert b"ETHUSDT" in screen.data
        os.write(screen.fd, b"q")
        await screen.wait_for(LEAVE)
        _, status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert termios.tcgetattr(screen.fd)[3] == before[3]


async def test_suspending_gives_the_terminal_back_for_a_while() -> None:
    async with child() as (pid, screen):
        await screen.wait_for(b"q quit")
        os.write(screen.fd, b"\x1a")
        _, status = await trio.to_thread.run_sync(os.waitpid, pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        screen.read()
        assert LEAVE in screen.data
        assert termios.tcgetattr(screen.fd)[3] & termios.ICANON
        screen.data = b""
        os.kill(pid, signal.SIGCONT)
        await screen.wait_for(b"q quit")
        assert screen.data.startswith(ENTER)
        os.write(screen.fd, b"q")
        await screen.wait_for(LEAVE)


async def test_exits_without_clean_up_can_restore_the_terminal_themselves() -> None:
    with terminal() as (ours, theirs):
        screen = Screen(ours)
        send, receive = trio.open_memory_channel[object](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_terminal(receive, on_quit=lambda: None, fd=theirs, keys_fd=None))
            await feed(send, screen, b"BTCUSDT")
            with trio.fail_after(20):
                nursery.start_soon(trio.to_thread.run_sync, restore_terminal)  # meanwhile we read what is in the way
                await screen.wait_for(LEAVE)
            nursery.cancel_scope.cancel()


def test_restoring_without_a_view_is_harmless() -> None:
    restore_terminal()
