"""Attention for one-token decoding with grouped queries.

Transformers repeats keys and values for every query head before calling the kernel.  With one query token a
sequence, the query heads of a group can instead stand where query positions do: no copy of the cache is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "rlvr_grouped_decode"


def _grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    n, heads, tokens, width = query.shape
    if tokens > 1 or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    grouped = query.view(n, key.shape[1], heads // key.shape[1], width)
    scale = options.get("scaling")
    if query.device.type == "cpu" and query.dtype == torch.float32:
        out = _batched(grouped, key, value, attention_mask, width**-0.5 if scale is None else scale)
    else:
        out = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scale)
    return out.reshape(n, 1, heads, value.shape[-1]), None


def _batched(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """As two batched products: torch's CPU kernel takes up to three times as long for a few queries a row."""
    rows = mask.expand(-1, key.shape[1], -1, -1).flatten(0, 1)
    scores = torch.baddbmm(rows, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1))


AttentionInterface.register(NAME, _grouped)
# Without a mask function of its own, transformers would silently drop the padding mask of the prefill.
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def grouped_decode_attention(model: Any) -> Iterator[None]:
    """Use it inside the block; only models that were loaded with `sdpa` attention change."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    if before == "sdpa":
        config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
