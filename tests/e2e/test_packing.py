"""Runs that train packed, padded, and with a model that cannot train packed."""

from transformers import CodeGenConfig, CodeGenForCausalLM

from rlvr.problems.vocabulary import make_tokenizer
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import read_manifest
from tests.e2e.running import here, small, train_rows

BRIEF = {"run__steps": 2, "warm_start__steps": 4, "eval__benchmarks": "[]", "eval__every": 0}


def fallbacks(run):
    return [note for note in read_manifest(RunFolder(run)).fallbacks if "packing" in note]


def test_packed_and_padded_runs_begin_alike_and_neither_is_a_fallback(tmp_path):
    assert here(*small(tmp_path, **BRIEF)) == 0
    assert here(*small(tmp_path, **BRIEF, run__name="padded", optim__packing="off")) == 0
    packed, padded = train_rows(tmp_path / "run")[1], train_rows(tmp_path / "padded")[1]
    assert abs(packed["optim/grad_norm"] / padded["optim/grad_norm"] - 1) < 1e-3
    assert fallbacks(tmp_path / "run") == fallbacks(tmp_path / "padded") == []


def test_a_model_that_cannot_trains_padded_and_the_manifest_says_so(tmp_path):
    tokenizer = make_tokenizer("story")
    config = CodeGenConfig(
        vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=4, rotary_dim=4,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    CodeGenForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    changes = {"model__make": "null", "model__name": tmp_path / "model", "sampling__engine": "hf"}
    assert here(*small(tmp_path, **BRIEF | changes)) == 0
    (note,) = fallbacks(tmp_path / "run")
    assert note.startswith("optim.packing auto -> off, padded and sorted by length: its attention is `eager`")
    assert train_rows(tmp_path / "run")[1]["optim/grad_norm"] > 0
