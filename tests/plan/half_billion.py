"""A model of half a billion parameters, and what a recipe asks of devices for it."""

from dataclasses import replace

from rlvr.plan.config import shape
from rlvr.plan.work import work_of
from rlvr.policy.gpus import GPUS
from rlvr.recipe.schema import Recipe

CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
}
SHAPE = shape(CONFIG, "Qwen2.5-0.5B", "here")
CPU = replace(GPUS["H100"], name="cpu", is_cpu=True, memory_bytes=64e9)


def recipe(**sections):
    return Recipe.model_validate({"model": {"name": "x"}, "problems": "story", **sections})


def work(gpu="H100", gpus=1, **sections):
    kind = CPU if gpu == "cpu" else GPUS[gpu]
    return work_of(recipe(**sections), SHAPE, kind, gpus)
