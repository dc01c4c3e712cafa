"""The kernel's own facilities that Python 3.11 does not wrap, by number: x86_64 and aarch64, no others."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import sys

MACHINES = ("x86_64", "aarch64")

# Name: number on x86_64, on aarch64.
NUMBERS = {
    "capset": (126, 91),
    "close_range": (436, 436),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "madvise": (28, 233),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "rt_sigprocmask": (14, 135),
    "seccomp": (317, 277),
    "setgroups": (116, 159),
    "setpgid": (109, 154),
    "setresgid": (119, 149),
    "setresuid": (117, 147),
    "setsid": (112, 157),
    "signalfd4": (289, 74),
    "umount2": (166, 39),
    "unshare": (272, 97),
}

RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_NPROC, RLIMIT_NOFILE = 0, 1, 4, 6, 7
RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE = 8, 9, 11, 12
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 38
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MADV_COLLAPSE, HUGE_PAGE = 25, 2**21
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SECCOMP_SET_MODE_FILTER = 1
CAPABILITY_VERSION_3 = 0x20080522

# Rights of Landlock by name, and the version of it that each came with.
FS_RIGHTS = (
    ("execute", 1),
    ("write_file", 1),
    ("read_file", 1),
    ("read_dir", 1),
    ("remove_dir", 1),
    ("remove_file", 1),
    ("make_char", 1),
    ("make_dir", 1),
    ("make_reg", 1),
    ("make_sock", 1),
    ("make_fifo", 1),
    ("make_block", 1),
    ("make_sym", 1),
    ("refer", 2),
    ("truncate", 3),
    ("ioctl_dev", 5),
)
READ_DIR = ("read_file", "read_dir")
DEVICE = ("read_file", "write_file")
SCRATCH = (
    *("read_file", "read_dir", "write_file", "truncate"),
    *("make_dir", "make_reg", "make_sym", "remove_dir", "remove_file", "refer"),
)

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


_fork = getattr(ctypes.PyDLL(None), "_Fork", None)
"""fork() without the handlers of the C library (glibc 2.34)."""


def machine() -> str:
    """This machine's architecture; OSError where there is no table for it."""
    found = os.uname().machine
    if sys.platform != "linux" or found not in MACHINES or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, f"no table of system calls for {sys.platform} {found}")
    return found


class Call:
    """A system call with its arguments, made ready once so that little is left to do in a child."""

    __slots__ = ("_given", "_name")

    def __init__(self, name: str, *arguments: int | bytes | None) -> None:
        number = NUMBERS[name][MACHINES.index(machine())]
        self._name = name
        self._given = tuple(ctypes.c_long(a) if isinstance(a, int) else a for a in (number, *arguments))

    def __call__(self) -> int:
        """Make it; OSError names it."""
        result: int = _syscall(*self._given)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{self._name}: {os.strerror(code)}")
        return result


def call(name: str, *arguments: int | bytes | None) -> int:
    """A system call by name, once; OSError names it."""
    return Call(name, *arguments)()


def fork() -> int:
    """As `os.fork` for a process with one thread, without what that does for threads and other modules.

    That costs as much as the fork itself.  `random` is then not seeded anew: see `inside.py`.
    """
    if _fork is None:
        return os.fork()
    pid: int = _fork()
    if pid < 0:
        raise OSError(errno.EAGAIN, "fork: the kernel refuses another process")
    return pid


def hearing(number: int) -> int:
    """A descriptor that can be read when a signal has come, which does nothing else from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    return call("signalfd4", -1, struct.pack("<Q", 1 << number - 1), 8, os.O_CLOEXEC | os.O_NONBLOCK)


def unblocking(number: int) -> Call:
    """Lets a signal through again, in a child of who hears it."""
    return Call("rt_sigprocmask", signal.SIG_UNBLOCK, struct.pack("<Q", 1 << number - 1), None, 8)


def gather(maps: str) -> None:
    """Put what this process has written into huge pages, where the kernel can (Linux 6.1).

    `maps`: /proc/self/maps.  A fork, and the end of its child, then handle one where there were 512.
    """
    for line in maps.splitlines():
        where, rights, *_, name = [*line.split(maxsplit=5), ""][:6]
        if rights != "rw-p" or name not in ("", "[heap]"):
            continue
        begin, end = (int(address, 16) for address in where.split("-"))
        for page in range(-(-begin // HUGE_PAGE), end // HUGE_PAGE):
            with contextlib.suppress(OSError):
                call("madvise", page * HUGE_PAGE, HUGE_PAGE, MADV_COLLAPSE)


def prctl(option: int, value: int | bytes) -> None:
    """Set something of this process."""
    call("prctl", option, value, 0, 0, 0)


def closing_from(first: int) -> Call:
    """Closes every descriptor from `first` on."""
    return Call("close_range", first, 2**32 - 1, 0)


def limiting(kind: int, size: int) -> Call:
    """Sets a limit of this process, soft and hard; a lower one that holds already stays."""
    size = min(size, struct.unpack("<2Q", _limits(kind))[1])
    return Call("prlimit64", 0, kind, struct.pack("<2Q", size, size), None)


def _limits(kind: int) -> bytes:
    found = ctypes.create_string_buffer(16)
    call("prlimit64", 0, kind, None, ctypes.addressof(found))
    return found.raw


def becoming(user: int) -> list[Call]:
    """Make a process of one thread another user, in no groups but its own."""
    return [
        Call("setgroups", 0, None),
        Call("setresgid", user, user, user),
        Call("setresuid", user, user, user),
    ]


def dropping_capabilities() -> Call:
    """Gives all of them up, for good where no_new_privs is set."""
    return Call("capset", struct.pack("<Ii", CAPABILITY_VERSION_3, 0), struct.pack("<6I", *[0] * 6))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, or a folder once more."""
    call("mount", source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())


def make_read_only(target: str, *, recursive: bool = True) -> None:
    """Let nothing be written below a mount, and none of its devices and set-uid programs work."""
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    how = AT_RECURSIVE if recursive else 0
    call("mount_setattr", AT_FDCWD, os.fsencode(target), how, struct.pack("<4Q", attributes, 0, 0, 0), 32)


def loading_filter(instructions: bytearray) -> Call:
    """Puts this process under the seccomp filter that then stands in `instructions`; keep those alive."""
    program = (ctypes.c_char * len(instructions)).from_buffer(instructions)
    head = struct.pack("<HxxxxxxQ", len(instructions) // 8, ctypes.addressof(program))
    return Call("seccomp", SECCOMP_SET_MODE_FILTER, 0, head)


def landlock_version() -> int:
    """The version of Landlock's interface; 0 where there is none."""
    try:
        return call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


class Ruleset:
    """A Landlock ruleset: refuses all of the file system, TCP and signals, but what is let through."""

    def __init__(self, fd: int) -> None:
        """`fd`: the descriptor that it is to have; one that is there is closed."""
        version = landlock_version()
        self._known = {name: 1 << bit for bit, (name, since) in enumerate(FS_RIGHTS) if since <= version}
        rights, net, scoped = sum(self._known.values()), 0b11, 0b11
        size = 8 if version < 4 else 16 if version < 6 else 24
        try:
            made = self._made(struct.pack("<3Q", rights, net, scoped)[:size])
        except OSError:  # a distribution's kernel that names a version without all of its parts
            made = self._made(struct.pack("<Q", rights))
        self.fd = os.dup2(made, fd, inheritable=False)
        if made != fd:
            os.close(made)

    def let(self, path: str, rights: tuple[str, ...]) -> None:
        """Let the rights through below `path`; one that is not there is passed over."""
        mask = sum(self._known.get(name, 0) for name in rights)
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            call("landlock_add_rule", self.fd, 1, struct.pack("<Qi", mask, place), 0)
        finally:
            os.close(place)

    def enforcing(self) -> Call:
        """Puts this process under it, for good."""
        return Call("landlock_restrict_self", self.fd, 0)

    @staticmethod
    def _made(attributes: bytes) -> int:
        return call("landlock_create_ruleset", attributes, len(attributes), 0)
