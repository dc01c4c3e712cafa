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
        ({"mode": "lax"}, "not Literal['strict', 'loose']"),
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


def test_importing_rlvr_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'numpy', 'pydantic', 'sympy', 'typer', 'rich'}"
    code = f"import sys, rlvr; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_version_is_the_projects(pytestconfig):
    assert f'version = "{rlvr.__version__}"' in (pytestconfig.rootpath / "pyproject.toml").read_text()
