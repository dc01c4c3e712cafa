"""Tokens of an answer in plain LaTeX, ASCII mathematics or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlvr_verifiers.math.spelling import THOUSANDS
from rlvr_verifiers.math.tree import UnreadableError
from rlvr_verifiers.math.units import UNITS

Kind: TypeAlias = Literal["number", "name", "command", "word", "text", "sign", "end"]

MOST_TOKENS = 3000
FUNCTIONS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch", "arcsin",
    "arccos", "arctan", "arccot", "arcsec", "arccsc", "arsinh", "arcosh", "artanh", "asin", "acos",
    "atan", "exp", "ln", "log", "lg", "max", "min", "gcd", "lcm", "sqrt", "squareroot", "cis", "cbrt",
    "abs", "floor", "ceil", "deg", "det", "sgn", "sign", "Re", "Im", "arg", "tg", "ctg", "arctg",
    "cosec",
))  # fmt: skip
WORDS = frozenset(["and", "or", "pi", "inf", "infinity", "oo", "infty"])
"""Read outside of \\text as what they say."""

NUMBER = re.compile(
    rf"(?:\d{{1,3}}(?:{THOUSANDS}\d{{3}})+(?!\d)|\d{{1,3}}(?:,\d{{3}})+(?![\d,])|\d+)(?:\.\d*)?(?:[Ee][-+]?\d+|E\d+)?"
    r"|\.\d+"
)
PLAIN = re.compile(rf"(?:\d+(?:{THOUSANDS}\d{{3}})*)(?:\.\d*)?|\.\d+")
COMMAND = re.compile(r"\\([a-zA-Z]+|\\|.)", re.DOTALL)
LETTERS = re.compile(r"[^\W\d_]+")
ARGUMENT = re.compile(r"\s*\{([^{}]*)\}")
TEXTS = frozenset(
    [
        "text",
        "textbf",
        "textit",
        "textrm",
        "textsf",
        "texttt",
        "mbox",
        "mathrm",
        "operatorname",
        "emph",
        "hbox",
        "textnormal",
    ]
)
JOINTS = re.compile(r"\s*(;|,|\b(?:and|or)\b)\s*")
UNIT_LETTERS = frozenset("mgshlLNJWVK")
"""Units of one letter; they are read so only in \\text behind a number."""
QUOTIENT = re.compile(r"\s*[a-zA-Z]{1,3}\s*(?:/\s*[a-zA-Z]{1,3}(?:\^\{?\d\}?)?\s*)+")
CLOCK = re.compile(r"\s*[aApP]\.?\s?[mM]\.?\s*")


@dataclass(frozen=True, slots=True)
class Token:
    """One token."""

    kind: Kind
    """What it is."""
    value: str
    """Its text: a command without its backslash."""
    spaced: bool = False
    """Whether space stood before it."""


END = Token("end", "")
BRACE = Token("command", "{")


def tokens(text: str, *, grouped: bool = True) -> list[Token]:
    """The tokens of `text`; `grouped` reads 1,234 as one number.  UnreadableError: there are too many."""
    found: list[Token] = []
    _read(text, grouped, found)
    _separate(found)
    return found


def _separate(found: list[Token]) -> None:
    r"""Make `\mid` of the bar in \{x | ...}, \{x \in R | ...} and \{(x, y) | ...}: it opens no |...|."""
    for start, token in enumerate(found):
        if token.value != "{" or (token.kind == "sign" and not _opens_builder(found, start)):
            continue
        depth = 0
        for place in range(start + 1, min(start + 16, len(found))):
            value = found[place].value
            depth += (value in "([{") - (value in ")]}") if value else 0
            if depth < 0 or (value == "}" and not depth):
                break
            if value in ("|", "mid", ":") and not depth and place > start + 1:
                found[place] = Token("command", "mid", found[place].spaced)
                break
            if value in ("<", ">", "=", ",") and not depth:
                break


def _opens_builder(found: list[Token], start: int) -> bool:
    """Make a set of {x | x > 1} in plain braces."""
    before = found[start - 1].value if start else ""
    bars = [token.value in ("|", "mid") for token in found[start + 2 : start + 3]]
    if before in ("^", "_") or not any(bars) or found[start + 1].kind != "name":
        return False
    depth = 0
    for place in range(start, len(found)):
        depth += (found[place].value == "{") - (found[place].value == "}")
        if not depth:
            found[start], found[place] = BRACE, Token("command", "}")
            return True
    return False


def _read(text: str, grouped: bool, found: list[Token]) -> None:
    place, number = 0, NUMBER if grouped else PLAIN
    spaced = True
    while place < len(text):
        if len(found) > MOST_TOKENS:
            raise UnreadableError(f"more than {MOST_TOKENS} tokens")
        char = text[place]
        if char.isspace():
            spaced, place = True, place + 1
            continue
        if char == "\\" and (match := COMMAND.match(text, place)):
            place = _command(text, match, spaced, grouped, found)
        elif char.isdecimal() or char == ".":
            place = _number(text, place, number, spaced, found)
        elif match := LETTERS.match(text, place):
            _letters(match[0], spaced, found)
            place = match.end()
        else:
            two = text[place : place + 2]
            if two in ("<=", ">=", "!=", "=>", "->", "==", ":="):
                found.append(Token("sign", {"==": "=", ":=": "="}.get(two, two), spaced))
                place += 2
            else:
                found.append(Token("sign", char, spaced))
                place += 1
        spaced = False


def _number(text: str, place: int, number: re.Pattern[str], spaced: bool, found: list[Token]) -> int:
    if text.startswith("...", place):
        found.append(Token("command", "ldots", spaced))
        return place + 3
    match = number.match(text, place)
    if match is None:
        found.append(Token("sign", ".", spaced))
        return place + 1
    literal, end = match[0], match.end()
    if literal.endswith(".") and text.startswith("..", end):  # 1, 2, 3... is a list that goes on
        literal, end = literal[:-1], end - 1
    found.append(Token("number", literal.replace(",", "").replace(THOUSANDS, ""), spaced))
    return end


def _command(text: str, match: re.Match[str], spaced: bool, grouped: bool, found: list[Token]) -> int:
    name, place = match[1], match.end()
    if name in ("mathbb", "begin", "end") or name in TEXTS:
        argument = ARGUMENT.match(text, place)
        if argument is None:
            if name in TEXTS:  # braces inside, or none: what stands there is read as it is
                return place
            raise UnreadableError(f"\\{name} without its braces")
        if name in TEXTS:
            _text(argument[1], spaced, grouped, found)
        else:
            found.append(Token("command", f"{name}:{argument[1].strip()}", spaced))
        return argument.end()
    found.append(Token("command", name, spaced))
    return place


def _text(content: str, spaced: bool, grouped: bool, found: list[Token]) -> None:
    """What stands in \\text: mathematics where it has no word but a function or a letter, else text."""
    letters = LETTERS.findall(content)
    if CLOCK.fullmatch(content):
        found.append(Token("text", content.strip().replace(".", ""), spaced))
        return
    unit = content.strip()
    follows = bool(found) and (found[-1].kind == "number" or found[-1].value in (")", "}"))
    if follows and (unit in UNITS or unit in UNIT_LETTERS or QUOTIENT.fullmatch(content)):
        found.append(Token("text", unit, True))
        return
    if all(len(word) == 1 or word in FUNCTIONS or word in WORDS for word in letters):
        before = len(found)
        _read(content, grouped, found)
        if len(letters) == 1 and len(found) == before + 1 and found[-1].kind == "name":
            found[-1] = Token("name", found[-1].value, spaced)
        return
    for part in JOINTS.split(content):  # "circle and line" is a list of two
        if part in (",", ";"):
            found.append(Token("sign", part, True))
        elif part in ("and", "or"):
            found.append(Token("command", part, True))
        elif part.strip():
            found.append(Token("text", part.strip(), spaced))


def is_ordinal(number: str, suffix: str) -> bool:
    """Whether 1st, 2nd, 3rd, 4th, 11th is spelt there."""
    last = number[-1:] if number[-2:-1] != "1" else "0"
    return number.isdecimal() and suffix == {"1": "st", "2": "nd", "3": "rd"}.get(last, "th")


def _letters(letters: str, spaced: bool, found: list[Token]) -> None:
    """A run of letters: a function, a word, or one variable a letter."""
    if letters == "sqrt":  # sqrt22 is the root of 22, \sqrt22 twice that of 2
        found.append(Token("command", "squareroot", spaced))
        return
    if not spaced and len(found) == 1 and found[0].kind == "number" and is_ordinal(found[0].value, letters):
        return  # 15th is 15
    if len(letters) == 1:
        found.append(Token("name", letters, spaced))
    elif letters in FUNCTIONS or letters in WORDS:
        found.append(
            Token(
                "command", {"inf": "infty", "infinity": "infty", "oo": "infty"}.get(letters, letters), spaced
            )
        )
    else:
        found.append(Token("word", letters, spaced))
