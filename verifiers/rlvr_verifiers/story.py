"""The quickstart's word problems: `<think>Ana:6. Fay:6-2=4.</think><answer>4`."""

from __future__ import annotations

import re

from rlvr.verify.api import Verdict, verifier

INTEGER = re.compile(r"-?[0-9]{1,18}")


@verifier
def story(completion: str, answer: int | str) -> Verdict:
    """Right when the completion thinks exactly once and the text behind the last `<answer>` is the number."""
    gold = int(answer)
    _, mark, tail = completion.rpartition("<answer>")
    if not mark:
        return Verdict(score=0.0, status="no_answer", why="no <answer>")
    found = tail.strip().removesuffix("</answer>").strip()
    if completion.count("</think>") != 1 or "</think>" in tail:
        return Verdict(
            score=0.0, status="wrong", found=found, why="not exactly one </think> before the answer"
        )
    is_right = INTEGER.fullmatch(found) is not None and int(found) == gold
    return Verdict(score=float(is_right), status="right" if is_right else "wrong", found=found)
