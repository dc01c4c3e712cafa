"""vllm_server against servers that die, hang, lie or refuse: every group once, nothing of wrong weights."""

import time
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rlvr.errors import EngineError
from rlvr.policy.model import add_lora
from rlvr.rollout.vllm_server import Fleet, VllmServer
from rlvr.rollout.vllm_settings import VllmSettings
from rlvr.types import Problem, Request, Sampling
from tests.rollout.peer import KEY, peer
from tests.tiny import tiny

SAMPLING = Sampling(max_tokens=5)


def requests(count=6, siblings=2):
    return [
        Request(
            problem=Problem(id=str(i), messages=(), answer=None),
            prompt_ids=(1, 2, i),
            seeds=tuple(range(10 * i, 10 * i + siblings)),
        )
        for i in range(count)
    ]


@contextmanager
def served(*peers, key=KEY, **settings):
    """(engine over the peers, what it told, the model)."""
    model, tokenizer = tiny()
    told = []
    engine = VllmServer(
        model,
        lambda rows: tokenizer.batch_decode(rows),
        VllmSettings(
            dtype="float32",
            on_gpu=False,
            context=256,
            **{"sequences": 64, "deadline_s": 1.0, "start_s": 1.0, "failures": 2} | settings,
        ),
        Fleet(urls=[one.url for one in peers], key=key),
        tell=lambda words, *, lasting=False: told.append((words, lasting)),
    )
    try:
        yield engine, told, model
    finally:
        engine.close()


@pytest.fixture
def one():
    with peer() as made:
        yield made


@pytest.fixture
def two():
    with ExitStack() as stack:
        yield [stack.enter_context(peer()) for _ in range(2)]


def complete(engine, count=6, **changes):
    """All groups, each index exactly once, drawn with the engine's one version."""
    answered = list(engine.generate(requests(count, **changes), SAMPLING))
    assert sorted(index for index, _ in answered) == list(range(count))
    for index, group in answered:
        assert group.problem.id == str(index)
        assert [c.token_ids[0] for c in group.completions] == [
            (10 * index + i) % 40 for i in range(len(group.completions))
        ]
    return [group for _, group in answered]


def lasting(told):
    return [words for words, is_lasting in told if is_lasting]


def times(one, route):
    return sum(name == route for name, _ in one.calls)


def test_a_good_server_is_asked_once_a_group_and_told_nothing(one):
    with served(one) as (engine, told, _):
        groups = complete(engine)
        assert {c.version for g in groups for c in g.completions} == {(0, 0)}
        assert times(one, "/inference/v1/generate") == 6
        assert told == []


def breaks_once(status):
    return lambda number, body: status if number == 1 else None


@pytest.mark.parametrize("status", [500, 503, "cut"])
def test_a_lost_answer_is_asked_for_again_after_a_new_sync(one, status):
    with served(one) as (engine, told, _):
        one.breaks["/inference/v1/generate"] = breaks_once(status)
        complete(engine)
        assert times(one, "/inference/v1/generate") == 7
        assert times(one, "/finish_weight_update") == 2, "its weights are nobody's until they are loaded anew"
        (words,) = lasting(told)
        assert one.url in words
        assert "1 of 2" in words


def test_a_hang_is_told_and_ended_by_the_deadline(one):
    with served(one, deadline_s=8.0) as (engine, told, _):
        one.breaks["/inference/v1/generate"] = lambda number, body: time.sleep(60 if number == 0 else 0)
        started = time.monotonic()
        complete(engine, 1)
        assert 7 < time.monotonic() - started < 14
        assert any("1 groups asked, no answer" in words for words, _ in told)
        assert "no answer within 8 s" in lasting(told)[0]


GARBAGE = {
    "too few siblings": lambda choices: choices[:1],
    "no choices": lambda choices: None,
    "a token off the vocabulary": lambda choices: [
        {**c, "token_ids": [99, *c["token_ids"][1:]]} for c in choices
    ],
    "missing logprobs": lambda choices: [{**c, "logprobs": None} for c in choices],
    "short logprobs": lambda choices: [{**c, "logprobs": {"content": [{"logprob": -1.0}]}} for c in choices],
    "a probability above 1": lambda choices: [
        {**c, "logprobs": {"content": [{"logprob": 0.5}] * 5}} for c in choices
    ],
    "not a number": lambda choices: [
        {**c, "logprobs": {"content": [{"logprob": float("nan")}] * 5}} for c in choices
    ],
    "aborted": lambda choices: [
        {**c, "finish_reason": "abort", "token_ids": c["token_ids"][:2]} for c in choices
    ],
    "no version": lambda choices: [{**c, "weight_versions": None} for c in choices],
    "weights of somebody else": lambda choices: [
        {**c, "weight_versions": [{"version": "deadbeef:0", "start": 0, "end": 5}]} for c in choices
    ],
    "the weights it was started with": lambda choices: [
        {**c, "weight_versions": [{"version": "default", "start": 0, "end": 5}]} for c in choices
    ],
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_never_a_completion(one, kind):
    with served(one) as (engine, told, _):
        one.change = lambda number, choices: GARBAGE[kind](choices) if number == 2 else choices
        groups = complete(engine)
        assert len(lasting(told)) == 1
        assert all(p == -1.0 for g in groups for c in g.completions for p in c.logprobs)


def test_always_broken_ends_with_the_cause(one):
    with served(one) as (engine, _, _):
        one.breaks["/inference/v1/generate"] = lambda number, body: 500
        with pytest.raises(EngineError, match=r"failed 3 times, vllm.failures = 2.*broken on purpose"):
            complete(engine)


def test_a_refusal_is_not_asked_again(one):
    with served(one) as (engine, told, _):
        one.breaks["/inference/v1/generate"] = lambda number, body: 400 if body["token_ids"][2] == 3 else None
        with pytest.raises(EngineError, match=r"problem 3.*400"):
            complete(engine)
        assert lasting(told) == []


def test_a_request_that_cannot_be_asked_ends_the_wait(one):
    with served(one) as (engine, told, _):
        long = replace(requests(1)[0], prompt_ids=(1,) * 300)
        with pytest.raises(EngineError, match="do not fit the context of 256"):
            list(engine.generate([long], SAMPLING))
        assert lasting(told) == []
        complete(engine)


@pytest.mark.parametrize(
    "route", ["/pause", "/start_weight_update", "/update_weights", "/finish_weight_update"]
)
@pytest.mark.parametrize("status", [500, "cut"])
def test_a_half_done_sync_is_done_again_before_anything_is_sampled(one, route, status):
    with served(one) as (engine, told, model):
        complete(engine)
        before = times(one, route)
        one.breaks[route] = lambda number, body: status if number == before else None
        engine.load_weights(model, 1)
        groups = complete(engine)
        assert {c.version for g in groups for c in g.completions} == {(1, 1)}
        assert Path(one.loaded).name == "weights.safetensors"
        assert not one.is_paused
        assert len(lasting(told)) == 1


@pytest.mark.parametrize("route", ["/update_weights", "/finish_weight_update", "/update_weight_version"])
def test_a_sync_that_never_succeeds_ends_the_run_and_names_no_version(one, route):
    with served(one) as (engine, _, model):
        label = one.label
        one.breaks[route] = lambda number, body: 500
        with pytest.raises(EngineError, match=r"failed 3 times.*broken on purpose"):
            engine.load_weights(model, 1)
        assert one.label == label
        assert one.is_paused, "what it holds now must not sample"


def test_refused_weights_end_the_run_at_once(one):
    with served(one) as (engine, _, model):
        one.breaks["/update_weights"] = lambda number, body: 422
        with pytest.raises(EngineError, match=r"refuses the weights.*422"):
            engine.load_weights(model, 1)


def test_groups_are_spread_and_no_server_gets_more_than_it_can_decode(two):
    with served(*two, sequences=6) as (engine, _, _):
        complete(engine, 24)
        assert [one.most_sampling for one in two] == [3, 3]
        assert min(times(one, "/inference/v1/generate") for one in two) >= 8


def test_when_one_of_two_dies_the_other_does_its_work(two):
    first, second = two
    with served(*two, sequences=6, start_s=0.5, failures=50) as (engine, told, _):
        first.breaks["/inference/v1/generate"] = lambda number, body: "cut" if number >= 2 else None
        first.breaks["/health"] = lambda number, body: 503
        complete(engine, 24)
        assert times(second, "/inference/v1/generate") >= 21
        assert any(first.url in words for words in lasting(told))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "bfloat16"}, "computes in bfloat16"),
        ({"context": 64}, "context is 64"),
        ({"logprobs_mode": "raw_logprobs"}, "logprobs_mode is raw_logprobs"),
        ({"vocabulary": 5}, "vocabulary is 5"),
    ],
)
def test_a_server_that_does_not_fit_is_refused(one, change, words):
    one.about |= change
    match = rf"{words}.*Start it with: rlvr serve MODEL --dtype float32 --port \d+$"
    with pytest.raises(EngineError, match=match), served(one):
        pass


def test_a_wrong_key_and_a_missing_server_are_named(one):
    with (
        pytest.raises(EngineError, match=r"runs, but its key differs.*vllm.key_file") as raised,
        served(one, key="guess"),
    ):
        pass
    assert "Start it" not in str(raised.value)
    one.url = "http://127.0.0.1:9"
    with pytest.raises(EngineError, match=r"did not answer for 1 s.*rlvr serve MODEL"), served(one):
        pass


def test_a_server_that_is_not_there_is_said_at_once_and_waited_for_as_long_as_asked():
    model, tokenizer = tiny()
    told, begun = [], time.monotonic()
    settings = VllmSettings(dtype="float32", on_gpu=False, context=256, sequences=8)
    fleet = Fleet(urls=["http://127.0.0.1:9"], key=KEY, patience_s=0.3)
    with pytest.raises(EngineError, match=r"Start it with: rlvr serve MODEL --dtype float32 --port 9"):
        VllmServer(model, tokenizer.batch_decode, settings, fleet, tell=lambda words, **_: told.append(words))
    assert time.monotonic() - begun < 5
    assert told == ["waiting for http://127.0.0.1:9 (nothing listens there), up to 0.3 s"]


def test_who_leaves_in_the_middle_aborts_what_he_asked(one):
    with served(one, sequences=4) as (engine, _, _):
        aborts = times(one, "/abort_requests")
        stream = engine.generate(requests(), SAMPLING)
        next(stream)
        stream.close()
        assert times(one, "/abort_requests") == aborts + 1
        complete(engine)


def test_old_weight_files_are_deleted(one):
    with served(one) as (engine, _, model):
        for version in range(1, 4):
            old = one.loaded
            engine.load_weights(model, version)
            assert not Path(old).exists()
            assert Path(one.loaded).exists()
    assert not Path(one.loaded).parents[1].exists()


def test_a_server_that_its_keeper_started_anew_gets_all_weights_again(one):
    """With an adapter the weights below it go over once: but the server may have lost them since."""
    model, tokenizer = tiny()
    adapted = add_lora(model, rank=4, alpha=8.0, targets="all-linear", seed=0)
    one.about["lora_rank"] = 8
    settings = VllmSettings(
        dtype="float32", on_gpu=False, context=256, sequences=8, lora_rank=4, deadline_s=1.0
    )
    engine = VllmServer(adapted, tokenizer.batch_decode, settings, Fleet(urls=[one.url], key=KEY))
    try:
        engine.load_weights(adapted, 1)
        assert times(one, "/update_weights") == 1
        one.label = "default"
        engine.load_weights(adapted, 2)
        assert times(one, "/update_weights") == 2
    finally:
        engine.close()


def test_a_flow_takes_up_what_is_asked_later_and_leaves_others_alone(two):
    """A straggler is on its way on the servers while others are asked for, by itself and beside it."""
    for made in two:
        made.seconds = 0.05
    with served(*two, sequences=4) as (engine, _, model):
        inbox, later = deque(enumerate(requests(3))), deque(enumerate(requests(8)))
        flow, found, beside = engine.flow(inbox, SAMPLING), [], []
        for event in flow:
            found += [] if event is None else [event]
            if not beside:
                beside = complete(engine)
                inbox.extend(number for number in later if number[0] >= 3)
        engine.load_weights(model, 1)
    assert sorted(number for number, _ in found) == list(range(8))
    assert all(group.problem.id == str(number) for number, group in found)
