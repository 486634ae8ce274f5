"""The process an isolated plugin lives in, as the program sees it: started, spoken to with a deadline, made to end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow.core.text import escape_text
from orderflow.hooks.wire import Cutter, Nonsense

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEP_S: Final = 0.25
"""How long one look at the pipes may take. A look that comes back far later counts as two: we ourselves stood still."""
READ_BYTES: Final = 65536
_OUTPUT_PAUSE_S: Final = 0.01  # between two reads of what it prints: a flood of it costs the plugin's time, not ours
_KEPT_LINES: Final = 30
_LINE_LIMIT: Final = 300
_STACK_S: Final = 0.3  # for a stack to come, or the end of a process that closed its pipe
_QUIET_S: Final = 0.05
_END_S: Final = 1.0

_KEPT_VARIABLES: Final = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONWARNINGS")
)

_OURS: Final = ("/orderflow/hooks/child.py", "/orderflow/hooks/calling.py", "<frozen runpy>", "Extension modules: ")
"""Lines of a stack that are of the machinery around a plugin."""


class Died(Exception):
    """The process is gone, or had to be ended.

    Args: what: in words, `its process ...`; lines: what it said last (its stack, as a rule), escaped.
    """

    def __init__(self, what: str, lines: Iterable[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.lines = tuple(line for line in lines if not any(text in line for text in _OURS))


class Patience:
    """Counts only time lived through: who was stopped, or got no processor, does not blame the other side."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._left_s = limit_s

    def lived(self, seconds: float) -> None:
        self._left_s -= min(seconds, 2 * STEP_S)

    @property
    def over(self) -> bool:
        return self._left_s <= 0


class PluginProcess:
    """One process. To be started in the main thread: on Linux it ends together with the thread that started it.

    `send`, `receive` and `end` may be called from any one thread at a time; `kill` at any time.

    Raises: Died when it cannot be started.
    """

    def __init__(self, memory_mb: int) -> None:
        command = [sys.executable, "-P", "-m", "orderflow.hooks.child", str(os.getpid()), str(memory_mb)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment(os.environ),
                start_new_session=True,  # Ctrl-C is for the program; and whatever the plugin starts ends with it
            )
        except OSError as exc:
            raise Died(f"its process cannot be started: {exc.strerror or exc}") from None
        pipes = self._process.stdin, self._process.stdout, self._process.stderr
        self._commands, self._answers, self._output = (pipe.fileno() for pipe in pipes if pipe is not None)
        for fd in (self._commands, self._answers, self._output):
            os.set_blocking(fd, False)
        self._cutter = Cutter()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._torn = b""
        self._prints = True  # its end of the output is open
        self._printed_s = 0.0
        self._closed = False
        self._using = threading.Lock()
        self._forgotten = weakref.finalize(self, _put_away, self._process)

    @property
    def pid(self) -> int:
        return self._process.pid

    # --- speaking

    def send(self, data: bytes, patience: Patience) -> None:
        """Write a whole message. Raises: Died when it does not take it in time."""
        with self._using:
            self._check_open()
            while data:
                try:
                    data = data[os.write(self._commands, data) :]
                except BlockingIOError:
                    self._look(patience, write=True)
                    if patience.over:
                        raise self._hung(f"took nothing for {patience.limit_s:g} s") from None
                except OSError:
                    raise self._gone() from None

    def receive(self, patience: Patience) -> bytes:
        """The next whole message. Raises: Died when none comes in time, or when it is too long."""
        with self._using:
            self._check_open()
            while True:
                try:
                    message = self._cutter.next()
                except Nonsense as exc:
                    raise self._gone(f"sent nonsense: {exc}") from None
                if message is not None:
                    if self._prints:
                        self._read_output()  # what was printed before
                    return message
                if patience.over:
                    raise self._hung(f"gave no answer for {patience.limit_s:g} s")
                if self._look(patience):
                    self._read_answers()

    def _check_open(self) -> None:
        """A number of a pipe that is closed may be anybody's. Raises: Died."""
        if self._closed:
            raise Died("its process has been ended")

    def printed(self) -> list[str]:
        """Take the lines it has printed since, escaped."""
        lines = list(self._lines)
        self._lines.clear()
        return lines

    def _look(self, patience: Patience, *, write: bool = False) -> bool:
        """Wait a little for an answer (or for room); takes what it prints meanwhile. Returns: whether there is one."""
        began = time.monotonic()
        pausing = began - self._printed_s < _OUTPUT_PAUSE_S
        wanted = {self._commands: select.POLLOUT} if write else {self._answers: select.POLLIN}
        if self._prints and not pausing:
            wanted[self._output] = select.POLLIN
        ready = _poll(wanted, _OUTPUT_PAUSE_S if self._prints and pausing else STEP_S)
        if self._output in ready:
            self._read_output()
        patience.lived(time.monotonic() - began)
        return self._answers in ready

    def _read_answers(self) -> None:
        try:
            data = os.read(self._answers, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise self._gone()
        self._cutter.feed(data)

    def _read_output(self) -> None:
        """Take what it prints."""
        self._printed_s = time.monotonic()
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return
        self._prints = bool(data)
        *lines, self._torn = (self._torn + data).split(b"\n")
        self._torn = self._torn[: 4 * _LINE_LIMIT]
        self._lines.extend(_line(line) for line in lines[-_KEPT_LINES:] if line.strip())

    # --- its end

    def close(self) -> None:
        """Ask it to end: no more calls come. `end` then waits for it."""
        if self._using.acquire(blocking=False):
            with suppress(OSError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
            self._using.release()

    def end(self, within_s: float = 0.0) -> None:
        """Wait for its end so long, then end it; nothing of it is left. Called again, nothing happens."""
        with suppress(subprocess.TimeoutExpired):
            if within_s > 0:
                self._process.wait(within_s)
        self.kill()
        with self._using:  # who was speaking with it has noticed by now
            self._leave()

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        if not self._closed:
            _kill(self._process)

    def _leave(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._forgotten.detach()
        _close(self._process)

    def _hung(self, what: str) -> Died:
        """It does not move: have it say where, and end it."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGUSR1)
        self._last_words(_STACK_S)
        self.kill()
        self._leave()
        return Died(f"its process {what} and was ended", self.printed())

    def _gone(self, what: str = "") -> Died:
        """It closed its pipe or broke the rules: name its end."""
        if what:
            self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STACK_S)
        code = self._process.returncode
        self.kill()
        self._last_words(_QUIET_S)
        self._leave()
        return Died(f"its process {what or _ending(code)}", self.printed())

    def _last_words(self, within_s: float) -> None:
        """What it still says, for at most so long; a stack comes at once and in one piece."""
        until_s = time.monotonic() + within_s
        while self._prints and _poll({self._output: select.POLLIN}, max(0.0, until_s - time.monotonic())):
            self._read_output()
            if time.monotonic() > until_s:
                break
            until_s = min(until_s, time.monotonic() + _QUIET_S)
        if self._torn:
            self._lines.append(_line(self._torn))
            self._torn = b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # a number that just ended is not given out again so soon


def _close(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _put_away(process: subprocess.Popen[bytes]) -> None:
    """Of a process that nobody ended, because what used it failed."""
    _kill(process)
    _close(process)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the process gets of our environment: what Python and the system need, nothing that could be a secret."""
    kept = {name: value for name, value in ours.items() if name in _KEPT_VARIABLES or name.startswith("LC_")}
    here = str(Path(__file__).resolve().parents[2])
    path = [entry for entry in sys.path if entry and entry != here]
    return kept | {"PYTHONPATH": os.pathsep.join((here, *path))}


def _poll(wanted: Mapping[int, int], wait_s: float) -> set[int]:
    """Which of these are ready, or broken, within so long."""
    poll = select.poll()
    for fd, what in wanted.items():
        poll.register(fd, what)
    return {fd for fd, _ in poll.poll(wait_s * 1000)}


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _line(data: bytes) -> str:
    return escape_text(data.decode("utf-8", "backslashreplace"), _LINE_LIMIT)
