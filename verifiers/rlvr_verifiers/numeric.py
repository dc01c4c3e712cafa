"""One number, within a tolerance."""

from __future__ import annotations

from fractions import Fraction

from rlvr.verify.api import Verdict, verifier
from rlvr_verifiers.extract import after_hashes, last_boxed, tagged
from rlvr_verifiers.numbers import exact_number, last_number
from rlvr_verifiers.turns import after_thinking


@verifier
def numeric(
    completion: str, answer: float | str, *, tolerance: float = 1e-6, relative: float = 0.0
) -> Verdict:
    """Right when the marked number, or else the last one, is within `tolerance` or `relative` x |answer|.

    A box, `####` or `<answer>` marks; a percentage is a hundredth.
    """
    gold = exact_number(str(answer))
    if gold is None or isinstance(answer, bool):
        raise ValueError(f"the gold answer {answer!r} is no number")
    text = after_thinking(completion)
    if text is None:
        return Verdict(score=0.0, status="no_answer", why="the thinking never ended")
    marked = last_boxed(text) or after_hashes(text) or tagged(text)
    found = last_number(text) if marked is None else exact_number(marked) or last_number(marked)
    if found is None:
        return Verdict(score=0.0, status="no_answer", why="no number")
    is_close = abs(found - gold) <= max(Fraction(tolerance), Fraction(relative) * abs(gold))
    return Verdict(score=float(is_close), status="right" if is_close else "wrong", found=_shown(found))


def _shown(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"
