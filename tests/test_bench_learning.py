"""The learning benchmark, run as a person would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench_learning"), *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_bench_learning_goes_on_where_it_was_stopped_and_names_what_did_not_learn(tmp_path: Path) -> None:
    def bench(*presets: str, tokens: int = 4000) -> subprocess.CompletedProcess[str]:
        options = ["--presets", ",".join(presets), "--seeds", 0, "--jobs", 2, "--dir", tmp_path / "made"]
        sizes = ["--tokens", tokens, "--warm-steps", 20, "--problems", 16]
        return run(*options, *sizes)

    done = bench("default")
    assert done.returncode == 1, done.stderr
    assert "did not learn: default, seeds 0" in done.stdout, "20 warm steps and 4000 tokens teach nothing"
    results = tmp_path / "made" / "results"
    first = json.loads((results / "default-0.json").read_text())
    assert 4000 <= first["tokens"] < 4000 + 256 * 64
    assert first["steps"] >= 1
    written = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    done = bench("default", "grpo")
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is done twice"
    assert sorted(path.name for path in results.iterdir()) == ["default-0.json", "grpo-0.json"]
    table = (tmp_path / "made" / "table.md").read_text()
    assert [line.split()[1] for line in table.splitlines()[4:]] in (["default", "grpo"], ["grpo", "default"])
    assert json.loads((results / "grpo-0.json").read_text())["before"] == first["before"]
    done = bench("default", tokens=5000)
    assert done.returncode == 1
    assert "holds results with other tokens: give another --dir" in done.stderr
    assert (tmp_path / "made" / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_bench_learning_refuses_an_unknown_preset() -> None:
    done = run("--presets", "default,grpoo")
    assert done.returncode == 2
    assert "no such preset: grpoo" in done.stderr
