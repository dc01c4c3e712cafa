"""What decoders of one `model_type` have in common in transformers: defaults and extra parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the models of one `model_type` have in common."""

    tied: bool = False
    """Whether the output head is the embedding, where the configuration does not say."""
    head_dim: int | None = None
    """Width of a head where the configuration does not say; None: hidden_size / heads."""
    biases: Literal["none", "qkv", "asked"] = "none"
    """Of the attention: `asked` is `attention_bias`, of all four projections."""
    has_mlp_bias: bool = False
    """Whether `mlp_bias` is read."""
    has_head_norms: bool = False
    """Whether queries and keys are normalised, head by head."""
    norms: int = 2
    """Norms of a layer."""
    wide_norms: bool = False
    """Whether norms keep all they save in float32 (Gemma)."""
    expert_width: str | None = None
    """Key of the inner width of experts, where there are any."""


FAMILIES = {
    "llama": Family(biases="asked", has_mlp_bias=True),
    "granite": Family(biases="asked", has_mlp_bias=True),
    "smollm3": Family(tied=True, biases="asked", has_mlp_bias=True),
    "mistral": Family(),
    "qwen2": Family(biases="qkv"),
    "qwen3": Family(head_dim=128, biases="asked", has_head_norms=True),
    "gemma": Family(tied=True, head_dim=256, biases="asked", wide_norms=True),
    "gemma2": Family(tied=True, head_dim=256, biases="asked", norms=4, wide_norms=True),
    "gemma3_text": Family(
        tied=True, head_dim=256, biases="asked", norms=4, wide_norms=True, has_head_norms=True
    ),
    "mixtral": Family(expert_width="intermediate_size"),
    "qwen3_moe": Family(biases="asked", has_head_norms=True, expert_width="moe_intermediate_size"),
}
"""The kinds whose parameters are counted exactly; any other is taken for a llama, and that is said."""
