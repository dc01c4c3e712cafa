r"""The grammar of answers, from wide to narrow:

answer    alternatives ("or", ;) of items (",", "and") of clauses
clause    [label] ratio {relation ratio} [unit]         x = 2 : 3 cm,   1 < x <= 2,   x \in (1, 2]
ratio     union {: union};   union = sum {\cup sum}
sum       product {+ product};   product = signs between factors, or nothing;   power = atom with ^ and !
"""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.atoms import argument, atom, starts_atom
from rlvr_verifiers.math.commands import EMPTY
from rlvr_verifiers.math.conditions import condition_of, is_condition
from rlvr_verifiers.math.cursor import Cursor, Grammar
from rlvr_verifiers.math.joints import is_over, joint_of, peeks_joint
from rlvr_verifiers.math.spelling import words
from rlvr_verifiers.math.terms import CURRENCIES, power, product, ratio, sum_
from rlvr_verifiers.math.tokens import tokens
from rlvr_verifiers.math.tree import Tree, UnreadableError
from rlvr_verifiers.math.units import TWISTING

RELATIONS = {"=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "le": "<=", "leq": "<=",
             "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=",
             "neq": "!=", "approx": "~", "simeq": "~", "equiv": "==", "in": "in", "notin": "notin",
             "subset": "subset", "subseteq": "subseteq", "leqq": "<=", "geqq": ">=", "sim": "sim",
             "to": "to", "rightarrow": "to", "mapsto": "to", "perp": "perp",
             "parallel": "parallel"}  # fmt: skip
PHRASES = {
    ("no", "solution"): EMPTY, ("no", "solutions"): EMPTY, ("no", "real", "solution"): EMPTY,
    ("no", "real", "solutions"): EMPTY, ("empty", "set"): EMPTY, ("none",): EMPTY,
    ("no", "such", "number"): EMPTY, ("no", "such", "numbers"): EMPTY, ("no", "real", "roots"): EMPTY,
    ("all", "real", "numbers"): t.name("set R"), ("all", "reals"): t.name("set R"),
    ("real", "numbers"): t.name("set R"), ("all", "real"): t.name("set R"),
    ("infinitely", "many"): t.INFINITY, ("infinite",): t.INFINITY, ("infinitely",): t.INFINITY,
    ("one", "half"): t.number(Fraction(1, 2)), ("one", "third"): t.number(Fraction(1, 3)),
    ("two", "thirds"): t.number(Fraction(2, 3)), ("one", "fourth"): t.number(Fraction(1, 4)),
    ("one", "quarter"): t.number(Fraction(1, 4)), ("three", "quarters"): t.number(Fraction(3, 4)),
    ("three", "fourths"): t.number(Fraction(3, 4)), ("one", "fifth"): t.number(Fraction(1, 5)),
    ("infinitely", "many", "solutions"): t.INFINITY,
    ("positive", "infinity"): t.INFINITY, ("infinity",): t.INFINITY,
    ("does", "not", "exist"): Tree("text", (), ("undefined",)), ("dne",): Tree("text", (), ("undefined",)),
    ("undefined",): Tree("text", (), ("undefined",)), ("not", "defined"): Tree("text", (), ("undefined",)),
}  # fmt: skip
"""What is said in words and means a value."""
FILLING = frozenset(("there", "is", "are"))
LEADING = frozenset(("only", "exactly", "just"))
PAIRED = frozenset(("either", "both"))
"""Words that say nothing before a list of two or more."""
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
)  # fmt: skip


def read(text: str, *, grouped: bool = True) -> Tree:
    """The tree of a text in one spelling (`spelling.spelled`); UnreadableError where it has none.

    `grouped` reads 1,234 as one number, not as a list of two.
    """
    cursor = Cursor(tokens(text, grouped=grouped), GRAMMAR)
    tree = _answer(cursor)
    if cursor.token.kind != "end":
        raise UnreadableError(f"nothing can follow at {cursor.token.value!r}")
    return tree


def _answer(cursor: Cursor) -> Tree:
    """Items joined by signs or words; one item is itself."""
    found: list[Tree] = []
    joints: list[str] = []
    while True:
        joint = joint_of(cursor)
        while more := joint_of(cursor):
            joint = more if joint in ("", ",") else joint
        if is_over(cursor):
            break
        if found and not joint:
            break
        if found:
            joints.append(joint)
        found.append(_clause(cursor))
    if not found:
        raise UnreadableError("nothing stands there")
    if len(found) == 1:
        return found[0]
    kinds = sorted(set(joints) - {","})
    if joints.count("or") == 1 and joints[-1] == "or" and kinds == ["or"]:
        return Tree("list", tuple(found), "or")  # a, b, or c
    has_groups = ";" in kinds or (kinds == ["or"] and all(item.head == "relation" for item in found))
    if len(kinds) > 1 or (has_groups and "," in joints):
        return _nested(found, joints)
    return Tree("list", tuple(found), kinds[0] if kinds else ",")


def _nested(found: list[Tree], joints: list[str]) -> Tree:
    """Items joined in two ways: the looser joint is outside, as ; of , and `or` of `and`."""
    outer = next(joint for joint in (";", "or", "and") if joint in joints)
    groups: list[list[Tree]] = [[found[0]]]
    inner = ","
    for item, joint in zip(found[1:], joints, strict=True):
        if joint == outer:
            groups.append([item])
        else:
            groups[-1].append(item)
            inner = joint if joint != "," else inner
    items = [group[0] if len(group) == 1 else Tree("list", tuple(group), inner) for group in groups]
    return Tree("list", tuple(items), outer)


def _clause(cursor: Cursor) -> Tree:
    """One relation, expression or phrase, without a quantifier behind it."""
    start = cursor.token
    label = _label(cursor)
    if label is not None and (cursor.token.kind == "end" or is_over(cursor) or peeks_joint(cursor)):
        return label
    operators: list[str] = []
    sides: list[Tree] = []
    if label is not None:
        if len(label.operators) > 3 or (TWISTING - {"answer"}) & set(label.operators):
            raise UnreadableError(f"{' '.join(label.operators)!r} before an expression")
        if not (cursor.passes("=") or cursor.passes(":")) and not cursor.ahead(-1).value.endswith(":"):
            raise UnreadableError(f"{label.value!r} before an expression")
        sides, operators = [label], ["="]
    cursor.passes("$")
    forall = cursor.passes("forall")
    sides.append(ratio(cursor))
    while operator := _relation(cursor):
        operators.append(operator)
        sides.append(ratio(cursor))
    sides[-1] = _with_unit(cursor, sides[-1])
    clause = Tree("relation", tuple(sides), tuple(operators)) if operators else sides[0]
    clause = _congruence(cursor, clause)
    if clause.head == "relation" and clause.operators == ("==",):
        clause = Tree("relation", clause.args, ("=",))
    condition = condition_of(cursor, start)
    if condition:
        clause = Tree("given", (clause,), condition)
    return t.call("forall", clause) if forall else clause


def _label(cursor: Cursor) -> Tree | None:
    """Words before `=` or `:`, a phrase that means a value, or plain text; None before mathematics."""
    mark = cursor.place
    said: list[str] = []
    while cursor.token.kind in ("word", "text") and not peeks_joint(cursor):
        if not said and _is_mathematics(cursor):
            break
        said.extend(words(cursor.take().value.casefold()) if cursor.ahead(0).value else ())
    if not said:
        cursor.place = mark
        return None
    if len(said) == 1 and cursor.token.kind == "number" and cursor.ahead().value == ":":  # Case 1: ...
        cursor.place += 2
        return None
    if tuple(said[-3:]) == ("does", "not", "exist"):
        return PHRASES[("dne",)]
    phrase = PHRASES.get(
        tuple(
            word
            for word in said
            if word not in FILLING and (word not in ("exist", "exists") or "not" in said)
        )
    )
    if phrase is not None:
        return phrase
    if len(said) == 1 and said[0] in NUMBERS:
        return t.number(NUMBERS.index(said[0]))
    if said[0] in PAIRED and len(said) == 1 and _has_joint(cursor):
        return None
    if all(word in LEADING for word in said):
        return None
    return Tree("text", (), tuple(said))


def _has_joint(cursor: Cursor) -> bool:
    return any(cursor.ahead(ahead).value.strip() in ("and", "or") for ahead in range(40))


def _is_mathematics(cursor: Cursor) -> bool:
    """Whether a run of letters is a product, and neither a phrase nor the first of several words."""
    token = cursor.token
    if token.kind != "word" or (token.value.casefold(),) in PHRASES:
        return False
    return starts_atom(cursor) and cursor.ahead().kind not in ("word", "text")


def _relation(cursor: Cursor) -> str:
    token = cursor.token
    if token.kind in ("sign", "command") and token.value in RELATIONS:
        cursor.take()
        if token.value in ("<", ">") and cursor.passes("="):
            return f"{token.value}="
        return RELATIONS[token.value]
    if cursor.sees("not") and cursor.ahead().value in ("=", "in"):
        cursor.take()
        return "!=" if cursor.take().value == "=" else "notin"
    return ""


def _with_unit(cursor: Cursor, tree: Tree) -> Tree:
    """The expression with the unit or the words behind it, where there are any."""
    said: list[str] = []
    while True:
        token = cursor.token
        if token.kind in ("word", "text") and not peeks_joint(cursor):
            if is_condition(cursor):
                break
            said.append(cursor.take().value)
        elif said and cursor.sees("^") and cursor.ahead().kind == "number":
            said.append(f"^{cursor.ahead().value}")
            cursor.place += 2
        elif (
            said
            and cursor.sees("^")
            and cursor.ahead().value == "{"
            and cursor.ahead(2).value.lstrip("-").isdecimal()
            and cursor.ahead(3).value == "}"
        ):
            said.append(f"^{cursor.ahead(2).value}")
            cursor.place += 4
        elif (
            said
            and cursor.sees("^")
            and cursor.ahead().value == "{"
            and cursor.ahead(2).value == "-"
            and cursor.ahead(4).value == "}"
        ):
            said.append(f"^-{cursor.ahead(3).value}")
            cursor.place += 5
        elif said and cursor.sees("/", "cdot") and cursor.ahead().kind in ("word", "text", "name"):
            said.append("/" if cursor.take().value == "/" else " ")
            if cursor.token.kind == "name":
                said.append(cursor.take().value)
        elif cursor.sees(*CURRENCIES):
            said.append(CURRENCIES[cursor.take().value])
        else:
            break
    unit = " ".join(said).strip()
    if not unit:
        return tree
    quantity = Tree("quantity", (tree,), unit)
    if tree.head == "number" and cursor.token.kind == "number":  # 2 hours 12 minutes
        return Tree("compound", (quantity, _with_unit(cursor, product(cursor))))
    return quantity


def _congruence(cursor: Cursor, clause: Tree) -> Tree:
    if cursor.passes("pmod", "bmod", "mod"):
        return Tree("call", (clause, argument(cursor)), "mod")
    if cursor.sees("(") and cursor.ahead().value in ("mod", "bmod", "pmod"):
        cursor.place += 2
        modulus = sum_(cursor)
        cursor.expect(")")
        return Tree("call", (clause, modulus), "mod")
    return clause


GRAMMAR = Grammar(
    answer=_answer,
    sum=sum_,
    product=product,
    power=power,
    atom=atom,
    argument=argument,
    starts_atom=starts_atom,
)
