"""A hopeless start: what is clear from how many completions, and what is said."""

import re
from dataclasses import replace

import pytest

from rlvr.recipe.keys import KEYS
from rlvr.runs.accounting import tally
from rlvr.train.start import UNIFORM_COMPLETIONS, WRONG_COMPLETIONS, WRONG_PROBLEMS, Start, hopeless
from tests.checkout import ROOT
from tests.runs.made import scored

WRONG = ("wrong", "stop", 5)


def start_of(*outcomes, problems, size=8, steps=1):
    """`problems` groups a step, each of `size` completions that take turns in `outcomes`."""
    groups = [scored(f"p{i}", [outcomes[j % len(outcomes)] for j in range(size)]) for i in range(problems)]
    return Start.of([tally(groups)] * steps, size)


def test_counts_are_those_of_the_groups():
    mixed = [("right", "stop", 4), ("no_answer", "length", 10), ("error", "stop", 1), WRONG]
    groups = [scored("a", mixed), scored("b", [WRONG] * 4), scored("c", [WRONG] * 4)]
    found = Start.of([tally(groups), tally(groups[1:])], 4)
    assert found == Start(
        problems=5,
        completions=20,
        right=1,
        uniform=4,
        truncated=1,
        no_answer=1,
        error=1,
        tokens=4 + 10 + 1 + 5 + 16 * 5,
    )
    assert found.teaches
    low, high = found.interval
    assert low < found.numbers["right_share"] == 1 / 20 < high


@pytest.mark.parametrize(
    ("outcome", "problems", "said"),
    [
        (("wrong", "length", 5), 16, "all of the first 128 completions are cut at 5 tokens: raise sampling"),
        (("no_answer", "stop", 3), 16, "an answer in none of the first 128 completions: let problems.prompt"),
        (("error", "stop", 3), 16, "the verifier itself failed on all of the first 128"),
        (WRONG, 64, "none of the first 512 completions of 64 problems is right, with 0 % cut"),
    ],
)
def test_what_is_hopeless_is_said_once_it_is_clear_and_not_before(outcome, problems, said):
    assert said in hopeless(start_of(outcome, problems=problems), 5)
    assert said in hopeless(start_of(outcome, problems=problems // 2, steps=2), 5)
    assert hopeless(start_of(outcome, problems=problems - 1), 5) is None


def test_many_completions_of_few_problems_prove_nothing_about_the_others():
    assert hopeless(start_of(WRONG, problems=63, size=64), 5) is None
    assert hopeless(start_of(WRONG, problems=64, size=4), 5) is None


@pytest.mark.parametrize(
    ("outcome", "advice"),
    [(("wrong", "length", 9), "raise sampling.max_tokens"), (("no_answer", "stop", 9), "problems.prompt")],
)
def test_the_advice_is_for_what_most_completions_suffer_from(outcome, advice):
    assert advice in hopeless(start_of(outcome, outcome, WRONG, problems=64, size=9), 9)
    assert "easier problems" in hopeless(start_of(outcome, WRONG, WRONG, problems=64, size=9), 9)


def test_one_right_completion_or_one_group_with_a_contrast_is_hope():
    dull = [scored(f"p{i}", [WRONG] * 8) for i in range(99)]
    lucky = scored("lucky", [("right", "stop", 5)] * 8)
    assert hopeless(Start.of([tally([*dull, lucky])], 8), 5) is None
    partly = scored("partly", [WRONG] * 7 + [("error", "stop", 5)])
    assert hopeless(Start.of([tally([*dull, partly])], 8), 5) is not None
    verdicts = (replace(partly.verdicts[0], score=0.5), *partly.verdicts[1:])
    partly = replace(partly, verdicts=verdicts, rewards=(0.5, *partly.rewards[1:]))
    assert hopeless(Start.of([tally([*dull, partly])], 8), 5) is None


def test_the_documentation_says_how_many_completions_a_verdict_waits_for():
    for text in (KEYS["run.hopeless"].doc, " ".join((ROOT / "README.md").read_text().split())):
        for count in (UNIFORM_COMPLETIONS, WRONG_PROBLEMS, WRONG_COMPLETIONS):
            assert re.search(rf"\b{count}\b", text), (count, text)
