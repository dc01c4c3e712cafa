"""The JSON schema (2020-12) of a recipe file, for editors: short forms, units and presets included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlvr.recipe.keys import SHORT_FORMS
from rlvr.recipe.presets import PRESETS
from rlvr.recipe.schema import Recipe
from rlvr.recipe.units import BYTES, SECONDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema; it accepts what `load` accepts."""
    schema = _without_titles(Recipe.model_json_schema())
    sections, top = schema["$defs"], schema["properties"]
    _algorithm(sections["Algorithm"])
    for section in ("Verifier", "Audit"):
        keys = sections[section]["properties"]
        for leaf, units in (("timeout", SECONDS), ("memory", BYTES)):
            keys[leaf] = _with_units(keys[leaf], units)
    sections["Model"]["oneOf"] = [
        {"required": [origin], "properties": {origin: {"type": kind}}}
        for origin, kind in (("name", "string"), ("make", "object"))
    ]
    for key in SHORT_FORMS:
        top[key] = _with_short_form(top[key])
    return {"$schema": DIALECT, "title": "rlvr recipe", **schema}


def _algorithm(section: dict[str, Any]) -> None:
    """Every key has a default: the preset's."""
    del section["required"]
    section["properties"]["preset"]["enum"] = list(PRESETS)
    for leaf, value in PRESETS["default"].items():
        section["properties"][leaf]["default"] = value


def _with_units(key: dict[str, Any], units: Iterable[str]) -> dict[str, Any]:
    kinds = [one["type"] for one in key.get("anyOf", [key])]
    number = {"type": kinds[0], "exclusiveMinimum": 0}
    null = [{"type": "null"}] if "null" in kinds else []
    text = {"type": "string", "pattern": rf"^\s*\d+(\.\d+)?\s*({'|'.join(units)})\s*$"}
    return {"description": key["description"], "default": key["default"], "anyOf": [number, text, *null]}


def _with_short_form(key: dict[str, Any]) -> dict[str, Any]:
    name: dict[str, Any] = {"type": "string"}
    if key.get("type") != "array":
        sections = key["anyOf"] if "anyOf" in key else [{"$ref": key["$ref"]}]
        return {"description": key["description"], "anyOf": [name, *sections]}
    one = [name, key["items"]]
    many = {"type": "array", "items": {"anyOf": one}, "minItems": key["minItems"]}
    return {"description": key["description"], "anyOf": [*one, many]}


def _without_titles(node: Any) -> Any:
    """pydantic's titles repeat the names; a key named `title` holds a dict and would stay."""
    if isinstance(node, list):
        return [_without_titles(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        name: _without_titles(each)
        for name, each in node.items()
        if name != "title" or isinstance(each, dict)
    }
