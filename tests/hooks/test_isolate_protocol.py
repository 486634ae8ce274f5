"""An isolated plugin as the host sees it, beside a process that says what a test has written down for it."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from orderflow.core.types import Alert, AlertKind, Severity
from orderflow.hooks import wire
from orderflow.hooks.calling import Outcome
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.host import PluginHost
from orderflow.hooks.isolate import END_S, Isolate, Isolation, failed
from orderflow.hooks.loading import PluginProblems
from orderflow.hooks.problems import Problem
from orderflow.hooks.process import Died, Patience
from orderflow.hooks.records import PluginState
from orderflow.hooks.samples import make_tick, sample_changes, sample_start

if TYPE_CHECKING:
    from collections.abc import Iterator


TICK = make_tick()
SOURCE = Source(name="whale", origin=Origin.TEST, path="/p/whale.py")
READY = wire.Ready(version="1", hooks=("orderflow_tick",), config={})
ALERT = Alert(rule="r", kind=AlertKind.NOTICE, severity=Severity.INFO, message="m", tick=TICK)


class Process:
    """What `receive` returns or raises, one after the other, and what was asked of it."""

    def __init__(self, *says: wire.FromPlugin | bytes | Died) -> None:
        self.pid = 7
        self.says = deque(says)
        self.told: list[bytes] = []
        self.limits: list[float] = []
        self.lines: list[str] = []
        self.ends: list[Any] = []

    def send(self, data: bytes, patience: Patience) -> None:
        self.told.append(data[4:])
        self.limits.append(patience.limit_s)

    def receive(self, patience: Patience) -> bytes:
        self.limits.append(patience.limit_s)
        said = self.says.popleft()
        if isinstance(said, Died):
            raise said
        return said if isinstance(said, bytes) else wire.encode(said)[4:]

    def printed(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def end(self, within_s: float = 0.0) -> None:
        self.ends.append(("end", within_s))

    def close(self) -> None:
        self.ends.append("close")

    def kill(self) -> None:
        self.ends.append("kill")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[deque[Process | Died]]:
    """Those that will be started; a `Died` cannot be."""
    waiting: deque[Process | Died] = deque()

    def start(memory_mb: int) -> Process:
        assert memory_mb == 100
        process = waiting.popleft()
        if isinstance(process, Died):
            raise process
        return process

    monkeypatch.setattr("orderflow.hooks.isolate.PluginProcess", start)
    yield waiting
    assert not waiting


Processes = deque[Process | Died]


def launched(processes: Processes, *says: wire.FromPlugin | bytes | Died, **policy: Any) -> tuple[Isolate, Process]:
    process = Process(*says)
    processes.appendleft(process)
    isolate = Isolate(SOURCE, {"limit": 1.5}, Isolation(memory_mb=100, **policy), 5)
    isolate.launch()
    return isolate, process


def answer(number: int = 1, **fields: Any) -> wire.Answer:
    return wire.Answer(number=number, took_s=0.25, **fields)


def told(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.took_s, outcome.alerts, outcome.rejected, outcome.cut, outcome.error, outcome.fatal, outcome.told


# --- loading


def test_before_it_is_launched_there_is_no_process() -> None:
    isolate = Isolate(SOURCE, {}, Isolation(), 5)
    assert (isolate.pid, isolate.ended) == (None, False)
    with pytest.raises(Died, match=r"^its process has been ended"):
        isolate.ask("orderflow_tick", TICK)
    for ask in (isolate.farewell, isolate.kill, isolate.close):
        ask()
        assert isolate.ended
    with pytest.raises(Died, match=r"^its process has been ended"):
        isolate.ask("orderflow_tick", TICK)


def test_it_is_told_what_to_load_and_waited_for(processes: Processes) -> None:
    isolate, process = launched(processes, wire.Said(level=30, text="loading"), READY, start_s=4.0)
    isolate.begin_loading()
    assert isolate.wait_ready() == READY
    (load,) = process.told
    assert wire.decode_load(load) == wire.Load(source=SOURCE, table={"limit": 1.5}, max_alerts=5)
    assert process.limits == [4.0, 4.0, 4.0]
    assert (isolate.pid, isolate.ended, process.ends) == (7, False, [])


def test_settings_that_cannot_be_sent_end_it(processes: Processes) -> None:
    process = Process()
    processes.append(process)
    isolate = Isolate(SOURCE, {"limit": object()}, Isolation(memory_mb=100), 5)
    isolate.launch()
    with pytest.raises(Died, match=r"^its process could not be told its settings: it cannot be sent: TypeError"):
        isolate.begin_loading()
    assert (process.told, process.ends) == ([], [("end", 0.0)])


def test_a_plugin_that_does_not_fit_ends_with_its_problems(processes: Processes) -> None:
    problem = Problem(plugin="whale", text="no good")
    isolate, process = launched(processes, wire.Unfit(problems=(problem,)))
    with pytest.raises(PluginProblems) as caught:
        isolate.wait_ready()
    assert (caught.value.problems, caught.value.source) == ((problem,), SOURCE)
    assert process.ends == [("end", END_S)]


NONSENSE = [b"\xc1", wire.Unfit(problems=()), READY, answer(2)]


@pytest.mark.parametrize("said", [answer(), b"\xc1"])
def test_nonsense_in_place_of_ready(processes: Processes, said: wire.FromPlugin | bytes) -> None:
    isolate, process = launched(processes, said)
    with pytest.raises(Died, match=r"^its process sent nonsense and was ended"):
        isolate.wait_ready()
    assert process.ends == [("end", 0.0)]


# --- calls


def test_calls_are_numbered_and_answered(processes: Processes) -> None:
    verdicts = (wire.verdict(ALERT),) * 2
    isolate, process = launched(
        processes, answer(1, alerts=verdicts, rejected=3, cut=True, error="no\x1b"), answer(2), answer_s=3.0
    )
    assert told(isolate.ask("orderflow_tick", TICK)) == (0.25, [ALERT, ALERT], 3, True, r"no\x1b", "", False)
    assert told(isolate.ask("orderflow_start", sample_start())) == (0.25, [], 0, False, "", "", False)
    calls = [wire.decode_call(data) for data in process.told]
    assert calls == [(1, "orderflow_tick", TICK), (2, "orderflow_start", sample_start())]
    assert process.limits == [3.0] * 4


def test_alerts_of_another_hook_than_tick_are_nobodys(processes: Processes) -> None:
    isolate, _ = launched(processes, answer(alerts=(wire.verdict(ALERT),)))
    assert isolate.ask("orderflow_alert", ALERT).alerts == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"took_s": -0.1}, {"took_s": 0.0}),
        ({"took_s": 0.0}, {"took_s": 0.0}),
        ({"took_s": 999_999.0}, {"took_s": 999_999.0}),
        ({"took_s": 1e6}, {"took_s": 0.0}),
        ({"took_s": float("nan")}, {"took_s": 0.0}),
        ({"rejected": -1}, {"rejected": 0}),
        ({"rejected": 1}, {"rejected": 1}),
        ({"error": "x" * 400}, {"error": "x" * 400}),
        ({"error": "x" * 401}, {"error": "x" * 382 + "… [401 characters]"}),
        (
            {
                "alerts": (
                    wire.verdict(ALERT),
                    wire.verdict(msgspec.structs.replace(ALERT, rule="")),
                    wire.verdict(msgspec.structs.replace(ALERT, since_ms=-1)),
                )
            },
            {"alerts": [ALERT]},
        ),
    ],
)
def test_what_it_says_is_judged_once_more(
    processes: Processes, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    isolate, _ = launched(processes, msgspec.structs.replace(answer(), **fields))
    outcome = isolate.ask("orderflow_tick", TICK)
    for name, value in expected.items():
        assert getattr(outcome, name) == value


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense_in_place_of_an_answer(processes: Processes, said: wire.FromPlugin | bytes) -> None:
    isolate, process = launched(processes, said)
    with pytest.raises(Died, match=r"^its process sent nonsense and was ended"):
        isolate.ask("orderflow_tick", TICK)
    assert process.ends == [("end", 0.0)]


def test_what_cannot_be_told_costs_that_call_only(processes: Processes) -> None:
    isolate, process = launched(processes, answer(2))
    outcome = isolate.ask("orderflow_tick", make_tick(u=2**70))
    assert outcome.error.startswith("what orderflow_tick is told: it cannot be sent")
    assert process.told == []
    assert isolate.ask("orderflow_tick", TICK).error == ""


def test_what_it_logs_and_prints_comes_before_its_answer(
    processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    said = [wire.Said(level=level, text=f"level {level}\x1b") for level in (-5, 10, 25, 50, 999)]
    isolate, process = launched(processes, *said, answer())
    process.lines = ["printed"]
    name = "orderflow.plugin.whale"
    caplog.set_level(1, logger=name)
    isolate.ask("orderflow_tick", TICK)
    records = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
    assert records == [
        (name, logging.INFO, "printed"),
        *((name, min(max(one.level, 10), 50), f"level {one.level}\\x1b") for one in said),
    ]


@pytest.mark.parametrize(("count", "dies"), [(199, False), (200, True)])
def test_a_process_that_only_logs_does_not_answer(
    processes: Processes, caplog: pytest.LogCaptureFixture, count: int, dies: bool
) -> None:
    isolate, _ = launched(processes, *[wire.Said(level=30, text="again")] * count, answer())
    if dies:
        with pytest.raises(Died, match="nonsense"):
            isolate.ask("orderflow_tick", TICK)
    else:
        isolate.ask("orderflow_tick", TICK)
    assert len(caplog.records) == count


def test_calls_are_handed_on_while_somebody_asks_elsewhere(processes: Processes) -> None:
    isolate, process = launched(processes, answer())
    posted: list[Any] = []
    isolate.post = posted.append
    assert isolate.run("orderflow_start", sample_start()) is None
    assert isolate.run("orderflow_tick", TICK) is None
    assert posted == [("orderflow_start", sample_start()), ("orderflow_tick", TICK)]
    assert process.told == []
    isolate.begin_again()
    assert wire.decode_call(process.told[0])[1:] == ("orderflow_start", sample_start())


# --- its end


def test_the_ways_to_end_it(processes: Processes) -> None:
    isolate, process = launched(processes)
    isolate.farewell()
    isolate.close(3.0)
    isolate.close()
    isolate.kill()
    assert process.ends == ["close", ("end", 3.0), ("end", 0.0), "kill"]
    with pytest.raises(Died, match=r"^its process has been ended"):
        isolate.ask("orderflow_tick", TICK)
    assert process.told == []


@pytest.mark.parametrize("way", ["farewell", "close", "kill"])
def test_each_of_them_ends_it(processes: Processes, way: str) -> None:
    isolate, _ = launched(processes)
    getattr(isolate, way)()
    assert isolate.ended


def test_a_death_costs_a_call_and_the_next_process_is_told_of_the_start(
    processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    death = Died("its process broke", ["one", '  File "/p/whale.py", line 12 in orderflow_tick'])
    isolate, _ = launched(processes, answer(1), death, restarts=2)
    isolate.run("orderflow_start", sample_start())
    second = Process(READY, answer(3), answer(4))
    processes.append(second)
    outcome = isolate.run("orderflow_tick", TICK)
    assert outcome is not None
    assert told(outcome) == (0.0, [], 0, False, "its process broke during orderflow_tick (line 12)", "", True)
    assert wire.decode_load(second.told[0]).source == SOURCE
    assert wire.decode_call(second.told[1])[1:] == ("orderflow_start", sample_start())
    assert [record.getMessage() for record in caplog.records] == [
        "plugin whale (/p/whale.py): its process broke during orderflow_tick; it is started again (1 of 2)",
        'plugin whale: the last it said: one |   File "/p/whale.py", line 12 in orderflow_tick',
    ]
    again = isolate.run("orderflow_tick", TICK)
    assert again is not None
    assert again.error == ""


def test_a_new_process_is_told_of_no_start_that_never_was(processes: Processes) -> None:
    isolate, _ = launched(processes, Died("its process broke"))
    second = Process(READY)
    processes.append(second)
    outcome = isolate.run("orderflow_tick", TICK)
    assert outcome is not None
    assert outcome.fatal == ""
    assert len(second.told) == 1


def test_what_dies_again_and_again_is_given_up(processes: Processes, caplog: pytest.LogCaptureFixture) -> None:
    isolate, _ = launched(processes, Died("its process broke"), restarts=3)
    unfit = wire.Unfit(problems=(Problem(plugin="whale", text="no good"),))
    processes.extend((Process(unfit), Died("its process cannot be started"), Process(Died("its process fell"))))
    outcome = isolate.run("orderflow_tick", TICK)
    assert outcome is not None
    assert outcome.error == outcome.fatal == "its process broke during orderflow_tick"
    assert outcome.told
    said = [record.getMessage().removeprefix("plugin whale (/p/whale.py): ") for record in caplog.records]
    assert said[0] == "its process broke during orderflow_tick; it is started again (1 of 3)"
    assert "no good" in said[1]
    assert said[1].endswith(" during orderflow_tick; it is started again (2 of 3)")
    assert said[2:] == [
        "its process cannot be started during start; it is started again (3 of 3)",
        "its process fell during start",
    ]


@pytest.mark.parametrize(("lived_s", "waits"), [(600.0, [1.0, 2.0, 4.0]), (600.5, [1.0, 1.0, 1.0])])
def test_a_process_that_ran_for_long_starts_the_count_again(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, lived_s: float, waits: list[float]
) -> None:
    times = iter((0.0, *(lived_s for _ in waits)))
    monkeypatch.setattr("orderflow.hooks.isolate.time.monotonic", times.__next__)
    isolate, _ = launched(processes)
    assert [isolate.bury(Died("it died"), "orderflow_tick") for _ in waits] == waits


@pytest.mark.parametrize(
    ("lines", "path", "line"),
    [
        ((), "/p/whale.py", ""),
        (('File "/p/whale.py", line 3 in f', 'File "/p/whale.py", line 9 in g'), "/p/whale.py", " (line 3)"),
        (('File "/other.py", line 3 in f', 'File "/p/whale.py", line 9 in g'), "/p/whale.py", " (line 9)"),
        (('File "/other.py", line 3 in f',), "/p/whale.py", ""),
        (("/p/whale.py said so", 'File "/p/whale.py", line 3'), "/p/whale.py", ""),
        (('File "/p/whale.py", line 3 in f',), "", ""),
    ],
)
def test_the_line_of_the_plugins_file_is_the_first_that_is_named(lines: tuple[str, ...], path: str, line: str) -> None:
    outcome = failed(Died("it died", lines), "orderflow_tick", path)
    assert outcome.error == f"it died during orderflow_tick{line}"
    assert outcome.told


def test_the_policy_is_that_of_the_settings() -> None:
    from orderflow.config.tree import PluginSettings

    for name in Isolation.__struct_fields__:
        assert getattr(Isolation(), name) == getattr(PluginSettings(), f"isolated_{name}")


# --- the host beside it


class Apart:
    """An isolate that answers with these outcomes, one a call; `None`: later."""

    def __init__(self, name: str, *outcomes: Outcome | None) -> None:
        self.source = msgspec.structs.replace(SOURCE, name=name)
        self.outcomes = deque(outcomes)
        self.heard: list[tuple[str, Any]] = []
        self.ends: list[Any] = []

    def run(self, hook: str, argument: Any) -> Outcome | None:
        self.heard.append((hook, argument))
        return self.outcomes.popleft() if self.outcomes else Outcome()

    def farewell(self) -> None:
        self.ends.append("farewell")

    def close(self, within_s: float) -> None:
        self.ends.append(within_s)

    def kill(self) -> None:
        self.ends.append("kill")


def host_of(*isolates: Any, hooks: tuple[str, ...] = ("orderflow_tick",), **options: Any) -> PluginHost:
    host = PluginHost(**options)
    for isolate in isolates:
        host.add_isolated(isolate, wire.Ready(version="1.5", hooks=hooks, config={"limit": 2.0}))
    return host


def outcome_of(**fields: Any) -> Outcome:
    outcome = Outcome()
    for name, value in fields.items():
        setattr(outcome, name, value)
    return outcome


def test_an_isolated_plugin_is_called_for_the_hooks_it_has() -> None:
    whale = Apart("whale", outcome_of(alerts=[ALERT]))
    host = host_of(whale, hooks=("orderflow_tick", "orderflow_start", "unheard_of"))
    host.start(sample_start())
    host.feed_change(sample_changes()[0])
    host.tick(TICK)
    assert whale.heard == [("orderflow_start", sample_start()), ("orderflow_tick", TICK)]
    (told,) = host.statistics().plugins
    assert (told.name, told.version, told.isolated, told.config) == ("whale", "1.5", True, {"limit": 2.0})
    assert told.hooks == ("orderflow_start", "orderflow_tick")
    assert host.isolates == (whale,)


def test_it_may_take_its_time_but_not_fail_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    times = iter(range(0, 1000, 50))
    heard: list[Any] = []
    whale = Apart("whale", Outcome(), outcome_of(error="no", told=True), outcome_of(error="gone", fatal="for good"))
    minnow = Apart("minnow")
    host = host_of(whale, minnow, clock=lambda: float(next(times)), on_failure=heard.append)
    for _ in range(3):
        host.tick(TICK)
    told = host.statistics().plugins[0]
    assert (told.state, told.failures, told.over_budget) == (PluginState.DISABLED, 2, 0)
    assert told.last_error == "for good"
    assert heard == []  # there is no exception to hand on
    assert whale.ends == ["kill"]
    assert host.isolates == (minnow,)
    host.tick(TICK)
    assert (len(whale.heard), len(minnow.heard)) == (3, 4)
    assert [record.getMessage() for record in caplog.records] == [
        "plugin whale (/p/whale.py): orderflow_tick failed: gone",
        "plugin whale (/p/whale.py) disabled: for good",
    ]


def test_outcomes_that_come_later_are_settled_for_whom_they_are() -> None:
    alert = "orderflow_alert"
    whale, minnow = Apart("whale", None), Apart("minnow", None)
    host = host_of(whale, minnow, hooks=("orderflow_tick", alert))
    assert host.tick(TICK) == []
    assert [one.calls for one in host.statistics().plugins] == [0, 0]
    own = msgspec.structs.replace(ALERT, plugin="minnow")
    later: Any = minnow
    assert host.settle(later, "orderflow_tick", outcome_of(alerts=[ALERT], took_s=0.25)) == [own]
    assert whale.heard[1:] == minnow.heard[1:] == [(alert, own)]
    assert [(one.calls, one.alerts, one.total_s > 0.2) for one in host.statistics().plugins] == [
        (1, 0, False),
        (2, 1, True),
    ]
    stranger: Any = Apart("stranger")
    assert host.settle(stranger, "orderflow_tick", outcome_of(alerts=[ALERT])) == []
    assert len(whale.heard) == 2


def test_all_are_asked_to_end_before_any_is_waited_for() -> None:
    order: list[tuple[str, Any]] = []

    class Noting(Apart):
        def farewell(self) -> None:
            order.append((self.source.name, "farewell"))

        def close(self, within_s: float) -> None:
            order.append((self.source.name, within_s))

    whale = Noting("whale")
    host = host_of(whale, Noting("minnow"))
    host.close(0.5)
    assert order == [("whale", "farewell"), ("minnow", "farewell"), ("whale", 0.5), ("minnow", 0.5)]
    assert host.tick(TICK) == []
    assert whale.heard == []


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="'whale' is there already"):
        host_of(Apart("whale"), Apart("whale"))
