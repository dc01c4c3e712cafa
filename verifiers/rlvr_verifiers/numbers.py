"""Numbers as models write them, read exactly: 1,234.50  -3/4  \\frac{1}{2}  10\\%  1.2 \\times 10^{3}."""

from __future__ import annotations

import re
from fractions import Fraction

MOST_CHARACTERS = 400
MOST_EXPONENT = 300
PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
NUMBER = re.compile(rf"[-+]?(?:{PLAIN})(?:[eE][-+]?\d{{1,3}}(?!\d))?")
FRACTION = re.compile(r"([-+]?)\\frac(?:\{([-+]?\d+)\}|(\d))\s*(?:\{([-+]?\d+)\}|(\d))")
SCIENTIFIC = re.compile(rf"([-+]?(?:{PLAIN}))(?:\\times|\\cdot|\*|×)10\^(?:\{{([-+]?\d{{1,3}})\}}|(\d))")
RATIO = re.compile(rf"([-+]?(?:{PLAIN}))/({PLAIN})")
SPACES = re.compile(r"\\[!,;: ]|~|\s+|\{,\}")


def exact_number(text: str) -> Fraction | None:
    """The value of a text that is one number and nothing else; None if it is not.  10% is 1/10."""
    if len(text) > MOST_CHARACTERS:
        return None
    plain = _plain(text)
    per_cent = plain.endswith("%")
    value = _value(plain.removesuffix("%").removesuffix("\\"))
    return value / 100 if per_cent and value is not None else value


def last_number(text: str) -> Fraction | None:
    """The last number in a text; None if there is none, or none that can be held."""
    matches = list(NUMBER.finditer(text))
    if not matches:
        return None
    last = matches[-1]
    # A hyphen behind a word or digit joins or subtracts; it is no sign.
    joined = (
        last[0][0] in "-+"
        and last.start() > 0
        and (text[last.start() - 1].isalnum() or text[last.start() - 1] == ")")
    )
    value = _decimal(last[0][1:] if joined else last[0])
    per_cent = re.match(r"\s*\\?%", text[last.end() :])
    return value / 100 if per_cent and value is not None else value


def _plain(text: str) -> str:
    """Without dollar signs, LaTeX spacing, and the spaces and braces that group thousands."""
    text = (
        text.strip()
        .replace("\\$", "")
        .replace("$", "")
        .replace("−", "-")
        .replace("\\left", "")
        .replace("\\right", "")
    )
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    if re.fullmatch(r"[-+]?\d{1,3}(?:(?: |\\ |\\,|\{,\}|,\\!)\d{3})+(?:\.\d+)?", text):
        text = re.sub(r"[ \\,!{}]", "", text)
    tight = re.sub(r"(?<=[\d,])\s+(?=\d)", "_", text)  # 1 2 is not 12, nor is 32, 349 a thousand
    return SPACES.sub("", tight)


def _value(plain: str) -> Fraction | None:
    if NUMBER.fullmatch(plain):
        return _decimal(plain)
    if match := RATIO.fullmatch(plain):
        return _divided(_decimal(match[1]), _decimal(match[2]))
    if match := FRACTION.fullmatch(plain):
        value = _divided(_decimal(match[2] or match[3]), _decimal(match[4] or match[5]))
        return -value if match[1] == "-" and value is not None else value
    if match := SCIENTIFIC.fullmatch(plain):
        mantissa, exponent = _decimal(match[1]), int(match[2] or match[3])
        return (
            mantissa * Fraction(10) ** exponent
            if mantissa is not None and abs(exponent) <= MOST_EXPONENT
            else None
        )
    return None


def _decimal(literal: str) -> Fraction | None:
    if len(literal) > MOST_CHARACTERS:
        return None
    mantissa, _, exponent = literal.lower().replace(",", "").partition("e")
    if exponent and abs(int(exponent)) > MOST_EXPONENT:
        return None
    whole = mantissa.rstrip(".")
    return Fraction(f"{whole}e{exponent}" if exponent else whole)


def _divided(above: Fraction | None, below: Fraction | None) -> Fraction | None:
    return above / below if above is not None and below else None
