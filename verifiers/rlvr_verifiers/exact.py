"""The answer word for word."""

from __future__ import annotations

from rlvr.verify.api import Verdict, verifier
from rlvr_verifiers.extract import tagged
from rlvr_verifiers.turns import after_thinking


@verifier
def exact(completion: str, answer: str, *, ignore_case: bool = False, ignore_spaces: bool = True) -> Verdict:
    """Right when the `<answer>` tag, or else the last line that is not empty, is the answer.

    `ignore_spaces` takes every run of white space for one space.
    """
    text = after_thinking(completion)
    if text is None:
        return Verdict(score=0.0, status="no_answer", why="the thinking never ended")
    lines = [line for line in text.splitlines() if line.strip()]
    found = tagged(text) or (lines[-1].strip() if lines else None)
    if found is None:
        return Verdict(score=0.0, status="no_answer", why="nothing was said")
    wanted, given = (_folded(side, ignore_case, ignore_spaces) for side in (str(answer).strip(), found))
    if not wanted:
        raise ValueError("the gold answer is empty")
    return Verdict(score=float(given == wanted), status="right" if given == wanted else "wrong", found=found)


def _folded(text: str, ignore_case: bool, ignore_spaces: bool) -> str:
    text = " ".join(text.split()) if ignore_spaces else text
    return text.casefold() if ignore_case else text
