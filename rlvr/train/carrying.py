"""A run's carry: made where its recipe asks for one, and refused where that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from rlvr.errors import RecipeError
from rlvr.rollout.engine import FlowingEngine
from rlvr.train.carry import Carry
from rlvr.train.run import Run
from rlvr.types import Sampling
from rlvr.verify.audit import Auditor
from rlvr.verify.compose import Scorer


def carry_of(
    run: Run, again: Sequence[int], scorer: Scorer, sampling: Sampling, auditor: Auditor | None
) -> Carry | None:
    """What lets groups outlive their step; `again`: what was on its way in the checkpoint taken up."""
    share = run.recipe.sampling.carry
    if share == 0:
        return None
    if not isinstance(run.engine, FlowingEngine):
        raise RecipeError(
            f"sampling.carry = {share:g}: {run.engine.name} forgets what it has begun when it rests; set "
            "sampling.engine to hf or vllm_server, or carry to 0"
        )
    most = round(share * run.recipe.optim.problems_per_step)
    return Carry(
        engine=run.engine,
        scorer=scorer,
        sampling=sampling,
        most=most,
        steps=run.recipe.sampling.carry_steps,
        again=again,
        auditor=auditor,
        ranks=run.world.count,
    )
