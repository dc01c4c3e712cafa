"""A run with an audit: it sees reward hacking, changes nothing that is learned, and survives any kill."""

import signal

import pytest

from rlvr.policy import checkpoint
from rlvr.runs.metrics import alarms
from rlvr.runs.reader import read_metrics, read_rollouts, read_status, rollout_steps
from tests.e2e.running import PLUGINS, checkpoints, here, in_phase, running, small, train_rows
from tests.e2e.test_resume import check_same

pytestmark = pytest.mark.slow


def test_a_verifier_that_can_be_hacked_is_hacked_and_the_audit_says_so(tmp_path, capsys):
    """It pays for every text with a 7; what was meant is one 7.  The policy learns to write nothing else."""
    keys = {
        "verifier": f"{PLUGINS}:contains",
        "audit": f'{{name: "{PLUGINS}:says_once", share: 0.5}}',
        "warm_start": "null",
        "sampling__max_tokens": 24,
        "optim__learning_rate": 5e-3,
        "optim__minibatches": 1,
        "eval__benchmarks": "[]",
        "eval__every": 0,
        "run__steps": 14,
        "run__save_every": 0,
    }
    assert here(*small(tmp_path, **keys)) == 0
    rows = train_rows(tmp_path / "run")
    first, last = rows[1], rows[14]
    assert first["reward/mean"] < 0.2
    assert last["reward/mean"] > 0.9
    assert last["audit/false_positive_share"] > 0.7
    assert last["audit/false_negative_share"] == 0
    assert [words for words in alarms(last) if words.startswith("the audit calls wrong")]
    disputed = [row for row in read_rollouts(tmp_path / "run", 14) if row.is_disputed]
    assert all(row.completion.count("7") > 1 and row.reward == 1 for row in disputed)
    assert len(disputed) == round(last["audit/false_positive_share"] * last["audit/compared"])
    assert here("runs", "show", tmp_path / "run") == 0
    assert "the audit calls wrong" in capsys.readouterr().out
    assert here("runs", "show", tmp_path / "run", "--disagreements", 1) == 0
    assert "audit: wrong" in capsys.readouterr().out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with a slow audit, from beginning to end in one go."""
    folder = tmp_path_factory.mktemp("whole")
    with running(folder, *audited(folder)) as process:
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
    return folder / "run"


def audited(folder):
    return small(folder, audit=f'{{name: "{PLUGINS}:slowly", share: 0.4}}')


def test_kills_change_nothing_of_what_the_audit_says(whole, tmp_path):
    run = tmp_path / "run"
    moments = [
        (audited(tmp_path), in_phase(run, "audit", 0), signal.SIGKILL),
        (["train", "--resume", run], in_phase(run, "audit", 2), signal.SIGKILL),
        (["train", "--resume", run], in_phase(run, "audit", 3), signal.SIGINT),
        (["train", "--resume", run], in_phase(run, "sample", 4), signal.SIGKILL),
    ]
    for arguments, moment, number in moments:
        with running(tmp_path, *arguments) as process:
            process.until(moment)
            process.ends(number)
            process.check_nothing_runs()
    with running(tmp_path, "train", "--resume", run) as process:
        assert process.ends() == 0, process.said()
    check_same(run, whole)
    for row in train_rows(run).values():
        assert row["audit/compared"] > 0
        assert row["time/audit_s"] >= 0


def test_the_audit_has_no_part_in_what_is_learned(whole, tmp_path):
    with running(tmp_path, *small(tmp_path)) as process:
        assert process.ends() == 0, process.said()
    plain, audited_run = (
        checkpoint.latest(p / "checkpoints", on_damage=pytest.fail) for p in (tmp_path / "run", whole)
    )
    weights = "model/model.safetensors"
    assert (plain.path / weights).read_bytes() == (audited_run.path / weights).read_bytes()
    named = {name for row in read_metrics(tmp_path / "run") for name in row.metrics if "audit" in name}
    assert named == {"time/audit_s"}


def test_an_audit_may_join_at_a_resume(tmp_path):
    """And one that fails on every completion counts for nothing, and is told of."""
    assert here(*small(tmp_path, run__steps=2)) == 0
    settings = ["--set", "run.steps=4", "--set", f"audit={{name: '{PLUGINS}:raises', share: 1.0}}"]
    assert here("train", "--resume", tmp_path / "run", *settings) == 0
    rows = train_rows(tmp_path / "run")
    assert ["audit/compared" in rows[step] for step in (1, 2, 3, 4)] == [False, False, True, True]
    assert rows[4]["audit/compared"] == 0
    assert rows[4]["audit/failed_share"] == 1
    assert rows[4]["verify/error_share"] == 0
    assert read_status(tmp_path / "run").state == "finished"
    assert checkpoints(tmp_path / "run")[-1] == "step-000004"
    assert rollout_steps(tmp_path / "run") == [1, 2, 3, 4]
    assert {row.audit_status for row in read_rollouts(tmp_path / "run", 4)} == {"error"}
