"""What a step draws: a function of weights, seed, step and cursor; within the caps, without long prompts."""

import io
import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlvr import build
from rlvr.errors import ProblemsError
from rlvr.problems.curriculum import Curriculum
from rlvr.problems.prompts import Renderer
from rlvr.problems.sampler import Sampler
from rlvr.problems.sources import First, Table
from rlvr.problems.story import Story
from rlvr.recipe.schema import Verifier
from rlvr.runs.accounting import tally
from rlvr.runs.metrics import alarms
from rlvr.train.memory import Practice
from rlvr.train.replay import Replay
from rlvr.train.stream import Stream
from rlvr.types import Message, Problem, Sampling
from tests.tiny import engine_of, tiny

PLUGINS = Path(__file__).parents[1] / "plugins.py"


@contextmanager
def stream_of(verifier="coin", **changes):
    model, tokenizer = tiny()
    renderer = Renderer(tokenizer, 256)
    with build.scorer([Verifier(name=f"{PLUGINS}:{verifier}")], 1, Path()) as scorer:
        stream = Stream(
            sampler=Sampler(Story(split="train"), 0),
            renderer=renderer,
            engine=engine_of(model, tokenizer, slots=24),
            scorer=scorer,
            sampling=Sampling(max_tokens=12, stop_ids=renderer.stop_ids),
            group_size=4,
            drop_zero_variance=True,
            oversample=1.0,
            seed=0,
        )
        yield replace(stream, **changes)


def take(stream, *arguments):
    return stream.take(*arguments, lambda name, done, total: None)


def content(taken):
    return [(g.group, g.rewards, [v.status for v in g.verdicts]) for g in taken.groups], taken.cursor


@pytest.fixture(scope="module")
def stream():
    with stream_of() as made:
        yield made


def test_a_take_depends_on_seed_step_and_cursor_alone(stream):
    first = content(take(stream, 5, 3, 17))
    others = [take(stream, 5, 3, 22), take(stream, 5, 4, 17), take(replace(stream, seed=1), 5, 3, 17)]
    assert content(take(stream, 5, 3, 17)) == first
    with stream_of() as fresh:
        assert content(take(fresh, 5, 3, 17)) == first
    said = [
        [c.token_ids for g in groups for c in g[0].completions]
        for groups, _ in [first, *map(content, others)]
    ]
    assert all(one != two for i, one in enumerate(said) for two in said[:i])
    asked = [[g[0].problem.id for g in groups] for groups, _ in [first, *map(content, others)]]
    assert asked[0] == asked[2] == asked[3] == [f"story-0-train-{n}" for n in range(17, 22)]


def test_the_size_of_a_take_changes_no_completion(stream):
    def said(*arguments):
        groups = take(stream, *arguments).groups
        return [([c.token_ids for c in g.group.completions], g.rewards) for g in groups]

    assert said(2, 0, 0) + said(4, 0, 2) == said(6, 0, 0)


def test_groups_that_teach_are_kept_in_order(stream):
    taken = take(stream, 8, 0, 0)
    kept = [g for g in taken.groups if len(set(g.rewards)) > 1]
    assert taken.kept == kept
    assert 0 < len(kept) < 8
    assert taken.metrics["batch/groups"] == len(kept)
    everything = take(replace(stream, drop_zero_variance=False), 8, 0, 0)
    assert everything.kept == everything.groups
    assert content(everything) == content(taken)


@pytest.mark.parametrize(("oversample", "groups"), [(1.0, 3), (1.5, 4), (3.0, 9)])
def test_dynamic_sampling_stops_at_the_cap(oversample, groups):
    """Nobody is ever right, so no group is kept, and the stream would go on for ever."""
    with stream_of("nothing_right", oversample=oversample) as stream:
        taken = take(stream, 3, 0, 100)
    assert len(taken.groups) == groups
    assert taken.kept == []
    assert taken.cursor == 100 + groups


def test_dynamic_sampling_fills_the_batch_and_no_more(stream):
    taken = take(replace(stream, oversample=10.0), 6, 0, 0)
    assert len(taken.kept) == 6
    assert 6 < len(taken.groups) < 60
    assert taken.cursor == len(taken.groups)
    assert [g.group.problem.id for g in taken.groups] == [f"story-0-train-{n}" for n in range(taken.cursor)]


def table(*lengths):
    """Problems whose prompts are the lengths and 3 tokens of the template long."""
    problems = [
        Problem(id=str(i), messages=(Message(role="user", content="7" * length),), answer=7)
        for i, length in enumerate(lengths)
    ]
    return Table(name="made", fingerprint="f" * 64, problems=tuple(problems))


def test_prompts_too_long_are_passed_over_and_counted(stream):
    """The context is 256 and 12 are to be written: 241 and the template's 3 just fit."""
    made = replace(stream, sampler=Sampler(table(241, 242, 10, 400), 0))
    taken = take(made, 6, 0, 0)
    assert {g.group.problem.id for g in taken.groups} == {"0", "2"}
    assert len(taken.groups) == 6
    assert taken.metrics["rollout/prompts_too_long"] == taken.cursor - 6 > 0
    again = take(made, 2, 1, taken.cursor)
    assert len(again.groups) == 2


@pytest.mark.parametrize("count", [1, 5])
def test_a_source_of_nothing_but_long_prompts_is_an_error(stream, count):
    made = replace(stream, sampler=Sampler(table(300, 301, 302), 0))
    with pytest.raises(ProblemsError, match=r"3 problems in a row.*max_tokens = 12.*context is 256"):
        take(made, count, 0, 0)


def test_the_cap_is_not_lost_to_rounding():
    """100 * 1.15 is 114.99999999999999 in binary."""
    with stream_of("nothing_right", oversample=1.15) as stream:
        assert len(take(stream, 100, 0, 0).groups) == 115


def test_a_later_round_asks_for_what_it_expects_to_need(stream):
    """Where three of four groups teach, the second round asks for four thirds of what is short."""
    rounds = []

    def progress(name, done, total):
        if (name, done) == ("sample", 0):
            rounds.append(total)

    made = replace(stream, oversample=10.0)
    taken = made.take(12, 0, 0, progress)
    alone = take(replace(stream, drop_zero_variance=False), len(taken.groups), 0, 0)
    assert content(alone)[0] == content(taken)[0], "the rounds change nothing of what is drawn"
    taught = [len(set(g.rewards)) > 1 for g in taken.groups]
    begun, expected = 12, [12]
    while sum(taught[:begun]) < 12:
        expected.append(math.ceil((12 - sum(taught[:begun])) * begun / sum(taught[:begun])))
        begun += expected[-1]
    assert rounds == expected
    assert len(rounds) > 1
    assert taken.kept == [g for g, teach in zip(taken.groups, taught, strict=True) if teach][:12]


def test_the_price_of_dynamic_sampling_is_told(stream):
    taken = take(replace(stream, oversample=10.0), 6, 0, 0)
    tokens = [
        sum(len(c.token_ids) for g in groups for c in g.group.completions)
        for groups in (taken.groups, taken.kept)
    ]
    assert taken.metrics["batch/dropped_groups"] == len(taken.groups) - 6 > 0
    assert taken.metrics["batch/dropped_tokens_share"] == pytest.approx(1 - tokens[1] / tokens[0])
    assert taken.metrics["batch/filled_share"] == 1.0
    with stream_of("nothing_right", oversample=1.5) as hopeless:
        metrics = take(hopeless, 4, 0, 0).metrics
    assert (metrics["batch/filled_share"], metrics["batch/dropped_tokens_share"]) == (0.0, 1.0)
    assert any("only 0 % full at the cap" in words for words in alarms(metrics))
    assert "batch/filled_share" not in take(stream, 2, 0, 0).metrics


def truncated(stream):
    """Groups in which all differences are between completions cut at the limit."""
    return replace(stream, sampling=replace(stream.sampling, max_tokens=2), oversample=4.0)


def test_where_truncated_ones_are_masked_they_make_no_lesson(stream):
    kept = take(truncated(stream), 4, 0, 0).kept
    masked = take(replace(truncated(stream), mask_truncated=True), 4, 0, 0).kept
    assert any(all(c.finish == "length" for c in g.group.completions) for g in kept)
    assert all(any(c.finish == "stop" for c in g.group.completions) for g in masked)


def test_tokens_that_are_masked_or_have_no_reward_are_part_of_the_price(stream):
    taken = take(replace(truncated(stream), mask_truncated=True), 4, 0, 0)
    counted = [c for g in taken.kept for c in g.group.completions if c.finish == "stop"]
    tokens = sum(len(c.token_ids) for g in taken.groups for c in g.group.completions)
    share = 1 - sum(len(c.token_ids) for c in counted) / tokens
    assert taken.metrics["batch/dropped_tokens_share"] == pytest.approx(share)
    with stream_of("sometimes_raises", oversample=1.0) as faulty:
        taken = take(faulty, 6, 0, 0)
    known = [
        c for g in taken.kept for c, r in zip(g.group.completions, g.rewards, strict=True) if r is not None
    ]
    tokens = sum(len(c.token_ids) for g in taken.groups for c in g.group.completions)
    assert 0 < sum(len(c.token_ids) for c in known) < tokens
    share = 1 - sum(len(c.token_ids) for c in known) / tokens
    assert taken.metrics["batch/dropped_tokens_share"] == pytest.approx(share)


PRACTICE = Practice(
    curriculum=Curriculum(low=0.1, high=0.9, retire_at=0.6, revisit=0.2, visits=1),
    replay=Replay(share=0.4, max_age=7),
)
SIZE = 16


@contextmanager
def practising(**changes):
    """A stream over a few story problems, so that each comes back often; one completion in five is right."""
    with stream_of("one_in_five", **changes) as stream:
        yield replace(
            stream,
            sampler=Sampler(First(source=Story(split="train"), size=SIZE), 0),
            sampling=replace(stream.sampling, stop_ids=tuple(range(4, 20))),
            practice=PRACTICE,
        )


def chain(stream, steps, count=5):
    """The takes of a run, each from where the one before ended; and the memory that each began with."""
    cursor, memory = 0, PRACTICE.recall(stream.sampler.source.size, None)
    for step in range(steps):
        taken = stream.take(count, step, cursor, lambda name, done, total: None, memory)
        yield taken, memory
        cursor, memory = taken.cursor, taken.memory


def test_a_run_practises_what_a_plain_loop_would():
    """Rates, retirement and replay beside an oracle that knows problems by name alone."""
    visits, stored, retired, replayed = {}, {}, 0, 0
    with practising(drop_zero_variance=False) as stream:
        takes = [taken for taken, _ in chain(stream, 12)]
    for step, taken in enumerate(takes):
        waiting = {n for n, seen in visits.items() if not 0.1 <= rate(seen) < 0.6}
        room, left = 2, dict(stored)
        for group, kept in zip(taken.groups, taken.kept, strict=True):
            name, right = group.group.problem.id, sum(v.status == "right" for v in group.verdicts)
            found = left.get(name)
            is_due = right == 0 and room > 0 and found is not None and step - found.version[0] <= 7
            assert kept.group.completions == (*group.group.completions, *([found] if is_due else []))
            room, replayed = room - is_due, replayed + is_due
            if is_due:
                del left[name]
        asked = [g.group.problem.id for g in taken.groups]
        assert taken.metrics["problems/revisited_share"] == sum(n in waiting for n in asked) / 5
        for group in taken.groups:
            name, right = group.group.problem.id, [v.status == "right" for v in group.verdicts]
            visits.setdefault(name, []).append((sum(right), len(right)))
            ended = [
                c for c, ok in zip(group.group.completions, right, strict=True) if ok and c.finish == "stop"
            ]
            if any(right):
                stored.pop(name, None)
            if sum(right) == 1 and ended:
                stored[name] = ended[0]
        retired = sum(rate(seen) >= 0.6 for seen in visits.values())
        assert taken.metrics["problems/retired"] == retired
        assert taken.metrics["problems/outside"] == sum(rate(seen) < 0.1 for seen in visits.values())
        assert taken.metrics["problems/unseen"] == SIZE - len(visits)
    assert retired > 0
    assert replayed > 0


def rate(seen):
    weights = [0.5**age for age in range(len(seen))][::-1]
    right, known = (sum(w * s[i] for w, s in zip(weights, seen, strict=True)) for i in (0, 1))
    return right / known


def state(memory):
    """What a checkpoint would hold, as plain values."""
    saved = memory.to_state()
    rates = {name: part.tolist() for name, part in saved["rates"].items()}
    return rates, [
        {k: v.tolist() if hasattr(v, "tolist") else v for k, v in row.items()} for row in saved["stored"]
    ]


def test_a_take_is_the_same_from_a_restored_memory():
    cursor, replayed = 0, 0
    with practising(oversample=2.0) as stream:
        for step, (taken, memory) in enumerate(chain(stream, 8)):
            file = io.BytesIO()
            torch.save(memory.to_state(), file)
            file.seek(0)
            restored = PRACTICE.recall(SIZE, torch.load(file, weights_only=True))
            again = stream.take(5, step, cursor, lambda name, done, total: None, restored)
            assert content(again) == content(taken)
            assert [g.group for g in again.kept] == [g.group for g in taken.kept]
            assert state(again.memory) == state(taken.memory)
            cursor, replayed = taken.cursor, replayed + sum(g.replayed for g in taken.kept)
    assert replayed > 0


def test_what_does_not_fit_is_met_once(stream):
    made = replace(stream, sampler=Sampler(table(241, 242, 10, 400), 0), practice=PRACTICE)
    first, *later = [taken for taken, _ in chain(made, 4)]
    assert first.metrics["rollout/prompts_too_long"] >= 2
    assert all(taken.metrics["rollout/prompts_too_long"] == 0 for taken in later)


def test_a_greedy_completion_stands_beside_each_group_and_changes_nothing_else(stream):
    alone, beside = take(stream, 4, 0, 0), take(replace(stream, greedy=True), 4, 0, 0)
    assert content(beside) == content(alone)
    assert all(group.greedy is None for group in alone.groups)
    for scored in beside.groups:
        (completion,), (reward,) = scored.greedy.group.completions, scored.greedy.rewards
        assert scored.greedy.group.problem == scored.group.problem
        assert set(completion.logprobs) == {0.0}, "a greedy token has probability 1"
        assert reward == scored.greedy.verdicts[0].score
        assert completion.version == scored.group.completions[0].version
    again = take(replace(stream, greedy=True, seed=5), 4, 3, 0)
    said = [[g.greedy.group.completions[0].token_ids for g in taken.groups] for taken in (beside, again)]
    assert said[0] == said[1], "no chance in it"
    counted = tally(beside.groups)
    assert counted["verify/issued"] == 4 * 4 + 4
    assert counted["rollout/tokens"] == tally(alone.groups)["rollout/tokens"] + sum(map(len, said[0]))
    assert counted["reward/greedy_mean"] == sum(g.greedy.rewards[0] for g in beside.groups) / 4
    same = ("reward/mean", "reward/std", "batch/zero_variance_share", "batch/all_wrong_share")
    assert {name: counted[name] for name in same} == {name: tally(alone.groups)[name] for name in same}
