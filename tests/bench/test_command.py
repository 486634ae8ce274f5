"""`orderflow bench` as the command line calls it."""

from __future__ import annotations

import argparse
import json
import signal
from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.bench import command, plan
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.options import add_arguments
from orderflow.bench.results import Limit
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.fixture
def saved(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run as `--json` printed it."""
    _judge_by(monkeypatch, 1e9)
    assert _run("--json", "--only", "message", "--rate", "1000") == 0
    path = tmp_path / "run.json"
    path.write_text(capsys.readouterr().out)
    return path


def _show(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return command.main(parser.parse_args(argv))


def test_an_earlier_run_is_shown_without_measuring(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "make_plan", None)
    assert _show("--report", str(saved)) == 0
    assert "message: one whole message" in capsys.readouterr().out
    assert _show("--report", str(saved), "--markdown") == 0
    assert "### message: one whole message" in capsys.readouterr().out
    assert _show("--report", str(saved), "--only", "book") == 0
    assert "message: one whole" not in capsys.readouterr().out
    assert _show("--report", str(saved), "--compare", str(saved), "--json") == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert [(change["name"], change["ratio"]) for change in changes] == [("message", 1.0), ("message", 1.0)]


def test_a_run_is_compared_with_an_earlier_one(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--only", "message", "--rate", "1000", "--compare", str(saved)) == 0
    assert "against the run of" in capsys.readouterr().out


def test_runs_with_other_messages_are_not_compared(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK", msgspec.structs.replace(TINY, windows=9))
    with pytest.raises(ConfigError, match="messages of 8 states of a book, this one has 9"):
        _run("--only", "message", "--compare", str(saved))


def test_a_file_that_is_no_report_is_refused_before_anything_is_measured(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "make_plan", None)
    saved.write_text('{"event":"tick"}')
    with pytest.raises(ConfigError, match="option --compare"):
        _run("--compare", str(saved))


def test_showing_and_measuring_exclude_each_other(saved: Path) -> None:
    with pytest.raises(ConfigError, match="leave out --quick, --peers-python"):
        _run("--report", str(saved), "--peers-python", "python3")


def test_options_that_cannot_be_are_the_command_lines_business() -> None:
    with pytest.raises(ConfigError):
        _run("--rate", "0")
