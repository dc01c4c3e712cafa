"""Test files of pytest: what they use of it is known, or the problem is in error; and what stands for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

KNOWN = {"raises", "approx", "fixture", "param", "fail", "mark", "mark.parametrize"}
WORDS = {
    "fixture": {"scope"},
    "mark.parametrize": {"ids", "argnames", "argvalues"},
    "param": {"id"},
}
"""Keyword arguments that are known, of those that have others."""
SOURCE = Path(__file__).with_name("pytest_stand_in.py").read_text(encoding="utf-8")
BEFORE = f"""import sys, types
sys.modules["pytest"] = types.ModuleType("pytest")
exec(compile({SOURCE!r}, "pytest.py", "exec"), vars(sys.modules["pytest"]))
import pytest
"""
"""What comes before such tests in their box."""
AFTER = "pytest.arrange(globals())\n"
"""And behind them."""


def uses_pytest(tree: ast.Module) -> bool:
    """Whether a test file is one of pytest's; ValueError where it asks for what is not known here."""
    meant = dict(_imported(tree))
    used = dict(_used(tree, meant))
    for path, node in used.values():
        if path not in KNOWN:
            raise _unknown(f"pytest.{path}", node)
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        path = used.get(id(call.func), ("", call))[0]
        for word in call.keywords:
            if path in WORDS and word.arg not in WORDS[path]:
                raise _unknown(f"pytest.{path}({word.arg}=...)", call)
    _refuse_arguments(tree, {key: path for key, (path, _) in used.items()})
    return bool(used)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that stand for pytest (`""`) or for something in it."""
    yield "pytest", ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.asname or a.name, "") for a in node.names if a.name == "pytest")
        elif isinstance(node, ast.ImportFrom) and node.module == "pytest":
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)


def _used(tree: ast.Module, meant: dict[str, str]) -> Iterator[tuple[int, tuple[str, ast.expr]]]:
    """By the identity of its node, what of pytest an expression is: `mark.parametrize`."""
    for node in ast.walk(tree):
        names: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and isinstance(node, ast.expr) and inner.id in meant:
            path = ".".join([*filter(None, [meant[inner.id]]), *names])
            if path:
                yield id(node), (path, node)


def _refuse_arguments(tree: ast.Module, used: dict[int, str]) -> None:
    """ValueError where a test asks for what neither a fixture of the file nor its own rows give."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    fixtures = {node.name for node in functions if "fixture" in _decorated(node, used)}
    for node in functions:
        is_test, asked = node.name.startswith("test"), _arguments(node)
        if is_test or node.name in fixtures:
            for name in sorted(asked - fixtures - _rows(node, used)):
                raise _unknown(f"the argument `{name}` of `{node.name}`", node)
            is_async = isinstance(node, ast.AsyncFunctionDef)
            if is_async and (asked or not is_test):
                raise _unknown(f"`async def {node.name}` with fixtures or rows", node)
            if is_test and any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
                raise _unknown(f"`{node.name}`, a test that yields,", node)
    for owner in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
        for node in [node for node in owner.body if isinstance(node, ast.FunctionDef)]:
            is_test = node.name.startswith("test")
            own = {argument.arg for argument in node.args.args[:1]}
            if _decorated(node, used) or (is_test and _arguments(node) - own):
                raise _unknown(f"fixtures and marks in a class (`{owner.name}.{node.name}`)", node)


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Those without a default."""
    listed = [*node.args.posonlyargs, *node.args.args]
    needed = listed[: len(listed) - len(node.args.defaults)]
    words = [a for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is None]
    return {argument.arg for argument in (*needed, *words)}


def _decorated(node: ast.FunctionDef | ast.AsyncFunctionDef, used: dict[int, str]) -> set[str]:
    bare = (one.func if isinstance(one, ast.Call) else one for one in node.decorator_list)
    return {used[id(one)] for one in bare if id(one) in used}


def _rows(node: ast.FunctionDef | ast.AsyncFunctionDef, used: dict[int, str]) -> set[str]:
    """The names that `parametrize` gives."""
    found: set[str] = set()
    for one in node.decorator_list:
        if isinstance(one, ast.Call) and used.get(id(one.func)) == "mark.parametrize":
            words = {word.arg: word.value for word in one.keywords}
            try:
                names = ast.literal_eval(one.args[0] if one.args else words["argnames"])
            except (ValueError, KeyError):
                raise _unknown("names of `parametrize` that are no literals", one) from None
            found.update(name.strip() for name in (names.split(",") if isinstance(names, str) else names))
    return found


def _unknown(what: str, node: ast.AST) -> ValueError:
    line = getattr(node, "lineno", 0)
    return ValueError(f"line {line} of the tests: {what} is not known here (docs/code.md says what is)")
