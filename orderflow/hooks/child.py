"""The process of one isolated plugin: `python -m orderflow.hooks.child PARENT MEMORY_MB`. Started by `process.py` only.

It loads the plugin it is told to, calls its hooks one by one as it is told to, and answers. It ends with its parent.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from orderflow.core.text import escape_text
from orderflow.hooks import wire
from orderflow.hooks.calling import call_hook
from orderflow.hooks.loading import PluginProblems, load

if TYPE_CHECKING:
    from orderflow.hooks.calling import Outcome

_TEXT_LIMIT: Final = 2000
_RECORDS_PER_CALL: Final = 20
_NICE: Final = 5  # where processors are few, the feed goes first
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> None:
    """Serve until the parent closes the pipe."""
    parent, memory_mb = map(int, arguments)
    _die_with(parent)
    commands, answers = _take_pipes()
    _be_modest(memory_mb)
    faulthandler.enable(2, all_threads=False)  # a crash says where
    faulthandler.register(signal.SIGUSR1, 2, all_threads=False)  # and so does a hang, when asked
    Server(commands, answers).run()


class Server:
    """Reads calls, answers them."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands = commands
        self._answers = answers
        self._writing = threading.Lock()  # a plugin's own threads may log
        self._said = 0

    def run(self) -> None:
        first = self._read()
        if first is None:
            return
        order = wire.decode_load(first)
        logging.getLogger().addHandler(Teller(self))
        logging.captureWarnings(True)
        try:
            loaded = load(order.source, order.table)
        except PluginProblems as exc:
            self.send(wire.Unfit(problems=exc.problems))
            return
        impls = {impl.hook: impl for impl in loaded.impls}
        self.send(wire.Ready(version=loaded.version, hooks=tuple(impls), config=loaded.configs.table()))
        while (data := self._read()) is not None:
            self._said = 0
            number, hook, argument = wire.decode_call(data)
            outcome = call_hook(impls[hook], argument, order.max_alerts, order.source.path, time.perf_counter)
            self._answer(number, outcome)

    def tell(self, level: int, text: str) -> None:
        """Pass on what the plugin logs: so much for each call, the rest is lost."""
        self._said += 1
        if self._said <= _RECORDS_PER_CALL:
            self.send(wire.Said(level=level, text=escape_text(text, _TEXT_LIMIT)))

    def _answer(self, number: int, outcome: Outcome) -> None:
        alerts = tuple(map(wire.verdict, outcome.alerts))
        answer = wire.Answer(
            number=number,
            took_s=outcome.took_s,
            alerts=alerts,
            rejected=outcome.rejected,
            cut=outcome.cut,
            error=outcome.error,
        )
        try:
            self.send(answer)
        except wire.Nonsense as exc:
            self.send(wire.Answer(number=number, took_s=outcome.took_s, error=f"what it returned: {exc}"))

    def send(self, message: wire.FromPlugin) -> None:
        data = wire.encode(message)
        with self._writing:
            self._answers.write(data)
            self._answers.flush()

    def _read(self) -> bytes | None:
        """The next message; None when the parent is gone or wants no more."""
        head = self._commands.read(4)
        if len(head) < 4:
            return None
        size = int.from_bytes(head, "big")
        data = self._commands.read(size)
        return data if len(data) == size else None


class Teller(logging.Handler):
    """What a plugin logs goes to the program's log."""

    def __init__(self, server: Server) -> None:
        super().__init__(logging.WARNING)
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
            self._server.tell(record.levelno, text)
        except Exception:  # noqa: BLE001 - the plugin border: what it logs may fail to become text in any way
            pass


def _die_with(parent: int) -> None:
    """However the parent ends, so do we; also in C code that looks at nothing."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before it could be asked for
        os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """(commands, answers), out of a plugin's way: it reads nothing from stdin, and what it prints goes to stderr."""
    commands, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr] # both are text
    return open(commands, "rb"), open(answers, "wb")


def _be_modest(memory_mb: int) -> None:
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb:
        size = memory_mb * 2**20
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        size = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when the machine runs out of memory, this process is the one to go
    except OSError:
        pass  # not Linux


if __name__ == "__main__":
    main(sys.argv[1:])
