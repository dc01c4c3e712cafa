"""One step of learning: log-probabilities, coefficients, backward, optimizer."""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from rlvr.algo.aggregate import Totals
from rlvr.algo.diagnostics import drift_sums, ess_share
from rlvr.algo.loss import Loss, Terms, loss_terms
from rlvr.policy import optim
from rlvr.policy.logprobs import completion_logprobs
from rlvr.train.batch import micro_batches, minibatches, take
from rlvr.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """How a step's batch is worked through."""

    temperature: float
    """Of the sampling."""
    minibatches: int
    """Optimizer updates."""
    micro_batch_tokens: int
    """Padded tokens of one forward pass."""
    max_grad_norm: float
    """Gradients are scaled down to this norm."""


def update(
    model: Any,
    reference: Any | None,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss: Loss,
    settings: UpdateSettings,
    learning_rate: float,
) -> dict[str, float]:
    """Train on `batch`; returns metrics by registered name.

    With one update a step the old policy is the current one, so its log-probabilities come from the same
    forward pass and the ratio is exactly 1; with several they are computed first.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    started = perf_counter()
    old_BC = None
    if settings.minibatches > 1:
        old_BC = _old_logprobs(model, batch, settings)
    sums["logprobs_s"] = perf_counter() - started
    # Training mode would switch dropout on, which the rollouts did not have; only recomputation asks for it.
    model.train(model.is_gradient_checkpointing)
    for rows in minibatches(batch, settings.minibatches):
        totals = Totals.of(batch.mask_BC[rows])
        for micro_rows in micro_batches(batch, rows, settings.micro_batch_tokens):
            micro = take(batch, micro_rows)
            old = None if old_BC is None else old_BC[micro_rows, : micro.mask_BC.shape[1]]
            _backward(model, reference, micro, old, loss, totals, settings, sums)
        norm, updated = optim.step([optimizer], learning_rate, settings.max_grad_norm)
        sums["grad_norm"] += norm
        sums["updates"] += 1
        sums["skipped"] += not updated
    model.eval()
    sums["update_s"] = perf_counter() - started - sums["logprobs_s"]
    return _metrics(sums, learning_rate)


def _backward(
    model: Any,
    reference: Any | None,
    micro: Batch,
    old: torch.Tensor | None,
    loss: Loss,
    totals: Totals,
    settings: UpdateSettings,
    sums: defaultdict[str, float],
) -> None:
    """Add the gradients of one micro-batch, and its share of every statistic to `sums`."""
    logprobs, entropy = _forward(model, micro, settings)
    old = logprobs.detach() if old is None else old
    reference_logprobs = None
    if reference is not None:
        # An adapter's reference is the model without it: never a second copy.
        with torch.no_grad(), model.disable_adapter() if reference is model else nullcontext():
            reference_logprobs, _ = _forward(reference, micro, settings)
    terms = loss_terms(
        loss,
        logprobs=logprobs,
        old=old,
        rollout=micro.rollout_logprobs_BC,
        reference=reference_logprobs,
        advantages=micro.advantages_BC,
        mask=micro.mask_BC,
        totals=totals,
    )
    (-(terms.coefficient * logprobs).sum()).backward()  # type: ignore[no-untyped-call]
    _add_statistics(sums, loss, terms, micro, logprobs.detach(), old, entropy)


def _forward(model: Any, batch: Batch, settings: UpdateSettings) -> tuple[torch.Tensor, torch.Tensor]:
    return completion_logprobs(
        model,
        batch.ids_BT,
        batch.prompt_lengths_B,
        batch.lengths_B,
        temperature=settings.temperature,
        columns=batch.mask_BC.shape[1],
    )


@torch.no_grad()
def _old_logprobs(model: Any, batch: Batch, settings: UpdateSettings) -> torch.Tensor:
    old_BC = torch.zeros_like(batch.rollout_logprobs_BC)
    everything = torch.arange(len(batch.lengths_B), device=old_BC.device)
    for rows in micro_batches(batch, everything, settings.micro_batch_tokens):
        micro = take(batch, rows)
        old_BC[rows, : micro.mask_BC.shape[1]] = _forward(model, micro, settings)[0]
    return old_BC


def _add_statistics(
    sums: defaultdict[str, float],
    loss: Loss,
    terms: Terms,
    micro: Batch,
    logprobs: torch.Tensor,
    old: torch.Tensor,
    entropy: torch.Tensor,
) -> None:
    mask = micro.mask_BC
    ratio, advantage = terms.ratio[mask], micro.advantages_BC[mask]
    log_ratio = (logprobs - old)[mask]
    drift = drift_sums(old, micro.rollout_logprobs_BC, mask)
    clipped = loss.gate == "clip"
    sums["max"] = max(sums["max"], drift.pop("max"))
    for name, value in {
        "tokens": len(ratio),
        "sequences": int(mask.any(-1).sum()),
        "entropy": float(entropy[mask].sum()),
        "surrogate": float(terms.surrogate.sum()),
        "ratio": float(ratio.sum()),
        "kl_ref": float(terms.kl.sum()),
        "approx_kl": float((log_ratio.exp() - 1 - log_ratio).sum()),
        "clip_low": float(((ratio < 1 - loss.clip_low) & (advantage < 0)).sum()) if clipped else 0.0,
        "clip_high": float(((ratio > 1 + loss.clip_high) & (advantage > 0)).sum()) if clipped else 0.0,
        **drift,
    }.items():
        sums[name] += value


def _metrics(sums: defaultdict[str, float], learning_rate: float) -> dict[str, float]:
    tokens, updates = max(sums["tokens"], 1.0), max(sums["updates"], 1.0)
    return {
        "batch/sequences": sums["sequences"],
        "batch/tokens": sums["tokens"],
        "policy/entropy_nats": sums["entropy"] / tokens,
        "policy/mismatch_kl_nats": sums["k3"] / tokens,
        "policy/mismatch_max_nats": sums["max"],
        "policy/ess_share": ess_share(sums["w"], sums["w_squared"], int(sums["tokens"])),
        "loss/surrogate": sums["surrogate"] / updates,
        "loss/ratio_mean": sums["ratio"] / tokens,
        "loss/clip_low_share": sums["clip_low"] / tokens,
        "loss/clip_high_share": sums["clip_high"] / tokens,
        "loss/approx_kl_nats": sums["approx_kl"] / tokens,
        "loss/kl_ref_nats": sums["kl_ref"] / tokens,
        "optim/grad_norm": sums["grad_norm"] / updates,
        "optim/learning_rate": learning_rate,
        "optim/skipped": sums["skipped"],
        "time/logprobs_s": sums["logprobs_s"],
        "time/update_s": sums["update_s"],
    }
