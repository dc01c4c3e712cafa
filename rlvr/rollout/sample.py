"""Drawing tokens: a counter-based uniform number a token, turned into a token by the inverse of the CDF."""

from __future__ import annotations

import numpy as np
import torch

from rlvr.errors import EngineError
from rlvr.types import Sampling

CDF_ELEMENTS = 2**24
"""Rows x vocabulary handled at once; bounds the float64 cumulative sums to 128 MiB."""


LEAST_TOP_P = 1e-12
"""The likeliest token always stays."""


def uniforms(seeds: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """float64 in [0, 1): a pure function of (seed, counter), elementwise.

    SplitMix64, doi:10.1145/2714064.2660195.
    """
    with np.errstate(over="ignore"):
        x: np.ndarray = seeds.astype(np.uint64) + (counters.astype(np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens int64 [n] and their log-probabilities float32 [n] under the distribution drawn from.

    `logits` [n, V], `uniform` float64 [n].  The distribution is softmax(logits / temperature), cut to top-k
    and then top-p and renormalised; temperature 0 is greedy, of log-probability 0.
    """
    if sampling.temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, torch.zeros(len(tokens), dtype=torch.float32, device=logits.device)
    rows = max(1, CDF_ELEMENTS // logits.shape[-1])
    parts = [
        _draw_rows(part, u, sampling)
        for part, u in zip(torch.split(logits, rows), torch.split(uniform, rows), strict=True)
    ]
    tokens, logprobs = (torch.cat(column) for column in zip(*parts, strict=True))
    if not logprobs.isfinite().all():
        raise EngineError(
            "the model's logits are not finite: its weights are damaged, or the temperature is too small "
            f"({sampling.temperature:g})"
        )
    return tokens, logprobs


def _draw_rows(
    logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor]:
    scaled = logits.float() / sampling.temperature
    if sampling.top_k or sampling.top_p < 1:
        scaled = _truncate(scaled, sampling.top_k, sampling.top_p)
    logprobs = scaled.log_softmax(-1)
    cdf = logprobs.double().exp().cumsum(-1)
    # `right` skips tokens of probability zero; the product stays below the last entry since uniform < 1.
    tokens = torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True)
    tokens = tokens.clamp_max(logits.shape[-1] - 1)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def _truncate(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Tokens outside the `top_k` likeliest, or outside the smallest set of mass `top_p`, get -inf."""
    ordered, order = logits.sort(-1, descending=True)
    if top_k:
        ordered[:, top_k:] = -torch.inf
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    ordered = ordered.masked_fill(before >= max(top_p, LEAST_TOP_P), -torch.inf) if top_p < 1 else ordered
    return torch.empty_like(logits).scatter_(-1, order, ordered)
