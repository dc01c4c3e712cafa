"""Whether two expressions are equal: same spelling, exact values, values modulo a prime, values at points.

Points refute for certain.  They prove as any identity test by evaluation does: two different elementary
functions that agree to thirty places at every chosen point are not met by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from rlvr_verifiers.math.numeric import PLACES, Evaluator, UnboundedError, UndefinedError, context
from rlvr_verifiers.math.tree import Tree, canonical, names, replaced
from rlvr_verifiers.math.tree import number as number_tree
from rlvr_verifiers.math.values import OutsideError, differ_modulo, exact, residue_of

WHOLE = frozenset(["n", "k", "m", "j", "l", "N"])
"""Letters for whole numbers where only those make the two equal, as in cos(n pi) = (-1)^n."""
SCALES = ((1, 3, 1), (0, 1, 1), (1, 4, -1), (2, 9, 1), (0, 1, -1), (1, 2, 0), (5, 30, 1), (0, 3, 0))
WIDE = ((100, 5000, 0), (10, 99, -1), (1, 9, 0), (50, 500, 1))
"""(least, most, sign) of points: positive, small, negative, mixed (sign 0); wide for what has pieces."""
KINKED = frozenset(("abs", "max", "min", "floor", "ceil", "sign", "root", "binomial"))
ENOUGH = 4
"""Points that must agree; the first three are always looked at."""
SPAN = 60
"""Bits between the least and the greatest value on the way, up to which fifty places tell values apart."""
SPAN_AT_POINT = 100
"""The same where other points follow: what is lost at one shows at another."""
MOST_PLACES = 1500
COMPLEX = frozenset(("bar", "overline", "Re", "Im", "arg"))

Scales: TypeAlias = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a test found."""

    equal: bool | None
    """None: cannot decide."""
    test: str
    """Which test, in words."""


def equal_expressions(one: Tree, other: Tree, *, tolerance: float = 0.0) -> Finding:
    """Whether they are equal for every value of their variables where the first, the gold, is real."""
    one, other = canonical(one), canonical(other)
    if one == other:
        return Finding(True, "same form")
    if one.head == other.head == "number" and not tolerance:
        return Finding(False, "exact numbers")
    free = names(one) | names(other)
    if not tolerance:
        try:
            found = differ_modulo(one, other) if free else exact(one) != exact(other)
            return Finding(not found, "polynomial identity" if free else "exact numbers")
        except OutsideError:
            pass
    try:
        return _at_points(one, other, sorted(free), tolerance)
    except UnboundedError as error:
        return Finding(None, f"cannot decide: {error}")


def _at_points(one: Tree, other: Tree, free: list[str], tolerance: float) -> Finding:
    one, other = _same_logarithm(one, other)
    if any(
        node.head == "call" and node.value in COMPLEX and names(node)
        for tree in (one, other)
        for node in tree
    ):
        return Finding(None, "cannot decide: conjugates and parts of complex variables")
    is_real = not (_is_complex(one) or _is_complex(other))
    whole = _whole_names(one) | _whole_names(other)
    found = _compared(one, other, free, whole, is_real, tolerance)
    if found.equal is not True and free and (more := WHOLE.intersection(free) - whole):
        again = _compared(one, other, free, whole | more, is_real, tolerance)
        if again.equal:
            return Finding(True, f"values at whole {', '.join(sorted(more))}")
    return found


def _compared(
    one: Tree, other: Tree, free: list[str], whole: frozenset[str], is_real: bool, tolerance: float
) -> Finding:
    agreed = undefined = 0
    enough = 3 * ENOUGH if _has_kinks(one) or _has_kinks(other) else 2 * ENOUGH if whole else ENOUGH
    scales = SCALES + WIDE if enough == 3 * ENOUGH else SCALES
    for trial in range(len(scales) * 2 if free else 1):
        point = {name: _coordinate(name, trial, name in whole, scales) for name in free}
        verdict = _at_point(one, other, point, is_real, bool(whole), tolerance)
        if verdict is None:
            undefined += 1
            continue
        if not verdict:
            return Finding(False, f"values at {_shown(point)}" if point else "values to fifty places")
        agreed += 1
        if agreed >= enough and trial >= 2:
            break
    needed = ENOUGH - 1 if free else 1
    if agreed < needed:
        return Finding(None, "cannot decide: no values to compare")
    return Finding(True, f"values at {agreed} points" if free else "values to fifty places")


def _shown(point: dict[str, Fraction]) -> str:
    return ", ".join(f"{name} = {float(value):.4g}" for name, value in point.items())


def _coordinate(name: str, trial: int, is_whole: bool, scales: Scales) -> Fraction:
    """A fixed value for a variable, the same on every machine and in every process."""
    seed = residue_of(name, trial + 100)
    if is_whole:
        return Fraction(1 + residue_of(name, trial + 500) % (6 if trial % 2 == 0 else 10 * trial))
    least, most, sign = scales[trial % len(scales)]
    size = least + (most - least) * Fraction(seed % 99991 + 1, 99993)
    return size * (sign or (1 if seed // 99991 % 2 else -1))


def _at_point(
    one: Tree, other: Tree, point: dict[str, Fraction], is_real: bool, is_discrete: bool, tolerance: float
) -> bool | None:
    """Whether they agree there; None where the gold has no value, or none that is real.

    Where variables are whole numbers, the other may have poles too: n!/(n - k)! has one where k > n.
    """
    pair = []
    bits = 0
    for tree in (one, other):
        evaluator = Evaluator(point, is_real=is_real)
        try:
            pair.append(evaluator.value(tree))
            bits = max(bits, evaluator.span[1] - evaluator.span[0])
        except UndefinedError:
            return None if tree is one or not point or is_discrete else False
        if tree is one and is_real and point and _imaginary(pair[0]):
            return None
    if tolerance:
        return bool(abs(pair[0] - pair[1]) <= tolerance * abs(pair[0]))
    gap, size = abs(pair[0] - pair[1]), max(abs(pair[0]), abs(pair[1]))
    if gap > size * 1e-3 and size > 1e-9:
        return False
    if gap <= size * 1e-33 and bits < (SPAN_AT_POINT if point else SPAN):
        return True
    places = 2 * PLACES + bits
    if places > (
        MOST_PLACES
        if not any(node.value in ("factorial", "binomial", "Gamma") for tree in (one, other) for node in tree)
        else 300
    ):
        if point:
            return None
        raise UnboundedError("too many digits would be needed")
    try:
        finer = [Evaluator(point, places=places, is_real=is_real).value(tree) for tree in (one, other)]
    except UndefinedError:
        return False
    gone = abs(finer[0] - finer[1])
    return bool(
        gone <= gap * 1e-30 or gone <= max(map(abs, finer)) * context(places).mpf(10) ** (20 - places)
    )


def _imaginary(value: Any) -> bool:
    imaginary = getattr(value, "imag", 0)
    return bool(abs(imaginary) > abs(value) * 1e-30)


def _has_kinks(tree: Tree) -> bool:
    """Whether it is put together of pieces: points must lie on all of them."""
    return any(node.head == "call" and node.value in KINKED for node in tree)


def _is_complex(tree: Tree) -> bool:
    return any(node.head == "constant" and node.value == "i" for node in tree)


def _whole_names(tree: Tree) -> frozenset[str]:
    """Variables inside factorials, binomials, floors and bounds of sums: whole and positive."""
    found: frozenset[str] = frozenset()
    for node in tree:
        if node.head == "call" and node.value in ("factorial", "binomial"):
            found |= frozenset().union(*map(names, node.args))
        elif node.head == "big":
            found |= names(node.args[2]) | names(node.args[3])
    return found


def _same_logarithm(one: Tree, other: Tree) -> tuple[Tree, Tree]:
    """A bare log is the natural one; beside a side that writes base ten, it is that too."""
    if any(_has_base_ten(tree) for tree in (one, other)):
        return _to_base_ten(one), _to_base_ten(other)
    return one, other


def _has_base_ten(tree: Tree) -> bool:
    return any(node.head == "call" and node.value == "log" and node.args[1:] == (TEN,) for node in tree)


def _to_base_ten(tree: Tree) -> Tree:
    for node in tree:
        if node.head == "call" and node.value == "log" and len(node.args) == 1:
            return _to_base_ten(replaced(tree, node, Tree("call", (node.args[0], TEN), "log")))
    return tree


TEN = number_tree(10)


def is_zero(tree: Tree) -> bool:
    """Whether an expression is zero for every value of its variables; False where that cannot be decided."""
    return equal_expressions(tree, number_tree(0)).equal is True


def sign(tree: Tree) -> int | None:
    """Of an expression without variables: -1, 0 or 1; None where it has no real value."""
    try:
        exact_value = exact(tree)
        return (exact_value > 0) - (exact_value < 0)
    except OutsideError:
        pass
    try:
        value = Evaluator({}).value(tree)
    except (UndefinedError, UnboundedError):
        return None
    if _imaginary(value):
        return None
    if abs(value) < 1e-30 and is_zero(tree):
        return 0
    real = getattr(value, "real", value)
    return int(real > 0) - int(real < 0)
