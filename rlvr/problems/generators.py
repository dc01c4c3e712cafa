"""Procedural problem sources by name.  To add one: a class like `Story`, and a line in the table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from rlvr.errors import ProblemsError, near_miss

GENERATORS: dict[str, str] = {"story": "rlvr.problems.story:Story"}
"""Name -> `module:class`, imported when asked for; called with `split` and the recipe's options."""


def make_generator(name: str, split: str, options: Mapping[str, Any]) -> Any:
    """The generator `name`, a Source; raises ProblemsError for an option that it does not take."""
    module, _, attribute = GENERATORS[name].partition(":")
    factory: Callable[..., Any] = getattr(import_module(module), attribute)
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [key for key in parameters if key != "split"]
    for key in options:
        if key not in known and not takes_any:
            raise ProblemsError(
                f"problems.options.{key}: `{name}` has no such setting{near_miss(key, known)}"
            )
    return factory(split=split, **options)
