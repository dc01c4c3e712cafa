"""HumanEval+ and MBPP+ as released: inputs in JSON, and a reference solution that says what is expected.

    base_input   compared as the row's own asserts (`test`, `assertion`) say, where these are calls on data
    plus_input   compared with what `canonical_solution` returns, run in a box of its own

JSON has lost which lists were tuples or sets: they are made what the row's asserts have in their place.
Floats that the reference computes may differ by `FLOATS`, or by the row's `atol`, as in EvalPlus.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from rlvr_verifiers.code.asserts import CANDIDATE, NoDataError, data
from rlvr_verifiers.code.prelude import parsed
from rlvr_verifiers.code.suite import Call, Claim, Judged, Test

FLOATS = 1e-6
LISTS = (list, tuple, set, frozenset)
RESIDUALS = {"find_zero": "abs(poly(*given, find_zero(*given))) <= 1e-4"}
"""Functions of several right results: what holds of each, in the words of the prompt's helpers."""


def plus_tests(
    base: Sequence[Test], asserted: str, inputs: tuple[Any, Any], entry: str, helpers: str
) -> list[Test]:
    """The tests of a row: `base` as written, if they are calls; base and plus inputs for the reference."""
    tree = parsed(asserted) or ast.Module(body=[], type_ignores=[])
    patterns = list(_given(tree, {CANDIDATE, entry}))
    given = [_argued(one, patterns) for one in (*inputs[0], *inputs[1])]
    if entry in RESIDUALS:
        text = "".join(f"given = {one!r}\nassert {RESIDUALS[entry]}\n" for one in given)
        return [*base, Judged(setup=helpers, code=text)]
    kept = [test for test in base if isinstance(test, Call)]
    is_written = len(kept) == len(base) > 0
    asked = given[len(inputs[0]) :] if is_written else given
    claim = _claim(tree, kept, entry)
    calls = [Call(function=entry, arguments=one, claim=claim, is_asked=True) for one in asked]
    return [*(kept if is_written else []), *calls]


def as_in(value: Any, patterns: Sequence[Any], otherwise: type = list) -> Any:
    """A value from JSON with the types that others in its place have; lists where none is are `otherwise`."""
    if (
        isinstance(value, str)
        and patterns
        and all(isinstance(one, int | float | complex) for one in patterns)
    ):
        is_complex = all(isinstance(one, complex) for one in patterns)
        return _number(value, (complex,) if is_complex else (int, float, complex))
    if isinstance(value, list):
        alike = [one for one in patterns if isinstance(one, LISTS)]
        inner = [item for one in alike for item in one]
        kind = next((type(one) for one in alike if one), type(alike[0]) if alike else otherwise)
        return kind(as_in(item, inner, kind) for item in value)
    if isinstance(value, dict):
        maps = [one for one in patterns if isinstance(one, dict)]
        keys = [key for one in maps for key in one]
        inner = [item for one in maps for item in one.values()]
        return {as_in(key, keys): as_in(item, inner) for key, item in value.items()}
    return value


def _number(text: str, kinds: Sequence[Callable[[str], Any]]) -> Any:
    for kind in kinds:
        with suppress(ValueError):
            return kind(text)
    return text


def _given(tree: ast.Module, names: set[str]) -> Iterable[list[Any]]:
    """The arguments of all calls on data of one of `names`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            with suppress(NoDataError):
                yield [data(argument) for argument in node.args]


def _argued(given: Sequence[Any], patterns: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    places = [[one[at] for one in patterns if at < len(one)] for at in range(len(given))]
    return tuple(as_in(value, alike) for value, alike in zip(given, places, strict=True))


def _claim(tree: ast.Module, calls: Sequence[Call], entry: str) -> Claim:
    """How the row's asserts compare: as sets, by truth alone, or as `==` has it."""
    if calls and all(call.claim in ("true", "false") for call in calls):
        return "true"
    sides = [node.left for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    is_set = bool(sides) and all(ast.unparse(side).startswith(f"set({entry}(") for side in sides)
    return "set" if is_set else "equal"
