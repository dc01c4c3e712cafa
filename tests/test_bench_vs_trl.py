"""The benchmark against TRL: our side of it, its tables, its arguments.  TRL itself is not installed here."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.checkout import ROOT
from tests.tiny import saved

TASK = {
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
    "steps": 2,
    "problems": 3,
    "group_size": 2,
    "max_tokens": 6,
    "context": 256,
    "temperature": 1.0,
    "clip_low": 0.2,
    "clip_high": 0.28,
    "learning_rate": 1e-3,
    "betas": [0.9, 0.95],
    "seed": 0,
    "keep": [2],
    "recipe": {"problems": "story", "verifier": "story", "run.hopeless": "go_on"},
    "options": {},
}


def module(name):
    found = importlib.util.spec_from_file_location(name, ROOT / "scripts" / "versus" / f"{name}.py")
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


def bench(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "bench_vs_trl"), *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def side(what, task, folder):
    path = folder / "task.json"
    path.write_text(json.dumps(task))
    command = [sys.executable, str(ROOT / "scripts" / "versus" / "rlvr_side.py"), what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trl-variants", "trl,trll"], "--trl-variants: trll is none of trl,"),
        (["--rlvr-variants", "trl"], "--rlvr-variants: trl is none of rlvr,"),
        (["--rounds", "0"], "0 is less than 1"),
        (["--sizes", "0.5B"], "--sizes: no 0.5B on cpu"),
    ],
)
def test_mistakes_are_told_before_anything_is_installed(words, said, tmp_path):
    done = bench(*words, "--venv", tmp_path / "venv", "--dir", tmp_path / "made")
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_our_side_trains_on_the_prompts_it_hands_over_and_its_clock_adds_up(tmp_path):
    model = saved(tmp_path / "model", "story")
    task = TASK | {"model": str(model), "prompts": str(tmp_path / "prompts.jsonl")}
    task |= {"folder": str(tmp_path / "runs" / "one"), "result": str(tmp_path / "result.json")}
    side("prompts", task, tmp_path)
    side("train", task, tmp_path)
    told = json.loads((tmp_path / "result.json").read_text())
    asked = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert [row["id"] for row in asked] == [f"story-0-train-{n}" for n in range(6)]
    assert all(row["prompt"].startswith("<|user|>") and row["ids"] for row in asked)
    assert len(told["steps"]) == 2
    for number, step in enumerate(told["steps"]):
        assert sorted(step["problems"]) == sorted(row["id"] for row in asked[3 * number : 3 * number + 3])
        assert 6 <= step["tokens"] <= 36
        assert sum(step["phases"].values()) == pytest.approx(step["wall_s"])
        assert min(step["phases"].values()) >= 0
    assert told["peak_bytes"] > 50 * 2**20
    assert (tmp_path / "runs" / "one" / "step-2" / "model.safetensors").is_file()


def test_the_clock_counts_each_moment_for_the_innermost_phase_and_stands_still_when_stopped():
    clock = module("step_clock").StepClock()
    clock.begin()
    with clock.phase("update"):
        time.sleep(0.05)
        with clock.phase("sample"):
            time.sleep(0.1)
        time.sleep(0.05)
    clock.step(tokens=1)
    with clock.stopped():
        time.sleep(0.2)
    clock.step(tokens=2)
    first, second = clock.steps
    assert 0.1 <= first["phases"]["update"] < 0.1 + first["wall_s"] - 0.2 + 1e-3
    assert first["phases"]["sample"] >= 0.1
    assert sum(first["phases"].values()) <= first["wall_s"]
    assert second["phases"] == {}
    assert second["wall_s"] < 0.15


def run(seconds, tokens, model):
    phases = {"sample": seconds / 4, "update": seconds / 2}
    steps = [{"wall_s": seconds, "cpu_s": 2 * seconds, "tokens": tokens, "phases": phases}] * 2
    return {"steps": steps, "peak_bytes": 2**30, "kept": {"1": f"{model}-1", "2": f"{model}-2"}}


def test_the_tables_say_how_many_times_trl_and_how_long_to_the_goal():
    tables = module("versus_tables")
    results = {"rlvr": [run(1.0, 300, "a")], "trl_512": [{"error": "no"}], "trl": [run(2.0, 200, "b")]}
    accuracy = {"start": 0.2, "a-1": 0.7, "a-2": 0.9, "b-1": 0.3, "b-2": 0.4}
    lines = tables.versus(results, accuracy, {"model": "start", "steps": 2})
    ours = [cell.strip() for cell in lines[2].strip("|").split("|")]
    # 300 tokens a second against 100, 150 a CPU-second against 50; 0.8 lies half way into the second step.
    assert ours == [
        "rlvr", "1.00", "0.25", "0.50", "0.25", "300", "3.00", "2.00", "3.00", "1024", "0.200 -> 0.900", "1.5"
    ]  # fmt: skip
    assert lines[3].startswith("| trl | 2.00 |")
    assert lines[3].endswith("| 0.200 -> 0.400 | not reached |")
    assert "Did not run: trl_512: `no`" in lines


def test_flops_and_bytes_are_those_of_a_count_by_hand():
    config = {
        "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 4, "intermediate_size": 16, "vocab_size": 10,
    }  # fmt: skip
    flops, moved = module("versus_tables").work(config, problems=1, prompt=4, tokens=4, siblings=2)
    # A layer: queries and output 8x8 each, keys and values 8x4 each, three matrices 8x16; the head 8x10.
    inner, head = 2 * (64 + 64 + 32 + 32 + 384), 80
    read = 4 * (2 * inner + 4 * 2 * 2 * 4 * 2)  # four prompt tokens, which see two on average
    said = 4 * (2 * (inner + head) + 4 * 2 * 2 * 4 * 5)  # four sampled ones, which see five
    assert flops == {"sampling": read + said, "update": 3 * (read + said)}
    # A token reads 2 layers x (key + value) x 4 floats of each of five tokens; two passes over the weights.
    assert moved["sampling"] == 4 * 5 * (2 * 2 * 4 * 4) + 2 * 4 * (inner + head)


def test_tables_are_written_between_their_marks_alone(tmp_path):
    tables, page = module("versus_tables"), tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n<!-- b -->\nkept\n<!-- /b -->\n")
    tables.insert(page, "a", ["new", "| \\1 |"])
    assert (
        page.read_text()
        == "before\n<!-- a -->\nnew\n| \\1 |\n<!-- /a -->\nafter\n<!-- b -->\nkept\n<!-- /b -->\n"
    )
    with pytest.raises(SystemExit, match="no <!-- c -->"):
        tables.insert(page, "c", [])


def test_the_page_has_the_marks_that_the_script_writes_between():
    page = Path(ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in ("trl-quickstart", "floor-quickstart"):
        assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1
