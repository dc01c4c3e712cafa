"""What a function must look like to be a verifier, and what its options may be."""

import subprocess
import sys
from typing import Any, Literal

import pytest

import rlvr
from rlvr import Verdict, verifier
from rlvr.errors import VerifierError


@verifier
def every(
    completion: str,
    answer: float,
    *,
    tolerance: float = 1e-6,
    mode: Literal["strict", "loose"] = "strict",
    words: list[str] | None = None,
    depth: int = 1,
    extra: Any = None,
) -> Verdict:
    """Right, always.

    More text.
    """
    return Verdict(score=1.0, status="right", found=f"{completion} {answer} {tolerance}")


@verifier
def needs(*, limit: int) -> bool:
    return limit > 0


def test_a_verifier_stays_callable_and_knows_its_signature():
    assert every("a", 2.0, tolerance=0.5).found == "a 2.0 0.5"
    assert (every.name, every.doc, every.wants) == ("every", "Right, always.", ("completion", "answer"))
    assert {name: str(option) for name, option in every.options.items()} == {
        "tolerance": "float = 1e-06",
        "mode": "Literal['strict', 'loose'] = 'strict'",
        "words": "list[str] | None = None",
        "depth": "int = 1",
        "extra": "Any = None",
    }
    assert needs.wants == ()


def test_options_that_fit_are_taken():
    given = {"tolerance": 1, "mode": "loose", "words": ["a"], "depth": 2, "extra": {"k": [1]}}
    taken = every.configured(given)
    assert taken == given
    assert isinstance(taken["tolerance"], float)
    assert every.configured({"words": None}) == {"words": None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tolerence": 1e-4}, "no option `tolerence`; did you mean `tolerance`?"),
        ({"tolerance": "1e-4"}, "`tolerance` = '1e-4' is a str, not float"),
        ({"tolerance": True}, "is a bool, not float"),
        ({"depth": 1.0}, "is a float, not int"),
        ({"depth": True}, "is a bool, not int"),
        ({"mode": "lax"}, "cannot be 'lax'; choose from: loose, strict"),
        ({"words": ["a", 1]}, "is a list, not list[str] | None"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, said):
    with pytest.raises(VerifierError) as error:
        every.configured(given)
    assert said in str(error.value)


def test_a_required_option_must_be_given():
    with pytest.raises(VerifierError, match="needs option `limit`"):
        needs.configured({})
    assert needs.configured({"limit": 3}) == {"limit": 3}


def asks_for_unknown(completion, reference):
    return True


def near(compleetion):
    return True


async def waits(completion):
    return True


def yields(completion):
    yield True


def takes_args(completion, *args):
    return True


def takes_kwargs(completion, **kwargs):
    return True


def positional(completion, /):
    return True


def untyped(completion, *, depth=1):
    return True


def odd_type(completion, *, depth: bytes = b""):
    return True


def late_seed(completion, *, seed: int = 0):
    return True


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (asks_for_unknown, "`reference`"),
        (near, "did you mean `completion`"),
        (waits, "async def"),
        (yields, "yields"),
        (takes_args, r"`\*args`"),
        (takes_kwargs, r"`\*\*kwargs`"),
        (positional, "positional-only"),
        (untyped, "option `depth` has no type"),
        (odd_type, "no recipe can spell"),
        (late_seed, "before the `\\*`"),
    ],
)
def test_a_function_that_cannot_be_a_verifier_is_refused_by_name_and_place(function, said):
    with pytest.raises(VerifierError, match=said) as error:
        verifier(function)
    assert f"test_api.py:{function.__code__.co_firstlineno}" in str(error.value)
    assert f"`{function.__name__}`" in str(error.value)


def test_only_functions_are_verifiers():
    with pytest.raises(VerifierError, match="plain functions"):
        verifier(print)


def how(completion, answer, problem, sandbox, seed, *, tolerance, mode="loose"):
    return [("tolerance", f"{tolerance}")]


def test_a_verifier_that_explains_is_a_verifier_like_any():
    explained = verifier(explain=how)(every.function)
    assert explained.explain is how
    assert explained("a", 2.0, tolerance=0.5).found == "a 2.0 0.5"
    assert (explained.name, explained.wants, explained.options) == (every.name, every.wants, every.options)
    assert every.explain is None
    assert verifier()(every.function).explain is None


def unknown_option(completion, *, tolerence):
    return []


def option_before_the_star(completion, tolerance):
    return []


def tries(problem):
    return [str(problem.answer)], {"nothing": ""}, []


def test_a_verifier_may_say_what_to_try_on_a_problem():
    made = verifier(trials=tries)(every.function)
    assert made.trials is tries
    assert (made.explain, every.trials) == (None, None)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda problem, seed: None, "takes `problem` and nothing else"),
        (lambda answer: None, "takes `problem` and nothing else"),
        (print, r"@verifier\(trials=...\) is for plain functions, .* write `def name\(problem\):`"),
    ],
)
def test_a_function_that_cannot_say_what_to_try_is_refused(function, said):
    with pytest.raises(VerifierError, match=said):
        verifier(trials=function)(every.function)


def explains_anything(completion, **options):
    return []


def yields_rows(completion):
    yield "label", "text"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (unknown_option, "no option of verifier `every`; did you mean `tolerance`?"),
        (option_before_the_star, "asks for `tolerance`, which is not among completion"),
        (explains_anything, r"`\*\*options`"),
        (yields_rows, "yields; return a list of \\(label, text\\) pairs"),
        (positional, "positional-only"),
        (waits, "async def"),
    ],
)
def test_a_function_that_cannot_explain_is_refused_by_name_and_place(function, said):
    with pytest.raises(VerifierError, match=said) as error:
        verifier(explain=function)(every.function)
    assert f"test_api.py:{function.__code__.co_firstlineno}: explain function" in str(error.value)
    assert f"`{function.__name__}`" in str(error.value)


def test_what_explains_must_be_a_function_and_a_verifier_without_options_says_so():
    with pytest.raises(VerifierError, match=r"@verifier\(explain=...\) is for plain functions, not for"):
        verifier(explain="because")(every.function)
    with pytest.raises(VerifierError, match="no option of verifier `near_all`; it has none"):
        verifier(explain=unknown_option)(near_all)


def near_all(completion):
    return True


TYPED = """
from typing import assert_type

from rlvr import Verdict, verifier

def how(completion: str, *, loose: bool) -> list[tuple[str, str]]:
    return [("said", completion)]

@verifier
def plain(completion: str, *, loose: bool = True) -> bool:
    return loose

@verifier(explain=how)
def explained(completion: str, *, loose: bool = True) -> Verdict:
    return Verdict(score=1.0, status="right", found=completion)

assert_type(plain("a"), bool)
assert_type(explained("a", loose=False), Verdict)
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_signature_of_both_forms(tmp_path, pytestconfig):
    sound, broken = tmp_path / "sound.py", tmp_path / "broken.py"
    sound.write_text(TYPED)
    broken.write_text(f"{TYPED}\nexplained(1)\nexplained('a', tight=True)\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    for path, faults in ((sound, []), (broken, ["arg-type", "call-arg"])):
        ran = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, check=False, cwd=pytestconfig.rootpath
        )
        found = [line for line in ran.stdout.splitlines() if ": error:" in line]
        assert [line.rpartition("[")[2].rstrip("]") for line in found] == faults, ran.stdout + ran.stderr


def test_importing_rlvr_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'numpy', 'pydantic', 'sympy', 'typer', 'rich'}"
    code = f"import sys, rlvr; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_version_is_the_projects(pytestconfig):
    assert f'version = "{rlvr.__version__}"' in (pytestconfig.rootpath / "pyproject.toml").read_text()
