"""Values of states on a real model, against continuations that are asked for one by one."""

import math
import re
from dataclasses import replace
from functools import partial
from statistics import fmean

import pytest
import torch

from rlvr.algo.states import segment_ends
from rlvr.problems.sampler import completion_seed, continuation_seed
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.recipe.schema import Algorithm
from rlvr.train.batch import pack, teaches
from rlvr.train.credit import Path, StepCredit, ends_of, step_ends
from rlvr.types import Completion, Request, Verdict
from tests.train.test_batch import PACKING, scored
from tests.train.test_stream import stream_of, take

K, STEP, SEED = 3, 4, 5


def every_third(completion: Completion) -> list[int]:
    return segment_ends(completion.logprobs, tokens=3, log_probability=0.0)


def credit_of(stream, **changes):
    made = StepCredit(
        engine=stream.engine, scorer=stream.scorer, sampling=stream.sampling, decode=stream.renderer.decode,
        ends=every_third, continuations=K, tokens_share=1.0, mask_truncated=False, seed=SEED,
    )  # fmt: skip
    return replace(made, **changes)


def value(credit, groups):
    sampled = sum(len(c.token_ids) for g in groups for c in g.group.completions)
    return credit.value(groups, sampled, STEP, lambda name, done, total: None)


@pytest.fixture(scope="module")
def stream():
    with stream_of() as made:
        yield made


@pytest.fixture(scope="module")
def groups(stream):
    """With and without direction; one completion of the first that teaches could not be checked."""
    found = take(stream, 8, STEP, 0).groups
    place = next(i for i, g in enumerate(found) if sum(r or 0 for r in g.rewards) == 2)
    broken = found[place]
    found[place] = replace(
        broken,
        rewards=(None, *broken.rewards[1:]),
        verdicts=(Verdict(score=0.0, status="error"), *broken.verdicts[1:]),
    )
    assert {teaches(g) for g in found} == {True, False}
    return found


def test_a_value_is_the_mean_reward_of_continuations_and_of_siblings_that_went_through(stream, groups):
    valued, metrics = value(credit_of(stream), groups)
    asked, tokens, prefixes = 0, 0, {}
    for place, (scored_group, plain) in enumerate(zip(valued, groups, strict=True)):
        assert (scored_group.group, scored_group.rewards) == (plain.group, plain.rewards)
        if not teaches(plain):
            assert scored_group.states == ()
            continue
        for sibling, completion in enumerate(plain.group.completions):
            cuts = [cut for cut, _ in scored_group.states[sibling]]
            assert cuts == ([] if plain.rewards[sibling] is None else every_third(completion))
            for cut, got in scored_group.states[sibling]:
                ids = completion.token_ids[:cut]
                if (place, ids) in prefixes:  # a sibling began in the same way: one state
                    assert got == prefixes[place, ids]
                    continue
                rewards = []
                for number in range(K):
                    seed = continuation_seed(SEED, STEP, place, sibling, cut, number)
                    request = Request(
                        problem=plain.group.problem, prompt_ids=(*plain.group.prompt_ids, *ids), seeds=(seed,)
                    )
                    short = replace(stream.sampling, max_tokens=stream.sampling.max_tokens - cut)
                    ((_, answer),) = stream.engine.generate([request], short)
                    rest = answer.completions[0].token_ids
                    text = stream.renderer.decode((*ids, *rest))
                    rewards.append(float(sum(text.encode()) % 2 == 0))  # what `coin` says
                    asked, tokens = asked + 1, tokens + len(rest)
                through = [
                    reward
                    for other, reward in zip(plain.group.completions, plain.rewards, strict=True)
                    if reward is not None and other.token_ids[:cut] == ids and len(other.token_ids) > cut
                ]
                assert got == pytest.approx(fmean(rewards + through))
                prefixes[place, ids] = got
    assert asked == metrics["credit/continuations"] == K * metrics["credit/states"] > 20
    assert metrics["credit/tokens"] == tokens
    sampled = sum(len(c.token_ids) for g in groups for c in g.group.completions)
    assert metrics["credit/tokens_share"] == pytest.approx(tokens / (tokens + sampled))
    assert metrics["credit/groups"] == sum(map(teaches, groups))
    assert len({v for g in valued for row in g.states for _, v in row}) > 2


def test_values_depend_on_nothing_but_seed_step_and_groups(stream, groups):
    first, metrics = value(credit_of(stream), groups)
    again, others = value(credit_of(stream), groups)
    assert first == again
    assert metrics == others
    assert value(credit_of(stream, seed=6), groups)[0] != first


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7, 0.9])
def test_the_share_is_kept(stream, groups, share):
    full, whole = value(credit_of(stream), groups)
    some, metrics = value(credit_of(stream, tokens_share=share), groups)
    assert metrics["credit/tokens_share"] <= share
    assert (metrics["credit/states"] > 0) == (share > 0.1)
    assert (metrics["credit/states"] == whole["credit/states"]) == (share == 0.9)
    for part, everything in zip(some, full, strict=True):
        for row, cuts in zip(part.states, everything.states, strict=False):
            assert {cut for cut, _ in row} <= {cut for cut, _ in cuts}


def path_of(tokens, *cuts, place=0, start=0.5):
    completion = Completion(token_ids=tokens, logprobs=(0.0,) * len(tokens), text="", finish="stop")
    return Path.along(
        completion, cuts, place=place, sibling=0, reward=0.0, start=start, middle=0.5, longest=len(tokens)
    )


def test_prefixes_name_group_and_tokens():
    path = path_of(tuple(range(9)), 2, 4, 6, 8)
    two, four, six, eight = path.prefixes.values()
    assert path.every(1) == [(2, two), (4, four), (6, six), (8, eight)]
    assert path.every(2) == [(4, four), (8, eight)]
    assert path.every(4) == [(8, eight)]
    assert path.states({six: None, two: 0.25}) == ((2, 0.25),)
    assert path_of((0, 1, 2, 3, 9), 4).prefixes == {4: four}, "siblings on one prefix share its value"
    assert path_of(tuple(range(9)), 4, place=1).prefixes[4] != four
    assert path_of((0, 1, 2, 4, 9), 4).prefixes[4] != four


def test_siblings_are_cut_alike_and_the_most_undecided_groups_first(stream):
    """A hand-made step: two completions of eight tokens a group, a state every two tokens."""
    decided, open_ = (
        [path_of((place, sibling, *range(6)), 2, 4, 6, place=place, start=start) for sibling in (8, 9)]
        for place, start in ((0, 0.9), (1, 0.4))
    )
    credit = credit_of(stream, continuations=1)
    every_second = {(4, path.place, path.token_ids) for path in open_}  # 2 x 4 tokens to the end
    for budget, expected in (
        (7, set()),
        (8, every_second),
        (15, every_second),
        (16, every_second | {(4, path.place, path.token_ids) for path in decided}),
        (16 + 15, every_second | {(4, path.place, path.token_ids) for path in decided}),
        (
            16 + 16,
            {(4, p.place, p.token_ids) for p in (*open_, *decided)}
            | {(c, p.place, p.token_ids) for p in open_ for c in (2, 6)},
        ),
    ):
        asked = credit._affordable([*decided, *open_], {}, budget)
        assert {(cut, path.place, path.token_ids) for path, cut in asked.values()} == expected
    known = dict.fromkeys(asked, 0.5)
    rest = credit._affordable([*decided, *open_], known, 16)
    assert {(cut, path.place) for path, cut in rest.values()} == {(2, 0), (6, 0)}
    assert credit._affordable([*decided, *open_], known | dict.fromkeys(rest, None), 1e9) == {}


def test_what_is_valued_is_no_matter_of_the_outcome(stream, groups):
    """Else advantages are wrong on average: rewards turned around must leave the same states valued."""
    turned = [replace(g, rewards=tuple(None if r is None else 1 - r for r in g.rewards)) for g in groups]
    for share in (0.5, 0.7):
        first, other = (value(credit_of(stream, tokens_share=share), each)[0] for each in (groups, turned))
        cuts = [[[[cut for cut, _ in row] for row in g.states] for g in each] for each in (first, other)]
        assert cuts[0] == cuts[1]


def test_stored_completions_have_no_states_and_the_record_has_those_of_its_own(stream, groups):
    """A group that is kept may end in completions of an earlier step."""
    place = next(i for i, g in enumerate(groups) if all(r is not None for r in g.rewards) and teaches(g))
    fresh, other = groups[place], groups[place - 1]
    joined = replace(
        fresh,
        group=replace(
            fresh.group,
            completions=(*fresh.group.completions, replace(fresh.group.completions[0], version=(0, 0))),
        ),
        verdicts=(*fresh.verdicts, fresh.verdicts[0]),
        rewards=(*fresh.rewards, fresh.rewards[0]),
        replayed=1,
    )
    everything, kept, metrics = credit_of(stream).of_step(
        [other, fresh], [joined], STEP, lambda name, done, total: None
    )
    assert kept[0].states[-1] == ()
    assert all(kept[0].states[:-1])
    assert [g.states for g in everything] == [(), kept[0].states[:-1]]
    assert [g.group for g in everything] == [other.group, fresh.group]
    assert metrics["credit/groups"] == 1


def test_completions_cut_at_the_limit_cost_nothing_where_they_train_nothing(stream, groups):
    valued, _ = value(credit_of(stream, mask_truncated=True), groups)
    rows = [
        (c.finish, states)
        for g in valued if g.states
        for c, states in zip(g.group.completions, g.states, strict=True)
    ]  # fmt: skip
    assert {finish for finish, states in rows if states} == {"stop"}
    assert {finish for finish, _ in rows} == {"stop", "length"}


def test_continuations_that_cannot_be_checked_make_no_value(groups):
    with stream_of("raises") as broken:
        valued, metrics = value(credit_of(broken), groups)
    assert all(g.states == () for g in valued)
    assert metrics["credit/error"] == metrics["credit/continuations"] > 0
    assert metrics["credit/states"] == 0


def test_a_step_of_the_stream_carries_states_and_counts_completions_alone(stream):
    plain = take(stream, 6, STEP, 0)
    with_credit = take(replace(stream, credit=credit_of(stream)), 6, STEP, 0)
    assert [g.group for g in with_credit.groups] == [g.group for g in plain.groups]
    assert [g.rewards for g in with_credit.kept] == [g.rewards for g in plain.kept]
    assert all(any(g.states) for g in with_credit.kept if any(every_third(c) for c in g.group.completions))
    assert with_credit.cursor == plain.cursor
    assert with_credit.metrics["credit/tokens"] > 0
    assert with_credit.metrics["batch/groups"] == plain.metrics["batch/groups"]


@pytest.mark.parametrize(("baseline", "start"), [("group_mean", 1 / 3), ("leave_one_out", 0.0)])
@pytest.mark.parametrize("scale", ["none", "group_std", "batch_std", "group_mean"])
def test_advantages_are_value_changes_over_the_same_divisor(baseline, start, scale):
    rows = [(5, 1.0, "stop"), (2, 0.0, "stop"), (3, 0.0, "stop"), (4, None, "stop")]
    states = (((1, 0.25), (4, 0.75)), (), (), ())
    plain = scored(0, 3, rows)
    how = PACKING | {"baseline": baseline, "scale": scale}
    whole = pack([plain], **how).advantages_BC
    assert torch.equal(pack([plain], **how, push_below=1.0).advantages_BC, whole)
    parts = pack([replace(plain, states=states)], **how, push_below=1.0).advantages_BC
    deviation = math.sqrt((4 / 9 + 1 / 9 + 1 / 9) / 2)
    divisor = {"none": 1, "group_std": deviation + 1e-6, "batch_std": deviation + 1e-6, "group_mean": 1 / 3}
    changes = [0.25 - start, *[0.5] * 3, 0.25]
    assert parts[0].tolist() == pytest.approx([change / divisor[scale] for change in changes])
    assert torch.equal(parts[1:], whole[1:])
    assert float(parts[0, 0] + parts[0, 1] + parts[0, 4]) == pytest.approx(float(whole[0, 0]))


def test_only_uncertain_tokens_are_pushed_where_the_method_says_so():
    group = scored(0, 3, [(6, 1.0, "stop"), (6, 0.0, "stop")])
    whole = pack([group], **PACKING).advantages_BC
    pushed = pack([group], **PACKING, push_below=0.7).advantages_BC
    for i, completion in enumerate(group.group.completions):
        below = [math.exp(p) <= 0.7 for p in completion.logprobs]
        assert pushed[i].tolist() == [a if b else 0.0 for a, b in zip(whole[i].tolist(), below, strict=True)]
    assert 0 < int((pushed != 0).sum()) < whole.numel()


STEPS = re.compile(r"[.!?]\s+|\n+|。")


def cut_text(tokenizer, text, rule=STEPS, *extra):
    decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ids = (*tokenizer.encode(text, add_special_tokens=False), *extra)
    completion = Completion(token_ids=ids, logprobs=(0.0,) * len(ids), text=decode(ids), finish="stop")
    found = step_ends(rule, decode)(completion)
    assert all(0 < cut < len(ids) for cut in found)
    return [decode(ids[:cut]) for cut in found], decode(ids)


def test_steps_end_with_the_token_that_completes_a_match():
    story = make_tokenizer("story")
    before, _ = cut_text(
        story, "<think>Ana:6. Bo:4</think><answer>4", re.compile(r"\. |</think>"), story.eos_token_id
    )
    assert before == ["<think>Ana:6. ", "<think>Ana:6. Bo:4</think>"]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("One. Two! 3.5 is\n\nno end", ["One. ", "One. Two! ", "One. Two! 3.5 is\n\n"]),
        ("ends with a step.\n", []),
        ("nothing", []),
        ("", []),
        ("naïve é.\nthen ü. ok", ["naïve é.\n", "naïve é.\nthen ü. "]),
    ],
)
def test_steps_of_any_text(text, ends):
    """One token a byte: where characters are several tokens, a cut may fall within none of them."""
    tokenizer = make_tokenizer("bytes")
    assert cut_text(tokenizer, text, STEPS, tokenizer.eos_token_id)[0] == ends


def test_a_mark_of_several_tokens_ends_a_step_once():
    before, _ = cut_text(make_tokenizer("bytes"), "一。二。三")
    assert len(before) == 2
    assert before[0].startswith("一")
    assert before[1].startswith("一。二")


def test_the_recipe_says_where_steps_end():
    decode = make_tokenizer("bytes").decode
    ids = tuple(make_tokenizer("bytes").encode("a. b\nc", add_special_tokens=False))
    completion = Completion(
        token_ids=ids, logprobs=(-0.01, -2, -0.01, -2, -2, -0.01), text="a. b\nc", finish="stop"
    )

    def ends(**keys):
        return ends_of(Algorithm.model_validate(keys), decode)(completion)

    assert ends(credit="step_mc", credit_steps="line") == [5]
    assert ends(credit="step_mc", credit_steps="sentence") == [3, 5]
    assert ends(credit="step_mc", credit_steps="b") == [4]
    assert ends(credit="segment_mc", segment_tokens=2, segment_probability=1) == [2, 4]
    assert ends(credit="segment_mc", segment_tokens=1, segment_probability=0.9) == [3, 4]


def test_seeds_of_continuations_are_not_those_of_completions():
    assert continuation_seed(0, 0, 0, 0, 0, 0) != completion_seed(0, 0, 0, 0)
