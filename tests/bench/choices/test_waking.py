"""What a message takes from the event loop's waking on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orderflow.bench.choices.waking import Wakings

if TYPE_CHECKING:
    import pytest


def test_of_one_message_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stamps: list[int] = []
    spans: list[int] = []
    wakings = Wakings(stamps, spans)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 100)

    def wake(*messages: int, passes: int = 1) -> None:
        """Asleep until something comes, which is in the book so many passes later."""
        wakings.before_io_wait(1.0)
        wakings.after_io_wait(1.0)
        for _ in range(passes - 1):
            wakings.before_io_wait(0)
            wakings.after_io_wait(0)
        stamps.extend(messages)

    for messages, passes in (((107,), 1), ((110, 120), 1), ((), 1), ((130,), 3), ((), 1)):
        wake(*messages, passes=passes)
    assert spans == [7, 30]
