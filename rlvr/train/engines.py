"""The engine that a recipe samples with, in a run and in a probe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlvr import build
from rlvr.policy.parallel import ONE, World
from rlvr.recipe.schema import Recipe
from rlvr.rollout.engine import Elsewhere, Engine, Tell


def engine_of(
    recipe: Recipe,
    model: Any,
    tokenizer: Any,
    base_dir: Path,
    *,
    tell: Tell,
    note: Callable[[str], None],
    world: World = ONE,
) -> Engine:
    """The engine of a recipe; where it was chosen for it, `note` hears so.  Of ranks one asks servers."""
    name, chosen = build.choose_engine(recipe.sampling.engine, model)
    if chosen is not None:
        note(chosen)
    if name == "vllm_server" and not world.leads:
        return Elsewhere()
    return build.engine(
        name,
        model,
        tokenizer,
        batch_size=recipe.sampling.batch_size,
        vllm=recipe.vllm,
        base_dir=base_dir,
        tell=tell,
        trainers=world.beside,
    )
