"""The seccomp filter of a program: a list of system calls that it may make; all others fail.

Calls that reach beyond the process are let through for some arguments alone (`CHECKS`).  The kernel runs the
filter on every call, so it is a search tree over ranges of numbers: a handful of comparisons for each.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from rlvr.sandbox.kernel import MACHINES

# Name: number on x86_64, on aarch64 (None: it has no such call).
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286),
    "pwritev2": (328, 287), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436),
    "open": (2, None), "openat": (257, 56), "creat": (85, None), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "getdents": (78, None), "getdents64": (217, 61),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "chdir": (80, 49),
    "fchdir": (81, 50), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "ftruncate": (77, 46), "fallocate": (285, 47), "fsync": (74, 82),
    "fdatasync": (75, 83), "statfs": (137, 43), "fstatfs": (138, 44), "dup": (32, 23), "dup2": (33, None),
    "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73),
    "select": (23, None), "pselect6": (270, 72), "epoll_create": (213, None), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441),
    "eventfd2": (290, 19), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216),
    "mprotect": (10, 226), "madvise": (28, 233), "brk": (12, 214), "msync": (26, 227), "mincore": (27, 232),
    "futex": (202, 98), "futex_waitv": (449, 449), "set_robust_list": (273, 99), "rseq": (334, 293),
    "set_tid_address": (218, 96), "membarrier": (324, 283), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "getcpu": (309, 168), "exit": (60, 93), "exit_group": (231, 94),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "pause": (34, None), "gettid": (186, 178),
    "getpid": (39, 172), "getppid": (110, 173), "getpgrp": (111, None), "getpgid": (121, 155),
    "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "getrandom": (318, 278), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "times": (100, 153), "getrusage": (98, 165), "getrlimit": (97, 163), "alarm": (37, None),
    "setitimer": (38, 103), "getitimer": (36, 102), "uname": (63, 160), "sysinfo": (99, 179),
    "umask": (95, 166), "sendfile": (40, 71), "copy_file_range": (326, 285),
    "fadvise64": (221, 223), "sendto": (44, 206), "recvfrom": (45, 207), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "getsockopt": (55, 209),
    "arch_prctl": (158, None), "wait4": (61, 260), "waitid": (247, 95),
    "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167), "prlimit64": (302, 261),
    "socketpair": (53, 199), "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131),
}  # fmt: skip
CLONE3, FIRST_UNKNOWN = 435, 450
"""Answered by `no such call`, so that libraries fall back: clone3 hides its flags behind a pointer."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000
OWN_PID = -1
THREAD, NOT_A_THREAD = 0x00010F00, 0x7E02F000
"""clone() must ask for CLONE_VM, _FS, _FILES, _SIGHAND and _THREAD, and for none of the second."""
OPENED, OPENED_MASK = (0, 1, 2, 0x201, 0x202), 0x203
"""To read, to write or both; O_TRUNC to write alone, as Landlock minds it from ABI 3 on only."""


class Check(NamedTuple):
    """One argument that must have one of some values, in its lower 32 bits."""

    argument: int
    """Its position."""
    values: tuple[int, ...]
    """What lets it through; OWN_PID stands for the process itself."""
    mask: int = 0xFFFFFFFF
    """The bits that count."""
    word: int = 0
    """1: the upper 32 bits instead."""
    is_refused: bool = False
    """The values are those that do not let it through."""
    unless: tuple[int, int] | None = None
    """An argument and its value for which the call, not let through, is said to have done its work."""


STACK = (1, 3)
"""prlimit64() on RLIMIT_STACK: programs that recurse deeply ask for more, and give up where it is refused."""
NULL = (Check(2, (0,), unless=STACK), Check(2, (0,), word=1, unless=STACK))
CHECKS: dict[str, tuple[Check, ...]] = {
    # F_DUPFD to F_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS: no owner, no signal, no lease.
    "fcntl": (Check(1, (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032, 1034)),),
    "open": (Check(1, OPENED, mask=OPENED_MASK),),
    "openat": (Check(2, OPENED, mask=OPENED_MASK),),
    # No MSG_OOB.
    "sendto": (Check(3, (0,), mask=1),),
    "recvfrom": (Check(3, (0,), mask=1),),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
    "ioctl": (Check(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),),
    # PR_SET_NAME, PR_GET_NAME.
    "prctl": (Check(0, (15, 16)),),
    # Read a limit of its own, set none.
    "prlimit64": (Check(0, (0, OWN_PID)), *NULL),
    # A pair of connected streams (asyncio wants one): it can be joined to nothing else.
    "socketpair": (Check(0, (1,)), Check(1, (1,), mask=0xF)),
    "clone": (Check(0, (THREAD,), mask=THREAD | NOT_A_THREAD),),
    # Itself, but not by SIGKILL: who ends so was ended from outside, and that is no fault of the program.
    "kill": (Check(0, (OWN_PID,)), Check(1, (9,), is_refused=True)),
    "tgkill": (Check(0, (OWN_PID,)), Check(2, (9,), is_refused=True)),
}

LOAD, AND, RETURN, JUMP_EQUAL, JUMP_FROM = 0x20, 0x54, 0x06, 0x15, 0x35
KILL, ALLOW, REFUSE = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM
DONE = 0x00050000
ABSENT = 0x00050000 | errno.ENOSYS

Instruction = tuple[int, int, int, int]


class Filter:
    """A filter ready but for the process that it is for."""

    def __init__(self, machine: str) -> None:
        program = _program(machine)
        packed = [struct.pack("<HBBI", *i[:3], i[3] & 0xFFFFFFFF) for i in program]
        self.instructions = bytearray(b"".join(packed))
        """As the kernel reads them."""
        self._pids = [8 * at + 4 for at, i in enumerate(program) if i[0] == JUMP_EQUAL and i[3] == OWN_PID]

    def be_for(self, pid: int) -> None:
        """Write into the instructions that the process may signal itself alone."""
        for at in self._pids:
            struct.pack_into("<I", self.instructions, at, pid)


class Code:
    """A filter's program, written from its last instruction to its first: where it jumps to is known."""

    def __init__(self) -> None:
        self._back: list[Instruction] = []
        self._returns: dict[int, int] = {}

    def program(self) -> list[Instruction]:
        """In the order that it runs."""
        return self._back[::-1]

    def put(self, code: int, value: int) -> int:
        """An instruction that goes on with the one put before it; its place."""
        self._back.append((code, 0, 0, value))
        return len(self._back) - 1

    def jump(self, code: int, value: int, yes: int, no: int) -> int:
        """A comparison, and the places where it goes on."""
        here = len(self._back)
        self._back.append((code, here - yes - 1, here - no - 1, value))
        return here

    def end(self, value: int) -> int:
        """The place that returns a value: one for all."""
        if value not in self._returns:
            self._returns[value] = self.put(RETURN, value)
        return self._returns[value]


def _program(machine: str) -> list[Instruction]:
    code = Code()
    for value in (KILL, ABSENT, DONE, REFUSE, ALLOW):
        code.end(value)
    tree = _tree(code, list(_ranges(machine)))
    code.jump(JUMP_FROM, X32, code.end(KILL), tree)
    number = code.put(LOAD, 0)
    code.jump(JUMP_EQUAL, ARCHITECTURES[machine], number, code.end(KILL))
    code.put(LOAD, 4)  # the architecture: the 32-bit entry has numbers of its own
    return code.program()


def _ranges(machine: str) -> Iterator[tuple[int, str | int]]:
    """First number of each range, and what is done from there on: the name of a call to check, or an end."""
    column = MACHINES.index(machine)
    by_number = {number: name for name, pair in ALLOWED.items() if (number := pair[column]) is not None}
    last: str | int = 0
    for number in range(FIRST_UNKNOWN + 1):
        name = by_number.get(number)
        absent = number in (CLONE3, FIRST_UNKNOWN)
        done = (name if name in CHECKS else ALLOW) if name else ABSENT if absent else REFUSE
        if done != last:
            yield number, done
        last = done


def _tree(code: Code, ranges: list[tuple[int, str | int]]) -> int:
    """The place that finds the range of a number and goes on there."""
    if len(ranges) == 1:
        done = ranges[0][1]
        return code.end(done) if isinstance(done, int) else _checked(code, CHECKS[done])
    middle = len(ranges) // 2
    low, high = _tree(code, ranges[:middle]), _tree(code, ranges[middle:])
    return code.jump(JUMP_FROM, ranges[middle][0], high, low)


def _checked(code: Code, checks: tuple[Check, ...]) -> int:
    """The place that lets a call through where all checks hold."""
    following = code.end(ALLOW)
    for check in reversed(checks):
        fails = code.end(REFUSE)
        if check.unless is not None:
            argument, value = check.unless
            code.jump(JUMP_EQUAL, value, code.end(DONE), fails)
            fails = code.put(LOAD, 16 + 8 * argument)
        yes, no = (fails, following) if check.is_refused else (following, fails)
        for value in reversed(check.values):
            no = code.jump(JUMP_EQUAL, value, yes, no)
        if check.mask != 0xFFFFFFFF:
            code.put(AND, check.mask)
        following = code.put(LOAD, 16 + 8 * check.argument + 4 * check.word)
    return following
