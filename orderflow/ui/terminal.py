"""The live view on a real terminal: frames in, a full screen out. Imported only where a terminal is really there.

Drawing is pure (`orderflow.ui.view`); the writing is done by an `Output`, so a terminal that stands still (Ctrl-S, a
dead ssh) costs pictures, never the feed. Only lines that changed are sent, inside a synchronised update: no flicker.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from collections import deque
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import trio
from rich.color import ColorSystem
from rich.console import Console

from orderflow import logs
from orderflow.ui.history import History
from orderflow.ui.sink import Output
from orderflow.ui.view import export_svg, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.style import Style

    from orderflow.core.types import ViewFrame
    from orderflow.ui.cells import Line

__all__ = ["History", "export_svg", "render", "restore_terminal", "run_terminal"]

_COLOURS: Final = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # alternate screen, no cursor, no line wrap
_LEAVE: Final = "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronised update; terminals that do not know it ignore it
_KEPT_LOG_LINES: Final = 200
_NEXT: Final = frozenset({b"\t", b"j", b"n", b"\x1b[B", b"\x1b[C"})
_PREVIOUS: Final = frozenset({b"\x1b[Z", b"k", b"p", b"\x1b[A", b"\x1b[D"})
_QUIT: Final = frozenset({b"q", b"Q"})

_to_restore: list[tuple[int, list[object] | None, int | None]] = []
"""(output fd, terminal settings, fd they belong to) of the view that is on now, for exits that skip clean-up."""


def restore_terminal() -> None:
    """Bring the terminal back at once; for exits that run no `finally` (os._exit). Harmless when no view is on."""
    while _to_restore:
        fd, settings, keys_fd = _to_restore.pop()
        try:
            if settings is not None and keys_fd is not None:
                termios.tcsetattr(keys_fd, termios.TCSANOW, settings)  # type: ignore[arg-type] # as tcgetattr gave it
            if select.select([], [fd], [], 0.2)[1]:  # a terminal that takes nothing must not hold up the exit
                os.write(fd, _LEAVE.encode())
        except (OSError, termios.error):
            pass  # the terminal is gone; so is the need


class Screen:
    """What the terminal shows now, so that only what changed is sent."""

    def __init__(self, fd: int, output: Output) -> None:
        console = Console(force_terminal=True, legacy_windows=False)  # only asked what colours there are
        self._colours = _COLOURS.get(console.color_system or "", ColorSystem.STANDARD)
        self._no_color = console.no_color
        self._fd = fd
        self._output = output
        self._shown: list[str] = []
        self._size = (0, 0)

    def size(self) -> tuple[int, int]:
        """(columns, rows) now; a terminal that does not say counts as 80x24."""
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:
            return 80, 24
        return (size.columns, size.lines) if size.columns and size.lines else (80, 24)

    def forget(self) -> None:
        """The terminal was cleared or used by others: send everything next time."""
        self._size = (0, 0)

    def show(self, lines: list[Line], size: tuple[int, int]) -> None:
        """Send what differs from what is shown."""
        texts = [self._ansi(line) for line in lines]
        clear = ""
        if size != self._size:
            self._shown, self._size, clear = [], size, "\x1b[2J"
        before = self._shown + [""] * (len(texts) - len(self._shown))
        changed = [
            f"\x1b[{row};1H{new}" for row, (new, old) in enumerate(zip(texts, before, strict=False), 1) if new != old
        ]
        self._shown = texts
        if changed or clear:
            self._output.put_raw(f"{_BEGIN}{clear}{''.join(changed)}{_END}")

    def _ansi(self, line: Line) -> str:
        return "".join(self._styled(segment.text, segment.style) for segment in line)

    def _styled(self, text: str, style: Style | None) -> str:
        if style is None:
            return text
        return (style.without_color if self._no_color else style).render(text, color_system=self._colours)


class View:
    """The state behind the picture: newest frame, history, chosen book, log lines."""

    def __init__(self, screen: Screen, output: Output, keys: bool) -> None:
        self._screen = screen
        self._output = output
        self._history = History()
        self._frame: ViewFrame | None = None
        self._selected = 0
        self._note = "q quit · tab next book" if keys else ""
        self.messages: deque[logs.LogLine] = deque(maxlen=_KEPT_LOG_LINES)

    def take(self, frame: ViewFrame) -> None:
        """A new frame: remember and draw it."""
        self._frame = frame
        self._history.add(frame)
        self.draw()

    def move(self, step: int) -> None:
        """Choose the next or previous book."""
        if self._frame is not None and self._frame.books:
            self._selected = (self._selected + step) % len(self._frame.books)
            self.draw()

    def draw(self) -> None:
        """Draw the newest frame, unless the terminal still takes in the picture before: then this one is skipped."""
        if self._frame is None or not self._output.idle:
            return
        size = self._screen.size()
        picture = render(
            self._frame, self._history, size, selected=self._selected, messages=self.messages, note=self._note
        )
        self._screen.show(list(picture.lines), size)


async def run_terminal(
    frames: trio.MemoryReceiveChannel[ViewFrame],
    *,
    on_quit: Callable[[], None],
    fd: int = 1,
    keys_fd: int | None = 0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Show frames until their channel is closed, or cancelled; the terminal is restored however this ends.

    While it runs log lines stand among the news; they follow on stderr when it is over.

    Args:
        on_quit: called when the user presses q, and when the terminal went away.
        fd: a terminal; keys_fd: where keys come from, None for no keys.
    """
    output = Output(fd)
    with _keys(keys_fd) as settings:
        screen = Screen(fd, output)
        view = View(screen, output, settings is not None)
        log_here = logs.diverted(view.messages.append) if os.isatty(2) else nullcontext()
        try:
            async with trio.open_nursery() as nursery:
                writing = trio.CancelScope(shield=True)  # ends last: it has to bring the terminal back
                nursery.start_soon(_write, output, writing, on_quit)
                with _alternate_screen(fd, output, writing, settings, keys_fd), log_here:
                    task_status.started()
                    await _show(frames, view, screen, output, on_quit, keys_fd if settings is not None else None)
        finally:
            logs.replay(message.line for message in view.messages)


async def _write(output: Output, scope: trio.CancelScope, on_gone: Callable[[], None]) -> None:
    with scope:
        await output.run()
        on_gone()


@contextmanager
def _alternate_screen(
    fd: int, output: Output, writing: trio.CancelScope, settings: list[object] | None, keys_fd: int | None
) -> Iterator[None]:
    entry = (fd, settings, keys_fd)
    _to_restore.append(entry)
    output.put_raw(_ENTER)
    try:
        yield
    finally:
        output.put_raw(_LEAVE)
        writing.cancel()  # Output.run writes what waits before it ends
        if entry in _to_restore:
            _to_restore.remove(entry)


async def _show(
    frames: trio.MemoryReceiveChannel[ViewFrame],
    view: View,
    screen: Screen,
    output: Output,
    on_quit: Callable[[], None],
    keys_fd: int | None,
) -> None:
    async with trio.open_nursery() as nursery:
        if keys_fd is not None:
            nursery.start_soon(_read_keys, keys_fd, view, on_quit)
        nursery.start_soon(_survive_suspend, screen, view, output, keys_fd)
        async for frame in frames:
            view.take(frame)
        nursery.cancel_scope.cancel()


@contextmanager
def _keys(fd: int | None) -> Iterator[list[object] | None]:
    """Key by key input from `fd` while open; yields the settings before, or None where keys cannot be read."""
    if fd is None or not _in_foreground(fd):
        yield None
        return
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd, termios.TCSANOW)
    try:
        yield before
    finally:
        try:
            termios.tcsetattr(fd, termios.TCSANOW, before)  # not ..DRAIN: a stopped terminal would block it
        except termios.error:
            pass  # the terminal is gone


def _in_foreground(fd: int) -> bool:
    """Whether `fd` is our terminal and we may set its modes without being stopped for it."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


async def _read_keys(fd: int, view: View, on_quit: Callable[[], None]) -> None:
    while True:
        await trio.lowlevel.wait_readable(fd)
        try:
            key = os.read(fd, 16)
        except OSError:
            return
        if not key:
            return
        if key in _QUIT:
            on_quit()
        elif key in _NEXT:
            view.move(1)
        elif key in _PREVIOUS:
            view.move(-1)


async def _survive_suspend(screen: Screen, view: View, output: Output, keys_fd: int | None) -> None:
    """Ctrl-Z gives the terminal back in good order; `fg` takes it again."""
    with trio.open_signal_receiver(signal.SIGTSTP) as signals:
        async for _ in signals:
            output.put_raw(_LEAVE)
            await output.flush(0.5)
            with _suspended_keys(keys_fd):
                os.kill(os.getpid(), signal.SIGSTOP)  # returns when somebody continues us
            output.put_raw(_ENTER)
            await output.flush(0.5)
            screen.forget()
            view.draw()


@contextmanager
def _suspended_keys(fd: int | None) -> Iterator[None]:
    """The shell gets its line editing back while we are stopped."""
    if fd is None:
        yield
        return
    ours = termios.tcgetattr(fd)
    usual = termios.tcgetattr(fd)
    usual[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(fd, termios.TCSANOW, usual)
    yield
    if _in_foreground(fd):
        termios.tcsetattr(fd, termios.TCSANOW, ours)
