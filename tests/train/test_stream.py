"""What a step draws: a function of weights, seed, step and cursor; within the caps, without long prompts."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rlvr import build
from rlvr.errors import ProblemsError
from rlvr.problems.prompts import Renderer
from rlvr.problems.sampler import Sampler
from rlvr.problems.sources import Table
from rlvr.problems.story import Story
from rlvr.recipe.schema import Verifier
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
