"""Mathematical answers: is what a completion ends in the gold answer, as mathematics?

    completion --extract--> text --spelling--> one spelling --tokens, grammar--> tree --compare--> Finding

No text of a model reaches Python's or sympy's evaluator: the grammar is ours, functions come from a table.
Everything is bounded in time and memory, needs no alarm, and runs in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal

from rlvr.verify.api import Verdict, verifier
from rlvr_verifiers.concluding import concluded
from rlvr_verifiers.extract import UNMARKED, Found, find_answer, last_words
from rlvr_verifiers.math.conventions import Conventions
from rlvr_verifiers.math.decide import Decision, decide, is_readable

__all__ = ["Conventions", "Decision", "decide", "math"]

MOST_WHOLE = 300
"""Characters of a completion that may be an answer as a whole."""


def _explain(completion: str, answer: Any, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was extracted and compared, for `rlvr verifier explain math`."""
    found = _extracted(completion, boxed_only=options["boxed_only"])
    rows = [("extracted", repr(found.text)), ("by the rule", found.rule)]
    if found.text is None:
        return rows
    conventions = Conventions(**{name: value for name, value in options.items() if name != "boxed_only"})
    for gold in _golds(answer):
        decision = decide(gold, found.text, conventions)
        verdict = {True: "equal", False: "not equal", None: "cannot decide"}[decision.equal]
        rows += [
            ("gold", repr(gold)),
            ("gold's form", decision.gold_form),
            ("found's form", decision.found_form),
            ("decided by", f"{decision.test}: {verdict}"),
        ]
    return rows


@verifier(explain=_explain)
def math(
    completion: str,
    answer: Any,
    *,
    boxed_only: bool = False,
    percent: Literal["hundredth", "either"] = "hundredth",
    unit: Literal["optional", "required"] = "optional",
    convert: bool = True,
    tolerance: float = 0.0,
    ordered: bool = False,
    scaled: bool = True,
    labels: bool = True,
    unsolved: bool = False,
    choice: bool = True,
    decimal_comma: bool = True,
) -> Verdict:
    """Right when the final answer equals the gold one as mathematics; a list of golds accepts any of them."""
    golds = _golds(answer)
    found = _extracted(completion, boxed_only=boxed_only)
    if found.text is None:
        return Verdict(score=0.0, status="no_answer", why=found.rule)
    conventions = Conventions(
        percent=percent,
        unit=unit,
        convert=convert,
        tolerance=tolerance,
        ordered=ordered,
        scaled=scaled,
        labels=labels,
        unsolved=unsolved,
        choice=choice,
        decimal_comma=decimal_comma,
    )
    decisions = [decide(gold, found.text, conventions) for gold in golds]
    best = min(decisions, key=lambda one: (True, None, False).index(one.equal))
    return Verdict(
        score=float(best.equal is True),
        status="right" if best.equal else "wrong",
        found=found.text,
        why=f"{best.test} ({found.rule})",
    )


def _extracted(completion: str, *, boxed_only: bool) -> Found:
    """The final answer; where no rule has a mark, the completion if it is all mathematics, or how it ends."""
    found = find_answer(completion, boxed_only=boxed_only)
    if found.rule == UNMARKED:
        text = (last_words(completion) or "").strip()
        if 0 < len(text) <= MOST_WHOLE and is_readable(text):
            return Found(text=text, rule="whole")
        formula = concluded(text)
        if formula is not None and (len(formula) == 1 or is_readable(formula)):
            return Found(text=formula, rule="concluded")
    return found


def _golds(answer: Any) -> list[str]:
    golds = [_gold(one) for one in (answer if isinstance(answer, list) else [answer])]
    if not golds:
        raise ValueError("the gold answer is an empty list")
    return golds


def _gold(answer: Any) -> str:
    """The gold as text; ValueError where there is none: that is our fault, not the policy's."""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(
            f"the gold answer is a {type(answer).__name__}, not text, a number or a list of them"
        )
    if isinstance(answer, float) and not isfinite(answer):
        raise ValueError(f"the gold answer is {answer}")
    text = str(answer)
    if "\\boxed" in text or "####" in text:
        text = find_answer(text).text or text
    if not text.strip():
        raise ValueError("the gold answer is empty")
    return text.strip()
