"""What vLLM may say and what it may not: rows that become a group, and rows that are garbage."""

import math
from dataclasses import replace

import pytest

from rlvr.errors import EngineError
from rlvr.rollout.drawn import ROUNDING, SEED_BITS, GarbageError, Row, group, label, parameters
from rlvr.types import Problem, Request, Sampling

RUN = "a1b2"
VOCABULARY = 50
STOP = 2
SAMPLING = Sampling(max_tokens=4, stop_ids=(STOP, 9))

CONTEXT = 4096


def asked(*seeds):
    return Request(problem=Problem(id="p", messages=(), answer=0), prompt_ids=(5, 6), seeds=seeds)


def row(tokens=(7, 8, STOP), *, finish="stop", labels=(f"{RUN}:3",), **other):
    fields = {"token_ids": tokens, "logprobs": [-0.5] * len(tokens), "finish": finish, "labels": labels}
    return Row(**fields | other)


def decode(rows):
    return [" ".join(map(str, tokens)) for tokens in rows]


def made(rows, *, seeds=(10, 11), sampling=SAMPLING):
    return group(asked(*seeds[: len(rows)]), sampling, rows, decode, run=RUN, vocabulary=VOCABULARY)


GOOD = {
    "ended by the first stop id": row(),
    "ended by another stop id": row((7, 9)),
    "ended at once": row((STOP,)),
    "cut": row((7, 8, 7, 8), finish="length"),
    "a stop in the last place": row((7, 8, 7, STOP)),
    "the greatest token": row((VOCABULARY - 1, STOP)),
    "the least token": row((0, STOP)),
    "certain": row((STOP,), logprobs=[0.0]),
    "certain, but for rounding": row((STOP,), logprobs=[ROUNDING / 2]),
    "hardly possible": row((STOP,), logprobs=[-1e4]),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_rows(name):
    one = GOOD[name]
    (completion,) = made([one]).completions
    assert completion.token_ids == tuple(one.token_ids)
    assert completion.logprobs == tuple(one.logprobs)
    assert completion.finish == one.finish
    assert completion.text == decode([one.token_ids])[0]
    assert completion.version == (3, 3)


GARBAGE = {
    "no tokens": (row((), finish="length"), "a completion of 0 tokens"),
    "too many tokens": (row((7,) * 5, finish="length"), "of 5 tokens .* at most 4 were asked for"),
    "a log-probability too few": (row(logprobs=[-0.5] * 2), "3 tokens with 2 log-probabilities"),
    "a log-probability too many": (row(logprobs=[-0.5] * 4), "3 tokens with 4 log-probabilities"),
    "no log-probabilities": (row(logprobs=[]), "3 tokens with 0 log-probabilities"),
    "a negative token": (row((-1, STOP)), "outside of the vocabulary of 50"),
    "a token past the vocabulary": (row((VOCABULARY, STOP)), "outside of the vocabulary of 50"),
    "not a number": (row(logprobs=[-0.5, math.nan, -0.5]), "are the weights finite"),
    "minus infinity": (row(logprobs=[-0.5, -math.inf, -0.5]), "are the weights finite"),
    "infinity": (row(logprobs=[-0.5, math.inf, -0.5]), "are the weights finite"),
    "more than certain": (row(logprobs=[-0.5, 2 * ROUNDING, -0.5]), "a log-probability that is none"),
    "a stop that is called a cut": (row(finish="length"), "ended for the reason `length`"),
    "a cut that is called a stop": (row((7, 8, 7, 8), finish="stop"), "ended for the reason `stop`"),
    "aborted": (row(finish="abort"), "ended for the reason `abort`"),
    "no reason": (row(finish=None), "ended for the reason `None`"),
    "cut too early": (row((7, 8), finish="length"), "2 tokens that ended for the reason `length`"),
    "an end that is no stop id": (row((7, 8), finish="stop"), "2 tokens that ended for the reason `stop`"),
    "unnamed weights": (row(labels=()), "not this run's: unnamed"),
    "half loaded": (row(labels=("half loaded",)), "not this run's: half loaded"),
    "another trainer's weights": (row(labels=(label("c3d4", 3),)), "not this run's: c3d4:3"),
    "partly another trainer's": (row(labels=(label(RUN, 3), label("c3d4", 4))), "not this run's"),
    "a run whose name begins alike": (row(labels=(label(f"{RUN}5", 3),)), "not this run's"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(name):
    bad, message = GARBAGE[name]
    with pytest.raises(GarbageError, match=message):
        made([bad])
    with pytest.raises(GarbageError, match=message):
        made([row(), bad])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_completions_than_asked_for(count):
    with pytest.raises(GarbageError, match=f"{count} completions came back of 2 asked for"):
        group(asked(10, 11), SAMPLING, [row()] * count, decode, run=RUN, vocabulary=VOCABULARY)


def test_a_completion_sampled_over_several_versions_tells_the_least_and_the_greatest():
    labels = [label(RUN, version) for version in (9, 10, 11)]
    (completion,) = made([row(labels=labels)]).completions
    assert completion.version == (9, 11)
    (completion,) = made([row(labels=[label(RUN, -1)])]).completions
    assert completion.version == (-1, -1)


def test_a_group_keeps_its_problem_prompt_and_order():
    rows = [row((7, STOP)), row((8, STOP))]
    found = made(rows)
    assert found.problem == asked(10, 11).problem
    assert found.prompt_ids == (5, 6)
    assert [c.token_ids for c in found.completions] == [(7, STOP), (8, STOP)]


def test_a_greedy_completion_is_drawn_once_and_certain_for_all_siblings():
    greedily = replace(SAMPLING, temperature=0)
    assert parameters(asked(10, 11, 12), greedily, CONTEXT)["n"] == 1
    found = made([row()], seeds=(10,), sampling=greedily)
    assert len(found.completions) == 1
    found = group(asked(10, 11, 12), greedily, [row()], decode, run=RUN, vocabulary=VOCABULARY)
    assert len(found.completions) == 3
    assert {(c.token_ids, c.logprobs) for c in found.completions} == {((7, 8, STOP), (0.0,) * 3)}
    with pytest.raises(GarbageError, match="0 completions came back of 3"):
        group(asked(10, 11, 12), greedily, [], decode, run=RUN, vocabulary=VOCABULARY)


@pytest.mark.parametrize("seed", [0, 1, SEED_BITS - 1, SEED_BITS, 2**63, 2**64 - 1, -1])
def test_seeds_and_those_of_their_siblings_fit_a_signed_64_bit_integer(seed):
    first = parameters(asked(seed, *range(1023)), SAMPLING, CONTEXT)["seed"]
    assert first >= 0
    assert first + 1023 < 2**63


def test_vllm_is_told_all_of_the_sampling():
    sampling = Sampling(max_tokens=17, temperature=0.7, top_p=0.9, top_k=20, stop_ids=(2, 9))
    expected = {
        "n": 3,
        "seed": 10,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "max_tokens": 17,
        "stop_token_ids": [2, 9],
        "ignore_eos": True,
        "logprobs": 0,
    }
    assert expected.items() <= parameters(asked(10, 11, 12), sampling, CONTEXT).items()


def test_what_vllm_would_quietly_do_otherwise_is_refused():
    with pytest.raises(EngineError, match="do not fit the context"):
        parameters(asked(1), SAMPLING, SAMPLING.max_tokens)
    with pytest.raises(EngineError, match=r"samples at 0\.01 or more"):
        parameters(asked(1), replace(SAMPLING, temperature=0.005), CONTEXT)
