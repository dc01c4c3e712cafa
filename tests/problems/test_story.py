"""Word problems: disjoint splits, answers as an independent solver finds them, workings that are right."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rlvr_verifiers.story import story

from rlvr.errors import ProblemsError
from rlvr.problems.generators import make_generator
from rlvr.problems.story import LARGEST, Story

FACT = re.compile(
    r"(?P<who>\w+) has (?P<n>\d+)(?: (?P<how>more than|fewer than|times as many as) (?P<other>\w+))?"
)


def solve(text):
    """The answer, read off the text alone: facts are replaced by values until the one asked for is known."""
    *facts, question = text.split(". ")
    asked = re.fullmatch(r"How many does (\w+) have\?", question)[1]
    open_facts = [FACT.fullmatch(fact).groupdict() for fact in facts]
    known: dict[str, int] = {}
    while asked not in known:
        for fact in open_facts:
            number, how, other = int(fact["n"]), fact["how"], fact["other"]
            if how is None:
                known[fact["who"]] = number
            elif other in known:
                more = {"more than": known[other] + number, "fewer than": known[other] - number}
                known[fact["who"]] = more.get(how, known[other] * number)
    return known[asked]


def text(problem):
    (message,) = problem.messages
    assert message.role == "user"
    return message.content


def test_train_and_test_share_no_text():
    """Even over several seeds, and with problems so short that texts do repeat."""
    options = [{}, {"shortest": 2, "longest": 2, "distractors": 0}]
    seen = {
        split: {
            text(Story(split=split, seed=seed, **option)[index])
            for option in options
            for seed in range(4)
            for index in range(700)
        }
        for split in ("train", "test")
    }
    assert not seen["train"] & seen["test"]
    assert len(seen["train"]) < 4 * 700 * 2, "no text repeats: the test would pass without the split by text"


def test_the_far_end_that_the_warm_start_uses_is_training_too():
    held_out = {text(Story(split="test")[index]) for index in range(1000)}
    assert not held_out & {text(Story(split="train")[2**40 + index]) for index in range(1000)}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**41), st.integers(0, 5), st.sampled_from(["train", "test"]))
def test_answers_are_right(index, seed, split):
    problem = Story(split=split, seed=seed)[index]
    assert solve(text(problem)) == problem.answer
    assert 0 <= problem.answer <= LARGEST
    assert problem == Story(split=split, seed=seed)[index]
    assert problem.id == f"story-{seed}-{split}-{index}"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**41), st.sampled_from(["train", "test"]))
def test_working_is_judged_right_and_a_guess_by_its_luck(index, split):
    source = Story(split=split, guesses=2.5)
    thought, guessed = source.worked(index)
    assert thought.problem == guessed.problem == source[index]
    assert (thought.weight, guessed.weight) == (1.0, 2.5)
    assert story.function(thought.solution, thought.problem.answer).status == "right"
    guess = int(guessed.solution.removeprefix("<think></think><answer>"))
    expected = "right" if guess == guessed.problem.answer else "wrong"
    assert story.function(guessed.solution, guessed.problem.answer).status == expected


def test_every_line_of_the_working_is_true_and_leads_to_the_answer():
    for index in range(200):
        working, _ = Story(split="train").worked(index)
        body, answer = re.fullmatch(r"<think>(.*)</think><answer>(\d+)", working.solution).groups()
        known: dict[str, int] = {}
        for line in body.split(". "):
            who, sum_ = line.split(":")
            left, _, right = sum_.partition("=")
            a, sign, b = re.fullmatch(r"(\d+)(?:([-+*])(\d+))?", left).groups()
            value = {
                None: int(a),
                "+": int(a) + int(b or 0),
                "-": int(a) - int(b or 0),
                "*": int(a) * int(b or 0),
            }
            known[who] = value[sign]
            assert right in ("", str(known[who]))
        asked = re.search(r"How many does (\w+) have", text(working.problem))[1]
        assert known[asked] == int(answer) == solve(text(working.problem))


def test_blind_guesses_are_rarely_right():
    pairs = [Story(split="train").worked(index)[1] for index in range(1000)]
    lucky = sum(story.function(w.solution, w.problem.answer).status == "right" for w in pairs)
    assert 5 < lucky < 60


def test_lengths_follow_the_options():
    source = Story(split="train", shortest=2, longest=4, distractors=2)
    problems = [source[index] for index in range(300)]
    assert {p.meta["steps"] for p in problems} == {2, 3, 4}
    extra = [text(p).count(" has ") - p.meta["steps"] for p in problems]
    assert set(extra) == {0, 1, 2}


def test_settings_make_another_source():
    prints = [
        Story(split="train").fingerprint,
        Story(split="test").fingerprint,
        Story(split="train", seed=1).fingerprint,
        Story(split="train", longest=6).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert Story(split="train").fingerprint == prints[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shortest": 1}, "shortest = 1"),
        ({"shortest": 5, "longest": 4}, "2 <= shortest <= longest"),
        ({"longest": 16, "distractors": 1}, "longest = 16"),
        ({"longer": 3}, "did you mean `longest`"),
    ],
)
def test_impossible_options_are_refused(options, said):
    with pytest.raises(ProblemsError, match=said):
        make_generator("story", "train", options)


def test_an_unknown_split_is_refused():
    with pytest.raises(ProblemsError, match="did you mean `test`"):
        make_generator("story", "tset", {})
