"""Time of a step by phase, from FLOPs and bytes over peaks, and shares of those peaks that are assumed.

    decoding    a step of all sequences reads the weights and their keys and values: bandwidth, or FLOPs
    prompts, log-probabilities, update    the work of rlvr/policy/flops.py
    ranks       gather weights before each pass and scatter gradients: the link, where that takes longer

Verification, step credit, evaluation, the warm start and the start of an engine are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlvr.plan.memory import fitting, sequence_bytes
from rlvr.plan.work import Work
from rlvr.policy import flops


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of one step, by phase."""

    sample: float
    """Prompts and decoding."""
    logprobs: float
    """Log-probabilities before the update, of the old policy and the reference."""
    update: float
    """Forward and backward passes, and the optimizer."""
    sync: float
    """New weights to the engine."""
    overlaps: bool
    """Whether sampling goes on during the rest (`sampling.max_lag`)."""

    @property
    def step(self) -> float:
        """The whole step."""
        rest = self.logprobs + self.update + self.sync
        return max(self.sample, rest) if self.overlaps else self.sample + rest


def needed(work: Work) -> flops.Shape:
    """What the FLOPs of this work follow from; of experts those that a token goes through."""
    shape = work.shape
    full = shape.layers - shape.window_layers
    windows = ((full, None), (shape.window_layers, shape.window))
    return flops.Shape(
        weights=shape.active + work.adapter,
        trained=work.adapter if work.has_lora else shape.active,
        head=shape.embedding,
        head_trained=not work.has_lora,
        attention=tuple((layers * shape.queries, window) for layers, window in windows if layers),
    )


def pace(work: Work) -> Pace:
    """The times of a step whose completions have their mean length."""
    assumed, recipe = work.assumed, work.recipe
    groups = work.rank_sequences / recipe.sampling.group_size
    read = work.prompt, [work.mean_completion] * recipe.sampling.group_size
    cost = needed(work)
    forward, learned = groups * cost.forward(*read), groups * cost.update(*read)
    if not work.is_packed:  # each sibling reads the prompt anew
        again = work.rank_sequences - groups
        forward += again * cost.forward(work.prompt, [])
        learned += again * cost.update(work.prompt, [])
    if recipe.model.gradient_checkpointing:
        learned += forward
    passes = work.micro.passes * recipe.optim.minibatches
    own = 1e-3 * assumed.layer_ms * work.shape.layers * passes
    gather = _gather_s(work) * passes
    update = max(learned / _rate(work), 3 * gather) + learned / forward * own
    return Pace(
        sample=assumed.sample * _sample_s(work, cost),
        logprobs=assumed.logprobs * work.looks * (max(forward / _rate(work), gather) + own),
        update=assumed.update * (update + recipe.optim.minibatches * _optimizer_s(work)),
        sync=assumed.sync * _sync_s(work),
        overlaps=recipe.sampling.max_lag > 0,
    )


def _rate(work: Work) -> float:
    return work.gpu.flops[work.recipe.model.dtype] * work.assumed.mfu


def _bandwidth(work: Work) -> float:
    return work.gpu.bandwidth * work.assumed.bandwidth


def _optimizer_s(work: Work) -> float:
    """AdamW reads a gradient, writes and reads a weight and two moments: seven numbers of a parameter.

    In the host's memory in float32, and two more on their way there and back.
    """
    if work.recipe.optim.offload:
        return 4 * 9 * work.trained / (1e9 * work.assumed.host_gb_s)
    return 7 * work.trained_bytes / work.ranks / _bandwidth(work)


def _sample_s(work: Work, cost: flops.Shape) -> float:
    shape, mean = work.shape, work.mean_completion
    split = work.recipe.vllm.tensor_parallel if work.engine == "vllm_server" else 1
    sequences = work.sequences / work.engines
    at_once = max(1.0, min(work.recipe.sampling.batch_size, fitting(work), sequences))
    context = work.prompt + mean / 2
    touched = 1.0
    if shape.experts:
        touched = 1 - (1 - shape.chosen / shape.experts) ** at_once
    experts = shape.sparse_layers * shape.experts * shape.expert
    weights = work.width * (shape.parameters - (1 - touched) * experts)
    if not shape.tied:
        weights -= work.width * shape.embedding  # a row of the embedding is looked up, not all are read
    read = (weights + at_once * sequence_bytes(work, int(context))) / split
    groups = sequences / work.recipe.sampling.group_size
    prefill = cost.forward(work.prompt, [1])
    decoded = cost.forward(work.prompt, [mean] * work.recipe.sampling.group_size) - prefill
    steps = max(1.0, sequences / at_once) * mean
    own = 1e-3 * (work.assumed.layer_ms * shape.layers if work.engine == "hf" else work.assumed.vllm_ms)
    step_s = max(read / _bandwidth(work), groups * decoded / steps / split / _rate(work)) + own
    return groups * prefill / split / _rate(work) + steps * step_s


def _gather_s(work: Work) -> float:
    """Seconds to gather the weights once around the ranks."""
    if work.ranks == 1:
        return 0.0
    share = (work.ranks - 1) / work.ranks
    return share * work.width * work.shape.parameters / (work.gpu.link * work.assumed.link)


def _sync_s(work: Work) -> float:
    if work.engine == "hf" and work.ranks == 1:
        return 0.0
    size = 4 * work.adapter if work.has_lora else work.width * work.shape.parameters
    here = 4 * size / _bandwidth(work)  # written, and read for the checksums
    link = size / (work.gpu.link * work.assumed.link) if work.ranks > 1 or not work.samples_here else 0.0
    return here + link
