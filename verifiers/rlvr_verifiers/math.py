"""Mathematical answers: extraction of our own, cheap exact tests, and only then Math-Verify's algebra.

Math-Verify's alarms are off (they fail off the main thread, and a power in C keeps them from firing): the
pool kills a check that hangs.  It is given one LaTeX expression a side and may not fish numbers out of prose.
"""

from __future__ import annotations

import logging
import re
from math import isfinite
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from rlvr.verify.api import Verdict, verifier
from rlvr_verifiers.extract import after_hashes, after_thinking, last_boxed, said, tagged
from rlvr_verifiers.numbers import exact_number

MOST_CHARACTERS = 1000
"""A longer answer is compared as text alone."""
LATEX = (LatexExtractionConfig(boxed_match_priority=0),)
RELATIVE, ABSOLUTE = 1e-9, 1e-100
"""How far apart numbers may be that are called equal: rounding of the evaluation, not of the answer."""
MOST_SIDES = 4
NAME = re.compile(r"\\?[A-Za-z][A-Za-z0-9\\_^{}(), ]*")
SPACED = re.compile(r"\\,|\{,\}|(?<=\d),(?=\d{3})")
TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;: ]|\\displaystyle|\^\\circ|\^\{\\circ\}|\\\(|\\\)|\\\[|\\\]|\$"
)
PER_CENT = re.compile(r"(.+?)\s*\\?%")

logging.getLogger("math_verify").setLevel(logging.ERROR)


@verifier
def math(completion: str, answer: Any, *, boxed_only: bool = False) -> Verdict:
    """Right when the final answer equals the gold one as mathematics; a list of golds accepts any of them."""
    golds = [_gold(one) for one in (answer if isinstance(answer, list) else [answer])]
    if not golds:
        raise ValueError("the gold answer is an empty list")
    text = after_thinking(completion)
    if text is None:
        return Verdict(score=0.0, status="no_answer", why="the thinking never ended")
    found = last_boxed(text)
    if found is None and not boxed_only:
        found = after_hashes(text) or tagged(text) or said(text)
    if not found:
        return Verdict(
            score=0.0, status="no_answer", why="no boxed answer" if boxed_only else "no marked answer"
        )
    whys = [_compare(gold, found) for gold in golds]
    right = next((why for is_equal, why in whys if is_equal), None)
    if right is not None:
        return Verdict(score=1.0, status="right", found=found, why=right)
    return Verdict(score=0.0, status="wrong", found=found, why=whys[0][1])


def _gold(answer: Any) -> str:
    """The gold as text; ValueError where there is none: that is our fault, not the policy's."""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(
            f"the gold answer is a {type(answer).__name__}, not text, a number or a list of them"
        )
    if isinstance(answer, float) and not isfinite(answer):
        raise ValueError(f"the gold answer is {answer}")
    text = str(answer)
    gold = last_boxed(text) or after_hashes(text) or text.strip()
    if not gold:
        raise ValueError("the gold answer is empty")
    return gold


def _compare(gold: str, found: str) -> tuple[bool, str]:
    """Whether they are equal, and which rule said so; cheap and exact rules first."""
    if _normal(gold) == _normal(found) != "":
        return True, "same text"
    if len(found) > MOST_CHARACTERS or len(gold) > MOST_CHARACTERS:
        return False, f"longer than {MOST_CHARACTERS} characters: compared as text"
    value, wanted = exact_number(_bare(found)), exact_number(_bare(gold))
    if value is not None and wanted is not None:
        return value == wanted, "exact numbers"
    if "=" in found and "=" not in gold:
        return _chain(gold, found)
    try:
        return _symbolic(gold, found), "computer algebra"
    except Exception as error:  # noqa: BLE001 - what a completion does to the algebra is no fault of ours
        return False, f"not shown to be equal: {type(error).__name__}"


def _chain(gold: str, found: str) -> tuple[bool, str]:
    """Of `x = 2 + 3 = 5` every side but a leading name must be the answer: 8 = 7 is neither 8 nor 7."""
    sides = [side.strip(" &") for side in found.split("=")]
    if NAME.fullmatch(sides[0]):
        sides = sides[1:]
    is_equal = len(sides) <= MOST_SIDES and all(side and _compare(gold, side)[0] for side in sides)
    return is_equal, "every side of the equation" if is_equal else "a side of the equation differs"


def _symbolic(gold: str, found: str) -> bool:
    parsed = [
        parse(
            f"\\boxed{{{_latex(side)}}}",
            extraction_config=LATEX,
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,  # pyright: ignore[reportArgumentType] - None is off
        )
        for side in (gold, found)
    ]
    if any(_is_torn(side, seen) for side, seen in zip((gold, found), parsed, strict=True)):
        return False
    if not verify(parsed[0], parsed[1], timeout_seconds=None):
        return False
    return _is_close(parsed[0][0], parsed[1][0])


def _is_torn(side: str, seen: list[Any]) -> bool:
    """Whether nothing was read, or a single number out of a list: 40 out of `40 cats, 50 dogs`."""
    return not seen or ("," in SPACED.sub("", side) and getattr(seen[0], "is_number", False))


def _is_close(one: Any, other: Any) -> bool:
    """False for two numbers that agree to so many places only because both are small."""
    if not (getattr(one, "is_number", False) and getattr(other, "is_number", False)):
        return True
    left, right = one.doit().evalf(30), other.doit().evalf(30)
    gap = abs(left - right)
    if one == 0 or other == 0:
        return bool(gap <= ABSOLUTE)
    return bool(gap <= RELATIVE * abs(left) and gap <= RELATIVE * abs(right))


def _latex(side: str) -> str:
    r"""What Math-Verify reads: a percentage becomes a hundredth (it takes 28\% for 28 but 10\% for 0.1)."""
    per_cent = PER_CENT.fullmatch(side.strip().strip("$").strip())
    return f"\\frac{{{per_cent[1]}}}{{100}}" if per_cent and "%" not in per_cent[1] else side


def _bare(side: str) -> str:
    """Without text wrappers and degree signs."""
    return DROPPED.sub("", TEXT.sub(r"\1", side).replace("\\$", "")).strip().rstrip(".")


def _normal(side: str) -> str:
    """A spelling that space, sizing, text wrappers and fraction styles leave alone; words lose their case."""
    text = re.sub(r"\\[dt]frac", r"\\frac", _bare(side))
    text = re.sub(r"\s+", "", re.sub(r"(?<=\d)\s+(?=\d)", "_", text))  # 1 2 is not 12
    return text.casefold() if len(text) > 1 and text.isalpha() else text
