"""Lists, sets, tuples, vectors, matrices and systems: which must be in order, and what may stand for what."""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_verifiers.math.conventions import Comparison
from rlvr_verifiers.math.equal import Finding
from rlvr_verifiers.math.relations import labelled
from rlvr_verifiers.math.tree import (
    Tree,
    canonical,
    name,
    names,
    replaced,
    show,
    times,
)

COLLECTIONS = frozenset({"list", "set", "group", "matrix", "cases"})
SETS = frozenset({"list", "set"})
MOST_ITEMS = 400


def compare_collections(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """Two answers one of which has parts; None where neither has."""
    if "empty" in (gold.head, found.head):
        return Finding(gold.head == found.head, "the empty set")
    gold, found = _plain(gold, found), _plain(found, gold)
    if not {gold.head, found.head} & COLLECTIONS:
        return None
    pair = (gold.head, found.head)
    if pair == ("matrix", "matrix"):
        return _matrices(gold, found, by)
    if pair == ("cases", "cases"):
        return _matched(_rows(gold), _rows(found), by)
    if pair == ("group", "group"):
        if gold.value != found.value:
            return Finding(False, "brackets differ")
        return _parametric(gold, found, by)
    if "group" in pair:
        return _tuple_and_list(gold, found, by)
    if gold.head in SETS and found.head in SETS:
        return _lists(gold, found, by)
    if pair[0] in SETS:
        return (
            _lists(gold, Tree("list", (found,), ","), by)
            if len(gold.args) == 1 or pair[0] == "list"
            else _unlike(gold, found)
        )
    if pair[1] in SETS:
        return (
            _lists(Tree("list", (gold,), ","), found, by)
            if len(found.args) == 1 or pair[1] == "list"
            else _unlike(gold, found)
        )
    return _unlike(gold, found)


def _unlike(gold: Tree, found: Tree) -> Finding:
    return Finding(False, f"a {gold.head} and a {found.head}")


def _plain(tree: Tree, other: Tree) -> Tree:
    """A matrix of one row or column as a tuple, a system as a list, (x, y) = (1, 2) beside labels as two."""
    if tree.head == "matrix":
        if len(tree.args) > 1 and all(len(row.args) == 1 for row in tree.args):
            return Tree("group", tuple(row.args[0] for row in tree.args), "()")
        if len(tree.args) == 1 and len(tree.args[0].args) > 1:
            return Tree("group", tree.args[0].args, "()")
    if tree.head == "group" and other.head == "matrix" and all(arg.head == "group" for arg in tree.args):
        return Tree("matrix", tuple(Tree("row", arg.args) for arg in tree.args))
    if tree.head == "*" and tree.args and (scaled := _scaled(tree)) is not None:
        return _plain(scaled, other)
    if tree.head == "cases" and other.head != "cases" and all(len(row.args) == 1 for row in tree.args):
        return Tree("list", tuple(row.args[0] for row in tree.args), "and")
    if tree.head == "relation" and tree.value == ("=",) and other.head in SETS:
        left, right = tree.args
        if left.head == right.head == "group" and len(left.args) == len(right.args) > 1:
            pairs = zip(left.args, right.args, strict=True)
            return Tree("list", tuple(Tree("relation", pair, ("=",)) for pair in pairs), "and")
    return tree


def _scaled(tree: Tree) -> Tree | None:
    """A number times one matrix or tuple, multiplied out; None where the tree is no such product."""
    inner = [arg for arg in tree.args if arg.head in ("matrix", "group")]
    factors = [arg for arg in tree.args if arg.head not in ("matrix", "group")]
    if len(inner) != 1 or not factors:
        return None
    if inner[0].head == "group":
        if any(map(names, factors)):
            return None  # A(1, 2) is a point
        return Tree("group", tuple(times(*factors, arg) for arg in inner[0].args), inner[0].value)
    rows = [Tree("row", tuple(times(*factors, cell) for cell in row.args)) for row in inner[0].args]
    return Tree("matrix", tuple(rows))


def _rows(tree: Tree) -> list[Tree]:
    return [row.args[0] if len(row.args) == 1 else Tree("group", row.args, "()") for row in tree.args]


def _matrices(gold: Tree, found: Tree, by: Comparison) -> Finding:
    if [len(row.args) for row in gold.args] != [len(row.args) for row in found.args]:
        return Finding(False, "shapes differ")
    cells = [[cell for row in tree.args for cell in row.args] for tree in (gold, found)]
    return _in_order(cells[0], cells[1], by, "matrix")


def _in_order(gold: Sequence[Tree], found: Sequence[Tree], by: Comparison, kind: str) -> Finding:
    if len(gold) != len(found):
        return Finding(False, f"{len(gold)} and {len(found)} elements")
    for place, (one, other) in enumerate(zip(gold, found, strict=True), start=1):
        finding = by.compare(one, other)
        if not finding.equal:
            return Finding(finding.equal, f"element {place} of the {kind}: {finding.test}")
    return Finding(True, f"each element of the {kind}")


def _parametric(gold: Tree, found: Tree, by: Comparison) -> Finding:
    """Tuples in order; (2 + 3t, 5t) is (2 + 3k, 5k): one parameter may have any name, a constant c or C."""
    mine, its = names(gold) - names(found), names(found) - names(gold)
    if len(mine) == len(its) == 1 and len(gold.args) > 1:
        one, other = next(iter(mine)), next(iter(its))
        if len(names(gold)) == 1 or one.casefold() == other.casefold() == "c":
            found = replaced(found, name(other), name(one))
    return _in_order(gold.args, found.args, by, "tuple")


def _tuple_and_list(gold: Tree, found: Tree, by: Comparison) -> Finding:
    """(1, 2) may be written 1, 2 in that order; a set may not, and [1, 2] is an interval."""
    group, other = (gold, found) if gold.head == "group" else (found, gold)
    is_tuple = group.value == "()" or (group.value == "[]" and len(group.args) > 2)
    if other.head == "list" and other.value != "or" and is_tuple and len(other.args) == len(group.args):
        labels = _labels(list(other.args))
        if labels and not _are_words(labels) and labels != sorted(labels):
            return Finding(False, "labels out of order")
        bare = _values(other.args)
        return (
            _in_order(group.args, bare, by, "tuple")
            if group is gold
            else _in_order(bare, group.args, by, "tuple")
        )
    if other.head in SETS and len(other.args) == 1:
        return by.compare(group, other.args[0]) if group is gold else by.compare(other.args[0], group)
    return _unlike(gold, found)


def _values(items: Sequence[Tree]) -> list[Tree]:
    """The items without their labels."""
    pairs = [labelled(item) for item in items]
    return [pair[1] if pair else item for pair, item in zip(pairs, items, strict=True)]


def _lists(gold: Tree, found: Tree, by: Comparison) -> Finding:
    """Lists and sets in any order; where the items have labels, label by label."""
    if any(arg.head == "dots" for tree in (gold, found) for arg in tree.args):
        return _in_order(gold.args, found.args, by, "list")
    if any(arg.head == "given" for tree in (gold, found) for arg in tree.args):
        conditions = [[arg.head == "given" for arg in tree.args] for tree in (gold, found)]
        if sorted(conditions[0]) != sorted(conditions[1]) and not _share_condition(gold, found):
            return Finding(None, "cannot decide: conditions on one side")
    if {gold.value, found.value} in ({"and", "or"}, {",", "or"}) and _is_joint_of_letters(gold, found):
        return Finding(False, "`and` is not `or`")
    mine, its = _items(gold), _items(found)
    labels, others = _labels(mine), _labels(its)
    if by.conventions.labels:
        if labels and others and sorted(labels) != sorted(others):
            if not _are_words(labels) and not _are_words(others) and _letters(labels) != _letters(others):
                return Finding(False, "labels differ")
            return _in_order(_values(mine), _values(its), by, "labelled list")
        if (
            labels
            and not others
            and len(set(labels)) == len(labels) > 1
            and not any(item.head == "relation" for item in its)
        ):
            return _in_order(_values(mine), its, by, "labelled list")
        if bool(labels) != bool(others) and not _has_relation(its if labels else mine):
            mine, its = _values(mine), _values(its)
    if by.conventions.ordered and gold.head == found.head == "list":
        return _in_order(mine, its, by, "list")
    return _matched(mine, its, by)


def _is_joint_of_letters(gold: Tree, found: Tree) -> bool:
    """Whether relations of several letters are joined: x = 0 or y = 0 is a union, not a point."""
    sides = [arg for tree in (gold, found) for arg in tree.args]
    pairs = [labelled(arg) for arg in sides]
    if all(pairs) and len({pair[0].partition("_")[0] for pair in pairs if pair}) == 1:
        return False  # alternatives for one letter
    return all(arg.head == "relation" for arg in sides) and len(frozenset().union(*map(names, sides))) > 1


def _are_words(labels: Sequence[str]) -> bool:
    """Whether they are said in words."""
    return any(label.startswith("(") for label in labels)


def _share_condition(gold: Tree, found: Tree) -> bool:
    """Whether all items of one side have the same condition, and none of the other has any."""
    said = [{arg.operators if arg.head == "given" else () for arg in tree.args} for tree in (gold, found)]
    return len(said[0]) == len(said[1]) == 1


def _has_relation(items: list[Tree]) -> bool:
    return any(item.head == "relation" for item in items)


def _items(tree: Tree) -> list[Tree]:
    """The items; in a set, and of alternatives, each once.  `n = 2, 3` labels the first for all."""
    items = list(tree.args)
    if len(items) > 1 and labelled(items[0]) and not _has_relation(items[1:]):
        items = _values(items)
    if tree.head == "set" or tree.value == "or":
        distinct = {canonical(item): item for item in items}
        return list(distinct.values())
    return items


def _labels(items: list[Tree]) -> list[str] | None:
    """The labels, where every item has one."""
    pairs = [labelled(item) for item in items]
    return [pair[0] for pair in pairs if pair] if all(pairs) else None


def _letters(labels: Sequence[str]) -> list[str]:
    """The labels without the subscripts of x_1, x_2, in order."""
    return sorted(label.partition("_")[0] for label in labels)


def _matched(gold: list[Tree], found: list[Tree], by: Comparison) -> Finding:
    """Each item of one list meets its own in the other."""
    if len(gold) != len(found):
        return Finding(False, f"{len(gold)} and {len(found)} items")
    if len(gold) > MOST_ITEMS:
        return Finding(None, f"cannot decide: more than {MOST_ITEMS} items")
    left = list(found)
    is_undecided = False
    for item in gold:
        spelling = canonical(item)
        for place in sorted(range(len(left)), key=lambda i: canonical(left[i]) != spelling):
            finding = by.compare(item, left[place])
            is_undecided = is_undecided or finding.equal is None
            if finding.equal:
                del left[place]
                break
        else:
            return Finding(None if is_undecided else False, f"{show(item)[:80]} is missing")
    return Finding(True, "each item once")
