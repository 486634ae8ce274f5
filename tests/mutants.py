"""Mutants of one module: its syntax tree with one small change at a time. Who notices them: tests/mutate.py."""

from __future__ import annotations

import ast
import contextlib
import copy
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Change = tuple[str, Callable[[Any], ast.AST]]
    Place = list[tuple[str, int | None]]

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
_TRANSPARENT = ("property", "staticmethod", "classmethod", "contextmanager", "asynccontextmanager")


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


class Function(NamedTuple):
    """A function that can be exchanged in a running program: no other has it in its body, nothing wraps it."""

    name: str
    first_line: int  # with its decorators, as code objects count
    last_line: int


class Mutant(NamedTuple):
    line: int
    what: str
    place: Place
    change: Callable[[Any], ast.AST]
    function: Function | None  # whose body it is in; None: in what runs at import


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """Every mutant, in the order of the lines, more or less."""

    def visit(
        node: Any, parent: Any, place: Place, owner: ast.AST | None, function: Function | None, in_raise: bool
    ) -> Iterator[Mutant]:
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom) or _is_for_types(node):
            return
        in_raise = in_raise or isinstance(node, ast.Raise)
        for what, change in changes(node, parent, in_function=owner is not None, in_raise=in_raise):
            yield Mutant(node.lineno, f"{ast.unparse(node)[:90]}: {what}", place, change, function)
        is_outermost = owner is None and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name, value in ast.iter_fields(node):
            if name in _NOT_CODE:
                continue
            inner = _exchangeable(node) if is_outermost and name == "body" else function
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, ast.AST):
                    at = index if isinstance(value, list) else None
                    inner_owner = node if is_outermost else owner
                    yield from visit(item, node, [*place, (name, at)], inner_owner, inner, in_raise)

    return visit(tree, None, [], None, None, False)


def _exchangeable(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function | None:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if not all(name in _TRANSPARENT or name.endswith(".setter") for name in decorators):
        return None  # what wraps it may remember what the original said
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return Function(node.name, first, node.end_lineno or node.lineno)


def code_of(module: CodeType, function: Function) -> CodeType:
    """The code of a function in the code of its module."""
    for const in module.co_consts:
        if isinstance(const, CodeType):
            if (const.co_name, const.co_firstlineno) == function[:2]:
                return const
            with contextlib.suppress(LookupError):
                return code_of(const, function)
    raise LookupError(function.name)


def _is_for_types(node: ast.AST) -> bool:
    """What only type checkers read, and `__slots__`."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__slots__"
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def mutate(tree: ast.Module, mutant: Mutant) -> ast.Module:
    """A copy of the tree with the mutant in it."""
    tree = copy.deepcopy(tree)
    node: Any = tree
    owner, field, index = node, "", None
    for field, index in mutant.place:
        owner = node
        node = getattr(node, field) if index is None else getattr(node, field)[index]
    changed = ast.copy_location(mutant.change(node), node)
    if index is None:
        setattr(owner, field, changed)
    else:
        getattr(owner, field)[index] = changed
    return ast.fix_missing_locations(tree)
