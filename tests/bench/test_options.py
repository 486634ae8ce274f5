"""Options and the plan they make."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from orderflow.bench.options import DEPTHS, STAGES, add_arguments
from orderflow.bench.plan import make_plan
from orderflow.core.errors import ConfigError


def _parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


def test_everything_is_measured_by_default() -> None:
    plan = make_plan(_parse())
    assert plan.stages == tuple(STAGES)
    assert plan.depths == DEPTHS
    assert (plan.rate, plan.rounds) == (500.0, 3)


def test_quick_measures_less_of_everything() -> None:
    full, quick = make_plan(_parse()), make_plan(_parse("--quick"))
    assert (quick.stages, quick.rounds) == (full.stages, full.rounds)
    for name in ("hot", "cold", "ticks", "flood", "paced", "watch_s", "starts"):
        assert getattr(quick, name) < getattr(full, name), name


def test_options_choose_stages_depths_rate_and_rounds() -> None:
    plan = make_plan(
        _parse("--quick", "--only", "tick", "book", "--depth", "200", "50", "--rate", "50", "--rounds", "3")
    )
    assert plan.stages == ("book", "tick")
    assert plan.depths == (50, 200)
    assert (plan.rate, plan.rounds) == (50, 3)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(_parse("--rate", "nan", "--rounds", "0"))
    assert len(caught.value.problems) == 2


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, orderflow.bench.options; "
        "sys.exit(bool({'msgspec', 'trio', 'httpx', 'rich', 'argparse'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
