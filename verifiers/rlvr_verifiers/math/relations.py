"""Equations and inequalities as such: labels, factors, what an equation says of one variable."""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.conventions import Comparison
from rlvr_verifiers.math.equal import Finding, equal_expressions, sign
from rlvr_verifiers.math.numeric import FUNCTIONS
from rlvr_verifiers.math.polynomials import numerator
from rlvr_verifiers.math.regions import FLIPPED, linear
from rlvr_verifiers.math.tree import Tree, canonical, names

NAMED = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "det", "deg", "dim", "max", "min", "gcd", "lcm"))
"""Functions whose value a problem may ask for: tan(theta) = 3/4 answers it with 3/4."""
SIZES = frozenset({"abs", "norm", "overline", "bar", "max", "min", "prime", "angle", "triangle"})
"""Marks around a name that still only name something: |AB|, but not |x|, which is a condition on x."""


def is_label(tree: Tree, others: list[Tree] | tuple[Tree, ...] = ()) -> bool:
    """Whether a left side only says what the answer is called: x, f(x), AB, A : B, (x, y), |AB|, a/b."""
    if tree.head == "text":
        return True
    if not names(tree) or not _names_something(tree):
        return tree.head == "call" and _is_unknown(tree)
    return tree.head != "name" or not any(names(tree) & names(other) for other in others)


def _is_unknown(tree: Tree) -> bool:
    """Whether a call is of a function that has no value of its own: f(3), not ln 3."""
    return str(tree.value) not in FUNCTIONS and tree.value not in ("root", "mod", "forall")


def _names_something(tree: Tree) -> bool:
    match tree.head:
        case "name":
            return True
        case "call":
            return (
                _is_unknown(tree)
                or (str(tree.value) in NAMED and all(arg.head == "name" for arg in tree.args))
                or (
                    str(tree.value) in SIZES
                    and all(arg.head in ("*", "call") and _names_something(arg) for arg in tree.args)
                )
            )
        case "^" if tree.args[0].head == "name":
            return tree.args[1] == t.MINUS_ONE
        case "group" | "list":
            letters = [arg.text for arg in tree.args if arg.head == "name" and len(arg.text) == 1]
            return all(map(_names_something, tree.args)) and letters == sorted(letters)
        case "ratio" | "union" | "intersection":
            return all(map(_names_something, tree.args))
        case "*":
            if all(arg.head == "name" and str(arg.value)[0].isupper() for arg in tree.args):
                return True
            above, below = tree.args[0], tree.args[-1]
            is_quotient = len(tree.args) == 2 and below.head == "^" and below.args[1] == t.MINUS_ONE
            return is_quotient and _names_something(above) and _names_something(below.args[0])
    return False


def is_asked(tree: Tree, others: list[Tree]) -> bool:
    """Whether a left side may be what the problem asks for, a + 5b, with its value worked out on the right.

    With a bare number on the right, as in x + y = 5, it may be what the problem gives.
    """
    is_sum = tree.head == "+" and len(names(tree)) > 1 and all(map(is_multiple, tree.args))
    return is_sum and any(side.head != "number" for side in others)


def labelled(tree: Tree) -> tuple[str, Tree] | None:
    """(label, value) of `x = 5`; None where the tree is no such thing."""
    if tree.head != "relation" or set(tree.operators) != {"="}:
        return None
    if not all(is_label(side, tree.args[-1:]) for side in tree.args[:-1]):
        return None
    return t.show(canonical(tree.args[0])), tree.args[-1]


def solved_for(equation: Tree, expression: Tree) -> Tree | None:
    """What the equation says of the one variable that the expression lacks; None where not linear in it."""
    if len(equation.args) != 2 or equation.value != ("=",):
        return None
    lacking = names(equation) - names(expression)
    if len(lacking) != 1 or not names(expression):
        return None
    found = linear(t.plus(equation.args[0], t.negative(equation.args[1])), next(iter(lacking)))
    return t.times(t.MINUS_ONE, t.over(found[1], found[0])) if found else None


def product_of(tree: Tree) -> Tree | None:
    """`a = 0 or b = 0` as one equation; an equation is itself; None where the tree is neither."""
    if tree.head == "relation":
        return tree if tree.value == ("=",) else None
    if (
        tree.head != "list"
        or tree.value != "or"
        or any(arg.head != "relation" or arg.value != ("=",) for arg in tree.args)
    ):
        return None
    return Tree("relation", (t.times(*map(_difference, tree.args)), t.ZERO), ("=",))


def compare_relations(gold: Tree, found: Tree, by: Comparison) -> Finding:
    """Two relations: as definitions, side by side, and up to a factor."""
    finding = _definitions(gold, found, by)
    if finding is not None:
        return finding
    if len(gold.args) != 2 or len(found.args) != 2:
        return _chains(gold, found, by)
    operator, turned = gold.operators[0], found.operators[0]
    if operator not in FLIPPED or turned not in FLIPPED:
        return _sides(gold, found, by)
    if operator not in (turned, FLIPPED[turned]):
        return Finding(False, "relations differ")
    if not names(gold) or not names(found):
        return _chains(gold, found, by)
    if not by.conventions.unsolved and _is_solved(gold) and not _is_scaled(found):
        return Finding(False, "a relation that is not solved")
    direction = None if operator in ("=", "!=") else 1 if operator == turned else -1
    return _factor(_difference(gold), _difference(found), direction, is_scaled=by.conventions.scaled)


def _is_solved(relation: Tree) -> bool:
    """x = 5, x > 3: one bare variable and a number."""
    left, right = relation.args
    return len(names(relation)) == 1 and (
        (left.head == "name" and not names(right)) or (right.head == "name" and not names(left))
    )


def _is_scaled(relation: Tree) -> bool:
    """x = 5 or a multiple of it, 2x = 10: nothing is left but to divide."""
    left, right = relation.args
    return (is_multiple(left) and not names(right)) or (is_multiple(right) and not names(left))


def is_multiple(tree: Tree) -> bool:
    """A variable, or a number of times one."""
    tree = canonical(tree)
    return [factor.head for factor in (tree.args if tree.head == "*" else (tree,)) if names(factor)] == [
        "name"
    ]


def _difference(relation: Tree) -> Tree:
    """Left less right; of |a| = |b| the squares."""
    left, right = (
        t.over(*side.args) if side.head == "ratio" and len(side.args) == 2 else side for side in relation.args
    )
    if relation.value == ("=",) and all(
        side.head == "call" and side.value == "abs" for side in (left, right)
    ):
        left, right = (t.power(side.args[0], t.TWO) for side in (left, right))
    return t.plus(left, t.negative(right))


def _definitions(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """`f(n) = n + 1` and `f(m) = m + 1`, `y = 2x` and `f(x) = 2x`: the right sides count."""
    pair = labelled(gold), labelled(found)
    if pair[0] is None or pair[1] is None:
        return None
    left, right = gold.args[0], found.args[0]
    value, other = pair[0][1], pair[1][1]
    if left.head == right.head == "call" and len(left.args) == len(right.args) and left.value == right.value:
        fresh = [t.name(f"argument {place}") for place in range(len(left.args))]
        for mine, its, new in zip(left.args, right.args, fresh, strict=True):
            if mine.head == its.head == "name":
                value, other = t.replaced(value, mine, new), t.replaced(other, its, new)
        other = _same_parameter(
            value, other, letters=names(left) | names(right) | frozenset().union(*map(names, fresh))
        )
        if all(arg.head == "name" for arg in (*left.args, *right.args)) or by.same(left, right):
            return Finding(by.same(value, other), "the right sides")
    calls = [side for side in (left, right) if side.head == "call" and _is_unknown(side)]
    if len(calls) == 1 and "name" in (left.head, right.head) and by.conventions.labels:
        return Finding(by.same(value, other), "the right sides")
    if pair[0][0] == pair[1][0] or (left.head == right.head == "group" and by.same(left, right)):
        return Finding(True, "the right sides") if by.same(value, other) else None
    return None


def _same_parameter(value: Tree, other: Tree, letters: frozenset[str]) -> Tree:
    """`other` with the gold's name for its one parameter, no argument: f(x) = cx is f(x) = kx."""
    mine, its = names(value) - names(other), names(other) - names(value)
    if len(mine) == len(its) == 1 and not (mine | its) & letters:
        return t.replaced(other, t.name(next(iter(its))), t.name(next(iter(mine))))
    return other


def _chains(gold: Tree, found: Tree, by: Comparison) -> Finding:
    """a < b < c, read from either end."""
    finding = _sides(gold, found, by)
    if finding.equal or not all(operator in FLIPPED for operator in found.operators):
        return finding
    turned = tuple(FLIPPED[operator] for operator in reversed(found.operators))
    return _sides(gold, Tree("relation", found.args[::-1], turned), by)


def _sides(gold: Tree, found: Tree, by: Comparison) -> Finding:
    if gold.value != found.value:
        return Finding(False, "relations differ")
    is_same = all(by.same(a, b) for a, b in zip(gold.args, found.args, strict=True))
    return Finding(is_same, "side by side")


def _factor(left: Tree, right: Tree, direction: int | None, *, is_scaled: bool) -> Finding:
    """Whether `left = k right` with a constant k, not zero, of this sign where there is a direction."""
    if names(left) != names(right):
        return Finding(False, "variables differ")
    ratio = _constant_ratio(left, right)
    if ratio is not None:
        signed = sign(ratio)
        is_right = signed != 0 and (direction is None or signed == direction)
        if not is_scaled:
            is_right = is_right and canonical(ratio) in (t.ONE, t.MINUS_ONE)
        return Finding(is_right, "equal up to a factor" if is_right else "the factor is not allowed")
    if direction is None and is_scaled:
        above = numerator(left)
        return Finding(above is not None and above == numerator(right), "numerators up to a factor")
    return Finding(False, "not equal up to a factor")


def _constant_ratio(left: Tree, right: Tree) -> Tree | None:
    """left / right where that is a constant: found at one point, shown for all."""
    at = [left, right]
    for place, variable in enumerate(sorted(names(left))):
        value = t.number(Fraction(7 + 3 * place, 5))
        at = [t.replaced(tree, t.name(variable), value) for tree in at]
    above, below = map(canonical, at)
    if not sign(above) or not sign(below):
        return None
    ratio = t.over(above, below)
    return ratio if equal_expressions(left, t.times(ratio, right)).equal else None
