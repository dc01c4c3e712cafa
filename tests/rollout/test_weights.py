"""Weights on their way to an engine: their names, checksums, a change that is taken back, real losses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from rlvr.errors import EngineError
from rlvr.policy.model import fingerprint
from rlvr.rollout.proof import prove
from rlvr.rollout.weights import WORDS, checksum, checksums, has_adapter, named_weights, perturbed
from tests.rollout import vllm_cases as cases
from tests.rollout.vllm_cases import CONTEXT, EXACT, MODELS, PURPOSE, raising, received, samples_from, taken

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8]


@pytest.mark.parametrize("kind", MODELS)
def test_names_and_tensors_are_those_of_a_saved_checkpoint(tmp_path, kind):
    named = dict(named_weights(MODELS[kind]()[0]))
    plain = MODELS["tied" if kind == "adapted" else kind]()[0]
    plain.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert named.keys() == saved.keys()
    assert all(torch.equal(named[name], saved[name]) for name in saved)
    assert ("lm_head.weight" in named) == (kind == "untied")
    assert not any(tensor.requires_grad for tensor in named.values())


def test_an_adapter_is_known_as_such():
    assert [has_adapter(MODELS[kind]()[0]) for kind in ("tied", "untied", "adapted")] == [False, False, True]


def bits(dtype, shape=(5, 7)):
    """Random bit patterns, the rare ones (NaN, subnormal numbers) among them."""
    count = int(np.prod(shape)) * dtype.itemsize
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


def bytes_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_checksum_weighs_the_bits_as_integers_with_row_and_column(dtype):
    tensor = bits(dtype)
    words = bytes_of(tensor).view({1: "u1", 2: "i2", 4: "i4", 8: "i8"}[dtype.itemsize])
    width = tensor.shape[-1]
    weights = [(1 + 2 * (i // width)) + 4 * (i % width) for i in range(words.size)]
    assert checksum(tensor) == sum(w * n for w, n in zip(words.tolist(), weights, strict=True)) % 2**64


def test_turned_signs_and_swapped_rows_change_the_checksum():
    half = torch.cat([torch.ones(3, 4), -torch.ones(3, 4)])  # as many of one sign as of the other
    striped = half * torch.tensor([1, -1, 1, -1])
    assert len({checksum(half), checksum(-half), checksum(striped)}) == 3
    rows = torch.arange(12.0).reshape(3, 4)
    assert checksum(rows) != checksum(rows[[1, 0, 2]])
    assert checksum(rows) != checksum(rows[:, [1, 0, 2, 3]])


@given(st.sampled_from(DTYPES), st.data())
def test_any_bit_flipped_changes_the_checksum(dtype, data):
    tensor = bits(dtype)
    before = checksum(tensor)
    flat = bytes_of(tensor)
    flipped = data.draw(st.sets(st.integers(0, 8 * flat.size - 1), min_size=1, max_size=1), "bits")
    for place in flipped:
        flat[place // 8] ^= 1 << place % 8
    assert checksum(torch.from_numpy(flat).view(dtype).reshape(tensor.shape)) != before


@given(st.integers(0, 34), st.floats(width=32, allow_nan=False))
def test_any_other_number_changes_the_checksum(place, value):
    tensor = torch.arange(35, dtype=torch.float32).reshape(5, 7)
    changed = tensor.clone()
    changed.view(-1)[place] = value
    is_same = bytes_of(changed).tobytes() == bytes_of(tensor).tobytes()
    assert (checksum(changed) == checksum(tensor)) == is_same


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layout_changes_nothing(dtype):
    tensor = bits(dtype, (6, 8))
    wide = bits(dtype, (12, 16))
    wide[::2, 3:11] = tensor
    layouts = {
        "transposed twice": tensor.t().contiguous().t(),
        "strided": wide[::2, 3:11],
        "with one more dimension": tensor.reshape(3, 2, 8),
        "read as integers": tensor.view(WORDS[dtype.itemsize]),
        "at another place in memory": torch.cat([bits(dtype, (1, 8)), tensor])[1:],
    }
    assert not layouts["strided"].is_contiguous()
    assert {name: checksum(one) for name, one in layouts.items()} == dict.fromkeys(layouts, checksum(tensor))


def test_all_checksums_at_once_are_those_of_each():
    tensors = {str(dtype): bits(dtype) for dtype in DTYPES}
    tensors |= {"scalar": torch.tensor(-1.5), "empty": torch.zeros(0, 3), "minus zero": torch.tensor([-0.0])}
    assert checksums(tensors.items()) == {name: checksum(tensor) for name, tensor in tensors.items()}
    assert checksums([]) == {}
    assert checksum(torch.tensor([-0.0])) != checksum(torch.tensor([0.0]))


@torch.no_grad()
def scores(model):
    return model(torch.arange(6, 40)[None], use_cache=False).logits[0].log_softmax(-1)


@pytest.mark.parametrize("kind", MODELS)
def test_a_perturbed_model_says_something_else_and_is_then_what_it_was_to_the_bit(kind):
    model = MODELS[kind]()[0]
    before, said = fingerprint(model), scores(model)
    learns = [p.requires_grad for p in model.parameters()]
    with perturbed(model):
        assert fingerprint(model) != before
        assert float((scores(model) - said).abs().mean()) > 0.1
    assert fingerprint(model) == before
    assert [p.requires_grad for p in model.parameters()] == learns
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_restores_the_weights_too(kind, error):
    model = MODELS[kind]()[0]
    before = fingerprint(model)
    with pytest.raises(error), perturbed(model):
        raise error
    assert fingerprint(model) == before


def test_bfloat16_and_odd_numbers_come_back_to_the_bit():
    model = cases.small()[0].to(torch.bfloat16)
    with torch.no_grad():
        odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-40])
        model.model.embed_tokens.weight[0, : len(odd)] = odd
    before = fingerprint(model)
    with perturbed(model):
        pass
    assert fingerprint(model) == before


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("change", [1, 3])
def test_an_interruption_while_the_weights_are_being_changed_restores_them(monkeypatch, kind, change):
    """A signal may fall between two of them; the run would save what it is left with."""
    model = MODELS[kind]()[0]
    before = fingerprint(model)
    changed = []

    def interrupted(method):
        def call(tensor, *rest):
            changed.append(tensor)
            if len(changed) == change + 1:
                raise KeyboardInterrupt
            return method(tensor, *rest)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "neg_", interrupted(torch.Tensor.neg_))
        patch.setattr(torch.Tensor, "copy_", interrupted(torch.Tensor.copy_))
        with pytest.raises(KeyboardInterrupt), perturbed(model):
            pass
    assert len(changed) > change
    assert fingerprint(model) == before


# Weights on their way into a real vLLM: whatever is done to them, it never says a wrong version.


def head_keeps_its_packed_weights(patch, engine):
    from rlvr.rollout import vllm_worker

    patch.setattr(vllm_worker, "repack_tied_head", lambda model: None)


def cache_is_not_reset(patch, engine):
    patch.setattr(engine._llm, "reset_prefix_cache", lambda: True)


def nothing_is_received(patch, engine):
    """And all said to be well."""
    from rlvr.rollout.vllm_worker import Receiver

    for name in ("start_weight_update", "receive_weights", "finish_weight_update"):
        patch.setattr(Receiver, name, lambda *_: None)


def adapter_is_not_replaced(patch, engine):
    true = engine._adapter
    patch.setattr(engine, "_adapter", lambda in_place=False: true())


def versions_stay(patch, engine):
    true, label = engine._llm.update_weight_version, f"{engine._run}:5"
    patch.setattr(engine._llm, "update_weight_version", lambda _: true(label))


NOT_TAKEN, OLD = "changed weights.*new ones were not taken", "changed weights.*cached prefixes are old"
FOUND_BY_THE_PROOF = [
    ("tied", head_keeps_its_packed_weights, "does not sample with"),
    ("tied", cache_is_not_reset, OLD),
    ("tied", nothing_is_received, NOT_TAKEN),
    ("tied", versions_stay, r"weight versions \[\(5, 5\)\] instead of -1"),
    ("untied", nothing_is_received, NOT_TAKEN),
    ("adapted", adapter_is_not_replaced, NOT_TAKEN),
    ("adapted", cache_is_not_reset, OLD),
]


@pytest.mark.parametrize(("kind", "breaks", "message"), FOUND_BY_THE_PROOF)
def test_the_proof_finds(monkeypatch, rack, kind, breaks, message):
    engine, model, _ = taken(rack, kind)
    before = fingerprint(model)
    with monkeypatch.context() as patch:
        breaks(patch, engine)
        with pytest.raises(EngineError, match=f"vllm_local.*{message}"):
            prove(engine, model, 5, context=CONTEXT)
    assert fingerprint(model) == before
    assert prove(engine, model, 6, context=CONTEXT).max_nats < EXACT, "it was nothing but that"


def sent(patch, change):
    """Have the trainer's weights changed before they are announced."""
    from rlvr.rollout import vllm_local

    patch.setattr(vllm_local, "named_weights", lambda model: change(named_weights(model)))


NAME = "model.layers.1.mlp.gate_proj.weight"


def without(named):
    return ((name, tensor) for name, tensor in named if name != NAME)


def twice(named):
    return (pair for pair in named for _ in range(2 if pair[0] == NAME else 1))


def renamed(named):
    return ((name.replace("gate_proj", "gate"), tensor) for name, tensor in named)


def made(change):
    return lambda named: ((name, change(tensor) if name == NAME else tensor) for name, tensor in named)


def at_the_end(patch, _):
    from rlvr.rollout import vllm_worker

    def broken(*_):
        raise RuntimeError(PURPOSE)

    patch.setattr(vllm_worker, "finalize_layerwise_reload", broken)


def unforgettable(patch, _):
    from vllm import LLM

    patch.setattr(LLM, "reset_prefix_cache", lambda *_: False)


CHANGED = f"{NAME} did not arrive as it was sent"
FOUND_BY_LOADING = {
    "a tensor that is not sent": (sent, without, "not loaded"),
    "a tensor of a name that the model has not": (sent, renamed, "gate"),
    "a tensor of another shape": (sent, made(lambda t: t[:, :-1].clone()), r"\w"),
    "a tensor lost on the way": (received, without, f"1 weights did not arrive: {NAME}"),
    "a tensor that comes twice": (received, twice, f"{NAME} was not announced"),
    "a tensor changed on the way": (received, made(lambda t: t.nextafter(t + 1)), CHANGED),
    "a tensor rounded on the way": (received, made(lambda t: t.bfloat16()), CHANGED),
    "an error between queries and keys": (received, raising(2, ValueError(PURPOSE)), PURPOSE),
    "an error of the disk": (received, raising(9, OSError(PURPOSE)), PURPOSE),
    "an error of another type": (received, raising(9, AttributeError(PURPOSE)), PURPOSE),
    "an error while packing": (at_the_end, None, PURPOSE),
    "cached prefixes that cannot be forgotten": (unforgettable, None, "cached prefixes of the old weights"),
}


def fails_to_load(patch, engine, model, fault):
    """Other weights, which the engine refuses as version 1."""
    where, change, message = FOUND_BY_LOADING[fault]
    model.model.norm.weight.data.neg_()
    with patch.context() as broken:
        where(broken, change)
        with pytest.raises(EngineError, match=f"did not take the weights of version 1: (.*\n)*.*{message}"):
            engine.load_weights(model, 1)


@pytest.mark.parametrize("fault", FOUND_BY_LOADING)
def test_loading_finds_and_the_next_weights_are_taken(monkeypatch, tied, fault):
    engine, model, _ = tied
    fails_to_load(monkeypatch, engine, model, fault)
    engine.load_weights(model, 2)
    assert samples_from(engine, model, 2)


@pytest.mark.parametrize("fault", ["an error between queries and keys", "an error while packing"])
def test_an_engine_that_failed_to_load_says_no_wrong_version(monkeypatch, tied, fault):
    """It may sample the right weights of that version, started anew; half of them never."""
    engine, model, _ = tied
    fails_to_load(monkeypatch, engine, model, fault)
    assert samples_from(engine, model, 1)


def test_an_interruption_while_loading_is_passed_on(monkeypatch, tied):
    engine, model, _ = tied
    model.model.norm.weight.data.neg_()
    with monkeypatch.context() as patch:
        received(patch, raising(3, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            engine.load_weights(model, 1)
    assert samples_from(engine, model, 1)


def test_an_adapter_that_cannot_be_saved_is_not_taken(monkeypatch, rack):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    engine, model, _ = taken(rack, "adapted")
    cases.stir(model, 5)
    with monkeypatch.context() as patch:
        patch.setattr(model, "save_pretrained", full)
        with pytest.raises(EngineError, match=r"did not take the weights of version 1: .*No space left"):
            engine.load_weights(model, 1)
    engine.load_weights(model, 2)
    assert samples_from(engine, model, 2)
