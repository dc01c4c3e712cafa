"""Stored successes: when one is kept, when it comes back, and that its tokens are weighed by pi / mu."""

import copy
import io
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.train.replay import CAPACITY, Replay, from_state, metrics, to_state
from rlvr.types import Completion, Group, Problem, ScoredGroup, Verdict
from tests.tiny import tiny
from tests.train.test_update import after, distance, loss, naive, sampled

SCORES = {"r": ("right", 1.0), "w": ("wrong", 0.0), "n": ("no_answer", 0.0), "e": ("error", None)}
REPLAY = Replay(share=0.5, max_age=5)


def group(name, outcome, *, version=0, truncated=()):
    """A group of problem `name`; one letter of `outcome` a completion, the later the likelier."""
    completions = tuple(
        Completion(
            token_ids=(i + 1, 2),
            logprobs=(-1.0 / (i + 1), -0.1),
            text=f"{name}{version}{i}",
            finish="length" if i in truncated else "stop",
            version=(version, version),
        )
        for i in range(len(outcome))
    )
    known = [SCORES[letter] for letter in outcome]
    return ScoredGroup(
        group=Group(
            problem=Problem(id=name, messages=(), answer=0), prompt_ids=(1,), completions=completions
        ),
        verdicts=tuple(Verdict(score=score or 0.0, status=status) for status, score in known),
        rewards=tuple(score for _, score in known),
    )


def texts(stored):
    return {name: success.completion.text for name, success in stored.items()}


@pytest.mark.parametrize(
    ("outcome", "truncated", "kept"),
    [
        ("wwrw", (), "a02"),
        ("wwww", (), None),
        ("rwwwwwrw", (), "a06"),  # two of eight are a quarter; the likelier
        ("rwwrwwrw", (), None),  # three are not rare
        ("wr", (), "a01"),  # the only one
        ("rr", (), None),
        ("reee", (), "a00"),
        ("wwrw", (2,), None),
        ("rwwwwwrw", (6,), "a00"),
    ],
)
def test_what_is_kept(outcome, truncated, kept):
    stored = REPLAY.after({}, [group("a", outcome, truncated=truncated)], 0)
    assert texts(stored) == ({"a": kept} if kept else {})


def test_the_newest_replaces_and_plenty_forgets():
    stored = REPLAY.after({}, [group("a", "rwww"), group("b", "rwww")], 0)
    stored = REPLAY.after(stored, [group("a", "wrww", version=1), group("b", "wwww", version=1)], 1)
    assert texts(stored) == {"b": "b00", "a": "a11"}
    assert texts(REPLAY.after(stored, [group("b", "rrrw", version=2)], 2)) == {"a": "a11"}


def test_age_is_counted_from_the_weights_that_drew():
    stored = REPLAY.after({}, [group("a", "rwww", version=3)], 3)
    for step in range(4, 8):
        stored = REPLAY.after(stored, [], step)
    assert texts(stored) == {"a": "a30"}
    assert [g.replayed for g in REPLAY.join([group("a", "wwww")], stored, 8, 1)] == [1]
    assert [g.replayed for g in REPLAY.join([group("a", "wwww")], stored, 9, 1)] == [0]
    assert REPLAY.after(stored, [], 8) == {}


def test_only_groups_without_success_get_one_and_no_more_than_there_is_room():
    stored = REPLAY.after({}, [group(name, "wwrw") for name in "abcd"], 0)
    asked = [
        group("a", "wrww"),
        group("b", "wnew"),
        group("x", "wwww"),
        group("c", "wwww"),
        group("d", "wwww"),
    ]
    joined = REPLAY.join(asked, stored, 1, 2)
    assert [g.replayed for g in joined] == [0, 1, 0, 1, 0]
    assert [joined[i] for i in (0, 2, 4)] == [asked[i] for i in (0, 2, 4)]
    for was, now in ((asked[1], joined[1]), (asked[3], joined[3])):
        assert now.group.completions[:-1] == was.group.completions
        assert now.group.completions[-1] == stored[was.group.problem.id].completion
        assert now.rewards == (*was.rewards, 1.0)
        assert [v.status for v in now.verdicts] == [*(v.status for v in was.verdicts), "right"]
    assert REPLAY.join(asked, stored, 1, 0) == asked
    twice = REPLAY.join([group("a", "wwww"), group("a", "wwww", version=1)], stored, 1, 2)
    assert [g.replayed for g in twice] == [1, 0]
    assert metrics(joined, stored, 1) == {
        "batch/replayed_share": 2 / 5,
        "batch/replay_stored": 4.0,
        "batch/replay_age_mean": 1.0,
    }


def test_the_oldest_go_where_there_are_too_many():
    stored = REPLAY.after({}, [group(str(i), "rwww") for i in range(CAPACITY)], 0)
    stored = REPLAY.after(stored, [group("0", "rwww", version=1), group("new", "rwww", version=1)], 1)
    assert len(stored) == CAPACITY
    assert list(stored)[-2:] == ["0", "new"]
    assert "1" not in stored
    assert "2" in stored


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-30, 0, allow_nan=False), min_size=1, max_size=6), st.text(max_size=5))
def test_a_checkpoint_rounds_nothing(logprobs, text):
    made = group("a", "wwrw")
    said = replace(
        made.group.completions[2], logprobs=tuple(logprobs), text=text, token_ids=(7,) * len(logprobs)
    )
    made = replace(
        made,
        group=replace(made.group, completions=(*made.group.completions[:2], said, made.group.completions[3])),
    )
    stored = REPLAY.after({}, [made], 0)
    file = io.BytesIO()
    torch.save(to_state(stored), file)
    file.seek(0)
    assert from_state(torch.load(file, weights_only=True)) == stored


@pytest.fixture(scope="module")
def joined():
    """A model; groups that it drew, all wrong; the same with a success that an older model drew."""
    model, tokenizer = tiny()
    older = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in older.parameters():
            weight.add_(0.15 * torch.randn_like(weight) * weight.std(correction=0))
    fresh = sampled(model, tokenizer, ((0.0, 0.0, 0.0), (1.0, 0.0, None), (0.0, 0.0, 0.0)))
    drawn = sampled(older, tokenizer, ((0.0, 0.0, 0.0), (1.0, 0.0, None), (0.0, 1.0, 0.0)))
    right = Verdict(score=1.0, status="right")
    drawn[2] = replace(drawn[2], verdicts=(drawn[2].verdicts[0], right, drawn[2].verdicts[2]))
    stored = REPLAY.after({}, [drawn[2]], 0)
    return model, fresh, REPLAY.join(fresh, stored, 1, 1)


def test_the_step_is_that_of_the_naive_loss_over_all_siblings(joined):
    """Mean and deviation of four rewards, weights pi / mu with mu the older model, cut at 2."""
    model, fresh, mixed = joined
    assert [g.replayed for g in mixed] == [0, 0, 1]
    expected, _ = naive(model, mixed)
    found, said = after(model, mixed, loss())
    assert distance(found, expected) < 1e-6
    assert distance(found, after(model, fresh, loss())[0]) > 1e-3, "the success taught nothing"
    assert distance(found, after(model, mixed, loss(correction="none"))[0]) > 1e-4, "no weight matters"
    assert said["batch/sequences"] == 9


def test_weights_of_the_stored_are_told_apart(joined):
    """What the engine drew now agrees with the trainer: only the stored completion is off."""
    model, fresh, mixed = joined
    said = after(model, mixed, loss())[1]
    prompt, success = mixed[2].group.prompt_ids, mixed[2].group.completions[-1]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + success.token_ids])).logits[0, len(prompt) - 1 : -1] / 0.8
    now = logits.log_softmax(-1)[torch.arange(len(logits)), torch.tensor(success.token_ids)]
    weights = (now.double() - torch.tensor(success.logprobs, dtype=torch.float64)).exp()
    assert float((weights - 1).abs().max()) > 0.1
    assert said["batch/replay_weight_mean"] == pytest.approx(float(weights.mean()), rel=1e-4)
    ess = float(weights.sum() ** 2 / (len(weights) * weights.square().sum()))
    assert said["batch/replay_ess_share"] == pytest.approx(ess, rel=1e-4)
    assert said["policy/mismatch_max_nats"] < 1e-5
    assert said["policy/ess_share"] == pytest.approx(1.0, abs=1e-6)
    assert "batch/replay_ess_share" not in after(model, fresh, loss())[1]


@pytest.mark.parametrize("preset", ["default", "areal", "prorl_v2", "scalerl", "dppo", "prime_rl", "vespo"])
def test_no_split_changes_the_step(joined, preset):
    model, _, mixed = joined
    whole, said = after(model, mixed, loss(preset))
    parts, again = after(model, mixed, loss(preset), tokens=40)
    assert distance(whole, parts) < 1e-5
    assert said["batch/replay_weight_mean"] == pytest.approx(again["batch/replay_weight_mean"], rel=1e-5)
