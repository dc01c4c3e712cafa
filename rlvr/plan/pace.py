"""Time of a step by phase, from FLOPs and bytes over peaks, and shares of those peaks that are assumed.

    decoding    a step of all sequences reads the weights and their keys and values: bandwidth, or FLOPs
    prompts, log-probabilities, update    2 FLOPs a weight and token, twice that backward (arXiv:2001.08361)
    ranks       gather weights before each pass and scatter gradients: the link, where that takes longer

Verification, evaluation, the warm start and the start of an engine are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlvr.plan.memory import fitting, sequence_bytes
from rlvr.plan.shape import Shape
from rlvr.plan.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """Shares of a device's peaks that are reached: guesses, shown with every plan."""

    mfu: float = 0.35
    """Of the peak FLOP/s, in forward and backward passes over many tokens."""
    bandwidth: float = 0.6
    """Of the memory's bandwidth, in decoding and in the optimizer's step."""
    link: float = 0.7
    """Of the link's, between ranks and to servers."""
    layer_s: float = 2.5e-4
    """Seconds a layer and pass that transformers' models take beside the arithmetic: Python, launches."""
    vllm_s: float = 4e-3
    """Seconds a decoding step of vLLM likewise."""


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


def forward_flops(shape: Shape, tokens: float, heads: float, context: float) -> float:
    """FLOPs of a forward pass over `tokens` that see `context` each; `heads` of them reach the head."""
    layers = 2.0 * shape.active + 4.0 * shape.layers * shape.queries * context
    return layers * tokens + 2.0 * shape.embedding * heads


def pace(work: Work, assumed: Assumed) -> Pace:
    """The times of a step whose completions have their mean length."""
    length = work.prompt + work.mean_completion
    prompts = work.rank_sequences / work.recipe.sampling.group_size
    tokens = prompts * work.prompt + work.rank_sequences * work.mean_completion  # packed: a prompt once
    heads = work.rank_sequences * work.mean_completion
    forward = forward_flops(work.shape, tokens, heads, length / 2)
    compute = work.gpu.flops[work.recipe.model.dtype] * assumed.mfu
    passes = work.micro.passes * work.recipe.optim.minibatches
    gather = _gather_s(work, assumed) * passes
    own = assumed.layer_s * work.shape.layers * passes
    # Backward: gradients of what is read and of the weights; an adapter needs only the first.
    factor = (2 if work.has_lora else 3) + work.recipe.model.gradient_checkpointing
    moved = 7 * work.trained_bytes / work.ranks * work.recipe.optim.minibatches
    return Pace(
        sample=_sample_s(work, assumed),
        logprobs=work.looks * (max(forward / compute, gather) + own),
        update=max(factor * forward / compute, 3 * gather)
        + factor * own
        + moved / (work.gpu.bandwidth * assumed.bandwidth),
        sync=_sync_s(work, assumed),
        overlaps=work.recipe.sampling.max_lag > 0,
    )


def _sample_s(work: Work, assumed: Assumed) -> float:
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
    flops = forward_flops(shape, at_once, at_once, context) / split
    peak = work.gpu.flops[work.recipe.model.dtype] * assumed.mfu
    own = assumed.layer_s * shape.layers if work.engine == "hf" else assumed.vllm_s
    step_s = max(read / (work.gpu.bandwidth * assumed.bandwidth), flops / peak) + own
    prompts = sequences / work.recipe.sampling.group_size
    prefill = forward_flops(shape, prompts * work.prompt, prompts, work.prompt / 2) / split / peak
    return prefill + sequences / at_once * mean * step_s


def _gather_s(work: Work, assumed: Assumed) -> float:
    """Seconds to gather the weights once around the ranks."""
    if work.ranks == 1:
        return 0.0
    share = (work.ranks - 1) / work.ranks
    return share * work.width * work.shape.parameters / (work.gpu.link * assumed.link)


def _sync_s(work: Work, assumed: Assumed) -> float:
    if work.engine == "hf" and work.ranks == 1:
        return 0.0
    size = 4 * work.adapter if work.has_lora else work.width * work.shape.parameters
    here = 4 * size / (work.gpu.bandwidth * assumed.bandwidth)  # written, and read for the checksums
    link = size / (work.gpu.link * assumed.link) if work.ranks > 1 or not work.samples_here else 0.0
    return here + link
