"""What a full collection takes."""

from __future__ import annotations

import pytest

from orderflow.bench.choices import collection
from orderflow.bench.choices.collection import measure_collection
from orderflow.bench.processes import ProcessError


def test_a_process_of_its_own_times_both() -> None:
    aside, looked_at = measure_collection(rounds=1, turns=2)
    assert (aside.case, looked_at.case, aside.unit) == ("set aside by gc.freeze", "looked at", "ms")
    assert aside.shown.p50 < looked_at.shown.p50


def test_a_process_that_fails_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "module_command", lambda *_: ["false"])
    with pytest.raises(ProcessError, match="full collection"):
        measure_collection(rounds=1, turns=1)
