"""Every method through a model's update: statistics of the whole step, whatever its micro-batches are."""

from dataclasses import replace

import pytest
import torch

from rlvr.algo.entropy import adapted
from rlvr.algo.ranks import ALONE
from rlvr.policy.parallel import gather, shard
from rlvr.recipe.presets import PRESETS
from rlvr.train import update as updates
from rlvr.train.batch import pack
from rlvr.types import Channel, Completion, Group, Message, Problem, ScoredGroup, Verdict
from tests.algo.steps import loss_of
from tests.tiny import tiny

REWARDS = ((1.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0), (0.5, 1.0, None, 0.0), (0.0, 0.0, 1.0, 0.0))
TEMPERATURE = 0.8


def scored(all_rewards=REWARDS) -> list[ScoredGroup]:
    """Groups of four, with rollout log-probabilities a little off any policy's."""
    draw = torch.Generator().manual_seed(0)
    turn = (Message(role="user", content="?"),)
    groups = []
    for g, rewards in enumerate(all_rewards):
        completions = []
        for _ in rewards:
            length = int(torch.randint(1, 12, (), generator=draw))
            ids = torch.randint(6, 40, (length,), generator=draw).tolist()
            logprobs = (-3.5 + 0.4 * torch.randn(length, generator=draw)).tolist()
            completions.append(
                Completion(token_ids=tuple(ids), logprobs=tuple(logprobs), text="", finish="stop")
            )
        group = Group(
            problem=Problem(id=str(g), messages=turn, answer=0),
            prompt_ids=tuple(range(6, 9 + 2 * g)),
            completions=tuple(completions),
        )
        verdicts = tuple(Verdict(score=r or 0.0, status="error" if r is None else "wrong") for r in rewards)
        second = tuple(None if r is None else float(g + i == 2) for i, r in enumerate(rewards))
        channels = (
            Channel(name="answer", weight=1.0, rewards=rewards),
            Channel(name="format", weight=0.5, rewards=second),
        )
        groups.append(
            ScoredGroup(
                group=group,
                verdicts=verdicts,
                rewards=rewards,
                greedy=greedy(group, float(g % 2)),
                channels=channels,
            )
        )
    return groups


def greedy(group: Group, reward: float | None) -> ScoredGroup:
    """A greedy completion beside a group, of that reward."""
    status = "error" if reward is None else "wrong"
    alone = replace(group, completions=group.completions[:1])
    return ScoredGroup(group=alone, verdicts=(Verdict(score=0.0, status=status),), rewards=(reward,))


def trained(
    preset: str,
    tokens: int,
    minibatches: int,
    rewards=REWARDS,
    *,
    groups=None,
    own=None,
    ranks=ALONE,
    packed=True,
    world=None,
    **changes: object,
):
    """Parameters and metrics after one update, `own` of the groups on this rank; always the same start."""
    model, whole = tiny()[0], tiny()[0]
    if world is not None:
        shard(model, world)
    loss = loss_of(preset, **changes)
    batch = pack(
        [g for i, g in enumerate(groups or scored(rewards)) if own is None or i in own],
        baseline=loss.baseline, scale=loss.scale, epsilon=loss.advantage_epsilon,
        mask_truncated=False, device=torch.device("cpu"), ranks=ranks,
    )  # fmt: skip
    settings = updates.UpdateSettings(
        temperature=TEMPERATURE,
        minibatches=minibatches,
        micro_batch_tokens=tokens,
        max_grad_norm=1e9,
        packed=packed,
    )
    reference = tiny(seed=1)[0].requires_grad_(False)
    if world is not None:
        shard(reference, world)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    metrics = updates.update(model, reference, optimizer, batch, loss, settings, 0.05, ranks)
    if world is not None:
        gather(model, whole)
        model = whole
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach(), metrics


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("preset", PRESETS)
def test_two_updates_are_the_same_in_any_micro_batches(preset, packed):
    start = torch.nn.utils.parameters_to_vector(tiny()[0].parameters()).detach()
    band = {"correction_low": 0.5, "correction_high": 2.0}  # narrower ones reject all that was made up here
    small = {"baseline": "pass_at_2"} if preset == "passk" else {}  # groups of four
    whole, metrics = trained(preset, 10**6, 2, packed=False, **band, **small)
    split, split_metrics = trained(preset, 40, 2, packed=packed, **band, **small)
    assert metrics["optim/skipped"] == 0
    assert float((whole - start).abs().max()) > 1e-6
    torch.testing.assert_close(split, whole, atol=2e-6, rtol=0)
    for name in metrics.keys() - {"time/logprobs_s", "time/update_s"}:
        assert split_metrics[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-6), name


UNIFORM = ((1.0,) * 4,) * 4
"""Rewards that teach nothing: what moves is moved by a regulariser."""


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean"])
@pytest.mark.parametrize("micro_batch_tokens", [40, 10**6])
def test_the_bonus_is_the_gradient_of_the_mean_entropy(micro_batch_tokens, aggregation):
    """Against all logits of one sequence after the other, and autograd."""
    changes = {"entropy": "bonus", "entropy_coef": 0.3, "aggregation": aggregation}
    found, metrics = trained("dapo", micro_batch_tokens, 1, UNIFORM, **changes)
    model, _ = tiny()
    means, tokens = [], 0
    for scored_group in scored(UNIFORM):
        prompt = scored_group.group.prompt_ids
        for completion in scored_group.group.completions:
            ids = torch.tensor([prompt + completion.token_ids])
            logprobs = (model(ids).logits[0, len(prompt) - 1 : -1] / TEMPERATURE).log_softmax(-1)
            entropy = -(logprobs.exp() * logprobs).sum(-1)
            means.append(entropy if aggregation == "token_mean" else entropy.mean()[None])
            tokens += len(entropy)
    objective = 0.3 * torch.cat(means).mean()
    objective.backward()
    expected = torch.nn.utils.parameters_to_vector([p + 0.05 * p.grad for p in model.parameters()])
    start = torch.nn.utils.parameters_to_vector(model.parameters())
    assert float((expected - start).detach().abs().max()) > 1e-4, "nothing moved: nothing is compared"
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=0)
    assert metrics["loss/surrogate"] == pytest.approx(-objective.item(), abs=1e-6)
    assert metrics["batch/tokens"] == tokens
    assert metrics["loss/entropy_coef"] == 0.3


@pytest.mark.parametrize("minibatches", [1, 2])
def test_the_bonus_acts_at_its_target_and_below_and_adapts(minibatches):
    plain, metrics = trained("dapo", 40, minibatches)
    assert "loss/entropy_coef" not in metrics
    entropy = trained("dapo", 40, 1)[1]["policy/entropy_nats"]
    rule = {"entropy": "bonus", "entropy_coef": 0.3, "entropy_step": 0.1}
    fixed, _ = trained("dapo", 40, minibatches, **rule)
    low, told_low = trained("dapo", 40, minibatches, **rule, entropy_target=entropy + 1e-3)
    high, told_high = trained("dapo", 40, minibatches, **rule, entropy_target=entropy - 1e-3)
    torch.testing.assert_close(low, fixed, atol=1e-7, rtol=0)
    torch.testing.assert_close(high, plain, atol=1e-7, rtol=0)
    assert float((low - high).abs().max()) > 1e-4
    assert told_low["loss/entropy_coef"] == pytest.approx(0.4)
    assert told_high["loss/entropy_coef"] == pytest.approx(0.2)


def test_the_weight_of_the_bonus_by_hand():
    assert adapted(0.0, 0.1, target=0.2, step=0.005) == (0.0, 0.005)
    assert adapted(0.005, 0.2, target=0.2, step=0.005) == (0.005, 0.01)
    assert adapted(0.01, 0.3, target=0.2, step=0.005) == (0.0, 0.005)
    assert adapted(0.002, 0.3, target=0.2, step=0.005) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["bonus", "top_entropy", "clip_cov", "kl_cov", "lp_reg"])
def test_an_entropy_rule_changes_the_step(kind):
    """Of two updates: the first leaves no drift for KL-Cov to hold back."""
    changes = {"entropy_share": 0.5, "cov_low": 0.0, "rollout_penalty": 0.0}
    plain, _ = trained("dapo", 10**6, 2)
    ruled, _ = trained("dapo", 10**6, 2, entropy=kind, **changes)
    assert float((plain - ruled).abs().max()) > 1e-5


def test_the_only_one_left_is_not_whitened():
    """Nobody to be compared with: no token of it counts, and it moves no mean."""
    first = scored()[0]
    alone = ScoredGroup(
        group=scored()[2].group, verdicts=scored()[2].verdicts, rewards=(None, 1.0, None, None)
    )
    rule = {"baseline": "group_mean", "scale": "token_whiten", "epsilon": 1e-8, "mask_truncated": False}
    batch = pack([first, alone], **rule, device=torch.device("cpu"))
    assert not batch.mask_BC[4:].any()
    assert batch.mask_BC[:4].any(-1).all()
    reinforce = pack([first, alone], **(rule | {"baseline": "none"}), device=torch.device("cpu"))
    assert reinforce.mask_BC[5].any()


def test_a_greedy_completion_that_was_not_checked_leaves_its_group_without_a_push():
    groups = scored()
    unknown = [replace(groups[0], greedy=greedy(groups[0].group, None)), *groups[1:]]
    without = [replace(groups[0], greedy=None), *groups[1:]]
    rule = {"baseline": "greedy", "scale": "none", "epsilon": 1e-6, "mask_truncated": False}
    for made in (unknown, without):
        batch = pack(made, **rule, device=torch.device("cpu"))
        assert not batch.advantages_BC[:4].any()
        known = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 0.0, 0.0]) - torch.tensor([1.0] * 4 + [0.0] * 4)
        assert batch.advantages_BC[4:12, 0].tolist() == known.tolist()


@pytest.mark.parametrize(
    "preset", ["kl_cov", "clip_cov", "forking20", "lp_reg", "m2po", "reinforce_pp", "rl_zvp"]
)
def test_an_update_of_which_nothing_counts_learns_nothing(preset):
    """The second of two minibatches holds only what could not be checked."""
    silent = (*REWARDS[:2], (None,) * 4, (None,) * 4)
    _, metrics = trained(preset, 40, 2, silent)
    assert metrics["optim/skipped"] == 0
    assert metrics["batch/sequences"] == 8


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("w_reinforce", {"positive_weight": 1.0}),
        ("reinforce_pp", {"kl_coef": 1.0}),
        ("reinforce_pp", {"scale": "none"}),
        ("rl_zvp", {"zvp_alpha": 3.0}),
        ("otb", {"baseline": "group_mean"}),
        ("remax", {"baseline": "none"}),
        ("dro", {"rollout_penalty": 0.0}),
    ],
)
def test_token_advantages_reach_the_step(preset, changes):
    usual, _ = trained(preset, 10**6, 1)
    other, _ = trained(preset, 10**6, 1, **changes)
    assert float((usual - other).abs().max()) > 1e-5


@pytest.mark.parametrize("tokens", [10**6, 40])
def test_the_order_of_siblings_and_groups_is_nothing_to_gdpo(tokens):
    usual, _ = trained("gdpo", 10**6, 1)
    mixed = [permuted(group, (2, 0, 3, 1)) for group in reversed(scored())]
    other, _ = trained("gdpo", tokens, 1, groups=mixed)
    torch.testing.assert_close(other, usual, atol=2e-6, rtol=0)


def test_the_second_channel_reaches_the_step():
    usual, _ = trained("gdpo", 10**6, 1)
    alone = [replace(group, channels=group.channels[:1]) for group in scored()]
    other, _ = trained("gdpo", 10**6, 1, groups=alone)
    assert float((usual - other).abs().max()) > 1e-5


def permuted(scored_group: ScoredGroup, order: tuple[int, ...]) -> ScoredGroup:
    """The group with its siblings in another order."""

    def turn(values):
        return tuple(values[i] for i in order)

    return replace(
        scored_group,
        group=replace(scored_group.group, completions=turn(scored_group.group.completions)),
        verdicts=turn(scored_group.verdicts),
        rewards=turn(scored_group.rewards),
        channels=tuple(replace(c, rewards=turn(c.rewards)) for c in scored_group.channels),
    )
