"""Where an export goes: all of it or nothing. It grows in a hidden folder beside and gets its name when it is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Abandoned(Exception):
    """Raised inside `new_folder` to leave nothing behind."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well and is removed when it does not.

    Raises: ConfigError when `out` is there already (an empty folder may be) or cannot be written.
    """
    if out.is_symlink() or (out.exists() and not _is_empty(out)):
        raise ConfigError(f"--out: {escape_text(str(out), 300)}: is there already; choose a new folder, or remove it")
    grows = out.absolute().with_name(f".{out.absolute().name}.partial-{os.getpid()}")
    try:
        grows.mkdir(parents=True)
        try:
            yield grows
            _sync_all(grows)
            grows.rename(out)
            _sync(out.absolute().parent)
        except BaseException:
            shutil.rmtree(grows, ignore_errors=True)
            raise
    except OSError as error:
        where = escape_text(str(error.filename or out), 300)
        raise ConfigError(f"--out: {where}: cannot be written: {error.strerror or error}") from error


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def _sync_all(folder: Path) -> None:
    """On the disk, so that no crash leaves a named folder with empty files."""
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(os.path.join(parent, name))
        _sync(parent)


def _sync(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
