"""Packed, padded and one sequence after the other: the same log-probabilities and the same gradients."""

import pytest
import torch
import transformers

from rlvr.cpu import round_up
from rlvr.policy import packing
from rlvr.policy.logprobs import completion_logprobs
from rlvr.policy.model import add_lora
from rlvr.policy.packing import misfit, packed_attention
from tests.tiny import tiny

SMALL = {
    "vocab_size": 47,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 5,
}
WINDOW = {"sliding_window": 6}
HEADS = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def of(family, **changes):
    """A random model of a family of transformers, stirred so that attention matters."""
    config = getattr(transformers, f"{family}Config")(**SMALL | changes)
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "embed" not in name:
                weight.mul_(6)
    return model


def of_gemma3():
    config = transformers.Gemma3TextConfig(**SMALL | HEADS | WINDOW)
    torch.manual_seed(0)
    return transformers.Gemma3ForCausalLM(config).eval()


def adapted():
    model = add_lora(tiny()[0], rank=4, alpha=8.0, targets="all-linear", seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return model


def recomputed(model):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return model.train()


MODELS = {
    "qwen3": lambda: tiny()[0],
    "qwen2": lambda: of("Qwen2"),
    "llama": lambda: of("Llama"),
    "mistral": lambda: of("Mistral"),
    "mistral, window": lambda: of("Mistral", **WINDOW),
    "gemma": lambda: of("Gemma", **HEADS),
    "gemma2, window": lambda: of("Gemma2", **HEADS, **WINDOW, attn_implementation="sdpa"),
    "gemma3, window": of_gemma3,
    "olmo2": lambda: of("Olmo2"),
    "phi3": lambda: of("Phi3"),
    "granite": lambda: of("Granite"),
    "cohere2, window": lambda: of("Cohere2", **WINDOW),
    "qwen3 of experts": lambda: of("Qwen3Moe", **HEADS, **EXPERTS),
    "gpt_neox": lambda: of("GPTNeoX"),
    "adapter": adapted,
    "recomputed": lambda: recomputed(tiny()[0]),
    "recomputed, window": lambda: recomputed(of("Mistral", **WINDOW)),
    "recomputed adapter": lambda: recomputed(adapted()),
}


def batch():
    """ids [B, T], prompt lengths, lengths, group of each and C: three groups in turn, one with an empty
    completion, one with a completion of one token, one sequence alone."""
    groups = torch.tensor([4, 1, 4, 1, 4, 2, 4, 1])
    prompts = torch.tensor([7, 3, 7, 3, 7, 5, 7, 3])
    lengths = torch.tensor([12, 4, 20, 13, 7, 15, 11, 9])
    ids = torch.randint(6, 47, (8, 20), generator=torch.Generator().manual_seed(0))
    for row, group in enumerate(groups.tolist()):
        first = groups.tolist().index(group)
        ids[row, : prompts[row]] = ids[first, : prompts[row]]
        ids[row, lengths[row] :] = 0
    return ids, prompts, lengths, groups, 13


WEIGHTS = torch.randn(8, 13, generator=torch.Generator().manual_seed(3))


def padded(model):
    ids, prompts, lengths, _, columns = batch()
    said = completion_logprobs(model, ids, prompts, lengths, temperature=0.7, columns=columns)
    model.zero_grad()
    (said.logprobs * WEIGHTS).sum().backward()
    return said.logprobs.detach(), gradients(model)


def alone(model):
    ids, prompts, lengths, _, _ = batch()
    rows = []
    model.zero_grad()
    for row in range(len(ids)):
        one, prompt, length = ids[row : row + 1], prompts[row : row + 1], lengths[row : row + 1]
        said = completion_logprobs(model, one[:, : int(length)], prompt, length, temperature=0.7, columns=13)
        (said.logprobs * WEIGHTS[row]).sum().backward()
        rows.append(said.logprobs.detach())
    return torch.cat(rows), gradients(model)


def packed(model):
    ids, prompts, lengths, groups, columns = batch()
    said = completion_logprobs(
        model, ids, prompts, lengths, temperature=0.7, columns=columns, prompt_B=groups
    )
    model.zero_grad()
    with packed_attention(model):
        (said.logprobs * WEIGHTS).sum().backward()
    return said.logprobs.detach(), gradients(model)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_same(found, expected, *, rounding):
    """Gradients within `rounding` of the greatest of their tensor."""
    torch.testing.assert_close(found[0], expected[0], atol=rounding, rtol=0)
    assert found[1].keys() == expected[1].keys()
    assert max(float(g.abs().max()) for g in expected[1].values()) > 1e-2
    for name, gradient in expected[1].items():
        size = max(float(gradient.abs().max()), 1e-4)
        torch.testing.assert_close(found[1][name], gradient, atol=rounding * size, rtol=0, msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_packed_is_padded_is_one_after_the_other(name):
    model = MODELS[name]()
    assert misfit(model) is None
    expected = alone(model)
    check_same(padded(model), expected, rounding=2e-4)
    check_same(packed(model), expected, rounding=2e-4)


@pytest.mark.parametrize("name", ["qwen3", "mistral, window", "gemma3, window", "recomputed, window"])
@pytest.mark.parametrize(
    "settings",
    [{"LEAST_BLOCK": 0}, {"MASK_ELEMENTS": 0}, {"MASK_ELEMENTS": 0, "SIMILAR": 1.0, "LEAST_BLOCK": 1}],
    ids=["many blocks", "whole sequences", "whole, one by one"],
)
def test_attention_may_be_cut_into_any_blocks(name, settings, monkeypatch):
    model = MODELS[name]()
    expected = alone(model)
    for key, value in settings.items():
        monkeypatch.setattr(packing, key, value)
    check_same(packed(model), expected, rounding=2e-4)


@pytest.mark.parametrize("name", ["qwen3", "llama", "mistral, window"])
def test_in_bfloat16_it_is_off_by_no_more_than_padding_is(name):
    model = MODELS[name]().to(torch.bfloat16)
    assert misfit(model) is None
    values, expected = alone(MODELS[name]())
    for said in (packed, padded):
        found, gradient = said(model)
        assert float((found - values).abs().mean()) < 0.1 * float(values.abs().mean())
        flat = torch.cat([g.float().flatten() for g in gradient.values()])
        exact = torch.cat([g.flatten() for g in expected.values()])
        assert torch.nn.functional.cosine_similarity(flat, exact, dim=0) > 0.98, said.__name__


@pytest.mark.parametrize(
    ("prompt", "completion", "shapes"),
    [
        (900, 40, [(1, 900, 900), (4, 39, 944)]),  # a long prompt attends once
        (20, 900, [(4, 919, 919)]),  # a short one costs less than a mask over all pairs
    ],
)
def test_attention_takes_the_form_that_computes_fewer_pairs(prompt, completion, shapes):
    ids = torch.zeros(4, prompt + completion, dtype=torch.long)
    asked, lengths = torch.full((4,), prompt), torch.full((4,), prompt + completion)
    layout = packing.lay_out(ids, asked, lengths, torch.zeros(4, dtype=torch.long), torch.float32)
    assert [(*block.queries_BQ.shape, block.keys_BK.shape[1]) for block in layout.blocks] == shapes
    assert len(layout.ids_N) == round_up(prompt + 4 * (completion - 1))


def test_no_token_is_computed_twice_and_none_is_padding():
    """Prompts once, completions without their last tokens: 7 + 3 + 5 of prompts."""
    model, _ = tiny()
    seen = []
    hook = model.model.layers[0].mlp.register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    packed(model)
    hook.remove()
    completions = 4 + 0 + 12 + 9 + 0 + 9 + 3 + 5
    assert [tuple(shape[:2]) for shape in seen] == [(1, 15 + completions)]


def test_two_layouts_of_the_same_sequences_give_the_same_bits():
    model, _ = tiny()
    (values, first), (again, second) = packed(model), packed(model)
    assert torch.equal(values, again)
    assert all(torch.equal(gradient, second[name]) for name, gradient in first.items())


def convolving():
    return of("Lfm2", layer_types=["conv", "full_attention"])


MISFITS = {
    "its attention is `eager`, not `sdpa`": lambda: of("Qwen3", **HEADS, attn_implementation="eager"),
    "it has layers of another kind: conv": convolving,
    "it does not run packed": lambda: picky(of("Llama")),
    "packed, its hidden states are off by": lambda: forgetful(of("Llama")),
}


def picky(model):
    """A layer that takes what it knows, and nothing else."""
    layer = model.model.layers[1]
    forward = layer.forward

    def narrow(hidden_states, attention_mask, position_embeddings, position_ids, past_key_values, use_cache):
        return forward(
            hidden_states,
            attention_mask=attention_mask,
            position_embeddings=position_embeddings,
            position_ids=position_ids,
        )

    layer.forward = narrow
    return model


def forgetful(model):
    """A layer that looks at the token before it, past the attention kernel."""
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, out: out + 0.1 * out.roll(1, 1))
    return model


@pytest.mark.parametrize("why", MISFITS)
def test_a_model_that_cannot_is_found_out(why):
    assert misfit(MISFITS[why]()).startswith(why)


def test_the_attention_of_a_model_is_put_back():
    model, _ = tiny()
    packed(model)
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(KeyError), packed_attention(model):
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
