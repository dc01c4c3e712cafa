"""Sampling ahead of the trainer: no further than allowed, every problem once, errors and ends passed on."""

import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from rlvr.errors import ProblemsError
from rlvr.train.feed import Feed
from rlvr.train.stream import Taken
from rlvr.types import Completion, Group, Problem, ScoredGroup, Verdict
from tests.train.test_stream import PRACTICE, SIZE, chain, content, practising, stream_of, take


class Scripted:
    """Stands where a stream does: says what was asked of it, with the version published at that moment."""

    def __init__(self, seconds=0.0, fails_at=None):
        self.asked, self.feed = [], None
        self.seconds, self.fails_at = seconds, fails_at
        self.inside = self.most_inside = 0

    def take(self, count, step, cursor, progress, memory):
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.asked.append((step, cursor, self.feed._published))
        progress("sample", step, count)
        time.sleep(self.seconds)
        self.inside -= 1
        if step == self.fails_at:
            raise ProblemsError("no more")
        completion = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish="stop")
        group = Group(
            problem=Problem(id=str(step), messages=(), answer=None),
            prompt_ids=(1,),
            completions=(completion,),
        )
        scored = ScoredGroup(group=group, verdicts=(Verdict(score=0, status="wrong"),), rewards=(0.0,))
        return Taken(groups=[scored], kept=[scored], cursor=cursor + count, metrics={})


def feed_of(stream, *, lag, step=0, last=6, cursor=0):
    stream.feed = SimpleNamespace(_published=step)
    feed = Feed(stream, count=4, step=step, last=last, cursor=cursor, max_lag=lag)
    stream.feed = feed
    return feed


def quiet(name, done, total):
    pass


@pytest.mark.parametrize("lag", [1, 2, 5])
def test_a_step_is_asked_for_when_its_version_is_out_and_not_before(lag):
    stream = Scripted()
    with closing(feed_of(stream, lag=lag, step=2, last=9, cursor=8)) as feed:
        for step in range(2, 9):
            taken = feed.take(step, 8 + 4 * (step - 2), quiet)
            assert taken.groups[0].group.problem.id == str(step)
            assert taken.cursor == 8 + 4 * (step - 1)
            farthest = min(step + lag, 8)
            deadline = time.monotonic() + 5
            while max(asked for asked, _, _ in stream.asked) < farthest and time.monotonic() < deadline:
                time.sleep(0.005)
            assert max(asked for asked, _, _ in stream.asked) == farthest, "as far ahead as allowed"
            feed.publish(step + 1)
    assert [asked[:2] for asked in stream.asked] == [(s, 8 + 4 * (s - 2)) for s in range(2, 9)]
    assert all(version >= step - lag for step, _, version in stream.asked)


def test_without_lag_trainer_and_sampler_take_turns():
    with stream_of() as stream:
        feed = Feed(stream, count=3, step=0, last=4, cursor=0, max_lag=0)
        before = threading.active_count()
        assert content(feed.take(1, 7, quiet)) == content(take(stream, 3, 1, 7))
        assert threading.active_count() == before


def test_with_lag_a_real_stream_gives_what_it_gives_alone():
    with stream_of() as stream:
        expected = [content(take(stream, 3, step, 3 * step)) for step in range(3)]
        with closing(Feed(stream, count=3, step=0, last=3, cursor=0, max_lag=2)) as feed:
            assert [content(feed.take(step, 3 * step, quiet)) for step in range(3)] == expected


def test_with_lag_what_is_practised_is_what_it_is_alone():
    """Dynamic sampling, curriculum and replay: the memory goes from step to step within the stream."""
    with practising(oversample=2.0) as stream:
        expected = [taken for taken, _ in chain(stream, 8)]
        begin = {"count": 5, "last": 8, "max_lag": 2}
        blank = PRACTICE.recall(SIZE, None)
        with closing(Feed(stream, step=0, cursor=0, memory=blank, **begin)) as feed:
            found = []
            for step in range(8):
                found.append(feed.take(step, 0, quiet))
                feed.publish(step + 1)
        third = found[2]  # a run that goes on from there, though more was sampled ahead when it was killed
        with closing(Feed(stream, step=3, cursor=third.cursor, memory=third.memory, **begin)) as feed:
            for step in range(3, 8):
                found.append(feed.take(step, 0, quiet))
                feed.publish(step + 1)
    for ours, theirs in zip(found, [*expected, *expected[3:]], strict=True):
        assert content(ours) == content(theirs)
        assert [g.group for g in ours.kept] == [g.group for g in theirs.kept]
    assert any(g.replayed for taken in found for g in taken.kept)


def test_an_error_ends_the_step_it_happened_in():
    with closing(feed_of(Scripted(fails_at=1), lag=1)) as feed:
        feed.take(0, 0, quiet)
        feed.publish(1)
        with pytest.raises(ProblemsError, match="no more"):
            feed.take(1, 4, quiet)


def test_a_pause_waits_for_what_is_sampled_and_lets_nothing_begin():
    stream = Scripted(seconds=0.1)
    with closing(feed_of(stream, lag=3)) as feed:
        time.sleep(0.02)
        with feed.paused():
            assert stream.inside == 0
            count = len(stream.asked)
            time.sleep(0.25)
            assert len(stream.asked) == count
        feed.take(0, 0, quiet)
        deadline = time.monotonic() + 2
        while len(stream.asked) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert stream.most_inside == 1


def test_closing_begins_nothing_more():
    stream = Scripted(seconds=0.05)
    feed = feed_of(stream, lag=5)
    time.sleep(0.02)
    feed.close()
    time.sleep(0.2)
    assert len(stream.asked) == 1
