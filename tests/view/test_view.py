import io
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rlvr.cli.runs import app
from rlvr.errors import RunError
from rlvr.runs.reader import read_metrics, read_status
from rlvr.runs.writer import Record
from rlvr.types import Verdict
from rlvr.view import lines
from rlvr.view.live import watch
from rlvr.view.panel import panel
from rlvr.view.plots import plot
from rlvr.view.summary import completions, disagreements, show
from tests.runs.made import folder, learning_run, report, scored

ROOT = Path(__file__).resolve().parents[2]
CUT = [scored("p1", [("no_answer", "length", 9)] * 2)]


def printed(renderable) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(renderable)
    return console.file.getvalue()


def watched(path: Path, stop: threading.Event | None = None) -> str:
    out = io.StringIO()
    watch(path, stop=stop, console=Console(file=out, width=80))
    return out.getvalue()


def test_plain_lines_of_a_finished_run(tmp_path):
    said = watched(learning_run(tmp_path, steps=12).path).splitlines()
    assert said[0] == "warm start 50  loss 1.50  12.1k tok/s"
    assert said[2] == "eval after step 0  story  right 20.0% [16.0, 24.0]"
    assert re.fullmatch(
        r"step 1/12  reward 0.50  right 28%  length 15  entropy 1.\d\d  trunc 0%  9.8k tok/s  "
        r"step 0.61 s  eta 0:07",
        said[3],
    )
    assert len([line for line in said if line.startswith("step ")]) == 12
    assert said[-1].startswith("finished after step 12/12")


def test_plain_lines_hold_no_escape_codes(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run = folder(tmp_path)
    record = Record(run, None)
    record.eval(0, "evil\x1b[31m", {"avg_at_k": 0.5})
    record.step(1, CUT, report(1, verify__right_share=0.0))
    record.finish("died of \x1b]0;x\x07")
    said = watched(run.path)
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "evil\\x1b" in said


def test_an_alarm_is_said_once(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    for step in (1, 2, 3):
        record.step(step, CUT, report(step, verify__right_share=0.0))
    record.finish("finished")
    said = watched(run.path)
    assert said.count("reward is 0 because 100 % of completions are cut at the limit") == 1


def test_watch_follows_a_growing_run_until_it_is_stopped(tmp_path):
    run = folder(tmp_path)
    stop, out = threading.Event(), io.StringIO()
    record = Record(run, None)
    thread = threading.Thread(
        target=watch, args=(run.path,), kwargs={"stop": stop, "console": Console(file=out, width=80)}
    )
    thread.start()
    record.step(1, CUT, report(1))
    until = time.monotonic() + 10
    while "step 1/40" not in out.getvalue() and time.monotonic() < until:
        time.sleep(0.02)
    assert "step 1/40" in out.getvalue()
    record.step(2, CUT, report(2))
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert out.getvalue().count("step 1/40") == 1
    assert "step 2/40" in out.getvalue()  # written before the stop, so it is shown


def test_a_resumed_run_does_not_repeat_its_lines(tmp_path):
    run = learning_run(tmp_path, steps=6, finished=False)
    record = Record(run, 4)
    record.step(5, CUT, report(5))
    record.finish("finished")
    said = watched(run.path)
    assert said.startswith("resumed after step 4\n")
    assert "step 4/6" not in said
    assert said.count("step 5/6") == 2  # its line and the ending


def test_a_resumed_run_does_not_repeat_its_alarms(tmp_path):
    run = folder(tmp_path)
    record = Record(run, None)
    for step in (1, 2):
        record.step(step, CUT, report(step, verify__right_share=0.0))
    record = Record(run, 2)
    record.step(3, CUT, report(3, verify__right_share=0.0, verify__timeout_share=0.5))
    record.finish("finished")
    said = watched(run.path)
    assert "step 3/40" in said
    assert "are cut at the limit" not in said
    assert said.count("of checks ran out of time") == 1, "a new one is said"


def test_a_run_that_finishes_early_says_why(tmp_path):
    run = learning_run(tmp_path, steps=6, finished=False)
    Record(run, 5).finish("finished", "1203 tokens sampled of run.tokens = 1200")
    status = read_status(run.path)
    assert (status.state, status.outcome) == ("finished", "1203 tokens sampled of run.tokens = 1200")
    assert f"finished after step 5/6, {status.outcome}: " in " ".join(watched(run.path).split())


def test_a_trainers_own_view_leaves_it_to_the_trainer_to_say_why_it_stopped(tmp_path):
    run = learning_run(tmp_path, steps=6, finished=False)
    Record(run, 5).finish("stopped by signal 2")
    over = threading.Event()
    over.set()
    assert "stopped by signal 2" in watched(run.path)
    assert "stopped" not in watched(run.path, over)


def test_half_written_files_do_not_disturb(tmp_path):
    run = learning_run(tmp_path, steps=3, finished=False)
    with run.metrics.open("a") as file:
        file.write('{"kind": "train", "st')
    run.status.write_text('{"sta')
    assert "dead after step 3/3" in watched(run.path)
    run.manifest.write_text("{")
    assert "cannot be read" in watched(run.path)


def test_a_terminal_gets_a_live_view_and_is_restored(tmp_path):
    run = learning_run(tmp_path, steps=30)
    program = (
        "import sys; from pathlib import Path\n"
        "from rlvr.view.live import watch; watch(Path(sys.argv[1]), stop=None)"
    )
    leader, follower = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TTY_INTERACTIVE")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(run.path)], stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    said = b""
    while select.select([leader], [], [], 20)[0]:
        try:
            said += os.read(leader, 65536)
        except OSError:
            break
    assert process.wait(10) == 0
    os.close(leader)
    text = said.decode()
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    for word in ("step 30/30", "finished", "reward", "entropy", "held out", "story", "█"):
        assert word in text


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_is_a_picture_and_always_the_same(tmp_path, suffix):
    paths = [learning_run(tmp_path / "runs", name).path for name in ("one", "two")]
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    plot(paths, first)
    plot(paths, second)
    assert first.read_bytes() == second.read_bytes()
    if suffix == ".png":
        from PIL import Image

        with Image.open(first) as image:
            image.load()
            assert image.width > 1000
            assert image.convert("RGB").getcolors(1 << 20) is not None
    else:
        assert ET.fromstring(first.read_text()).tag.endswith("svg")
        assert "<dc:date>" not in first.read_text()


def test_plot_refuses_what_it_cannot_draw(tmp_path):
    empty = folder(tmp_path)
    with pytest.raises(RunError, match="no finished step yet"):
        plot([empty.path], tmp_path / "a.svg")
    with pytest.raises(RunError, match=r"ends in .svg or .png; try `a.svg`"):
        plot([empty.path], tmp_path / "a.bmp")


def test_plot_takes_runs_of_one_step_and_numbers_that_are_missing(tmp_path):
    run = folder(tmp_path)
    Record(run, None).step(1, CUT, report(1, policy__entropy_nats=float("nan")))
    plot([run.path], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def disputed_run(parent, steps=24):
    """The reward goes up, the audit down; in every second step the audit calls one paid completion wrong."""
    run = folder(parent, steps=steps)
    record = Record(run, None)
    for step in range(1, steps + 1):
        group = scored(f"p{step}", [("right", "stop", 3), ("wrong", "stop", 3)], text=f"said in {step}")
        audits = (Verdict(score=0.0, status="wrong" if step % 2 else "right", why="no working"), None)
        numbers = {"reward__mean": 0.2 + 0.02 * step + 0.01 * (step % 3)}
        numbers |= {"audit__right_share": 0.6 - 0.02 * step + 0.01 * (step % 3)}
        record.step(step, [replace(group, audits=audits)], report(step, **numbers))
    record.finish("finished")
    return run


def test_disagreements_are_read_newest_first(tmp_path):
    path = disputed_run(tmp_path).path
    said = printed(disagreements(path, 2))
    assert re.findall(r"said in (\d+)", said) == ["23", "21"]
    assert "audit: wrong, no working" in said
    assert "-> right, score 1.00" in said
    assert re.findall(r"said in (\d+)", printed(disagreements(path, 5, 7))) == ["7"]
    assert "no disagreement between training and audit in step 8" in printed(disagreements(path, 5, 8))
    assert "in any step" in printed(disagreements(learning_run(tmp_path, "plain", 2).path, 5))
    out = CliRunner().invoke(app, ["show", str(path), "--disagreements", "1"])
    assert out.exit_code == 0
    assert "said in 23" in out.output


def test_an_alarm_over_many_steps_is_shown_by_show_and_said_once_by_watch(tmp_path):
    path = disputed_run(tmp_path).path
    words = "reward hacking? Over the last 20 steps the reward rose from"
    assert words in " ".join(printed(show(path)).split())
    assert watched(path).count(f"alarm: {words}") == 1
    assert "reward hacking?" in printed(panel("run", read_status(path), read_metrics(path), 0.0))


def test_summary(tmp_path):
    run = learning_run(tmp_path)
    (run.checkpoints / "step-000040").mkdir()
    said = printed(show(run.path))
    assert re.search(r"held out, story: right\s+20.0% \[16.0, 24.0\]\s+92.3%", said)
    assert "80 issued = 40 scored" not in said
    assert "80 issued = 80 scored + 0 no answer + 0 timeout + 0 error; 0 of them truncated" in said
    assert re.search(r"sample\s+0.400\s+65.6%\s+9.8k", said)
    assert "step-000040" in said
    assert "rlvr train 'a recipe.yaml'" in said


def test_completions_show_right_and_wrong_and_cannot_steer_the_terminal(tmp_path):
    run = folder(tmp_path)
    groups = [scored("p1", [("wrong", "stop", 2), ("right", "stop", 2)], text="see \x1b[2J [bold]4[/bold]")]
    Record(run, None).step(1, groups, report(1))
    said = printed(completions(run.path, 2))
    assert said.index("right, score 1.00") < said.index("wrong, score 0.00")
    assert "see \\x1b[2J [bold]4[/bold]" in said
    assert "What is 2 + 2? (p1)" in said
    assert printed(completions(run.path, 1)).count("What is") == 1


def test_what_was_found_stays_on_one_line(tmp_path):
    run = folder(tmp_path)
    group = scored("p1", [("wrong", "stop", 2)])
    verdict = replace(group.verdicts[0], found="def f():\n    pass\n", why="first\nsecond")
    Record(run, None).step(1, [replace(group, verdicts=(verdict,))], report(1))
    said = [line.strip() for line in printed(completions(run.path, 1)).splitlines()]
    assert r"found def f():\n    pass, answer" in " ".join(said)
    assert r"first\nsecond" in said


def test_sparkline_and_clock():
    assert lines.sparkline([0.0, 1.0, 2.0, 7.0]) == "▁▂▃█"
    assert lines.sparkline([1.0, None, 1.0]) == "▄ ▄"
    assert lines.sparkline([]) == ""
    assert lines.sparkline([None]) == " "
    assert len(lines.sparkline([float(i) for i in range(1000)])) == 32
    assert [lines.clock(s) for s in (0, 23.4, 725, 11045)] == ["0:00", "0:23", "12:05", "3:04:05"]


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert "holds no runs yet" in run(app, ["list"]).output
    learning_run(tmp_path / "runs", "made", steps=10)
    listed = run(app, ["list"]).output
    assert re.search(r"made\s+finished\s+10/10", listed)
    assert "before -> after" in run(app, ["show", "last"]).output
    assert run(app, ["show", "made", "--completions", "2"]).output.count("What is 2 + 2?") == 2
    assert "completions of step 4" in run(app, ["show", "runs/made", "--step", "4"]).output
    assert "step 10/10" in run(app, ["watch", "made"]).output
    assert run(app, ["plot", "made", "-o", "out/c.svg"]).exit_code == 0
    assert (tmp_path / "out" / "c.svg").stat().st_size > 5000
    wrong = run(app, ["show", "mad"])
    assert isinstance(wrong.exception, RunError)
    assert len(read_metrics(tmp_path / "runs" / "made")) == 14


def test_looking_at_runs_imports_no_torch(tmp_path):
    learning_run(tmp_path, steps=2)
    program = (
        "import sys; from rlvr.cli.runs import app\n"
        "run = sys.argv[1] + '/made'\n"
        "for words in (['list', sys.argv[1]], ['show', run], ['watch', run]):\n"
        "    app(words, standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "before -> after" in done.stdout
