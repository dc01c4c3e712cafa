"""Parameters counted from a config.json equal those of the model that transformers builds from it."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlvr.errors import ModelError
from rlvr.plan.families import FAMILIES
from rlvr.plan.forecast import work_of
from rlvr.plan.gpus import GPUS
from rlvr.plan.pace import forward_flops
from rlvr.plan.shape import made, read, shape
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
        {"num_experts": 6, "moe_intermediate_size": 52, "mlp_only_layers": [1], "decoder_sparse_step": 1},
        {"num_experts": 6, "moe_intermediate_size": 52, "decoder_sparse_step": 2},
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
    forward = 2 * found.active + 4 * 3 * 32 * 50 + 2 * 1009 * 96
    assert forward_flops(found, 10, 10, 50) == 10 * forward


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


def test_a_configuration_that_lacks_fields_is_told_which(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": "96"}))
    with pytest.raises(ModelError, match=r"lacks hidden_size = '96', num_hidden_layers, num_attention_heads"):
        read(tmp_path / "config.json", "it")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        read(tmp_path / "config.json", "it")


def test_an_unknown_kind_is_counted_as_a_llama_and_says_so():
    found = shape(WIDTHS | {"model_type": "marvellous"}, "it", "here")
    assert found.parameters == shape(WIDTHS | {"model_type": "llama"}, "it", "here").parameters
    assert "model_type `marvellous` is none that is counted exactly" in found.notes[0]


def test_windows_and_text_models():
    mistral = shape(WIDTHS | {"model_type": "mistral", "sliding_window": 128}, "it", "here")
    assert (mistral.window_layers, mistral.window) == (3, 128)
    unused = {"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": False}
    assert shape(WIDTHS | unused, "it", "here").window_layers == 0
    inner = {"text_config": WIDTHS | {"model_type": "gemma3_text"}, "vision_config": {}}
    assert shape(inner, "it", "here").notes == ("only its text model is counted",)
