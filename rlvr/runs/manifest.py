"""The manifest: what ran, on what, from what, so that a run can be judged and repeated."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlvr.errors import RunError
from rlvr.runs.atomic import write_json_atomic
from rlvr.runs.folder import RunFolder

_PACKAGES = ("rlvr", "torch", "transformers", "datasets", "vllm", "peft", "mpmath", "numpy")
_FROZEN = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Resume(BaseModel):
    """One time the run was taken up again."""

    model_config = _FROZEN
    time: float
    """When, in seconds since 1970."""
    step: int
    """The last step that was kept."""
    host: str
    """On which machine."""


class Git(BaseModel):
    """The checkout that the code came from."""

    model_config = _FROZEN
    commit: str
    """Full hash."""
    dirty: bool
    """Whether tracked files differ from it."""


class Manifest(BaseModel):
    """What ran; fields added later have defaults, so old runs stay readable."""

    model_config = _FROZEN
    name: str
    """Name of the run."""
    command: str
    """The command line, quoted for a shell."""
    started: float
    """Seconds since 1970."""
    host: str
    """The machine it started on."""
    steps: int
    """Steps of reinforcement learning asked for."""
    seed: int
    """`run.seed`."""
    recipe_sha256: str
    """Of the recipe's text as given."""
    model_hash: str
    """Of the weights it started from."""
    data_hash: str
    """Of the problems it trains on."""
    base_dir: str = ""
    """Folder that relative paths of the recipe start from."""
    recipe: dict[str, str] = Field(default_factory=dict)
    """Every value of the recipe in words, by dotted key: what a resume compares with."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of what the recipe only names: verifier files, worked solutions, weights below an adapter."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions installed."""
    python: str = ""
    """Version of Python."""
    platform: str = ""
    """Operating system and machine type."""
    cpus: int = 0
    """Cores that the process may use."""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs."""
    ranks: int = 1
    """Processes that trained it, when it began."""
    hosts: tuple[str, ...] = ()
    """Machine of each of several ranks."""
    backend: str = ""
    """What carried weights and gradients between them: gloo or nccl."""
    git: Git | None = None
    """None where the code is no git checkout."""
    resumes: tuple[Resume, ...] = ()
    """Oldest first."""
    engine: dict[str, str | float] = Field(default_factory=dict)
    """What sampled, and how close its log-probabilities were to the trainer's when it was proven (nats)."""
    sandbox: str = ""
    """What held the programs that verifiers ran, and what it left open: `tier A; open: kernel: ...`."""
    start: dict[str, str | float] = Field(default_factory=dict)
    """What the first completions were like (shares, the pass rate's interval), and the verdict on them."""
    peak: dict[str, str | float] = Field(default_factory=dict)
    """What utilisation is a share of: `flops_per_s`, and the `source` of that number."""
    fallbacks: tuple[str, ...] = ()
    """What was done otherwise than asked or expected: `engine auto -> hf: vllm is not installed`."""


def build_manifest(
    *,
    name: str,
    recipe_text: str,
    command: Sequence[str],
    steps: int,
    seed: int,
    model_hash: str,
    data_hash: str,
    base_dir: str = "",
    recipe: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    gpus: Sequence[str] = (),
    sandbox: str = "",
    ranks: int = 1,
    hosts: Sequence[str] = (),
    backend: str = "",
) -> Manifest:
    """Describe the run that starts now in this process."""
    return Manifest(
        name=name,
        command=shlex.join(command),
        started=time.time(),
        host=socket.gethostname(),
        steps=steps,
        seed=seed,
        recipe_sha256=hashlib.sha256(recipe_text.encode("utf-8", "surrogatepass")).hexdigest(),
        model_hash=model_hash,
        data_hash=data_hash,
        base_dir=base_dir,
        recipe=dict(recipe or {}),
        files=dict(files or {}),
        packages=_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        gpus=tuple(gpus),
        sandbox=sandbox,
        ranks=ranks,
        hosts=tuple(hosts),
        backend=backend,
        git=_git(Path(__file__).resolve().parents[2]),
    )


def write_manifest(folder: RunFolder, manifest: Manifest) -> None:
    """Put the manifest into its folder, which makes the folder a run."""
    write_json_atomic(folder.manifest, manifest.model_dump(mode="json"))


def read_manifest(folder: RunFolder) -> Manifest:
    """The manifest; raises RunError where it is missing or damaged."""
    try:
        return Manifest.model_validate_json(folder.manifest.read_bytes())
    except OSError as trouble:
        raise RunError(
            f"{folder.manifest}: cannot be read ({trouble.strerror}); is this a run folder?"
        ) from trouble
    except ValidationError as trouble:
        first = trouble.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RunError(f"{folder.manifest} is damaged: {where}: {first['msg']}") from trouble


def _versions() -> dict[str, str]:
    """Installed versions, read without importing anything."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(root: Path) -> Git | None:
    """The commit, where this very file is tracked (an environment may lie in a stranger's checkout)."""
    if _ask_git(root, "ls-files", "--error-unmatch", "rlvr/runs/manifest.py") is None:
        return None
    commit = _ask_git(root, "rev-parse", "--verify", "HEAD")
    changes = _ask_git(root, "status", "--porcelain", "--untracked-files=no")
    return Git(commit=commit, dirty=bool(changes)) if commit else None


def _ask_git(root: Path, *words: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
