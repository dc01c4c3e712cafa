"""Programs whose functions are called with values, and test files that judge them from a box of their own."""

from fractions import Fraction

import pytest

from rlvr.sandbox import local
from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.client import NoRoomError, Run


def test_calls_give_values(sandbox):
    source = (
        "import collections, fractions\nclass P:\n    def __init__(self): self.n = 0\n"
        "    def add(self, k):\n        self.n += k\n        return self.n\n"
        "def same(x): return x\n"
        "def many(): return collections.Counter('aab'), 2**100, -0.0, fractions.Fraction(1, 3)\n"
        "def sort(x): x.sort()\ndef fails(): raise KeyError('k')\ndef opaque(): return P()\n"
        "def named(a, *, b=1): return a - b\ndef quits(): raise SystemExit(0)"
    )
    data = [None, True, 1.5, "é\ud800\x00", b"\xff", (1, [2, {3: {4}}]), frozenset("ab"), 2**70, 3j, range(3)]
    with sandbox.load(source) as program:
        assert program.call("same", data).value == data
        assert program.call("many").value == ({"a": 2, "b": 1}, 2**100, -0.0, Fraction(1, 3))
        assert program.call("sort", [3, 1, 2]).changed == {0: [1, 2, 3]}
        assert program.call("fails").error == "KeyError: 'k'"
        assert program.call("P().add", 5).value == 5
        assert program.call("named", 5, b=2).value == 3
        assert "P object" in repr(program.call("opaque").value)
        assert program.call("quits").status == "error"
        assert program.call("nothing").error == "NameError: the program defines no `nothing`"
        replies = program.call_each("same", [["x" * size] for size in (0, 10**5, 10**6, 1, 2)] * 40)
        assert [len(reply.value) for reply in replies] == [0, 10**5, 10**6, 1, 2] * 40
        with pytest.raises(ValueError, match="no data"):
            program.call("same", object())


def test_a_program_that_dies_says_so_for_every_call(sandbox):
    with sandbox.load("import os\ndef f(n):\n    if n == 2: os._exit(0)\n    return n") as program:
        statuses = [reply.status for reply in program.call_each("f", [[1], [2], [3]])]
    assert statuses == ["ok", "error", "error"]
    with sandbox.load("def f(n):\n    while n: pass\n    return n", timeout_s=0.3) as program:
        assert [program.call("f", n).status for n in (0, 1, 0)] == ["ok", "timeout", "timeout"]
    with sandbox.load("def f(:") as program:
        assert program.call("f").error.startswith("SyntaxError")
    with sandbox.load("x = bytearray(2**40)") as program:
        assert program.call("f").status == "memory"


def test_how_a_program_died_does_not_depend_on_who_sees_it_first(sandbox):
    ends = set()
    for _ in range(40):
        with sandbox.load("import os\ndef f(): os.write(1, b'x' * 2**20), os.write(1, b'x')") as program:
            ends.add(program.call("f").status)
    assert ends == {"output"}


STACK = """
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __eq__(self, other): return True
def count():
    n = 0
    while True:
        n += 1
        yield n
def apply(f, xs): return [f(x) for x in xs]
def reverse(xs): xs.reverse()
def fail(): raise ValueError("no")
abs = lambda x: 0
"""


@pytest.mark.parametrize(
    ("tests", "passes"),
    [
        ("s = Stack()\ns.push(4)\nassert len(s) == 1\nassert s.pop() == 4\nassert s.items == []", True),
        ("assert Stack() == Stack()", False),
        ("assert Stack() == 3 or Stack() == [] or 3 == Stack()", False),
        ("c = count()\nassert [next(c), next(c)] == [1, 2]", True),
        ("assert apply(lambda x: x + k, [1, 2]) == [3, 4]\n", False),
        ("k = 2\nassert apply(lambda x: x + k, [1, 2]) == [3, 4]", True),
        ("x = [1, 2]\nreverse(x)\nassert x == [2, 1]", True),
        (
            "try:\n    fail()\nexcept ValueError as e:\n    assert str(e) == 'no'\nelse:\n    assert False",
            True,
        ),
        ("assert abs(-3) == 3", True),
        ("from solution import apply as a\nassert a(str, [1]) == ['1']", True),
        ("def check(f):\n    assert f(int, ['1']) == [1]\ncheck(candidate)", True),
        ("def test_a():\n    assert apply(len, ['ab']) == [2]\ndef test_b():\n    assert False", False),
        (
            "import unittest\nclass T(unittest.TestCase):\n"
            "    def test_it(self):\n        self.assertRaises(ValueError, fail)",
            True,
        ),
        (
            "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertEqual(1, 2)",
            False,
        ),
        ("raise SystemExit(0)", False),
        ("import os; os._exit(0)", False),
        ("import sys; sys.exit(0)", False),
    ],
)
def test_a_judge_runs_tests_against_a_stand_in(sandbox, tests, passes):
    found = sandbox.judge(STACK, tests, names={"candidate": "apply"}, timeout_s=3)
    assert found.passed == passes, found
    assert bool(found.why) != passes


def test_a_judgement_says_what_failed(sandbox):
    found = sandbox.judge("def f(x): return x", "y = 1\nassert f(1) == y\nassert f(2) == 3")
    assert (found.status, found.why) == ("ok", "AssertionError (line 3: assert f(2) == 3)")
    found = sandbox.judge("class A: pass\na, b = A(), A()\ndef f(): return a", "assert f() == f()")
    assert (found.passed, found.self_reported) == (True, 1)
    found = sandbox.judge("def f():\n    while True: pass", "f()", timeout_s=0.3)
    assert (found.passed, found.status) == (False, "timeout")
    found = sandbox.judge("def f(): return bytearray(2**40)", "try: f()\nexcept Exception: pass\nassert f")
    assert found.passed  # the test asked for no more
    found = sandbox.judge("def f(): return 1", "f()\nassert True")
    assert (found.passed, found.is_empty) == (False, True)


def test_no_test_swallows_the_death_of_the_program(sandbox):
    tests = "try:\n    f()\nexcept BaseException:\n    pass"
    found = sandbox.judge("import os\ndef f(): os._exit(0)", tests)
    assert (found.passed, found.status) == (False, "error")


CASE = """
import unittest
from solution import solve
class T(unittest.TestCase):
    def test_it(self): self.assertEqual(solve(2), 4)
"""
STAR = CASE.replace("import solve", "import *")
CLASS = "class TestIt:\n    def test_it(self): assert solve(2) == 4"
LATER = "async def test_it(): assert solve(2) == 4"
ZIPPED = "for got, wanted in zip(map(solve, [1, 2]), [1, 4]): assert got == wanted"
ALL = "assert all(map(lambda pair: solve(pair[0]) == pair[1], [(1, 1), (2, 4)]))"
HIJACK = """
class R:
    def run(self, result): return None
def load_tests(a, b, c): return R()
def setUpModule(): raise ValueError
__all__ = ["load_tests", "unittest", "test_it", "T"]
class U: TestCase = object()
unittest = T = test_it = U()
"""


@pytest.mark.parametrize("tests", [CASE, STAR, CLASS, LATER, ZIPPED, ALL])
@pytest.mark.parametrize(
    "wrong",
    [
        "def solve(x): return 0",
        "def solve(x): return 0\n" + HIJACK,
        "def solve(x): raise StopIteration",
        "def solve(x): raise StopAsyncIteration",
    ],
)
def test_wrong_programs_do_not_get_past_the_way_tests_are_found(sandbox, tests, wrong):
    assert not sandbox.judge(wrong, tests).passed
    assert sandbox.judge("def solve(x): return x * x\n" + HIJACK, tests).passed


@pytest.mark.parametrize(
    "program",
    [
        "import nowhere_to_be_found\ndef f(): return 1",
        "def f(): import nowhere_to_be_found",
        "def f(): raise ModuleNotFoundError(name='nowhere')",
        "def g(): pass",
    ],
)
def test_what_a_program_cannot_import_is_its_own_fault(sandbox, program):
    found = sandbox.judge(program, "from solution import f\nassert f() == 1")
    assert (found.passed, found.status) == (False, "error")


@pytest.mark.parametrize("asked", ["startswith('He')", "issubset({1})", "isupper()", "all()", "equals(3)"])
def test_an_object_is_not_asked_what_only_data_knows(sandbox, asked):
    program = "class Yes:\n    def __getattr__(self, name): return lambda *_: True\ndef f(x): return Yes()"
    found = sandbox.judge(program, f"assert f(1).{asked}")
    assert (found.passed, found.why.partition(":")[0]) == (False, "TypeError")
    assert sandbox.judge("def f(x): return 'Hello'", "assert f(1).startswith('He')").passed


def test_programs_iterate_over_what_tests_hand_them(sandbox):
    program = "def twice(xs): return [2 * x for x in xs]\ndef name(f): return f.__name__\n"
    program += "def same(x): return x\ndef of(x): return x.secret"
    tests = (
        "assert twice(x for x in range(3)) == [0, 2, 4]\nassert twice(map(int, '12')) == [2, 4]\n"
        "assert twice({3: 4}.keys()) == [6] and twice({3: 4}.values()) == [8] and twice(iter(())) == []\n"
        "def mine(): pass\nassert name(mine) == 'mine'\n"
        "assert same({1: 2}.keys()) == {1} and same({1: 2}.items()) == {(1, 2)}\n"
        "class Own:\n    secret = 1\n    def __iter__(self): return iter([1])\n"
        "for ask in (twice, name, of):\n    try: ask(Own())\n    except (TypeError, AttributeError): pass\n"
        "    else: assert 0\n"
    )
    assert sandbox.judge(program, tests).why == ""


def test_names_that_tests_take_from_elsewhere_stay_theirs(sandbox):
    program = "from collections import *\nfrom math import *\ndef f(): return 1\ndef Counter(x): return {}"
    tests = "from collections import *\nfrom solution import *\nassert Counter('aa') == {'a': 2} and f() == 1"
    assert sandbox.judge(program, tests).passed
    found = sandbox.judge(
        "class A:\n    def v(self): return 0", "class B(A):\n    def test(self): assert False"
    )
    assert (found.passed, found.why.partition(" (")[0]) == (
        False,
        "TypeError: a class of the program cannot be subclassed from here",
    )


@pytest.mark.parametrize(
    "tests",
    [
        "def test_it():\n    yield\n    assert f() == 2",
        "def test_it(capsys): assert f() == 2",
        "class TestIt:\n    def check(self): assert f() == 2",
        "class TestIt:\n    def __init__(self): pass\n    def test_it(self): assert f() == 2",
        "import unittest\nclass T(unittest.TestCase):\n    def check(self): assert f() == 2",
        "x = '" + "x" * 2**22 + "'\nassert f() == 1",
        "import nowhere_to_be_found\nassert f() == 1",
        "from math import nowhere_to_be_found\nassert f() == 1",
    ],
)
def test_tests_that_cannot_run_are_no_score(sandbox, tests):
    with pytest.raises(SandboxError):
        sandbox.judge("def f(): return 1", tests)


def test_pytests_classes_are_set_up(sandbox):
    tests = (
        "class TestIt:\n    def setup_method(self, method): self.x = f()\n"
        "    async def test_a(self): assert self.x == 1\n"
        "    @staticmethod\n    def test_b(): assert f() == 1\n"
    )
    assert sandbox.judge("def f(): return 1", tests).passed
    assert not sandbox.judge("def f(): return 2", tests).passed


def test_errors_come_with_their_own_words(sandbox):
    program = (
        "class E(ValueError): pass\ndef f(kind):\n"
        "    if kind == 'key': raise KeyError('k')\n    if kind == 'own': raise E('w')\n    b'\\xff'.decode()"
    )
    tests = (
        "def said(kind):\n    try: f(kind)\n    except Exception as e: return type(e), e.args[0]\n"
        "assert said('key') == (KeyError, 'k')\nassert said('own') == (ValueError, 'w')\n"
        "assert said('')[0] is UnicodeError\n"
    )
    assert sandbox.judge(program, tests).why == ""
    found = sandbox.judge("def f(): raise ValueError('\\ud800')", "f()")
    assert found.why.encode().startswith(b"ValueError: \\ud800")


def test_tests_see_data_by_its_value(sandbox):
    program = "import datetime\nN, X, copyright = 5, [1, (2,)], 'mine'\n"
    program += "def f(target, self, operation=1): return target\n"
    program += (
        "def day(d): return d + datetime.timedelta(days=1)\nclass C:\n    def m(self, target): return target"
    )
    tests = "import datetime\nfrom solution import N\nassert N + 1 == 6 and X == [1, (2,)]\n"
    tests += "assert copyright == 'mine'\n"
    tests += "assert f(target=3, self=4, operation=2) == 3 and C().m(target=2) == 2\n"
    tests += "assert day(datetime.date(2020, 1, 1)) == datetime.date(2020, 1, 2)"
    assert sandbox.judge(program, tests).why == ""


def test_a_program_that_leaves_no_room_for_its_judge_has_failed(sandbox, monkeypatch):
    refused = []

    class Crowded(Run):
        def __init__(self, server, kind, *rest, **named):
            super().__init__(server, kind, *rest, **named)
            self.is_refused = kind in crowded and len(refused) < most

        def is_up(self):
            if self.is_refused:
                refused.append(self)
                raise NoRoomError("no")
            super().is_up()

    monkeypatch.setattr(local, "Run", Crowded)
    crowded = ["judge"]
    most = 1
    assert sandbox.judge("def f(): return 1", "assert f() == 1").passed
    most = 3
    assert sandbox.judge("def f(): return 1", "assert f() == 1").status == "error"
    assert sandbox.judge("def f(): return 1", "assert f() == 1").passed
    crowded, most = ["judge", "run_program"], 6
    with pytest.raises(NoRoomError):  # nor is there room when the program is gone: a fault of ours
        sandbox.judge("def f(): return 1", "assert f() == 1")


def test_values_of_a_program_are_bounded_in_all(sandbox):
    send = (
        "import os, struct\ndef f(part):\n"
        "    data = b'[\"ok\",[' + b','.join([part] * 400000) + b'],{\"d\":[]}]'\n"
        "    data = struct.pack('<I', len(data)) + data\n"
        "    while data: data = data[os.write(3, data):]\n"
    )
    with sandbox.load(send, timeout_s=10) as program:
        assert "parts" in program.call("f", b'{"q":[]}').error
    with sandbox.load("def f(n): return 'x' * n") as program:
        replies = program.call_each("f", [[4 * 10**6]] * 20)
    assert [reply.status for reply in replies] == ["ok"] * 16 + ["output"] * 4
    with sandbox.load("many = ['\u0100'] * 400000\ndef f(): return many", timeout_s=10) as program:
        replies = program.call_each("f", [[]] * 10)
    assert [reply.status for reply in replies] == ["ok"] * 4 + ["output"] * 6
