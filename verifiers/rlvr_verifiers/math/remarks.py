"""What stands beside an answer and tells only of its letters: where they lie, when it holds."""

from __future__ import annotations

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.conventions import Comparison
from rlvr_verifiers.math.equal import Finding
from rlvr_verifiers.math.regions import REALS, is_region
from rlvr_verifiers.math.spelling import words
from rlvr_verifiers.math.tree import Tree, names

DECLARED = frozenset({"set Z", "set N", "set R", "set Q", "set C"})


def undeclared(tree: Tree) -> Tree:
    r"""Without `k \in \mathbb{Z}` beside the answer: it only tells what a letter is."""
    if tree.head == "builder" and _declares(tree.args[1]) and tree.args[0].head not in ("name", "relation"):
        return tree.args[0]
    if tree.head == "list" and tree.value == "," and _restricts(tree):
        return Tree(
            "given",
            tree.args[:1],
            words(t.show(Tree("list", tree.args[1:], ",") if len(tree.args) > 2 else tree.args[1])),
        )
    if tree.head == "list":
        kept = tuple(arg for arg in tree.args if not _declares(arg))
        if kept and len(kept) < len(tree.args):
            return kept[0] if len(kept) == 1 else Tree("list", kept, tree.value)
    return tree


def declared_sets(tree: Tree) -> frozenset[Tree]:
    """The sets that letters are said to lie in beside the answer."""
    if tree.head == "list":
        return frozenset(arg.args[1] for arg in tree.args if _declares(arg))
    return (
        frozenset((tree.args[1].args[1],))
        if tree.head == "builder" and _declares(tree.args[1])
        else frozenset()
    )


def _restricts(tree: Tree) -> bool:
    """Whether what follows the first item bounds letters of it: 2x, x > 1."""
    first, *rest = tree.args
    if (
        first.head in ("text", "list")
        or first.value == "forall"
        or (first.head == "relation" and first.operators != ("=",))
    ):
        return False
    value = first.args[-1] if first.head == "relation" else first
    return bool(rest) and all(
        arg.head == "relation"
        and is_region(arg)
        and arg.args[-1].head != "set"
        and names(arg) <= names(value) | {REALS.text}
        for arg in rest
    )


def _declares(tree: Tree) -> bool:
    return (
        tree.head == "relation"
        and tree.value == ("in",)
        and tree.args[0].head in ("name", "list", "constant")
        and tree.args[1].head in ("name", "^", "+", "*")
        and any(node.head == "name" and node.text.partition("_")[0] in DECLARED for node in tree.args[1])
    )  # fmt: skip


def given(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """A condition behind the answer may be left out or added; two must say the same."""
    if "given" not in (gold.head, found.head):
        return None
    if gold.head == found.head:
        finding = by.compare(gold.args[0], found.args[0])
        if finding.equal and gold.operators != found.operators:
            return Finding(None, "cannot decide: the conditions differ in words")
        return finding
    bare, said = (found, gold) if gold.head == "given" else (gold, found)
    sets = {node.text[-1:] for tree in declared_sets(bare) for node in tree if node.text.startswith("set ")}
    changes = is_region(undeclared(bare)) or bare.head == "set" or bool(sets)
    if changes and not sets & set(said.operators):
        return Finding(None, "cannot decide: a condition that changes the set")
    return by.compare(*(tree.args[0] if tree.head == "given" else tree for tree in (gold, found)))
