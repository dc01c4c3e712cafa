"""Multiple choice: one letter."""

from __future__ import annotations

import re

from rlvr.verify.api import Verdict, verifier
from rlvr_verifiers.extract import last_boxed
from rlvr_verifiers.turns import after_thinking

ENDS = r"(?=\s*(?:[.,:;)\]}*$\n<]|$))"


@verifier
def choice(completion: str, answer: str, *, letters: str = "ABCDEFGHIJ") -> Verdict:
    r"""Right when the letter behind the last "Answer:", in the last box or in the last "(X)" is right."""
    gold = str(answer).strip().strip("().").upper()
    if len(gold) != 1 or gold not in letters:
        raise ValueError(f"the gold answer {answer!r} is no letter out of {letters}")
    text = after_thinking(completion)
    if text is None:
        return Verdict(score=0.0, status="no_answer", why="the thinking never ended")
    found = _letter(text, letters)
    if found is None:
        return Verdict(score=0.0, status="no_answer", why="no letter was chosen")
    return Verdict(score=float(found == gold), status="right" if found == gold else "wrong", found=found)


def _letter(text: str, letters: str) -> str | None:
    one = f"[{re.escape(letters)}]"
    said = re.findall(rf"(?i:answer)\s*(?:(?i:is)\s*)?:?\s*[*(\[$]*({one}){ENDS}", text)
    if said:
        return str(said[-1])
    boxed = re.fullmatch(rf"(?:\\(?:text|textbf|mathrm)\{{)?\(?({one})[).]*\}}?", last_boxed(text) or "")
    if boxed:
        return boxed[1]
    bracketed = re.findall(rf"\(({one})\)", text)
    alone = re.fullmatch(rf"\s*({one})[.)]?\s*", text)
    return str(bracketed[-1]) if bracketed else alone[1] if alone else None
