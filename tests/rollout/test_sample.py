"""The counter-based numbers against published values, and the draw at its edges."""

import numpy as np
import pytest
import torch

from rlvr.rollout import sample
from rlvr.rollout.sample import draw, uniforms
from rlvr.types import Sampling

PUBLISHED = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)
"""First outputs of SplitMix64 from seed 1234567, as published with its many implementations."""


def splitmix64(seed, counter):
    """The generator in unbounded integers."""
    mask = 2**64 - 1
    x = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_the_reference_is_the_published_generator():
    assert tuple(splitmix64(1234567, n) for n in range(5)) == PUBLISHED


def test_uniforms_are_splitmix64():
    seeds = [0, 1, 1234567, 2**63, 2**64 - 1, 0xDEADBEEFCAFEBABE]
    counters = [0, 1, 2, 511, 2**20, 2**40]
    pairs = [(seed, counter) for seed in seeds for counter in counters]
    found = uniforms(*(np.array(column, np.uint64) for column in zip(*pairs, strict=True)))
    assert found.tolist() == [(splitmix64(seed, counter) >> 11) / 2**53 for seed, counter in pairs]
    assert found.dtype == np.float64
    assert ((found >= 0) & (found < 1)).all()


def test_tokens_of_probability_zero_are_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).repeat(5, 1)
    uniform = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = draw(logits, uniform, Sampling(max_tokens=1))
    assert tokens.tolist() == [1, 1, 3, 3, 3]
    assert logprobs.exp().tolist() == pytest.approx([0.5] * 5)


def test_splitting_the_rows_changes_nothing(monkeypatch):
    logits = torch.randn(37, 50, generator=torch.Generator().manual_seed(0))
    uniform = torch.from_numpy(uniforms(np.arange(37), np.zeros(37)))
    whole = draw(logits, uniform, Sampling(max_tokens=1, top_k=9, top_p=0.9))
    monkeypatch.setattr(sample, "CDF_ELEMENTS", 4 * 50)
    parts = draw(logits, uniform, Sampling(max_tokens=1, top_k=9, top_p=0.9))
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
