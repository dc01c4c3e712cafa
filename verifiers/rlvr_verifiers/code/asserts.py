"""Tests written in Python: asserts on data become calls to be compared outside; all others are for a judge.

assert f([1, 2], k=3) == [3]      not f(1)      f(1) is None      abs(f(2) - 1 / 3) < 1e-6
assert math.isclose(f(10), 31.4, rel_tol=0.001)
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from rlvr.sandbox.api import Assertions
from rlvr_verifiers.code import pytest_files
from rlvr_verifiers.code.prelude import IMPORTS, parse, unbound
from rlvr_verifiers.code.pytest_files import uses_pytest
from rlvr_verifiers.code.suite import Call, Judged, Test

CANDIDATE = "candidate"
TYPES: dict[str, Any] = {
    kind.__name__: kind for kind in (int, float, str, bool, list, tuple, dict, set, bytes, complex)
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
LARGE = 10**100
REMEMBERED = 64
"""Problems whose tests are kept parsed: siblings are checked one after another."""


class NoDataError(ValueError):
    """This expression is no data."""


@lru_cache(maxsize=REMEMBERED)
def from_asserts(lines: tuple[str, ...], setup: str) -> tuple[tuple[Test, ...], str]:
    """The tests of a list of asserts, each by itself, and the name of the function that they test."""
    trees = [_parsed(line) for line in lines]
    entry = _tested([node for tree in trees for node in tree.body])
    has_setup = any(not isinstance(node, ast.Import | ast.ImportFrom) for node in _parsed(setup).body)
    tests: list[Test] = []
    for tree in trees:
        call = None if has_setup or len(tree.body) != 1 else _call(tree.body[0], {entry: entry})
        tests.append(call or Judged(setup=setup, code=_told(tree), names=_hidden(entry)))
    return tuple(tests), entry


@lru_cache(maxsize=REMEMBERED)
def from_check(code: str, entry: str, helpers: str) -> tuple[tuple[Test, ...], str]:
    """The tests of a `def check(candidate)`, and what they test: named by `check(...)` or by `entry`."""
    tree = _parsed(code)
    asked = [node for node in tree.body if _is_call_of(node, "check")]
    if asked:
        entry = ast.unparse(asked[-1].value.args[0])  # type: ignore[attr-defined]  # _is_call_of saw it
    calls: list[Test] | None = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check":
            calls = _calls([node], node.args.args[0].arg if node.args.args else CANDIDATE, entry)
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr):
            calls = None  # helpers of the tests
        if calls is None:
            break
    if calls:
        return tuple(calls), entry
    text = _told(tree) + ("" if asked else f"\ncheck({entry})\n")
    return (Judged(setup=helpers, code=text, names=_hidden(entry)),), entry


@lru_cache(maxsize=REMEMBERED)
def from_file(code: str, entry: str, helpers: str) -> tuple[tuple[Test, ...], str]:
    """The tests of a test file: pytest's functions, unittest's cases, or plain asserts."""
    tree = _parsed(code)
    asserts = [node for node in tree.body if isinstance(node, ast.Assert)]
    others = [node for node in tree.body if not isinstance(node, ast.Assert | ast.Import | ast.ImportFrom)]
    if asserts and not others:
        imports = "".join(f"{ast.unparse(node)}\n" for node in tree.body if not isinstance(node, ast.Assert))
        return from_asserts(tuple(ast.unparse(node) for node in asserts), imports)
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
    rest = [node for node in tree.body if node not in tests]
    before, after = (pytest_files.BEFORE, pytest_files.AFTER) if uses_pytest(tree) else ("", "")
    named = {node.name for node in tests}
    if len(tests) < 2 or any(named & _names(node) for node in tree.body):
        return (Judged(setup=before + helpers, code=_told(tree) + after),), entry
    setup = before + helpers + _told(ast.Module(body=rest, type_ignores=[]))
    alone = (_told(ast.Module(body=[node], type_ignores=[])) + after for node in tests)
    return tuple(Judged(setup=setup, code=code) for code in alone), entry


@lru_cache(maxsize=16 * REMEMBERED)
def holds_assertion(test: Judged) -> bool:
    """Whether there is anything in a test that could fail."""
    return Assertions(_tree(test)).held > 0


def _tree(test: Judged) -> ast.Module:
    return parse(f"{test.setup}\n{test.code}")


def asks_itself(test: Test, entry: str) -> int:
    """How many comparisons of a test have a value of the program on both sides: they ask the accused."""
    if not isinstance(test, Judged):
        return 0
    own = {CANDIDATE, *([entry] if entry else [])} | lacking(test)
    tree = _tree(test)
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    return sum(all(_calls_one_of(side, own) for side in (n.left, *n.comparators)) for n in compared)


def lacking(test: Test) -> set[str]:
    """The names that a test wants of the program."""
    if isinstance(test, Judged):
        tree = _tree(test)
        taken = {
            a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if _is_ours(n)
        }
        return (unbound(tree) - set(IMPORTS)) | taken | set(test.names)
    return {test.function} if isinstance(test, Call) else set()


def data(node: ast.expr) -> Any:
    """What an expression of data stands for; NoDataError where it is none."""
    if isinstance(node, ast.Name) and node.id in TYPES:
        return TYPES[node.id]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        items = [data(item) for item in node.elts]
        return (
            items
            if isinstance(node, ast.List)
            else tuple(items)
            if isinstance(node, ast.Tuple)
            else set(items)
        )
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {data(k): data(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        sides = data(node.left), data(node.right)
        if all(isinstance(side, int | float | complex) and abs(side) < LARGE for side in sides):
            return ARITHMETIC[type(node.op)](*sides)
    is_named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords
    try:
        if is_named and node.func.id in MADE and len(node.args) < 2:  # type: ignore[attr-defined]  # is_named
            return MADE[node.func.id](*map(data, node.args))  # type: ignore[attr-defined]  # is_named
        if _is_call_of_float(node):
            return float(node.args[0].value)  # type: ignore[attr-defined]  # that it is a constant was seen
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, ArithmeticError, RecursionError):
        raise NoDataError(ast.unparse(node)) from None


def _is_call_of_float(node: ast.AST) -> bool:
    """Whether it is `float("inf")` and its like."""
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords
    return is_call and node.func.id == "float" and [type(arg) for arg in node.args] == [ast.Constant]  # type: ignore[attr-defined]  # is_call


MADE: dict[str, Callable[..., Any]] = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list}


def _parsed(code: str) -> ast.Module:
    try:
        return parse(code)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the problem's tests are no Python: {error}") from error


def _calls(body: Sequence[ast.stmt], candidate: str, entry: str) -> list[Test] | None:
    """The calls of a check function that does nothing else; None where it does."""
    calls: list[Test] = []
    assert isinstance(body[0], ast.FunctionDef)
    for node in body[0].body:
        if isinstance(node, ast.Pass) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            continue
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value is True:
            continue
        call = _call(node, {candidate: entry, entry: entry})
        if call is None:
            return None
        calls.append(call)
    return calls or None


def _call(node: ast.stmt, meant: dict[str, str]) -> Call | None:
    """The call that an assert makes, if it is one on data."""
    if not isinstance(node, ast.Assert):
        return None
    try:
        return _claimed(node.test, meant)
    except (NoDataError, TypeError, ArithmeticError, ValueError):
        return None


def _claimed(test: ast.expr, meant: dict[str, str]) -> Call:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _called(test.operand, meant, claim="false", expected=False)
    if isinstance(test, ast.Call) and ast.unparse(test.func) in ("math.isclose", "isclose"):
        given = {word.arg: data(word.value) for word in test.keywords}
        got, expected = test.args
        distance = float(given.pop("abs_tol", 0.0)), float(given.pop("rel_tol", 1e-9))
        if given:
            raise NoDataError(ast.unparse(test))
        return _called(got, meant, claim="near", expected=data(expected), distance=distance)
    if not isinstance(test, ast.Compare):
        return _called(test, meant, claim="true", expected=True)
    if len(test.ops) != 1:
        raise NoDataError(ast.unparse(test))
    left, [op], [right] = test.left, test.ops, test.comparators
    if isinstance(op, ast.Eq):
        if not _is_called(left, meant):
            left, right = right, left
        return _called(left, meant, claim="equal", expected=data(right))
    if isinstance(op, ast.Is):
        expected = data(right)
        if expected is None or isinstance(expected, bool):
            return _called(left, meant, claim="same", expected=expected)
    is_distance = isinstance(left, ast.Call) and ast.unparse(left.func) in ("abs", "math.fabs")
    if is_distance and isinstance(op, ast.Lt | ast.LtE):
        assert isinstance(left, ast.Call)
        [inner] = left.args
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
            expected, distance = data(inner.right), (float(data(right)), 0.0)
            return _called(inner.left, meant, claim="near", expected=expected, distance=distance)
    raise NoDataError(ast.unparse(test))


def _called(node: ast.expr, meant: dict[str, str], **claimed: Any) -> Call:
    if not isinstance(node, ast.Call) or not _is_called(node, meant):
        raise NoDataError(ast.unparse(node))
    named = {word.arg or "": data(word.value) for word in node.keywords}
    if "" in named:
        raise NoDataError(ast.unparse(node))
    return Call(
        function=meant[ast.unparse(node.func)],
        arguments=tuple(data(item) for item in node.args),
        named=named,
        **claimed,
    )


def _is_called(node: ast.expr, meant: dict[str, str]) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in meant


def _tested(nodes: Sequence[ast.stmt]) -> str:
    """The function that most asserts call; a builtin's name only where they call nothing else."""
    called: dict[str, int] = {}
    for node in nodes:
        inner = (n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name))
        for name in {n.func.id for n in inner if isinstance(n.func, ast.Name)}:
            called[name] = called.get(name, 0) + 1
    own = {name: count for name, count in called.items() if not hasattr(builtins, name)}
    choice = own or called
    return max(choice, key=lambda name: choice[name], default="")


def _told(tree: ast.Module) -> str:
    """The text of a test whose asserts say what they got: `==` in its plain form."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1:
            test = node.test
            if isinstance(test.ops[0], ast.Eq):
                said = f"{ast.unparse(test)[:200]}: got "
                names = [ast.Name(id=f"_{side}_", ctx=ast.Store()) for side in ("got", "expected")]
                test.left = ast.NamedExpr(target=names[0], value=test.left)
                test.comparators = [ast.NamedExpr(target=names[1], value=test.comparators[0])]
                text = f"{said!r} + repr(_got_)[:120] + ', expected ' + repr(_expected_)[:120]"
                (said_instead,) = parse(text).body
                assert isinstance(said_instead, ast.Expr)
                node.msg = said_instead.value
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _hidden(entry: str) -> tuple[str, ...]:
    """The names that the tests mean the program's by, though a builtin has them."""
    return (entry,) if hasattr(builtins, entry) else ()


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _is_call_of(node: ast.stmt, name: str) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and _function_of(call) == name and bool(call.args)


def _is_ours(node: ast.ImportFrom) -> bool:
    return node.module == "solution"


def _calls_one_of(node: ast.expr, names: set[str]) -> bool:
    return any(_function_of(inner) in names for inner in ast.walk(node))


def _function_of(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
