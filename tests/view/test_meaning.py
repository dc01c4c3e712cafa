"""Every number explained: the words of a metric, the page of them all, the marks of what is unhealthy."""

import io
import time

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rlvr.cli.runs import app
from rlvr.errors import RunError
from rlvr.runs.metrics import METRICS, rung, unhealthy
from rlvr.runs.reader import read_metrics, read_status
from rlvr.runs.writer import Record
from rlvr.view.meaning import explain, markdown
from rlvr.view.panel import panel
from rlvr.view.summary import show
from tests.checkout import ROOT
from tests.runs.made import folder, learning_run, report, scored

CUT = [scored("p1", [("no_answer", "length", 9)] * 2)]


def printed(renderable):
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    return console.file.getvalue()


def test_a_metric_in_words():
    assert explain("eval/gsm8k/truncated_share").splitlines() == [
        "eval/gsm8k/truncated_share",
        "  meaning  completions cut at the limit",
        "  unit     share (0 to 1)",
        "  better   down",
        "  healthy  at most 0.05 (AReaL's documentation)",
        "  alarm    More than a fifth of a benchmark's completions are cut at the limit.",
    ]
    assert "healthy  no fixed range" in explain("reward/mean")
    assert "alarm    none" in explain("reward/std")
    assert all(explain(name).count("\n") == 5 for name in METRICS)


def test_a_room_and_the_whole_register_are_listed():
    assert explain().count("\n") == len(METRICS) - 1
    listed = explain("loss/").splitlines()
    assert [line.split()[0] for line in listed] == [name for name in METRICS if name.startswith("loss/")]
    assert explain("loss") == explain("loss/")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("reward/meen", "reward/mean"), ("rolout", "rollout"), ("truncated_share", "eval/*/truncated_share")],
)
def test_an_unknown_metric_names_the_near_miss(wrong, near):
    with pytest.raises(RunError) as told:
        explain(wrong)
    assert str(told.value) == f"there is no metric `{wrong}`; did you mean `{near}`?"


def test_the_page_is_the_register():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == markdown() + "\n", "write it anew: rlvr runs explain --markdown > docs/metrics.md"
    assert all(f"\n| `{name}` |" in page for name in METRICS)


def test_the_command():
    run = CliRunner().invoke
    assert run(app, ["explain", "loss"]).output == explain("loss") + "\n"
    assert run(app, ["explain", "--markdown"]).output == markdown() + "\n"


def test_unhealthy_values_and_alarms_name_their_metric():
    row = {
        "reward/mean": 0.5,
        "rollout/truncated_share": 0.3,
        "eval/x/no_answer_share": 0.2,
        "policy/ess_share": 0.6,
        "optim/grad_norm": None,
        "a/stranger": 9.0,
    }
    assert unhealthy(row) == ["rollout/truncated_share", "eval/x/no_answer_share"]
    assert list(rung(row).values()) == ["rollout/truncated_share", "optim/grad_norm"]


def test_show_says_what_an_alarm_is_about_and_marks_what_is_unhealthy(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    for step in (1, 2):
        record.step(step, CUT, report(step, verify__right_share=0.0))
    record.eval(2, "story", {"avg_at_k": 0.0, "no_answer_share": 1.0})
    said = printed(show(run.path))
    assert "reward is 0 because 100 % of completions are cut at the limit: raise sampling.max_tokens" in said
    assert "\n    reward/mean: no fixed range" in said
    outside = said[said.index("outside the healthy range") :]
    assert "rollout/truncated_share  1  healthy: at most 0.05 (AReaL's documentation)" in outside
    assert "eval/story/no_answer_share  1  healthy: at most 0.1 (ours, uncalibrated)" in outside
    assert "rlvr runs explain METRIC" in outside
    live = printed(panel("made", read_status(run.path), read_metrics(run.path), time.time()))
    assert "100%!" in live


def test_a_healthy_run_has_no_marks(tmp_path):
    run = learning_run(tmp_path, steps=6)
    said = printed(show(run.path))
    assert "outside" not in said
    assert "explain" not in said
    assert "!" not in printed(panel("made", read_status(run.path), read_metrics(run.path), time.time()))
