"""Files beside their manifest: hashes, lengths, and files that are gone."""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import TYPE_CHECKING

from orderflow.record.folder import LOCK, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orderflow.record.folder import ManifestLine
    from orderflow.record.reader import Recording
    from orderflow.verify.results import Report

_PIECE = 1 << 20


class Files:
    """What the manifests of a recording's folders say of its files.

    Args: folders: those that were named as a whole, of which a file may be missing.
    """

    def __init__(self, recording: Recording, folders: Iterable[Path]) -> None:
        self._recording = recording
        self._folders = {folder.resolve() for folder in folders}
        self._lines: dict[Path, dict[str, ManifestLine]] = {}
        for path in recording.files:
            folder = path.parent.resolve()
            if folder not in self._lines:
                self._lines[folder] = read_manifest(folder)
        self._written = {folder for folder in self._lines if is_being_written(folder)}

    def line(self, path: Path) -> ManifestLine | None:
        return self._lines[path.parent.resolve()].get(path.name)

    def confessed(self, path: Path) -> bool:
        """Whether a torn end is known: its program was killed and the next one said so, or it is being written."""
        line = self.line(path)
        if line is None:
            return path.parent.resolve() in self._written
        return line.end in ("torn", "trouble")

    def check(self, report: Report) -> None:
        unlisted = 0
        for path in self._recording.files:
            line = self.line(path)
            if line is None:
                unlisted += 1
            else:
                _check_file(path, line, report)
        if unlisted:
            report.notes.append(
                f"{unlisted} of {len(self._recording.files)} files are in no manifest (still being written, or their "
                "program was killed): no hash to check"
            )
        for folder, lines in self._lines.items():
            if folder in self._folders:
                for name in sorted(lines):
                    if not (folder / name).exists():
                        report.fault("missing", str(folder / name), "the manifest names it, and it is gone")


def _check_file(path: Path, line: ManifestLine, report: Report) -> None:
    size = path.stat().st_size
    if size < line.bytes or (size > line.bytes and line.end not in ("torn", "trouble")):
        report.fault("size", str(path), f"{size} bytes; the manifest says {line.bytes}")
    elif sha256_of(path, line.bytes) != line.sha256:
        report.fault("hash", str(path), "its SHA-256 is not the manifest's")
    else:
        report.hashed += 1


def sha256_of(path: Path, count: int) -> str:
    """Of the first `count` bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while count and (data := file.read(min(count, _PIECE))):
            digest.update(data)
            count -= len(data)
    return digest.hexdigest()


def is_being_written(folder: Path) -> bool:
    """Whether a recorder holds the folder's lock."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
