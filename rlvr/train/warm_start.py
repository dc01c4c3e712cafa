"""Supervised steps on worked solutions before the reinforcement learning: an R1-style cold start.

The loss is the weighted mean over solution tokens of -log pi; prompts are not imitated.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from rlvr.algo.ranks import ALONE, Ranks
from rlvr.errors import ProblemsError, TrainingError
from rlvr.policy import optim
from rlvr.policy.logprobs import completion_logprobs
from rlvr.policy.packing import packed_attention
from rlvr.problems.prompts import Renderer
from rlvr.problems.sampler import permutation
from rlvr.train.batch import micro_batches, take, together
from rlvr.train.run import Run, State
from rlvr.types import Batch, Worked

FIRST_INDEX = 2**40
"""Problems of an endless generator that the warm start uses begin here: training counts from 0."""
REPORT_EVERY = 20
MAX_GRAD_NORM = 1.0


def warm_start(run: Run, state: State) -> None:
    """Go on from `state.warm_step` to the last supervised step; `state` moves along."""
    spec = run.recipe.warm_start
    if spec is None or state.warm_step >= spec.steps:
        return
    optimizers = optim.warm_start_optimizers(
        run.model,
        spec.optimizer,
        learning_rate=spec.learning_rate,
        betas=spec.betas,
        weight_decay=spec.weight_decay,
    )
    run.use("warm", optimizers)
    losses, tokens, since = [], 0, perf_counter()
    while state.warm_step < spec.steps:
        run.world.attempt(run.signals.hear if run.world.count > 1 else lambda: None)
        run.record.phase("warm_start", state.warm_step, spec.steps)
        first = state.warm_step * spec.batch_size
        batch = _pack(
            examples(run.worked, run.recipe.run.seed, first, spec.batch_size), run.renderer, run.device
        )
        rate = optim.learning_rate_at(
            state.warm_step,
            peak=spec.learning_rate,
            warmup=spec.warmup_steps,
            total=spec.steps,
            schedule="late_linear",
        )
        tokens += int(batch.lengths_B.sum())
        with run.signals.deferred():
            budget, ranks = run.recipe.optim.micro_batch_tokens, run.ranks
            rows = torch.arange(run.world.rank, spec.batch_size, run.world.count, device=run.device)
            losses.append(imitate(run.model, optimizers, batch, rate, budget, rows, ranks, packed=run.packs))
            state.warm_step += 1
            if state.warm_step % REPORT_EVERY == 0 or state.warm_step == spec.steps:
                measured = {
                    "loss_nats": sum(losses) / len(losses),
                    "learning_rate": rate,
                    "tokens_per_s": tokens / (perf_counter() - since),
                }
                run.record.warm_start(state.warm_step, measured)
                losses, tokens, since = [], 0, perf_counter()
        if spec.save_every and state.warm_step % spec.save_every == 0 and state.warm_step < spec.steps:
            run.save(state)


def examples(worked: Any, seed: int, first: int, count: int) -> list[Worked]:
    """`count` solutions of the walk from `first` on: a generator's in order, a table's in seeded epochs."""
    if hasattr(worked, "worked"):
        per_problem = len(worked.worked(FIRST_INDEX))
        problems = range(first // per_problem, (first + count - 1) // per_problem + 1)
        found = [w for index in problems for w in worked.worked(FIRST_INDEX + index)]
        offset = first % per_problem
        return found[offset : offset + count]
    places = (divmod(serial, len(worked)) for serial in range(first, first + count))
    return [worked[int(permutation(seed, epoch, len(worked))[place])] for epoch, place in places]


def imitate(
    model: Any,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    learning_rate: float,
    token_budget: int,
    rows: torch.Tensor,
    ranks: Ranks = ALONE,
    *,
    packed: bool = False,
) -> float:
    """One step; the weight of each token stands in `advantages_BC`.  Returns the mean loss in nats.

    `rows`: the sequences of this rank, of a batch that is the same on all `ranks`.  Raises TrainingError when
    the gradient is not finite.
    """
    total, value = batch.advantages_BC.sum(), 0.0
    model.train(model.is_gradient_checkpointing)
    parts = together(micro_batches(batch, rows, token_budget, packed=packed), ranks)
    for micro in (take(batch, part) for part in parts):
        said = completion_logprobs(
            model,
            micro.ids_BT,
            micro.prompt_lengths_B,
            micro.lengths_B,
            temperature=1.0,
            columns=micro.mask_BC.shape[1],
            prompt_B=micro.group_B if packed else None,
        )
        loss = -(micro.advantages_BC * said.logprobs).sum() / total
        with packed_attention(model) if packed else nullcontext():
            loss.backward()  # type: ignore[no-untyped-call]
        value += float(loss.detach())
    norm, updated = optim.step(optimizers, learning_rate, MAX_GRAD_NORM)
    model.eval()
    if not updated:
        raise TrainingError(
            f"warm start: the gradient is not finite (norm {norm}); "
            f"lower warm_start.learning_rate, now {learning_rate:g}"
        )
    return float(ranks.sum(torch.tensor(value, dtype=torch.float64)))


def _pack(worked: Sequence[Worked], renderer: Renderer, device: torch.device) -> Batch:
    pairs = [renderer.solution_ids(w) for w in worked]
    for (prompt, solution), w in zip(pairs, worked, strict=True):
        if len(prompt) + len(solution) > renderer.context:
            raise ProblemsError(
                f"warm start: problem {w.problem.id} and its solution have "
                f"{len(prompt) + len(solution)} tokens, the model's context is {renderer.context}; "
                "leave it out or shorten it"
            )
    prompts_B = torch.tensor([len(prompt) for prompt, _ in pairs])
    solutions_B = torch.tensor([len(solution) for _, solution in pairs])
    mask_BC = torch.arange(int(solutions_B.max())) < solutions_B[:, None]
    weights_B = torch.tensor([w.weight for w in worked])
    first = {prompt: row for row, (prompt, _) in reversed(list(enumerate(pairs)))}
    return Batch(
        ids_BT=pad_sequence([torch.tensor(p + s) for p, s in pairs], batch_first=True).to(device),
        prompt_lengths_B=prompts_B.to(device),
        lengths_B=(prompts_B + solutions_B).to(device),
        mask_BC=mask_BC.to(device),
        rollout_logprobs_BC=torch.zeros(mask_BC.shape, device=device),
        advantages_BC=(mask_BC * weights_B[:, None]).to(device),
        group_B=torch.tensor([first[prompt] for prompt, _ in pairs], device=device),
        replayed_B=torch.zeros(len(worked), dtype=torch.bool, device=device),
    )
