"""Many symbols in the whole program."""

from __future__ import annotations

import msgspec
import pytest

from orderflow.bench import scale
from orderflow.bench.plan import QUICK
from orderflow.bench.results import LIMITS


@pytest.mark.socket
def test_every_crowd_is_measured_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "BESIDE_TICKS", (scale.Crowd(2, 500, 0), scale.Crowd(2, 500, 0.1)))
    monkeypatch.setattr(scale, "QUIET_MARKET", scale.Crowd(3, 600, 1.0))
    monkeypatch.setattr(scale, "WHOLE_EXCHANGE", ())
    figures = scale.measure_scale(msgspec.structs.replace(QUICK, rounds=1, windows=8, scale_s=0.3))
    assert [figure.name for figure in figures[:6]] == [
        "sent to book", "server late", "processor share", "events that waited", "event loop late", "resident memory",
    ]  # fmt: skip
    assert [figure.case for figure in figures[::6]] == [
        "2 symbols, no ticks", "2 symbols, ticks every 0.1 s", "3 symbols, ticks every 1 s",
    ]  # fmt: skip
    assert [figure.rate for figure in figures[::6]] == [500, 500, 600]


def test_what_is_promised_is_measured() -> None:
    crowds = (*scale.BESIDE_TICKS, scale.QUIET_MARKET, *scale.WHOLE_EXCHANGE)
    measured = {(crowd.case, crowd.rate) for crowd in crowds}
    promised = {(limit.case, limit.rate) for limit in LIMITS if "symbols" in limit.case and limit.rate}
    assert promised <= measured
    runs = [crowd.case for crowd in scale.BESIDE_TICKS]
    assert runs == ["50 symbols, no ticks", "50 symbols, ticks every 0.1 s"]
