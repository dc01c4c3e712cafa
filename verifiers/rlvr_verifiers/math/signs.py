"""Plus-minus written out: all upper signs and all lower ones; in a tuple, each place by itself."""

from __future__ import annotations

from itertools import product

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.tree import Tree

MOST = 64
"""Answers that plus-minus signs may make of one."""


def expanded(tree: Tree) -> Tree | None:
    """The tree with the two values of every item that has a plus-minus; None where they are too many."""
    if not any(node.head == "plus-minus" for node in tree):
        return tree
    if tree.head in ("list", "set"):
        items: list[Tree] = []
        for arg in tree.args:
            part = expanded(arg)
            if part is None:
                return None
            items.extend(part.args if part.head in ("list", "set") else (part,))
        return Tree(tree.head, tuple(items), tree.value) if len(items) <= MOST else None
    if tree.head == "group":
        return _tuples(tree)
    if tree.head == "builder":
        condition = expanded(tree.args[1])
        return condition and Tree("builder", (tree.args[0], condition))
    if tree.head == "relation" and any(node.head == "plus-minus" for arg in tree.args[:-1] for node in arg):
        return Tree("list", (_signed(tree, "pm"), _signed(tree, "mp")), "or")
    if (tree.head == "relation" and tree.value in (("=",), ("!=",))) or tree.head == "quantity":
        last = expanded(tree.args[-1])
        if last is None or last.head != "list":
            return None
        return Tree(
            "list",
            tuple(Tree(tree.head, (*tree.args[:-1], arg), tree.value) for arg in last.args),
            "and" if tree.value == ("!=",) else "or",
        )
    return Tree("list", (_signed(tree, "pm"), _signed(tree, "mp")), "or")


def _tuples(tree: Tree) -> Tree | None:
    choices: list[tuple[Tree, ...]] = []
    count = 1
    for arg in tree.args:
        part = expanded(arg)
        if part is None:
            return None
        choices.append(part.args if part is not arg and part.head == "list" else (part,))
        count *= len(choices[-1])
        if count > MOST:
            return None
    return Tree("list", tuple(Tree("group", one, tree.value) for one in product(*choices)), ",")


def _signed(tree: Tree, positive: str) -> Tree:
    """The tree with this sign of the two read as plus, the other as minus."""
    args = tuple(_signed(arg, positive) for arg in tree.args)
    if tree.head == "plus-minus":
        return args[0] if tree.value == positive else t.negative(args[0])
    return Tree(tree.head, args, tree.value) if tree.args else tree
