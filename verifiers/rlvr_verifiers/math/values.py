"""Exact values: rationals, and rational functions at points modulo a prime (Schwartz, JACM 1980, lemma 1).

Two rational functions of degree d that differ agree at a random point with a chance of d / 2^61 at most:
three agreeing points are proof enough, one differing point is a proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from rlvr_verifiers.math.tree import Tree

PRIME = 2**61 - 1
MOST_BITS = 30_000
MOST_FACTORIAL = 1000
POINTS = 3


class OutsideError(Exception):
    """A tree that this kind of value does not reach."""


def exact(tree: Tree) -> Fraction:
    """The rational that a tree without variables is; OutsideError where it is none or too big to hold."""
    value = tree.value
    if isinstance(value, Fraction):
        return value
    args = tree.args
    match tree.head:
        case "+":
            return sum(map(exact, args), Fraction(0))
        case "*":
            product = Fraction(1)
            for arg in args:
                product *= exact(arg)
                _refuse_big(product)
            return product
        case "^":
            return _power(exact(args[0]), exact(args[1]))
        case "percent":
            return exact(args[0]) / 100
        case "call" if value in EXACT:
            try:
                return EXACT[str(value)](*map(exact, args))
            except TypeError as error:
                raise OutsideError from error
    raise OutsideError


def _refuse_big(value: Fraction) -> None:
    if value.numerator.bit_length() + value.denominator.bit_length() > MOST_BITS:
        raise OutsideError


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        raise OutsideError
    bits = base.numerator.bit_length() + base.denominator.bit_length()
    if abs(exponent) * bits > MOST_BITS:
        raise OutsideError
    return base ** int(exponent)


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MOST_FACTORIAL:
        raise OutsideError
    found = 1
    for factor in range(2, int(value) + 1):
        found *= factor
    return Fraction(found)


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= MOST_FACTORIAL:
        raise OutsideError
    found = Fraction(1)
    for i in range(int(min(k, n - k))):
        found = found * (n - i) / (i + 1)
    return found


def _floor(value: Fraction) -> Fraction:
    return Fraction(value.numerator // value.denominator)


EXACT: dict[str, Callable[..., Fraction]] = {
    "factorial": _factorial,
    "binomial": _binomial,
    "floor": _floor,
    "ceil": lambda value: -_floor(-value),
    "abs": abs,
    "max": lambda *values: max(values),
    "min": lambda *values: min(values),
}


def differ_modulo(one: Tree, other: Tree) -> bool:
    """Whether two rational functions differ; OutsideError where one is none, or has a pole at every point."""
    for point in range(POINTS):
        try:
            if _residue(one, point) != _residue(other, point):
                return True
        except ZeroDivisionError as error:
            raise OutsideError from error
    return False


def _residue(tree: Tree, point: int) -> int:
    value = tree.value
    if isinstance(value, Fraction):
        return value.numerator * _inverse(value.denominator) % PRIME
    match tree.head:
        case "name":
            return residue_of(str(value), point)
        case "+":
            return sum(_residue(arg, point) for arg in tree.args) % PRIME
        case "*":
            product = 1
            for arg in tree.args:
                product = product * _residue(arg, point) % PRIME
            return product
        case "^":
            return _residue_power(tree, point)
        case "percent":
            return _residue(tree.args[0], point) * _inverse(100) % PRIME
    raise OutsideError


def _residue_power(tree: Tree, point: int) -> int:
    exponent = exact(tree.args[1])
    if exponent.denominator != 1:
        raise OutsideError
    base = _residue(tree.args[0], point)
    if base == 0 and exponent <= 0:
        raise OutsideError
    return pow(base, int(exponent), PRIME) if exponent >= 0 else pow(_inverse(base), -int(exponent), PRIME)


def _inverse(value: int) -> int:
    if value % PRIME == 0:
        raise ZeroDivisionError
    return value if value == 1 else pow(value, -1, PRIME)


@lru_cache(maxsize=4096)
def residue_of(name: str, point: int) -> int:
    """The same value for the same variable and point, under any hash seed."""
    digest = hashlib.blake2b(f"{point}:{name}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (PRIME - 2) + 2
