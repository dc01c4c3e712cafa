"""Sums, products and powers: the operators of an expression, from the loosest to the tightest."""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.atoms import argument, atom, starts_atom
from rlvr_verifiers.math.commands import EMPTY
from rlvr_verifiers.math.cursor import Cursor
from rlvr_verifiers.math.numerals import based
from rlvr_verifiers.math.tokens import is_ordinal
from rlvr_verifiers.math.tree import Tree, UnreadableError

SETS = {"cup": "union", "cupdot": "union", "sqcup": "union", "bigcup": "union", "cap": "intersection",
        "setminus": "minus", "backslash": "minus"}  # fmt: skip
SET_HEADS = frozenset({"set", "builder", "union", "intersection", "minus"})
CURRENCIES = {"dollar": "dollar", "euro": "euro", "pounds": "gbp", "yen": "yen", "rupee": "rupee"}
PREFIXES = {"rs": "rupee", "usd": "dollar", "eur": "euro", "inr": "rupee", "gbp": "gbp"}
OPERATORS = ("oplus", "otimes", "circ")
DOTS = ("cdot", "times", "ast", "*")


def ratio(cursor: Cursor) -> Tree:
    """a : b : c, or one union; an amount of money."""
    if (
        cursor.token.kind == "word"
        and cursor.token.value.lower() in PREFIXES
        and cursor.ahead(1 + (cursor.ahead().value == ".")).kind == "number"
    ):
        unit = PREFIXES[cursor.take().value.lower()]
        cursor.passes(".")
        return Tree("quantity", (sum_(cursor),), unit)
    if cursor.sees(*CURRENCIES) or (cursor.sees("-") and cursor.ahead().value in CURRENCIES):
        is_negative = cursor.passes("-")
        currency = CURRENCIES[cursor.take().value]
        amount = sum_(cursor)
        return Tree("quantity", (t.negative(amount) if is_negative else amount,), currency)
    parts = [_union(cursor)]
    while cursor.ahead().kind != "end" and (cursor.sees(":", "colon") or _says_to(cursor)):
        cursor.take()
        parts.append(_union(cursor))
    return parts[0] if len(parts) == 1 else Tree("ratio", tuple(parts))


def _says_to(cursor: Cursor) -> bool:
    """3 to 5 is a ratio."""
    is_to = cursor.token.kind in ("word", "text") and cursor.token.value.strip() == "to"
    return is_to and cursor.ahead().kind == "number"


def _union(cursor: Cursor) -> Tree:
    left = sum_(cursor)
    while True:
        token = cursor.token
        if token.kind == "command" and token.value in SETS:
            head = SETS[cursor.take().value]
        elif token.kind == "name" and token.value == "U" and left.head in ("group", "union"):
            head = "union"
            cursor.take()
        else:
            return left
        left = Tree(head, (left, sum_(cursor)))


def sum_(cursor: Cursor) -> Tree:
    """Terms with their signs."""
    left = None
    while True:
        sign = ""
        while cursor.sees("+", "-", "pm", "mp"):
            taken = cursor.take().value
            sign = {"": taken, "+": taken, "-": "-" if taken == "+" else "+"}.get(sign, taken)
        if left is not None and not sign:
            return left
        term = product(cursor)
        if sign == "-":
            if left is not None and (left.head in SET_HEADS or term.head in SET_HEADS):
                left = Tree("minus", (left, term))
                continue
            term = t.negative(term)
        elif sign in ("pm", "mp"):
            term = Tree("plus-minus", (term,), sign)
        left = term if left is None else t.plus(*(left.args if left.head == "+" else (left,)), term)


def product(cursor: Cursor) -> Tree:
    """Factors joined by signs or by nothing."""
    left = _adjacent(cursor)
    while True:
        if cursor.passes(*DOTS):
            left = t.times(*(left.args if left.head == "*" else (left,)), _signed(cursor))
        elif cursor.passes("/", "div"):
            below = _signed(cursor)
            if below.head == "*" and _is_number(left) and _is_number(below.args[0]):
                left = t.times(t.over(left, below.args[0]), *below.args[1:])  # 1/2 x is a half of x
            else:
                left = t.over(left, below)
        elif cursor.sees(*OPERATORS):
            left = t.call(cursor.take().value, left, _signed(cursor))
        elif cursor.sees("%"):
            cursor.take()
            left = Tree("percent", (left,))
        else:
            return left


def _is_number(tree: Tree) -> bool:
    return tree.head == "number"


def _signed(cursor: Cursor) -> Tree:
    if cursor.passes("-"):
        return t.negative(_signed(cursor))
    cursor.passes("+")
    return _adjacent(cursor)


def _adjacent(cursor: Cursor) -> Tree:
    """Factors with nothing between them."""
    factors = [power(cursor)]
    while starts_atom(cursor):
        token = cursor.token
        if token.kind == "number" and factors[-1].head == "number":
            raise UnreadableError("two numbers side by side")
        if token.kind == "name" and token.value == "U" and factors[-1].head == "group":
            break
        if factors[-1].head in ("group", "dots") or factors[-1] == EMPTY:
            break
        if token.value == "(" and (
            cursor.ahead().value in ("mod", "bmod", "pmod") or cursor.opens_relation()
        ):
            break
        if token.value == "{" and factors[-1].head == "number" and cursor.ahead().kind == "number":
            raise UnreadableError("braces behind a number")
        factors.append(power(cursor))
    return t.times(*factors)


def power(cursor: Cursor) -> Tree:
    """A factor with its exponents, factorials and marks."""
    base = atom(cursor)
    while True:
        if cursor.passes("!"):
            base = t.call("factorial", base)
        elif cursor.passes("%"):
            base = Tree("percent", (base,))
        elif cursor.sees("^"):
            cursor.take()
            base = _raised(cursor, base)
        elif cursor.passes("degree", "degrees"):
            base = _minutes(cursor, base)
        elif cursor.sees("_") and base.head == "number":
            cursor.take()
            base = based(cursor, str(base.value))
        elif cursor.passes("_"):
            base = t.call(f"_{cursor.raw() if cursor.passes('{') else cursor.take().value}", base)
        elif cursor.sees("'") and base.head in ("call", "group"):
            cursor.take()
            base = t.call("prime", base)
        else:
            return base


def _minutes(cursor: Cursor, degrees: Tree) -> Tree:
    """Degrees with the minutes and seconds behind them: 37 degrees 30' 36''."""
    for share in (60, 3600):
        marks = [cursor.ahead(place).value for place in range(1, 5)]
        if cursor.token.kind != "number":
            break
        if marks[0] == "'" and (share == 60 or marks[1] == "'"):
            behind = 1 if share == 60 else 2
        elif marks[:2] == ["^", "prime"]:
            behind = 2
        else:
            break
        degrees = t.plus(degrees, t.number(Fraction(cursor.take().value) / share))
        cursor.place += behind
    return Tree("degree", (degrees,))


def _raised(cursor: Cursor, base: Tree) -> Tree:
    token = cursor.token
    if token.value in ("circ", "degree"):
        cursor.take()
        return _minutes(cursor, base)
    if token.kind == "sign" and token.value == "{":
        inner = cursor.ahead()
        if inner.value in ("circ", "degree") and cursor.ahead(2).value == "}":
            cursor.place += 3
            return _minutes(cursor, base)
        if (
            base.head == "number"
            and is_ordinal(str(base.value), inner.value)
            and cursor.ahead(2).value == "}"
        ):
            cursor.place += 3
            return base
    if base.head == "number" and is_ordinal(str(base.value), token.value):
        cursor.take()
        return base
    if (
        base.head == "group"
        and token.value in ("T", "top", "{")
        and (token.value != "{" or cursor.ahead().value in ("T", "top"))
    ):
        cursor.place += 3 if token.value == "{" else 1
        return Tree("group", base.args, "()")
    if token.value in ("top", "prime"):
        return t.call(cursor.take().value, base)
    if token.value == "*" or (token.value in ("+", "-") and cursor.ahead().kind == "end"):
        return t.call(f"^{cursor.take().value}", base)
    if cursor.passes("-"):
        return t.power(base, t.negative(power(cursor)))
    exponent = atom(cursor) if token.kind == "number" else argument(cursor)  # 4^10 is no 4^1 0
    if cursor.sees("^"):
        cursor.take()
        exponent = _raised(cursor, exponent)
    return t.power(base, exponent)
