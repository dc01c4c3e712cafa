"""The seccomp filter, run here as the kernel would: on both architectures, every system call there is."""

import struct
from types import SimpleNamespace

import pytest

from rlvr.sandbox import kernel
from rlvr.sandbox.filter import (
    ABSENT,
    ALLOW,
    ALLOWED,
    ARCHITECTURES,
    CHECKS,
    CLONE3,
    DONE,
    KILL,
    REFUSE,
    Filter,
)
from rlvr.sandbox.kernel import MACHINES

PID = 4711


def verdict(machine, number, *arguments, architecture=None):
    data = struct.pack("<iIQ", number, architecture or ARCHITECTURES[machine], 0)
    data += struct.pack("<6Q", *[a % 2**64 for a in arguments], *[0] * (6 - len(arguments)))
    made = Filter(machine)
    made.be_for(PID - 1)
    made.be_for(PID)
    program = list(struct.iter_unpack("<HBBI", made.instructions))
    at, register = 0, 0
    while True:
        code, is_true, is_false, value = program[at]
        at += 1
        if code == 0x20:
            (register,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            register &= value
        elif code == 0x05:
            at += value
        elif code == 0x15:
            at += is_true if register == value else is_false
        elif code == 0x35:
            at += is_true if register >= value else is_false
        else:
            assert code == 0x06
            return value


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_listed_passes_and_nothing_else(machine):
    column = MACHINES.index(machine)
    numbers = {pair[column]: name for name, pair in ALLOWED.items()}
    for number in range(600):
        name = numbers.get(number)
        if name in CHECKS:
            continue
        expected = ALLOW if name else ABSENT if number == CLONE3 or number >= 450 else REFUSE
        assert verdict(machine, number) == expected, (number, name)
    assert len(Filter(machine).instructions) // 8 < 4096


@pytest.mark.parametrize("machine", MACHINES)
def test_other_entries_are_killed(machine):
    assert verdict(machine, 3, architecture=0x40000003) == KILL
    assert verdict(machine, 0x40000000 + 1) == KILL
    assert verdict(machine, -1) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("kill", (PID, 15), ALLOW),
        ("kill", (PID, 9), REFUSE),
        ("kill", (PID + 1, 0), REFUSE),
        ("kill", (0, 0), REFUSE),
        ("kill", (-1, 0), REFUSE),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (1, 1, 0), REFUSE),
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (17,), REFUSE),
        ("clone", (0x10900,), REFUSE),
        ("clone", (0x10B00,), REFUSE),
        ("openat", (0, 0, 0o2000101), ALLOW),
        ("openat", (0, 0, 0o1101), ALLOW),
        ("openat", (0, 0, 0o1000), REFUSE),
        ("openat", (0, 0, 3), REFUSE),
        ("openat", (0, 0, 0o1003), REFUSE),
        ("sendto", (0, 0, 1, 0x4000), ALLOW),
        ("sendto", (0, 0, 1, 1), REFUSE),
        ("recvfrom", (0, 0, 1, 1), REFUSE),
        ("clone", (0x3D0F00 | 0x10000000,), REFUSE),
        ("clone", (0x4111,), REFUSE),
        ("prctl", (15,), ALLOW),
        ("prctl", (1, 0), REFUSE),
        ("prctl", (22, 1), REFUSE),
        ("prlimit64", (0, 7, 0), ALLOW),
        ("prlimit64", (0, 7, 1 << 40), REFUSE),
        ("prlimit64", (1, 7, 0), REFUSE),
        ("prlimit64", (0, 3, 0), ALLOW),
        ("prlimit64", (0, 3, 1 << 40), DONE),
        ("prlimit64", (0, 3, 8), DONE),
        ("prlimit64", (1, 3, 8), REFUSE),
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (1, 1 | 0o2000000), ALLOW),
        ("socketpair", (1, 2), REFUSE),
        ("socketpair", (2, 1), REFUSE),
        ("fcntl", (0, 3), ALLOW),
        ("fcntl", (0, 8), REFUSE),
        ("fcntl", (0, 1033), REFUSE),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSE),
    ],
)
def test_arguments_are_looked_at(machine, name, arguments, expected):
    number = ALLOWED[name][MACHINES.index(machine)]
    assert verdict(machine, number, *arguments) == expected


def test_the_older_open_is_looked_at_too():
    assert [verdict("x86_64", 2, 0, flags) for flags in (0, 0o1102, 3, 0o1000)] == [ALLOW] * 2 + [REFUSE] * 2
    assert verdict("x86_64", 54) == verdict("aarch64", 208) == REFUSE, "setsockopt"


def test_unknown_machines_are_refused(monkeypatch):
    monkeypatch.setattr(kernel.os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    with pytest.raises(OSError, match="no table of system calls for linux riscv64"):
        kernel.machine()
