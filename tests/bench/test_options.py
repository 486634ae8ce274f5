"""Options and the plan they make."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from orderflow.bench.options import DEFAULT_STAGES, DEPTHS, STAGES, add_arguments
from orderflow.bench.plan import make_plan
from orderflow.bench.rivals import Field
from orderflow.core.errors import ConfigError


def _parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


def test_everything_but_choices_is_measured_by_default() -> None:
    plan = make_plan(_parse())
    assert plan.stages == DEFAULT_STAGES
    assert set(STAGES) - set(plan.stages) == {"choices"}
    assert make_plan(_parse("--only", "choices")).stages == ("choices",)
    assert plan.depths == DEPTHS
    assert (plan.rate, plan.rates, plan.rounds) == (500.0, (50.0, 500.0, 5000.0), 3)


def test_quick_measures_less_of_everything() -> None:
    full, quick = make_plan(_parse()), make_plan(_parse("--quick"))
    assert set(quick.stages) < set(full.stages)
    for name in (
        "hot",
        "cold",
        "ticks",
        "flood",
        "paced_s",
        "watch_s",
        "starts",
        "crowd",
        "scale_s",
        "depths",
        "turns",
        "turn",
    ):
        assert getattr(quick, name) < getattr(full, name), name


def test_options_choose_stages_depths_rate_and_rounds() -> None:
    plan = make_plan(
        _parse("--quick", "--only", "tick", "book", "--depth", "200", "50", "--rate", "50", "--rounds", "3")
    )
    assert plan.stages == ("book", "tick")
    assert plan.depths == (50, 200)
    assert (plan.rate, plan.rates, plan.rounds) == (50, (50,), 3)


def test_peers_are_compared_where_clients_are(monkeypatch: pytest.MonkeyPatch) -> None:
    field = Field(python="", rivals={"picows": "2", "pybit": "5"}, loop="uvloop")
    asked: list[str] = []
    monkeypatch.setattr("orderflow.bench.field.find_rivals", lambda python: asked.append(python) or field)
    plan = make_plan(_parse("--peers", "--peers-python", "other"))
    assert plan.stages == ("flood", "paced", "tls")
    assert plan.clients == ("orderflow", "plain", "trio-websocket", "trio", "picows", "pybit")
    assert (plan.depths, plan.rates, plan.peers_python, asked) == ((50,), (500.0,), "other", ["other"])
    chosen = make_plan(_parse("--peers", "--only", "paced", "--rate", "100", "--depth", "200"))
    assert (chosen.stages, chosen.rates, chosen.depths) == (("paced",), (100.0,), (200,))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(_parse("--rate", "nan", "--rounds", "0", "--peers-python", "python3"))
    assert len(caught.value.problems) == 3


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, orderflow.bench.options; "
        "sys.exit(bool({'msgspec', 'trio', 'httpx', 'rich', 'argparse'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
