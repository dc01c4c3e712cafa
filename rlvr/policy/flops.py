"""The floating-point work that a step needs: for utilisation, for balance between ranks, for plans.

    forward = 2 N a token read  +  2 V D a token predicted  +  4 W keys, summed over layers and tokens read

N weights of all matrices but embedding and head, V D the head's, W = heads x head width.  Backward does twice
that: once for activations, once for weights (the latter only where they are trained).  So PaLM counts
(arXiv:2204.02311, appendix B), except that we count the keys a token attends to, about half of its T.

Only what is needed counts: a prompt once for its whole group, no padding, nothing that checkpointing computes
again.  The share of the device's rate (peak.py) is a model FLOPs utilisation (MFU), not a hardware one.
Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a model's work follows from."""

    weights: int
    """Of the matrices that every token passes, without embedding and head."""
    trained: int
    """Those of them that are trained."""
    head: int
    """Weights of the output head."""
    head_trained: bool
    """Whether that is trained."""
    attention: tuple[tuple[int, int | None], ...]
    """By kind of layer: heads x head width, summed; keys that a token sees at most, None for all of them."""

    @classmethod
    def of(cls, model: Any) -> Shape | None:
        """That of a transformers model; None where tokens do not all pass the same matrices, or see keys
        otherwise than in full or in a window."""
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = base.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        experts = ("num_experts", "num_local_experts", "n_routed_experts", "kv_lora_rank")
        if any(getattr(config, name, None) for name in experts):
            return None
        if not set(kinds) <= {"full_attention", "sliding_attention"}:
            return None
        width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        windows = {"full_attention": None, "sliding_attention": getattr(config, "sliding_window", None)}
        outside = {id(base.get_input_embeddings().weight), id(base.get_output_embeddings().weight)}
        matrices = [p for p in base.get_decoder().parameters() if p.ndim == 2 and id(p) not in outside]
        head = base.get_output_embeddings().weight
        return cls(
            weights=sum(p.numel() for p in matrices),
            trained=sum(p.numel() for p in matrices if p.requires_grad),
            head=head.numel(),
            head_trained=head.requires_grad,
            attention=tuple((width * kinds.count(kind), windows[kind]) for kind in sorted(set(kinds))),
        )

    def forward(self, prompt: int, completions: Sequence[int]) -> float:
        """FLOPs to predict the tokens of `completions`, lengths of one group, behind a prompt of `prompt`.

        The same for sampling (the prompt once, then a token at a time) and for log-probabilities.
        """
        linear, head, attention = self._parts(prompt, completions)
        return linear + head + attention

    def update(self, prompt: int, completions: Sequence[int]) -> float:
        """FLOPs of forward and backward: three times the forward pass where all weights are trained."""
        linear, head, attention = self._parts(prompt, completions)
        frozen = linear * (1 - self.trained / max(self.weights, 1)) + head * (not self.head_trained)
        return 3 * (linear + head + attention) - frozen

    def _parts(self, prompt: int, completions: Sequence[int]) -> tuple[float, float, float]:
        """Of matrices, head and attention; the last token of a completion is predicted and never read."""
        read = prompt + sum(length - 1 for length in completions)
        attention = 0.0
        for width, window in self.attention:
            keys = _keys(prompt, window)
            keys += sum(_keys(prompt + length - 1, window) - _keys(prompt, window) for length in completions)
            attention += 4.0 * width * keys
        return 2.0 * self.weights * read, 2.0 * self.head * sum(completions), attention


def _keys(tokens: int, window: int | None) -> int:
    """Keys seen by the tokens of a sequence together: the first sees itself, each later one more."""
    full = tokens if window is None else min(tokens, window)
    return full * (full + 1) // 2 + (tokens - full) * full
