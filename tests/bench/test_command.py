"""`orderflow bench` as the command line calls it."""

from __future__ import annotations

import argparse
import json
import signal

import msgspec
import pytest

from orderflow.bench import command, plan
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.options import add_arguments
from orderflow.bench.results import Limit
from orderflow.core.errors import ConfigError

TINY = msgspec.structs.replace(plan.QUICK, rounds=1, windows=8, hot=20, cold=4, ticks=4, rate=1000.0)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK", TINY)


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return command.main(parser.parse_args(["--quick", *argv]))


def _judge_by(monkeypatch: pytest.MonkeyPatch, ceiling: float) -> None:
    limit = Limit(title="t", name="message", case="hot", depth=50, statistic="p50", ceiling=ceiling, unit="us")
    monkeypatch.setattr("orderflow.bench.report.LIMITS", (limit,))


def test_json_is_one_object_with_the_chosen_stages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _judge_by(monkeypatch, 1e9)
    assert _run("--json", "--only", "book", "message", "tick", "--rate", "1000") == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    cases = {(figure["stage"], figure["name"], figure["case"]) for figure in found["figures"]}
    assert cases == {
        (stage, name, case)
        for case in ("hot", "cold")
        for stage, name in (
            ("book", "decode"), ("book", "apply"), ("book", "imbalance"), ("message", "message"),
            ("tick", "tick"), ("tick", "tick, plugins"), ("tick", "tick, plugins, line"),
        )
    }  # fmt: skip
    for figure in found["figures"]:
        assert figure["rate"] == (1000.0 if figure["case"] == "cold" else None)
        assert figure["shown"]["p50"] <= figure["shown"]["p99"] <= figure["shown"]["p999"] <= figure["shown"]["max"]


@pytest.mark.parametrize("ceiling, code", [(1e9, 0), (1e-9, 1)])
def test_the_exit_code_tells_whether_limits_hold(
    ceiling: float, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _judge_by(monkeypatch, ceiling)
    assert _run("--only", "message", "--rate", "1000") == code
    assert ("BROKEN" in capsys.readouterr().out) == bool(code)


def test_work_not_done_is_no_figure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: object) -> None:
        raise WrongBook("not the market's \x1b[31m")

    monkeypatch.setattr("orderflow.bench.stages.time_messages", wrong)
    assert _run("--only", "message") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err


def test_sigterm_unwinds_so_that_no_child_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ended: list[bool] = []

    def killed(*args: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append(True)

    monkeypatch.setattr("orderflow.bench.stages.time_messages", killed)
    with pytest.raises(SystemExit) as caught:
        _run("--only", "message")
    assert caught.value.code == 143
    assert ended
    assert signal.getsignal(signal.SIGTERM) is before


def test_options_that_cannot_be_are_the_command_lines_business() -> None:
    with pytest.raises(ConfigError):
        _run("--rate", "0")
