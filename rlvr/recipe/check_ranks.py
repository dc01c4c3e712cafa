"""Checks of what several ranks cannot do: see `check.py`."""

from __future__ import annotations

from rlvr.recipe.check_engine import Findings
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Recipe


def ranks(loaded: Loaded, count: int | None = None) -> Findings:
    """Keys that only one process can follow, where there are `count` (`run.ranks`)."""
    return alone(loaded.recipe, count or loaded.recipe.run.ranks or 1)


def alone(recipe: Recipe, count: int) -> Findings:
    """Keys of `recipe` that only one process can follow, where there are `count`."""
    if count == 1:
        return
    if recipe.optim.offload:
        yield (
            ("optim.offload",),
            f"`optim.offload` is for one process, and {count} ranks share the optimizer's state instead; "
            "leave it out, or set run.ranks to 1",
        )
