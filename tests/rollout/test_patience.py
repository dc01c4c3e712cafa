"""Waiting with a deadline, and starting anew: hung code is interrupted, a broken vLLM is replaced."""

import io
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlvr.errors import EngineError
from rlvr.rollout import patience as room
from rlvr.rollout.patience import HungError, patience
from rlvr.types import Sampling
from tests.checkout import ROOT
from tests.rollout import vllm_cases as cases
from tests.rollout.asked import generate, requests, said, stops
from tests.rollout.vllm_cases import PURPOSE, hurry, samples_from, taken

DEADLINE_S = 1.0


def listener():
    """(words heard, something that hears them)."""
    heard = []

    def tell(words, *, lasting=False):
        heard.append((words, lasting))

    return heard, tell


def wait(seconds):
    """Python code that comes to no end by itself, as far as a test is concerned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def alarm(monkeypatch):
    """The process's own handler, which must be there again after each test, with no timer running."""
    monkeypatch.setattr(room, "LAST_RESORT", 100.0)  # it would end the tests on a machine that is very busy

    def mine(*_):
        raise AssertionError("an alarm was heard after patience ended")

    before = signal.signal(signal.SIGALRM, mine)
    yield mine
    after, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    signal.signal(signal.SIGALRM, before)
    assert after is mine
    assert timer == (0.0, 0.0)


@pytest.mark.parametrize("hang", [wait, time.sleep], ids=["in Python", "in a system call"])
def test_hung_code_is_interrupted_and_told_before(hang):
    heard, tell = listener()
    begun = time.monotonic()
    with (
        pytest.raises(HungError, match=r"sampling: no sign of life for [\d.]+ s"),
        patience("sampling", DEADLINE_S, tell) as watched,
        watched,
    ):
        hang(60)
    assert DEADLINE_S <= time.monotonic() - begun < 30
    assert heard
    assert set(heard) == {("waiting for vllm, sampling: no sign of life (deadline 1 s)", False)}


def test_code_that_swallows_the_interruption_is_interrupted_again():
    def stubborn():
        for _ in range(2):
            try:
                wait(60)
            except Exception:  # noqa: BLE001 - as a library may
                continue
        wait(60)

    with pytest.raises(HungError), patience("sampling", 0.6, listener()[1]) as watched, watched:
        stubborn()


def test_every_watched_block_has_the_whole_deadline():
    heard, tell = listener()
    with patience("sampling", DEADLINE_S, tell) as watched:
        for _ in range(5):
            with watched:
                wait(0.3 * DEADLINE_S)
    assert not heard


def test_the_consumers_own_time_is_not_counted():
    heard, tell = listener()
    with patience("sampling", DEADLINE_S, tell) as watched:
        with watched:
            pass
        wait(1.5 * DEADLINE_S)
        with watched:
            wait(0.2)
    assert not heard


def test_errors_of_the_watched_code_pass_and_leave_no_alarm():
    with (
        pytest.raises(ValueError, match="its own"),
        patience("sampling", 0.2, listener()[1]) as watched,
        watched,
    ):
        raise ValueError("its own")
    wait(0.6)


def test_a_generator_closed_midway_leaves_no_alarm(alarm):
    def numbers():
        with patience("sampling", 0.2, listener()[1]) as watched:
            while True:
                with watched:
                    pass
                yield 1

    stream = numbers()
    next(stream)
    assert signal.getsignal(signal.SIGALRM) is not alarm
    stream.close()
    assert signal.getsignal(signal.SIGALRM) is alarm
    wait(0.6)


def test_another_thread_waits_without_alarms():
    def work():
        with patience("sampling", 5.0, listener()[1]) as watched, watched:
            seen.append(signal.getsignal(signal.SIGALRM))

    seen = []
    before = signal.getsignal(signal.SIGALRM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


CHILD = """
import itertools, sys, threading, time
from rlvr.rollout.engine import log
from rlvr.rollout.patience import patience

def holds_the_interpreter():
    with patience("sampling", 0.6, log) as watched, watched:
        sum(itertools.repeat(1))  # C without end, where no signal is heard

def thinks_between_two_blocks():
    with patience("sampling", 0.6, log) as watched:
        with watched:
            pass
        time.sleep(2.5)
        with watched:
            pass

def works_in_short_blocks(deadline_s=0.3):
    with patience("sampling", deadline_s, log) as watched:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            with watched:
                time.sleep(0.01)

def in_a_thread():
    thread = threading.Thread(target=works_in_short_blocks, args=[0.6])
    thread.start()
    thread.join()

print("ready", flush=True)
globals()[sys.argv[1]]()
print("alive", flush=True)
"""


def child(what):
    """(exit code, output, errors) of the process, and how long it lasted."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, what], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    return done, time.monotonic() - begun


def test_code_that_holds_the_interpreter_ends_with_the_process():
    done, lasted_s = child("holds_the_interpreter")
    assert (done.returncode, done.stdout) == (1, "ready\n")
    assert "Timeout" in done.stderr
    assert "holds_the_interpreter" in done.stderr, "it says where"
    assert lasted_s < 20


@pytest.mark.parametrize("what", ["thinks_between_two_blocks", "works_in_short_blocks", "in_a_thread"])
def test_the_last_resort_spares_a_process_that_is_well(what):
    done, _ = child(what)
    assert (done.returncode, done.stdout) == (0, "ready\nalive\n"), done.stderr


def test_a_replaced_stderr_is_no_obstacle(monkeypatch):
    """Consoles and notebooks put something without a file descriptor there."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with patience("sampling", DEADLINE_S, listener()[1]) as watched, watched:
        pass


# A real vLLM that breaks while it samples


def after(steps, true, breaks):
    """`true`, until it was called `steps` times: then `breaks` in its place, for good."""
    done = []

    def step(*given):
        done.append(given)
        return true(*given) if len(done) <= steps else breaks(lambda: true(*given))

    return step


def raises(_):
    raise RuntimeError(f"{PURPOSE}\nand more")


def hangs(_):
    time.sleep(60)


def fewer(true):
    outputs = true()
    for output in outputs:
        output.outputs = output.outputs[:-1]
    return outputs


def not_a_number(true):
    outputs = true()
    for one in (one for output in outputs for one in output.outputs):
        one.logprobs = SimpleNamespace(logprobs=[float("nan")] * len(one.token_ids))
    return outputs


def another(_):
    return [SimpleNamespace(finished=True, request_id="nobody's")]


FAULTS = {
    "raises": (12, raises, f"RuntimeError: {PURPOSE}"),
    "hangs": (3, hangs, "HungError: sampling: no sign of life for"),
    "says what is not a number": (0, not_a_number, "GarbageError: a log-probability that is none"),
    "says less than asked": (5, fewer, "GarbageError: 2 completions came back of 3"),
    "answers another request": (0, another, "KeyError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_engine_is_started_anew_and_says_the_same(monkeypatch, tied, fault):
    engine, model, tokenizer = tied
    steps, breaks, cause = FAULTS[fault]
    sampling = Sampling(max_tokens=30, stop_ids=stops(tokenizer))
    expected = said(generate(engine, requests(), sampling))
    told = []
    monkeypatch.setattr(engine, "_tell", lambda words, *, lasting=False: told.append((words, lasting)))
    hurry(monkeypatch, engine)
    broken = engine._llm.llm_engine
    monkeypatch.setattr(broken, "step", after(steps, broken.step, breaks))
    groups = generate(engine, requests(), sampling)
    assert said(groups) == expected
    assert cases.versions(groups) == {(0, 0)}
    assert cases.farthest(model, groups, sampling) < cases.EXACT
    assert engine._llm.llm_engine is not broken
    (words,) = [words for words, lasting in told if lasting]
    assert re.fullmatch(
        rf"vllm_local failed \({cause}.*\); started anew, 1 of 3, and \d groups asked again", words
    )


@pytest.mark.parametrize("failures", [0, 1])
def test_an_engine_that_keeps_failing_ends_with_the_cause(monkeypatch, tied, failures):
    engine, model, _ = tied
    from vllm.v1.engine.llm_engine import LLMEngine

    told, before = [], engine._llm
    message = rf"failed {failures + 1} times.*RuntimeError: {PURPOSE}; vllm\.failures = {failures}"
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_settings", replace(engine._settings, failures=failures))
        patch.setattr(engine, "_tell", lambda words, *, lasting=False: told.append(words))
        patch.setattr(LLMEngine, "step", raises)
        with pytest.raises(EngineError, match=message):
            list(engine.generate(requests(), Sampling(max_tokens=5)))
    assert len(told) == failures
    assert (engine._llm is before) == (failures == 0)
    assert samples_from(engine, model, 0)


def test_an_adapter_outlives_a_restart(monkeypatch, rack):
    engine, model, _ = taken(rack, "adapted")
    cases.stir(model, 5)
    engine.load_weights(model, 3)
    broken = engine._llm.llm_engine
    monkeypatch.setattr(broken, "step", after(4, broken.step, raises))
    assert samples_from(engine, model, 3)
    assert engine._llm.llm_engine is not broken


def test_loading_that_hangs_is_ended(monkeypatch, tied):
    engine, model, _ = tied
    model.model.norm.weight.data.neg_()

    def stuck(pairs):
        for number, pair in enumerate(pairs):
            time.sleep(60 if number == 4 else 0)
            yield pair

    with monkeypatch.context() as patch:
        hurry(patch, engine)
        cases.received(patch, stuck)
        with pytest.raises(EngineError, match=r"version 1: .*handing weights over: no sign of life for"):
            engine.load_weights(model, 1)
    assert samples_from(engine, model, 1)
