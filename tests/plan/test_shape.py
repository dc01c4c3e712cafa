"""Parameters counted from a config.json equal those of the model that transformers builds from it."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlvr.errors import ModelError
from rlvr.plan.config import made, read, shape
from rlvr.plan.families import FAMILIES
from rlvr.plan.work import work_of
from rlvr.policy.gpus import GPUS
from rlvr.policy.model import add_lora
from rlvr.recipe.schema import Make, Recipe
from tests.tiny import SIZES, tiny

WIDTHS = {
    "hidden_size": 96,
    "intermediate_size": 340,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1009,
    "max_position_embeddings": 512,
    "pad_token_id": None,
}
MORE = {
    "qwen2": [{"tie_word_embeddings": True}],
    "qwen3": [{"attention_bias": True, "head_dim": 20}],
    "llama": [{"attention_bias": True, "mlp_bias": True}, {"head_dim": 40, "tie_word_embeddings": True}],
    "gemma2": [{"tie_word_embeddings": False, "head_dim": 16}],
    "mixtral": [{"num_local_experts": 4, "num_experts_per_tok": 2}],
    "qwen3_moe": [
        {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 52},
        {"num_experts": 8, "moe_intermediate_size": 52, "mlp_only_layers": [1], "decoder_sparse_step": 1},
        {"num_experts": 8, "moe_intermediate_size": 52, "decoder_sparse_step": 2},
    ],
}
KINDS = [(kind, more) for kind in FAMILIES for more in [{}, *MORE.get(kind, [])]]


def built(kind, more):
    config = AutoConfig.for_model(kind, **WIDTHS | more)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_parameters_are_those_of_the_real_model(kind, more, tmp_path):
    model = built(kind, more)
    model.config.save_pretrained(tmp_path)
    counted = read(tmp_path / "config.json", "it")
    assert counted.parameters == model.num_parameters()
    assert counted.notes == ()
    assert counted.root == sum(p.numel() for n, p in model.named_parameters() if ".layers." not in n)


def test_a_small_qwen3_by_hand():
    found = shape(WIDTHS | {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True}, "it", "here")
    attention = 96 * 32 + 2 * 96 * 16 + 32 * 96  # q, k and v, o
    layer = attention + 3 * 96 * 340 + 2 * 96 + 2 * 8  # the MLP, two norms, two of heads
    assert found.parameters == 1009 * 96 + 3 * layer + 96
    assert found.active == 3 * (attention + 3 * 96 * 340)


def test_what_the_recipe_makes_is_counted_too():
    model, _ = tiny("story")
    assert made(Make(**SIZES, tokenizer="story")).parameters == model.num_parameters()


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_an_adapter_has_the_parameters_that_peft_trains(kind, targets):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **WIDTHS))
    wrapped = add_lora(model, rank=3, alpha=6, targets=targets, seed=0)
    recipe = Recipe.model_validate(
        {"model": {"name": "x", "lora": {"rank": 3, "targets": targets}}, "problems": "story"}
    )
    work = work_of(recipe, shape(WIDTHS | {"model_type": kind}, "it", "here"), GPUS["H100"], 1)
    assert work.adapter == sum(p.numel() for p in wrapped.parameters() if p.requires_grad)


GOOD = WIDTHS | {
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": -5}, "hidden_size = -5 is no whole number from 1 to 1,000,000,000"),
        ({"hidden_size": "96"}, "hidden_size = '96' is no whole number"),
        ({"vocab_size": 10**30}, "is no whole number from 1 to"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers = 100000000 is no whole number from 1 to 10,000"),
        ({"intermediate_size": True}, "intermediate_size = True is no whole number"),
        ({"vocab_size": None, "num_experts": None}, "it lacks vocab_size, num_experts"),
        ({"num_key_value_heads": 0}, "num_key_value_heads = 0 is no whole number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3 does not divide num_attention_heads = 4"),
        ({"head_dim": 16.5}, "head_dim = 16.5 is no whole number"),
        ({"hidden_size": 97}, "hidden_size = 97 is no multiple of num_attention_heads = 4"),
        ({"max_position_embeddings": "512"}, "max_position_embeddings = '512' is no whole number"),
        ({"sliding_window": [8]}, r"sliding_window = \[8\] is no whole number"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no' is neither true nor false"),
        ({"layer_types": "full_attention"}, "layer_types = 'full_attention' is no list of names"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers of num_hidden_layers = 3"),
        ({"mlp_only_layers": 1}, "mlp_only_layers = 1 is no list of numbers"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok = 5 of 4 experts"),
    ],
)
def test_a_broken_configuration_is_told_what_is_wrong(change, said):
    assert shape(GOOD, "it", "here").experts == 4
    with pytest.raises(ModelError, match=f"^model `it`: here: .*{said}"):
        shape(GOOD | change, "it", "here")


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000, ""])
def test_what_is_no_json_is_said_to_be_none(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        read(tmp_path / "config.json", "it")
