"""vLLM in this process: what it samples, that it samples with the weights it was given, and its proof.

Loading that goes wrong is in test_weights.py, engines that break are in test_patience.py, and ends of the
trainer in tests/test_keeper.py.
"""

import tempfile

import pytest
import torch

from rlvr.errors import EngineError
from rlvr.policy.model import fingerprint
from rlvr.rollout.proof import prove
from rlvr.types import Sampling
from tests.rollout import vllm_cases as cases
from tests.rollout.asked import LENGTHS, generate, request, requests, said, stops
from tests.rollout.vllm_cases import EXACT, farthest, versions


def test_starting_leaves_the_trainers_process_as_it_was(rack, tied):
    before, after = rack.changes[0]
    assert after == before
    weight = torch.nn.Parameter(torch.ones(3, 3))
    (torch.ones(2, 3) @ weight).sum().backward()
    assert weight.grad is not None


# What it samples


def test_greedy_is_transformers_greedy_token_for_token(tied):
    engine, model, tokenizer = tied
    sampling = Sampling(max_tokens=20, temperature=0, stop_ids=(tokenizer.eos_token_id, 9))
    groups = generate(engine, requests((2,) * len(LENGTHS)), sampling)
    for group in groups:
        expected = cases.greedy(model, group.prompt_ids, sampling)
        assert {c.token_ids for c in group.completions} == {expected}
        assert {p for c in group.completions for p in c.logprobs} == {0.0}
    assert len({g.completions[0].token_ids for g in groups}) > 1


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_logprobs_are_those_of_a_full_forward_pass(tied, temperature):
    engine, model, tokenizer = tied
    sampling = Sampling(max_tokens=24, temperature=temperature, stop_ids=stops(tokenizer))
    groups = generate(engine, requests(), sampling)
    assert sum(len(c.token_ids) for g in groups for c in g.completions) > 100
    assert farthest(model, groups, sampling) < EXACT


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(5, 1.0), (0, 0.8), (10, 0.6), (1, 1.0), (0, 0.01), (1000, 1.0)]
)
def test_truncated_sampling_has_the_renormalised_distribution(tied, top_k, top_p):
    """A token that truncation takes away would be infinitely far."""
    engine, model, tokenizer = tied
    sampling = Sampling(max_tokens=12, temperature=0.9, top_k=top_k, top_p=top_p, stop_ids=stops(tokenizer))
    assert farthest(model, generate(engine, requests(), sampling), sampling) < EXACT


@pytest.mark.parametrize("fault", ["another temperature", "raw log-probabilities"])
def test_the_comparison_finds_another_distribution(monkeypatch, tied, fault):
    """What the tests above would say of an engine that samples, or tells, something else than asked for."""
    from rlvr.rollout import drawn

    engine, model, _ = tied
    true = drawn.parameters
    if fault == "another temperature":
        monkeypatch.setattr(drawn, "parameters", lambda *asked: true(*asked) | {"temperature": 1.0})
    else:
        sampler = cases.worker_of(engine).model_runner.sampler
        for part in (sampler, sampler.topk_topp_sampler):
            monkeypatch.setattr(part, "logprobs_mode", "raw_logprobs")
    sampling = Sampling(max_tokens=12, temperature=0.7)
    assert farthest(model, generate(engine, requests(), sampling), sampling) > 1000 * EXACT


def test_first_tokens_over_4000_siblings_follow_the_softmax(tied):
    engine, model, _ = tied
    asked, sampling = request(4, 12, range(4000)), Sampling(max_tokens=1, temperature=0.7)
    (group,) = generate(engine, [asked], sampling)
    expected = cases.distributions(model, asked.prompt_ids, (0,), sampling)[0].exp() * 4000
    seen = torch.bincount(torch.tensor([c.token_ids[0] for c in group.completions]), minlength=len(expected))
    common = expected >= 5
    assert common.sum() >= 10
    statistic = float(((seen - expected).square() / expected)[common].sum())
    freedom = int(common.sum())
    # Mean df, variance 2 df: five standard deviations.
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5
    assert expected.max() > 3 * expected.mean(), "the distribution is too flat for the test to tell anything"


@pytest.mark.parametrize("order", ["forward", "backward", "odd ones first", "one by one"])
def test_neighbours_and_order_change_nothing(tied, order):
    engine, _, tokenizer = tied
    sampling = Sampling(max_tokens=20, stop_ids=stops(tokenizer))
    asked = requests((3, 1, 8, 2, 5, 3, 1, 4, 2))
    expected = said(generate(engine, asked, sampling))
    rounds = {
        "forward": [asked],
        "backward": [asked[::-1]],
        "odd ones first": [asked[1::2], asked[::2]],
        "one by one": [[one] for one in asked],
    }
    found = {}
    for some in rounds[order]:
        found |= said(generate(engine, some, sampling))
    assert found == expected


def test_other_seeds_say_other_things(tied):
    engine, _, _ = tied
    sampling = Sampling(max_tokens=12)
    (group,) = generate(engine, [request(0, 9, range(64))], sampling)
    (other,) = generate(engine, [request(0, 9, range(500, 564))], sampling)
    assert len({c.token_ids for g in (group, other) for c in g.completions}) == 128
    for seed in (-1, 2**63, 2**64 - 1):
        one = [request(0, 9, [seed])]
        assert said(generate(engine, one, sampling)) == said(generate(engine, one, sampling))


def test_finish_stop_token_and_length(tied):
    engine, _, tokenizer = tied
    sampling = Sampling(max_tokens=20, stop_ids=stops(tokenizer))
    rows = [row for group in said(generate(engine, requests(), sampling)).values() for row in group]
    assert {finish for _, finish, _ in rows} == {"stop", "length"}
    assert len({tokens[-1] for tokens, finish, _ in rows if finish == "stop"}) > 1
    for tokens, finish, text in rows:
        assert (finish == "stop") == (tokens[-1] in sampling.stop_ids)
        assert not set(tokens[:-1]) & set(sampling.stop_ids)
        assert len(tokens) == 20 or (finish == "stop" and len(tokens) < 20)
        assert text == tokenizer.decode(tokens, skip_special_tokens=True)


def test_what_is_no_stop_id_ends_nothing_not_even_the_models_end_token(tied):
    engine, _, tokenizer = tied
    asked, end = [request(i, 5, range(8)) for i in range(4)], tokenizer.eos_token_id
    free = generate(engine, asked, Sampling(max_tokens=150, temperature=1.3))
    assert {len(c.token_ids) for g in free for c in g.completions} == {150}
    assert any(end in c.token_ids for g in free for c in g.completions), "there was something to ignore"
    ended = generate(engine, asked, Sampling(max_tokens=150, temperature=1.3, stop_ids=(end,)))
    assert any(len(c.token_ids) < 150 for g in ended for c in g.completions)


def test_a_stop_in_the_last_place_is_a_stop_and_one_token_may_be_all(tied):
    engine, _, _ = tied
    (group,) = generate(engine, [request(0, 5, [3])], Sampling(max_tokens=6))
    tokens = group.completions[0].token_ids
    assert group.completions[0].finish == "length"
    first = tokens.index(tokens[-1]) + 1
    ends = [(first, tokens[-1:], "stop"), (1, (), "length"), (1, tokens[:1], "stop")]
    for count, stop_ids, finish in ends:
        (group,) = generate(engine, [request(0, 5, [3])], Sampling(max_tokens=count, stop_ids=stop_ids))
        assert (group.completions[0].token_ids, group.completions[0].finish) == (tokens[:count], finish)


def test_siblings_share_the_computation_of_their_prompt(monkeypatch, tied):
    engine, _, _ = tied
    counted = []
    scheduler = engine._llm.llm_engine.engine_core.engine_core.scheduler
    true = scheduler.schedule

    def counting(*given, **named):
        found = true(*given, **named)
        counted.append(found.total_num_scheduled_tokens)
        return found

    monkeypatch.setattr(scheduler, "schedule", counting)
    generate(engine, [request(0, 96, range(8))], Sampling(max_tokens=1))
    # The last block is never cases.taken from the cache: its last token's logits are needed.
    assert 96 <= sum(counted) <= 96 + 7 * 32
    counted.clear()
    generate(engine, [request(0, 96, range(8))], Sampling(max_tokens=1))
    assert sum(counted) <= 8 * 32, "the cache still has it"


def test_groups_come_as_they_finish(tied):
    engine, _, tokenizer = tied
    asked = [request(i, 5, [1, 2]) for i in range(60)]
    order = [i for i, _ in engine.generate(asked, Sampling(max_tokens=40, stop_ids=stops(tokenizer)))]
    assert sorted(order) == list(range(60))
    assert order != sorted(order)
    assert list(engine.generate([], Sampling(max_tokens=3))) == []


@pytest.mark.parametrize("how", ["closed", "forgotten", "raised into"])
def test_an_engine_that_was_abandoned_midway_goes_on(tied, how):
    engine, model, tokenizer = tied
    sampling = Sampling(max_tokens=30, stop_ids=stops(tokenizer))
    expected = said(generate(engine, requests(), sampling))
    before = engine._llm
    stream = engine.generate(requests(), sampling)
    next(stream)
    if how == "closed":
        stream.close()
    elif how == "raised into":
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt)
    del stream
    assert not engine._llm.llm_engine.has_unfinished_requests()
    assert said(generate(engine, requests(), sampling)) == expected
    engine.load_weights(model, 1)
    assert cases.samples_from(engine, model, 1)
    assert engine._llm is before, "without a restart"


@pytest.mark.parametrize(
    ("length", "count"),
    [(cases.CONTEXT, 1), (cases.CONTEXT + 1, 1), (3 * cases.CONTEXT, 1), (cases.CONTEXT - 5, 6)],
)
def test_what_does_not_fit_the_context_is_refused_and_the_engine_goes_on(tied, length, count):
    engine, model, _ = tied
    before = engine._llm
    with pytest.raises(EngineError, match=r"problem 1\b(.*\n)*.*(context|length|long)"):
        list(engine.generate([request(0, 5, [1]), request(1, length, [1])], Sampling(max_tokens=count)))
    assert engine._llm is before, "asking again is no use, and a restart even less"
    assert not engine._llm.llm_engine.has_unfinished_requests()
    fits = Sampling(max_tokens=5)
    assert farthest(model, generate(engine, [request(1, cases.CONTEXT - 5, [1])], fits), fits) < EXACT


# Which weights it samples with


def test_new_weights_are_sampled_from_and_versions_are_stamped(tied):
    engine, model, _ = tied
    greedily = Sampling(max_tokens=8, temperature=0, stop_ids=(9,))
    assert versions(generate(engine, requests(), greedily)) == {(0, 0)}
    generator = torch.Generator().manual_seed(0)
    heard = []
    for version in (1, 2, 7):
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.0 + torch.rand(weight.shape, generator=generator))
        engine.load_weights(model, version)
        assert cases.samples_from(engine, model, version)
        heard.append([g.completions[0].token_ids for g in generate(engine, requests(), greedily)])
        assert heard[-1] == [cases.greedy(model, one.prompt_ids, greedily) for one in requests()]
    assert heard[0] != heard[1] != heard[2]


def test_the_engine_keeps_its_weights_while_the_trainer_changes_its_own(tied):
    engine, model, _ = tied
    kept, _ = cases.small()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5)
    assert cases.samples_from(engine, kept, 0)
    before, addresses = fingerprint(model), [p.data_ptr() for p in model.parameters()]
    engine.load_weights(model, 1)
    assert fingerprint(model) == before
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert cases.samples_from(engine, model, 1)


@pytest.mark.parametrize("kind", cases.MODELS)
def test_the_proof_passes_and_restores_the_weights(rack, kind):
    engine, model, _ = cases.taken(rack, kind)
    before = fingerprint(model)
    proof = prove(engine, model, 5, context=cases.CONTEXT)
    assert proof.max_nats < EXACT
    assert proof.distance_nats > 0.1
    assert fingerprint(model) == before
    assert cases.samples_from(engine, model, 5)


def test_an_adapter_samples_and_scores_with_its_own_weights(rack):
    engine, model, _ = cases.taken(rack, "adapted")
    sampling = Sampling(max_tokens=16)
    heard = []
    for version in (1, 2):
        cases.stir(model, 10 * version)
        engine.load_weights(model, version)
        assert cases.samples_from(engine, model, version)
        heard.append(said(generate(engine, requests(), sampling)))
    assert heard[0] != heard[1]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.zero_()
    engine.load_weights(model, 3)
    assert cases.samples_from(engine, cases.small()[0], 3), "an adapter of zeros does nothing"


def test_more_sequences_than_fit_the_cache_say_the_same(monkeypatch, rack, tied):
    """vLLM then takes running sequences out, and later computes them again."""
    engine, model, _ = tied
    asked = [request(i, 40, range(10 * i, 10 * i + 4)) for i in range(6)]
    sampling = Sampling(max_tokens=100)
    expected = said(generate(engine, asked, sampling))
    cases.clear(rack)
    blocks = 20 * 32 * 2 * 2 * 1 * 32 * 4  # of 32 tokens: keys and values x layers x heads x width x bytes
    engine, _, _ = cases.taken(rack, "tied", kv_cache_bytes=blocks)
    from vllm.v1.core.sched.scheduler import Scheduler

    true, taken_out = Scheduler._preempt_request, []

    def counting(self, *given, **named):
        taken_out.append(given)
        return true(self, *given, **named)

    monkeypatch.setattr(Scheduler, "_preempt_request", counting)
    groups = generate(engine, asked, sampling)
    assert taken_out
    assert said(groups) == expected
    assert farthest(model, groups, sampling) < EXACT
    cases.clear(rack)


@pytest.mark.parametrize("kind", cases.OTHERS)
def test_other_models_prove_themselves_and_leave_nothing_behind(rack, tmp_path, monkeypatch, kind):
    cases.clear(rack)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, (model, tokenizer) = cases.children(), cases.OTHERS[kind]()
    engine = cases.started(model, tokenizer, dtype=str(model.dtype).removeprefix("torch."))
    try:
        assert [path.name.startswith("rlvr-vllm-") for path in tmp_path.iterdir()] == [True]
        assert cases.children() > before
        assert prove(engine, model, 4, context=cases.CONTEXT).mean_nats < (
            0.05 if kind == "bfloat16" else EXACT
        )
        assert versions(generate(engine, requests(), Sampling(max_tokens=3))) == {(4, 4)}
    finally:
        engine.close()
    assert list(tmp_path.iterdir()) == []
    assert cases.children() == before
    engine.close()


def test_what_cannot_start_says_so_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, around = cases.children(), cases.surroundings()
    for more, message in (
        ({"options": {"max_num_batched_tokens": 3}}, "vLLM does not start: max_num_batched_tokens .3. is"),
        ({"options": {"load_format": "auto"}}, "`load_format` is set by rlvr"),
        ({"tensor_parallel": 2}, r"vllm\.tensor_parallel > 1 needs sampling\.engine: vllm_server"),
    ):
        with pytest.raises(EngineError, match=message):
            cases.started(*cases.small(), **more)
        assert list(tmp_path.iterdir()) == []
        assert cases.children() == before
        assert cases.surroundings() == around
