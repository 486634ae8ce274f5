"""The JSON object and the table."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest

from orderflow.bench.frames import FrameFacts
from orderflow.bench.machine import Machine, describe_machine
from orderflow.bench.plan import QUICK
from orderflow.bench.report import Report, align, find_ratios, make_report, number, to_json, write_table
from orderflow.bench.results import Figure, Spread, single

MACHINE = Machine(
    orderflow="1.2.3",
    python="CPython 3.11.7",
    system="Linux 6 x86_64",
    cpu="a cpu",
    cores=2,
    load=0.5,
    clock_ns=60.0,
    wake_us=57.0,
    packages={"trio": "0.35.0"},
)
FACTS = FrameFacts(depth=50, distinct=998, bytes=560.5, levels=21.3, levels_max=200)


def _spread(p99: float) -> Spread:
    return Spread(count=1000, p50=p99 / 4, p99=p99, p999=p99 * 2, max=p99 * 3)


def _figures(apply_p99: float = 20.0) -> list[Figure]:
    def flood(client: str, rate: float) -> Figure:
        return Figure(
            stage="flood", name="messages", case=client, unit="msg/s", rounds=(single(rate),), depth=50,
            more_is_better=True,
        )  # fmt: skip

    def paced(client: str, p99: float, name: str = "sent to book") -> Figure:
        return Figure(stage="paced", name=name, case=client, unit="us", rounds=(_spread(p99),), depth=50, rate=500.0)

    return [
        Figure(stage="book", name="apply", case="hot", unit="us", rounds=(_spread(apply_p99),), depth=50),
        Figure(stage="book", name="apply", case="cold", unit="us", rounds=(_spread(99.0),), depth=50, rate=500.0),
        flood("orderflow", 90_000.0),
        flood("plain", 20_000.0),
        paced("orderflow", 100.0),
        paced("plain", 250.0),
        paced("server", 1.0, "server late"),
        Figure(stage="startup", name="orderflow --help", case="", unit="s", rounds=(single(0.1), single(0.2))),
    ]


def _report(apply_p99: float = 20.0) -> Report:
    return make_report(MACHINE, QUICK, [FACTS], _figures(apply_p99))


def test_json_holds_every_round_and_what_is_shown() -> None:
    found: dict[str, Any] = json.loads(to_json(_report(), now_ms=5))
    assert list(found)[:3] == ["event", "ts", "ok"]
    assert (found["event"], found["ts"], found["ok"]) == ("bench", 5, True)
    assert found["machine"]["cores"] == 2
    assert found["plan"]["rate"] == 500.0
    assert found["frames"] == [{"depth": 50, "distinct": 998, "bytes": 560.5, "levels": 21.3, "levels_max": 200}]
    started = found["figures"][-1]
    assert [each["p50"] for each in started["rounds"]] == [0.1, 0.2]
    assert started["shown"] == {"count": 2, "p50": pytest.approx(0.15), "p99": pytest.approx(0.15),
                                "p999": pytest.approx(0.15), "max": 0.2}  # fmt: skip
    judged = {verdict["limit"]["name"]: verdict["holds"] for verdict in found["verdicts"]}
    assert judged == {"message": None, "apply": True, "imbalance": None, "memory": None}


def test_a_broken_limit_is_not_ok() -> None:
    assert _report(49.0).holds
    assert not _report(51.0).holds
    assert json.loads(to_json(_report(51.0)))["ok"] is False


def test_ratios_say_how_many_times_better() -> None:
    assert find_ratios(_figures()) == {
        "messages, depth 50, against plain": 4.5,
        "sent to book, depth 50, against plain": 2.5,
    }


def test_the_table_shows_case_rate_limit_and_verdict() -> None:
    out = io.StringIO()
    write_table(_report(51.0), out)
    lines = out.getvalue().splitlines()
    hot = next(line.split() for line in lines if line.split()[:2] == ["apply", "hot"])
    assert hot == ["apply", "hot", "50", "1000", "12.8", "us", "51.0", "102", "153", "p99", "<", "50", "BROKEN"]
    cold = next(line.split() for line in lines if line.split()[:2] == ["apply", "cold"])
    assert cold[2:4] == ["50", "500/s"]
    assert cold[-1] == "50"
    assert any("orderflow is 4.50 times better: messages" in line for line in lines)
    assert any("21.3 changed levels (up to 200)" in line for line in lines)
    assert "limit imbalance p99 < 15 us: not measured" in lines


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # narrower than the table: nothing is cut short
    out = _Terminal()
    write_table(_report(51.0), out)
    assert "BROKEN" in out.getvalue()
    assert "12.8 us" in out.getvalue()
    assert "…" not in out.getvalue()


@pytest.mark.parametrize(
    "value, text",
    [(0.0371, "0.037"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (98765.4, "98765"), (-0.5, "-0.500")],
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_columns_are_aligned() -> None:
    assert align([("name", "", "n"), ("a", "bcd", "100")]) == ["  name         n", "  a     bcd  100"]


def test_this_machine_can_be_described() -> None:
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.cpu
    assert set(machine.packages) >= {"trio", "msgspec"}
    assert math.isfinite(machine.clock_ns + machine.wake_us)
