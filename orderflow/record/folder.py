"""A folder of recordings: its lock, its manifest, and the names of its files."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import ConfigError, RecordingError
from orderflow.record.format import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST: Final = "manifest.jsonl"
LOCK: Final = ".lock"
_LONGEST_LINE: Final = 65_536
"""Of a manifest; what is longer is none of ours."""


class ManifestLine(msgspec.Struct, frozen=True, kw_only=True):
    """One finished file. `end`: `rotated`, `stopped`, `trouble`; or `torn`: its program was killed.

    `bytes` counts what is whole, `sha256` covers just that; the file of a killed program may be longer.
    """

    file: str
    session: str
    number: int
    bytes: int
    sha256: str
    created_ns: int
    first_ns: int
    last_ns: int
    records: int
    raw_bytes: int
    end: str
    frames: int | None = None  # None: not counted, the file was found torn


_line: Final = msgspec.json.Decoder(ManifestLine)


def read_manifest(folder: Path) -> dict[str, ManifestLine]:
    """What is known of finished files, by file name; lines that are torn or foreign are left out."""
    lines: dict[str, ManifestLine] = {}
    try:
        with (folder / MANIFEST).open("rb") as file:
            while text := file.readline(_LONGEST_LINE):
                try:
                    line = _line.decode(text)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue
                lines[line.file] = line
    except FileNotFoundError:
        pass
    return lines


def append_manifest(folder: Path, line: ManifestLine) -> None:
    """Add one line, on the disk when this returns. Raises: OSError."""
    fd = os.open(folder / MANIFEST, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(fd).st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, (b"\n" if torn else b"") + msgspec.json.encode(line) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def recording_files(folder: Path) -> list[Path]:
    """Every file of the folder that is named as a recording, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)


def file_name(created_ns: int, session: bytes, number: int) -> str:
    """Sorts by time. No two sessions share one, and a file is never opened that is there already."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created_ns // 1_000_000_000))
    return f"{when}-{session[:4].hex()}-{number:05}{SUFFIX}"


class FolderLock:
    """One writer per folder. The lock goes away with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        """Raises: ConfigError when another process writes there, or nobody can."""
        self._fd = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            self.release()
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise ConfigError(f"recording: {folder}: {who} records into it; choose another folder") from None
        except OSError as error:
            self.release()
            raise ConfigError(f"recording: {folder}: cannot be written: {error.strerror}") from None
        with suppress(OSError):  # a full disk: the lock holds without our number in it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def walk_paths(path: Path) -> Iterator[Path]:
    """The files a path stands for. Raises: RecordingError when there is none."""
    if not path.is_dir():
        yield path
        return
    try:
        found = recording_files(path)
    except OSError as error:
        raise RecordingError(str(path), 0, "missing", f"cannot be opened: {error.strerror}") from None
    if not found:
        raise RecordingError(str(path), 0, "empty", f"no recording (*{SUFFIX}) in this folder")
    yield from found
