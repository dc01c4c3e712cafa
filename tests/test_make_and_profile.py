"""Scripts that make a model, and profile a step."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT, TINY, script


@pytest.mark.slow
def test_make_tiny_model_writes_what_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(name: str, *options: object) -> Path:
        done = script(sys.executable, ROOT / "scripts" / "make_tiny_model", tmp_path / name, *options)
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    options = ("--hidden-size", 32, "--layers", 1, "--context", 128)
    model = AutoModelForCausalLM.from_pretrained(make("a", *options, "--seed", 1))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert model.config.model_type == "qwen3"
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (32, 1)
    assert model.config.max_position_embeddings == 128
    text = "Größe: 3 × 7 = 21, 中文 🙂"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = [{"role": "user", "content": "2 + 2?"}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert (
        model.generate(**prompt, max_new_tokens=4, min_new_tokens=4).shape[1] == prompt.input_ids.shape[1] + 4
    )

    weights = [
        (make(name, *options, "--seed", seed) / "model.safetensors").read_bytes()
        for name, seed in (("b", 1), ("c", 2))
    ]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == weights[0]
    assert weights[0] != weights[1]


def test_make_tiny_model_refuses_what_it_cannot_make(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").touch()
    for wrong, said in (
        (["--hidden-size", 50], "multiple of 32"),
        (["--layers", 0], "less than 1"),
        ([], "left alone"),
    ):
        done = script(sys.executable, ROOT / "scripts" / "make_tiny_model", tmp_path, *wrong)
        assert done.returncode == 2
        assert said in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


KEPT = "algorithm.zero_variance=keep"
"""A model that knows nothing may have no group that teaches."""


@pytest.mark.slow
def test_profile_step_writes_the_trace_of_one_step(tmp_path: Path) -> None:
    """One update, in the phase that is named; the run is removed."""
    settings = [part for change in [*TINY, "warm_start=null", KEPT] for part in ("--set", change)]
    command = [sys.executable, ROOT / "scripts" / "profile_step", "quickstart", "--step", "2", *settings]
    scratch = {"TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    done = script(*command, "--out", tmp_path / "out", **scratch)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "aten::addmm" in (tmp_path / "out" / "operators.txt").read_text() or "aten::mm" in done.stdout
    trace = json.loads(gzip.decompress((tmp_path / "out" / "trace.json.gz").read_bytes()))
    spans = [event["name"] for event in trace["traceEvents"] if event.get("name", "").startswith("rlvr: ")]
    assert spans.count("rlvr: update") == 1
    assert {"rlvr: sample", "rlvr: verify", "rlvr: sync"} <= set(spans)
    assert any("Optimizer.step#AdamW" in event.get("name", "") for event in trace["traceEvents"])
    wrong = script(*command[:2], "no-such-recipe", "--out", tmp_path / "other", **scratch)
    assert wrong.returncode == 1
    assert "no-such-recipe" in wrong.stderr
    assert "Traceback" not in wrong.stderr
