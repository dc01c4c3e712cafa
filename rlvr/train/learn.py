"""From what a step kept to one update of the policy: dealt to ranks, packed, learned from."""

from __future__ import annotations

from dataclasses import replace

import torch

from rlvr import build
from rlvr.algo.pivots import marks
from rlvr.policy import optim
from rlvr.train.batch import deal, pack
from rlvr.train.run import Run, State
from rlvr.train.stream import Taken
from rlvr.train.update import UpdateSettings, update


def learn(run: Run, state: State, taken: Taken) -> dict[str, float]:
    """Train on what was kept, all ranks together; metrics, none where there is nothing to learn from."""
    algorithm, spec = run.recipe.algorithm, run.recipe.optim
    if not taken.kept:
        return {}
    world, ranks = run.world, run.ranks
    shape = run.pace.shape
    own, updates = deal(taken.kept, spec.minibatches, rank=world.rank, ranks=world.count, shape=shape)
    batch = pack(
        own,
        baseline=algorithm.baseline,
        scale=algorithm.scale,
        epsilon=algorithm.advantage_epsilon,
        mask_truncated=algorithm.overlong == "mask",
        device=run.device,
        ranks=ranks,
        push_below={"step_mc": 1.0, "segment_mc": algorithm.segment_probability}.get(algorithm.credit),
    )
    if not ranks.most(float(batch.mask_BC.any())):
        return {}
    completions = [c for g in own for c in g.group.completions]
    marked_BC = marks(run.lexicon, completions, batch.mask_BC.shape[1])
    sizes = [len(g.rewards) for g in own]
    numbers = [number for number, size in zip(updates, sizes, strict=True) for _ in range(size)]
    update_B = torch.tensor(numbers, dtype=torch.long, device=run.device)
    batch = replace(batch, pivot_BC=marked_BC.to(run.device), update_B=update_B)
    rate = optim.learning_rate_at(
        state.step,
        peak=spec.learning_rate,
        warmup=spec.warmup_steps,
        total=run.recipe.run.steps,
        schedule=spec.schedule,
    )
    settings = UpdateSettings(
        temperature=run.recipe.sampling.temperature,
        minibatches=spec.minibatches,
        micro_batch_tokens=spec.micro_batch_tokens,
        max_grad_norm=spec.max_grad_norm,
        packed=run.packs,
        clock=run.clock,
    )
    loss = build.loss(algorithm)
    if loss.adapts and state.entropy_coef is not None:
        loss = replace(loss, entropy_coef=state.entropy_coef)
    guard = {} if loss.entropy == "off" else {"loss/guard": float(run.course.armed)}
    if not run.course.armed:
        loss = replace(loss, entropy="off")
    metrics = update(run.model, run.reference, run.optimizers[0], batch, loss, settings, rate, ranks)
    if run.course.armed:
        state.entropy_coef = metrics.get("loss/entropy_coef")
    state.skipped_in_a_row = state.skipped_in_a_row + 1 if metrics["optim/skipped"] else 0
    return metrics | guard
