"""What a plan says holds: memory by hand and as measured, never less for more, advice that fits."""

import json
import re
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr import build
from rlvr.cli.app import answer, app
from rlvr.errors import RecipeError
from rlvr.plan import memory as memories
from rlvr.plan.advice import advise, changed
from rlvr.plan.forecast import forecast, work_of
from rlvr.plan.gpus import GPUS, find
from rlvr.plan.memory import memory, total
from rlvr.plan.pace import Assumed, pace
from rlvr.plan.shape import shape
from rlvr.recipe.presets import PRESETS
from rlvr.recipe.schema import Recipe
from tests.checkout import ROOT

QWEN_05B = {
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
SHAPE = shape(QWEN_05B, "Qwen2.5-0.5B", "here")
CPU = replace(GPUS["H100"], name="cpu", is_cpu=True, memory_bytes=64e9)


def recipe(**sections):
    return Recipe.model_validate({"model": {"name": "x"}, "problems": "story", **sections})


def work(gpu="H100", gpus=1, **sections):
    kind = CPU if gpu == "cpu" else GPUS[gpu]
    return work_of(recipe(**sections), SHAPE, kind, gpus)


def test_a_half_billion_parameters_by_hand():
    assert SHAPE.parameters == 494_032_768, "as its model card says"
    made = work(optim={"micro_batch_tokens": 1536}, sampling={"max_tokens": 512, "engine": "vllm_local"})
    update = memory(made)["update"]
    assert update["weights"] == update["gradients"] == 4 * SHAPE.parameters
    assert update["optimizer state"] == 8 * SHAPE.parameters
    # A prompt and two of its completions, whose last tokens predict nothing: 256 + 2 * 511 = 1278.
    assert made.micro == (1, 2, 1278, 128)
    # Two norms (x, scaled x, 1/rms), their results, the attention's output, gate up silu product.
    layer = 1278 * (2 * (2 * 896 + 1) + 2 * 896 + 896 + 4 * 4864)
    prompt = 256 * (2 * 896 + 2 * 128 + 14)  # q out, k v, row sums
    completions = 2 * (
        511 * (2 * 896 + 14) + 2 * 768 * 896
    )  # their prompt's keys beside their own, 767 in 8s
    places = 8 * (3 * 1278 + 2 * (2 * 511 + 768)) + 4 * 2 * 511 * 768
    end = places + 1278 * 3 * 896 * 4 + 1024 * (4 * 896 + memories.LOSS_BYTES)
    assert update["activations"] == 24 * 4 * (layer + prompt + completions) + end
    chunk = 2**26 // 151936
    head = 4 * 151936 * 896
    assert update["logits"] == 4 * 4 * 151936 * chunk + head
    assert memories.token_bytes(made) == 2 * 24 * 128 * 4
    own = 4 * SHAPE.parameters + memories._vllm_work(made)
    assert memories.kv_bytes(made) == pytest.approx(0.4 * 80e9 - own)
    assert memories.fitting(made) == int(memories.kv_bytes(made) // (768 * 2 * 24 * 128 * 4))


def test_ranks_share_what_is_held_and_keep_a_whole_copy():
    one, four = memory(work())["update"], memory(work(gpus=4))["update"]
    for part in ("weights", "optimizer state"):
        assert four[part] == one[part] / 4
    assert four["whole copy to sample from"] == 4 * SHAPE.parameters
    assert four["gathered layers"] == 4 * (2 * SHAPE.layer + SHAPE.root) + 8 * (SHAPE.layer + SHAPE.root)


def test_servers_have_gpus_of_their_own():
    made = work(gpus=4, sampling={"engine": "vllm_server"}, vllm={"replicas": 2})
    assert (made.ranks, made.engines, made.server_gpus) == (2, 2, 2)
    found = memory(made)
    assert "KV cache" in found["server"]
    assert "KV cache" not in found["sampling"]
    shared = work(gpus=2, sampling={"engine": "vllm_server"}, vllm={"replicas": 2})
    assert (shared.ranks, shared.server_gpus, shared.samples_here) == (1, 0, True)
    assert "KV cache" in memory(shared)["update"], "servers do not sleep"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_passes_before_an_update_are_those_of_the_loss(preset):
    made = work(algorithm={"preset": preset})
    loss = build.loss(made.recipe.algorithm)
    assert made.has_reference == loss.needs_reference
    assert made.looks == (loss.needs_old or loss.selects) + loss.needs_reference


SECTIONS = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {
                "name": st.just("x"),
                "dtype": st.sampled_from(["float32", "bfloat16"]),
                "gradient_checkpointing": st.booleans(),
                "lora": st.sampled_from([None, {"rank": 8}]),
            }
        ),
        "sampling": st.fixed_dictionaries({"engine": st.sampled_from(["hf", "vllm_local"])}),
        "algorithm": st.fixed_dictionaries({"preset": st.sampled_from(["default", "grpo"])}),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    sections=SECTIONS,
    gpus=st.integers(2, 7),
    tokens=st.integers(1000, 40_000),
    more=st.integers(0, 20_000),
)
def test_more_gpus_never_need_more_each_and_a_bigger_micro_batch_never_less(sections, gpus, tokens, more):
    def peak(count, budget):
        made = work(gpus=count, optim={"micro_batch_tokens": budget}, **sections)
        return {phase: total(parts) for phase, parts in memory(made).items()}

    few, wide, big = peak(gpus, tokens), peak(gpus + 1, tokens), peak(gpus, tokens + more)
    for phase in few:
        assert wide[phase] <= few[phase]
        assert big[phase] >= few[phase]


@pytest.mark.parametrize("gpu", ["A10G", "L40S", "A100-40GB", "cpu"])
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"vllm": {"memory_share": 0.9}},
        {"vllm": {"memory_share": 0.05}},
        {"sampling": {"engine": "hf", "batch_size": 4096, "max_tokens": 4096}},
        {"optim": {"micro_batch_tokens": 200_000}, "algorithm": {"preset": "grpo"}},
    ],
)
def test_advice_fits_by_the_same_formula(gpu, sections):
    asked = work(gpu, **sections)
    if gpu == "cpu":
        asked = replace(asked, gpu=replace(CPU, memory_bytes=16e9))
    found = forecast(asked, Assumed())
    if found.fits:
        return
    advice = advise(found, Assumed())
    assert advice
    for each in advice:
        again = replace(asked, recipe=changed(asked.recipe, each.settings), gpus=each.forecast.work.gpus)
        assert all(total(parts) <= asked.gpu.memory_bytes for parts in memory(again).values())
        assert memories.kv_bytes(again) >= memories.least_kv(again)
        for key, value in each.settings.items():
            section, _, leaf = key.partition(".")
            assert getattr(getattr(asked.recipe, section), leaf) != value


def test_nothing_helps_where_the_weights_alone_are_too_large():
    asked = work("A10G")
    huge = replace(asked, shape=replace(SHAPE, layers=24 * 60))
    assert advise(forecast(huge, Assumed()), Assumed()) == []


def test_times_by_hand():
    made = work(sampling={"engine": "hf", "max_tokens": 100, "batch_size": 8}, run={"steps": 7})
    assumed = Assumed(layer_s=0.0)
    found = pace(made, assumed)
    context = 256 + 50
    read = 4 * SHAPE.parameters + 8 * context * memories.token_bytes(made)
    prefill = 32 * (256 * (2 * SHAPE.active + 4 * 24 * 896 * 128) + 2 * SHAPE.embedding) / (67e12 * 0.35)
    assert found.sample == pytest.approx(prefill + 256 / 8 * 100 * read / (3350e9 * 0.6))
    flops = (32 * 256 + 256 * 100) * (2 * SHAPE.active + 4 * 24 * 896 * 178) + 256 * 100 * 2 * SHAPE.embedding
    adam = 7 * 4 * SHAPE.parameters / (3350e9 * 0.6)
    assert found.update == pytest.approx(3 * flops / (67e12 * 0.35) + adam)
    assert forecast(made, assumed).run_s == pytest.approx(7 * found.step)
    assert pace(work(gpus=2), assumed).update < pace(work(), assumed).update


def test_a_measured_update_takes_what_was_predicted():
    """The first row of docs/performance.md, here within 5 percent."""
    loader = SourceFileLoader("bench_plan", str(ROOT / "scripts" / "bench_plan"))
    bench = module_from_spec(spec_from_loader("bench_plan", loader))
    loader.exec_module(bench)
    for case in ("3M", "3M-checkpointing"):
        row = bench.one(case, "update", "cpu")
        assert row["predicted"] == pytest.approx(row["tensors"], rel=0.05)


def test_kinds_of_gpu_are_found_by_name():
    assert [gpu.name for gpu in find("h100,L40s,H100", 0)] == ["H100", "L40S"]
    (here,) = find("cpu", 2**30)
    assert here.is_cpu
    assert here.memory_bytes == 2**30
    assert here.bandwidth > 1e6
    with pytest.raises(RecipeError, match="no such kind is known; did you mean `A100-80GB`"):
        find("A100-80", 0)
    with pytest.raises(RecipeError, match=r"choose from: A10G, .*, cpu"):
        find("abacus", 0)


@pytest.fixture
def recipe_file(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(QWEN_05B))
    path = tmp_path / "mine.yaml"
    path.write_text("model: ./model\nproblems: story\nverifier: story\noptim:\n  micro_batch_tokens: 16384\n")
    return path


def test_the_command_says_what_does_not_fit_and_the_line_to_change(recipe_file, capsys):
    assert answer(app, ["plan", str(recipe_file), "--gpu", "A10G", "--gpus", "1"]) == 1
    said = capsys.readouterr().out
    assert "494,032,768 parameters in float32" in said
    assert re.search(r"1 x A10G: update takes [\d.]+ GiB of 22.4 GiB, most of it activations", said)
    advised = re.search(rf"{recipe_file}:5: set `optim.micro_batch_tokens: (\d+)`", said)
    assert advised
    assert "NVIDIA A10G datasheet" in said
    change = ["--set", f"optim.micro_batch_tokens={advised[1]}"]
    assert answer(app, ["plan", str(recipe_file), "--gpu", "A10G", "--gpus", "1", *change]) == 0
    assert "1 x A10G" in capsys.readouterr().out


def test_the_command_speaks_json(recipe_file, capsys):
    assert answer(app, ["plan", str(recipe_file), "--gpu", "A10G,H100", "--gpus", "1,2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    plans = {(plan["gpu"], plan["gpus"]): plan for plan in said["plans"]}
    assert set(plans) == {("A10G", 1), ("A10G", 2), ("H100", 1), ("H100", 2)}
    assert list(plans["A10G", 1]["advice"][0]["set"]) == ["optim.micro_batch_tokens"]
    fits = plans["H100", 1]
    assert fits["fits"]
    assert max(phase["total"] for phase in fits["memory_bytes"].values()) < fits["room_bytes"]
    for phase in fits["memory_bytes"].values():
        assert phase["total"] == pytest.approx(sum(v for k, v in phase.items() if k != "total"), abs=20)
    seconds = fits["seconds"]
    assert seconds["step"] == pytest.approx(sum(seconds[k] for k in ("sample", "logprobs", "update", "sync")))


@pytest.mark.parametrize("count", ["0", "9", "two", "1,,2"])
def test_a_number_of_gpus_is_from_1_to_8(recipe_file, capsys, count):
    assert answer(app, ["plan", str(recipe_file), "--gpus", count]) == 2
    assert "is no number from 1 to 8" in capsys.readouterr().err


def test_a_recipe_on_servers_that_run_elsewhere(tmp_path, recipe_file, capsys):
    given = yaml.safe_load(recipe_file.read_text())
    given |= {"sampling": {"engine": "vllm_server"}, "vllm": {"servers": ["http://127.0.0.1:8000"]}}
    recipe_file.write_text(yaml.safe_dump(given))
    assert answer(app, ["plan", str(recipe_file), "--gpu", "H100", "--gpus", "1", "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert "KV cache" not in plan["memory_bytes"]["sampling"]
