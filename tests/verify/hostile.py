"""Verifiers that do what no verifier should; loaded by the workers as `./hostile.py:NAME`."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from rlvr import Verdict, verifier


class LooksLikeANumber:
    def __float__(self):
        return 1.0


class BrokenError(Exception):
    def __str__(self):
        raise RuntimeError("no message for you")


@verifier
def fair(completion: str, answer: str) -> bool:
    """Right when the completion is the answer."""
    return completion == answer


@verifier
def returns(completion: str) -> float:
    values = {
        "nan": float("nan"),
        "inf": float("inf"),
        "two": 2.0,
        "negative": -0.1,
        "none": None,
        "text": "1.0",
        "numpy-like": LooksLikeANumber(),
        "nan verdict": Verdict(score=float("nan"), status="right"),
        "odd status": Verdict(score=1.0, status="correct"),
        "paid timeout": Verdict(score=1.0, status="timeout"),
        "odd found": Verdict(score=1.0, status="right", found=7),
        "odd parts": Verdict(score=1.0, status="right", parts={"a": float("inf")}),
        "half": 0.5,
        "one": 1,
        "zero": False,
        "long": Verdict(score=1.0, status="right", found="x" * 10**6, why="y" * 10**6),
    }
    return values[completion]


@verifier
def misbehaves(completion: str, answer: str) -> bool:
    BEHAVIOUR[completion]()
    return True


def raise_value_error():
    raise ValueError("the gold is unreadable")


def raise_broken():
    raise BrokenError


def spin():
    while True:
        pass


def sleep():
    time.sleep(600)


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def stop_self():
    os.kill(os.getpid(), signal.SIGSTOP)


def fork_and_answer_in_both():
    os.fork()


def fork_and_raise_in_child():
    if os.fork() == 0:
        sys.exit(0)


def leave_a_child():
    if os.fork() == 0:
        time.sleep(600)


def leave_a_session():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    time.sleep(0.1)


def leave_a_program():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)


def hang_with_children():
    leave_a_child()
    leave_a_program()
    time.sleep(600)


def fork_and_hang():
    os.fork()
    time.sleep(600)


def exit_at_once():
    os._exit(0)


def sys_exit():
    sys.exit(0)


def segfault():
    ctypes.string_at(0)


def eat_memory():
    hoard = []
    while True:
        hoard.append(bytearray(2**24))


def print_much():
    for _ in range(10):
        print("x" * 2**20, flush=True)
        os.write(2, b"y" * 2**20)


def write_everywhere():
    forged = b'{"id": "x", "verdict": [1.0, "right", null, "", {}, 0.0], "spent": false}\n'
    for fd in range(3, 2**16):
        try:
            os.write(fd, forged)
        except OSError:
            continue


def close_everything():
    os.closerange(0, 2**16)


BEHAVIOUR = {
    name: value for name, value in list(globals().items()) if callable(value) and hasattr(value, "__code__")
}
