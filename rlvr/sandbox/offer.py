"""Which sandbox a command offers to verifiers, and what it holds: found by trying, before it is needed."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

from rlvr.errors import RecipeError
from rlvr.sandbox.api import Isolation, SandboxError

LOCAL, UNSAFE = "rlvr.sandbox.local:LocalSandbox", "rlvr.sandbox.local:UnsafeSandbox"
REMOTE = "rlvr.sandbox.remote:RemoteSandbox"
FLAG = "--unsafe-no-isolation"
LOUD = (
    f"WARNING: {FLAG}: programs that the model writes run with nothing between them and this machine. "
    "They can do what you can: to your files, over your network, to your processes."
)
TRIAL_S = 10.0
"""For the first program on an executor."""
NEEDS_LINUX = Isolation(tier=None, open_doors=(), refusals=("it needs Linux",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What verifiers are given to run programs in."""

    named: str = LOCAL
    """Its class and arguments, as a pool takes them."""
    isolation: Isolation | None = None
    """What it holds; None where no verifier asks for a sandbox."""

    @property
    def words(self) -> str:
        """What it holds, for the record; empty where no verifier asks for it."""
        return str(self.isolation) if self.isolation else ""

    @property
    def is_unsafe(self) -> bool:
        """Whether programs run, and nothing holds them."""
        return self.isolation is not None and self.isolation.tier == "none"


def offer(
    *,
    unsafe: bool = False,
    remote: str | None = None,
    kind: Literal["sandboxfusion", "piston"] = "sandboxfusion",
) -> Offer:
    """The executor at `remote`, what `unsafe` asks for, or the best that this machine has.

    SandboxError says what to do where it would run no program.
    """
    if remote is not None:
        if unsafe:
            raise RecipeError(f"{FLAG} is for programs that run here, and `sandbox.remote` is set: drop one")
        return Offer(named=f"{REMOTE} {remote} {kind}", isolation=_elsewhere(remote, kind))
    if platform.system() != "Linux":
        raise refused(NEEDS_LINUX)
    from rlvr.sandbox.local import isolation

    found = isolation(unsafe)
    if found.tier is None:
        raise refused(found)
    # Workers are to have this very tier, or to fail: the record says that they had it.
    return Offer(named=UNSAFE if unsafe else f"{LOCAL} {found.tier}", isolation=found)


def refused(found: Isolation) -> SandboxError:
    """What to say, and what to do, where nothing holds programs."""
    return SandboxError(
        "a verifier runs programs that the model writes, and this machine cannot hold them apart, so none is "
        f"run: {'; '.join(found.refusals)}. `rlvr doctor` shows what is missing (docs/sandbox.md). Use a "
        "machine or container that allows it, or an executor elsewhere (recipe: `sandbox: {remote: "
        f"http://HOST:PORT}}`; rlvr eval --sandbox). {FLAG} runs them all the same, without walls."
    )


def _elsewhere(remote: str, kind: Literal["sandboxfusion", "piston"]) -> Isolation:
    """Tier R, once the executor has run a program."""
    from rlvr.sandbox.remote import RemoteSandbox

    box = RemoteSandbox(remote, kind)
    try:
        done = box.run("print(6 * 7)", timeout_s=TRIAL_S)
        said = "" if done.stdout == "42\n" else f"{done.status}, {(done.stdout + done.stderr)[:200]!r}"
    except SandboxError as error:
        said = str(error)
    if said:
        raise SandboxError(
            f"sandbox.remote: no {kind} executor that runs Python answers at {remote} ({said}); start it, or "
            "mend the address or `sandbox.kind`"
        )
    return Isolation(tier="R", open_doors=box.open_doors, refusals=())
