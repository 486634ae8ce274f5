"""Writing a session's files: one thread at a time, every call blocks, every trouble with the disk is an OSError."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec
import zstandard

from orderflow.core.errors import OrderflowError
from orderflow.record import folder as folders
from orderflow.record.format import FileHeader, pack_block, pack_file_header
from orderflow.record.reader import survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderflow.core.policy import RecordPolicy
    from orderflow.record.format import Chunk

_MB: Final = 1_000_000


class WriterStatistics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Totals of one session so far."""

    files: int
    bytes: int
    raw_bytes: int
    records: int
    frames: int
    free_bytes: int


class _File:
    """One file being written. `good` bytes of it are whole."""

    def __init__(self, path: Path, header: FileHeader) -> None:
        self.path = path
        self.header = header
        self.good = self.records = self.frames = self.raw_bytes = 0
        self.first_ns = self.last_ns = header.created_ns
        self.opened = time.monotonic()
        self._sum = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            self.write(pack_file_header(header))
            sync_folder(path.parent)
        except OSError:
            self.abandon()
            with contextlib.suppress(OSError):
                path.unlink()  # there is nothing in it
            raise

    def write(self, data: bytes) -> None:
        """All of it, on the disk. Raises: OSError, and nothing of it counts."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)
        self._sum.update(data)
        self.good += len(data)

    def abandon(self) -> None:
        """Cut off what is not whole, as far as the disk lets us."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self.good)
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def line(self, end: str) -> folders.ManifestLine:
        return folders.ManifestLine(
            file=self.path.name,
            session=self.header.session.hex(),
            number=self.header.number,
            bytes=self.good,
            sha256=self._sum.hexdigest(),
            created_ns=self.header.created_ns,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            records=self.records,
            frames=self.frames,
            raw_bytes=self.raw_bytes,
            end=end,
        )


class RecordingWriter:
    """One session in one folder. Making it takes the folder's lock; `close` gives it back.

    Args:
        session: 16 random bytes; clock: wall ns, of the files' names and headers.

    Raises: ConfigError when another process writes into the folder, or nobody can.
    """

    def __init__(
        self, folder: Path, policy: RecordPolicy, session: bytes, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.folder = folder
        self._policy = policy
        self._session = session
        self._clock = clock
        self._lock = folders.FolderLock(folder)
        self._one_at_a_time = threading.Lock()  # a call that was given up may still be running
        self._file: _File | None = None
        self._number = 0
        self._compressor = zstandard.ZstdCompressor(level=policy.level)
        self._bytes = self._raw_bytes = self._records = self._frames = 0
        self._free_bytes = shutil.disk_usage(folder).free

    def seal_orphans(self) -> list[folders.ManifestLine]:
        """Enter files of killed programs into the manifest; the files themselves stay as they are. Raises: OSError."""
        known = folders.read_manifest(self.folder)
        sealed: list[folders.ManifestLine] = []
        for path in folders.recording_files(self.folder):
            if path.name in known:
                continue
            try:
                line = _orphan_line(path)
            except OrderflowError:
                continue  # nothing of ours: it is not touched and not entered
            folders.append_manifest(self.folder, line)
            sealed.append(line)
        return sealed

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def rotation_due(self) -> bool:
        """Whether the next chunk should begin a new file; also when there is none yet, or the disk gave trouble."""
        file = self._file
        return file is None or (
            file.good >= self._policy.rotate_mb * _MB or time.monotonic() - file.opened >= self._policy.rotate_s
        )

    def rotate(self, last: Chunk | None) -> None:
        """End the file at hand with `last` and begin a new one. Raises: OSError."""
        with self._one_at_a_time:
            if self._file is not None:
                if last is not None:
                    self._write(last)
                self._end("rotated")
            self._begin_file()

    def _begin_file(self) -> None:
        self._check_room()
        created_ns = self._clock()
        header = FileHeader(session=self._session, number=self._number, created_ns=created_ns)
        path = self.folder / folders.file_name(created_ns, self._session, self._number)
        file = _File(path, header)
        self._number += 1
        self._file = file
        self._bytes += file.good

    def write(self, chunk: Chunk) -> None:
        """One block, on the disk when this returns. Raises: OSError; then the file is over and nothing was written."""
        with self._one_at_a_time:
            self._write(chunk)

    def _write(self, chunk: Chunk) -> None:
        file = self._file
        if file is None:
            raise OSError(errno.EBADF, "no file is open")
        try:
            self._check_room()
            data = pack_block(chunk, self._compressor)
            file.write(data)
        except OSError:
            self._give_up()
            raise
        file.records += chunk.records
        file.frames += chunk.frames
        file.raw_bytes += chunk.size
        file.last_ns = chunk.last_ns or file.last_ns
        self._bytes += len(data)
        self._raw_bytes += chunk.size
        self._records += chunk.records
        self._frames += chunk.frames

    def close(self, last: Chunk | None) -> None:
        """End the session. Raises: OSError when its end could not be written; the lock is free in any case."""
        try:
            with self._one_at_a_time:
                if self._file is not None:
                    if last is not None:
                        self._write(last)
                    self._end("stopped")
        finally:
            self._lock.release()

    def statistics(self) -> WriterStatistics:
        return WriterStatistics(
            files=self._number,
            bytes=self._bytes,
            raw_bytes=self._raw_bytes,
            records=self._records,
            frames=self._frames,
            free_bytes=self._free_bytes,
        )

    def _end(self, reason: str) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            folders.append_manifest(self.folder, file.line(reason))

    def _give_up(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.abandon()
            with contextlib.suppress(OSError):
                folders.append_manifest(self.folder, file.line("trouble"))

    def _check_room(self) -> None:
        self._free_bytes = shutil.disk_usage(self.folder).free
        if self._free_bytes < self._policy.keep_free_mb * _MB:
            raise OSError(errno.ENOSPC, f"less than {self._policy.keep_free_mb:g} MB free")


def _orphan_line(path: Path) -> folders.ManifestLine:
    """Raises: RecordingError when it is no recording, OSError."""
    found = survey(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = found.good
        while left and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
    return folders.ManifestLine(
        file=path.name,
        session=found.header.session.hex(),
        number=found.header.number,
        bytes=found.good,
        sha256=digest.hexdigest(),
        created_ns=found.header.created_ns,
        first_ns=found.first_ns,
        last_ns=found.last_ns,
        records=found.records,
        raw_bytes=found.raw_bytes,
        end="torn",
    )


def sync_folder(folder: Path) -> None:
    """Make a new file's name last. Raises: OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
