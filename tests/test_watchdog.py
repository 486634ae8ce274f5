"""The watchdog's patience over a clock of our own, and the real thing on programs that hang."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from orderflow.core.policy import WatchPolicy
from orderflow.watchdog import STEP_S, Patience
from tests.faults.program import Program, environment, nowhere

if TYPE_CHECKING:
    from pathlib import Path

POLICY = WatchPolicy(hang_s=30, plugin_hang_s=10, stop_hang_s=5)


class Call(NamedTuple):
    plugin: str
    hook: str
    since: float = 0.0


class Observer:
    """Patience and the world it looks at."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.beats = 0
        self.call: Call | None = None
        self.stopping = False
        self._patience = Patience(POLICY, self.now_s)

    def live(self, seconds: float, *, beating: bool = False, new_calls: bool = False) -> str:
        """Live through this long, looking as the thread does. Returns the first verdict."""
        end = self.now_s + seconds
        while self.now_s < end:
            self.now_s += STEP_S
            self.beats += beating
            if new_calls:
                self.call = Call("spread", "orderflow_tick", self.now_s)
            if verdict := self.look():
                return verdict
        return ""

    def look(self) -> str:
        return self._patience.look(self.now_s, self.beats, self.call, stopping=self.stopping)


def test_a_loop_that_beats_is_left_alone_however_long() -> None:
    assert Observer().live(3600, beating=True) == ""


def test_a_loop_that_does_not_beat_is_given_up_at_the_limit() -> None:
    observer = Observer()
    assert observer.live(29.5) == ""
    assert "nothing has moved for 30 s" in observer.live(1)


def test_one_beat_starts_over() -> None:
    observer = Observer()
    assert observer.live(29.5) == ""
    observer.beats += 1
    assert observer.live(29.5) == ""


def test_one_plugin_call_has_a_shorter_limit_and_is_named() -> None:
    observer = Observer()
    observer.call = Call("whale", "orderflow_tick")
    assert observer.live(9.5) == ""
    assert "plugin whale is in its orderflow_tick" in observer.live(1)


def test_many_short_calls_and_steps_of_loading_are_progress() -> None:
    assert Observer().live(3600, new_calls=True) == ""


def test_a_frozen_process_has_not_hung() -> None:
    observer = Observer()
    observer.call = Call("whale", "orderflow_tick")
    for _ in range(10):
        observer.now_s += 3600  # stopped and continued: one late look
        assert observer.look() == ""


def test_a_starved_process_has_not_hung() -> None:
    observer = Observer()
    for _ in range(50):
        observer.now_s += 10  # the thread itself gets its turn every 10 s only
        assert observer.look() == ""


def test_stopping_has_its_own_limit() -> None:
    observer = Observer()
    observer.live(100, beating=True)
    observer.stopping = True
    assert observer.live(4.5, beating=True) == ""
    assert "stopping takes longer than 5 s" in observer.live(1, beating=True)


# --- on real processes ------------------------------------------------------------------------------------------------

HANGING = {
    "loop": "while True: pass",
    "sleep": "time.sleep(1000)",
    "regular expression": 're.match("(a*)*b", "a" * 40)',  # holds the interpreter: no other thread of ours runs
}
IN_TICK = """
import re, time
from orderflow.api import *

class Plugin:
    class Config(PluginConfig):
        pass

    def __init__(self, config):
        pass

    @hookimpl
    def orderflow_tick(self, tick):
        {0}
"""
IN_INIT = """
import re, time
from orderflow.api import *

class Plugin:
    class Config(PluginConfig):
        pass

    def __init__(self, config):
        {0}

    @hookimpl
    def orderflow_tick(self, tick):
        pass
"""
IN_IMPORT = "import re, time\n{0}\n"
IN_STOP = IN_TICK.replace("_tick(self, tick)", "_stop(self, summary)")
QUICK = [
    "--set",
    "stop_timeout_s=1",
    "--set",
    "watch.plugin_hang_s=1",
    "--set",
    "watch.stop_hang_s=1.1",
    "--interval",
    "0.1",
]


def start(tmp_path: Path, text: str, *options: str) -> Program:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755, parents=True)
    (folder / "hanger.py").write_text(text)
    plugins = ["--set", "plugins.folders=plugins", "--set", "plugins.enabled=hanger"]
    return Program(tmp_path, *nowhere(), *plugins, *QUICK, *options)


def test_a_plugin_that_never_returns_is_named_with_its_stack(tmp_path: Path) -> None:
    cases = [(IN_TICK.format(body), "orderflow_tick") for body in HANGING.values()]
    cases += [(IN_INIT.format(HANGING["sleep"]), "__init__"), (IN_IMPORT.format(HANGING["sleep"]), "import")]
    with ExitStack() as stack:  # side by side: they do nothing but hang
        programs = [
            (stack.enter_context(start(tmp_path / str(number), text)), step)
            for number, (text, step) in enumerate(cases)
        ]
        for program, step in programs:
            assert program.end() == 70
            assert f"plugin hanger is in its {step}" in program.stderr
            assert "hanger.py" in program.stderr


def test_a_stop_that_hangs_is_forced(tmp_path: Path) -> None:
    with start(tmp_path, IN_STOP.format(HANGING["sleep"]), "--set", "watch.plugin_hang_s=60") as program:
        program.until(lambda event: event["event"] == "tick")
        code, took_s = program.stop()
    assert code == 70
    assert took_s < 5
    assert "stopping takes longer than 1.1 s" in program.stderr
    assert "plugin hanger is in its orderflow_stop" in program.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_even_a_program_that_hangs(tmp_path: Path, number: int) -> None:
    naps = "while True: time.sleep(0.01)"  # a signal just before one long sleep would wait for its end
    text = IN_TICK.format(f"print('in it', flush=True)\n        {naps}")
    with start(tmp_path, text, "--set", "watch.plugin_hang_s=60", "--set", "watch.stop_hang_s=60") as program:
        program.until_said("in it")
        program.send(number)
        time.sleep(0.4)  # or the two would be one to the kernel
        code, took_s = program.stop(number)
    assert code == 128 + number
    assert took_s < 1


def test_a_stopped_and_continued_program_goes_on(tmp_path: Path) -> None:
    options = ["--set", "watch.stall_s=0.5", "--set", "watch.hang_s=1.5", "--set", "watch.plugin_hang_s=1.2"]
    with Program(tmp_path, *nowhere(), "--interval", "0.1", *options, environ=environment()) as program:
        program.until(lambda event: event["event"] == "tick")
        program.send(signal.SIGSTOP)
        time.sleep(2.2)
        seen = len(program.lines)
        program.send(signal.SIGCONT)
        program.until(lambda event: event["event"] == "tick", since=seen + 1)
        assert program.stop()[0] == 0
