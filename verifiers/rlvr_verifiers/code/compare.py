"""Whether what a program gave is what was expected: decided here, on plain values, never by the program.

Printed text is compared whole: white space at the end of lines and empty lines at the end do not count, all
else does.  Numbers may differ only where the problem states a tolerance, and one of both is a float:
|got - expected| <= tolerance * max(1, |expected|); in printed text word by word, in the same lines.
"""

from __future__ import annotations

import math
import re
from typing import Any

SHOWN = 120
"""Characters of a value in a message."""


def same_value(got: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether a value equals the expected one, as `==` has it; with a tolerance, its floats nearly."""
    if not tolerance:
        return bool(got == expected)
    if _is_number(got) and _is_number(expected) and float in (type(got), type(expected)):
        return is_near(got, expected, tolerance)
    if isinstance(expected, list | tuple):
        return (
            type(got) is type(expected)
            and len(got) == len(expected)
            and all(same_value(one, other, tolerance) for one, other in zip(got, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and got.keys() == expected.keys()
            and all(same_value(got[key], value, tolerance) for key, value in expected.items())
        )
    return bool(got == expected)


def same_output(got: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether a text was printed as expected."""
    ours, theirs = _lines(got), _lines(expected)
    if not tolerance:
        return ours == theirs
    return len(ours) == len(theirs) and all(
        _same_words(one.split(), other.split(), tolerance) for one, other in zip(ours, theirs, strict=True)
    )


def as_json(value: Any) -> Any:
    """A value as JSON would hold it: tuples are lists, keys are texts."""
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else shown(key): as_json(item) for key, item in value.items()}
    return value


def is_near(got: Any, expected: Any, tolerance: float) -> bool:
    """Whether two numbers are as near as the tolerance says; NaN is near nothing."""
    try:
        return bool(
            got == expected
            or (math.isfinite(expected) and abs(got - expected) <= tolerance * max(1.0, abs(expected)))
        )
    except (ArithmeticError, TypeError, ValueError):
        return False


def shown(value: Any, most: int = SHOWN) -> str:
    """A value for a person, cut in its middle where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"<a {type(value).__name__} of many digits>"
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[-(most // 3) :]}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_words(ours: list[str], theirs: list[str], tolerance: float) -> bool:
    return len(ours) == len(theirs) and all(
        one == other or _near_words(one, other, tolerance) for one, other in zip(ours, theirs, strict=True)
    )


def _near_words(one: str, other: str, tolerance: float) -> bool:
    """Whole numbers are near nothing but themselves."""
    if not re.search(r"[.e]", f"{one}{other}", re.I):
        return False
    try:
        got, expected = float(one), float(other)
    except ValueError:
        return False
    return math.isfinite(got) and is_near(got, expected, tolerance)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
