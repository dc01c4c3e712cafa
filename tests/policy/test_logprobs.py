"""Chunked log-probabilities against a plain forward pass with all logits."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlvr.policy import logprobs
from rlvr.policy.logprobs import Wanted, completion_logprobs
from rlvr.policy.model import add_lora
from tests.tiny import tiny

SMALL = {
    "vocab_size": 47,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 32,
    "attn_implementation": "eager",
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 5,
}


def untied():
    return Qwen3ForCausalLM(Qwen3Config(**SMALL, tie_word_embeddings=False))


def soft_capped():
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, final_logit_softcapping=0.5, query_pre_attn_scalar=16))


def multiplied():
    small = {key: value for key, value in SMALL.items() if key != "head_dim"}
    return CohereForCausalLM(CohereConfig(**small, logit_scale=0.25))


def divided():
    small = {key: value for key, value in SMALL.items() if key != "head_dim"}
    return GraniteForCausalLM(GraniteConfig(**small, logits_scaling=3.0))


def adapted():
    model = add_lora(tiny()[0], rank=4, alpha=8.0, targets="all-linear", seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return model


MODELS = {
    "tied head": lambda: tiny()[0],
    "untied head": untied,
    "soft cap": soft_capped,
    "logit_scale": multiplied,
    "logits_scaling": divided,
    "adapter": adapted,
}


def batch(padding=0, wider=0):
    """ids [B, T], prompt lengths, lengths and C of four sequences; one has an empty completion."""
    prompts, lengths = torch.tensor([3, 7, 1, 5]), torch.tensor([12, 9, 14, 5])
    ids = torch.randint(6, 47, (4, 14), generator=torch.Generator().manual_seed(0))
    ids = torch.nn.functional.pad(ids, (0, wider))
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = padding
    return ids, prompts, lengths, 13


def naive(model, temperature):
    """All logits of each sequence by itself, no padding; log-probabilities and entropies [B, C]."""
    ids, prompts, lengths, columns = batch()
    rows, entropies = [], []
    for row, prompt, length in zip(ids, prompts.tolist(), lengths.tolist(), strict=True):
        logits = model(input_ids=row[None, :length]).logits[0, prompt - 1 : length - 1].float() / temperature
        all_logprobs = logits - logits.exp().sum(-1, keepdim=True).log()
        chosen = all_logprobs.gather(-1, row[prompt:length, None])[:, 0]
        entropy = -(all_logprobs.exp() * all_logprobs).sum(-1)
        blank = columns - (length - prompt)
        rows.append(torch.nn.functional.pad(chosen, (0, blank)))
        entropies.append(torch.nn.functional.pad(entropy, (0, blank)))
    return torch.stack(rows), torch.stack(entropies)


def weights():
    return torch.randn(4, 13, generator=torch.Generator().manual_seed(3))


def gradients(model, values):
    model.zero_grad()
    (values * weights()).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rows", [1, 3, 5, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_values_entropies_and_gradients_are_the_naive_ones(name, rows, monkeypatch):
    torch.manual_seed(0)
    model = MODELS[name]()
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", rows * 47)
    ids, prompts, lengths, columns = batch()
    said = completion_logprobs(model, ids, prompts, lengths, temperature=0.7, columns=columns)
    found, entropy = said.logprobs, said.entropy
    expected, expected_entropy = naive(model, 0.7)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, expected_entropy.detach(), atol=1e-5, rtol=0)
    assert not entropy.requires_grad
    assert said.collision is None
    assert said.log_proxy is None
    assert (found[3] == 0).all(), "an empty completion has no token"
    ours, theirs = gradients(model, found), gradients(model, expected)
    assert ours.keys() == theirs.keys()
    for key, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_likeliest_token(rows, story, monkeypatch):
    model, _ = story
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", rows * model.get_output_embeddings().weight.shape[0])
    ids, prompts, lengths, columns = batch()
    said = completion_logprobs(
        model, ids, prompts, lengths, temperature=0.7, columns=columns, wanted=Wanted(peak=True)
    )
    assert not said.peak.requires_grad
    for row, prompt, length, peaks in zip(ids, prompts.tolist(), lengths.tolist(), said.peak, strict=True):
        logits = model(input_ids=row[None, :length]).logits[0, prompt - 1 : length - 1] / 0.7
        expected = logits.softmax(-1).max(-1).values.log()
        torch.testing.assert_close(peaks[: length - prompt], expected.detach(), atol=1e-5, rtol=0)
        assert not peaks[length - prompt :].any()


@pytest.mark.parametrize("rows", [1, 3, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_of_the_entropy_is_the_naive_one(name, rows, monkeypatch):
    """Through the whole vocabulary, chunk by chunk, beside that of the log-probabilities."""
    torch.manual_seed(0)
    model = MODELS[name]()
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", rows * 47)
    ids, prompts, lengths, columns = batch()
    wanted = Wanted(entropy_gradient=True)
    said = completion_logprobs(model, ids, prompts, lengths, temperature=0.7, columns=columns, wanted=wanted)
    expected_logprobs, expected = naive(model, 0.7)
    torch.testing.assert_close(said.entropy, expected, atol=1e-5, rtol=0)
    alone, theirs_alone = gradients(model, said.entropy), gradients(model, expected)
    assert max(float(g.abs().max()) for g in theirs_alone.values()) > 1e-2
    said = completion_logprobs(model, ids, prompts, lengths, temperature=0.7, columns=columns, wanted=wanted)
    expected_logprobs, expected = naive(model, 0.7)
    both = gradients(model, said.logprobs - 0.3 * said.entropy)
    theirs_both = gradients(model, expected_logprobs - 0.3 * expected)
    for ours, theirs in ((alone, theirs_alone), (both, theirs_both)):
        assert ours.keys() == theirs.keys()
        for key, gradient in ours.items():
            torch.testing.assert_close(gradient, theirs[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_all_logits_never_exist_at_once(rows, story, monkeypatch):
    """Nor is any tensor of more rows than a chunk kept for the backward pass, entropy or not."""
    model, _ = story
    vocabulary = model.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", rows * vocabulary)
    ids, prompts, lengths, columns = batch()
    kept = []

    def keep(tensor):
        if tensor.ndim and tensor.shape[-1] == vocabulary:
            kept.append(tensor.numel() // vocabulary)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        said = completion_logprobs(
            model, ids, prompts, lengths, temperature=0.7, columns=columns,
            wanted=Wanted(entropy_gradient=True),
        )  # fmt: skip
    tokens = int((lengths - prompts).sum())
    if rows < tokens:
        assert kept == [], "chunks are recomputed, not kept"
    else:
        assert tokens in kept, "the hook sees what is kept"
    (said.logprobs + said.entropy).sum().backward()


KAPPA = 0.05


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_collision_and_proxy_are_the_naive_ones(rows, story, monkeypatch):
    model, _ = story
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", rows * 47)
    ids, prompts, lengths, columns = batch()
    said = completion_logprobs(
        model, ids, prompts, lengths, temperature=0.7, columns=columns,
        wanted=Wanted(collision=True, kappa=KAPPA),
    )  # fmt: skip
    assert not said.collision.requires_grad
    assert not said.log_proxy.requires_grad
    noise = 0
    for row, (start, end) in enumerate(zip(prompts.tolist(), lengths.tolist(), strict=True)):
        probabilities = (model(ids[row : row + 1, :end]).logits[0] / 0.7).softmax(-1).tolist()
        for t in range(start, end):
            choices, token = probabilities[t - 1], int(ids[row, t])
            kept = [p for p in choices if p >= KAPPA * max(choices)]
            share = choices[token] / sum(kept) if choices[token] in kept else 0.0
            assert float(said.log_proxy[row, t - start].exp()) == pytest.approx(share, abs=1e-6)
            assert float(said.collision[row, t - start]) == pytest.approx(sum(p * p for p in choices))
            noise += not share
        assert not said.log_proxy[row, end - start :].any()
        assert not said.collision[row, end - start :].any()
    assert 0 < noise < int((lengths - prompts).sum()), "kappa divides nothing here"


def test_padding_does_not_matter(story):
    model, _ = story
    results = [
        completion_logprobs(model, ids, prompts, lengths, temperature=1.0, columns=columns)
        for ids, prompts, lengths, columns in (batch(0), batch(33), batch(5, wider=40))
    ]
    for said in results[1:]:
        torch.testing.assert_close(said.logprobs, results[0].logprobs, atol=1e-6, rtol=0)
        torch.testing.assert_close(said.entropy, results[0].entropy, atol=1e-6, rtol=0)


def test_the_scaled_heads_really_differ_from_a_plain_one():
    """Else the models above would prove nothing about `scale_logits`."""
    for name in ("soft cap", "logit_scale", "logits_scaling"):
        torch.manual_seed(0)
        model = MODELS[name]()
        hidden = model.get_decoder()(input_ids=batch()[0]).last_hidden_state
        plain = model.get_output_embeddings()(hidden)
        scaled = logprobs.scale_logits(plain, model.config)
        assert (plain - scaled).abs().max() > 1e-3
        torch.testing.assert_close(scaled, model(batch()[0]).logits, atol=1e-6, rtol=1e-6)
