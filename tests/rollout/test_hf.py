"""The hf engine against plain forward passes of the same model, and its independence of batch composition."""

import math
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rlvr.errors import EngineError
from rlvr.policy.logprobs import completion_logprobs
from rlvr.policy.model import add_lora
from rlvr.types import Problem, Request, Sampling
from tests.rollout.asked import LENGTHS, generate, request, requests, said, stops
from tests.tiny import engine_of, tiny


def shapes():
    for kv_heads in (1, 2, 4):
        yield pytest.param({"heads": 4, "kv_heads": kv_heads}, id=f"4 heads, {kv_heads} for keys")


@pytest.mark.parametrize("sizes", shapes())
def test_greedy_is_transformers_greedy_token_for_token(sizes):
    model, tokenizer = tiny(**sizes)
    sampling = Sampling(max_tokens=20, temperature=0, stop_ids=(tokenizer.eos_token_id, 9))
    groups = generate(engine_of(model, tokenizer), requests((1,) * len(LENGTHS)), sampling)
    for group in groups:
        expected = model.generate(
            torch.tensor([group.prompt_ids]),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=list(sampling.stop_ids),
            pad_token_id=tokenizer.pad_token_id,
        )[0, len(group.prompt_ids) :]
        assert group.completions[0].token_ids == tuple(expected.tolist())
        assert set(group.completions[0].logprobs) == {0.0}
    assert len({g.completions[0].token_ids for g in groups}) > 1


def check_logprobs(model, groups, temperature):
    rows = [(g.prompt_ids, c) for g in groups for c in g.completions]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(p + c.token_ids) for p, c in rows], batch_first=True, padding_value=11
    )
    prompts, lengths = (
        torch.tensor(x) for x in zip(*((len(p), len(p + c.token_ids)) for p, c in rows), strict=True)
    )
    columns = int((lengths - prompts).max())
    with torch.no_grad():
        expected = completion_logprobs(
            model, ids, prompts, lengths, temperature=temperature, columns=columns
        ).logprobs
    for row, (_, completion) in zip(expected, rows, strict=True):
        assert len(completion.logprobs) == len(completion.token_ids)
        torch.testing.assert_close(
            torch.tensor(completion.logprobs), row[: len(completion.token_ids)], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("sizes", shapes())
def test_logprobs_are_those_of_a_full_forward_pass(sizes, temperature):
    model, tokenizer = tiny(**sizes)
    sampling = Sampling(max_tokens=24, temperature=temperature, stop_ids=stops(tokenizer))
    check_logprobs(model, generate(engine_of(model, tokenizer, slots=7), requests(), sampling), temperature)


def test_an_adapter_samples_and_scores_with_its_own_weights(story):
    model, tokenizer = story
    sampling = Sampling(max_tokens=16, stop_ids=stops(tokenizer))
    before = generate(engine_of(model, tokenizer), requests(), sampling)
    adapted = add_lora(model, rank=4, alpha=8.0, targets="all-linear", seed=0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # zero at first: an adapter that does nothing would prove nothing
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    groups = generate(engine_of(adapted, tokenizer), requests(), sampling)
    assert said(groups) != said(before)
    check_logprobs(adapted, groups, 1.0)


def truncated(logits, temperature, top_k, top_p):
    """Probability of each kept token, in plain Python: the k likeliest, then the least set of mass top_p."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    kept = sorted(range(len(logits)), key=lambda token: -weights[token])[: top_k or None]
    mass = sum(weights[token] for token in kept)
    reached = accumulate(weights[token] / mass for token in kept)
    enough = next((i for i, share in enumerate(reached) if share >= top_p), len(kept) - 1)
    kept = kept[: enough + 1]
    mass = sum(weights[token] for token in kept)
    return {token: weights[token] / mass for token in kept}


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(5, 1.0), (0, 0.8), (10, 0.6), (1, 1.0), (0, 0.01), (1000, 1.0)]
)
def test_truncated_sampling_has_the_renormalised_distribution(story, top_k, top_p):
    model, tokenizer = story
    sampling = Sampling(max_tokens=12, temperature=0.9, top_k=top_k, top_p=top_p, stop_ids=stops(tokenizer))
    for group in generate(engine_of(model, tokenizer), requests()[:4], sampling):
        for completion in group.completions:
            with torch.no_grad():
                logits = model(torch.tensor([group.prompt_ids + completion.token_ids])).logits[0].tolist()
            for place, (token, logprob) in enumerate(
                zip(completion.token_ids, completion.logprobs, strict=True)
            ):
                allowed = truncated(logits[len(group.prompt_ids) - 1 + place], 0.9, top_k, top_p)
                assert token in allowed
                assert logprob == pytest.approx(math.log(allowed[token]), abs=1e-5)


@pytest.fixture(scope="module")
def alone():
    """What each request says when it is asked all by itself: the measure for every other composition."""
    model, tokenizer = tiny()
    sampling = Sampling(max_tokens=20, stop_ids=stops(tokenizer))
    sizes = (3, 1, 8, 2, 5, 3, 1, 4, 2)
    engine = engine_of(model, tokenizer)
    asked = requests(sizes)
    found: dict[str, object] = {}
    for one in asked:
        found |= said(generate(engine, [one], sampling))
    return model, tokenizer, sampling, asked, found


@pytest.mark.parametrize("slots", [1, 9, 24, 512])
@pytest.mark.parametrize("order", ["forward", "backward", "odd ones first"])
def test_neighbours_order_and_slots_change_nothing(alone, slots, order):
    model, tokenizer, sampling, asked, found = alone
    arranged = {"forward": asked, "backward": asked[::-1], "odd ones first": asked[1::2] + asked[::2]}[order]
    assert said(generate(engine_of(model, tokenizer, slots=slots), arranged, sampling)) == found


def test_siblings_change_nothing(alone):
    model, tokenizer, sampling, asked, found = alone
    for one in asked:
        for place, seed in enumerate(one.seeds):
            single = Request(problem=one.problem, prompt_ids=one.prompt_ids, seeds=(seed,))
            (group,) = generate(engine_of(model, tokenizer), [single], sampling)
            assert said([group])[one.problem.id] == found[one.problem.id][place : place + 1]


def test_longer_neighbours_leave_the_logprobs_alone(alone):
    """Left padding: a short prompt beside one of 90 tokens keeps its positions and sees no padding."""
    model, tokenizer, sampling, asked, _ = alone
    engine = engine_of(model, tokenizer)
    together = generate(engine, asked, sampling)
    for one, group in zip(asked, together, strict=True):
        (lonely,) = generate(engine, [one], sampling)
        for a, b in zip(group.completions, lonely.completions, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_finish_stop_token_and_length(alone):
    _, tokenizer, sampling, _, found = alone
    rows = [row for group in found.values() for row in group]
    assert {finish for _, finish, _ in rows} == {"stop", "length"}
    for tokens, finish, text in rows:
        assert (finish == "stop") == (tokens[-1] in sampling.stop_ids)
        assert not set(tokens[:-1]) & set(sampling.stop_ids)
        assert (
            len(tokens) == sampling.max_tokens if finish == "length" else len(tokens) <= sampling.max_tokens
        )
        assert text == tokenizer.decode(tokens, skip_special_tokens=True)


def test_a_stop_in_the_last_place_is_a_stop(story):
    model, tokenizer = story
    free = Sampling(max_tokens=6)
    (group,) = generate(engine_of(model, tokenizer), [request(0, 5, [3])], free)
    tokens = group.completions[0].token_ids
    assert group.completions[0].finish == "length"
    first = tokens.index(tokens[-1])
    ended = Sampling(max_tokens=first + 1, stop_ids=(tokens[-1],))
    (group,) = generate(engine_of(model, tokenizer), [request(0, 5, [3])], ended)
    assert (group.completions[0].token_ids, group.completions[0].finish) == (tokens[: first + 1], "stop")


def test_other_seeds_say_other_things(story):
    model, tokenizer = story
    (group,) = generate(engine_of(model, tokenizer), [request(0, 9, range(64))], Sampling(max_tokens=12))
    assert len({c.token_ids for c in group.completions}) == 64
    low, high = (request(0, 9, [seed]) for seed in (-1, 2**64 - 1))
    engine = engine_of(model, tokenizer)
    assert said(generate(engine, [low], Sampling(max_tokens=5))) == said(
        generate(engine, [high], Sampling(max_tokens=5))
    )


def test_first_tokens_over_4000_seeds_follow_the_softmax(story):
    model, tokenizer = story
    asked = request(4, 12, (seed * 2654435761 for seed in range(4000)))
    (group,) = generate(engine_of(model, tokenizer), [asked], Sampling(max_tokens=1, temperature=0.7))
    with torch.no_grad():
        logits = model(torch.tensor([asked.prompt_ids])).logits[0, -1]
    expected = (logits / 0.7).softmax(-1) * 4000
    seen = torch.bincount(torch.tensor([c.token_ids[0] for c in group.completions]), minlength=len(expected))
    common = expected >= 5
    assert common.sum() >= 10
    cells = [(expected[common], seen[common]), (expected[~common].sum()[None], seen[~common].sum()[None])]
    statistic = sum(float(((o - e).square() / e).sum()) for e, o in cells if float(e.sum()) > 0)
    freedom = int(common.sum())
    # Mean df, variance 2 df: five standard deviations.
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)
    assert expected.max() > 3 * expected.mean(), "the distribution is too flat for the test to tell anything"


def test_versions_are_stamped_and_weights_are_read_live(story):
    model, tokenizer = story
    engine = engine_of(model, tokenizer, version=3)
    sampling = Sampling(max_tokens=8)
    before = generate(engine, [request(0, 9, [1, 2])], sampling)
    assert {c.version for c in before[0].completions} == {(3, 3)}
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.neg_()
    engine.load_weights(model, 4)
    after = generate(engine, [request(0, 9, [1, 2])], sampling)
    assert {c.version for c in after[0].completions} == {(4, 4)}
    assert said(after) != said(before)


@pytest.mark.parametrize("was_training", [True, False])
def test_the_training_mode_comes_back_however_the_block_ends(story, was_training):
    model, tokenizer = story
    model.train(was_training)
    attention = model.config._attn_implementation
    engine = engine_of(model, tokenizer, slots=3)
    stream = engine.generate(requests(), Sampling(max_tokens=8))
    next(stream)
    assert model.training is was_training, "between two groups it is the caller's"
    stream.close()
    assert model.training is was_training
    generate(engine, requests(), Sampling(max_tokens=3))
    assert model.training is was_training
    assert model.config._attn_implementation == attention
    assert not torch.is_inference_mode_enabled()


def test_no_requests_no_groups(story):
    assert list(engine_of(*story).generate([], Sampling(max_tokens=3))) == []


def test_sliding_windows_are_refused(story):
    _, tokenizer = story
    config = Qwen3Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=32, use_sliding_window=True, sliding_window=8, max_window_layers=1,
    )  # fmt: skip
    assert "sliding_attention" in config.layer_types
    with pytest.raises(EngineError, match="sliding-window"):
        engine_of(Qwen3ForCausalLM(config), tokenizer)


def begun(asked, lengths):
    """Requests whose prompts are the beginnings of others, in between them."""
    problem = Problem(id="", messages=asked[0].problem.messages, answer=0)
    return [
        Request(
            problem=replace(problem, id=f"{one.problem.id} to {length}"),
            prompt_ids=one.prompt_ids[:length],
            seeds=(7, 8 + length),
        )
        for one in asked
        for length in lengths
        if length <= len(one.prompt_ids)
    ]


@pytest.mark.parametrize("slots", [8, 512])
def test_a_prompt_that_begins_another_is_not_run_again_and_says_the_same(alone, slots):
    model, tokenizer, sampling, asked, _ = alone
    lengths: list[int] = []
    forward = model.forward

    def counting(*arguments, **named):
        lengths.append(named["input_ids"].shape[0] * (named["input_ids"].shape[1] > 1))
        return forward(*arguments, **named)

    prefixes = begun(asked, (1, 2, 30, 33, 89))
    expected = {}
    for one in prefixes:
        expected |= said(generate(engine_of(model, tokenizer), [one], sampling))
    model.forward = counting
    mixed = [*prefixes[::2], *asked, *prefixes[1::2]]
    groups = generate(engine_of(model, tokenizer, slots=slots), mixed, sampling)
    model.forward = forward
    assert {name: row for name, row in said(groups).items() if " to " in name} == expected
    check_logprobs(model, groups, 1.0)
    if slots == 512:
        twice = sum(length == len(one.prompt_ids) for one in asked for length in (1, 2, 30, 33, 89))
        assert sum(lengths) == len(asked) + twice, "a prefix was run again"


def test_a_request_may_have_a_lower_limit_of_its_own(alone):
    model, tokenizer, sampling, asked, found = alone
    cut = [replace(one, max_tokens=1 + 3 * i) for i, one in enumerate(asked)]
    for one, group in zip(cut, generate(engine_of(model, tokenizer, slots=9), cut, sampling), strict=True):
        for completion, (whole, finish, _) in zip(group.completions, found[one.problem.id], strict=True):
            assert completion.token_ids == whole[: one.max_tokens]
            assert completion.finish == (finish if len(whole) <= one.max_tokens else "length")


def test_an_error_is_raised_and_the_engine_goes_on_as_before(story):
    model, tokenizer = story
    asked = [request(i, 5, range(100 * i, 100 * i + 8)) for i in range(48)]
    engine = engine_of(model, tokenizer)
    once = generate(engine, asked, Sampling(max_tokens=3))
    with pytest.raises(EngineError, match="not finite"):
        list(engine.generate(asked, Sampling(max_tokens=3, temperature=1e-45)))
    assert generate(engine, asked, Sampling(max_tokens=3)) == once


def test_a_frozen_head_is_not_copied_for_each_prompt():
    """In bfloat16 on a CPU matmul would do so, were the states that it reads a slice of others."""
    model, tokenizer = tiny()
    model.resize_token_embeddings(8192)
    model = model.to(torch.bfloat16).requires_grad_(False)
    engine = engine_of(model, tokenizer)
    sampling = Sampling(max_tokens=1, stop_ids=())
    asked = requests((1,) * len(LENGTHS))
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        generate(engine, asked, sampling)
    events = seen.profiler.kineto_results.events()
    largest = max(event.nbytes() for event in events if event.name() == "[memory]")
    assert largest < 2 * model.lm_head.weight.nbytes
