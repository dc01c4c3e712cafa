"""What a plan says holds: memory by hand and as measured, never less for more, advice that fits."""

from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr import build
from rlvr.errors import ModelError, RecipeError
from rlvr.plan import memory as memories
from rlvr.plan.advice import advise
from rlvr.plan.assumed import Assumed, assumed
from rlvr.plan.config import shape
from rlvr.plan.forecast import forecast
from rlvr.plan.gpus import find
from rlvr.plan.memory import memory, total
from rlvr.plan.pace import needed, pace
from rlvr.plan.work import is_adapted, work_of
from rlvr.policy.flops import Shape
from rlvr.policy.gpus import GPUS
from rlvr.policy.model import add_lora
from rlvr.recipe.presets import PRESETS
from tests.checkout import ROOT
from tests.plan.half_billion import SHAPE, recipe, work
from tests.tiny import tiny


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


def test_times_by_hand():
    made = work(sampling={"engine": "hf", "max_tokens": 100, "batch_size": 8}, run={"steps": 7})
    made = replace(made, assumed=Assumed(layer_ms=0))
    found = pace(made)
    # Packed: a prompt of 256 once, 8 times 99 tokens behind it, each seeing itself and all before it.
    prompt, seen = 256 * 257 // 2, 355 * 356 // 2
    keys = prompt + 8 * (seen - prompt)
    forward = 2 * (256 + 8 * 99) * SHAPE.active + 4 * 24 * 896 * keys + 8 * 100 * 2 * SHAPE.embedding
    prefill = 2 * 256 * SHAPE.active + 4 * 24 * 896 * prompt + 2 * SHAPE.embedding
    rate, bandwidth = 67e12 * 0.35, 3350e9 * 0.6
    read = 4 * SHAPE.parameters + 8 * (256 + 50) * memories.token_bytes(made)
    assert found.sample == pytest.approx(32 * prefill / rate + 256 / 8 * 100 * read / bandwidth)
    adam = 7 * 4 * SHAPE.parameters / bandwidth
    assert found.update == pytest.approx(32 * 3 * forward / rate + adam)
    assert forecast(made).run_s == pytest.approx(7 * found.step)
    assert pace(work(gpus=2)).update < pace(work()).update


def test_times_of_variants_by_hand():
    def update_s(**sections):
        made = work(sampling={"engine": "hf", "max_tokens": 100}, **sections)
        return pace(replace(made, assumed=Assumed(layer_ms=0, bandwidth=1))).update

    plain = update_s()
    adam = 7 * 4 * SHAPE.parameters / 3350e9
    assert update_s(model={"name": "x", "gradient_checkpointing": True}) == pytest.approx(
        (plain - adam) * 4 / 3 + adam
    )
    hosted = update_s(optim={"offload": True})
    assert hosted - (plain - adam) == pytest.approx(36 * SHAPE.parameters / 10e9)
    # Unpacked, each of the 8 siblings reads the prompt anew.
    prompt = 2 * 256 * SHAPE.active + 4 * 24 * 896 * 256 * 257 // 2
    assert update_s(optim={"packing": "off"}) - plain == pytest.approx(3 * 32 * 7 * prompt / (67e12 * 0.35))


def test_work_is_counted_as_a_run_counts_it():
    """The FLOPs of a plan, read off a config.json, are those of the model that transformers builds."""
    model, _ = tiny("story")
    read = shape(model.config.to_dict(), "it", "here")
    assert needed(work_of(recipe(), read, GPUS["H100"], 1)) == Shape.of(model)
    adapted = add_lora(model, rank=4, alpha=8.0, targets="all-linear", seed=0)
    lora = recipe(model={"name": "x", "lora": {"rank": 4}})
    assert needed(work_of(lora, read, GPUS["H100"], 1)) == Shape.of(adapted)


def test_a_measured_update_takes_what_was_predicted():
    """The first row of docs/performance.md, here within 5 percent."""
    loader = SourceFileLoader("bench_plan", str(ROOT / "scripts" / "bench_plan"))
    bench = module_from_spec(spec_from_loader("bench_plan", loader))
    loader.exec_module(bench)
    for case in ("3M", "3M-checkpointing"):
        row = bench.one(case, "update", "cpu")
        assert row["predicted"] == pytest.approx(row["tensors"], rel=0.05)


def test_kinds_of_gpu_are_found_by_name():
    assert [gpu.name for gpu in find(["h100,L40s", "A10G,H100"], 0)] == ["H100", "L40S", "A10G"]
    assert len(find([], 0)) == 9
    (here,) = find(["cpu"], 2**30)
    assert here.is_cpu
    assert here.memory_bytes == 2**30
    assert here.bandwidth > 1e6
    with pytest.raises(RecipeError, match="no such kind is known; did you mean `A100-80GB`"):
        find(["A100-80"], 0)
    with pytest.raises(RecipeError, match=r"choose from: A10G, .*, cpu"):
        find(["abacus"], 0)
    for nothing in ("", "H100,", ","):
        with pytest.raises(RecipeError, match=r"no kind is named; choose from: .*, cpu"):
            find([nothing], 0)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("all-linear", 7),
        (["q_proj", "self_attn.k_proj"], 2),
        (r".*\.mlp\..*_proj", 3),
        ("q_proj", 0),
        (["proj"], 0),
    ],
)
def test_targets_of_an_adapter_are_those_of_peft(targets, names):
    assert sum(is_adapted(module, targets) for _, module in SHAPE.linears()) == names
    model, _ = tiny("story")
    try:
        wrapped = add_lora(model, rank=2, alpha=4.0, targets=targets, seed=0)
    except ModelError:
        assert names == 0
        return
    layers = wrapped.config.num_hidden_layers
    assert sum(p.requires_grad for p in wrapped.parameters()) == 2 * layers * names


def test_guesses_are_replaced_one_by_one():
    made = assumed(["mfu=0.5", "vllm_ms = 0", "mfu=0.4"])
    assert (made.mfu, made.vllm_ms, made.link) == (0.4, 0, Assumed().link)
    for wrong, said in {
        "mfu": "write mfu=NUMBER",
        "mfu=": "write mfu=NUMBER",
        "mfu=most": "write mfu=NUMBER",
        "mfu=1.5": "--assume mfu=1.5: Input should be less than or equal to 1",
        "mfu=nan": "--assume mfu=nan",
        "host_gb_s=0": "greater than 0",
        "mfuu=1": "is no assumption; did you mean `mfu`",
        "=1": "is no assumption",
    }.items():
        with pytest.raises(RecipeError, match=said):
            assumed([wrong])


def test_nothing_helps_where_the_weights_alone_are_too_large():
    asked = work("A10G")
    huge = replace(asked, shape=replace(SHAPE, layers=24 * 60))
    assert advise(forecast(huge)) == []
