"""The recipe explained: one key in words, or a whole recipe written out."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.errors import RecipeError, near_miss
from rlvr.recipe.document import dump, shown
from rlvr.recipe.json_schema import json_schema
from rlvr.recipe.keys import KEYS, Key, bare, inside, unknown
from rlvr.recipe.presets import PRESETS, SOURCES
from rlvr.recipe.schema import Recipe

__all__ = ["expand", "explain", "json_schema"]


def explain(key: str = "") -> str:
    """What a key means and takes, or which keys a section has; ``""`` is the whole recipe."""
    name = bare(key.strip())
    if name and name not in KEYS:
        raise RecipeError(_no_key(name))
    if not name:
        return "\n".join(_listing(""))
    known = KEYS[name]
    lines = [name, f"  {known.doc}", f"  takes    {known.takes}", f"  default  {_default(known)}"]
    if name == "algorithm.preset":
        lines += ["", *_presets()]
    elif known.section is not None:
        lines += ["", *_listing(name)]
    return "\n".join(lines)


def expand(recipe: Recipe) -> str:
    """The recipe as YAML with every key written out; it loads again to an equal recipe."""
    return dump(recipe.model_dump())


def _no_key(name: str) -> str:
    said = unknown(name)
    near = near_miss(name, KEYS)
    return (
        said
        if "did you mean" in said or "did you mean" not in near
        else f"`{name}` is no key of a recipe{near}"
    )


def _default(key: Key) -> str:
    if key.required:
        return "none: it must be given"
    if key.name == "verifier":
        return "math"
    if key.section is not None:
        return "null" if key.takes.endswith("null") else "the defaults of its keys"
    text = shown(key.default)
    if key.name.endswith(".memory"):
        text += f" ({key.default / 2**30:g} GiB)"
    if key.name.startswith("algorithm.") and key.name != "algorithm.preset":
        differing = [
            f"{name} {shown(row[leaf])}" for name, row in PRESETS.items() if (leaf := _leaf(key)) in row
        ]
        text = "the preset's: " + ", ".join(differing)
    return text


def _listing(section: str) -> Iterator[str]:
    keys = inside(section)
    width = max((len(_leaf(key)) for key in keys), default=0)
    for key in keys:
        yield f"  {_leaf(key):<{width}}  {key.doc}"
        yield f"  {'':<{width}}  takes {key.takes}; default {_default(key)}"


def _presets() -> Iterator[str]:
    for name, row in PRESETS.items():
        yield f"  {name}: {SOURCES[name]}"
        yield from (f"    {leaf}: {shown(value)}" for leaf, value in row.items())


def _leaf(key: Key) -> str:
    return key.name.rpartition(".")[2]
