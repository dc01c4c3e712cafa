"""The floating-point work that a step needs, and the rate that a device could do it at.

    forward = 2 N a token read  +  2 V D a token predicted  +  4 W keys, summed over layers and tokens read

N weights of all matrices but embedding and head, V D the head's, W = heads x head width.  Backward does twice
that: once for activations, once for weights (the latter only where they are trained).  So PaLM counts
(arXiv:2204.02311, appendix B), except that we count the keys a token attends to, about half of its T.

Only what is needed counts: a prompt once for its whole group, no padding, nothing that checkpointing computes
again.  The share of the device's rate is a model FLOPs utilisation (MFU), not a hardware one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from rlvr.policy.cpu import is_faster, product

MEASURED_SIZE, MEASURED_S = 1024, 0.15
"""Width of the matrices multiplied to measure a device, and for how long."""

PEAKS = (
    ("GB200", 2500e12),
    ("B200", 2250e12),
    ("GH200", 989.4e12),
    ("H200", 989.4e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989.4e12),
    ("H800", 989.4e12),
    ("H20", 148e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A40", 149.7e12),
    ("A30", 165e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("RTX A6000", 154.8e12),
    ("RTX 4090", 165.2e12),
    ("RTX 3090", 71e12),
)
"""FLOP/s of dense bfloat16 matrix products by words of torch's name of the GPU, as its maker states it."""


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


@dataclass(frozen=True, slots=True)
class Peak:
    """The rate that utilisation is a share of."""

    flops_per_s: float
    """Of the device."""
    source: str
    """The device, and where the number is from."""


def peak_of(device: torch.device, dtype: torch.dtype) -> Peak:
    """By the GPU's name, dense bfloat16 whatever the model's type; of what the table lacks, measured."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for words, rate in PEAKS:
            if re.search(rf"\b{words}\b", name):
                return Peak(rate, f"{name}: dense bfloat16, its maker's number")
        return Peak(_measured(device, torch.bfloat16), f"{name}: bfloat16 {_HOW}")
    kind = str(dtype).removeprefix("torch.")
    return Peak(_measured(device, dtype), f"{device.type}, {torch.get_num_threads()} threads: {kind} {_HOW}")


_HOW = f"products of {MEASURED_SIZE} x {MEASURED_SIZE}, measured"


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    """The fastest of a few products."""
    left = torch.ones(MEASURED_SIZE, MEASURED_SIZE, device=device, dtype=dtype)
    multiply = product if device.type == "cpu" and dtype == torch.float32 and is_faster() else torch.matmul
    best, ends = 0.0, perf_counter() + MEASURED_S
    while best == 0.0 or perf_counter() < ends:
        started = perf_counter()
        float(multiply(left, left)[0, 0])
        best = max(best, 2 * MEASURED_SIZE**3 / (perf_counter() - started))
    return best
