"""Arguments of vLLM from a recipe's and a machine's: what is refused, bounded and rounded."""

import json
from dataclasses import replace

import pytest

from rlvr.errors import EngineError
from rlvr.policy.model import add_lora
from rlvr.rollout.vllm_options import OWNED
from rlvr.rollout.vllm_settings import (
    CPU_BATCH,
    CPU_BLOCK,
    LEAST_CACHE,
    MOST_CPU_CACHE,
    cpu_cache,
    engine_arguments,
    quiet_environment,
    serve_command,
    write_config,
)
from tests.rollout.vllm_cases import settings, small


@pytest.fixture(scope="module")
def config():
    return small()[0].config


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_keeps_weights_and_logprobs_right_is_not_for_options(config, name):
    with pytest.raises(EngineError, match=rf"vllm\.options: `{name}` is set by rlvr; leave it out"):
        engine_arguments(settings(options={"seed": 3, name: "x"}), "folder", config)


def test_other_options_come_last(config):
    arguments = engine_arguments(
        settings(options={"max-num-batched-tokens": 512, "seed": 3}), "folder", config
    )
    assert (arguments["max_num_batched_tokens"], arguments["seed"]) == (512, 3)
    assert "max-num-batched-tokens" not in arguments


def test_the_policy_decides_model_type_and_sizes(config):
    arguments = engine_arguments(settings(dtype="bfloat16", sequences=7), "folder", config)
    expected = {
        "model": "folder",
        "dtype": "bfloat16",
        "max_model_len": 256,
        "max_num_seqs": 7,
        "logprobs_mode": "processed_logprobs",
        "load_format": "dummy",
        "generation_config": "vllm",
    }
    assert expected.items() <= arguments.items()


def test_cpu_and_gpu_differ_in_what_they_need(config):
    cpu = engine_arguments(settings(), "folder", config)
    assert cpu["enforce_eager"] is True
    assert (cpu["block_size"], cpu["enable_chunked_prefill"]) == (CPU_BLOCK, False)
    assert cpu["kv_cache_memory_bytes"] == LEAST_CACHE
    assert "gpu_memory_utilization" not in cpu
    gpu = engine_arguments(settings(on_gpu=True, memory_share=0.3), "folder", config)
    assert gpu["enforce_eager"] is False
    assert gpu["gpu_memory_utilization"] == 0.3
    assert not {"block_size", "kv_cache_memory_bytes", "max_num_batched_tokens"} & gpu.keys()
    assert engine_arguments(settings(on_gpu=True, eager=True), "folder", config)["enforce_eager"] is True
    assert engine_arguments(settings(eager=False), "folder", config)["enforce_eager"] is False
    asked = engine_arguments(settings(on_gpu=True, kv_cache_bytes=2**30), "folder", config)
    assert asked["kv_cache_memory_bytes"] == 2**30


@pytest.mark.parametrize(
    ("context", "sequences", "expected"),
    [(256, 64, CPU_BATCH), (20_000, 64, 20_000), (256, 10_000, 10_000)],
)
def test_on_cpu_a_batch_holds_the_longest_prompt_and_one_token_of_every_sequence(
    config, context, sequences, expected
):
    arguments = engine_arguments(settings(context=context, sequences=sequences), "folder", config)
    assert arguments["max_num_batched_tokens"] == expected


@pytest.mark.parametrize(
    ("rank", "served"), [(1, 1), (2, 8), (8, 8), (9, 16), (33, 64), (129, 256), (257, 320), (512, 512)]
)
def test_adapter_ranks_are_rounded_up_to_what_vllm_serves(config, rank, served):
    arguments = engine_arguments(settings(lora_rank=rank), "folder", config)
    assert (arguments["enable_lora"], arguments["max_lora_rank"], arguments["max_loras"]) == (True, served, 1)
    assert "enable_lora" not in engine_arguments(settings(), "folder", config)


def test_an_adapter_of_too_high_a_rank_is_refused(config):
    with pytest.raises(EngineError, match=r"model\.lora\.rank = 513: vLLM serves at most 512"):
        engine_arguments(settings(lora_rank=513), "folder", config)


def test_the_cpu_cache_holds_every_sequence_within_bounds(config):
    # keys and values x layers x heads x width x bytes
    token = 2 * 2 * 1 * 32 * 4
    one = settings(sequences=1, context=256)
    assert cpu_cache(one, config) == LEAST_CACHE
    assert cpu_cache(replace(one, sequences=10**9), config) == MOST_CPU_CACHE
    # 10,001 tokens are 313 blocks of 32, and one more to write in
    between = replace(one, sequences=100, context=10_001)
    assert cpu_cache(between, config) == 100 * 314 * 32 * token
    assert cpu_cache(replace(between, dtype="bfloat16"), config) == 100 * 314 * 32 * token // 2
    arguments = engine_arguments(replace(between, kv_cache_bytes=2**25), "folder", config)
    assert arguments["kv_cache_memory_bytes"] == 2**25


def test_a_cache_that_holds_not_one_sequence_is_refused(config):
    # 8 blocks of 32 tokens of 512 bytes are 128 KiB
    assert engine_arguments(settings(kv_cache_bytes=2**17), "folder", config)
    with pytest.raises(EngineError, match=r"vllm\.kv_cache = 0\.125 MiB: .* 256 tokens, takes .*; set 1 MiB"):
        engine_arguments(settings(kv_cache_bytes=2**17 - 1), "folder", config)


@pytest.mark.parametrize(
    ("url", "more", "command"),
    [
        ("http://127.0.0.1:8000", {}, "rlvr serve MODEL --dtype float32"),
        (
            "http://10.0.0.5:8001",
            {"dtype": "bfloat16", "lora_rank": 16},
            "rlvr serve MODEL --dtype bfloat16 --lora-rank 16 --host 10.0.0.5 --port 8001",
        ),
    ],
)
def test_the_command_that_starts_a_fitting_server(url, more, command):
    assert serve_command(small()[0], settings(**more), url) == command


@pytest.mark.parametrize("is_adapted", [False, True])
def test_the_configuration_names_the_model_class_also_of_an_adapted_one(tmp_path, is_adapted):
    model, _ = small()
    served = add_lora(model, rank=2, alpha=4.0, targets="all-linear", seed=0) if is_adapted else model
    write_config(served, str(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == ["Qwen3ForCausalLM"]
    assert written["head_dim"] == 32
    assert not model.config.architectures, "the trainer's own stays as it was"


def test_a_vllm_process_is_quiet_offline_and_keeps_its_litter_together():
    quiet = quiet_environment("scratch", threads=None)
    assert quiet["TMPDIR"] == "scratch"
    assert quiet["HF_HUB_OFFLINE"] == quiet["VLLM_NO_USAGE_STATS"] == "1"
    assert "OMP_NUM_THREADS" not in quiet
    assert quiet_environment("scratch", threads=3)["OMP_NUM_THREADS"] == "3"
