"""Plugins in processes of their own: the same results, and whatever one does there, the good one beside it goes on."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.core.types import (
    AlertKind,
    CoinBalance,
    OrderRow,
    PositionRow,
    PrivateMessage,
    Severity,
    WalletRow,
)
from orderflow.hooks import wire
from orderflow.hooks.commands import check_plugins, format_list, list_plugins
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.isolate import Isolate, Isolation
from orderflow.hooks.process import Died, Patience, PluginProcess, environment
from orderflow.hooks.records import PluginState
from orderflow.hooks.samples import (
    make_tick,
    sample_changes,
    sample_private,
    sample_start,
    sample_summary,
    sample_ticks,
)
from orderflow.hooks.setup import set_up
from orderflow.ui import jsonlines
from tests.hooks.choice import choose
from tests.hooks.plugin_files import tick_hook, write_plugin
from tests.hooks.test_host import one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderflow.core.types import Alert
    from orderflow.hooks.host import PluginHost

ROOT = Path(__file__).parents[2]
TICK = make_tick()


def host_of(folder: Path, *, isolated: tuple[str, ...] = ("a_bad",), **limits: Any) -> PluginHost:
    """A host with what is in the folder, `a_bad` before `good`."""
    names = sorted(path.stem for path in folder.glob("*.py"))
    setup = set_up(choose(names, folder, isolated=isolated, **limits), None)
    assert setup.problems == ()
    return setup.host


# --- the same results -------------------------------------------------------------------------------------------------

EVERYTHING = """
@hookimpl
def orderflow_start(self, info):
    self.seen.append(info)
@hookimpl
def orderflow_feed_change(self, change):
    self.seen.append(change)
@hookimpl
def orderflow_private(self, message):
    self.seen.append(message)
@hookimpl
def orderflow_alert(self, alert):
    self.seen.append((alert.plugin, alert.rule, alert.tick))
@hookimpl
def orderflow_stop(self, summary):
    raise ValueError(repr(summary))
@hookimpl
def orderflow_tick(self, tick):
    told, self.seen = repr([tick, *self.seen]), []
    for at in range(0, len(told), 2000):
        yield notice(tick, "told", told[at : at + 2000])
"""


def whole_run(host: PluginHost) -> list[str]:
    """Every hook with every kind of argument. Returns: the alerts as JSON."""
    private = [sample_private(), *others()]
    alerts: list[Alert] = []
    with closing(host):
        host.start(sample_start())
        for tick in sample_ticks():
            alerts += host.tick(tick)
        for change in sample_changes():
            host.feed_change(change)
        for message in private:
            host.private(message)
        alerts += host.tick(TICK)
        host.stop(sample_summary())
    return [jsonlines.encode_alert(alert) for alert in alerts]


def others() -> Iterator[PrivateMessage]:
    """A message of every other topic."""
    for topic, kind in (("order", OrderRow), ("position", PositionRow)):
        values = {"reduce_only": True, "created_ms": 1, "updated_ms": None, "position_idx": 0, "seq": -1}
        row: Any = kind(**{name: values.get(name, "1.50") for name in kind.__struct_fields__})
        yield PrivateMessage(topic=topic, creation_ms=5, rows=(row, row))
    coin = CoinBalance(**dict.fromkeys(CoinBalance.__struct_fields__, "2"))
    totals = {name: "3" for name in WalletRow.__struct_fields__ if name != "coins"}
    yield PrivateMessage(topic="wallet", creation_ms=5, rows=(WalletRow(**totals, coins=(coin,)),))


def test_a_plugin_sees_and_says_the_same_isolated_or_not(folder: Path) -> None:
    write_plugin(folder, "a_bad", EVERYTHING)
    write_plugin(folder, "good")
    here = host_of(folder, isolated=())
    there = host_of(folder)
    lines = whole_run(here)
    assert lines == whole_run(there)
    assert sum("wide" not in line for line in lines) > 20
    mine, its = one(here, "a_bad"), one(there, "a_bad")
    for name in ("calls", "alerts", "failures", "rejected", "dropped", "hooks", "config", "state", "last_error"):
        assert getattr(mine, name) == getattr(its, name)
    assert its.isolated
    assert its.total_s > 0


def test_the_bundled_plugins_alert_the_same_isolated_or_not() -> None:
    names = ("spread", "latency", "liquidity")
    tables = {"spread": {"for_s": 5.0, "symbols": {"spot:BTCUSDT": {"raise_above": 0.1}}}}
    lines = []
    for isolated in ((), names):
        setup = set_up(choose(names, isolated=isolated, tables=tables), ROOT / "plugins")
        assert setup.problems == ()
        lines.append(whole_run(setup.host))
    assert lines[0] == lines[1]
    assert lines[0]


@given(
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1),
    message=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_an_alert_comes_back_as_it_was(value: float | None, message: str) -> None:
    fields: dict[str, Any] = {"rule": "r", "kind": AlertKind.RAISE, "severity": Severity.CRITICAL, "message": message}
    fields |= {"metric": "mid", "value": value, "threshold": value, "since_ms": 5}
    answer = wire.Answer(number=1, took_s=0.0, alerts=(wire.Verdict(*fields.values()),))
    cutter = wire.Cutter()
    for byte in wire.encode(answer):
        assert cutter.next() is None
        cutter.feed(bytes([byte]))
    back = wire.decode_from_plugin(cutter.next() or b"")
    assert isinstance(back, wire.Answer)
    alert = wire.alert_of(back.alerts[0], TICK)
    assert {name: getattr(alert, name) for name in fields} == fields
    assert type(alert.value) is type(value)
    assert alert.tick is TICK


@given(data=st.binary())
@settings(max_examples=200)
def test_whatever_a_process_sends_is_a_message_or_nonsense(data: bytes) -> None:
    try:
        message = wire.decode_from_plugin(data)
    except wire.Nonsense:
        return
    assert isinstance(message, (wire.Ready, wire.Unfit, wire.Said, wire.Answer))


def test_a_message_that_is_too_long_is_not_waited_for() -> None:
    cutter = wire.Cutter()
    cutter.feed((wire.MAX_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(wire.Nonsense):
        cutter.next()


# --- one bad plugin of each kind --------------------------------------------------------------------------------------

DEADLY = {
    "endless loop": ("while True: pass", "gave no answer for 0.4 s", True),
    "holds the interpreter": ("import re; re.match('(a*)*b', 'a' * 40)", "gave no answer for 0.4 s", True),
    "sleeps": ("import time; time.sleep(1000)", "gave no answer for 0.4 s", True),
    "floods stdout": ("while True: print('x' * 1000)", "gave no answer for 0.4 s", False),
    "floods the log": ("while True: __import__('logging').warning('x' * 1000)", "gave no answer for 0.4 s", True),
    "os._exit": ("import os; os._exit(3)", "ended with exit code 3", False),
    "segfault": ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV", True),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL", False),
    "closes everything": ("import os; os.closerange(0, 64); __import__('time').sleep(1000)", "closed its pipe", False),
    "writes into the pipe": (
        "import os; os.write(max(int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')),"
        " b'\\x00\\x00\\x00\\x02ab')",
        "sent nonsense",
        False,
    ),
}


@pytest.mark.parametrize(("line", "words", "placed"), DEADLY.values(), ids=DEADLY.keys())
def test_what_ends_a_process_ends_no_other(
    folder: Path, caplog: pytest.LogCaptureFixture, line: str, words: str, placed: bool
) -> None:
    path = write_plugin(folder, "a_bad", tick_hook(line))
    write_plugin(folder, "good")
    with closing(host_of(folder, isolated_answer_s=0.4, isolated_restarts=0)) as host:
        for _ in range(3):
            assert [(alert.plugin, alert.rule) for alert in host.tick(TICK)] == [("good", "seen")]
        bad = one(host, "a_bad")
    assert bad.state is PluginState.DISABLED
    assert (bad.calls, bad.failures, bad.alerts) == (1, 1, 0)
    assert f"its process {words}" in bad.last_error
    assert "orderflow_tick" in bad.last_error
    number = path.read_text().splitlines().index(f"        {line}") + 1
    assert (f"(line {number})" in bad.last_error) is placed
    assert (f'"{path}", line {number} in orderflow_tick' in caplog.text) is placed
    assert caplog.text.count(words) == 2  # what happened, and that the plugin is disabled
    assert host.notes() == (f"plugin a_bad disabled: {bad.last_error}",)


def test_a_process_is_started_again_and_told_of_the_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ("self.seen.append(1)", "if len(self.seen) == 3: __import__('os')._exit(1)")
    told = "@hookimpl\ndef orderflow_start(self, info):\n    self.info = info\n"
    body = told + tick_hook(*lines, "return [notice(tick, self.info.env, str(len(self.seen)))]")
    write_plugin(folder, "a_bad", body)
    with closing(host_of(folder, isolated_restarts=2)) as host:
        host.start(sample_start())
        said = [[(alert.rule, alert.message) for alert in host.tick(TICK)] for _ in range(10)]
        bad = one(host, "a_bad")
    life: list[list[tuple[str, str]]] = [[("sim", "1")], [("sim", "2")], []]
    assert said == [*life, *life, *life, []]
    assert bad.state is PluginState.DISABLED
    assert bad.failures == 3
    assert "it is started again (1 of 2)" in caplog.text
    assert "it is started again (2 of 2)" in caplog.text


CONTAINED = {
    "raises": ("raise ValueError('no')", "ValueError: no"),
    "takes all memory": ("self.x = bytearray(10**10)", "MemoryError"),
    "nonsense": ("return 7", "returned 7"),
    "huge answer": ("return [notice(tick, 'r', 'm' * 10**7)]", "message"),
    "a number too large to be sent": ("return [notice(tick, 'r', 'm', value=10**30)]", "cannot be sent"),
}


@pytest.mark.parametrize(("line", "words"), CONTAINED.values(), ids=CONTAINED.keys())
def test_what_needs_no_new_process_is_judged_as_ever(folder: Path, line: str, words: str) -> None:
    write_plugin(folder, "a_bad", tick_hook(line))
    write_plugin(folder, "good")
    with closing(host_of(folder, isolated_memory_mb=512, isolated_restarts=0)) as host:
        for count in range(1, 7):
            assert [alert.plugin for alert in host.tick(TICK)] == ["good"]
            bad = one(host, "a_bad")
            assert bad.failures == min(count, 5)
            assert bad.state is (PluginState.DISABLED if count >= 5 else PluginState.ACTIVE)
            assert words in bad.last_error


def test_a_slow_plugin_may_be_slow_there(folder: Path) -> None:
    write_plugin(folder, "a_bad", tick_hook("import time; time.sleep(0.03)", "return [notice(tick, 'r', 'm')]"))
    with closing(host_of(folder, budget_ms=1, disable_over_ms=2)) as host:
        assert len(host.tick(TICK)) == 1
        bad = one(host, "a_bad")
    assert bad.state is PluginState.ACTIVE
    assert bad.over_budget == 0
    assert bad.max_ms is not None
    assert bad.max_ms > 25


def test_what_it_prints_and_logs_goes_to_our_log_escaped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = (
        "import logging, sys",
        "print('out\\x1b[2J')",
        "print('err\\u202e', file=sys.stderr)",
        "logging.getLogger('mine').error('said\\x1b[1m')",
        "logging.getLogger('mine').info('not this')",
    )
    write_plugin(folder, "a_bad", tick_hook(*lines))
    caplog.set_level(logging.INFO)
    with closing(host_of(folder)) as host:
        host.tick(TICK)
    said = {
        record.getMessage(): record.levelname for record in caplog.records if record.name == "orderflow.plugin.a_bad"
    }
    assert said == {"out\\x1b[2J": "INFO", "err\\u202e": "INFO", "said\\x1b[1m": "ERROR"}


def test_it_gets_no_secret_of_ours_and_no_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERFLOW_BYBIT__API_SECRET", "canary-of-ours")
    monkeypatch.setenv("SOME_TOKEN", "canary-of-another")
    lines = (
        "import os, sys",
        "told = (dict(os.environ), open('/proc/self/cmdline').read(), sys.stdin.read())",
        "own = os.getpid() == os.getpgid(0) == os.getsid(0)",
        "return [notice(tick, 'told', repr(told)[-2000:]), notice(tick, 'own', str(own))]",
    )
    write_plugin(folder, "a_bad", tick_hook(*lines))
    with closing(host_of(folder)) as host:
        told, own = host.tick(TICK)
    assert "canary" not in told.message
    assert "PATH" in told.message
    assert own.message == "True"


def test_it_stands_back_for_the_rest(folder: Path) -> None:
    """Behind others for a processor, first to go when memory is short, no core file, so much memory."""
    lines = (
        "import faulthandler, os, resource",
        "adjusted = open('/proc/self/oom_score_adj').read().strip()",
        "limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_CORE, resource.RLIMIT_AS)]",
        "return [notice(tick, 'told', repr((os.nice(0), adjusted, limits, faulthandler.is_enabled())))]",
    )
    write_plugin(folder, "a_bad", tick_hook(*lines))
    with closing(host_of(folder, isolated_memory_mb=700)) as host:
        (told,) = host.tick(TICK)
    limits = [(0, 0), (700 * 1024 * 1024, 700 * 1024 * 1024)]
    assert told.message == repr((min(os.nice(0) + 5, 19), "1000", limits, True))


@pytest.mark.parametrize("name", ["PATH", "LC_ALL", "TZ"])
def test_the_environment_is_a_short_list(name: str) -> None:
    given = {"PATH": "p", "LC_ALL": "l", "TZ": "t", "AWS_SECRET_ACCESS_KEY": "s", "PYTHONSTARTUP": "x"}
    kept = environment(given)
    assert kept[name] == given[name]
    assert set(kept) == {"PATH", "LC_ALL", "TZ", "PYTHONPATH"}


# --- loading ----------------------------------------------------------------------------------------------------------

UNFIT = {
    "x = 1\n": "expected `class Plugin`",
    "def f(:\n": "invalid syntax",
    "import os; os._exit(4)\n": "loading failed: its process ended with exit code 4",
    "while True: pass\n": "loading failed: its process gave no answer for 0.7 s",
}


def test_what_cannot_be_loaded_is_refused_and_the_rest_runs(folder: Path) -> None:
    write_plugin(folder, "good")
    for number, text in enumerate(UNFIT):
        write_plugin(folder, f"bad{number}", text=text)
    bad = tuple(f"bad{number}" for number in range(len(UNFIT)))
    setup = set_up(choose((*bad, "good"), folder, isolated=bad, isolated_start_s=0.7), None)
    with closing(setup.host):
        assert [alert.plugin for alert in setup.host.tick(TICK)] == ["good"]
    texts = {problem.plugin: str(problem) for problem in setup.problems}
    for name, words in zip(bad, UNFIT.values(), strict=True):
        assert words in texts[name]
        assert f"{name}.py" in texts[name]
        assert one(setup.host, name).state is PluginState.REFUSED


def test_wrong_settings_of_an_isolated_plugin_are_said_with_their_key(folder: Path) -> None:
    write_plugin(folder, "whale")
    choice = choose(("whale",), folder, isolated=("whale", "wale"), tables={"whale": {"limit": -1, "lmit": 2}})
    setup = set_up(choice, None)
    setup.host.close()
    assert sorted(str(problem) for problem in setup.problems) == [
        "plugins.isolated: no plugin 'wale'; did you mean 'whale'?",
        "plugins.whale.limit: got -1, expected float > 0.0",
        "plugins.whale.lmit: unknown setting; did you mean 'limit'?",
    ]


def test_list_and_check_know_of_isolated_plugins(folder: Path) -> None:
    write_plugin(folder, "a_bad", tick_hook("while True: pass"))
    write_plugin(folder, "good")
    choice = choose(("a_bad", "good"), folder, isolated=("a_bad", "good"), isolated_answer_s=0.3, isolated_restarts=0)
    text = format_list(list_plugins(choice, None))
    assert text.count("active, isolated") == 2
    report = check_plugins(choice, None)
    bad, good = report.plugins
    assert "it would be disabled: its process gave no answer for 0.3 s" in bad.problems[0]
    assert good.problems == ()
    assert good.alerts > 0


@pytest.mark.parametrize("count", [2**64, 2**70])
def test_a_number_no_message_can_hold_costs_that_call_only(folder: Path, count: int) -> None:
    write_plugin(folder, "a_bad", tick_hook("return [notice(tick, 'r', 'm')]"))
    with closing(host_of(folder)) as host:
        assert host.tick(make_tick(u=count)) == []
        assert "what orderflow_tick is told: it cannot be sent" in one(host, "a_bad").last_error
        assert len(host.tick(TICK)) == 1


def test_settings_no_message_can_hold_are_a_problem_of_that_plugin(folder: Path) -> None:
    write_plugin(folder, "a_bad")
    setup = set_up(choose(("a_bad",), folder, isolated=("a_bad",), tables={"a_bad": {"limit": 2**70}}), None)
    setup.host.close()
    assert "could not be told its settings" in str(setup.problems[0])


# --- its end ----------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_leaves_no_process_nor_what_it_started(folder: Path) -> None:
    lines = (
        "import os, signal, subprocess, sys",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])",
        "return [notice(tick, 'pids', f'{os.getpid()} {other.pid}')]",
    )
    write_plugin(folder, "a_bad", tick_hook(*lines))
    with closing(host_of(folder)) as host:
        pids = [int(pid) for pid in host.tick(TICK)[0].message.split()]
        assert all(map(alive, pids))
    assert not alive(pids[0])
    until_gone(pids[1])
    assert host.tick(TICK) == []


def test_closing_lets_it_put_its_things_in_order(folder: Path) -> None:
    done = folder / "done"
    register = f"import atexit, pathlib; atexit.register(pathlib.Path({str(done)!r}).touch)"
    write_plugin(folder, "a_bad", tick_hook(register))
    with closing(host_of(folder)) as host:
        host.tick(TICK)
        host._isolates["a_bad"].farewell()
        host._isolates["a_bad"].close(10)
    assert done.exists()


def test_a_process_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Died, match="cannot be started: No such file"):
        PluginProcess(0)


def test_time_we_stood_still_ourselves_is_not_the_plugins() -> None:
    patience = Patience(2.0)
    for _ in range(3):
        patience.lived(3600.0)
    assert not patience.over
    patience.lived(0.5)
    assert patience.over


def test_restarts_come_later_each_time_and_are_forgotten_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("orderflow.hooks.isolate.time.monotonic", lambda: now)
    isolate = Isolate(Source(name="x", origin=Origin.TEST), {}, Isolation(restarts=3), 100)
    isolate._launched_s = now
    assert [isolate.bury(Died("its process died"), "orderflow_tick") for _ in range(4)] == [1.0, 2.0, 4.0, None]
    now += 3600.0
    assert isolate.bury(Died("its process died"), "orderflow_tick") == 1.0
