"""In which form a problem brings its tests: recognised by the fields of its answer and its meta.

    base_input, plus_input        HumanEval+, MBPP+: with `canonical_solution`, `test` or `assertion`
    test + entry_point            HumanEval, LeetCodeDataset: `def check(candidate)`
    test_list                     MBPP: asserts, with `test_setup_code` or `test_imports`
    functional                    LeetCode: `check(Solution().f)`
    inputs, outputs [, fn_name]   APPS, code_contests: standard input and output, or arguments and result
    [{input, output}, ...]        codeforces, LiveCodeBench: the same in pairs; `testtype: functional`
    code                          a test file of pytest or unittest; asserts

The answer counts where it holds tests, else the meta does, by the order of `FORMS`, `WRAPPERS` and `PARTS`;
code that asserts nothing (a solution, a word) is no tests.  A text in JSON is read.  What is understood by
nobody is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlvr.verify.api import Problem
from rlvr_verifiers.code import asserts
from rlvr_verifiers.code.evalplus import FLOATS, plus_tests
from rlvr_verifiers.code.fences import PYTHON, blocks
from rlvr_verifiers.code.prelude import parsed, prompt_definitions
from rlvr_verifiers.code.statement import checker, is_caseless, precision
from rlvr_verifiers.code.suite import Call, Judged, Printed, Suite, Test

Fields = Mapping[str, Any]
WRAPPERS = ("tests", "input_output", "ground_truth", "official_tests", "test_cases")
"""Fields that hold the tests as a whole."""
NOTHING = "the problem's tests prove nothing"
PARTS = ("public_tests", "private_tests", "generated_tests", "public_test_cases", "private_test_cases")
"""Fields that each hold a part of them."""


def suite_of(problem: Problem) -> Suite:
    """The tests of a problem; ValueError where there are none, or in no form that is known."""
    given = _read(problem.meta.get("answer") if problem.answer is None else problem.answer)
    own = given if isinstance(given, Mapping) else {}
    fields = {**problem.meta, **own}
    fault = ""
    try:
        found = _of_fields(own, fields, problem) if own else _of_value(given, fields, problem)
    except ValueError as error:  # an answer in words, where the tests are in other fields
        if not isinstance(given, str):
            raise
        found, fault = None, str(error)
    if found is None or not _asserts(found):
        found = _of_fields(fields, fields, problem) or found
    if found is None or not found.tests:
        seen = ", ".join(fields) or "none"
        raise ValueError(fault or f"no tests in a form that `code` knows (docs/code.md); fields: {seen}")
    if not _asserts(found):
        raise ValueError(f"{NOTHING}: the tests assert nothing of the program (docs/code.md)")
    return _as_stated(found, problem, fields)


def _asserts(suite: Suite) -> bool:
    """Whether any of its tests could fail for what a program does."""
    return any(not isinstance(test, Judged) or asserts.holds_assertion(test) for test in suite.tests)


def _as_stated(suite: Suite, problem: Problem, fields: Fields) -> Suite:
    """With what the statement says of printed answers; ValueError where a checker is to judge them."""
    if not any(isinstance(test, Printed) for test in suite.tests):
        return suite
    if name := checker(fields):
        raise ValueError(
            f"`{name}` judges this problem: several outputs may be right, and `code` compares with one;"
            " leave it out"
        )
    text = statement_of(problem)
    near = suite.tolerance if suite.tolerance is not None else precision(text)
    tests = suite.tests
    if is_caseless(text):
        tests = tuple(
            replace(test, is_caseless=True) if isinstance(test, Printed) else test for test in tests
        )
    return replace(suite, tolerance=near, tests=tests)


def statement_of(problem: Problem) -> str:
    """The text of a contest's problem."""
    for name in ("problem", "question", "description", "question_content"):
        if isinstance(text := problem.meta.get(name), str):
            return text
    return prompt_of(problem)


def tolerance_of(fields: Fields) -> float | None:
    """The tolerance that the problem states, in `tolerance` or `atol`; None where it states none."""
    stated = [fields.get(name) for name in ("tolerance", "atol")]
    return next((float(value) for value in stated if isinstance(value, int | float) and value > 0), None)


def prompt_of(problem: Problem) -> str:
    """What the model was asked: the row's own prompt, else the code that its question shows, or all of it."""
    for name in ("prompt", "starter_code"):
        if isinstance(text := problem.meta.get(name), str) and text.strip():
            return text
    asked = next((turn.content for turn in reversed(problem.messages) if turn.role == "user"), "")
    shown = [block.code for block in blocks(asked) if block.language in PYTHON]
    return shown[-1] if shown else asked


def whole_solution(text: str, prompt: str, entry: str) -> str:
    """A solution; behind its prompt where it goes on where that ends and does not define `entry` itself."""
    text = text.replace("\r\n", "\n")
    tree = parsed(text)
    names = {getattr(node, "name", "") for node in tree.body} if tree else set()
    return text if entry.partition("(")[0] in names else f"{prompt}\n{text}"


def _of_value(value: Any, fields: Fields, problem: Problem) -> Suite | None:
    """Tests that are no object of named fields."""
    if isinstance(value, str):
        return _of_code(value, fields, problem)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return _of_asserts(value, fields)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return _of_pairs(value, fields)
    return None


def _of_fields(held: Fields, fields: Fields, problem: Problem) -> Suite | None:
    """The tests in the fields `held`, read with the help of all `fields`."""
    for name, make in FORMS.items():
        if (value := _read(held.get(name))) not in (None, "", []):
            return make(value, fields, problem)
    for name in WRAPPERS:
        value = _read(held.get(name))
        found = (
            _of_fields(value, {**{k: v for k, v in fields.items() if k != name}, **value}, problem)
            if isinstance(value, Mapping)
            else _of_value(value, fields, problem)
        )
        if found is not None:
            return found
    parts = [found for name in PARTS if (found := _of_part(_read(held.get(name)), fields, problem))]
    tests = tuple(test for part in parts for test in part.tests)
    entry, form = (parts[0].entry, parts[0].form) if parts else ("", "")
    return Suite(form=form, tests=tests, entry=entry, tolerance=tolerance_of(fields)) if parts else None


def _of_part(value: Any, fields: Fields, problem: Problem) -> Suite | None:
    if isinstance(value, Mapping) and "input" in value:  # code_contests: two lists
        value = {"inputs": value["input"], "outputs": value.get("output")}
        return _of_lists(value["inputs"], {**fields, **value}, problem) if value["inputs"] else None
    if isinstance(value, str) and value:
        raise ValueError("a part of the tests is no JSON: packed tests (pickle) are not unpacked")
    return _of_value(value, fields, problem)


def _of_test(value: Any, fields: Fields, problem: Problem) -> Suite | None:
    return _of_code(value, fields, problem) if isinstance(value, str) else _of_value(value, fields, problem)


def _of_inputs(value: Any, fields: Fields, problem: Problem) -> Suite:
    entry, solution = fields.get("entry_point"), fields.get("canonical_solution")
    if not isinstance(entry, str) or not isinstance(solution, str) or not isinstance(value, list):
        raise ValueError("`base_input` is a list of arguments, with `entry_point` and `canonical_solution`")
    plus = _read(fields.get("plus_input", problem.answer))
    if not isinstance(plus, list | dict):
        raise ValueError("`plus_input` is missing: a list of arguments, as `base_input` is")
    asserted = str(fields.get("test") or fields.get("assertion") or "")
    base = _of_code(asserted, fields, problem).tests if asserted else ()
    helpers = prompt_definitions(prompt_of(problem), entry)
    return Suite(
        form="inputs for a reference",
        tests=tuple(plus_tests(base, asserted, (value, plus), entry, helpers)),
        entry=entry,
        preamble=helpers,
        reference=whole_solution(solution, prompt_of(problem), entry),
        tolerance=tolerance_of(fields) or FLOATS,
    )


def _of_code(code: str, fields: Fields, problem: Problem) -> Suite:
    entry = str(fields.get("entry_point") or fields.get("fn_name") or "")
    preamble = prompt_definitions(prompt_of(problem), entry)
    is_check = "def check(" in code
    made = asserts.from_check if is_check else asserts.from_file
    tests, entry = made(code, entry, preamble)
    form = "check function" if is_check else "test file"
    return _suite(form, tests, entry, fields, preamble)


def _of_asserts(value: Any, fields: Fields, _: Problem | None = None) -> Suite:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise ValueError("`test_list` is a list of asserts")
    imports = fields.get("test_imports") or []
    setup = [*imports] if isinstance(imports, list) else [str(imports)]
    setup.append(str(fields.get("test_setup_code") or ""))
    tests, entry = asserts.from_asserts(tuple(value), "\n".join(setup))
    return _suite("asserts", tests, entry, fields)


def _of_lists(_: Any, fields: Fields, __: Problem | None = None) -> Suite:
    inputs, outputs, name = _read(fields.get("inputs")), _read(fields.get("outputs")), fields.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("`inputs` and `outputs` are two lists of the same length")
    pairs = list(zip(inputs, outputs, strict=True))
    if not name:
        return _suite("input and output", [_printed(*pair) for pair in pairs], "", fields)
    calls: list[Test] = [_method(str(name), *pair, may_wrap=True) for pair in pairs]
    return _suite("arguments and result", calls, str(name), fields)


def _of_pairs(value: Any, fields: Fields) -> Suite:
    meta = _read(fields.get("metadata"))
    name = str((meta.get("func_name") if isinstance(meta, Mapping) else None) or fields.get("fn_name") or "")
    tests: list[Test] = []
    for pair in value:
        if "input" not in pair or "output" not in pair:
            raise ValueError("a test needs `input` and `output`")
        if pair.get("testtype") == "functional" or (name and "testtype" not in pair):
            own = pair.get("metadata")
            called = name or str(pair.get("fn_name") or (own or {}).get("func_name") or "")
            if not called:
                raise ValueError("a functional test needs its function: `func_name` in `metadata`")
            lines = pair["input"]
            arguments = [_read(x, True) for x in lines.split("\n")] if isinstance(lines, str) else lines
            tests.append(_method(called, arguments, _read(pair["output"], True)))
        else:
            tests.append(_printed(pair["input"], pair["output"]))
    entry = next((test.function.rpartition(".")[2] for test in tests if isinstance(test, Call)), "")
    return _suite("arguments and result" if entry else "input and output", tests, entry, fields)


def _method(name: str, arguments: Any, expected: Any, *, may_wrap: bool = False) -> Call:
    """`may_wrap`: APPS puts some results in a list of one.  Where the arguments are no list there is one."""
    given = tuple(arguments) if isinstance(arguments, list) else (arguments,)
    is_wrapped = may_wrap and isinstance(expected, list) and len(expected) == 1
    alternatives = (expected, expected[0]) if is_wrapped else (expected,)
    return Call(function=name, arguments=given, claim="json", expected=alternatives, is_free=True)


def _printed(given: Any, expected: Any) -> Printed:
    """Texts; lists are lines."""
    texts = ["\n".join(map(str, one)) if isinstance(one, list) else str(one) for one in (given, expected)]
    return Printed(stdin=texts[0], expected=texts[1])


def _suite(form: str, tests: Sequence[Test], entry: str, fields: Fields, preamble: str = "") -> Suite:
    tolerance = tolerance_of(fields)
    return Suite(form=form, tests=tuple(tests), entry=entry, preamble=preamble, tolerance=tolerance)


def _read(value: Any, is_sure: bool = False) -> Any:
    """A text that holds JSON, read; `is_sure` where it must: ValueError where it does not."""
    if not isinstance(value, str) or not (is_sure or value.lstrip()[:1] in ("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        if is_sure:
            raise ValueError(f"{value[:80]!r} is no JSON value") from None
        return value


FORMS: dict[str, Callable[[Any, Fields, Problem], Suite | None]] = {
    "test_list": _of_asserts,
    "base_input": _of_inputs,
    "functional": lambda value, fields, problem: _of_code(value, fields, problem),
    "test": _of_test,
    "assertion": _of_test,
    "inputs": _of_lists,
}
"""By the field that holds the tests, the strongest first."""
