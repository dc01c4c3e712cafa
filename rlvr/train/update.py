"""One step of learning: log-probabilities, coefficients, backward, optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import log
from time import perf_counter
from typing import Any

import torch

from rlvr.algo.diagnostics import drift_sums, ess_share
from rlvr.algo.loss import Loss, Terms, Tokens, loss_terms
from rlvr.algo.select import Selection, select, step_advantages
from rlvr.policy import optim
from rlvr.policy.logprobs import CHUNK_ELEMENTS, completion_logprobs, scale_logits
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
    forward pass and the ratio is exactly 1; with several they are computed first, and so is whatever the
    loss must know of all tokens before it learns from one.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    started = perf_counter()
    batch, before = _before(model, reference, batch, loss, settings)
    sums["logprobs_s"] = perf_counter() - started
    # Training mode would switch dropout on, which the rollouts did not have; only recomputation asks for it.
    model.train(model.is_gradient_checkpointing)
    for rows in minibatches(batch, settings.minibatches):
        chosen = _select(model, batch, before, rows, loss, settings)
        for micro_rows in micro_batches(batch, rows, settings.micro_batch_tokens):
            _backward(
                model, reference, take(batch, micro_rows), micro_rows, before, chosen, loss, settings, sums
            )
        norm, updated = optim.step([optimizer], learning_rate, settings.max_grad_norm)
        sums["grad_norm"] += norm
        sums["updates"] += 1
        sums["skipped"] += not updated
    model.eval()
    sums["update_s"] = perf_counter() - started - sums["logprobs_s"]
    return _metrics(sums, learning_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the loss must know of the whole step before its first update, [B, C]; None where it need not."""

    old: torch.Tensor | None
    """log pi_old."""
    entropy: torch.Tensor | None
    """Entropies under pi_old."""
    reference: torch.Tensor | None
    """log pi_ref, for a KL in the reward."""
    log_proxy: torch.Tensor | None
    """Log-probabilities under Lp-Reg's proxy."""


def _before(
    model: Any, reference: Any | None, batch: Batch, loss: Loss, settings: UpdateSettings
) -> tuple[Batch, Before]:
    """The batch with its final advantages, and what was computed for them."""
    old = entropy = far = proxy = None
    if settings.minibatches > 1 or loss.needs_old or loss.selects:
        old, entropy = _look(batch, lambda micro: _forward(model, micro, settings), settings)
    if loss.kl == "k1_reward":
        if reference is None:
            raise ValueError("a KL in the reward needs the reference model")
        far, _ = _look(batch, lambda micro: _reference(model, reference, micro, settings), settings)
    if loss.entropy == "lp_reg":
        kappa, temperature = loss.lp_reg_kappa, settings.temperature
        (proxy,) = _look(
            batch, lambda micro: (_proxy_logprobs(model, micro, kappa, temperature),), settings, count=1
        )
    advantages = step_advantages(
        loss,
        batch.advantages_BC,
        batch.mask_BC,
        batch.group_B,
        old=old,
        reference=far,
        entropy_BT=entropy,
    )
    known = Before(old=old, entropy=entropy, reference=far, log_proxy=proxy)
    return replace(batch, advantages_BC=advantages), known


def _select(
    model: Any, batch: Batch, before: Before, rows: torch.Tensor, loss: Loss, settings: UpdateSettings
) -> Selection:
    """The choice among all tokens of an update, for every row of the batch."""
    now, entropy = before.old, before.entropy
    if loss.selects and settings.minibatches > 1:
        now, entropy = _look(batch, lambda micro: _forward(model, micro, settings), settings, rows)
    here = torch.zeros_like(batch.mask_BC).index_fill(0, rows, True) & batch.mask_BC
    blank = batch.rollout_logprobs_BC
    tokens = Tokens(
        mask=here,
        group=batch.group_B,
        advantages=batch.advantages_BC,
        logprobs=blank if now is None else now,
        old=blank if before.old is None else before.old,
        rollout=batch.rollout_logprobs_BC,
        entropy=entropy,
        log_proxy=before.log_proxy,
    )
    return select(loss, tokens)


def _backward(
    model: Any,
    reference: Any | None,
    micro: Batch,
    rows: torch.Tensor,
    before: Before,
    chosen: Selection,
    loss: Loss,
    settings: UpdateSettings,
    sums: defaultdict[str, float],
) -> None:
    """Add the gradients of one micro-batch, and its share of every statistic to `sums`."""

    def cut(known_BC: torch.Tensor | None) -> torch.Tensor | None:
        return None if known_BC is None else known_BC[rows, : micro.mask_BC.shape[1]]

    logprobs, entropy = _forward(model, micro, settings)
    old = cut(before.old) if settings.minibatches > 1 else None
    reference_logprobs = cut(before.reference)
    if loss.kl != "off" and reference is not None and reference_logprobs is None:
        with torch.no_grad():
            reference_logprobs, _ = _reference(model, reference, micro, settings)
    tokens = Tokens(
        mask=micro.mask_BC,
        group=micro.group_B,
        advantages=micro.advantages_BC,
        logprobs=logprobs.detach(),
        old=logprobs.detach() if old is None else old,
        rollout=micro.rollout_logprobs_BC,
        reference=reference_logprobs,
        log_proxy=cut(before.log_proxy),
        kept=cut(chosen.kept),
        marked=cut(chosen.marked),
    )
    terms = loss_terms(loss, tokens, chosen.totals)
    (-(terms.coefficient * logprobs).sum()).backward()  # type: ignore[no-untyped-call]
    _add_statistics(sums, terms, tokens, entropy, micro.replayed_B)


def _forward(model: Any, batch: Batch, settings: UpdateSettings) -> tuple[torch.Tensor, torch.Tensor]:
    return completion_logprobs(
        model,
        batch.ids_BT,
        batch.prompt_lengths_B,
        batch.lengths_B,
        temperature=settings.temperature,
        columns=batch.mask_BC.shape[1],
    )


def _reference(
    model: Any, reference: Any, batch: Batch, settings: UpdateSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    # An adapter's reference is the model without it: never a second copy.
    with model.disable_adapter() if reference is model else nullcontext():
        return _forward(reference, batch, settings)


@torch.no_grad()
def _look(
    batch: Batch,
    at: Callable[[Batch], Sequence[torch.Tensor]],
    settings: UpdateSettings,
    rows: torch.Tensor | None = None,
    *,
    count: int = 2,
) -> list[torch.Tensor]:
    """The `count` tensors that `at` sees in micro-batches of `rows` (all), put together [B, C]; else 0."""
    wholes = [torch.zeros_like(batch.rollout_logprobs_BC) for _ in range(count)]
    rows = torch.arange(len(batch.lengths_B), device=batch.mask_BC.device) if rows is None else rows
    for micro_rows in micro_batches(batch, rows, settings.micro_batch_tokens):
        micro = take(batch, micro_rows)
        for whole, part in zip(wholes, at(micro), strict=True):
            whole[micro_rows, : micro.mask_BC.shape[1]] = part
    return wholes


@torch.no_grad()
def _proxy_logprobs(model: Any, batch: Batch, kappa: float, temperature: float) -> torch.Tensor:
    """float32 [B, C]: log-probability of each token among those of at least `kappa` times the likeliest's.

    Lp-Reg's proxy; -inf for a token that is not among them; 0 past the end of a completion.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head, config = base.get_output_embeddings(), base.config.get_text_config()
    hidden_BTD = base.get_decoder()(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
    column_C = torch.arange(batch.mask_BC.shape[1], device=batch.ids_BT.device)
    inside_BC = column_C < (batch.lengths_B - batch.prompt_lengths_B)[:, None]
    row_N, offset_N = inside_BC.nonzero(as_tuple=True)
    target_N = batch.prompt_lengths_B[row_N] + offset_N
    rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
    parts = []
    for row_n, target_n in zip(torch.split(row_N, rows), torch.split(target_N, rows), strict=True):
        logits_nV = scale_logits(head(hidden_BTD[row_n, target_n - 1]), config).float() / temperature
        kept_nV = logits_nV >= logits_nV.amax(-1, keepdim=True) + log(kappa)
        proxy_nV = logits_nV.masked_fill(~kept_nV, -torch.inf).log_softmax(-1)
        parts.append(proxy_nV.gather(-1, batch.ids_BT[row_n, target_n][:, None])[:, 0])
    return torch.zeros(inside_BC.shape, device=inside_BC.device).index_put(
        (row_N, offset_N), torch.cat(parts)
    )


def _add_statistics(
    sums: defaultdict[str, float],
    terms: Terms,
    tokens: Tokens,
    entropy: torch.Tensor,
    replayed_B: torch.Tensor,
) -> None:
    mask = tokens.mask
    fresh_BC, old_BC = mask & ~replayed_B[:, None], mask & replayed_B[:, None]
    ratio, advantage, gate = terms.ratio[mask], tokens.advantages[mask], terms.gate[mask]
    log_ratio = (tokens.logprobs - tokens.old)[mask]
    drift = drift_sums(tokens.old, tokens.rollout, fresh_BC)
    replay = drift_sums(tokens.old, tokens.rollout, old_BC)
    sums["max"] = max(sums["max"], drift.pop("max"))
    stopped = (gate == 0) & (advantage != 0)
    for name, value in {
        "tokens": len(ratio),
        "fresh": int(fresh_BC.sum()),
        "replayed": int(old_BC.sum()),
        "replay_w": replay["w"],
        "replay_w_squared": replay["w_squared"],
        "sequences": int(mask.any(-1).sum()),
        "entropy": float(entropy[mask].sum()),
        "surrogate": float(terms.surrogate.sum()),
        "ratio": float(ratio.sum()),
        "kl_ref": float(terms.kl.sum()),
        "approx_kl": float((log_ratio.exp() - 1 - log_ratio).sum()),
        "clip_low": float((stopped & (ratio < 1)).sum()),
        "clip_high": float((stopped & (ratio > 1)).sum()),
        **drift,
    }.items():
        sums[name] += value


def _metrics(sums: defaultdict[str, float], learning_rate: float) -> dict[str, float]:
    tokens, updates = max(sums["tokens"], 1.0), max(sums["updates"], 1.0)
    fresh, replayed = max(sums["fresh"], 1.0), int(sums["replayed"])
    replay = {
        "batch/replay_weight_mean": sums["replay_w"] / max(replayed, 1),
        "batch/replay_ess_share": ess_share(sums["replay_w"], sums["replay_w_squared"], replayed),
    }
    return {
        "batch/sequences": sums["sequences"],
        "batch/tokens": sums["tokens"],
        "policy/entropy_nats": sums["entropy"] / tokens,
        "policy/mismatch_kl_nats": sums["k3"] / fresh,
        "policy/mismatch_max_nats": sums["max"],
        "policy/ess_share": ess_share(sums["w"], sums["w_squared"], int(sums["fresh"])),
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
        **(replay if replayed else {}),
    }
