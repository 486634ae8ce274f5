"""From the settings to a host: who is told of what, in which order. What loading refuses is in test_loading.py."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from orderflow.hooks.samples import make_tick
from orderflow.hooks.setup import load_isolated, log_problems, set_up
from tests.hooks.choice import choose
from tests.hooks.plugin_files import tick_hook, write_plugin

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from orderflow.hooks.host import PluginHost


def test_who_watches_knows_the_host_before_any_plugin_is_loaded(folder: Path) -> None:
    """Loading one may hang: each step of it is marked where a watchdog looks."""
    write_plugin(folder, "whale", text="raise ValueError('loaded')\n")
    seen: list[tuple[PluginHost, int]] = []
    setup = set_up(choose(("whale",), folder), None, watch=lambda host: seen.append((host, len(host.notes()))))
    assert seen == [(setup.host, 0)]
    assert len(setup.host.notes()) == 1


def test_a_plugin_in_a_process_gets_what_the_settings_give_it(folder: Path) -> None:
    lines = ("for _ in range(5): yield notice(tick, 'limit', str(self.config.of(tick.instrument).limit))",)
    write_plugin(folder, "whale", tick_hook(*lines))
    choice = choose(
        (),
        folder,
        isolated=("whale",),
        tables={"whale": {"limit": 2.5}},
        max_alerts_per_call=2,
        isolated_start_s=30.0,
        isolated_answer_s=20.0,
        isolated_restarts=7,
        isolated_memory_mb=1000,
    )
    (source,) = set_up(choice, None).catalogue.sources
    isolate, ready = load_isolated(choice, source)
    with closing(isolate):
        outcome = isolate.ask("orderflow_tick", make_tick())
    assert [alert.message for alert in outcome.alerts] == ["2.5", "2.5"]
    assert outcome.cut
    assert ready.config == {"limit": 2.5}
    policy = isolate.policy
    assert (policy.start_s, policy.answer_s, policy.restarts, policy.memory_mb) == (30.0, 20.0, 7, 1000)


def test_what_a_process_said_before_it_died_is_part_of_the_problem(folder: Path) -> None:
    path = write_plugin(folder, "whale", text="import os\nprint('not today', flush=True)\nos._exit(4)\n")
    setup = set_up(choose(("whale",), folder, isolated=("whale",)), None)
    with closing(setup.host):
        (problem,) = setup.problems
    assert str(problem) == (f"{path}: plugin whale: loading failed: its process ended with exit code 4 | not today")


def test_each_problem_is_one_line_of_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_plugin(folder, "whale", text="x = 1\n")
    problems = set_up(choose(("whale", "wale"), folder), None).problems
    log_problems(problems)
    assert [record.getMessage() for record in caplog.records] == list(map(str, problems))
    assert len(problems) == 2
