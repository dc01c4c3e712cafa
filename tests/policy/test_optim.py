"""Schedules in closed form, the guard against gradients that are not finite, who gets which optimizer."""

import copy
import math

import pytest
import torch

from rlvr.policy import optim
from rlvr.policy.model import add_lora
from tests.tiny import tiny

ADAM = {"learning_rate": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1}


def rates(schedule, total=10, warmup=2):
    return [
        optim.learning_rate_at(step, peak=3.0, warmup=warmup, total=total, schedule=schedule)
        for step in range(total + 2)
    ]


@pytest.mark.parametrize(
    ("schedule", "after"),
    [
        ("constant", [3.0] * 10),
        ("linear", [3.0 * (8 - n) / 8 for n in range(9)] + [0.0]),
        ("cosine", [1.5 * (1 + math.cos(math.pi * n / 8)) for n in range(9)] + [0.0]),
        ("late_linear", [3.0, 3.0, 3.0, 3.0, 3.0, 2.25, 1.5, 0.75, 0.0, 0.0]),
    ],
)
def test_schedules(schedule, after):
    assert rates(schedule) == pytest.approx([1.0, 2.0, *after], abs=1e-12)


def test_without_warmup_the_first_step_has_the_peak():
    assert rates("linear", warmup=0)[0] == 3.0
    assert all(0 <= rate <= 3.0 for warmup in (0, 5, 10, 20) for rate in rates("cosine", warmup=warmup))


def filled(model, value=1.0):
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_gradient_that_is_not_finite_moves_nothing(story, kind, poison):
    model, _ = story
    optimizers = optim.warm_start_optimizers(model, kind, **ADAM)
    filled(model)
    assert optim.step(optimizers, 1e-2, 1.0)[1]
    before = copy.deepcopy(([p.detach() for p in model.parameters()], [o.state_dict() for o in optimizers]))
    filled(model)
    next(iter(model.parameters())).grad.view(-1)[7] = poison
    norm, updated = optim.step(optimizers, 1e-2, 1.0)
    assert not updated
    assert not math.isfinite(norm)
    assert all(torch.equal(a, b) for a, b in zip(before[0], model.parameters(), strict=True))
    assert str(before[1]) == str([o.state_dict() for o in optimizers])
    assert all(p.grad is None for p in model.parameters()), "the poison would stay in the next step's sum"


def test_the_norm_is_clipped_over_all_parameters(story):
    model, _ = story
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    filled(model, 0.5)
    norm, updated = optim.step([optimizer], 0.25, 2.0)
    moved = before - torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert updated
    assert norm == pytest.approx(0.5 * math.sqrt(len(before)), rel=1e-5)
    assert float(moved.norm()) == pytest.approx(0.25 * 2.0, rel=1e-3)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("adapter", [False, True])
def test_every_trainable_parameter_has_exactly_one_optimizer(kind, adapter):
    model, _ = tiny()
    if adapter:
        model = add_lora(model, rank=2, alpha=4.0, targets="all-linear", seed=0)
    optimizers = optim.warm_start_optimizers(model, kind, **ADAM)
    covered = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert len(covered) == len(set(covered))
    assert set(covered) == {id(p) for p in model.parameters() if p.requires_grad}
    for group in (g for o in optimizers if isinstance(o, torch.optim.AdamW) for g in o.param_groups):
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] > 0}


def test_muon_takes_hidden_matrices_only(story):
    model, _ = story
    muon, rest = optim.warm_start_optimizers(model, "muon", **ADAM)
    names = {id(p): name for name, p in model.named_parameters()}
    matrices = {names[id(p)] for g in muon.param_groups for p in g["params"]}
    others = {names[id(p)] for g in rest.param_groups for p in g["params"]}
    assert all("layers" in name and "norm" not in name for name in matrices)
    assert "model.embed_tokens.weight" in others
    assert all("norm" in name for name in others - {"model.embed_tokens.weight"})


def noisy(model, seed):
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)


def stepped(model, steps, *, offload, optimizer=None, first=0):
    optimizer = optimizer or optim.adamw(model.parameters(), epsilon=1e-8, offload=offload, **ADAM)
    norms = []
    for number in range(first, first + steps):
        noisy(model, number)
        norms.append(optim.step([optimizer], 1e-2 / (1 + number), 1.0))
        assert all(p.grad is None for p in model.parameters())
    return optimizer, norms


def test_offloaded_steps_are_the_plain_ones_to_the_bit(story):
    model, _ = story
    other = copy.deepcopy(model)
    _, norms = stepped(model, 3, offload=False)
    _, other_norms = stepped(other, 3, offload=True)
    assert norms == other_norms
    assert not torch.equal(model.model.norm.weight, tiny()[0].model.norm.weight)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_offloaded_optimizer_goes_on_from_its_state(story, dtype, tmp_path):
    model = story[0].to(dtype)
    optimizer, _ = stepped(model, 2, offload=True)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = copy.deepcopy(model)
    loaded = optim.adamw(other.parameters(), epsilon=1e-8, offload=True, **ADAM)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    stepped(model, 2, offload=True, optimizer=optimizer, first=2)
    stepped(other, 2, offload=True, optimizer=loaded, first=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_offloaded_bfloat16_weights_keep_what_rounding_would_lose(story):
    """Steps far below a weight's last bit add up in the float32 copies."""
    model = story[0].to(torch.bfloat16)
    with torch.no_grad():
        model.model.norm.weight.fill_(1.0)
    settings = {"betas": (0.0, 0.0), "epsilon": 1e-8, "weight_decay": 0.0}
    optimizer = optim.adamw(model.parameters(), learning_rate=1e-4, offload=True, **settings)
    for _ in range(100):
        filled(model)
        optim.step([optimizer], 1e-4, 1e9)
    assert model.model.norm.weight[0].item() == pytest.approx(0.99, abs=4e-3)


@pytest.mark.parametrize("offload", [False, True])
def test_only_an_adapter_has_a_state(offload):
    model = add_lora(tiny()[0], rank=4, alpha=8.0, targets="all-linear", seed=0)
    optimizer, _ = stepped(model, 1, offload=offload)
    held = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert held == sum(p.numel() for p in model.parameters() if p.requires_grad)
