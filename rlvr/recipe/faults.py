"""From a mapping to a `Recipe`, or to every fault in it, told in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rlvr.errors import RecipeError, near_miss
from rlvr.recipe.document import Document, Spot, join, shown
from rlvr.recipe.keys import KEYS, bare, unknown
from rlvr.recipe.presets import PRESETS
from rlvr.recipe.schema import Recipe

REASONS = {
    "sampling.group_size": "advantages compare siblings",
    "sampling.temperature": "greedy completions are all equal and teach nothing",
    "sampling.max_lag": "the sampler does not run ahead of the trainer",
}
"""Why a bound is there, where it is not plain."""

FIRST_KEY = {
    "algorithm": "preset",
    "warm_start.problems": "source",
    "model": "name",
    "problems": "source",
    "sandbox": "remote",
}
"""What a text given for a section was probably meant to be."""


def validate(document: Document, path: str) -> Recipe:
    """The recipe that a document (short forms written out) says; raises one RecipeError with all faults."""
    given, spots = document.value, document.spots
    faults = [
        (key, _must(called(key, given), _written(key, value, spots), _is_typed(key, spots)))
        for key, value in _wrong_booleans(given, "")
    ]
    algorithm = given.get("algorithm")
    if (
        isinstance(algorithm, dict)
        and isinstance(name := algorithm.get("preset"), str)
        and name not in PRESETS
    ):
        faults.append(("algorithm.preset", f"`{name}` is no preset{near_miss(name, PRESETS)}"))
        given = {**given, "algorithm": {**algorithm, "preset": "default"}}
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(given)
    except ValidationError as error:
        faults += [_told(each, given, spots) for each in error.errors()]
    told = [(_line(spots, key), f"{place(path, spots, key)}: {text}") for key, text in faults]
    if recipe is not None and not (told or document.faults):
        return recipe
    ordered = sorted([*document.faults, *told], key=lambda fault: fault[0])
    raise RecipeError("\n".join(dict.fromkeys(text for _, text in ordered)))


def place(path: str, spots: Mapping[str, Spot], *keys: str) -> str:
    """Where the first of `keys` that was given stands, else its section, else the top of the file."""
    for key in keys:
        if key in spots:
            return spots[key].place
    for key in keys:
        while key := key.rpartition(".")[0]:
            if key in spots:
                return spots[key].place
    return f"{path}:1"


def called(key: str, given: Mapping[str, Any]) -> str:
    """A key as a person writes it: the only verifier has no index."""
    listed = given.get("verifier")
    alone = not isinstance(listed, list) or len(listed) < 2
    return key.replace("verifier.0.", "verifier.", 1) if alone and key.startswith("verifier.0.") else key


def _line(spots: Mapping[str, Spot], key: str) -> float:
    while key and key not in spots:
        key = key.rpartition(".")[0]
    if not key:
        return 1
    line = spots[key].line
    return inf if line is None else line


def _wrong_booleans(given: Any, above: str) -> Iterator[tuple[str, Any]]:
    """pydantic takes `true` for 1 and `yes` for true; a recipe does not."""
    if isinstance(given, list):
        for index, inner in enumerate(given):
            yield from _wrong_booleans(inner, join(above, index))
    for leaf, value in given.items() if isinstance(given, dict) else ():
        name = join(above, leaf)
        plain = KEYS[bare(name)].plain if bare(name) in KEYS else frozenset()
        scalar = value is not None and not isinstance(value, dict | list)
        if scalar and plain & {bool, int, float} and (bool in plain) != isinstance(value, bool):
            yield name, value
        yield from _wrong_booleans(value, name)


def _told(error: ErrorDetails, given: dict[str, Any], spots: Mapping[str, Spot]) -> tuple[str, str]:
    """The key at fault and the sentence about it."""
    parts = list(error["loc"])
    while len(parts) > 1 and error["type"] != "extra_forbidden" and bare(_dotted(parts)) not in KEYS:
        parts.pop()  # pydantic adds the branch of a union
    key = _dotted(parts)
    name = called(key, given)
    if error["type"] == "extra_forbidden":
        return key, unknown(name)
    if error["type"] == "missing":
        known = KEYS[bare(key)]
        return key, f"`{name}` is missing: give {known.takes} ({known.doc.rstrip('.')})"
    if error["type"] == "value_error":
        return key, f"`{name}`: {error.get('ctx', {}).get('error')}"
    return key, _must(name, _written(key, error["input"], spots), _is_typed(key, spots))


def _must(name: str, text: str, is_typed: bool) -> str:
    known = KEYS[bare(name)]
    why = f" ({REASONS[known.name]})" if known.name in REASONS else ""
    said = (
        f"`{name} = {text}`: must be {known.takes}{why}"
        if text
        else f"`{name}` is empty: must be {known.takes}"
    )
    near = near_miss(text, known.choices)
    if "did you mean" in near:
        return said + near
    if known.section is not None:
        first = FIRST_KEY.get(known.name)
        is_short = first and text and text[0] not in "[{"
        return said + (
            f"; write `{name}: {{{first}: {text}}}`" if is_short else "; give it keys, or leave it out"
        )
    if str in known.plain and text:
        quoted = shlex.quote(f'{name}="{text}"')
        shell = f", and the whole again for the shell: --set {quoted}" if is_typed else ""
        return f"{said}; put it in quotes{shell}"
    return said if known.default in (None, []) else f"{said}; the default is {shown(known.default)}"


def _is_typed(key: str, spots: Mapping[str, Spot]) -> bool:
    """Whether the value came by `--set`."""
    return key in spots and spots[key].line is None


def _written(key: str, value: Any, spots: Mapping[str, Spot]) -> str:
    return spots[key].text if key in spots else shown(value)


def _dotted(parts: list[int | str]) -> str:
    return ".".join(str(part) for part in parts)
