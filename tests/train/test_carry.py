"""Checks run while groups decode; with `carry` neither a straggler nor a slow verifier holds up a step."""

import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rlvr import build
from rlvr.recipe.schema import Verifier
from rlvr.rollout.engine import FlowingEngine
from rlvr.runs.metrics import alarms
from rlvr.train.carry import Carry
from rlvr.train.feed import Feed
from rlvr.types import Sampling
from tests.rollout.asked import request, requests, said, stops
from tests.tiny import engine_of, tiny
from tests.train.test_stream import PLUGINS, stream_of

COUNT, MOST, STEPS = 6, 3, 7


def until(path):
    """Wait for an event of another process: it comes, or the test fails."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.005)


class Halting:
    """The engine, which goes on decoding only when the first group it gave away is being checked."""

    def __init__(self, engine, folder):
        self.engine, self.folder, self.halted = engine, folder, []

    def generate(self, asked, sampling):
        for index, group in self.engine.generate(asked, sampling):
            yield index, group
            if not self.halted:
                self.halted.append(group.problem.id)
                until(self.folder / f"begun-{group.problem.id.rpartition('-')[2]}")


@contextmanager
def held_stream(folder, serials, carry=0):
    """A stream whose verifier holds the problems of these numbers until the file `go` is there."""
    spec = Verifier(name=f"{PLUGINS}:held", folder=str(folder), serials=serials, timeout=60)
    with build.scorer([spec], 3, Path()) as scorer, stream_of() as stream:  # a worker is left beside those
        made = replace(stream, scorer=scorer, drop_zero_variance=False, group_size=2)
        yield carrying(made, steps=carry) if carry else made


def test_checks_begin_while_groups_decode(tmp_path):
    """Were they begun after the last group, the engine would wait for them for ever."""
    with held_stream(tmp_path, "") as stream:
        engine = Halting(stream.engine, tmp_path)
        taken = replace(stream, engine=engine).take(COUNT, 0, 0, lambda *_: None)
    assert len(engine.halted) == 1
    assert len(taken.groups) == COUNT


def carrying(stream, again=(), last=STEPS - 1, steps=1):
    rooms = {"engine": stream.engine, "scorer": stream.scorer, "sampling": stream.sampling}
    carry = Carry(**rooms, most=MOST, steps=steps, again=again)
    # Few stops: some completions are long.
    return replace(stream, carry=carry, last=last)


def steps_of(stream, steps, cursor=0):
    """Takes of a run: each step makes new weights, in name."""
    for step in steps:
        taken = stream.take(COUNT, step, cursor, lambda *_: None)
        yield taken
        cursor = taken.cursor
        stream.engine.load_weights(stream.engine._model, step + 1)


def serials(taken):
    return [int(g.group.problem.id.rpartition("-")[2]) for g in taken.groups]


def check_closed(takes, carried_in=0):
    """Each step's accounting closes, and begins with what the one before left."""
    for taken in takes:
        flow = {
            name: taken.metrics[f"rollout/groups_{name}"]
            for name in ("asked", "carried_in", "taken", "carried_out")
        }
        assert flow["asked"] + flow["carried_in"] == flow["taken"] + flow["carried_out"]
        assert flow["carried_in"] == carried_in
        assert flow["carried_out"] == len(taken.carried) <= MOST
        assert flow["taken"] == len(taken.groups) == COUNT
        assert not any("accounted for" in words for words in alarms(taken.metrics))
        carried_in = flow["carried_out"]


def test_stragglers_join_the_next_step_and_every_problem_is_taken_once():
    with stream_of(drop_zero_variance=False) as stream:
        takes = list(steps_of(carrying(stream), range(STEPS)))
    check_closed(takes)
    assert takes[-1].carried == ()
    assert sum(len(taken.carried) for taken in takes) > 0
    assert sorted(n for taken in takes for n in serials(taken)) == list(range(COUNT * STEPS))
    late = Counter()
    for step, (before, taken) in enumerate(zip([None, *takes], takes, strict=False)):
        assert serials(taken) == sorted(serials(taken))
        for serial, group in zip(serials(taken), taken.groups, strict=True):
            was_carried = before is not None and serial in before.carried
            begun = {completion.version[0] for completion in group.group.completions}
            # What is carried may have waited for a free slot until now.
            assert begun <= ({step - 1, step} if was_carried else {step})
            assert len(group.group.completions) == len(group.rewards) == 4
            late[was_carried] += 1
        if before is not None:
            assert set(before.carried) <= set(serials(taken)), "at most one step later"
    assert late[True] == sum(len(taken.carried) for taken in takes) < late[False]


def test_a_run_that_goes_on_asks_again_what_was_on_its_way():
    with stream_of(drop_zero_variance=False) as stream:
        first = list(steps_of(carrying(stream), range(3)))
        left = first[-1]
        assert left.carried
        rest = list(steps_of(carrying(stream, again=left.carried), range(3, STEPS), left.cursor))
    check_closed(first)
    check_closed(rest, carried_in=len(left.carried))
    assert set(left.carried) <= set(serials(rest[0]))
    taken = sorted(n for one in [*first, *rest] for n in serials(one))
    assert taken == list(range(COUNT * STEPS))


def test_a_slow_verifier_holds_up_its_own_group_alone(tmp_path):
    """Problem 2 is checked for as long as the first step lasts; the second waits for it."""
    with held_stream(tmp_path, "2", carry=1) as stream:
        first = stream.take(COUNT, 0, 0, lambda *_: None)
        assert not (tmp_path / "go").exists()
        assert 2 in first.carried
        assert 2 not in serials(first)
        second = stream.take(COUNT, 1, first.cursor, lambda *_: (tmp_path / "go").touch())
    check_closed([first, second])
    assert 2 in serials(second)


def test_a_group_may_be_late_by_several_steps(tmp_path):
    """Problem 2 is checked during three steps, and the fourth waits for it."""
    with held_stream(tmp_path, "2", carry=3) as stream:
        takes = []
        for step in range(4):
            go = (tmp_path / "go").touch if step == 3 else int
            takes.append(stream.take(COUNT, step, takes[-1].cursor if takes else 0, lambda *_, go=go: go()))
    check_closed(takes)
    assert [2 in taken.carried for taken in takes] == [True, True, True, False]
    assert 2 in serials(takes[-1])


def test_dynamic_sampling_fills_its_batch_with_what_comes():
    with stream_of(oversample=8.0) as stream:
        takes = []
        for taken in steps_of(carrying(stream), range(STEPS)):
            assert len(taken.kept) == COUNT
            assert taken.metrics["batch/filled_share"] == 1
            takes.append(taken)
    asked = [n for taken in takes for n in serials(taken)]
    assert sorted([*asked, *takes[-1].carried]) == list(range(takes[-1].cursor))
    flows = [
        [taken.metrics[f"rollout/groups_{n}"] for n in ("asked", "carried_in", "taken", "carried_out")]
        for taken in takes
    ]
    assert all(asked + before == taken + after for asked, before, taken, after in flows)


def test_it_runs_ahead_of_the_trainer_too():
    with stream_of(drop_zero_variance=False) as stream:
        feed = Feed(carrying(stream), count=COUNT, step=0, last=STEPS, cursor=0, max_lag=1)
        takes = []
        for step in range(STEPS):
            takes.append(feed.take(step, 0, lambda *_: None))
            feed.publish(step + 1)
    check_closed(takes)
    assert sorted(n for taken in takes for n in serials(taken)) == list(range(COUNT * STEPS))


def test_a_flow_draws_what_generate_draws_whenever_it_is_asked(story):
    """Requests that come later, more of them and with longer prompts, find room beside those under way."""
    model, tokenizer = story
    sampling = Sampling(max_tokens=24, stop_ids=stops(tokenizer))
    engine = engine_of(model, tokenizer, slots=8)
    assert isinstance(engine, FlowingEngine)
    asked = sorted(requests(), key=lambda one: len(one.prompt_ids))
    expected = said(group for _, group in engine.generate(asked, sampling))
    inbox, waiting, found = deque([(100, asked[0])]), deque(enumerate(asked[1:])), []
    for event in engine.flow(inbox, sampling):
        assert not model.training
        if event is not None:
            found.append(event)
        if waiting:
            inbox.append(waiting.popleft())
    assert sorted(number for number, _ in found) == [*range(len(asked) - 1), 100]
    assert said(group for _, group in found) == expected


def test_new_weights_go_on_with_what_is_under_way():
    model, tokenizer = tiny()
    engine = engine_of(model, tokenizer, slots=8, version=3)
    inbox = deque([(0, request(0, 5, [1, 2]))])
    flow = engine.flow(inbox, Sampling(max_tokens=40))
    assert next(flow) is None, "nothing has ended yet"
    engine.load_weights(model, 4)
    inbox.append((1, request(1, 7, [3])))
    groups = dict(event for event in flow if event is not None)
    assert [c.version for c in groups[0].completions] == [(3, 4)] * 2
    assert [c.version for c in groups[1].completions] == [(4, 4)]


@pytest.mark.parametrize("training", [True, False])
def test_between_two_looks_the_model_is_the_callers(training):
    model, tokenizer = tiny()
    model.train(training)
    flow = engine_of(model, tokenizer).flow(deque([(0, request(0, 5, [1]))]), Sampling(max_tokens=40))
    next(flow)
    assert model.training == training
    loss = model(next(model.parameters()).new_ones(1, 3).long()).logits.sum()
    loss.backward()
    assert next(model.parameters()).grad is not None
