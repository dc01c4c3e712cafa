"""Values to fifty places at chosen points: what refutes equality, and where all points agree, proves it.

Everything is bounded: a tower of powers, a factorial of a billion or a long sum raises UnboundedError.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from rlvr_verifiers.math.tree import Tree
from rlvr_verifiers.math.values import OutsideError, exact, residue_of

PLACES = 50
MOST_EXPONENT = 10**6
"""Of ten, of the values held."""
MOST_FACTORIAL = 10**6
MOST_TERMS = 500
MOST_WORK = 40_000
"""Nodes evaluated for one decision; one at a higher precision counts as more."""

_local = threading.local()


def refill() -> None:
    """Give this thread the work that one decision may take."""
    _local.left = MOST_WORK


def _spend(work: int) -> None:
    _local.left = getattr(_local, "left", MOST_WORK) - work
    if _local.left < 0:
        raise UnboundedError("too much work")


class UnboundedError(Exception):
    """A value that is too big, or takes too long, to be computed."""


class UndefinedError(Exception):
    """No value there: a pole, a kind of node that has none, a function of nobody."""


def context(places: int) -> Any:
    """mpmath's context of this thread (its global one is shared), at that precision."""
    found = getattr(_local, "context", None)
    if found is None:
        found = _local.context = mpmath.MPContext()
    found.dps = places
    return found


class Evaluator:
    """Evaluates trees at one point."""

    def __init__(self, point: Mapping[str, Fraction], *, places: int = PLACES, is_real: bool = True) -> None:
        """`is_real` takes the real root of odd degree where there is one: the cube root of -8 is -2."""
        self._mp = context(places)
        self._point = point
        self._is_real = is_real
        self._cost = 1 + (places // PLACES) ** 2 // 2
        self.span = [0, 0]
        """The least and the greatest power of two among the values on the way."""

    def value(self, tree: Tree) -> Any:
        """An mpf or mpc; UndefinedError or UnboundedError where there is none."""
        try:
            found = self._value(tree)
        except (ZeroDivisionError, ValueError, OverflowError, mpmath.libmp.ComplexResult) as error:
            raise UndefinedError(str(error)) from error
        if self._mp.isnan(found) or self._mp.isinf(found):
            raise UndefinedError("infinite")
        return found

    def _value(self, tree: Tree) -> Any:
        _spend(self._cost)
        found = self._computed(tree)
        if found:
            size = self._mp.mag(found)
            if isinstance(size, int):
                self.span = [min(self.span[0], size), max(self.span[1], size)]
        return found

    def _computed(self, tree: Tree) -> Any:
        value, mp = tree.value, self._mp
        if isinstance(value, Fraction):
            return mp.mpf(value.numerator) / value.denominator
        match tree.head:
            case "+":
                return mp.fsum([self._value(arg) for arg in tree.args])
            case "*":
                return mp.fprod([self._value(arg) for arg in tree.args])
            case "^":
                return self._power(self._value(tree.args[0]), tree.args[1])
            case "name":
                at = self._point[str(value)] if str(value) in self._point else _undefined(str(value))
                return mp.mpf(at.numerator) / at.denominator
            case "constant":
                return self._constant(str(value))
            case "percent":
                return self._value(tree.args[0]) / 100
            case "degree":
                return self._value(tree.args[0]) * mp.pi / 180
            case "call":
                return self._call(str(value), tree.args)
            case "big":
                return self._big(tree)
        raise UndefinedError(f"a {tree.head} has no value")

    def _constant(self, name: str) -> Any:
        if name == "i":
            return self._mp.mpc(0, 1)
        if name == "infinity":
            raise UndefinedError("infinity")
        return +(self._mp.pi if name == "pi" else self._mp.e)

    def _power(self, base: Any, exponent_tree: Tree) -> Any:
        mp = self._mp
        exponent = self._value(exponent_tree)
        if base == 0:
            if mp.re(exponent) <= 0:
                raise UndefinedError("0 to no positive power")
            return mp.zero
        size = abs(mp.log(abs(base))) * abs(exponent) if abs(base) != 1 else 0
        if size > MOST_EXPONENT * 2.3 or abs(exponent) > mp.mpf(10) ** 30:
            raise UnboundedError("a power too big to hold")
        if mp.isint(exponent):
            return base ** int(mp.re(exponent))
        if mp.im(base) == 0 and mp.re(base) < 0:
            root = _odd_root(exponent_tree) if self._is_real else None
            if root is not None:
                return (-1) ** root.numerator * (-base) ** exponent
        return mp.power(base, exponent)

    def _call(self, function: str, args: tuple[Tree, ...]) -> Any:
        if function == "root":
            return self._power(self._value(args[0]), Tree("^", (args[1], Tree("number", (), Fraction(-1)))))
        known = FUNCTIONS.get(function)
        values = [self._value(arg) for arg in args]
        if known is None:
            return self._unknown(function, values)
        for value in values:
            if abs(value) > MOST_EXPONENT and function not in UNBOUNDED_FREE:
                raise UnboundedError(f"{function} of a value too big")
        try:
            return known(self._mp, *values)
        except TypeError as error:
            raise UndefinedError(f"{function} of {len(values)}") from error

    def _unknown(self, function: str, values: list[Any]) -> Any:
        """A function of nobody's: a fixed cubic of its arguments, the same for the same name."""
        total = self._mp.mpf(residue_of(function, 0) % 1009) / 97
        for place, value in enumerate(values):
            for degree in (1, 2, 3):
                total += (
                    value**degree * (residue_of(f"{function}/{place}/{len(values)}", degree) % 1009) / 101
                )
        return total

    def _big(self, tree: Tree) -> Any:
        body, index, low, high = tree.args
        mp = self._mp
        first, last = self._value(low), self._value(high)
        if not (mp.isint(first) and mp.isint(last)):
            raise UndefinedError("a sum between what is no integer")
        if last - first > MOST_TERMS:
            raise UnboundedError("a long sum")
        outer = self._point
        found = mp.mpf(0) if tree.value == "sum" else mp.mpf(1)
        for step in range(int(first), int(last) + 1):
            self._point = {**outer, str(index.value): Fraction(step)}
            term = self._value(body)
            found = found + term if tree.value == "sum" else found * term
        self._point = outer
        return found


def _undefined(what: str) -> Fraction:
    raise UndefinedError(what)


def _odd_root(exponent: Tree) -> Fraction | None:
    """The exponent as a fraction with an odd denominator; None where it is none."""
    try:
        value = exact(exponent)
    except OutsideError:
        return None
    return value if value.denominator % 2 else None


def _real(mp: Any, value: Any) -> Any:
    if mp.im(value) != 0:
        raise UndefinedError("of a complex value")
    return mp.re(value)


def _factorial(mp: Any, value: Any) -> Any:
    if abs(value) > MOST_FACTORIAL:
        raise UnboundedError("a factorial too big to hold")
    return mp.gamma(value + 1)


def _binomial(mp: Any, n: Any, k: Any) -> Any:
    if abs(n) > MOST_FACTORIAL or abs(k) > MOST_FACTORIAL:
        raise UnboundedError("a binomial too big to hold")
    return mp.binomial(n, k)


def _floor(mp: Any, value: Any) -> Any:
    return mp.floor(_real(mp, value) + mp.mpf(10) ** (-mp.dps // 2))


def _log(mp: Any, value: Any, base: Any = None) -> Any:
    return mp.log(value) if base is None else mp.log(value) / mp.log(base)


def _sign(mp: Any, value: Any) -> Any:
    return mp.sign(_real(mp, value))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: (lambda mp, value, f=f: getattr(mp, f)(value))
        for name, f in {
            "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc",
            "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "coth": "coth", "sech": "sech", "csch": "csch",
            "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec",
            "arccsc": "acsc", "arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh", "exp": "exp",
            "Re": "re", "Im": "im", "bar": "conj", "abs": "fabs", "norm": "fabs", "overline": "conj",
        }.items()
    },
    "cis": lambda mp, value: mp.expj(value),
    "Gamma": lambda mp, value: _factorial(mp, value - 1),
    "ln": _log, "log": _log, "factorial": _factorial, "binomial": _binomial, "floor": _floor,
    "ceil": lambda mp, value: -_floor(mp, -value), "sign": _sign,
    "max": lambda mp, *values: max(_real(mp, value) for value in values),
    "min": lambda mp, *values: min(_real(mp, value) for value in values),
}  # fmt: skip
"""The functions that have values; each name is looked up here and nowhere else."""
UNBOUNDED_FREE = frozenset({"ln", "log", "abs", "norm", "sign", "max", "min", "Re", "Im", "bar", "overline",
                            "floor", "ceil", "arctan"})  # fmt: skip
