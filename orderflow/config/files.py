"""Reading a settings file as plain data, and whether others could have written or can read it."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.config.lines import KeyPath, key_lines
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 1_000_000  # a settings file is a few kilobytes; this bounds what a wrong path can cost
_AT_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class FileProblem(Exception):
    """One file cannot be used; the text is a complete problem line and shows nothing of the file's content."""


class SettingsFile(msgspec.Struct, frozen=True):
    """A file's data with the line of every key."""

    name: str  # as shown to people
    data: dict[str, Any]
    lines: dict[KeyPath, int]  # paths in lower case
    secret: bool  # values of this file are never shown


def read_settings(path: Path, name: str, *, required: bool, secret: bool = False) -> SettingsFile | None:
    """Read and parse one TOML file.

    Args: name: what problems call it; required: whether a missing file is a problem.
    Returns: None when the file is missing and not required.
    Raises: FileProblem: missing, unreadable, not a regular file, too long, not UTF-8, not TOML (with its line).
    """
    shown = escape_text(name, limit=300)
    try:
        raw = _read_regular(path)
    except FileNotFoundError:
        if required:
            raise FileProblem(f"{shown}: no such file; expected a settings file") from None
        return None
    except (OSError, ValueError) as exc:  # ValueError: a path with a NUL in it
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise FileProblem(f"{shown}: cannot be read: {escape_text(reason)}") from None
    text = _decode(raw, shown)
    data = _parse(text, shown, secret=secret)
    lines = {tuple(part.lower() for part in path): line for path, line in reversed(key_lines(text).items())}
    return SettingsFile(name, data, lines, secret)


def _read_regular(path: Path) -> bytes:
    # Without O_NONBLOCK, opening a named pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    return raw


def _decode(raw: bytes, shown: str) -> str:
    try:
        return raw.decode("utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise FileProblem(f"{shown}:{line}: not UTF-8 text; expected TOML") from None


def _parse(text: str, shown: str, *, secret: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message = str(exc)
        found = _AT_LINE.search(message)
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        # A parser's message may quote what it stumbled over, and in a secrets file that may be part of a secret.
        detail = "syntax error" if secret else escape_text(message[: found.start()] if found else message)
        raise FileProblem(f"{shown}:{line}: not TOML: {detail}") from None
    except RecursionError:
        raise FileProblem(f"{shown}: not usable: nested too deeply") from None
    except ValueError as exc:  # a number with more digits than Python converts, an impossible date
        detail = "a value that cannot be read" if secret else escape_text(str(exc))
        raise FileProblem(f"{shown}: not TOML: {detail}") from None


def readable_by_others(path: Path) -> bool:
    """Whether the mode of an existing file lets group or others read or write it."""
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def insecure_reason(path: Path) -> str | None:
    """Why someone else could have put code or settings at `path`; None when nobody could.

    Owner (you or root) and mode of the file or folder itself and of the folder around it are checked. Group write
    counts unless the group is your own private one; a sticky folder such as /tmp is no danger to what is yours in it.
    """
    try:
        here = path.resolve(strict=True)
        return _insecure(here, around=False) or _insecure(here.parent, around=True)
    except OSError as exc:
        return f"{escape_text(str(path))} cannot be checked: {escape_text(exc.strerror or 'error')}"


def _insecure(path: Path, *, around: bool) -> str | None:
    status = path.stat()
    shown = escape_text(str(path), limit=300)
    if status.st_uid not in (0, os.geteuid()):
        return f"{shown} belongs to another user (uid {status.st_uid})"
    if around and status.st_mode & stat.S_ISVTX:
        return None
    if status.st_mode & stat.S_IWOTH:
        return f"{shown} can be written by anyone; run: chmod o-w {shown}"
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
        return f"{shown} can be written by its group; run: chmod g-w {shown}"
    return None


def _is_private_group(gid: int) -> bool:
    """Whether the group holds nobody but its user: root's, or one named like you (what most systems give each user)."""
    if gid == 0:
        return True
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
