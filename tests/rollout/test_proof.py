"""The proof that an engine samples with the weights it was given: engines that lie are found out.

Here with the hf engine, which is right, and with engines made from it that go wrong in one way each.
"""

import copy
from dataclasses import replace

import pytest
import torch

from rlvr.errors import EngineError
from rlvr.policy.model import add_lora, fingerprint
from rlvr.rollout.hf import HfEngine
from rlvr.rollout.proof import EXACT_NATS as LIMITS
from rlvr.rollout.proof import PROMPT_TOKENS, SIBLINGS, TOKENS, TRIAL, prove
from rlvr.types import Sampling
from tests.rollout.asked import request
from tests.rollout.vllm_cases import decoder, small, untied

EXACT_NATS = LIMITS["cpu"]

CONTEXT = 256


def adapted(seed=0):
    return add_lora(small(seed)[0], rank=4, alpha=8.0, targets="all-linear", seed=seed)


def fresh():
    """Nearly as when a run makes its own model: the layers say little yet."""
    model, _ = small()
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            if weight.ndim == 2:
                weight.mul_(0.3)
    return model


MODELS = {
    "tied": lambda: small()[0],
    "untied": lambda: untied()[0],
    "adapted": adapted,
    "fresh": fresh,
    "bfloat16": lambda: small()[0].to(torch.bfloat16),
}


def engine_of(model):
    tokenizer = small()[1]
    return HfEngine(model, decoder(tokenizer), pad_id=tokenizer.pad_token_id, slots=8)


class Copies:
    """An engine with weights of its own, as vLLM is one; `takes` decides what it takes of those it is given.

    `takes(kept, given)`: two models, the one it samples with and the trainer's.  `tells(group, number)`: what
    it makes of a group before it hands it out, and how often it was loaded by then.
    """

    name = "copies"

    def __init__(self, model, takes, tells=None):
        self.kept, self.takes, self.tells, self.loads = copy.deepcopy(model), takes, tells, 0
        self.engine = engine_of(self.kept)

    def load_weights(self, model, version):
        self.loads += 1
        with torch.no_grad():
            self.takes(self.kept, model)
        self.engine.load_weights(self.kept, version)

    def generate(self, requests, sampling):
        for index, group in self.engine.generate(requests, sampling):
            yield index, group if self.tells is None else self.tells(group, self.loads)

    def rest(self):
        pass

    def close(self):
        pass


def takes_all(kept, given):
    kept.load_state_dict(given.state_dict())


def told(group, change):
    """The group with another field in every completion."""
    return replace(group, completions=tuple(replace(c, **change(c)) for c in group.completions))


@pytest.mark.parametrize("kind", MODELS)
def test_an_engine_that_takes_the_weights_passes(kind):
    model = MODELS[kind]()
    before = fingerprint(model)
    for engine in (engine_of(model), Copies(model, takes_all)):
        proof = prove(engine, model, 5, context=CONTEXT)
        assert 0 <= proof.mean_nats <= proof.max_nats
        assert proof.mean_nats < (0.05 if kind == "bfloat16" else 1e-5)
        assert proof.distance_nats > 100 * EXACT_NATS or kind == "bfloat16"
        assert fingerprint(model) == before
        (_, group), *_ = engine.generate([request(0, 9, [1, 2])], Sampling(max_tokens=2))
        assert {c.version for c in group.completions} == {(5, 5)}, "it is left with the true weights"


def test_it_asks_a_group_for_more_than_two_blocks_of_cache():
    asked = []

    class Hears(Copies):
        def generate(self, requests, sampling):
            asked.extend(requests)
            return super().generate(requests, sampling)

    model = MODELS["tied"]()
    prove(Hears(model, takes_all), model, 0, context=CONTEXT)
    assert len(asked) == 3
    assert {(len(r.prompt_ids), len(r.seeds)) for r in asked} == {(PROMPT_TOKENS, SIBLINGS)}
    assert len({r.prompt_ids for r in asked}) == 1, "what is cached of the one must be in the way of the next"


@pytest.mark.parametrize("context", [1 + TOKENS, 40])
def test_a_short_context_is_no_obstacle(context):
    model = MODELS["tied"]()
    prove(engine_of(model), model, 0, context=context)


def first_time_only(kept, given):
    """The very first weights; none of those that come later."""
    if not getattr(kept, "was_loaded", False):
        takes_all(kept, given)
    kept.was_loaded = True


def but(*names):
    """Takes every weight but these, which it takes once and keeps: a packed copy, a layer overlooked."""

    def takes(kept, given):
        state = given.state_dict()
        if getattr(kept, "was_loaded", False):
            state = {name: tensor for name, tensor in state.items() if name not in names}
        kept.load_state_dict(state, strict=False)
        kept.was_loaded = True

    return takes


STALE = "the new ones were not taken"
MIXED = "Some of its weights or cached prefixes are old"
TAKES = {
    "the starting weights not taken": (lambda kept, _: _shuffle(kept), "with the starting weights"),
    "none taken later": (first_time_only, f"with changed weights.*{STALE}"),
    "the embeddings kept": (but("model.embed_tokens.weight", "lm_head.weight"), "with changed weights"),
    "the last norm kept": (but("model.norm.weight"), "with changed weights"),
    "one layer kept": (but("model.layers.1.mlp.down_proj.weight"), "with changed weights"),
}


def _shuffle(kept):
    takes_all(kept, small(seed=99)[0])


@pytest.mark.parametrize("name", TAKES)
def test_weights_that_were_not_taken(name):
    takes, message = TAKES[name]
    model = MODELS["tied"]()
    before = fingerprint(model)
    with pytest.raises(EngineError, match=f"copies does not sample {message}"):
        prove(Copies(model, takes), model, 5, context=CONTEXT)
    assert fingerprint(model) == before


def test_an_untied_head_that_was_not_taken():
    model = MODELS["untied"]()
    with pytest.raises(EngineError, match=f"does not sample with changed weights.*{MIXED}"):
        prove(Copies(model, but("lm_head.weight")), model, 5, context=CONTEXT)


def names_of(model):
    return [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("name", [name for name in names_of(small()[0]) if "layers.1" not in name])
@pytest.mark.parametrize("kind", ["tied", "fresh"])
def test_every_single_weight_that_was_kept_is_missed(kind, name):
    """In float32 engine and trainer differ by rounding alone: a weight that says little is found, too."""
    model = MODELS[kind]()
    kept = {name, "lm_head.weight"} if name == "model.embed_tokens.weight" else {name}
    with pytest.raises(EngineError, match="does not sample with changed weights"):
        prove(Copies(model, but(*kept)), model, 5, context=CONTEXT)


def test_an_adapter_that_was_not_replaced():
    model = MODELS["adapted"]()
    before = fingerprint(model)
    with pytest.raises(EngineError, match=f"does not sample with changed weights.*{STALE}"):
        prove(Copies(model, first_time_only), model, 5, context=CONTEXT)
    assert fingerprint(model) == before


def test_an_adapter_of_which_a_part_was_not_replaced():
    model = MODELS["adapted"]()
    part = next(name for name in names_of(model) if "layers.0.mlp.up_proj.lora_B" in name)
    with pytest.raises(EngineError, match="does not sample with changed weights"):
        prove(Copies(model, but(part)), model, 5, context=CONTEXT)


def test_an_adapter_served_without_its_scale():
    def takes(kept, given):
        takes_all(kept, given)
        for module in kept.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling = dict.fromkeys(module.scaling, 1.0)

    model = MODELS["adapted"]()
    with pytest.raises(EngineError, match="does not sample with changed weights"):
        prove(Copies(model, takes), model, 5, context=CONTEXT)


def test_weights_that_are_not_changed_back():
    takes_twice = []

    def takes(kept, given):
        if len(takes_twice) < 2:
            takes_all(kept, given)
        takes_twice.append(given)

    model = MODELS["tied"]()
    with pytest.raises(EngineError, match="does not sample with the weights changed back"):
        prove(Copies(model, takes), model, 5, context=CONTEXT)


def shifted(nats):
    def tells(group, _):
        return told(group, lambda c: {"logprobs": tuple(p - nats for p in c.logprobs)})

    return tells


def noisy(nats):
    generator = torch.Generator().manual_seed(0)

    def noise(c):
        drawn = nats * torch.randn(len(c.logprobs), generator=generator)
        return {"logprobs": tuple((torch.tensor(c.logprobs) + drawn).tolist())}

    return lambda group, _: told(group, noise)


def of_a_stale_prefix(group, loads):
    """The first sibling's log-probabilities are right, not those of the others: their prefix is old."""
    first, *others = group.completions
    wrong = [replace(c, logprobs=tuple(p - 1.0 for p in c.logprobs)) for c in others] if loads > 1 else others
    return replace(group, completions=(first, *wrong))


TELLS = {
    "a nat off": (shifted(1.0), "with the starting weights"),
    "a twentieth of a nat off": (shifted(0.05), "with the starting weights"),
    "more than rounding": (shifted(3 * EXACT_NATS), "with the starting weights"),
    "noisy": (noisy(1.0), "with the starting weights"),
    "a little noisy": (noisy(0.05), "with the starting weights"),
    "not a number": (shifted(float("nan")), "with the starting weights"),
    "a stale prefix": (of_a_stale_prefix, "with changed weights"),
}


@pytest.mark.parametrize("name", TELLS)
def test_logprobs_that_are_not_those_it_drew_with(name):
    tells, message = TELLS[name]
    model = MODELS["tied"]()
    before = fingerprint(model)
    with pytest.raises(EngineError, match=f"copies does not sample {message}"):
        prove(Copies(model, takes_all, tells), model, 5, context=CONTEXT)
    assert fingerprint(model) == before


def test_rounding_is_allowed():
    model = MODELS["tied"]()
    proof = prove(Copies(model, takes_all, shifted(EXACT_NATS / 10)), model, 5, context=CONTEXT)
    assert proof.mean_nats == pytest.approx(EXACT_NATS / 10, abs=1e-5)


def test_bfloat16_may_differ_by_more_than_float32():
    model = MODELS["bfloat16"]()
    prove(Copies(model, takes_all, noisy(0.03)), model, 5, context=CONTEXT)
    with pytest.raises(EngineError, match="does not sample with changed weights"):
        prove(Copies(model, first_time_only), model, 5, context=CONTEXT)


VERSIONS = {
    "always the first": lambda c, loads: (5, 5),
    "of another version in part": lambda c, loads: (c.version[0] - 1, c.version[1]),
    "late": lambda c, loads: c.version if loads == 1 else (c.version[0] + 1, c.version[1]),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_wrong_version(name):
    def tells(group, loads):
        return told(group, lambda c: {"version": VERSIONS[name](c, loads)})

    model = MODELS["tied"]()
    before = fingerprint(model)
    with pytest.raises(EngineError, match=r"copies: sampled with weight versions .* instead of (5|-1)"):
        prove(Copies(model, takes_all, tells), model, 5, context=CONTEXT)
    assert fingerprint(model) == before


@pytest.mark.parametrize("error", [EngineError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["load_weights", "generate"])
def test_whatever_happens_during_the_trial_the_weights_come_back(monkeypatch, when, error):
    model = MODELS["tied"]()
    before = fingerprint(model)
    engine = engine_of(model)
    true = getattr(engine, when)

    def broken(*given):
        if fingerprint(model) != before:
            raise error("in the middle")
        return true(*given)

    monkeypatch.setattr(engine, when, broken)
    with pytest.raises(error, match="in the middle"):
        prove(engine, model, 5, context=CONTEXT)
    assert fingerprint(model) == before


def test_the_trials_version_is_none_that_a_run_has():
    assert TRIAL < 0
