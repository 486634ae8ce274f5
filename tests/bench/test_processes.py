"""Real processes against the simulated exchange."""

from __future__ import annotations

import sys

import msgspec
import pytest

from orderflow.bench.memory import resident_mb
from orderflow.bench.plan import QUICK
from orderflow.bench.processes import (
    ProcessError,
    local_exchange,
    measure_startup,
    monitor,
    wait_live,
)
from orderflow.bench.spawn import child_environment, spawned


def test_children_see_nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERFLOW_SYMBOLS", "DOGEUSDT")
    environment = child_environment({"ORDERFLOW_DEPTH": "50"})
    assert {name for name in environment if name.startswith("ORDERFLOW_")} == {"ORDERFLOW_DEPTH"}


def test_children_end_with_the_block() -> None:
    with spawned([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        assert process.poll() is None
    assert process.returncode == -15


def test_a_monitor_that_ends_before_its_books_are_live_is_an_error() -> None:
    line = '{"event":"feed","kind":"book","symbol":"A","state":"live"}'
    with (
        spawned([sys.executable, "-c", f"print({line!r})"]) as process,
        pytest.raises(ProcessError, match="1 of 2 books live"),
    ):
        wait_live(process, 2)


@pytest.mark.socket
def test_the_real_monitor_becomes_live_on_several_symbols() -> None:
    with local_exchange(3) as (environment, names), monitor(environment, names, 50) as process:
        assert len(names) == 3
        wait_live(process, 3)
        now, peak = resident_mb(process.pid)
        assert 0 < now <= peak


@pytest.mark.socket
def test_startup_is_timed() -> None:
    figures = measure_startup(msgspec.structs.replace(QUICK, starts=1))
    names = [figure.name for figure in figures]
    assert names == ["python -c pass", "import orderflow.app", "orderflow --help", "first live book"]
    assert all(figure.shown.p50 > 0 for figure in figures)


def test_a_command_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from orderflow.bench import processes

    with pytest.raises(ProcessError, match="exit code 3"):
        processes._time_command((sys.executable, "-c", "raise SystemExit(3)"))
