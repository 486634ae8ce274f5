"""Writing to stdout and stderr without ever waiting for who reads them.

A full pipe, a stopped terminal or a slow disk blocks `write()`, and file descriptors are shared with other programs, so
their flags are not ours to change. Hence one small thread per descriptor does the waiting; the event loop only puts.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

BATCH_BYTES: Final = select.PIPE_BUF  # a pipe takes that much whole or not at all: no torn line when we are killed
GONE: Final = frozenset({errno.EPIPE, errno.EBADF, errno.EIO, errno.ECONNRESET, errno.ENXIO})
"""The reader will not come back: closed pipe or descriptor, hung-up terminal, reset socket."""


class OutputStatistics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counts of one writer. `errors` are refused writes other than a reader that went away (disk full, ...)."""

    lines: int
    dropped: int
    pending: int
    pending_bytes: int
    errors: int
    broken: bool


class LineWriter:
    """Bounded queue and a daemon thread that writes it to `fd`. When full, the oldest lines go, counted.

    Every method may be called from any thread, never raises for what the descriptor does, and only `flush` waits.

    Args:
        fd: stays the caller's; neither closed nor reconfigured.
        max_bytes: most bytes waiting.
        confess: makes the line that says how many lines were dropped, written where they are missing.
        on_gone: called once, in the thread, when the reader went away.
        on_error: called once, in the thread, for the first error of another kind (full disk, ...).
    """

    def __init__(
        self,
        fd: int,
        *,
        max_bytes: int = 1 << 20,
        confess: Callable[[int], str] | None = None,
        on_gone: Callable[[], None] | None = None,
        on_error: Callable[[OSError], None] | None = None,
    ) -> None:
        self._fd = fd
        self._max_bytes = max_bytes
        self._confess = confess
        self._on_gone = on_gone
        self._on_error = on_error
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._unconfessed = 0
        self._lines = self._dropped = self._errors = 0
        self._writing = self._broken = self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, text: str) -> None:
        """Queue `text` (whole lines, or one screen) as UTF-8; what cannot be encoded is shown as an escape."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._broken or self._closed:
                self._dropped += 1
                return
            while self._queue and self._queued_bytes + len(data) > self._max_bytes:
                self._queued_bytes -= len(self._queue.popleft())
                self._dropped += 1
                self._unconfessed += 1
            self._queue.append(data)
            self._queued_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"write-{self._fd}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def idle(self) -> bool:
        """Whether everything put so far is written (or can never be)."""
        with self._changed:
            return self._settled()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written, at most `timeout_s` of real time. Returns: whether it is."""
        with self._changed:
            self._changed.wait_for(self._settled, timeout_s)
            return not self._queue and not self._writing

    def close(self, timeout_s: float) -> bool:
        """`flush`, then end the thread; a thread stuck in `write()` is left behind (it does not keep the process)."""
        flushed = self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if flushed and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return flushed

    def statistics(self) -> OutputStatistics:
        with self._changed:
            return OutputStatistics(
                lines=self._lines,
                dropped=self._dropped,
                pending=len(self._queue),
                pending_bytes=self._queued_bytes,
                errors=self._errors,
                broken=self._broken,
            )

    def _settled(self) -> bool:
        return self._broken or (not self._queue and not self._writing)

    def _run(self) -> None:
        while batch := self._take():
            lines, data = batch
            failure = self._write(data)
            self._settle(lines, failure)
            if failure is not None and failure.errno in GONE:
                if self._on_gone is not None:
                    self._on_gone()
                return

    def _take(self) -> tuple[int, bytes] | None:
        """The next whole lines to write; None when closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            batch: list[bytes] = []
            if self._unconfessed and self._confess is not None:
                batch.append(self._confess(self._unconfessed).encode())
            self._unconfessed = 0
            confession = size = sum(map(len, batch))
            lines = 0
            while self._queue and (not lines or size + len(self._queue[0]) <= BATCH_BYTES):
                batch.append(self._queue.popleft())
                size += len(batch[-1])
                lines += 1
            self._queued_bytes -= size - confession
            self._writing = True
            return lines, b"".join(batch)

    def _write(self, data: bytes) -> OSError | None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever shares the descriptor made it non-blocking
                ready = select.poll()
                ready.register(self._fd, select.POLLOUT)
                ready.poll(1000)
            except OSError as exc:
                return exc
        return None

    def _settle(self, lines: int, failure: OSError | None) -> None:
        with self._changed:
            self._writing = False
            first_error = failure is not None and self._errors == 0
            if failure is None:
                self._lines += lines
            else:
                self._dropped += lines
                self._unconfessed += lines
                self._errors += failure.errno not in GONE
            if failure is not None and failure.errno in GONE:
                self._broken = True
                self._dropped += len(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
            self._changed.notify_all()
        if failure is not None and first_error and failure.errno not in GONE and self._on_error is not None:
            self._on_error(failure)


class Output:
    """Standard output for the program: `put` never waits, `run` owns the life of the writer.

    When the reader goes away `run` returns, and the program should stop quietly with exit code 0. When `run` is
    cancelled it gives the reader `flush_s` to take what is still waiting.
    """

    def __init__(
        self,
        fd: int = 1,
        *,
        max_bytes: int = 1 << 20,
        flush_s: float = 0.5,
        confess: Callable[[int], str] | None = None,
    ) -> None:
        self._flush_s = flush_s
        self._gone = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._writer = LineWriter(
            fd, max_bytes=max_bytes, confess=confess, on_gone=self._tell_gone, on_error=self._tell_error
        )

    def put(self, text: str) -> None:
        """Queue one line (a line feed is added when missing); drops the oldest lines when the reader is slow."""
        self._writer.put(text if text.endswith("\n") else text + "\n")

    def put_raw(self, text: str) -> None:
        """Queue text as it is: screens with cursor movement."""
        self._writer.put(text)

    @property
    def idle(self) -> bool:
        """Whether all that was put is written: a view draws its next picture only then."""
        return self._writer.idle

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put is written, at most `timeout_s` of real time. Returns: whether it is."""
        return await trio.to_thread.run_sync(self._writer.flush, timeout_s)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until the reader goes away (returns) or cancelled (flushes within `flush_s`)."""
        self._token = trio.lowlevel.current_trio_token()
        task_status.started()
        try:
            if not self._writer.statistics().broken:
                await self._gone.wait()
        finally:
            with trio.CancelScope(shield=True):  # bounded: flush has its own deadline, in real time
                await trio.to_thread.run_sync(self._writer.close, self._flush_s)

    def statistics(self) -> OutputStatistics:
        return self._writer.statistics()

    def _tell_gone(self) -> None:
        if self._token is None:
            return  # run() looks for itself when it starts
        try:
            self._token.run_sync_soon(self._gone.set)
        except trio.RunFinishedError:
            pass  # nobody left to tell

    def _tell_error(self, exc: OSError) -> None:
        log.warning("cannot write output: %s; lines are dropped until it works again", exc.strerror)
