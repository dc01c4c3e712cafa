"""Letters: variables with their subscripts, functions of nobody's, constants, products such as xy and ABC."""

from __future__ import annotations

import re

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.cursor import Cursor
from rlvr_verifiers.math.numerals import decimal
from rlvr_verifiers.math.spelling import GREEK
from rlvr_verifiers.math.tokens import FUNCTIONS, Token
from rlvr_verifiers.math.tree import Tree
from rlvr_verifiers.math.units import UNITS

CALLED = frozenset(["f", "g", "h", "F", "G", "H", "P", "Q", "phi", "psi", "Phi", "Psi", "Gamma"])
"""Letters that are applied to what stands in brackets behind them; others are multiplied."""
SAME = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan",
        "cosec": "csc", "arg": "arg", "sgn": "sign", "varphi": "phi", "varepsilon": "epsilon",
        "vartheta": "theta", "varnothing": "emptyset", "ell": "l", "imath": "i", "jmath": "j",
        "varrho": "rho", "hbar": "hbar"}  # fmt: skip
CONSTANTS = {"pi": t.PI, "infty": t.INFINITY, "e": Tree("constant", (), "e"), "i": t.IMAGINARY}
ENGLISH = frozenset((
    "all", "an", "any", "are", "as", "at", "be", "big", "boy", "by", "can", "cat", "day", "did", "do",
    "dog", "few", "for", "go", "had", "has", "he", "her", "his", "if", "in", "is", "it", "its", "man",
    "me", "men", "my", "new", "no", "not", "odd", "of", "old", "on", "one", "out", "red", "set", "six",
    "so", "sum", "ten", "the", "to", "two", "up", "us", "was", "way", "we", "who", "why", "yes", "you",
))  # fmt: skip
"""Short words that are no products."""
PREFIXED = re.compile(r"(arcsin|arccos|arctan|sin|cos|tan|log|ln|sqrt)([a-zA-Z]{1,2})")


def variable(cursor: Cursor, letter: str) -> Tree:
    """A letter with its subscript and primes: a constant, a variable, or a function of what follows."""
    letter = SAME.get(letter, letter)
    primes = 0
    subscript = ""
    while True:
        if cursor.passes("_"):
            inner = cursor.raw() if cursor.passes("{") else cursor.take().value
            subscript = f"_{inner.replace(' ', '')}"
        elif cursor.passes("'"):
            primes += 1
        elif cursor.sees("^") and cursor.ahead().value == "prime":
            cursor.place += 2
            primes += 1
        elif cursor.sees("^") and cursor.ahead(2).value == "prime" and cursor.ahead(3).value == "}":
            cursor.place += 4
            primes += 1
        else:
            break
    if (
        not subscript
        and not primes
        and cursor.token.kind == "number"
        and not cursor.token.spaced
        and cursor.token.value.isdecimal()
    ):
        subscript = f"_{cursor.take().value}"  # x1
    full = letter + subscript + "'" * primes
    if letter in CALLED or (primes and cursor.sees("(")):
        if (
            cursor.sees("^")
            and cursor.ahead().value == "{"
            and cursor.ahead(2).value == "-"
            and cursor.ahead(3).value == "1"
            and cursor.ahead(5).value == "("
        ):
            cursor.place += 5
            full += "^-1"
        if cursor.sees("("):
            cursor.take()
            inner_tree = cursor.inside()
            cursor.expect(")")
            return t.call(full, *(inner_tree.args if inner_tree.head == "list" else (inner_tree,)))
    if _has_number_in_brackets(cursor) and full not in CONSTANTS:
        cursor.place += 3
        return t.call(full, t.number(decimal(cursor.ahead(-2).value)))
    if full in CONSTANTS:
        return CONSTANTS[full]
    return t.name(full)


def _has_number_in_brackets(cursor: Cursor) -> bool:
    """Whether T(10) stands there: a value of T, not ten times T."""
    opened, inside, closed = cursor.token, cursor.ahead(), cursor.ahead(2)
    return opened.value == "(" and not opened.spaced and inside.kind == "number" and closed.value == ")"


def is_product(word: str, cursor: Cursor) -> bool:
    """Whether a run of letters is a product of variables, as in xy and ABC, and no unit or word of prose."""
    if PREFIXED.fullmatch(word) or word in GREEK:
        return True
    if word.lower() in UNITS and (cursor.ahead(-1).kind == "number" or cursor.ahead(-1).value in (")", "}")):
        return False
    if word in ("sq", "cu") or (word[1:].islower() and word.lower() in ENGLISH and not cursor.depth):
        return False
    return len(word) <= 2 or (word.isupper() and len(word) <= 6) or (len(word) == 3 and word.islower())


def split_word(cursor: Cursor) -> None:
    """Make one token a letter of the next word: ab^2 is a times b^2; `sinx` is a function of x."""
    word = cursor.token.value
    match = PREFIXED.fullmatch(word)
    if word in GREEK:
        cursor.replace([Token("command", word)])
    elif match and word not in FUNCTIONS:
        function = "squareroot" if match[1] == "sqrt" else match[1]
        cursor.replace([Token("command", function), *(Token("name", c) for c in match[2])])
    else:
        cursor.replace([Token("name", c) for c in word])
