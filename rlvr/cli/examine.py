"""The checks of a recipe that need neither torch nor vLLM, of every room that has some."""

from __future__ import annotations

from rlvr.errors import RecipeError
from rlvr.recipe.check import check
from rlvr.recipe.load import Loaded
from rlvr.rollout.vllm_options import faults


def examine(loaded: Loaded) -> list[str]:
    """Warnings about a recipe, each with its place; raises RecipeError where it cannot work."""
    warnings = check(loaded)
    if loaded.recipe.sampling.engine != "hf":
        wrong = [
            f"{loaded.place(f'vllm.options.{name}', 'vllm.options')}: {fault}"
            for name, fault in faults(loaded.recipe.vllm.options)
        ]
        if wrong:
            raise RecipeError("\n".join(wrong))
    return warnings
