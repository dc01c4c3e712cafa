"""Optimizers, learning-rate schedules and the guarded step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch

Groups: TypeAlias = list[dict[str, Any]]


class OffloadedAdamW(torch.optim.AdamW):
    """AdamW whose two moments and float32 copies of the weights lie in host memory, where it steps.

    Its parameters are the copies: `fetch_gradients` before clipping.  In bfloat16 the copies hold what the
    weights round off, so they are part of its state.
    """

    def __init__(self, trainable: Sequence[torch.nn.Parameter], groups: Groups, **settings: Any) -> None:
        self._weights = list(trainable)
        self._copies = [p.detach().to("cpu", torch.float32, copy=True) for p in trainable]
        copies = dict(zip(self._weights, self._copies, strict=True))
        hosted = [{**group, "params": [copies[p] for p in group["params"]]} for group in groups]
        super().__init__(hosted, **settings)

    @torch.no_grad()
    def fetch_gradients(self) -> None:
        """Move the gradients of the weights to their copies."""
        for weight, copy in zip(self._weights, self._copies, strict=True):
            copy.grad = None if weight.grad is None else weight.grad.to("cpu", torch.float32)
            weight.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # it returns no loss
        """Step on the copies, and write them to the weights."""
        super().step(closure)
        for weight, copy in zip(self._weights, self._copies, strict=True):
            weight.copy_(copy)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's, and the copies of weights that are no float32."""
        rounded = [w.dtype != torch.float32 for w in self._weights]
        kept = [c if is_rounded else None for c, is_rounded in zip(self._copies, rounded, strict=True)]
        return {**super().state_dict(), "copies": kept}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up `state_dict`, which one over weights of the same kinds gave."""
        given = dict(state_dict)
        for copy, kept in zip(self._copies, given.pop("copies"), strict=True):
            if kept is not None:
                copy.copy_(kept)
        super().load_state_dict(given)


def adamw(
    parameters: Iterable[torch.nn.Parameter],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
    offload: bool = False,
) -> torch.optim.Optimizer:
    """AdamW (arXiv:1711.05101) over the trainable parameters; matrices decay, vectors do not."""
    trainable = [p for p in parameters if p.requires_grad]
    groups: Groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    settings: dict[str, Any] = {"lr": learning_rate, "betas": betas, "eps": epsilon, "fused": True}
    return OffloadedAdamW(trainable, groups, **settings) if offload else torch.optim.AdamW(groups, **settings)


def warm_start_optimizers(
    model: Any, kind: str, *, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> list[torch.optim.Optimizer]:
    """`adamw` for everything, or `muon` for the hidden matrices with AdamW for the rest.

    Muon: kellerjordan.github.io/posts/muon.
    """
    settings: dict[str, Any] = {
        "learning_rate": learning_rate, "betas": betas, "epsilon": 1e-8, "weight_decay": weight_decay
    }  # fmt: skip
    if kind == "adamw":
        return [adamw(model.parameters(), **settings)]
    embeddings = {id(m.weight) for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    trainable = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in trainable if p.ndim == 2 and id(p) not in embeddings]
    rest = [p for p in trainable if p.ndim != 2 or id(p) in embeddings]
    muon = torch.optim.Muon(
        hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, *([adamw(rest, **settings)] if rest else [])]


def learning_rate_at(step: int, *, peak: float, warmup: int, total: int, schedule: str) -> float:
    """Rate of the 0-based `step`: linear rise over `warmup` steps, then `schedule` until `total`.

    `constant` stays at the peak; `linear` and `cosine` fall to 0 at `total`; `late_linear` stays at
    the peak for the first half and then falls linearly to 0.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * SCHEDULES[schedule](share)


def step(
    optimizers: Sequence[torch.optim.Optimizer], learning_rate: float, max_norm: float
) -> tuple[float, bool]:
    """Clip to `max_norm`, update, clear the gradients; returns (gradient norm before clipping, updated).

    With a gradient that is not finite nothing is updated.
    """
    for optimizer in optimizers:
        if isinstance(optimizer, OffloadedAdamW):
            optimizer.fetch_gradients()
    parameters = [p for o in optimizers for g in o.param_groups for p in g["params"] if p.grad is not None]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True))
    finite = math.isfinite(norm)
    for optimizer in optimizers:
        if finite:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm, finite


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "linear": lambda share: 1.0 - share,
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "late_linear": lambda share: min(1.0, 2 * (1 - share)),
}
