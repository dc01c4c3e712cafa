"""A plan like a measured run takes the times that the run took."""

import json
from statistics import median

import pytest

from rlvr.plan.assumed import Assumed
from rlvr.plan.like import like
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import read_manifest, write_manifest
from tests.e2e.running import QUICKSTART, SMALL, here, settings, small, train_rows

KEYS = {
    "warm_start": "null",
    "run__steps": 4,
    "eval__every": 0,
    "eval__limit": 1,
    "algorithm__preset": "grpo",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("like")
    assert here(*small(folder, **KEYS)) == 0
    return folder / "run"


def planned(run, capsys, *more):
    keys = settings(**{key.replace(".", "__"): value for key, value in SMALL.items()} | KEYS)
    code = here("plan", QUICKSTART, *keys, "--gpu", "cpu", "--like", run, "--json", *more)
    return code, capsys.readouterr()


@pytest.mark.slow
def test_times_are_those_of_the_run_that_it_is_like(run, capsys):
    code, said = planned(run, capsys)
    assert code == 0
    found = json.loads(said.out)
    (plan,) = found["plans"]
    rows = [row for step, row in train_rows(run).items() if step > 1]
    for phase in ("sample", "logprobs", "update"):
        measured = median(row[f"time/{phase}_s"] for row in rows if row[f"time/{phase}_s"] > 0)
        assert plan["seconds"][phase] == pytest.approx(measured, rel=1e-6)
    assert "3 steps of" in found["like"]
    assert "on 1 x cpu" in found["like"]
    mean = median(row["rollout/length_mean_tokens"] for row in rows)
    assert plan["tokens_a_step"] == 32 * (256 - 32 + round(mean))


@pytest.mark.slow
def test_other_devices_and_runs_without_steps_are_refused(run, tmp_path, capsys):
    code, said = planned(run, capsys, "--gpu", "H100")
    assert code == 2
    assert "it ran on cpu, which tells nothing of H100" in said.err
    folder = RunFolder(run)
    manifest, record = read_manifest(folder), (run / "metrics.jsonl").read_text()
    try:
        (run / "metrics.jsonl").write_text("")
        code, said = planned(run, capsys)
        assert code == 3
        assert "no step after the first is in its record" in said.err
    finally:
        (run / "metrics.jsonl").write_text(record)
    peak = {"flops_per_s": 989.4e12, "source": "NVIDIA H100 80GB HBM3: dense bfloat16, its maker's number"}
    try:
        write_manifest(folder, manifest.model_copy(update={"peak": peak}))
        assert like(folder, Assumed(), prompt=None, memory_bytes=0).gpu.name == "H100"
        write_manifest(folder, manifest.model_copy(update={"peak": {}}))
        code, said = planned(run, capsys)
        assert (code, "of no kind that a plan knows: not recorded" in said.err) == (3, True)
    finally:
        write_manifest(folder, manifest)
