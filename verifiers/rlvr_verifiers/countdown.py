"""Countdown: reach a target with + - * / and each given number at most once.  Nothing is ever `eval`ed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rlvr.verify.api import Problem, Status, Verdict, verifier
from rlvr_verifiers.extract import tagged
from rlvr_verifiers.turns import after_thinking

MOST_CHARACTERS = 200
TOKEN = re.compile(r"\s*(?:(\d{1,9})(?!\d)|([-+*/()]))")
SIGNS = str.maketrans("×÷−–", "*/--")


class NoExpressionError(ValueError):
    """The text is not made of integers, + - * / and parentheses."""


@verifier
def countdown(completion: str, answer: Any, problem: Problem, *, use_all: bool = False) -> Verdict:
    """Right when the expression equals the target with each number at most once (`use_all`: exactly once)."""
    nums, target = _task(answer if isinstance(answer, Mapping) else problem.meta)
    text = after_thinking(completion)
    if text is None:
        return Verdict(score=0.0, status="no_answer", why="the thinking never ended")
    in_tag = tagged(text)
    found = in_tag if in_tag is not None else _last_plain_line(text)
    if not found:
        return Verdict(score=0.0, status="no_answer", why="no expression")
    try:
        value, used = evaluate(re.sub(rf"=\s*{target}\s*$", "", found))
    except NoExpressionError as error:
        status: Status = "no_answer" if in_tag is None else "wrong"
        return Verdict(score=0.0, status=status, found=found, why=str(error))
    except ZeroDivisionError:
        return Verdict(score=0.0, status="wrong", found=found, why="it divides by zero")
    why = _fault(value, Counter(used), Counter(nums), target, use_all)
    return Verdict(score=float(not why), status="wrong" if why else "right", found=found, why=why)


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """The exact value of an expression and the integers in it, in order.

    Raises NoExpressionError or ZeroDivisionError.
    """
    if len(text) > MOST_CHARACTERS:
        raise NoExpressionError(f"longer than {MOST_CHARACTERS} characters")
    tokens = _tokens(text.translate(SIGNS).replace("\\times", "*").replace("\\div", "/"))
    used = [int(token) for token in tokens if token.isdigit()]
    tokens.reverse()
    value = _sum(tokens)
    if tokens:
        raise NoExpressionError(f"`{tokens[-1]}` is out of place")
    return value, used


def _tokens(text: str) -> list[str]:
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise NoExpressionError(
                f"`{text[position : position + 10].strip()}` is no integer, sign or parenthesis"
            )
        tokens.append(match[1] or match[2])
        position = match.end()
    return tokens


def _sum(tokens: list[str]) -> Fraction:
    value = _product(tokens)
    while tokens and tokens[-1] in "+-":
        value = value + _product(tokens) if tokens.pop() == "+" else value - _product(tokens)
    return value


def _product(tokens: list[str]) -> Fraction:
    value = _atom(tokens)
    while tokens and tokens[-1] in "*/":
        value = value * _atom(tokens) if tokens.pop() == "*" else value / _atom(tokens)
    return value


def _atom(tokens: list[str]) -> Fraction:
    token = tokens.pop() if tokens else "the end"
    if token.isdigit():
        return Fraction(int(token))
    if token != "(":
        raise NoExpressionError(f"a number was expected before `{token}`")
    value = _sum(tokens)
    if not tokens or tokens.pop() != ")":
        raise NoExpressionError("a parenthesis is not closed")
    return value


def _task(given: Mapping[str, Any]) -> tuple[list[int], int]:
    try:
        return [int(number) for number in given["nums"]], int(given["target"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the problem needs `nums` and `target`, in its answer or its meta") from error


def _last_plain_line(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "=" not in line]
    return lines[-1] if lines else None


def _fault(value: Fraction, used: Counter[int], nums: Counter[int], target: int, use_all: bool) -> str:
    if extra := used - nums:
        return f"{next(iter(extra))} is not given, or used too often"
    if use_all and (left := nums - used):
        return f"{next(iter(left))} is not used"
    return "" if value == target else f"it makes {value}, not {target}"
