"""Packing and splitting: nothing is lost, doubled or moved to another row."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.policy.flops import Shape
from rlvr.train.batch import deal, micro_batches, minibatches, pack, take, teaches
from rlvr.types import Channel, Completion, Group, Message, Problem, ScoredGroup, Verdict
from tests.tiny import tiny

PACKING = {
    "baseline": "group_mean",
    "scale": "group_std",
    "epsilon": 1e-6,
    "mask_truncated": False,
    "device": torch.device("cpu"),
}


def scored(name, prompt, rows):
    """A group of (completion length, reward, finish)."""
    turn = (Message(role="user", content="?"),)
    return ScoredGroup(
        group=Group(
            problem=Problem(id=str(name), messages=turn, answer=0),
            prompt_ids=tuple(range(6, 6 + prompt)),
            completions=tuple(
                Completion(
                    token_ids=tuple(20 + (name + i + t) % 20 for t in range(length)),
                    logprobs=tuple(-0.1 * (t + 1) - i for t in range(length)),
                    text="",
                    finish=finish,
                )
                for i, (length, _, finish) in enumerate(rows)
            ),
        ),
        verdicts=tuple(
            Verdict(score=r or 0.0, status="error" if r is None else "right" if r else "wrong")
            for _, r, _ in rows
        ),
        rewards=tuple(r for _, r, _ in rows),
    )


ROWS = st.tuples(
    st.integers(1, 30), st.sampled_from([0.0, 0.25, 1.0, None]), st.sampled_from(["stop", "length"])
)
GROUPS = st.lists(
    st.tuples(st.integers(1, 20), st.lists(ROWS, min_size=2, max_size=5)), min_size=1, max_size=6
)


def made(groups):
    return [scored(name, prompt, rows) for name, (prompt, rows) in enumerate(groups)]


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.booleans())
def test_pack_keeps_every_completion_in_its_place(groups, mask_truncated):
    batch = pack(made(groups), **PACKING | {"mask_truncated": mask_truncated})
    rows = [(g, c, r) for g in made(groups) for c, r in zip(g.group.completions, g.rewards, strict=True)]
    assert len(batch.ids_BT) == len(rows)
    for b, (group, completion, reward) in enumerate(rows):
        prompt, length = int(batch.prompt_lengths_B[b]), int(batch.lengths_B[b])
        assert tuple(batch.ids_BT[b, :length].tolist()) == group.group.prompt_ids + completion.token_ids
        assert prompt == len(group.group.prompt_ids)
        assert int(batch.group_B[b]) == int(group.group.problem.id)
        columns = length - prompt
        assert batch.rollout_logprobs_BC[b, :columns].tolist() == pytest.approx(completion.logprobs)
        counts = reward is not None and not (mask_truncated and completion.finish == "length")
        assert batch.mask_BC[b, :columns].tolist() == [counts] * columns
        assert not batch.mask_BC[b, columns:].any()
        assert len(set(batch.advantages_BC[b][batch.mask_BC[b]].tolist())) <= 1
        assert (batch.advantages_BC[b][~batch.mask_BC[b]] == 0).all()
    assert batch.mask_BC.shape[1] == max(len(c.token_ids) for _, c, _ in rows)
    assert not batch.advantages_BC.isnan().any()


def test_advantages_are_the_hand_made_ones():
    (group,) = made([(3, [(2, 1.0, "stop"), (1, 0.0, "stop"), (3, 0.0, "stop"), (2, None, "stop")])])
    advantages = pack([group], **PACKING).advantages_BC
    deviation = ((4 / 9 + 1 / 9 + 1 / 9) / 2) ** 0.5 + 1e-6  # of the three known rewards, n - 1
    expected = [[2 / 3] * 2, [-1 / 3], [-1 / 3] * 3, [0.0, 0.0]]
    for row, values in zip(advantages, expected, strict=True):
        assert row[: len(values)].tolist() == pytest.approx([v / deviation for v in values])
        assert (row[len(values) :] == 0).all()


def test_truncated_siblings_are_compared_but_not_learned_from():
    """Overlong filtering: the mean is of all four rewards, tokens of the two truncated ones count nowhere."""
    (group,) = made([(3, [(2, 1.0, "stop"), (1, 0.0, "stop"), (3, 0.0, "length"), (3, 1.0, "length")])])
    batch = pack([group], **PACKING | {"mask_truncated": True})
    assert batch.mask_BC.sum(-1).tolist() == [2, 1, 0, 0]
    deviation = (4 * 0.25 / 3) ** 0.5 + 1e-6
    assert batch.advantages_BC[:, 0].tolist() == pytest.approx([0.5 / deviation, -0.5 / deviation, 0.0, 0.0])
    kept = pack([group], **PACKING)
    assert kept.mask_BC.sum(-1).tolist() == [2, 1, 3, 3]
    assert torch.equal(kept.advantages_BC[:2], batch.advantages_BC[:2])


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.integers(1, 7))
def test_minibatches_share_out_whole_groups_evenly(groups, count):
    batch = pack(made(groups), **PACKING)
    parts = minibatches(batch, count)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(batch.lengths_B)))
    held = [set(batch.group_B[part].tolist()) for part in parts]
    assert len(parts) == min(count, len(groups))
    assert sum(map(len, held)) == len(groups), "a group is split"
    assert max(map(len, held)) - min(map(len, held)) <= 1


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.integers(1, 200))
def test_micro_batches_hold_each_row_that_counts_once_within_the_budget(groups, budget):
    batch = pack(made(groups), **PACKING)
    rows = torch.arange(len(batch.lengths_B))
    parts = list(micro_batches(batch, rows, budget))
    counting = rows[batch.mask_BC.any(-1)].tolist()
    assert sorted(row for part in parts for row in part.tolist()) == counting
    for part in parts:
        padded = len(part) * int(batch.lengths_B[part].max())
        assert padded <= budget or len(part) == 1


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.integers(1, 200))
def test_packed_micro_batches_hold_whole_groups_where_the_budget_allows(groups, budget):
    batch = pack(made(groups), **PACKING)
    rows = torch.arange(len(batch.lengths_B))
    parts = [part.tolist() for part in micro_batches(batch, rows, budget, packed=True)]
    assert sorted(row for part in parts for row in part) == rows[batch.mask_BC.any(-1)].tolist()
    for part in parts:
        assert unique_tokens(batch, part) <= budget or len(part) == 1
    for group in range(len(groups)):
        mine = [row for part in parts for row in part if int(batch.group_B[row]) == group]
        pieces = sum(any(int(batch.group_B[row]) == group for row in part) for part in parts)
        assert pieces <= 1 or unique_tokens(batch, mine) > budget


def unique_tokens(batch, rows):
    """Tokens that a packed forward pass of the rows computes."""
    prompts = {int(batch.group_B[row]): int(batch.prompt_lengths_B[row]) for row in rows}
    return sum(prompts.values()) + sum(
        int(batch.lengths_B[row] - batch.prompt_lengths_B[row]) - 1 for row in rows
    )


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.data())
def test_take_is_the_rows_cut_to_the_longest(groups, data):
    batch = pack(made(groups), **PACKING)
    everything = range(len(batch.lengths_B))
    rows = torch.tensor(data.draw(st.lists(st.sampled_from(everything), min_size=1, unique=True)))
    micro = take(batch, rows)
    assert micro.ids_BT.shape == (len(rows), int(batch.lengths_B[rows].max()))
    columns = int((batch.lengths_B - batch.prompt_lengths_B)[rows].max())
    for name in ("mask_BC", "rollout_logprobs_BC", "advantages_BC"):
        assert torch.equal(getattr(micro, name), getattr(batch, name)[rows, :columns])
    for b, row in enumerate(rows):
        length = int(batch.lengths_B[row])
        assert torch.equal(micro.ids_BT[b, :length], batch.ids_BT[row, :length])
        assert not batch.mask_BC[row, columns:].any()


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ((1.0, 0.0), True),
        ((1.0, 1.0), False),
        ((None, 1.0), False),
        ((None, 1.0, 0.5), True),
        ((None, None), False),
    ],
)
def test_a_group_teaches_when_known_rewards_differ(rewards, expected):
    (group,) = made([(2, [(1, reward, "stop") for reward in rewards])])
    assert teaches(group) is expected


@pytest.mark.parametrize(
    ("rows", "kept", "masked"),
    [
        ([(1.0, "stop"), (0.0, "length")], True, True),
        ([(1.0, "length"), (0.0, "length")], True, False),
        ([(1.0, "length"), (0.0, "length"), (None, "stop")], True, False),
    ],
)
def test_a_group_without_a_token_in_the_loss_teaches_nothing(rows, kept, masked):
    (group,) = made([(2, [(1, reward, finish) for reward, finish in rows])])
    assert (teaches(group), teaches(group, mask_truncated=True)) == (kept, masked)


def test_a_penalty_for_length_makes_no_lesson():
    """All wrong, two of them too long: the rewards differ, the scores do not."""
    (group,) = made([(2, [(1, 0.0, "stop"), (1, 0.0, "stop"), (1, 0.0, "stop")])])
    assert not teaches(replace(group, rewards=(0.0, -0.5, -1.0)))


def test_a_stored_completion_is_marked_and_compared_with_its_siblings():
    plain, stored = made(
        [(3, [(2, 1.0, "stop"), (1, 0.0, "stop")]), (2, [(1, 0.0, "stop")] * 3 + [(4, 1.0, "stop")])]
    )
    batch = pack([plain, replace(stored, replayed=1)], **PACKING)
    assert batch.replayed_B.tolist() == [False, False, False, False, False, True]
    deviation = (0.75**2 + 3 * 0.25**2) ** 0.5 / 3**0.5 + 1e-6  # n - 1 of four rewards
    assert batch.advantages_BC[2:, 0].tolist() == pytest.approx([-0.25 / deviation] * 3 + [0.75 / deviation])
    assert take(batch, torch.tensor([5, 0])).replayed_B.tolist() == [True, False]


def test_a_group_teaches_by_one_of_its_channels():
    """The sum is the same for all: composed rewards would teach nothing."""
    (group,) = made([(2, [(1, 0.5, "stop"), (1, 0.5, "stop")])])
    channels = tuple(
        Channel(name=name, weight=1.0, rewards=rewards)
        for name, rewards in (("answer", (1.0, 0.0)), ("format", (0.0, 1.0)))
    )
    assert not teaches(group)
    assert teaches(replace(group, channels=channels))
    same = tuple(replace(channel, rewards=(1.0, 1.0)) for channel in channels)
    assert not teaches(replace(group, channels=same))


def test_channels_are_matched_by_name_and_a_missing_one_weighs_nothing():
    """Two groups with other verifiers: each is normalised by its own."""
    first, second = made(
        [(2, [(1, 1.0, "stop"), (1, 0.0, "stop"), (1, None, "stop")]), (2, [(1, 1.0, "stop")] * 2)]
    )
    math = Channel(name="math", weight=1.0, rewards=(1.0, 0.0, None))
    short = Channel(name="short", weight=2.0, rewards=(0.0, 1.0, None))
    code = Channel(name="code", weight=1.0, rewards=(0.0, 1.0))
    groups = [replace(first, channels=(math, short)), replace(second, channels=(code,))]
    advantages = pack(groups, **PACKING | {"baseline": "gdpo", "scale": "none"}).advantages_BC[:, 0]
    # z in the group is +-1 / sqrt(2): -1 + 2 = 1 and -1 of it, and the batch's deviation divides all.
    half = 0.5**0.5
    summed = torch.tensor([-half, half, -half, half])
    expected = summed / summed.std()
    assert advantages.tolist() == pytest.approx(
        [*expected.tolist()[:2], 0.0, *expected.tolist()[2:]], abs=1e-4
    )


def test_gdpo_without_channels_takes_the_reward_for_the_only_one():
    groups = made([(2, [(1, 1.0, "stop"), (1, 0.0, "stop"), (2, 0.0, "stop")])])
    advantages = pack(groups, **PACKING | {"baseline": "gdpo", "scale": "none"}).advantages_BC[:, 0]
    expected = torch.tensor([2.0, -1.0, -1.0]) / 3
    assert advantages.tolist() == pytest.approx((expected / expected.std()).tolist(), abs=1e-4)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_groups_are_dealt_once_each_and_by_their_work(ranks):
    model, _ = tiny()
    shape = Shape.of(model)
    groups = made([(5, [(length, 1.0, "stop"), (1, 0.0, "stop")]) for length in (40, 3, 90, 7, 20, 21, 60)])
    costs = [shape.update(5, [len(c.token_ids) for c in g.group.completions]) for g in groups]
    dealt = [deal(groups, 2, rank=rank, ranks=ranks, shape=shape) for rank in range(ranks)]
    places = sorted(
        (groups.index(g), number) for own, numbers in dealt for g, number in zip(own, numbers, strict=True)
    )
    assert places == [(index, int(index > 3)) for index in range(7)], "as one rank has them"
    for update in (0, 1):
        loads = [
            sum(costs[groups.index(g)] for g, number in zip(own, numbers, strict=True) if number == update)
            for own, numbers in dealt
        ]
        assert max(loads) - min(loads) <= max(costs[:4] if update == 0 else costs[4:])
