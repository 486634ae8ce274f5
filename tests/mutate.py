"""Mutation testing of one module: one small change at a time, and some test must notice.

    python -m tests.mutate orderflow.net.retry tests/net/test_retry.py
    python -m tests.mutate orderflow.net.retry tests/net/test_retry.py 31 40    # only these lines
    python -m tests.mutate orderflow.net.retry tests/net/test_retry.py 1/5    # a sample: every fifth mutant

Every mutant is compiled from the syntax tree and put in the module's place in a forked child, which runs the given
tests; the files of the clone stay as they are. Prints the mutants that survived; docs/testing.md explains them.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.machinery
import itertools
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

    Change = tuple[str, Callable[[Any], ast.AST]]
    Place = list[tuple[str, int | None]]

_CPU_S = 20  # of one mutant; a busy machine does not shorten it
_WALL_S = 90  # for those that wait for ever
_OTHER = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_OPPOSITE = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
_STATEMENTS = (ast.Raise, ast.Assign, ast.AugAssign, ast.Delete, ast.Expr)
_NOT_CODE = ("annotation", "returns", "decorator_list", "bases")


def changes(node: ast.AST, parent: ast.AST, *, in_function: bool, in_raise: bool) -> Iterator[Change]:
    """What to do to one node: (in words, the change)."""
    match node:
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                for table in (_OTHER, _OPPOSITE):
                    if type(op) in table:
                        yield f"{type(op).__name__} -> {table[type(op)].__name__}", _set_op(index, table[type(op)])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in _OTHER:
            yield f"{type(op).__name__} -> {_OTHER[type(op)].__name__}", _set("op", _OTHER[type(op)]())
        case ast.UnaryOp():
            yield "operator dropped", lambda node: node.operand
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", _set("value", not value)
        case ast.Constant(value=int(value) | float(value)):
            yield f"{value} -> {value + 1}", _set("value", value + 1)
            if value > 1:
                yield f"{value} -> {value - 1}", _set("value", value - 1)
        case ast.Constant(value=str(value)) if value and not isinstance(parent, ast.Expr):
            if not (in_raise and " " in value):  # wording of errors is nobody's contract
                yield f"{value!r} changed", _set("value", "XX" + value)
        case ast.Constant(value=bytes(value)) if value:
            yield f"{value!r} changed", _set("value", b"XX" + value)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if not isinstance(
            test, ast.Compare | ast.UnaryOp
        ):
            yield "condition negated", _set("test", ast.UnaryOp(ast.Not(), test))
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield "returns None", _set("value", ast.Constant(None))
    if isinstance(node, ast.BoolOp):
        for index in range(len(node.values)):
            yield f"operand {index + 1} dropped", _drop_operand(index)
    if isinstance(node, ast.Continue | ast.Break):
        yield "continue <-> break", lambda node: ast.Break() if isinstance(node, ast.Continue) else ast.Continue()
    plain = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Yield)
    if in_function and isinstance(node, (*_STATEMENTS, ast.Continue, ast.Break, ast.AnnAssign)) and not plain:
        yield "deleted", lambda node: ast.Pass()


def _set(field: str, value: object) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        setattr(node, field, value)
        return node

    return change


def _set_op(index: int, operator: type[ast.AST]) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        node.ops[index] = operator()
        return node

    return change


def _drop_operand(index: int) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        del node.values[index]
        return node.values[0] if len(node.values) == 1 else node

    return change


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, Place, Callable[[Any], ast.AST]]]:
    """(line, in words, where, change) of every mutant."""

    def visit(node: Any, parent: Any, place: Place, in_function: bool, in_raise: bool) -> Iterator[Any]:
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom) or _is_for_types(node):
            return
        in_raise = in_raise or isinstance(node, ast.Raise)
        for what, change in changes(node, parent, in_function=in_function, in_raise=in_raise):
            yield node.lineno, f"{ast.unparse(node)[:90]}: {what}", place, change
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name, value in ast.iter_fields(node):
            if name in _NOT_CODE:
                continue
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, ast.AST):
                    at = index if isinstance(value, list) else None
                    yield from visit(item, node, [*place, (name, at)], in_function, in_raise)

    return visit(tree, None, [], False, False)


def _is_for_types(node: ast.AST) -> bool:
    """What only type checkers read, and `__slots__`."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__slots__"
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def mutate(tree: ast.Module, place: Place, change: Callable[[Any], ast.AST]) -> ast.Module:
    """A copy of the tree with the node at `place` changed."""
    tree = copy.deepcopy(tree)
    node: Any = tree
    owner, field, index = node, "", None
    for field, index in place:
        owner = node
        node = getattr(node, field) if index is None else getattr(node, field)[index]
    changed = ast.copy_location(change(node), node)
    if index is None:
        setattr(owner, field, changed)
    else:
        getattr(owner, field)[index] = changed
    return ast.fix_missing_locations(tree)


class Loader(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Gives one module this code in place of its own."""

    def __init__(self, module: str, file: Path, code: CodeType) -> None:
        importlib.machinery.SourceFileLoader.__init__(self, module, str(file))
        self._code = code

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self, origin=self.path) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class FewExamples:
    """A pytest plugin: Hypothesis repeats itself, keeps nothing and does not shrink."""

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings

        phases = (Phase.explicit, Phase.generate)
        checks = list(HealthCheck)
        settings.register_profile(
            "mutants", database=None, deadline=None, derandomize=True, max_examples=20, phases=phases,
            suppress_health_check=checks,
        )  # fmt: skip
        settings.load_profile("mutants")


def survives(loader: Loader, tests: list[str]) -> bool:
    """Whether the tests pass all the same. Too slow counts as noticed."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
        sys.meta_path.insert(0, loader)
        result = 1
        try:
            result = pytest.main(["-xq", "-n0", "--tb=no", "-p", "no:cacheprovider", *tests], plugins=[FewExamples()])
        finally:
            os._exit(int(result))
    deadline = time.monotonic() + _WALL_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def main(module: str, *arguments: str) -> None:
    tests = [argument for argument in arguments if not argument[0].isdigit()]
    lines = {int(argument) for argument in arguments if argument.isdigit()}
    step = next((int(argument[2:]) for argument in arguments if argument.startswith("1/")), 1)
    file = Path(module.replace(".", "/") + ".py").resolve()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if not survives(Loader(module, file, compile(tree, file, "exec")), tests):
        sys.exit("the tests do not pass as it is")
    count = survivors = 0
    for line, what, place, change in itertools.islice(mutants(tree), step // 2, None, step):
        if lines and line not in lines:
            continue
        code = compile(mutate(tree, place, change), file, "exec")
        count += 1
        if survives(Loader(module, file, code), tests):
            survivors += 1
            print(f"{file.name}:{line}: {what}", flush=True)  # noqa: T201 - a tool for people
    print(f"{count} mutants, {survivors} survived")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
