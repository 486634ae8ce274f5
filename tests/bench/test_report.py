"""The JSON object, and reading it again."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from orderflow.bench.frames import FrameFacts
from orderflow.bench.machine import Machine, describe_machine
from orderflow.bench.plan import QUICK
from orderflow.bench.report import FORMAT, Report, make_report, read_report, to_json, with_changes
from orderflow.bench.results import Figure, Spread, single
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

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


def _figures(apply_p99: float = 20.0, ours: float = 90_000.0) -> list[Figure]:
    def flood(client: str, rate: float) -> Figure:
        return Figure(
            stage="flood", name="messages", case=client, unit="msg/s", rounds=(single(rate),), depth=50,
            more_is_better=True,
        )  # fmt: skip

    return [
        Figure(stage="book", name="apply", case="hot", unit="us", rounds=(_spread(apply_p99),), depth=50),
        Figure(stage="book", name="apply", case="cold", unit="us", rounds=(_spread(99.0),), depth=50, rate=500.0),
        flood("orderflow", ours),
        flood("plain", 20_000.0),
        Figure(stage="startup", name="orderflow --help", case="", unit="s", rounds=(single(0.1), single(0.14))),
    ]


def make(apply_p99: float = 20.0, ours: float = 90_000.0) -> Report:
    return make_report(MACHINE, QUICK, [FACTS], _figures(apply_p99, ours), now_ms=5)


def test_json_holds_every_round_and_what_is_shown() -> None:
    found: dict[str, Any] = json.loads(to_json(make()))
    assert list(found)[:4] == ["event", "format", "ts", "ok"]
    assert (found["event"], found["format"], found["ts"], found["ok"]) == ("bench", FORMAT, 5, True)
    assert found["machine"]["cores"] == 2
    assert found["plan"]["rate"] == 500.0
    assert found["frames"] == [{"depth": 50, "distinct": 998, "bytes": 560.5, "levels": 21.3, "levels_max": 200}]
    started = found["figures"][-1]
    assert [each["p50"] for each in started["rounds"]] == [0.1, 0.14]
    assert started["shown"] == {"count": 2, "p50": pytest.approx(0.12), "p99": pytest.approx(0.12),
                                "p999": pytest.approx(0.12), "max": 0.14}  # fmt: skip
    judged = {verdict["limit"]["title"]: verdict["holds"] for verdict in found["verdicts"]}
    assert judged["book delta"] is True
    assert judged["message processing"] is None
    assert [(ratio["value"], ratio["holds"]) for ratio in found["ratios"]] == [(4.5, True)]
    assert found["changes"] is None


@pytest.mark.parametrize("apply_p99, ours, ok", [(49.0, 9e4, True), (51.0, 9e4, False), (49.0, 7e4, False)])
def test_a_broken_limit_or_promise_is_not_ok(apply_p99: float, ours: float, ok: bool) -> None:
    assert make(apply_p99, ours).ok is ok


def test_a_report_is_read_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(to_json(make()))
    assert read_report(path, "--report") == make()


def test_what_a_file_says_of_itself_is_judged_afresh(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(to_json(msgspec.structs.replace(make(51.0), ok=True, verdicts=(), ratios=())))
    assert not read_report(path, "--report").ok


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "expected what `orderflow bench --json` prints"),
        ("[1]", "expected what `orderflow bench --json` prints"),
        ('{"event":"tick"}', "expected what `orderflow bench --json` prints"),
        ('{"event":"bench","ts":1,"ok":true}', "of another version of the bench (format 1, this is 2)"),
        ('{"event":"bench","format":3}', "of another version of the bench (format 3, this is 2)"),
        ('{"event":"bench","format":2}', "missing required field `machine`"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_report(path, "--compare")
    assert str(caught.value).startswith(f"option --compare: {path}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "path, value",
    [
        (("figures", 0, "rounds"), []),
        (("figures", 0, "rounds", 0, "p50"), 1e300),
        (("figures", 0, "rounds", 0, "p99"), None),
        (("ts",), 1 << 60),
        (("machine",), {}),
        (("plan", "rounds"), "three"),
    ],
)
def test_a_file_with_odd_values_is_refused(tmp_path: Path, path: tuple[str | int, ...], value: object) -> None:
    found: Any = json.loads(to_json(make()))
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = tmp_path / "odd.json"
    file.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="expected what `orderflow bench --json` prints"):
        read_report(file, "--report")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"option --report: .*none\.json: No such file"):
        read_report(tmp_path / "none.json", "--report")


def test_changes_are_against_the_earlier_run() -> None:
    changes = with_changes(make(10.0), make(20.0)).changes
    assert changes is not None
    assert [(change.name, change.case, change.ratio) for change in changes] == [
        ("apply", "hot", 2.0), ("apply", "cold", 1.0), ("messages", "orderflow", 1.0), ("messages", "plain", 1.0),
        ("orderflow --help", "", 1.0),
    ]  # fmt: skip


def test_this_machine_can_be_described() -> None:
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.cpu
    assert set(machine.packages) >= {"trio", "msgspec"}
    assert math.isfinite(machine.clock_ns + machine.wake_us)
