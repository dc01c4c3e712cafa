import json
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from rlvr.errors import RunError
from rlvr.runs.manifest import read_manifest
from rlvr.runs.metrics import METRICS
from rlvr.runs.reader import (
    Tail,
    find_run,
    list_runs,
    read_metrics,
    read_rollouts,
    read_status,
    rollout_steps,
)
from rlvr.runs.writer import Record
from rlvr.types import StepReport, Verdict
from tests.runs.made import folder, learning_run, report, scored

GROUP = [("right", "stop", 3), ("error", "length", 5)]


def strict(path):
    """Every line of the file as strict JSON."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_a_step_is_recorded_whole(tmp_path):
    run = folder(tmp_path)
    Record(run, None).step(1, [scored("p1", GROUP)], report(1))
    (row,) = strict(run.metrics)
    assert (row["kind"], row["step"]) == ("train", 1)
    assert abs(row["time"] - time.time()) < 60
    assert row["metrics"]["verify/issued"] == 2
    assert row["metrics"]["time/step_s"] == 0.61
    first, second = read_rollouts(run.path)
    assert (first.problem_id, first.question, first.source) == ("p1", "What is 2 + 2? (p1)", "sums:train")
    assert json.loads(first.answer) == {"value": 4}
    assert json.loads(first.parts) == {"math": 1.0}
    assert (first.sibling, first.status, first.score, first.reward, first.finish) == (
        0,
        "right",
        1.0,
        1.0,
        "stop",
    )
    assert (second.sibling, second.status, second.reward, second.finish) == (1, "error", None, "length")
    assert (first.version_min, first.version_max) == (1, 2)
    assert first.token_ids == [7, 7, 7]
    assert first.logprobs == [-0.5] * 3


def test_what_the_audit_says_is_recorded_with_the_completion(tmp_path):
    run = folder(tmp_path)
    group = scored("p1", [("right", "stop", 3)] * 2 + [("wrong", "stop", 3)] * 2)
    audits = tuple(
        s and Verdict(score=0.0, status=s, why="no\0") for s in ("wrong", None, "right", "timeout")
    )
    Record(run, None).step(1, [replace(group, audits=audits), scored("p2", GROUP)], report(1))
    rows = read_rollouts(run.path)
    assert [r.audit_status for r in rows] == ["wrong", None, "right", "timeout", None, None]
    assert [r.audit_why for r in rows[:2]] == ["no\ufffd", None]
    assert [r.is_disputed for r in rows] == [True, False, True, False, False, False]


def test_completions_recorded_before_there_were_audits_are_read(tmp_path):
    run = folder(tmp_path)
    Record(run, None).step(1, [scored("p1", GROUP)], report(1))
    file = run.rollout_file(1)
    pq.write_table(pq.read_table(file).drop_columns(["audit_status", "audit_why"]), file)
    assert [r.audit_status for r in read_rollouts(run.path)] == [None, None]


def test_text_that_no_file_takes_survives(tmp_path):
    run = folder(tmp_path)
    Record(run, None).step(1, [scored("p\0", GROUP, text="a\0b\ud800c 😀 é")], report(1))
    assert read_rollouts(run.path, 1)[0].completion == "a\ufffdb\ufffdc 😀 é"


def test_numbers_that_are_not_finite_become_null(tmp_path):
    run = folder(tmp_path)
    names = [n for n in METRICS if "*" not in n]
    values = [float("nan"), float("inf"), float("-inf")]
    bad = StepReport(metrics={name: values[i % 3] for i, name in enumerate(names)})
    Record(run, None).step(1, [scored("p1", GROUP)], bad)
    (row,) = strict(run.metrics)
    assert set(row["metrics"]) == set(names)
    assert set(row["metrics"].values()) == {None}
    assert read_status(run.path).reward is None


def test_a_step_whose_checks_all_failed_is_recorded(tmp_path):
    run = folder(tmp_path)
    Record(run, None).step(1, [scored("p1", [("error", "stop", 1)])], StepReport(metrics={}))
    (row,) = strict(run.metrics)
    assert row["metrics"]["reward/mean"] is None
    assert row["metrics"]["verify/error_share"] == 1.0


def test_an_unknown_metric_is_an_error_and_writes_nothing(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    with pytest.raises(RunError, match="did you mean `loss/surrogate`"):
        record.step(1, [scored("p1", GROUP)], StepReport(metrics={"loss/surogate": 1.0}))
    with pytest.raises(RunError, match="eval/gsm8k/accuracy"):
        record.eval(1, "gsm8k", {"accuracy": 1.0})
    with pytest.raises(RunError, match="warm_start/los"):
        record.warm_start(1, {"los": 1.0})
    assert not run.metrics.exists()
    assert rollout_steps(run.path) == []


def test_names_may_be_bare_or_full(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    record.eval(0, "gsm8k", {"avg_at_k": 0.5, "eval/gsm8k/greedy": 0.4})
    record.warm_start(10, {"loss_nats": 1.0})
    evaluation, warm = read_metrics(run.path)
    assert evaluation.metrics == {"eval/gsm8k/avg_at_k": 0.5, "eval/gsm8k/greedy": 0.4}
    assert warm.metrics == {"warm_start/loss_nats": 1.0}


@pytest.mark.parametrize("resume_step", [None, 0, 10, 17])
def test_resume_leaves_neither_duplicate_nor_gap(tmp_path, resume_step):
    run = learning_run(tmp_path, steps=20, finished=False)
    with run.metrics.open("a") as file:
        file.write('{"kind": "train", "step": 21, "ti')
    for step in (0, 10, 20):
        run.eval_file(step, "a/b c").write_text("{}")
    (run.rollouts / ".step-000021.parquet.1-2.tmp").write_text("torn")
    record = Record(run, resume_step)
    last = -1 if resume_step is None else resume_step
    rows = read_metrics(run.path)
    assert [r.step for r in rows if r.kind == "train"] == list(range(1, last + 1))
    assert [r.step for r in rows if r.kind == "eval"] == [s for s in (0, 10, 20) if s <= last]
    assert [r.step for r in rows if r.kind == "warm_start"] == ([] if resume_step is None else [50, 100])
    assert rollout_steps(run.path) == list(range(1, last + 1))
    kept = [f"step-{s:06d}-a_b_c.jsonl" for s in (0, 10, 20) if s <= last]
    assert sorted(p.name for p in run.evals.iterdir()) == kept
    assert not list(run.path.rglob("*.tmp"))
    record.step(last + 1, [scored("p1", GROUP)], report(last + 1))
    assert len(strict(run.metrics)) == len(rows) + 1
    resumes = read_manifest(run).resumes
    assert [r.step for r in resumes] == ([] if resume_step is None else [resume_step])


def test_phase_is_written_at_most_ten_times_a_second_but_never_stale(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    seen = set()
    until = time.monotonic() + 0.5
    count = 0
    while time.monotonic() < until:
        count += 1
        record.phase("sample", count, 10**6)
        seen.add(run.status.stat().st_ino)
    assert count > 50
    assert 2 <= len(seen) <= 7
    for name in ("verify", "update", "verify"):
        record.phase(name, 1, 2)
        status = read_status(run.path)
        assert (status.phase, status.done, status.total) == (name, 1, 2)


def test_states(tmp_path):
    run = folder(tmp_path, "a", steps=40)
    with run.lock():
        record = Record(run, None)
        record.step(1, [scored("p1", GROUP)], report(1))
        record.eval(1, "story", {"avg_at_k": 0.25})
        status = read_status(run.path)
        assert (status.state, status.step, status.steps) == ("running", 1, 40)
        assert (status.reward, status.evals) == (1.0, {"story": 0.25})
    assert read_status(run.path).state == "dead"
    record.finish("stopped by signal 2")
    assert (read_status(run.path).state, read_status(run.path).outcome) == ("stopped", "stopped by signal 2")
    record.finish("finished")
    assert read_status(run.path).state == "finished"
    run.status.write_text('{"state": "fin')
    assert read_status(run.path).state == "dead"
    run.manifest.write_text("{}")
    assert read_status(run.path).state == "damaged"
    with pytest.raises(RunError, match=r"manifest.json is damaged: name: Field required"):
        read_manifest(run)


def test_a_run_on_another_machine_counts_as_running_while_it_is_heard(tmp_path):
    run = folder(tmp_path)
    Record(run, None)
    said = json.loads(run.status.read_text())
    run.status.write_text(json.dumps({**said, "host": "elsewhere"}))
    assert read_status(run.path).state == "running"
    run.status.write_text(json.dumps({**said, "host": "elsewhere", "time": said["time"] - 3600}))
    assert read_status(run.path).state == "dead"


def test_notes_stand_once_in_the_manifest(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    for _ in range(2):
        record.note("engine auto -> hf: vllm is not installed")
    manifest = read_manifest(run)
    assert manifest.fallbacks == ("engine auto -> hf: vllm is not installed",)
    assert manifest.command == "rlvr train 'a recipe.yaml'"
    assert manifest.seed == 3
    assert len(manifest.recipe_sha256) == 64
    assert "torch" in manifest.packages
    assert manifest.cpus >= 1


def test_tail_reads_whole_rows_once_and_notices_a_new_file(tmp_path):
    run = folder(tmp_path)
    tail = Tail(run.metrics)
    assert tail.poll() == []
    line = '{"kind": "train", "step": %d, "time": 1.0, "metrics": {}}\n'
    with run.metrics.open("a") as file:
        file.write(line % 1 + (line % 2)[:20])
        file.flush()
        assert [r.step for r in tail.poll()] == [1]
        file.write((line % 2)[20:] + "garbage\n[1]\n" + line % 3)
        file.flush()
        assert [r.step for r in tail.poll()] == [2, 3]
    assert tail.poll() == []
    Record(run, 1)
    assert [r.step for r in tail.poll()] == [1]
    assert tail.was_replaced


def test_find_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="holds no runs yet"):
        find_run("last")
    older, newer = (learning_run(tmp_path / "runs", name, steps=1) for name in ("older", "newer"))
    assert find_run("last").path.resolve() == newer.path
    assert find_run("older").path.resolve() == older.path
    assert find_run("runs/older").path.resolve() == older.path
    assert [r.path.name for r in list_runs(tmp_path / "runs")] == ["older", "newer"]
    with pytest.raises(RunError, match=r"there is no run `oldr`.*did you mean `older`"):
        find_run("oldr")
    with pytest.raises(RunError, match="did you mean `newer`"):
        find_run("runs/newr")


def test_rollouts_that_are_missing_or_damaged(tmp_path):
    run = folder(tmp_path)
    with pytest.raises(RunError, match="no completions yet"):
        read_rollouts(run.path)
    Record(run, None).step(4, [scored("p1", GROUP)], report(4))
    with pytest.raises(RunError, match="no completions of step 3: it has steps 4 to 4"):
        read_rollouts(run.path, 3)
    run.rollout_file(4).write_bytes(b"PAR1 torn")
    with pytest.raises(RunError, match="is damaged"):
        read_rollouts(run.path)
