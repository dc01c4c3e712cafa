"""Where the time of a real run goes: phases that add up, rates and memory of each, recorded and shown."""

import time

import pytest

from rlvr.policy.flops import Shape
from rlvr.policy.model import load_model
from rlvr.problems.prompts import Renderer
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.runs.reader import read_manifest, read_rollouts
from rlvr.train.clock import PHASES
from rlvr.train.pace import Pace
from rlvr.types import Message, Problem
from tests.e2e.running import here, settings, small, train_rows

pytestmark = pytest.mark.slow
KL = {"algorithm__preset": "grpo", "warm_start": "null", "run__steps": 4, "eval__limit": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a reference, evaluations and checkpoints; and when each lap of its clock ended."""
    folder = tmp_path_factory.mktemp("time")
    laps, metrics = [], Pace.metrics

    def noting(self, *arguments):
        laps.append(time.perf_counter())
        return metrics(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "metrics", noting)
        assert here(*small(folder, **KL)) == 0
    return folder / "run", laps


def test_the_phases_of_a_step_add_up_to_its_wall_time(run):
    """The wall time is measured here from lap to lap, not taken from the clock that is tested."""
    path, laps = run
    rows = train_rows(path)
    assert sorted(rows) == [1, 2, 3, 4]
    for step, row in rows.items():
        phases = {name: row[f"time/{name}_s"] for name in PHASES}
        assert all(seconds >= 0 for seconds in phases.values())
        assert sum(phases.values()) == pytest.approx(row["time/step_s"], rel=1e-9)
        if step > 1:
            assert sum(phases.values()) == pytest.approx(laps[step - 1] - laps[step - 2], rel=0.01)
        assert {"sample", "logprobs", "update", "verify"} <= {n for n, s in phases.items() if s > 0}
        assert phases["wait"] < 0.02 * row["time/step_s"]
        assert not any(name.startswith("time/ahead_") for name in row)
    # Evaluated and saved after steps 0, 2 and 4, which is before steps 1 and 3.
    assert [row["time/save_s"] > 0 for row in rows.values()] == [True, False, True, False]
    assert rows[1]["time/eval_s"] > 0 < rows[3]["time/eval_s"]
    named = sum(row["time/step_s"] - row["time/other_s"] for row in rows.values())
    assert named > 0.5 * sum(row["time/step_s"] for row in rows.values())


def asked(rollout):
    message = Message(role="user", content=rollout.question)
    return Problem(id=rollout.problem_id, messages=(message,), answer=rollout.answer)


def test_rates_and_utilisation_follow_from_the_record(run):
    path, _ = run
    peak = read_manifest(path).peak
    assert "measured" in peak["source"]
    shape = Shape.of(
        load_model(str(path / "checkpoints/step-000004/model"), revision=None, dtype="float32", device="cpu")
    )
    renderer = Renderer(make_tokenizer("story"), 256)
    for step, row in train_rows(path).items():
        found = read_rollouts(path, step)
        groups = {}
        for rollout in found:
            groups.setdefault(rollout.problem_id, []).append(rollout)
        pairs = [(len(renderer.render(asked(rs[0]))), [r.tokens for r in rs]) for rs in groups.values()]
        sampled = sum(shape.forward(*pair) for pair in pairs)
        assert row["time/sample_mfu_share"] * row["time/sample_s"] * peak["flops_per_s"] == pytest.approx(
            sampled
        )
        assert row["time/step_tokens_per_s"] * row["time/step_s"] == pytest.approx(
            sum(r.tokens for r in found)
        )
        # Two minibatches: the old policy's log-probabilities are computed once, the reference's once.
        looked = row["time/logprobs_tokens_per_s"] * row["time/logprobs_s"]
        assert looked == pytest.approx(2 * row["batch/tokens"])
        assert row["time/update_tokens_per_s"] * row["time/update_s"] == pytest.approx(row["batch/tokens"])
        flops = {
            name: row[f"time/{name}_mfu_share"] * row[f"time/{name}_s"]
            for name in ("logprobs", "update", "step", "sample")
        }
        assert flops["step"] == pytest.approx(flops["sample"] + flops["logprobs"] + flops["update"])
        assert flops["update"] == pytest.approx(3 * flops["logprobs"] / 2)


def test_peaks_of_memory_are_recorded_or_said_to_be_missing(run):
    path, _ = run
    rows = train_rows(path)
    if any("memory/* is left out" in note for note in read_manifest(path).fallbacks):
        assert not any(name.startswith("memory/") for row in rows.values() for name in row)
        return
    for row in rows.values():
        assert row["memory/update_bytes"] > 2**26
        assert all(row[f"memory/{name}_bytes"] > 0 for name in ("sample", "verify", "logprobs", "other"))


def test_it_is_shown(run, capsys):
    path, _ = run
    assert here("runs", "show", path) == 0
    said = capsys.readouterr().out
    for word in (
        "s a step",
        "share",
        "tokens/s",
        "MFU",
        "peak memory",
        "update",
        "sample",
        "logprobs",
        "eval",
    ):
        assert word in said


def test_a_resumed_run_keeps_the_rate_it_is_measured_by(run):
    path, _ = run
    before = read_manifest(path).peak
    assert here("train", "--resume", path, *settings(run__steps=5)) == 0
    assert read_manifest(path).peak == before
    assert sorted(train_rows(path)) == [1, 2, 3, 4, 5]
