"""Log-probabilities of completion tokens under the policy, without ever holding all logits.

Only the hidden states that predict a completion token reach the output head, some rows at a time; each chunk
of logits is recomputed in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 2**26
"""Logits (tokens x vocabulary) that exist at once: 256 MiB in float32."""


def completion_logprobs(
    model: Any,
    ids_BT: torch.Tensor,
    prompt_lengths_B: torch.Tensor,
    lengths_B: torch.Tensor,
    *,
    temperature: float,
    columns: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 ([B, C], [B, C]): log pi of each completion token, and the entropy in nats (without gradient).

    `ids_BT` is right-padded; C = `columns`; entries past a completion's end are 0.  The distribution is
    softmax(logits / temperature), the one the completions were drawn from.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Padding stands to the right of everything that counts, so causal attention needs no mask.
    hidden_BTD = base.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
    column_C = torch.arange(columns, device=ids_BT.device)
    inside_BC = column_C < (lengths_B - prompt_lengths_B)[:, None]
    row_N, offset_N = inside_BC.nonzero(as_tuple=True)
    target_N = prompt_lengths_B[row_N] + offset_N
    logprobs_N, entropy_N = _head(base, hidden_BTD[row_N, target_N - 1], ids_BT[row_N, target_N], temperature)
    empty_BC = logprobs_N.new_zeros(inside_BC.shape)
    return (
        empty_BC.index_put((row_N, offset_N), logprobs_N),
        empty_BC.detach().index_put((row_N, offset_N), entropy_N),
    )


def _head(
    model: Any, hidden_ND: torch.Tensor, targets_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    head = model.get_output_embeddings()
    config = model.config.get_text_config()

    def chunk(hidden_nD: torch.Tensor, targets_n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits_nV = scale_logits(head(hidden_nD), config).float() / temperature
        logprobs_nV = logits_nV.log_softmax(-1)
        detached = logprobs_nV.detach()
        return logprobs_nV.gather(-1, targets_n[:, None])[:, 0], -(detached.exp() * detached).sum(-1)

    rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
    if len(hidden_ND) <= rows:
        return chunk(hidden_ND, targets_N)
    parts = [
        checkpoint(chunk, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden_ND, rows), torch.split(targets_N, rows), strict=True)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def scale_logits(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What some architectures do between head and softmax: Gemma's soft cap, Cohere's, Granite's scales."""
    if getattr(config, "final_logit_softcapping", None):
        logits = (logits / config.final_logit_softcapping).tanh() * config.final_logit_softcapping
    if getattr(config, "logit_scale", None):
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    return logits
