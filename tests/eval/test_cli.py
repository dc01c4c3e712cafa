import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlvr.cli.eval import _choose, _save
from rlvr.cli.subject import Subject
from rlvr.errors import RecipeError, RunError
from rlvr.eval.benchmarks import open_benchmark
from rlvr.eval.result import summarise
from rlvr.policy.model import fingerprint, make_model
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.recipe.load import load

REPO = Path(__file__).parents[2]
NOTHING = dict.fromkeys(("question", "answer", "verifier", "prompt"))


def tiny(seed=0):
    tokenizer = make_tokenizer("story")
    sizes = {
        "hidden_size": 32,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 16,
        "mlp_size": 32,
        "context": 256,
    }
    return make_model(tokenizer, **sizes, seed=seed), tokenizer


def result(name, n=0):
    return summarise(name, [], n=n, k=1, seconds=0.0, warnings=[], evidence={})


def rlvr(*arguments, folder):
    code = (
        "import sys, typer\n"
        "from rlvr.cli.eval import evaluate\n"
        "from rlvr.errors import RlvrError\n"
        "app = typer.Typer()\n"
        "app.command()(evaluate)\n"
        "try:\n    app()\n"
        "except RlvrError as error:\n    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{REPO}:{REPO / 'verifiers'}", "COLUMNS": "200"}
    environment.pop("RLVR_DATA_DIR", None)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_list_names_the_benchmarks_without_torch(tmp_path):
    done = rlvr("--list", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HuggingFaceH4/MATH-500" in done.stdout
    assert done.stderr.strip().endswith("False")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which model"),
        (["m"], "say what to measure"),
        (["m", "-b", "gsm9k"], "did you mean `gsm8k`"),
        (["m", "-b", "./none.jsonl"], "none.jsonl: no such file"),
        (["m", "-b", "story", "--engine", "vlm_local"], "did you mean `vllm_local`"),
        (["m", "-b", "story", "--device", "gpu"], "--device = gpu: no such device"),
        (["m", "-b", "story", "--dtype", "half"], "--dtype half: must be float32 or bfloat16"),
        (["m", "-b", "story", "--server", "localhost:8000"], "--server localhost:8000: must be an address"),
    ],
)
def test_mistakes_are_said_before_a_model_is_loaded(tmp_path, arguments, message):
    pytest.importorskip("rlvr.build")
    done = rlvr(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_with_other_fields_is_told_the_options_that_name_them(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"q": "2+2?", "a": "4"}\n')
    said = rlvr("m", "-b", "./mine.jsonl", folder=tmp_path)
    assert said.returncode == 2
    assert "mine.jsonl:1: no field `question` (the row has: q, a)" in said.stderr
    assert "--question '{q}' --answer '{a}'" in said.stderr
    named = rlvr("m", "-b", "./mine.jsonl", "--question", "{q}", "--answer", "{a}", folder=tmp_path)
    assert "no field" not in named.stderr


def test_help_names_last(tmp_path):
    assert "`last`" in " ".join(rlvr("--help", folder=tmp_path).stdout.split())


def test_choice_of_benchmarks():
    chosen = _choose("gsm8k, a/mine.jsonl", {**NOTHING, "prompt": "plain", "verifier": "exact"})
    assert [(b.name, b.prompt, b.verifier) for b in chosen] == [
        ("gsm8k", "plain", "exact"),
        ("mine", "plain", "exact"),
    ]
    with pytest.raises(RecipeError, match="mine more than once"):
        _choose("a/mine.jsonl,b/mine.jsonl", NOTHING)


def test_a_run_asks_files_as_its_recipe_does_nulls_included(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "model: m\nverifier: code\nproblems: {source: ./mine.jsonl, question: '{prompt}', answer: null}\n"
    )
    subject = Subject("run", recipe=load(tmp_path / "a.yaml").recipe)
    [chosen] = _choose("./held.jsonl", NOTHING, subject.asked())
    assert (chosen.question, chosen.answer, chosen.verifier) == ("{prompt}", None, "code")
    (tmp_path / "held.jsonl").write_text('{"prompt": "Square.", "test_list": ["assert f(2) == 4"]}')
    [problem] = open_benchmark(chosen, data_dir=None, base_dir=tmp_path)
    assert (problem.answer, problem.meta["test_list"]) == (None, ["assert f(2) == 4"])
    [asked] = _choose("./held.jsonl", {**NOTHING, "answer": "{test_list}"}, subject.asked())
    assert asked.answer == "{test_list}"


def test_results_are_merged_by_benchmark_and_written_whole(tmp_path):
    path = tmp_path / "results.json"
    _save(path, "m", [result("a"), result("b")])
    _save(path, "m", [result("b", n=3)])
    saved = json.loads(path.read_text())["results"]
    assert [(r["benchmark"], r["n"], r["complete"]) for r in saved] == [("a", 0, True), ("b", 3, False)]
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    path.write_text('{"results": [')
    with pytest.raises(RunError, match="damaged"):
        _save(path, "m", [result("a")])


def test_folders_are_named_after_model_and_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert Subject("run", run=Path("run")).folder("0" * 64) == Path("run/evals/model-00000000")
    assert Subject("model/").folder("12345678" + "0" * 56) == Path("evals/model-12345678")
    assert Subject("Qwen/Qwen3-0.6B").folder("a" * 64) == Path("evals/Qwen-Qwen3-0.6B-aaaaaaaa")


def test_fingerprint_follows_the_weights():
    model, _ = tiny()
    before = fingerprint(model)
    assert before == fingerprint(tiny()[0])
    assert before != fingerprint(tiny(seed=1)[0])
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] += 1e-3
    assert fingerprint(model) != before
    assert fingerprint(model.to(torch.bfloat16)) != before


def test_a_model_folder_is_measured_resumed_and_measured_alike(tmp_path):
    pytest.importorskip("rlvr.build")
    model, tokenizer = tiny()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "mine.jsonl").write_text('{"question": "Ana has 6. How many does Ana have?", "answer": 6}\n')
    common = (
        "model",
        "-b",
        "story,mine.jsonl",
        "--limit",
        "3",
        "--samples",
        "2",
        "--max-tokens",
        "8",
        "--prompt",
        "plain",
    )
    first = rlvr(*common, "--out", "a", "--json", "--verifier", "story", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    again = rlvr(*common, "--out", "b", "--json", "--verifier", "story", folder=tmp_path)
    resumed = rlvr(*common, "--out", "a", "--json", "--verifier", "story", folder=tmp_path)
    found = [json.loads(done.stdout)["results"] for done in (first, again, resumed)]
    assert [(r["benchmark"], r["n"], r["k"]) for r in found[0]] == [("story", 3, 2), ("mine", 1, 2)]
    assert [[r["shares"] for r in results] for results in found] == [[r["shares"] for r in found[0]]] * 3
    assert [r["evidence"]["resumed"] for r in found[2]] == [3, 1]
    assert (tmp_path / "a" / "story.jsonl").read_bytes() == (tmp_path / "b" / "story.jsonl").read_bytes()


@pytest.mark.parametrize("command", [("eval", "no/such-model", "-b", "story"), ("serve", "no/such-model")])
def test_without_a_network_a_model_that_is_nowhere_is_said_at_once(tmp_path, command):
    """The hub's library would ask six times for each file, with 23 s of pauses."""
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    environment |= {"PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "verifiers")])}
    done = subprocess.run(
        [sys.executable, "-m", "rlvr.cli.app", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith("model `no/such-model` ")
    assert "http://127.0.0.1:1 does not answer: " in last
    assert "Retrying" not in done.stderr
