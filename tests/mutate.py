"""Mutation testing of one module: one small change at a time, and some test must notice.

    python -m tests.mutate orderflow.net.retry tests/net/test_retry.py
    python -m tests.mutate orderflow.net.retry tests/net/test_retry.py --then tests/net tests/test_app.py
    python -m tests.mutate --jobs 2 --lines 31 40 --every 2 -- orderflow.net.retry tests/net/test_retry.py

The tests run once to see what they take and which lines of the module they run. Then each mutant takes the place of its
function in a forked child that has all tests loaded, and only those that run the function judge it: first those that
run the line, the quickest first. What survives that, and what runs at import, is judged again by a child that imports
the mutated module and collects every test afresh, with five times the examples of Hypothesis. What survives that too is
judged by the tests behind `--then`. No file is changed, and none should be meanwhile.

Prints the mutants that survived their own tests, and those that took far too long (killed, since somebody would
notice); docs/testing.md explains them.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import importlib.abc
import importlib.machinery
import itertools
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.mutants import Mutant, code_of, mutants, mutate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType

_HEAVY = ("msgspec", "sortedcontainers", "trio.testing", "trio_websocket")
_EXAMPLES = 20
_MORE_EXAMPLES = 100
_DATA_BYTES = 1 << 30
_SURVIVED, _KILLED, _SLOW, _INDIRECT = "survived", "killed", "took too long", "killed by others only"
_UNJUDGED = "could not be judged"


class Target(NamedTuple):
    """The module under test as it is."""

    name: str
    file: Path
    tree: ast.Module

    @classmethod
    def of(cls, name: str) -> Target:
        file = Path(name.replace(".", "/") + ".py").resolve()
        return cls(name, file, ast.parse(file.read_text(encoding="utf-8")))

    def code(self, mutant: Mutant | None = None) -> CodeType:
        tree = self.tree if mutant is None else mutate(self.tree, mutant)
        return compile(tree, self.file, "exec")


class Run(NamedTuple):
    """What one test did with the module as it is."""

    seconds: float
    lines: frozenset[int]
    passed: bool


Survey = dict[str, Run]
_UNKNOWN = Run(5.0, frozenset(), True)  # a mutant may change the names of tests with parameters


class Loader(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Gives one module this code in place of its own."""

    def __init__(self, target: Target, code: CodeType) -> None:
        importlib.machinery.SourceFileLoader.__init__(self, target.name, str(target.file))
        self._code = code

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self, origin=self.path) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return self._code


# --- plugins of pytest


class Quiet:
    """Hypothesis repeats itself, keeps nothing and does not shrink."""

    def __init__(self, examples: int = _EXAMPLES) -> None:
        self._examples = examples

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "mutants",
            database=None,
            deadline=None,
            derandomize=True,
            max_examples=self._examples,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutants")


class Surveyor(Quiet):
    """Notes of every test how long it takes and which lines of the module it runs."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._file = str(target.file)
        self._lines: set[int] = set()
        self.survey: Survey = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._lines = set()
        began = time.monotonic()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            seconds = time.monotonic() - began
            passed = item.nodeid not in self._failed
            self.survey[item.nodeid] = Run(seconds, frozenset(self._lines), passed)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        self._lines.add(frame.f_lineno)
        return self._trace


class Limited(Quiet):
    """No test takes far more processor time than it did with the module as it is; that kills the whole process."""

    def __init__(self, survey: Survey, examples: int = _EXAMPLES) -> None:
        super().__init__(examples)
        self._survey = survey
        self._longer = examples / _EXAMPLES

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        seconds = self._survey.get(item.nodeid, _UNKNOWN).seconds * self._longer
        limit = round(time.process_time() + 5 + 5 * seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


class Fresh(Limited):
    """All tests, those first that run the line, or at least the module, and of these the quickest."""

    def __init__(self, survey: Survey, line: int, examples: int) -> None:
        super().__init__(survey, examples)
        self._line = line

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = in_order(items, self._survey, self._line)


class Judge(Limited):
    """Puts one mutant after the other into the loaded program, each in a child of its own."""

    def __init__(self, target: Target, chosen: list[Mutant], survey: Survey, jobs: int) -> None:
        super().__init__(survey)
        self._target = target
        self._chosen = chosen
        self._jobs = jobs
        self.verdicts: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        def start(mutant: Mutant) -> Child:
            assert mutant.function is not None
            lines = range(mutant.function.first_line, mutant.function.last_line + 1)
            items = [item for item in session.items if not self._survey[item.nodeid].lines.isdisjoint(lines)]
            seconds = sum(self._survey[item.nodeid].seconds for item in items)
            ordered = in_order(items, self._survey, mutant.line)
            return Child(lambda: self._run(session, ordered, mutant), seconds)

        self.verdicts = side_by_side([partial(start, mutant) for mutant in self._chosen], self._jobs)
        return True

    def _run(self, session: pytest.Session, items: list[pytest.Item], mutant: Mutant) -> bool:
        assert mutant.function is not None
        code = code_of(self._target.code(mutant), mutant.function)
        for function in functions_at(self._target.file, mutant.function.first_line):
            function.__code__ = code
        for item, following in itertools.pairwise([*items, None]):
            assert item is not None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return False
        return True


def in_order(items: Iterable[pytest.Item], survey: Survey, line: int) -> list[pytest.Item]:
    """First those that run the line, then those that run the module, then the others; of these the quickest."""

    def rank(item: pytest.Item) -> tuple[bool, bool, float]:
        run = survey.get(item.nodeid, _UNKNOWN)
        return line not in run.lines, not run.lines, run.seconds

    return sorted(items, key=rank)


def functions_at(file: Path, first_line: int) -> list[FunctionType]:
    return [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, FunctionType)
        and thing.__code__.co_firstlineno == first_line
        and thing.__code__.co_filename == str(file)
    ]


def compiles(target: Target, mutant: Mutant) -> bool:
    """Not when it takes away what a `nonlocal` refers to."""
    try:
        target.code(mutant)
    except SyntaxError:
        return False
    return True


def can_exchange(target: Target, mutant: Mutant) -> bool:
    """Whether the mutant's function can get its code at run time: not when a closure would lose or gain a variable."""
    if mutant.function is None:
        return False
    before, after = code_of(target.code(), mutant.function), code_of(target.code(mutant), mutant.function)
    return before.co_freevars == after.co_freevars


# --- children


class Child:
    """A forked process that does one thing and ends with whether it is true.

    Args: seconds: what the thing takes with the module as it is; a mutant that takes far longer is killed.
    """

    def __init__(self, act: Callable[[], bool], seconds: float) -> None:
        self._until = time.monotonic() + 20 + 5 * seconds
        self._pid = os.fork()
        if self._pid == 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (_DATA_BYTES, _DATA_BYTES))
            result = 3
            try:
                result = 0 if act() else 1
            finally:
                os._exit(result)

    def verdict(self) -> str | None:
        """None while it runs."""
        done, status = os.waitpid(self._pid, os.WNOHANG)
        if not done:
            if time.monotonic() > self._until:
                os.kill(self._pid, signal.SIGKILL)
            return None
        if os.WIFSIGNALED(status):
            return _SLOW
        return {0: _SURVIVED, 1: _KILLED}.get(os.waitstatus_to_exitcode(status), _UNJUDGED)


def side_by_side(starts: list[Callable[[], Child]], jobs: int) -> list[str]:
    """The verdict of every child, `jobs` of them at a time."""
    verdicts = [""] * len(starts)
    waiting = list(enumerate(starts))[::-1]
    running: dict[int, Child] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            index, start = waiting.pop()
            running[index] = start()
        for index, child in list(running.items()):
            verdict = child.verdict()
            if verdict is not None:
                verdicts[index] = verdict
                del running[index]
        time.sleep(0.002)
    return verdicts


def in_child(act: Callable[[], Any]) -> Any:
    """What `act` returns, of a child that has imported nothing of the program before."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        try:
            answer = pickle.dumps(act())
            with os.fdopen(write, "wb") as pipe:
                pipe.write(answer)
        except BaseException:  # noqa: BLE001 - a child has nobody else to tell
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(answer)


def run_pytest(tests: Iterable[str], plugin: object) -> int:
    return int(pytest.main(["-xq", "-n0", "--tb=no", "-p", "no:cacheprovider", *tests], plugins=[plugin]))


# --- the whole


def survey_of(target: Target, tests: list[str]) -> Survey:
    def look() -> Survey:
        surveyor = Surveyor(target)
        pytest.main(["-q", "-n0", "--tb=no", "-p", "no:cacheprovider", *tests], plugins=[surveyor])
        return surveyor.survey

    survey: Survey = in_child(look)
    failed = [name for name, run in survey.items() if not run.passed]
    if failed or not survey:
        sys.exit(f"the tests do not pass as it is: {failed[:5]}")
    return survey


def judge_loaded(target: Target, chosen: list[Mutant], survey: Survey, jobs: int) -> list[str]:
    def judge() -> list[str]:
        plugin = Judge(target, chosen, survey, jobs)
        run_pytest(sorted({name.partition("::")[0] for name, run in survey.items() if run.lines}), plugin)
        return plugin.verdicts

    verdicts: list[str] = in_child(judge)
    return verdicts


def judge_fresh(target: Target, chosen: list[Mutant], survey: Survey, jobs: int, examples: int) -> list[str]:
    files = sorted({name.partition("::")[0] for name in survey})

    def judge(mutant: Mutant) -> Child:
        def act() -> bool:
            sys.meta_path.insert(0, Loader(target, target.code(mutant)))
            result = run_pytest(files, Fresh(survey, mutant.line, examples))
            if result == pytest.ExitCode.INTERNAL_ERROR:
                raise RuntimeError("pytest broke")
            return result == pytest.ExitCode.OK

        return Child(act, 10 + sum(run.seconds for run in survey.values()) * examples / _EXAMPLES)

    return side_by_side([partial(judge, mutant) for mutant in chosen], jobs)


def judge(target: Target, chosen: list[Mutant], tests: list[str], jobs: int, *, twice: bool) -> list[str]:
    """The verdict on every mutant. Args: twice: whether what survives in the loaded program is judged afresh."""
    survey = survey_of(target, tests)
    loaded = [mutant for mutant in chosen if can_exchange(target, mutant)]
    verdicts = dict(zip(map(id, loaded), judge_loaded(target, loaded, survey, jobs), strict=True))
    at_first = {id(mutant): verdicts.get(id(mutant), "") for mutant in chosen}
    again = [mutant for mutant in chosen if not at_first[id(mutant)] or (twice and at_first[id(mutant)] == _SURVIVED)]
    examples = _MORE_EXAMPLES if twice else _EXAMPLES
    verdicts |= zip(map(id, again), judge_fresh(target, again, survey, jobs, examples), strict=True)
    return [verdicts[id(mutant)] for mutant in chosen]


def judge_survivors(target: Target, chosen: list[Mutant], verdicts: list[str], tests: list[str], jobs: int) -> None:
    """Let other tests judge what survived the module's own."""
    left = [index for index, verdict in enumerate(verdicts) if verdict == _SURVIVED]
    if tests and left:
        second = judge(target, [chosen[index] for index in left], tests, jobs, twice=False)
        for index, verdict in zip(left, second, strict=True):
            verdicts[index] = verdict if verdict == _SURVIVED else _INDIRECT


def main() -> None:
    parser = argparse.ArgumentParser(description="mutation testing of one module")
    parser.add_argument("module")
    parser.add_argument("tests", nargs="+", help="the module's own")
    parser.add_argument("--then", nargs="+", default=[], metavar="TESTS", help="what judges the survivors")
    parser.add_argument("--lines", nargs="+", type=int, help="only mutants of these")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: every Nth mutant")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    args = parser.parse_args()
    for name in _HEAVY:
        importlib.import_module(name)
    began = time.monotonic()
    target = Target.of(args.module)
    every = [mutant for mutant in mutants(target.tree) if compiles(target, mutant)]
    chosen = [mutant for mutant in every[:: args.every] if not args.lines or mutant.line in args.lines]
    verdicts = judge(target, chosen, args.tests, args.jobs, twice=True)
    judge_survivors(target, chosen, verdicts, args.then, args.jobs)
    for mutant, verdict in zip(chosen, verdicts, strict=True):
        if verdict != _KILLED:
            print(f"{verdict}: {target.file.name}:{mutant.line}: {mutant.what}")  # noqa: T201 - a tool for people
    counts = [f"{verdicts.count(kind)} {kind}" for kind in (_KILLED, _SLOW, _INDIRECT, _UNJUDGED, _SURVIVED)]
    print(f"{len(chosen)} mutants: {', '.join(counts)} ({time.monotonic() - began:.0f} s)")  # noqa: T201


if __name__ == "__main__":
    main()
