"""One step of learning: log-probabilities, coefficients, backward, optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from statistics import fmean
from typing import Any

import torch

from rlvr.algo.diagnostics import drift_sums, ess_share
from rlvr.algo.entropy import adapted
from rlvr.algo.loss import Loss, Terms, Tokens, loss_terms
from rlvr.algo.pivots import push_metrics, push_sums, rare_tokens
from rlvr.algo.ranks import ALONE, Ranks
from rlvr.algo.select import Selection, select, step_advantages
from rlvr.policy import optim
from rlvr.policy.logprobs import NOTHING_MORE, Choices, Wanted, completion_logprobs
from rlvr.policy.packing import packed_attention
from rlvr.policy.parallel import passes
from rlvr.train.batch import micro_batches, minibatches, take, together
from rlvr.train.clock import Clock
from rlvr.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """How a step's batch is worked through."""

    temperature: float
    """Of the sampling."""
    minibatches: int
    """Optimizer updates."""
    micro_batch_tokens: int
    """Tokens of one forward pass."""
    max_grad_norm: float
    """Gradients are scaled down to this norm."""
    packed: bool = False
    """Prompts once for their group and no padding, where the model can (rlvr/policy/packing.py)."""
    clock: Clock = field(default_factory=Clock)
    """Who is told when log-probabilities are computed and when is learned."""


def update(
    model: Any,
    reference: Any | None,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss: Loss,
    settings: UpdateSettings,
    learning_rate: float,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Train on `batch`, this rank's groups of the step; returns the step's metrics by registered name.

    With several ranks they share the weights of `model` (policy/parallel.py), which adds up their gradients.

    With one update a step the old policy is the current one, so its log-probabilities come from the same
    forward pass and the ratio is exactly 1; with several they are computed first, and so is whatever the
    loss must know of all tokens before it learns from one.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    norms, skipped = [], 0
    clock = settings.clock
    with clock.phase("logprobs"):
        batch, before = _before(model, reference, batch, loss, settings, ranks)
        loss, bonus = _with_bonus(loss, batch, before, ranks)
    # Training mode would switch dropout on, which the rollouts did not have; only recomputation asks for it.
    model.train(model.is_gradient_checkpointing)
    for rows in minibatches(batch, settings.minibatches, ranks):
        with clock.phase("logprobs"):
            chosen = _select(model, batch, before, rows, loss, settings, ranks)
        with clock.phase("update"):
            for micro_rows in passes(model, together(_micro_batches(batch, rows, settings), ranks)):
                micro = take(batch, micro_rows)
                _backward(model, reference, micro, micro_rows, before, chosen, loss, settings, sums)
            norm, updated = optim.step([optimizer], learning_rate, settings.max_grad_norm)
        norms.append(norm)
        skipped += not updated
    model.eval()
    return (
        _metrics(sums, len(norms), ranks)
        | bonus
        | {
            "optim/grad_norm": fmean(norms),
            "optim/learning_rate": learning_rate,
            "optim/skipped": float(skipped),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the loss must know of the whole step before its first update, [B, C]; None where it need not."""

    old: Choices | None
    """Of pi_old."""
    reference: torch.Tensor | None
    """log pi_ref, for a KL in the reward and for `self_logratio`."""


def _before(
    model: Any, reference: Any | None, batch: Batch, loss: Loss, settings: UpdateSettings, ranks: Ranks
) -> tuple[Batch, Before]:
    """The batch with its final advantages, and what was computed for them."""
    old = far = None
    if settings.minibatches > 1 or loss.needs_old or loss.selects:
        wanted = Wanted(
            collision=loss.baseline == "optimal_token",
            kappa=loss.lp_reg_kappa if loss.needs_proxy else None,
        )
        old = _look(batch, lambda micro: _forward(model, micro, settings, wanted), settings, ranks)
    if loss.shapes_by_reference:
        if reference is None:
            raise ValueError("a KL in the reward, or credit = self_logratio, needs the reference model")
        far = _look(batch, lambda micro: _reference(model, reference, micro, settings), settings, ranks)
    advantages = step_advantages(
        loss,
        batch.advantages_BC,
        batch.mask_BC,
        batch.group_B,
        old=None if old is None else old.logprobs,
        reference=None if far is None else far.logprobs,
        entropy_BT=None if old is None else old.entropy,
        collision=None if old is None else old.collision,
        ranks=ranks,
    )
    return replace(batch, advantages_BC=advantages), Before(
        old=old, reference=None if far is None else far.logprobs
    )


def _with_bonus(loss: Loss, batch: Batch, before: Before, ranks: Ranks) -> tuple[Loss, dict[str, float]]:
    """The loss with this step's weight of the entropy bonus, and the next step's weight, a metric."""
    if loss.entropy != "bonus":
        return loss, {}
    coef, following = loss.entropy_coef, loss.entropy_coef
    if loss.entropy_target is not None:
        assert before.old is not None, "Loss.needs_old"
        nats_N = before.old.entropy[batch.mask_BC].double()
        total, count = ranks.sum(torch.stack([nats_N.sum(), nats_N.new_tensor(len(nats_N))])).tolist()
        coef, following = adapted(
            coef, total / max(count, 1.0), target=loss.entropy_target, step=loss.entropy_step
        )
    return replace(loss, entropy_coef=coef), {"loss/entropy_coef": following}


def _select(
    model: Any,
    batch: Batch,
    before: Before,
    rows: torch.Tensor,
    loss: Loss,
    settings: UpdateSettings,
    ranks: Ranks,
) -> Selection:
    """The choice among all tokens of an update, for every row of the batch."""
    now = before.old
    if loss.selects and settings.minibatches > 1:
        now = _look(batch, lambda micro: _forward(model, micro, settings), settings, ranks, rows)
    here = torch.zeros_like(batch.mask_BC).index_fill(0, rows, True) & batch.mask_BC
    blank = batch.rollout_logprobs_BC
    tokens = Tokens(
        mask=here,
        group=batch.group_B,
        advantages=batch.advantages_BC,
        logprobs=blank if now is None else now.logprobs,
        old=blank if before.old is None else before.old.logprobs,
        rollout=batch.rollout_logprobs_BC,
        entropy=None if now is None else now.entropy,
        log_proxy=None if before.old is None else before.old.log_proxy,
        pivot=batch.pivot_BC,
    )
    return select(loss, tokens, ranks)


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

    now = _forward(model, micro, settings, Wanted(entropy_gradient=loss.entropy == "bonus", peak=True))
    seen = before.old
    old = cut(seen.logprobs) if seen is not None and settings.minibatches > 1 else None
    reference_logprobs = cut(before.reference)
    if loss.kl != "off" and reference is not None and reference_logprobs is None:
        with torch.no_grad(), settings.clock.phase("logprobs"):
            reference_logprobs = _reference(model, reference, micro, settings).logprobs
    if not len(rows):  # the other ranks' passes, of which this one has a share of the weights
        now.logprobs.sum().backward()  # type: ignore[no-untyped-call]
        return
    tokens = Tokens(
        mask=micro.mask_BC,
        group=micro.group_B,
        advantages=micro.advantages_BC,
        logprobs=now.logprobs.detach(),
        old=now.logprobs.detach() if old is None else old,
        rollout=micro.rollout_logprobs_BC,
        reference=reference_logprobs,
        entropy=now.entropy.detach(),
        log_proxy=None if seen is None else cut(seen.log_proxy),
        kept=cut(chosen.kept),
        marked=cut(chosen.marked),
    )
    terms = loss_terms(loss, tokens, chosen.totals)
    differentiated = -(terms.coefficient * now.logprobs).sum()
    if loss.entropy == "bonus":
        differentiated = differentiated - (terms.bonus * now.entropy).sum()
    with packed_attention(model) if settings.packed else nullcontext():
        differentiated.backward()  # type: ignore[no-untyped-call]
    _add_statistics(sums, terms, tokens, micro.replayed_B)
    _add_pivots(sums, terms, tokens, now, micro)


def _micro_batches(batch: Batch, rows: torch.Tensor, settings: UpdateSettings) -> Iterator[torch.Tensor]:
    return micro_batches(batch, rows, settings.micro_batch_tokens, packed=settings.packed)


def _forward(model: Any, batch: Batch, settings: UpdateSettings, wanted: Wanted = NOTHING_MORE) -> Choices:
    settings.clock.count(int((batch.lengths_B - batch.prompt_lengths_B).sum()))
    return completion_logprobs(
        model,
        batch.ids_BT,
        batch.prompt_lengths_B,
        batch.lengths_B,
        temperature=settings.temperature,
        columns=batch.mask_BC.shape[1],
        wanted=wanted,
        prompt_B=batch.group_B if settings.packed else None,
    )


def _reference(model: Any, reference: Any, batch: Batch, settings: UpdateSettings) -> Choices:
    # An adapter's reference is the model without it: never a second copy.
    with model.disable_adapter() if reference is model else nullcontext():
        return _forward(reference, batch, settings)


@torch.no_grad()
def _look(
    batch: Batch,
    at: Callable[[Batch], Choices],
    settings: UpdateSettings,
    ranks: Ranks,
    rows: torch.Tensor | None = None,
) -> Choices:
    """What `at` sees in micro-batches of `rows` (all), put together [B, C]; 0 elsewhere."""
    wholes: dict[str, torch.Tensor] = {
        name: torch.zeros_like(batch.rollout_logprobs_BC) for name in ("logprobs", "entropy")
    }
    rows = torch.arange(len(batch.lengths_B), device=batch.mask_BC.device) if rows is None else rows
    for micro_rows in together(_micro_batches(batch, rows, settings), ranks):
        micro = take(batch, micro_rows)
        seen = at(micro)
        for name in (f.name for f in fields(seen) if getattr(seen, f.name) is not None):
            whole = wholes.setdefault(name, torch.zeros_like(batch.rollout_logprobs_BC))
            whole[micro_rows, : micro.mask_BC.shape[1]] = getattr(seen, name)
    return Choices(**wholes)


def _add_statistics(
    sums: defaultdict[str, float], terms: Terms, tokens: Tokens, replayed_B: torch.Tensor
) -> None:
    mask = tokens.mask
    fresh_BC, old_BC = mask & ~replayed_B[:, None], mask & replayed_B[:, None]
    ratio, advantage, gate = terms.ratio[mask], tokens.advantages[mask], terms.gate[mask]
    log_ratio = (tokens.logprobs - tokens.old)[mask]
    drift = drift_sums(tokens.old, tokens.rollout, fresh_BC)
    replay = drift_sums(tokens.old, tokens.rollout, old_BC)
    assert tokens.entropy is not None
    sums["max"] = max(sums["max"], drift.pop("max"))
    stopped = (gate == 0) & (advantage != 0)
    for name, value in {
        "tokens": len(ratio),
        "fresh": int(fresh_BC.sum()),
        "replayed": int(old_BC.sum()),
        "replay_w": replay["w"],
        "replay_w_squared": replay["w_squared"],
        "sequences": int(mask.any(-1).sum()),
        "entropy": float(tokens.entropy[mask].sum()),
        "surrogate": float(terms.surrogate.sum()),
        "ratio": float(ratio.sum()),
        "kl_ref": float(terms.kl.sum()),
        "approx_kl": float((log_ratio.exp() - 1 - log_ratio).sum()),
        "clip_low": float((stopped & (ratio < 1)).sum()),
        "clip_high": float((stopped & (ratio > 1)).sum()),
        "pushed": float((terms.coefficient[mask] != 0).sum()),
        **drift,
    }.items():
        sums[name] += value


def _add_pivots(
    sums: defaultdict[str, float], terms: Terms, tokens: Tokens, now: Choices, micro: Batch
) -> None:
    assert now.peak is not None
    fresh_BC = tokens.mask & ~micro.replayed_B[:, None]
    sums["rare"] += float(rare_tokens(tokens.logprobs, now.peak, fresh_BC).sum())
    if micro.pivot_BC is not None:
        pushed = push_sums(terms.coefficient, tokens.logprobs, micro.pivot_BC, tokens.mask)
        for name, value in pushed.items():
            sums[name] += value


SUMS = (
    "tokens", "sequences", "entropy", "surrogate", "ratio", "kl_ref", "approx_kl", "clip_low", "clip_high",
    "pushed", "w", "w_squared", "k3", "fresh", "replayed", "replay_w", "replay_w_squared",
    "rare", "pivot_tokens", "pivot_down", "pivot_push", "push",
)  # fmt: skip
"""What adds up over micro-batches and ranks."""


def _metrics(sums: defaultdict[str, float], updates: int, ranks: Ranks) -> dict[str, float]:
    whole = ranks.sum(torch.tensor([sums[name] for name in SUMS], dtype=torch.float64)).tolist()
    total = dict(zip(SUMS, whole, strict=True))
    tokens, fresh = max(total["tokens"], 1.0), max(total["fresh"], 1.0)
    replayed = int(total["replayed"])
    replay = {
        "batch/replay_weight_mean": total["replay_w"] / max(replayed, 1),
        "batch/replay_ess_share": ess_share(total["replay_w"], total["replay_w_squared"], replayed),
    }
    return {
        "batch/sequences": total["sequences"],
        "batch/tokens": total["tokens"],
        "policy/entropy_nats": total["entropy"] / tokens,
        "policy/rare_share": total["rare"] / fresh,
        **push_metrics(total),
        "policy/mismatch_kl_nats": total["k3"] / fresh,
        "policy/mismatch_max_nats": ranks.most(sums["max"]),
        "policy/ess_share": ess_share(total["w"], total["w_squared"], int(total["fresh"])),
        "loss/surrogate": total["surrogate"] / updates,
        "loss/ratio_mean": total["ratio"] / tokens,
        "loss/clip_low_share": total["clip_low"] / tokens,
        "loss/clip_high_share": total["clip_high"] / tokens,
        "loss/pushed_share": total["pushed"] / tokens,
        "loss/approx_kl_nats": total["approx_kl"] / tokens,
        "loss/kl_ref_nats": total["kl_ref"] / tokens,
        **(replay if replayed else {}),
    }
