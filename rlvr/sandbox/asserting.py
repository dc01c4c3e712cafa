"""Counts the assertions that a test file comes to: one that evaluates none proves nothing of a program.

An assertion can fail by what it looks at: an `assert` of more than constants, a call of something named
`assert...` or `raises`, and an `if`, `try`, `while` or `match` in which something is raised or the tests end.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

MARK = "__asserted__"
"""What is called before each of them."""
BRANCHES = (ast.If, ast.While, ast.Try, ast.TryStar, ast.Match)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
ENDS = {"fail", "exit", "_exit", "quit"}
"""Calls that end the tests as failed."""


class Assertions:
    """How many assertions a test file holds, and how many of them were come to."""

    def __init__(self, tree: ast.Module) -> None:
        """Mark the assertions of `tree`, in place."""
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        marker = _Marker(defined)
        marker.visit(tree)
        ast.fix_missing_locations(tree)
        self.held = marker.held
        self.reached = 0

    def names(self) -> dict[str, Callable[[], None]]:
        """What the marks call."""

        def reached() -> None:
            self.reached += 1

        return {MARK: reached}


class _Marker(ast.NodeTransformer):
    """Puts a call before every assertion; those of helpers that the tests define are inside them."""

    def __init__(self, defined: set[str]) -> None:
        self.defined = defined
        self.held = 0

    def visit(self, node: ast.AST) -> ast.AST | list[ast.AST]:
        is_one = isinstance(node, ast.stmt) and _asserts(node, self.defined)
        self.generic_visit(node)
        if not is_one:
            return node
        self.held += 1
        call = ast.Call(func=ast.Name(id=MARK, ctx=ast.Load()), args=[], keywords=[])
        return [ast.copy_location(ast.Expr(value=call), node), node]


def _asserts(node: ast.stmt, defined: set[str]) -> bool:
    if isinstance(node, ast.Assert):
        return any(isinstance(inner, ast.Name) for inner in ast.walk(node.test))
    if isinstance(node, BRANCHES):
        return any(map(_fails, _inside(node)))
    looked_at: Iterable[ast.AST | None] = ()
    if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.Return):
        looked_at = [node.value]
    elif isinstance(node, ast.With | ast.AsyncWith):
        looked_at = [item.context_expr for item in node.items]
    return any(_is_helper(inner, defined) for one in looked_at if one is not None for inner in ast.walk(one))


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """All in it that runs with it."""
    for inner in ast.iter_child_nodes(node):
        if not isinstance(inner, SCOPES):
            yield inner
            yield from _inside(inner)


def _fails(node: ast.AST) -> bool:
    """Whether the tests have failed once they are here."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _called(node) in ENDS)


def _is_helper(node: ast.AST, defined: set[str]) -> bool:
    """Whether it is a call of another's assertion, on more than constants."""
    if not isinstance(node, ast.Call) or (name := _called(node)) in defined:
        return False
    given = [*node.args, *(word.value for word in node.keywords)]
    is_open = not given or not all(isinstance(one, ast.Constant) for one in given)
    return is_open and (name.startswith("assert") or name == "raises")


def _called(node: ast.Call) -> str:
    """The last name of what is called."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
