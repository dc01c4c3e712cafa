"""Numbers as they are written: decimals, repeating ones, mixed numbers, digits in a base."""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.cursor import Cursor
from rlvr_verifiers.math.tree import Tree, UnreadableError

MOST_DIGITS = 4000
MOST_EXPONENT = 5000
BASES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip


def numeral(cursor: Cursor) -> Tree:
    """A number, with what belongs to it: a period, a base, the fraction of a mixed number."""
    literal = cursor.take().value
    if "." in literal and (repeated := _repeating(cursor, literal)) is not None:
        return t.number(repeated)
    if cursor.sees("_") and literal.isdecimal():
        cursor.take()
        return based(cursor, literal)
    value = decimal(literal)
    return _mixed(cursor, value) if literal.isdecimal() else t.number(value)


def based(cursor: Cursor, digits: str) -> Tree:
    """The base behind the underscore just passed; UnreadableError where it is none."""
    base = cursor.raw() if cursor.passes("{") else cursor.take().value
    base = base.strip("() ").casefold()
    base = str(BASES.index(base)) if base in BASES else base
    if not base.isdecimal() and len(base) != 1:
        raise UnreadableError(f"{base!r} is no base")
    return Tree("based", (), f"{digits}_{base}")


def decimal(literal: str) -> Fraction:
    """The value of a literal; UnreadableError where it is too long to hold."""
    mantissa, mark, exponent = literal.upper().partition("E")
    if len(literal) > MOST_DIGITS or (mark and abs(int(exponent)) > MOST_EXPONENT):
        raise UnreadableError("a number too long to read")
    whole = mantissa.rstrip(".") or "0"
    return Fraction(f"{whole}E{exponent}" if mark else whole)


def _mixed(cursor: Cursor, whole: Fraction) -> Tree:
    r"""1 1/2 and 1\frac12 are 3/2: a whole number and a proper fraction of two whole numbers."""
    token = cursor.token
    if (
        token.kind == "number"
        and token.spaced
        and cursor.ahead().value == "/"
        and cursor.ahead(2).kind == "number"
    ):
        upper, lower = token.value, cursor.ahead(2).value
        if upper.isdecimal() and lower.isdecimal() and int(lower) > int(upper) > 0:
            cursor.place += 3
            return t.number(whole + Fraction(int(upper), int(lower)))
    if cursor.ahead(-2).value != "^" and (digits := _plain_fraction(cursor)):
        above, below, length = digits
        if below > above > 0:
            cursor.place += length
            return t.number(whole + Fraction(above, below))
    return t.number(whole)


def _plain_fraction(cursor: Cursor) -> tuple[int, int, int] | None:
    r"""Above, below and the tokens of \frac{1}{2} or \frac12; nothing is parsed, and so nothing twice."""
    if not cursor.sees("frac"):
        return None
    ahead = [cursor.ahead(place) for place in range(1, 7)]
    values = [token.value for token in ahead]
    if values[0] == values[3] == "{" and values[2] == values[5] == "}":
        above, below, length = values[1], values[4], 7
    elif ahead[0].kind == "number" and len(values[0]) == 2:
        above, below, length = values[0][0], values[0][1], 2
    else:
        return None
    if not (above.isdecimal() and below.isdecimal()):
        return None
    return int(above), int(below), length


def _repeating(cursor: Cursor, literal: str) -> Fraction | None:
    r"""0.\overline{3}, 0.(3), 0.1\dot{6}, 0.333... and 0.1666 repeating, exactly."""
    tail = literal.partition(".")[2]
    if cursor.sees("overline", "bar", "dot") and cursor.ahead().value == "{":
        cursor.take(), cursor.take()
        period = cursor.raw()
        if cursor.token.kind == "number" and cursor.ahead().value == "dot":
            period += cursor.take().value
        if cursor.passes("dot"):
            cursor.expect("{")
            period += cursor.raw()
        return _periodic(literal, period)
    if (
        cursor.sees("(")
        and not cursor.token.spaced
        and cursor.ahead(2).value == ")"
        and cursor.ahead().value.isdecimal()
    ):
        period = cursor.ahead().value
        cursor.place += 3
        return _periodic(literal, period)
    if cursor.sees("ldots", "dots", "cdots") or (
        cursor.token.kind in ("word", "text") and cursor.token.value.startswith("repeat")
    ):
        for length in range(1, len(tail) // 2 + 1):
            period = tail[-length:]
            if tail.endswith(period * 2) and len(tail) >= 3:
                cursor.take()
                return _periodic(literal[:-length], period)
        raise UnreadableError("a decimal that goes on without repeating")
    return None


def _periodic(literal: str, period: str) -> Fraction:
    if not period.isdecimal() or len(literal) + len(period) > MOST_DIGITS:
        raise UnreadableError(f"{period!r} is no period")
    places = len(literal.partition(".")[2])
    return decimal(literal) + Fraction(int(period), (10 ** len(period) - 1) * 10**places)
