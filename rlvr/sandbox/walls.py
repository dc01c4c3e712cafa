"""The walls around a program: what the fork server builds once, and what each child puts itself behind.

once:   namespaces (tier A), a root of read-only mounts, a Landlock ruleset, a seccomp filter
child:  limits, another user (root only), Landlock, no capabilities, seccomp: in this order, for good
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
from dataclasses import dataclass

from rlvr.sandbox import kernel
from rlvr.sandbox.filter import Filter

NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
STAGE = "/proc"
"""Where the new root is put together: a folder that every Linux has and that none of its parts comes from."""
SCRATCH, ALIAS = "/box", "/tmp"
"""The folder that may be written, and a link to it where nothing that a program reads lies there."""
SCRATCH_OPTIONS = "size=64m,nr_inodes=2048,mode=0777"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
FIRST_USER, NOBODY = 2**20, 65534
OUTPUT_BYTES = 2**20
THREADS = 64
LIMITS = {
    resource.RLIMIT_FSIZE: OUTPUT_BYTES,
    resource.RLIMIT_NOFILE: 64,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_MEMLOCK: 0,
}
"""Those that are the same for every program: the server itself lives with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use."""

    cpu_s: float
    """CPU time of all its threads."""
    wall_s: float
    """Wall time after which it is killed anyway."""
    memory_bytes: int
    """Address space, over what the interpreter has already."""


def home(tier: str) -> str:
    """The folder that a program starts in."""
    return SCRATCH if tier == "A" else "/"


def readable(packages: list[str]) -> list[str]:
    """What a program may read: the interpreter's library, installed packages, shared libraries."""
    own = [path for path in sys.path if path.startswith("/") and os.path.isdir(path)]
    paths = [*LIBRARIES, os.path.join(sys.base_prefix, "lib"), *own, *packages]
    return list(dict.fromkeys(path for path in paths if os.path.isdir(path)))


def enter_namespaces() -> None:
    """Leave the machine's namespaces; the next fork is process 1 of the new ones.  OSError where refused."""
    user, group = os.getuid(), os.getgid()
    try:
        kernel.call("unshare", NAMESPACES)
    except PermissionError:
        kernel.call("unshare", NAMESPACES | kernel.CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def change_root(paths: list[str]) -> None:
    """Make a root that holds `paths`, read-only, some devices and an empty scratch folder; nothing else."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=0755")
    for path in _outermost(paths):
        _bring(path)
    for path in filter(os.path.exists, DEVICES):
        os.makedirs(os.path.dirname(STAGE + path), exist_ok=True)
        os.close(os.open(STAGE + path, os.O_CREAT | os.O_CLOEXEC, 0o666))
        kernel.mount(path, STAGE + path, "", kernel.MS_BIND)
    os.makedirs(STAGE + SCRATCH, exist_ok=True)
    if not os.path.lexists(STAGE + ALIAS):
        os.symlink(SCRATCH, STAGE + ALIAS)
    os.chdir(STAGE)
    kernel.call("pivot_root", b".", b".")
    kernel.call("umount2", b".", kernel.MNT_DETACH)
    os.chdir("/")
    kernel.make_read_only("/", recursive=False)
    _mount_scratch()


def _bring(path: str) -> None:
    """The folder, or the link that it is, at the same place below the new root."""
    os.makedirs(os.path.dirname(STAGE + path), exist_ok=True)
    if os.path.islink(path):
        if not os.path.lexists(STAGE + path):
            os.symlink(os.readlink(path), STAGE + path)
        return
    os.makedirs(STAGE + path, exist_ok=True)
    kernel.mount(path, STAGE + path, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.make_read_only(STAGE + path)


def _outermost(paths: list[str]) -> list[str]:
    """Each folder with where its links lead, without those that lie in another."""
    found = {path for path in paths if os.path.islink(path)} | {os.path.realpath(path) for path in paths}
    found |= {os.path.normpath(path) for path in paths if os.path.realpath(path) != os.path.normpath(path)}
    inside = {path for path in found for other in found if path.startswith(other + "/")}
    return sorted(found - inside)


def _mount_scratch() -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", SCRATCH, "tmpfs", flags, SCRATCH_OPTIONS)


def renew_scratch() -> bool:
    """Empty the scratch folder, if need be by a new one: no depth and no number of files delays that."""
    if not os.listdir(SCRATCH):
        return False
    kernel.call("umount2", SCRATCH.encode(), kernel.MNT_DETACH)
    _mount_scratch()
    os.chdir(SCRATCH)  # children start where this process is
    return True


class Walls:
    """Built in the fork server; `close_in` is for its children."""

    def __init__(self, tier: str, packages: list[str]) -> None:
        self.is_closed = tier != "none"
        self.has_scratch = tier == "A"
        self._paths = readable(packages)
        self._user = FIRST_USER + os.getpid() if self.is_closed and os.geteuid() == 0 else None
        self._rules: kernel.Ruleset | None = None
        self._filter = Filter(kernel.machine()) if self.is_closed else None
        self._steps: list[kernel.Call] = []
        self._statm = -1
        self._own_bytes = 0
        self._most_bytes = resource.getrlimit(resource.RLIMIT_AS)[1]
        self._most_cpu_s = resource.getrlimit(resource.RLIMIT_CPU)[1]

    @property
    def landlock(self) -> bool:
        """Whether Landlock is one of them."""
        return self._rules is not None

    @property
    def counts_threads(self) -> bool:
        """Whether the number of threads is limited: by user, which root's never is."""
        return self._user is not None or (self.has_scratch and os.getuid() != 0)

    def raise_all(self) -> None:
        """Build them, in tier A as the first process of new namespaces.  OSError: this machine refuses it."""
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        if self.has_scratch:
            change_root(self._paths)
        self._rule()
        if self._user is not None and not _can_become(self._user, self._paths):
            self._user = None
        os.chdir(SCRATCH if self.has_scratch else "/")
        sizes = dict(LIMITS)
        if self.counts_threads:
            sizes[resource.RLIMIT_NPROC] = THREADS
        _limit(sizes)
        if self.is_closed:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        self._make_ready()

    def close_in(self, limits: Limits, parent: int) -> None:
        """Put this process, a child with its descriptors in order, behind them.  OSError where one fails."""
        memory_bytes = _lower(limits.memory_bytes + self._own_bytes, self._most_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        cpu_s = _lower(math.ceil(limits.cpu_s) + 1, self._most_cpu_s)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        if self._filter is None:
            os.setsid()
        else:
            os.setpgid(0, 0)  # a session costs more, and who may signal itself alone needs none
            self._filter.be_for(os.getpid())
        if self._user is not None:
            _become(self._user)
        for step in self._steps:
            step()
        if os.getppid() != parent:  # it died before we asked to be told
            os._exit(1)

    def _make_ready(self) -> None:
        """The system calls of `close_in`, in their order."""
        self._steps = [kernel.Call("prctl", kernel.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)]
        if self._filter is not None:
            self._steps += [self._rules.enforcing()] if self._rules is not None else []
            self._steps += [kernel.dropping_capabilities(), kernel.loading_filter(self._filter.instructions)]

    def weigh(self) -> None:
        """Note what the interpreter holds, now that all is loaded: a program has its share beside that."""
        self._own_bytes = int(os.read(self._statm, 99).split()[0]) * resource.getpagesize()
        os.close(self._statm)

    def renew(self) -> None:
        """Make ready for the next program."""
        if self.has_scratch and renew_scratch():
            self._rule()
            self._make_ready()

    def _rule(self) -> None:
        """Write the Landlock ruleset anew: it holds for the scratch folder that is mounted now."""
        if not self.is_closed or (self.has_scratch and not kernel.landlock_version()):
            return
        if self._rules is not None:
            os.close(self._rules.fd)
        self._rules = kernel.Ruleset()
        for path in self._paths:
            self._rules.let(path, kernel.READ_DIR)
        for path in DEVICES:
            self._rules.let(path, kernel.DEVICE)
        if self.has_scratch:
            self._rules.let(SCRATCH, kernel.SCRATCH)


def _limit(sizes: dict[int, int]) -> None:
    for kind, size in sizes.items():
        size = _lower(size, resource.getrlimit(kind)[1])
        resource.setrlimit(kind, (size, size))


def _lower(size: int, hard: int) -> int:
    return size if hard == resource.RLIM_INFINITY else min(size, hard)


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _can_become(user: int, paths: list[str]) -> bool:
    """Whether this process may take that identity and can still read the library with it: by doing it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(OSError):
            _become(user)
            kernel.dropping_capabilities()()
            is_whole = all(os.access(path, os.R_OK | os.X_OK) for path in paths)
            code = 0 if is_whole else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
