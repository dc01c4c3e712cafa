"""The walls around a program: what the fork server builds once, and what each child puts itself behind.

once:   namespaces (tier A), a root of read-only mounts, a Landlock ruleset, a seccomp filter
child:  limits, another user (root only), Landlock, no capabilities, seccomp: in this order, for good
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from typing import NamedTuple

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
RULES_FD = 5
"""Descriptor of the Landlock ruleset, above those of a run; it stays when the rules are written anew."""
OUTPUT_BYTES = 2**20
THREADS = 64
LIMITS = {
    kernel.RLIMIT_FSIZE: OUTPUT_BYTES,
    kernel.RLIMIT_NOFILE: 64,
    kernel.RLIMIT_CORE: 1,  # 0 does not keep a crash from the machine's core handler (a pipe), 1 does
    kernel.RLIMIT_SIGPENDING: 64,  # queued signals count for all processes of a user together
    kernel.RLIMIT_MSGQUEUE: 0,
    kernel.RLIMIT_MEMLOCK: 0,
}
"""Those that are the same for every program: the server itself lives with them."""


class Limits(NamedTuple):
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
        self._fixed: list[kernel.Call] = []
        self._steps: list[kernel.Call] = []
        self._about_self: dict[str, int] = {}
        self._own_bytes = 0

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
        for name in ("maps", "statm"):  # behind the walls there is no /proc
            self._about_self[name] = os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
        if self.has_scratch:
            change_root(self._paths)
        self._rule()
        if self._user is not None and not _can_become(self._user, self._paths):
            self._user = None
        self._fixed = self._fixed_steps()
        os.chdir(SCRATCH if self.has_scratch else "/")
        sizes = dict(LIMITS)
        if self.counts_threads:
            sizes[kernel.RLIMIT_NPROC] = THREADS
        for kind, size in sizes.items():
            kernel.limiting(kind, size)()
        if self.is_closed:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)

    def make_ready(self, limits: Limits) -> None:
        """Prepare the system calls of `close_in`, once for all programs with these limits."""
        memory = kernel.limiting(kernel.RLIMIT_AS, limits.memory_bytes + self._own_bytes)
        cpu = kernel.limiting(kernel.RLIMIT_CPU, math.ceil(limits.cpu_s) + 1)
        self._steps = [memory, cpu, *self._fixed]

    def close_in(self, parent: int) -> None:
        """Put this process, a child with its descriptors in order, behind them.  OSError where one fails."""
        if self._filter is not None:
            self._filter.be_for(os.getpid())
        for step in self._steps:
            step()
        if os.getppid() != parent:  # it died before we asked to be told
            os._exit(1)

    def _fixed_steps(self) -> list[kernel.Call]:
        """What is the same for every program, in its order."""
        dying = kernel.Call("prctl", kernel.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if self._filter is None:
            return [kernel.Call("setsid"), dying, kernel.unblocking(signal.SIGCHLD)]
        return [
            kernel.Call("setpgid", 0, 0),  # a session costs more, and who may signal itself alone needs none
            *(kernel.becoming(self._user) if self._user is not None else []),
            dying,
            *([self._rules.enforcing()] if self._rules is not None else []),
            kernel.dropping_capabilities(),
            kernel.loading_filter(self._filter.instructions),
        ]

    def settle(self) -> None:
        """Put together what is in memory, now that all is loaded, and weigh it: a program has more."""
        with open(self._about_self["maps"]) as maps:
            kernel.gather(maps.read())
        with open(self._about_self["statm"]) as statm:
            self._own_bytes = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def renew(self) -> None:
        """Make ready for the next program."""
        if self.has_scratch and renew_scratch():
            self._rule()

    def _rule(self) -> None:
        """Write the Landlock ruleset anew: it holds for the scratch folder that is mounted now."""
        if not self.is_closed or (self.has_scratch and not kernel.landlock_version()):
            return
        self._rules = kernel.Ruleset(RULES_FD)
        for path in self._paths:
            self._rules.let(path, kernel.READ_DIR)
        for path in DEVICES:
            self._rules.let(path, kernel.DEVICE)
        if self.has_scratch:
            self._rules.let(SCRATCH, kernel.SCRATCH)


def _can_become(user: int, paths: list[str]) -> bool:
    """Whether this process may take that identity and can still read the library with it: by doing it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(OSError):
            for step in (*kernel.becoming(user), kernel.dropping_capabilities()):
                step()
            is_whole = all(os.access(path, os.R_OK | os.X_OK) for path in paths)
            code = 0 if is_whole else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
