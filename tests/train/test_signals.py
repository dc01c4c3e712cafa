"""Signals, in this process: raised at once, after a deferred block, and not at all under nohup."""

import os
import signal
import subprocess
import sys

import pytest

from rlvr.errors import Interrupted
from rlvr.train.signals import Signals


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_at_once(number):
    with Signals(), pytest.raises(Interrupted) as caught:
        send(number)
    assert caught.value.signal_number == number


def test_a_deferred_block_ends_first_also_when_nested():
    done = []

    def work(signals):
        with signals.deferred():
            with signals.deferred():
                send()
                done.append("inner")
            done.append("outer")
        done.append("after")

    with Signals() as signals, pytest.raises(Interrupted):
        work(signals)
    assert done == ["inner", "outer"]


def test_saving_on_the_way_out_is_not_interrupted_again():
    saved = []
    with Signals() as signals:
        with pytest.raises(Interrupted):
            send()
        with signals.deferred():
            saved.append(True)
    assert saved == [True]


def test_an_error_in_a_deferred_block_is_passed_on():
    with Signals() as signals, pytest.raises(ValueError, match="ours"), signals.deferred():
        raise ValueError("ours")


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


CHILD = """
import os, signal, sys
from rlvr.train.signals import Signals
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Signals() as signals, signals.deferred():
    signals.stopping, signals.leaving = "stopping", "left"
    if sys.argv[1] == "nohup":
        os.kill(os.getpid(), signal.SIGHUP)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    print("alive", flush=True)
"""


def child(how):
    return subprocess.run([sys.executable, "-c", CHILD, how], capture_output=True, text=True, timeout=60)


def test_nohup_is_respected():
    ended = child("nohup")
    assert (ended.returncode, ended.stdout) == (0, "alive\n")


def test_the_second_signal_ends_the_process_even_in_a_deferred_block():
    ended = child("twice")
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "")
    assert ended.stderr == "stopping\nleft\n", "a person who presses Ctrl-C is told what comes of it"
