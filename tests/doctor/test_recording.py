from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.config.tree import Settings
from orderflow.core.policy import RecordPolicy
from orderflow.doctor.recording import check_recording, estimate_a_day, measure_a_day
from orderflow.record.folder import append_manifest, read_manifest
from orderflow.record.writer import RecordingWriter
from tests.record.tapes import POLICY, simple_tape

if TYPE_CHECKING:
    from pathlib import Path


def settings(folder: Path | str = "", **more: object) -> Settings:
    return Settings(record=RecordPolicy(folder=str(folder), keep_free_mb=0), **more)  # type: ignore[arg-type]


async def test_off_it_forecasts_from_the_books() -> None:
    (check,) = await check_recording(settings())
    assert check.status == "pass"
    assert "a day" in check.finding
    two = estimate_a_day(settings(symbols=("BTCUSDT", "ETHUSDT")))
    assert two == 2 * estimate_a_day(settings())
    assert estimate_a_day(settings(depth=1000)) < estimate_a_day(settings())


async def test_a_folder_with_recordings_forecasts_from_them(tmp_path: Path) -> None:
    simple_tape(tmp_path)
    (line,) = read_manifest(tmp_path).values()
    assert measure_a_day(tmp_path) == 0.0  # three seconds tell nothing
    long = msgspec.structs.replace(line, file="x.ofr", bytes=86_400, first_ns=0, last_ns=86_400 * 10**9)
    append_manifest(tmp_path, long)
    assert measure_a_day(tmp_path) == pytest.approx(86_400 + line.bytes, rel=0.01)
    (check,) = await check_recording(settings(tmp_path))
    assert (check.status, "as before" in check.finding) == ("pass", True)


async def test_a_folder_somebody_records_into_is_warned_about(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, POLICY, os.urandom(16))
    (check,) = await check_recording(settings(tmp_path))
    assert check.status == "warn"
    assert str(os.getpid()) in check.finding
    writer.close(None)


async def test_little_room_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.doctor.recording.estimate_a_day", lambda settings: 1e18)
    (check,) = await check_recording(settings(tmp_path))
    assert check.status == "warn"
