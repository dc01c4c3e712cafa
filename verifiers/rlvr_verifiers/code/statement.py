"""What the text of a contest's problem says of its answers: precision, letters, one or several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PRECISION = re.compile(
    r"(?:absolute|relative)[^.\n]{0,60}(?:error|difference)[^.\n]{0,100}?10\s*\^\s*\{?\s*-\s*(\d{1,2})", re.I
)
ANY_CASE = re.compile(r"\bin any (?:letter )?(?:case|register)\b", re.I)
KIND = r"(?:possible|valid|correct|optimal|suitable|such)"
ANY_ANSWER = re.compile(
    r"(?:print|output|find|report|return|accept)\w*[^.\n]{0,20} any(?: one)?"
    rf"(?: of (?:them|these)| {KIND}|[.;,]|$)"
    rf"|(?:multiple|several|more than one) (?:{KIND} )?(?:answers?|solutions?)[^.\n]{{0,60}}\bany\b",
    re.I | re.M,
)
INTERACTIVE = re.compile(r"\b(?:interactive problem|flush(?:ing)? (?:the )?output|fflush|interactor)\b", re.I)
CHECKERS = ("checker", "generated_checker", "special_judge", "spj", "interactor", "interaction_format")
"""Fields of a row that has a program of its own to judge with."""


def precision(text: str) -> float | None:
    """The error that the text allows in numbers; None where it allows none."""
    found = PRECISION.search(text)
    return 10.0 ** -int(found[1]) if found else None


def is_caseless(text: str) -> bool:
    """Whether words may be printed in any case."""
    return ANY_CASE.search(text) is not None


def checker(fields: Mapping[str, Any]) -> str:
    """The field that holds what judges the output; empty where there is none."""
    return next((name for name in CHECKERS if fields.get(name)), "")


def several(text: str) -> str:
    """The words by which more than one output seems to be right; empty where there are none.  A guess."""
    found = ANY_ANSWER.search(text) or INTERACTIVE.search(text)
    return " ".join(found[0].split()) if found else ""
