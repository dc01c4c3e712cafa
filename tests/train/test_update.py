"""One update against a naive implementation of the default loss, and its independence of micro-batches."""

import copy
from dataclasses import replace

import pytest
import torch

from rlvr import build
from rlvr.recipe.presets import PRESETS
from rlvr.recipe.schema import Algorithm
from rlvr.train.batch import pack
from rlvr.train.update import UpdateSettings, update
from rlvr.types import Completion, Message, Problem, Request, Sampling, ScoredGroup, Verdict
from tests.algo.test_updates import greedy
from tests.tiny import engine_of, tiny

RATE = 0.5
"""Plain gradient descent: Adam would turn rounding into steps of full size."""
REWARDS = ((1.0, 0.0, 0.0, 1.0), (0.0, None, 1.0, 0.0), (0.5, 1.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.0))


def sampled(model, tokenizer, rewards=REWARDS):
    """Groups drawn by the engine, so that the rollout log-probabilities are real, with given rewards."""
    turn = (Message(role="user", content="?"),)
    requests = [
        Request(
            problem=Problem(id=str(g), messages=turn, answer=0),
            prompt_ids=tuple(6 + (g * 13 + t) % 40 for t in range(4 + 9 * g)),
            seeds=tuple(range(100 * g, 100 * g + len(row))),
        )
        for g, row in enumerate(rewards)
    ]
    engine = engine_of(model, tokenizer)
    drawn = dict(engine.generate(requests, Sampling(max_tokens=14, temperature=0.8, stop_ids=(5, 9, 22, 31))))
    return [
        ScoredGroup(
            group=drawn[g],
            verdicts=tuple(Verdict(score=r or 0.0, status="error" if r is None else "wrong") for r in row),
            rewards=row,
            greedy=greedy(drawn[g], 0.5),
        )
        for g, row in enumerate(rewards)
    ]


def batch_of(groups):
    return pack(
        groups,
        baseline="group_mean",
        scale="group_std",
        epsilon=1e-6,
        mask_truncated=False,
        device=torch.device("cpu"),
    )


def loss(preset="default", **changes):
    return build.loss(Algorithm.model_validate({"preset": preset, **changes}))


def after(model, groups, chosen, *, tokens=10**6, minibatches=1, max_norm=1e9, reference=None, packed=True):
    """Parameters and metrics after one update of a copy."""
    model = copy.deepcopy(model)
    settings = UpdateSettings(
        temperature=0.8,
        minibatches=minibatches,
        micro_batch_tokens=tokens,
        max_grad_norm=max_norm,
        packed=packed,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    metrics = update(model, reference, optimizer, batch_of(groups), chosen, settings, RATE)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach(), metrics


def naive(model, groups, max_norm=1e9):
    """The default method, sequence by sequence: clip-higher, token mean, capped correction."""
    model = copy.deepcopy(model)
    terms = []
    for group in groups:
        known = [r for r in group.rewards if r is not None]
        mean = sum(known) / len(known)
        deviation = (sum((r - mean) ** 2 for r in known) / (len(known) - 1)) ** 0.5
        for completion, reward in zip(group.group.completions, group.rewards, strict=True):
            if reward is None:
                continue
            advantage = (reward - mean) / (deviation + 1e-6)
            ids = torch.tensor([group.group.prompt_ids + completion.token_ids])
            logits = model(ids).logits[0, len(group.group.prompt_ids) - 1 : -1] / 0.8
            chosen = logits.log_softmax(-1)[torch.arange(len(logits)), torch.tensor(completion.token_ids)]
            ratio = (chosen - chosen.detach()).exp()
            surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
            correction = (chosen.detach() - torch.tensor(completion.logprobs)).exp().clamp_max(2.0)
            terms.append(-(correction * surrogate))
    torch.cat(terms).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    moved = [p - RATE * p.grad for p in model.parameters()]
    return torch.nn.utils.parameters_to_vector(moved).detach(), float(norm)


@pytest.fixture(scope="module")
def start():
    """A model, and groups that it drew."""
    model, tokenizer = tiny()
    return model, sampled(model, tokenizer)


def distance(a, b):
    return float((a - b).abs().max())


def vector(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("max_norm", [1e9, 0.05])
def test_the_step_is_that_of_the_naive_loss(start, max_norm):
    model, groups = start
    expected, norm = naive(model, groups, max_norm)
    found, metrics = after(model, groups, loss(), max_norm=max_norm)
    assert distance(expected, vector(model)) > 1e-3, "nothing moved: nothing is compared"
    assert distance(found, expected) < 1e-6
    assert metrics["optim/grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert metrics["loss/ratio_mean"] == 1.0
    assert metrics["batch/sequences"] == 15
    assert metrics["policy/mismatch_max_nats"] < 1e-5


def test_the_correction_weighs_what_the_engine_drew_otherwise(start):
    """With other rollout log-probabilities the weights matter, and the cap of 2 is reached."""
    model, groups = start
    bent = [
        replace(
            g,
            group=replace(g.group, completions=tuple(bend(c, i) for i, c in enumerate(g.group.completions))),
        )
        for g in groups
    ]
    expected, _ = naive(model, bent)
    found, metrics = after(model, bent, loss())
    assert distance(found, expected) < 1e-6
    assert distance(found, after(model, groups, loss())[0]) > 1e-3
    assert metrics["policy/mismatch_max_nats"] == pytest.approx(1.2, abs=1e-4)


def bend(completion, sibling):
    shift = (-1.2, 0.5, 0.0, -0.4)[sibling]
    return replace(completion, logprobs=tuple(x + shift for x in completion.logprobs))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tokens", [1, 60, 150])
def test_micro_batches_change_no_parameter(start, preset, tokens, packed):
    model, groups = start
    reference = tiny(seed=1)[0].requires_grad_(False)
    whole, _ = after(model, groups, loss(preset), reference=reference, packed=False)
    split, _ = after(model, groups, loss(preset), tokens=tokens, reference=reference, packed=packed)
    assert distance(whole, vector(model)) > 1e-5
    assert distance(whole, split) < 1e-6


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize(
    ("preset", "minibatches", "passes", "of_reference"),
    [
        ("default", 1, 1, 0),  # the old policy is the current one: nothing is computed beforehand
        ("default", 2, 3, 0),
        ("grpo", 1, 1, 1),  # k3 towards the reference
        ("rloo", 1, 2, 1),  # its KL is a reward, known before the update
    ],
)
def test_log_probabilities_are_computed_no_oftener_than_needed(
    start, preset, minibatches, passes, of_reference, packed
):
    model, groups = start
    own, reference = copy.deepcopy(model), tiny(seed=1)[0].requires_grad_(False)
    calls = []
    for name, one in (("policy", own), ("reference", reference)):
        one.model.register_forward_hook(lambda *_, name=name: calls.append(name))
    after(own, groups, loss(preset), minibatches=minibatches, reference=reference, packed=packed)
    assert calls.count("policy") == passes
    assert calls.count("reference") == of_reference


def test_two_minibatches_are_two_updates_and_are_clipped(start):
    model, groups = start
    narrow = loss(clip_low=1e-4, clip_high=1e-4)
    _, once = after(model, groups, narrow)
    twice, metrics = after(model, groups, narrow, minibatches=2)
    assert (once["loss/clip_low_share"], once["loss/clip_high_share"], once["loss/approx_kl_nats"]) == (
        0,
        0,
        0,
    )
    assert metrics["loss/clip_low_share"] > 0
    assert metrics["loss/clip_high_share"] > 0
    assert metrics["loss/approx_kl_nats"] > 0
    assert metrics["batch/tokens"] == once["batch/tokens"]
    one_by_one = copy.deepcopy(model)
    settings = UpdateSettings(temperature=0.8, minibatches=1, micro_batch_tokens=10**6, max_grad_norm=1e9)
    optimizer = torch.optim.SGD(one_by_one.parameters(), lr=0.0)
    update(one_by_one, None, optimizer, batch_of(groups[:2]), narrow, settings, RATE)
    first = vector(one_by_one)
    assert distance(first, twice) > 1e-4, "the second half did nothing"


def test_unknown_rewards_train_nothing(start):
    """What could not be checked might as well not have been sampled, whatever its tokens are."""
    model, groups = start
    other = [replace(g, group=replace(g.group, completions=tuple(swapped(g)))) for g in groups]
    assert other[1].group.completions[1] != groups[1].group.completions[1]
    assert distance(after(model, groups, loss())[0], after(model, other, loss())[0]) < 1e-7
    silent = [replace(g, rewards=(None,) * 4) for g in groups[1:]]
    assert distance(after(model, groups[:1], loss())[0], after(model, groups[:1] + silent, loss())[0]) < 1e-7


def swapped(group):
    """Completions whose unrewarded members say something else, at another length."""
    strange = Completion(token_ids=(7,) * 25, logprobs=(-9.0,) * 25, text="", finish="length")
    for completion, reward in zip(group.group.completions, group.rewards, strict=True):
        yield strange if reward is None else completion


def test_a_poisoned_batch_is_skipped_and_counted(start):
    model, groups = start
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    before = vector(broken)
    found, metrics = after(broken, groups, loss())
    assert metrics["optim/skipped"] == 1
    assert torch.equal(found.nan_to_num(0), before.nan_to_num(0))
