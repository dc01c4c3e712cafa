"""YAML to `Recipe`.  Errors name FILE:LINE, the near miss and the mend, and all of a file come together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.errors import RecipeError
from rlvr.recipe.document import Document, Spot, parse
from rlvr.recipe.faults import called, place, validate
from rlvr.recipe.files import resolve
from rlvr.recipe.find import find, missing
from rlvr.recipe.override import override
from rlvr.recipe.schema import Recipe

__all__ = ["Loaded", "find", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A recipe and where each of its keys was given."""

    recipe: Recipe
    """The recipe, validated; cross-key checks are `rlvr.recipe.check`."""
    path: Path
    """The file."""
    given: dict[str, Any]
    """What file and `--set` say together, short forms written out; nothing filled in."""
    spots: dict[str, Spot]
    """Spot of every given key, by dotted key (`verifier.0.name`)."""
    text: str
    """The file's text."""

    @property
    def lines(self) -> dict[str, int]:
        """Line of every key that the file gives, by dotted key."""
        return {key: spot.line for key, spot in self.spots.items() if key and spot.line is not None}

    def place(self, *keys: str) -> str:
        """`FILE:LINE`, or the `--set`, of the first of `keys` that was given; else of its section."""
        return place(str(self.path), self.spots, *keys)

    def called(self, key: str) -> str:
        """The key as a person writes it: `verifier.name`, not `verifier.0.name`, where there is one only."""
        return called(key, self.given)

    def resolve(self, value: str) -> Path:
        """The path that a value names: relative ones are relative to the recipe's folder."""
        return resolve(self.path, value)


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe file, put in the `KEY=VALUE` overrides, validate; raises RecipeError with every fault.

    An override replaces the whole value of its key (`model=PATH` drops the file's other `model` keys);
    paths in it are relative to the current folder.
    """
    text = _read(path)
    document = override(_mapping(path, parse(text, lambda line: f"{path}:{line}")), overrides)
    recipe = validate(document, str(path))
    return Loaded(recipe=recipe, path=path, given=document.value, spots=document.spots, text=text)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise missing(path) from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise RecipeError(f"{path}:{line}: byte {byte:#04x} is not UTF-8; save the file as UTF-8") from None


def _mapping(path: Path, document: Document) -> Document:
    wanted = "a recipe is a mapping of keys and needs at least `model` and `problems`"
    if document.value is None:
        raise RecipeError(f"{path}:1: the file is empty; {wanted}")
    if not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else f"the value `{document.spots[''].text}`"
        raise RecipeError(f"{document.spots[''].place}: this is {kind}; {wanted}")
    return document
