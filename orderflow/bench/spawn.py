"""Child processes of the bench: same interpreter, same orderflow, nobody's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orderflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SOURCE: Final = str(Path(orderflow.__file__).resolve().parent.parent)
_STOP_S: Final = 5.0


def module_command(module: str, *arguments: str, python: str = "") -> list[str]:
    """Args: python: another interpreter than ours."""
    return [python or sys.executable, "-m", module, *arguments]


def orderflow_command(*arguments: str) -> list[str]:
    """The `orderflow` command without looking for a script of that name."""
    return [sys.executable, "-m", "orderflow", *arguments]


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with this orderflow to import and without settings of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = _SOURCE + (os.pathsep + path if path else "")
    return {**environment, **(extra or {})}


@contextmanager
def spawned(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, directory: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child whose standard output is a pipe, ended with the block."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(environment),
        cwd=directory,
    )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a child to end, make it end if it does not. Returns: its exit code."""
    process.terminate()
    if process.stdout is not None:
        process.stdout.close()
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
