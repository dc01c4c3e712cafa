"""Published data sets: every solution they hold passes, and programs that solve nothing do not.

The rows are read where they lie beside the repository; none of them is kept here.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rlvr_verifiers.code import code

from rlvr.eval.benchmarks import BENCHMARKS, open_benchmark
from rlvr.types import Message, Problem

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
WEAK = {
    "humaneval/test": {"HumanEval/34": {"constant"}},
    "mbpp_sanitized/all": {"404": {"echo"}},
    "mbpp/all": {
        **{task: {"constant"} for task in ("37", "203", "339", "667", "674", "816")},
        **{task: {"echo"} for task in ("404", "698", "847")},
        "899": {"constant", "true"},
    },
    "leetcode/test": {"124": {"constant"}, "177": {"constant"}},
    "humanevalplus/test": {},
    "mbppplus/test": {},
}
"""Rows whose own tests let such a program pass: each was looked at, and the tests are to blame."""
SIZES = {"humaneval/test": 164, "mbpp_sanitized/all": 427, "mbpp/all": 974, "leetcode/test": 200}
SIZES |= {"humanevalplus/test": 164, "mbppplus/test": 378}
SOLVED = {
    ("codeforces/test", 0): "for _ in range(int(input())): print(*sorted(map(int, input().split())))",
    ("codeforces/test", 88): """
for _ in range(int(input())):  # a carry or not at each place: YES and NO may be printed in any case
    x = input()
    fits = x[0] == "1" and x[1:-1].find("0") < 0 or len(x) == 2 and x[0] == "1"
    print("yes" if fits and x[-1] != "9" else "no")
""",
    ("codeforces/test", 96): """
for _ in range(int(input())):
    a, b = input().split()
    print(b[0] + a[1:], a[0] + b[1:])
""",
    ("codeforces/test", 97): """
for _ in range(int(input())):
    n = int(input())
    print(max(range(2, n + 1), key=lambda x: x * (n // x) * (n // x + 1)))
""",
    ("codeforces/test", 180): "for _ in range(int(input())): print((int(input()) + 2) // 4)",
    ("codeforces/test", 303): """
for _ in range(int(input())):
    n, k = map(int, input().split())
    steps = 0
    while k > 1 and n:
        n, digit = divmod(n, k)
        steps += digit
    print(steps + n)
""",
    ("codeforces/test", 327): """
from itertools import product
games = [tuple(map(int, input().split())) for _ in range(int(input()))]
best = 0
for taken in product((0, 1), repeat=len(games)):
    chance, won = 1, 0
    for is_in, (p, w) in zip(taken, games):
        if is_in:
            chance, won = chance * p / 100, won + w
    best = max(best, chance * won)
print(best)  # 112.0 for 112.00000000: the statement allows an error
""",
    ("code_contests/test", 0): """
n, m = map(int, input().split())
books = [input() for _ in range(n)]
key = lambda at: [ord(c) if i % 2 == 0 else -ord(c) for i, c in enumerate(books[at])]
print(*(at + 1 for at in sorted(range(n), key=key)))
""",
    ("code_contests/test", 113): """
for _ in range(int(input())):
    (x, p), (y, q) = [map(int, input().split()) for _ in range(2)]
    least = min(p, q)
    p, q = min(p - least, 7), min(q - least, 7)
    x, y = x * 10**p, y * 10**q
    print("<" if x < y else ">" if x > y else "=")
""",
    ("code_contests/test", 139): """
for _ in range(int(input())):
    s = input()
    print("YES" if len(s) % 2 == 0 and s[: len(s) // 2] * 2 == s else "NO")
""",
    ("code_contests/test", 140): """
from math import isqrt
for _ in range(int(input())):
    n = int(input())
    cubes = 0
    while (cubes + 1) ** 3 <= n:
        cubes += 1
    both = 0
    while (both + 1) ** 6 <= n:
        both += 1
    print(isqrt(n) + cubes - both)
""",
}
"""The data holds no solutions of its stdin problems: these are ours, for the tests that the data gives."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")


def problems(name, step=1):
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {name} in ../shared/data")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number in range(0, len(rows), step):
        row = rows[number]
        asked = row.get("prompt") or row.get("text") or row.get("problem")
        name_of = str(row.get("task_id", number))
        yield Problem(id=name_of, messages=(Message(role="user", content=asked),), answer=None, meta=row)


def tried(sandbox, problem):
    """The gold's status, the probes that pass, and whether the tests ask the program about itself."""
    golds, probes, remarks = code.trials(problem)
    gold = [code(text, problem, sandbox) for text in golds[:1]]
    passing = [name for name, text in probes.items() if code(text, problem, sandbox).status == "right"]
    passed = {name.partition(":")[0] for name in passing}
    return problem.id, [(v.status, v.why) for v in gold if v.status != "right"], passed, bool(remarks)


def all_tried(sandbox, name, step=1):
    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(lambda problem: tried(sandbox, problem), problems(name, step)))


@pytest.mark.parametrize("name", SIZES)
def test_samples(sandbox, name):
    for identity, failed, passed, _ in all_tried(sandbox, name, step=SIZES[name] // 8):
        assert not failed, (identity, failed)
        assert passed == WEAK[name].get(identity, set()), identity


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_every_gold_passes_and_only_known_rows_let_others_pass(sandbox, name):
    found = all_tried(sandbox, name)
    assert len(found) == SIZES[name]
    assert [row for row in found if row[1]] == []
    assert {identity: passed for identity, _, passed, _ in found if passed} == WEAK[name]
    asked = [identity for identity, _, _, is_self_reported in found if is_self_reported]
    assert asked == (["HumanEval/33"] if name == "humaneval/test" else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["code_contests/test", "codeforces/test"])
def test_stdin_problems_run_and_nothing_but_the_expected_text_passes(sandbox, name):
    for identity, _, passed, _ in all_tried(sandbox, name):
        assert passed <= {"constant"}, identity


@pytest.mark.parametrize(("name", "number"), SOLVED, ids=lambda part: str(part).partition("/")[0])
def test_known_good_solutions_of_stdin_problems_pass(sandbox, name, number):
    problem = list(problems(name))[number]
    verdict = code(f"```python\n{SOLVED[name, number]}\n```", problem, sandbox)
    assert verdict.status == "right", verdict.why


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_benchmarks_by_name_are_asked_so_that_their_solutions_pass(sandbox, name):
    source = open_benchmark(BENCHMARKS[name], data_dir=DATA, base_dir=Path())
    for number in range(0, source.size, 10):
        golds, _, _ = code.trials(source[number])
        verdict = code(golds[0], source[number], sandbox)
        assert verdict.status == "right", (source[number].id, verdict.why)
    helped = [n for n in range(source.size) if "def encode_cyclic" in source[n].messages[-1].content]
    assert len(helped) == (name == "humaneval")
    for number in helped:  # its tests and its solution need what the prompt defines
        assert code(code.trials(source[number])[0][0], source[number], sandbox).status == "right"
