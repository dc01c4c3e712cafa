"""What mends a recipe that does not fit: keys with values that do, by the same formulas."""

from dataclasses import replace

import pytest

from rlvr.plan import memory as memories
from rlvr.plan.advice import advise, changed
from rlvr.plan.forecast import forecast
from rlvr.plan.memory import memory, total
from tests.plan.half_billion import CPU, SHAPE, work


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
    found = forecast(asked)
    if found.fits:
        return
    advice = advise(found)
    assert advice
    for each in advice:
        again = replace(asked, recipe=changed(asked.recipe, each.settings), gpus=each.forecast.work.gpus)
        assert all(total(parts) <= asked.gpu.memory_bytes for parts in memory(again).values())
        assert memories.kv_bytes(again) >= memories.least_kv(again)
        for key, value in each.settings.items():
            section, _, leaf = key.partition(".")
            assert getattr(getattr(asked.recipe, section), leaf) != value


@pytest.mark.parametrize("gpus", [1, 2])
def test_what_outgrows_the_context_does_not_fit(gpus):
    asked = replace(work(gpus=gpus), shape=replace(SHAPE, context=1000), prompt=489)
    found = forecast(asked)
    assert [fault.phase for fault in found.faults] == ["sampling"]
    assert "make 1,001, more than the model's context of 1,000" in found.faults[0].why
    (advice,) = advise(found)
    assert advice.settings == {"sampling.max_tokens": 511}
    assert forecast(replace(asked, recipe=changed(asked.recipe, advice.settings))).fits
    assert forecast(replace(asked, prompt=488)).fits
    assert advise(forecast(replace(asked, prompt=1000))) == [], "no completion has room"


def test_context_and_memory_are_mended_together():
    asked = work("A10G", sampling={"max_tokens": 32_768}, optim={"micro_batch_tokens": 200_000})
    ways = advise(forecast(replace(asked, prompt=1000)))
    assert ways
    for advice in ways:
        assert advice.settings["sampling.max_tokens"] == 31_768
        assert advice.forecast.fits


def test_an_offloaded_optimizer_takes_nothing_of_the_gpu():
    plain, hosted = work(), work(optim={"offload": True})
    before, after = memory(plain)["update"], memory(hosted)["update"]
    assert before.pop("optimizer state") == 8 * SHAPE.parameters
    assert before == after
    assert (plain.hosted_bytes, hosted.hosted_bytes) == (0, 16 * SHAPE.parameters)
    here = memory(work("cpu", optim={"offload": True}))["update"]
    assert here["optimizer in host memory"] == 12 * SHAPE.parameters


@pytest.mark.parametrize("layers", [60, 86])
def test_offloading_is_advised_where_the_state_does_not_fit(layers):
    """A billion parameters and more: in 24 GB weights and gradients fit, moments beside them do not."""
    asked = replace(work("A10G", sampling={"engine": "hf"}), shape=replace(SHAPE, layers=layers))
    ways = [each.settings for each in advise(forecast(asked))]
    assert any(way.get("optim.offload") is True for way in ways)
    for way in ways:
        assert forecast(replace(asked, recipe=changed(asked.recipe, way))).fits


def test_several_ranks_are_told_to_leave_offloading():
    found = forecast(work(gpus=2, optim={"offload": True}))
    assert "`optim.offload` is for one process, and 2 ranks" in found.faults[0].why
    assert advise(found)[0].settings == {"optim.offload": False}


def test_the_recipe_s_own_ranks_count():
    assert work(gpus=8, run={"ranks": 2}).ranks == 2
    found = forecast(work(gpus=1, run={"ranks": 2}))
    assert found.faults[0].why == "`run.ranks = 2` wants as many devices, and trainers have 1"
    assert advise(found)[0].settings == {"run.ranks": 1}
    beside = {"sampling": {"engine": "vllm_server"}, "run": {"ranks": 2}}
    assert "trainers have 1" in forecast(work(gpus=2, **beside)).faults[0].why
    assert forecast(work(gpus=3, **beside)).fits
    shared = work("cpu", run={"ranks": 2})
    assert (shared.gpus, shared.ranks, shared.gpu.memory_bytes) == (2, 2, CPU.memory_bytes / 2)
    assert work(gpus=4, model={"name": "x", "device": "cuda:1"}).ranks == 1
