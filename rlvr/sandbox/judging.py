"""What runs in a judge's box: the tests, on stand-ins for what the program defines.

The program lives in another box; here it is a wire that gives values.  The verdict is this process's alone.
"""

from __future__ import annotations

import ast
import builtins
import json
import linecache
import sys
import types
from collections.abc import Callable
from typing import Any

from rlvr.sandbox import codec, peer
from rlvr.sandbox.asserting import Assertions
from rlvr.sandbox.peer import Peer
from rlvr.sandbox.remote_object import OPERATIONS, Remote, compared

WIRE, JUDGED = 3, 4
FILE = "tests.py"
WHY_CHARACTERS = 2000
NEVER = {"load_tests", "setUpModule", "tearDownModule", "setup_module", "teardown_module"}
"""What unittest and pytest look for among the tests: never the program's."""
PRINTERS = {"copyright", "credits", "help", "license"}
"""Builtins that a program may well define."""


class UnfitError(Exception):
    """These tests cannot be run here, whatever the program: no fault of it."""


def judge() -> int:
    """Run the tests that come over the wire and say what they found."""
    order = json.loads(peer.receive(WIRE))
    other: Peer
    other = Peer(JUDGED, _callback, lambda number, kind: Remote(other, number, kind))
    status, why = _found(other, order)
    why = codec.printable(why[:WHY_CHARACTERS])
    verdict = {"status": status, "why": why, "self_reported": compared[0]}
    peer.send(WIRE, json.dumps(verdict).encode())
    return 0


def _found(other: Peer, order: dict[str, Any]) -> tuple[str, str]:
    """`passed`, `failed` (an assertion did not hold), `empty` (none was there), `raised`, `unfit` or `gone`.

    With what went wrong first.
    """
    module = sys.modules["tests"] = types.ModuleType("tests")
    text = order["tests"]
    linecache.cache[FILE] = (len(text), None, text.splitlines(keepends=True), FILE)
    status, why = "passed", ""
    try:
        tree = ast.parse(text, FILE)
        sys.modules["solution"] = _offered(other, module, order, _used(tree))
        offered, before = _taken(module, order), other.requests
        assertions = Assertions(tree)
        vars(module).update(assertions.names())
        exec(compile(tree, FILE, "exec", dont_inherit=True), vars(module))
        _run_collected(module, tree)
        if not (assertions.reached and offered):
            has_steered = other.requests > before or not all(isinstance(one, Remote) for one in offered)
            status, why = _unproved(is_dodged=bool(assertions.held and offered) and has_steered)
    except UnfitError as error:
        status, why = "unfit", str(error)
    except ImportError as error:  # one that comes from the program names no module
        is_ours = error.name is not None and error.name.partition(".")[0] != "solution"
        status, why = "unfit" if is_ours else "raised", _described(error)
    except AssertionError as error:
        status, why = "failed", _described(error)
    except BaseException as error:  # noqa: BLE001 - tests that exit have not passed
        status, why = "raised", _described(error)
    return ("gone", "the program is gone") if other.is_gone else (status, why)


def _unproved(*, is_dodged: bool) -> tuple[str, str]:
    """Of tests that came to no assertion on the program: by what it gave them, or whatever it gives."""
    if is_dodged:
        return "failed", "no assertion of the tests was come to"
    return "empty", "the tests assert nothing of the program"


def _taken(module: types.ModuleType, order: dict[str, Any]) -> list[Any]:
    """What the tests have of the program."""
    offered = vars(sys.modules["solution"]).items()
    own = [value for name, value in offered if not name.startswith("__")]
    return own + [vars(module)[name] for name in order["names"]]


def _used(tree: ast.Module) -> set[str]:
    """The names that the tests load, import from the program or ask of it."""
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == "solution":
            used.update(alias.name for alias in node.names)
    return used


def _offered(other: Peer, tests: types.ModuleType, order: dict[str, Any], used: set[str]) -> types.ModuleType:
    """The program's names as a module and among the tests' own, where no builtin has that name."""
    solution = types.ModuleType("solution")
    for name in sorted(used.intersection(order["public"]) - NEVER):
        is_builtin = hasattr(builtins, name) and name not in PRINTERS
        if not is_builtin and not name.startswith("__"):
            vars(solution)[name] = vars(tests)[name] = _stand_in(other, name)
    for name, meant in order["names"].items():
        vars(tests)[name] = _stand_in(other, meant)
    offered = dict(vars(solution))

    def late(name: str) -> list[str]:  # `import *` takes what the tests have not bound by then
        if name != "__all__":
            raise AttributeError(name)
        return [name for name in offered if vars(tests).get(name) is offered[name] and name[:1] != "_"]

    vars(solution)["__getattr__"] = late
    return solution


def _stand_in(other: Peer, name: str) -> Any:
    """What a name of the program stands for: data by its value now, all else by what passes on calls."""
    stand_in = Remote(other, name, name)
    try:
        value = other.request(".value", [stand_in])
    except Exception:  # noqa: BLE001 - it may be too large, or not be there: who uses it will see
        return stand_in
    return stand_in if isinstance(value, Remote) else value


def _run_collected(module: types.ModuleType, tree: ast.Module) -> None:
    """As pytest would, in the plainest form: functions test..., classes Test... and unittest's cases."""
    ran, cases = 0, []
    framework = getattr(sys.modules.get("unittest"), "TestCase", None)
    defined = [node.name for node in tree.body if isinstance(node, DEFINITIONS) and _is_test(node.name)]
    for name in defined:
        if not isinstance(vars(module).get(name, _run_one), (types.FunctionType, type)):
            raise TypeError(f"`{name}` is no test any more: what decorates it?")
    for name, found in list(vars(module).items()):
        if isinstance(found, type) and framework and issubclass(found, framework):
            cases += [found] if found.__module__ == "tests" else []
        elif isinstance(found, types.FunctionType) and name.startswith("test"):
            ran += _run_one(found)
        elif isinstance(found, type) and name.startswith("Test"):
            ran += _run_class(found)
    ran += _run_cases(cases) if cases else 0
    if not ran and (defined or cases):
        raise UnfitError("tests are defined and none of them ran")


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_test(name: str) -> bool:
    return name.startswith(("test", "Test"))


def _run_one(test: Callable[..., Any], given: int = 0) -> int:
    """Call one test that needs no more arguments than were given; 1."""
    function = getattr(test, "__func__", test)
    if isinstance(function, types.FunctionType):
        needed = function.__code__.co_argcount - len(function.__defaults__ or ())
        if needed > given:
            raise UnfitError(
                f"`{function.__name__}` wants arguments: pytest's fixtures and marks are not known"
            )
    found = test()
    if isinstance(found, types.CoroutineType):
        import asyncio

        asyncio.run(found)
    elif isinstance(found, (types.GeneratorType, types.AsyncGeneratorType)):
        raise UnfitError("a test that is a generator would not run")
    return 1


def _run_class(kind: type) -> int:
    """A class of tests in pytest's way: an object for each of them; how many there were."""
    names = [name for name in dir(kind) if name.startswith("test") and callable(getattr(kind, name))]
    if "__init__" in vars(kind):
        raise UnfitError(f"`{kind.__name__}` has an __init__: pytest would not run it")
    _hook(kind, "setup_class")
    for name in names:
        made = kind()
        _hook(made, "setup_method")
        try:
            _run_one(getattr(made, name), given=int(not isinstance(vars(kind).get(name), staticmethod)))
        finally:
            _hook(made, "teardown_method")
    _hook(kind, "teardown_class")
    return len(names)


def _hook(owner: Any, name: str) -> None:
    hook = getattr(owner, name, None)
    if hook is not None:
        hook(*[None] * (hook.__code__.co_argcount - 1))  # some take the method that is to run


def _run_cases(cases: list[type]) -> int:
    """unittest's own way, class by class: its loader would ask the module for `load_tests`."""
    import unittest

    result = unittest.TestResult()
    result.failfast = True
    loader = unittest.defaultTestLoader
    unittest.TestSuite([loader.loadTestsFromTestCase(case) for case in cases]).run(result)
    for _, trace in result.failures + result.errors:
        raise AssertionError(trace.strip().splitlines()[-1].removeprefix("AssertionError: "))
    if not result.wasSuccessful():
        raise AssertionError("a test that was to fail did not")
    if result.testsRun and result.testsRun == len(result.skipped):
        raise AssertionError("every test was skipped")
    return result.testsRun


def _callback(target: Any, arguments: list[Any]) -> Any:
    """All that a program may do here: call a function that the tests gave it, ask its name, or iterate."""
    given = arguments[0] if type(arguments) is list and arguments else None
    is_iterable = type(given).__module__ == "builtins" and hasattr(type(given), "__iter__")
    if (target == ".call" and callable(given)) or (target in (".iterate", ".next") and is_iterable):
        return OPERATIONS[target[1:]]
    if target == ".attribute" and arguments[1:] == ["__name__"]:
        return getattr
    raise TypeError("only a function or an iterator that was handed over can be used")


def _described(error: BaseException) -> str:
    """Name and words of the error, and the line of the tests that it came from."""
    number, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            number = trace.tb_lineno
        trace = trace.tb_next
    name, words = peer.described(error)
    said = f"{name}: {words}" if words else name
    return f"{said} (line {number}: {linecache.getline(FILE, number).strip()})" if number else said
