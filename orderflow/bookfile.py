"""Every book of a run in one JSON file: `--book-out`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import trio

from orderflow.core.text import plain_decimal

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.core.engine import Engine


class BookFile:
    """Where the books of `engine` are written to, as often as asked."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._writing = trio.CapacityLimiter(1)  # one write at a time, an abandoned one included

    def dump(self) -> bytes:
        """The books as they are now."""
        return msgspec.json.format(msgspec.json.encode(self._engine.dump(plain_decimal)), indent=1) + b"\n"

    async def write(self, data: bytes) -> None:
        """Write whole or not at all. Raises: OSError."""
        await trio.to_thread.run_sync(_replace_file, self.path, data, abandon_on_cancel=True, limiter=self._writing)


def _replace_file(path: Path, data: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
