"""Log-probabilities of completion tokens under the policy, without ever holding all logits.

Only the hidden states that predict a completion token reach the output head, some rows at a time; each chunk
of logits is recomputed in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from rlvr.policy.packing import lay_out, packed_hidden
from rlvr.policy.parallel import with_whole_weights

CHUNK_ELEMENTS = 2**26
"""Logits (tokens x vocabulary) that exist at once: 256 MiB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a policy says of each completion token, float32 [B, C]; 0 past a completion's end."""

    logprobs: torch.Tensor
    """log pi of the token, with gradient."""
    entropy: torch.Tensor
    """Entropy of the choice in nats; with gradient only where it was asked for."""
    peak: torch.Tensor | None = None
    """log pi of the likeliest token, where it was asked for."""
    collision: torch.Tensor | None = None
    """Sum over the vocabulary of pi^2, where it was asked for."""
    log_proxy: torch.Tensor | None = None
    """Lp-Reg's proxy, where it was asked for: log-probability among the tokens of at least `kappa` times the
    likeliest's probability; -inf for a token that is not among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is computed of a forward pass beside the log-probabilities and the value of the entropy."""

    entropy_gradient: bool = False
    """Differentiate the entropy."""
    peak: bool = False
    """See `Choices.peak`."""
    collision: bool = False
    """See `Choices.collision`."""
    kappa: float | None = None
    """See `Choices.log_proxy`."""


NOTHING_MORE = Wanted()


@with_whole_weights
def completion_logprobs(
    model: Any,
    ids_BT: torch.Tensor,
    prompt_lengths_B: torch.Tensor,
    lengths_B: torch.Tensor,
    *,
    temperature: float,
    columns: int,
    wanted: Wanted = NOTHING_MORE,
    prompt_B: torch.Tensor | None = None,
) -> Choices:
    """What the policy says of each completion token; C = `columns`, `ids_BT` is right-padded.

    The distribution is softmax(logits / temperature), the one the completions were drawn from.  With
    `prompt_B` sequences are packed (packing.py), and equal numbers begin with the same prompt.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    column_C = torch.arange(columns, device=ids_BT.device)
    inside_BC = column_C < (lengths_B - prompt_lengths_B)[:, None]
    row_N, offset_N = inside_BC.nonzero(as_tuple=True)
    target_N = prompt_lengths_B[row_N] + offset_N
    if prompt_B is None:
        # Padding stands to the right of everything that counts, so causal attention needs no mask.
        hidden_BTD = base.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
        hidden_ND = hidden_BTD[row_N, target_N - 1]
    else:
        dtype = base.get_input_embeddings().weight.dtype
        layout = lay_out(ids_BT, prompt_lengths_B, lengths_B, prompt_B, dtype)
        hidden_ND = embedding(layout.sources_M, packed_hidden(base, layout))
    found = _head(base, hidden_ND, ids_BT[row_N, target_N], temperature, wanted)
    empty_BC = torch.zeros(inside_BC.shape, device=inside_BC.device)
    return Choices(
        **{name: empty_BC.index_put((row_N, offset_N), values_N) for name, values_N in found.items()}
    )


def _head(
    model: Any, hidden_ND: torch.Tensor, targets_N: torch.Tensor, temperature: float, wanted: Wanted
) -> dict[str, torch.Tensor]:
    head = model.get_output_embeddings()
    config = model.config.get_text_config()

    def chunk(hidden_nD: torch.Tensor, targets_n: torch.Tensor) -> dict[str, torch.Tensor]:
        logits_nV = scale_logits(head(hidden_nD), config).float() / temperature
        return _measures(logits_nV.log_softmax(-1), targets_n, wanted)

    rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
    if len(hidden_ND) <= rows:
        return chunk(hidden_ND, targets_N)
    parts = [
        checkpoint(chunk, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden_ND, rows), torch.split(targets_N, rows), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _measures(logprobs_nV: torch.Tensor, targets_n: torch.Tensor, wanted: Wanted) -> dict[str, torch.Tensor]:
    """The fields of `Choices` for n tokens."""
    found = {"logprobs": logprobs_nV.gather(-1, targets_n[:, None])[:, 0]}
    seen_nV = logprobs_nV if wanted.entropy_gradient else logprobs_nV.detach()
    found["entropy"] = -(seen_nV.exp() * seen_nV).sum(-1)
    seen_nV, drawn_n = logprobs_nV.detach(), found["logprobs"].detach()
    if wanted.peak:
        found["peak"] = seen_nV.amax(-1)
    if wanted.collision:
        found["collision"] = (2 * seen_nV).exp().sum(-1)
    if wanted.kappa is not None:
        least_n = seen_nV.amax(-1) + log(wanted.kappa)
        kept_nV = seen_nV.masked_fill(seen_nV < least_n[:, None], -torch.inf)
        found["log_proxy"] = (drawn_n - kept_nV.logsumexp(-1)).masked_fill(drawn_n < least_n, -torch.inf)
    return found


def scale_logits(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What some architectures do between head and softmax: Gemma's soft cap, Cohere's, Granite's scales."""
    if getattr(config, "final_logit_softcapping", None):
        logits = (logits / config.final_logit_softcapping).tanh() * config.final_logit_softcapping
    if getattr(config, "logit_scale", None):
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    return logits
