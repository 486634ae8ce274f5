"""The recordings of ../shared/data/bybit: read when they are there, never copied."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "bybit"


def recording(name: str) -> Path:
    """The path of a recording; skips the test when the recordings are not beside this checkout."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no recordings beside this checkout (../shared/data/bybit/{name})")
    return path


def received(name: str) -> Iterator[tuple[float | None, bytes]]:
    """(receive time in s or None, message) of every frame of a V5 stream file."""
    path = recording(f"streams/{name}")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for line in archive.read(archive.namelist()[0]).splitlines():
                yield None, line
        return
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:  # type: ignore[operator]
        for line in lines:
            text = line.strip()
            if text.startswith("wss://"):
                continue
            if ".txt" in name:
                stamp, _, message = text.partition(": ")
                yield float(stamp), message.encode()
            elif ".jsonl.gz" in name:
                record = json.loads(text)
                if record["t"] == "recv":
                    yield record["ts"], record["data"].encode()
            else:
                yield None, text.encode()


def golden(name: str) -> list[dict[str, str]]:
    """Single messages: objects with id, raw, note, origin and json_ok."""
    return [json.loads(line) for line in recording(f"golden/{name}").read_text("utf-8").splitlines()]
