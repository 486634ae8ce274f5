"""What a process holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from orderflow.bench.memory import resident_mb

if TYPE_CHECKING:
    import pytest


def test_resident_memory_of_this_process_is_known() -> None:
    now, peak = resident_mb(os.getpid())
    assert 5 < now <= peak < 10_000


def test_without_proc_ps_knows_the_present_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object) -> NoReturn:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    now, peak = resident_mb(os.getpid())
    assert 5 < now == peak
