"""The checks of a recipe that need neither torch nor vLLM, of every room that has some."""

from __future__ import annotations

import re

from rlvr.cli.examine_data import data
from rlvr.errors import RecipeError, VerifierError
from rlvr.recipe.check import check, placed
from rlvr.recipe.check_engine import Findings
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Verifier
from rlvr.rollout.vllm_options import faults
from rlvr.verify.pool import Pool, Spec


def examine(loaded: Loaded) -> list[str]:
    """Warnings about a recipe, each with its place; raises RecipeError where it cannot work.

    Verifiers are loaded in a process of their own; of the data, what lies on this machine is looked at.
    """
    warnings = check(loaded)
    found = placed(loaded, (_vllm, _verifiers, data))
    if found:
        raise RecipeError("\n".join(found))
    return warnings


def _vllm(loaded: Loaded) -> Findings:
    if loaded.recipe.sampling.engine != "hf":
        for name, fault in faults(loaded.recipe.vllm.options):
            yield (f"vllm.options.{name}", "vllm.options"), fault


def _verifiers(loaded: Loaded) -> Findings:
    """Whether a worker can load each verifier with its options, as the run's workers will."""
    audit = loaded.recipe.audit
    named = [(f"verifier.{i}", verifier) for i, verifier in enumerate(loaded.recipe.verifier)]
    named += [("audit", audit.verifier)] if audit else []
    if _refusal(loaded, *(verifier for _, verifier in named)) is None:
        return
    for key, verifier in named:
        if (said := _refusal(loaded, verifier)) is not None:
            options = [f"{key}.{option}" for option in re.findall(r"option `(\w+)`", said)]
            yield (*options, f"{key}.name", key), said


def _refusal(loaded: Loaded, *verifiers: Verifier) -> str | None:
    """What a worker says that cannot load them all."""
    specs = [
        Spec(
            name=verifier.name,
            options=dict(verifier.model_extra or {}),
            memory_bytes=verifier.memory,
            base_dir=loaded.path.parent.resolve(),
        )
        for verifier in verifiers
    ]
    try:
        Pool(specs, 1).close()
    except VerifierError as error:
        return str(error)
    return None
