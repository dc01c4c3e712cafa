"""`--set a.b=c`: values put into a recipe from the command line, read with the same YAML rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from rlvr.errors import RecipeError
from rlvr.recipe.document import Document, Spot, join, parse
from rlvr.recipe.files import PATH_KEYS, is_local
from rlvr.recipe.keys import SHORT_FORMS, bare


def override(document: Document, settings: Sequence[str]) -> Document:
    """The document with each `KEY=VALUE` put in as if the file said so; its faults tell what cannot be."""
    document = spread(document)
    for setting in settings:
        try:
            document = spread(_put(document, setting))
        except RecipeError as error:
            document = replace(document, faults=(*document.faults, (inf, str(error))))
    return document


def spread(document: Document) -> Document:
    """The same with short forms written out: `model: NAME` as `model: {name: NAME}`, `verifier` as a list."""
    value, spots = dict(document.value), dict(document.spots)
    for key, inner in SHORT_FORMS.items():
        if key != "verifier" and isinstance(value.get(key), str):
            value[key] = {inner: value[key]}
            spots[f"{key}.{inner}"] = spots[key]
    if isinstance(value.get("verifier"), str | dict):
        value["verifier"] = [value["verifier"]]
        moved = {f"verifier.0{key.removeprefix('verifier')}": spots[key] for key in _below(spots, "verifier")}
        spots |= moved
    if isinstance(value.get("verifier"), list):
        for index, each in enumerate(value["verifier"]):
            if isinstance(each, str) and (spot := spots.get(f"verifier.{index}")):
                spots[f"verifier.{index}.name"] = spot
        value["verifier"] = [{"name": each} if isinstance(each, str) else each for each in value["verifier"]]
    return replace(document, value=value, spots=spots)


def _put(document: Document, setting: str) -> Document:
    place = f"--set {setting}"
    name, sign, text = setting.partition("=")
    parts = name.strip().split(".")
    if not sign or not all(parts):
        raise RecipeError(f"{place}: write it as KEY=VALUE, for example `--set run.steps=10`")
    new = parse(text, lambda _line: place)
    value = _copy(document.value)
    parts = _pick_verifier(value, parts, place)
    key = ".".join(parts)
    gone = _below(document.spots, key)
    spots = {old: spot for old, spot in document.spots.items() if old not in gone}
    for inner, spot in new.spots.items() or [("", replace(document.spots[""], text=text))]:
        spots[join(key, inner) if inner else key] = replace(spot, place=place, line=None)
    for depth in range(1, len(parts)):  # sections that only the command line gives
        spots.setdefault(".".join(parts[:depth]), Spot(place=place, line=None, text=text))
    _assign(value, parts, _from_here(key, new.value), place)
    return Document(
        value=value, spots=spots, faults=(*document.faults, *((inf, text) for _, text in new.faults))
    )


def _pick_verifier(value: dict[str, Any], parts: list[str], place: str) -> list[str]:
    """`verifier.tolerance` means the only verifier; where none is listed, the default one."""
    if parts[0] != "verifier" or len(parts) == 1 or parts[1].isdecimal():
        return parts
    listed = value.setdefault("verifier", [{"name": "math"}])
    if isinstance(listed, list) and len(listed) > 1:
        rest = ".".join(parts[1:])
        raise RecipeError(
            f"{place}: there are {len(listed)} verifiers; say which, from `verifier.0.{rest}` to "
            f"`verifier.{len(listed) - 1}.{rest}`"
        )
    return ["verifier", "0", *parts[1:]]


def _assign(into: Any, parts: list[str], new: Any, place: str) -> None:
    for depth, part in enumerate(parts):
        above = ".".join(parts[:depth])
        slot: Any = part
        if isinstance(into, list):
            if not part.isdecimal() or int(part) >= len(into):
                raise RecipeError(
                    f"{place}: `{above}` has the entries 0 to {len(into) - 1}; `{part}` is none of them"
                )
            slot = int(part)
        elif not isinstance(into, dict):
            raise RecipeError(f"{place}: `{above}` holds no keys; set `{above}` itself")
        if depth == len(parts) - 1:
            into[slot] = new
        elif isinstance(into, dict) and into.get(slot) is None:
            into[slot] = {}
        into = into[slot]


def _from_here(key: str, value: Any) -> Any:
    """Paths typed on the command line are relative to where it is typed, not to the recipe."""
    if isinstance(value, dict):
        return {name: _from_here(join(key, name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_from_here(key, inner) for inner in value]
    name = bare(key)
    name = join(name, SHORT_FORMS[name]) if name in SHORT_FORMS else name
    if isinstance(value, str) and name in PATH_KEYS and is_local(name, value) and not value.startswith("~"):
        return str(Path.cwd() / value)
    return value


def _below(spots: dict[str, Any], key: str) -> list[str]:
    return [name for name in spots if name == key or name.startswith(f"{key}.")]


def _copy(value: Any) -> Any:
    """A deep copy of dicts and lists: aliases in YAML share them."""
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
