"""Numerators of rational equations: sparse polynomials over the rationals, up to a factor."""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math.tree import Tree, canonical, show
from rlvr_verifiers.math.values import OutsideError, exact

Monomial = tuple[tuple[str, int], ...]
Polynomial = dict[Monomial, Fraction]

MOST_TERMS = 400
MOST_DEGREE = 60
ONE: Polynomial = {(): Fraction(1)}


def numerator(tree: Tree) -> Polynomial | None:
    """The numerator over a common denominator, its first coefficient 1; None where it grows too big.

    What is no polynomial, a root or a sine, counts as a variable of its own.
    """
    try:
        above, _ = _fraction(canonical(tree))
    except OutsideError:
        return None
    if not above:
        return above
    lead = above[max(above)]
    return {monomial: value / lead for monomial, value in above.items()}


def _fraction(tree: Tree) -> tuple[Polynomial, Polynomial]:
    if tree.head == "number" and isinstance(tree.value, Fraction):
        return ({(): tree.value} if tree.value else {}), ONE
    if tree.head == "+":
        above, below = _fraction(tree.args[0])
        for arg in tree.args[1:]:
            up, down = _fraction(arg)
            above, below = (_sum(above, up), below) if below == down else (
                _sum(_product(above, down), _product(up, below)), _product(below, down)
            )  # fmt: skip
        return above, below
    if tree.head == "*":
        above, below = ONE, ONE
        for arg in tree.args:
            up, down = _fraction(arg)
            above, below = _product(above, up), _product(below, down)
        return above, below
    if tree.head == "^":
        try:
            exponent = exact(tree.args[1])
        except OutsideError:
            exponent = Fraction(1, 2)
        if exponent.denominator == 1 and abs(exponent) <= MOST_DEGREE:
            above, below = _fraction(tree.args[0])
            if exponent < 0:
                above, below = below, above
            return _power(above, abs(int(exponent))), _power(below, abs(int(exponent)))
    return {((show(tree), 1),): Fraction(1)}, ONE


def _sum(one: Polynomial, other: Polynomial) -> Polynomial:
    found = dict(one)
    for monomial, value in other.items():
        total = found.get(monomial, Fraction(0)) + value
        if total:
            found[monomial] = total
        else:
            found.pop(monomial, None)
    return found


def _product(one: Polynomial, other: Polynomial) -> Polynomial:
    if len(one) * len(other) > MOST_TERMS**2 // 4:
        raise OutsideError
    found: Polynomial = {}
    for left, a in one.items():
        for right, b in other.items():
            powers = dict(left)
            for variable, degree in right:
                powers[variable] = powers.get(variable, 0) + degree
            if sum(powers.values()) > MOST_DEGREE:
                raise OutsideError
            monomial = tuple(sorted(powers.items()))
            found[monomial] = found.get(monomial, Fraction(0)) + a * b
    if len(found) > MOST_TERMS:
        raise OutsideError
    return {monomial: value for monomial, value in found.items() if value}


def _power(base: Polynomial, exponent: int) -> Polynomial:
    found = ONE
    for _ in range(exponent):
        found = _product(found, base)
    return found
