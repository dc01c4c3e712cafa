"""A run that is taken up: what may have changed since, what is told, and what is refused."""

import json
from types import SimpleNamespace

import pytest

from rlvr.errors import EngineError, RunError
from rlvr.rollout.hf import HfEngine
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import read_manifest, write_manifest
from rlvr.train.resume import BASE, WARM_START, changed_files
from tests.e2e.running import here, settings
from tests.e2e.test_bad_input import RECIPE
from tests.tiny import saved

VERIFIER = (
    "from rlvr import verifier\n\n\n@verifier\ndef f(completion: str) -> bool:\n    return {} in completion\n"
)


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    """A folder where `train(old, new)` trains a recipe and `resume()` takes its run up: (code, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLVR_DATA_DIR", raising=False)
    (tmp_path / "rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n' * 4)
    (tmp_path / "held.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n' * 3)

    def said(*arguments):
        capsys.readouterr()
        code = here("train", *arguments)
        return code, capsys.readouterr().err

    def train(*changes):
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "r.yaml").write_text(text)
        return said("r.yaml")

    def resume(**changes):
        return said("--resume", "made/run", *settings(**changes))

    run = tmp_path / "made" / "run"
    return SimpleNamespace(path=tmp_path, train=train, resume=resume, run=run)


def test_what_decides_nothing_of_the_learning_may_change(place):
    assert place.train()[0] == 0
    code, said = place.resume(
        run__steps=2, vllm__failures=5, vllm__deadline="9 s", vllm__start_deadline="8 s", vllm__replicas=2,
        vllm__key_file="key", vllm__servers="['http://127.0.0.1:9']", eval__samples=2,
    )  # fmt: skip
    assert code == 0, said
    assert "made/run/recipe.expanded.yaml: loading model and problems" in said
    assert f"key_file: {place.path / 'key'}" in (place.run / "recipe.expanded.yaml").read_text()
    assert place.resume()[0] == 0
    assert read_manifest(RunFolder(place.run)).steps == 2


def notes(place):
    """What the manifest tells, but for the choice of the engine."""
    return [note for note in read_manifest(RunFolder(place.run)).fallbacks if "auto -> hf" not in note]


def edit(place, old, new):
    path = place.run / "recipe.expanded.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("learning_rate: 0.001", "learning_rate: 0.002", "`optim.learning_rate` is 0.002 and was 0.001"),
        ("name: exact", "name: numeric", '`verifier.name` is "numeric" and was "exact"'),
        (
            "failures: 3\n  options: {}",
            "failures: 3\n  options: {seed: 3}",
            "`vllm.options.seed` is 3 and was nothing",
        ),
    ],
)
def test_a_recipe_edited_in_the_run_folder_is_refused_by_key_and_line(place, old, new, words):
    assert place.train()[0] == 0
    edit(place, old, new)
    code, said = place.resume(run__steps=2)
    assert code == 2
    assert words in said
    assert "recipe.expanded.yaml:" in said


def test_an_edit_that_may_be_made_and_a_manifest_of_an_older_rlvr_are_taken(place):
    assert place.train()[0] == 0
    edit(place, "\n  steps: 1", "\n  steps: 2")
    assert place.resume()[0] == 0
    folder = RunFolder(place.run)
    write_manifest(folder, read_manifest(folder).model_copy(update={"recipe": {}, "files": {}}))
    assert place.resume(run__steps=3)[0] == 0
    assert read_manifest(folder).recipe["run.steps"] == "3"


def test_an_edited_verifier_is_told_once(place):
    (place.path / "v.py").write_text(VERIFIER.format("'4'"))
    assert place.train(("name: exact", "name: ./v.py:f"))[0] == 0
    (place.path / "v.py").write_text(VERIFIER.format("'5'"))
    code, said = place.resume(run__steps=2)
    assert code == 0, said
    (note,) = notes(place)
    assert "v.py has changed since the run began" in note
    assert place.resume(run__steps=3)[0] == 0
    assert notes(place) == [note]


def test_other_weights_below_an_adapter_are_refused(place):
    saved(place.path / "model", "bytes")
    adapted = "model: {name: ./model, lora: {rank: 2}}"
    code, said = place.train((RECIPE.splitlines()[0], adapted))
    assert code == 0, said
    assert place.resume(run__steps=2)[0] == 0
    saved(place.path / "model", "bytes", seed=1)
    code, said = place.resume(run__steps=3)
    assert code == 3
    assert "model's own weights have changed since the run began" in said


def test_other_worked_solutions_matter_while_the_warm_start_lasts():
    with pytest.raises(RunError, match="worked solutions have changed"):
        changed_files({WARM_START: "a"}, {WARM_START: "b"}, is_warm=True)
    assert changed_files({WARM_START: "a"}, {WARM_START: "b"}, is_warm=False) == []
    assert changed_files({WARM_START: "a", BASE: "b"}, {WARM_START: "a", BASE: "b"}, is_warm=True) == []


def test_an_evaluation_stopped_half_way_begins_anew_when_its_settings_change(place):
    assert place.train(("run:", "eval: {benchmarks: [./held.jsonl]}\nrun:"))[0] == 0
    metrics, record = place.run / "metrics.jsonl", place.run / "evals" / "step-000001-held.jsonl"
    rows = metrics.read_text().splitlines(keepends=True)
    assert json.loads(rows[-1])["kind"] == "eval"
    metrics.write_text("".join(rows[:-1]))
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:-1]))
    code, said = place.resume(eval__samples=2)
    assert code == 0, said
    header, *outcomes = map(json.loads, record.read_text().splitlines())
    assert header["header"]["samples"] == 2
    assert [len(outcome["completions"]) for outcome in outcomes] == [2, 2, 2]
    (note,) = notes(place)
    assert "evaluation held after step 1, begun anew" in note
    assert "samples: 1 there, 2 now" in note
    assert "--fresh" not in note


def test_an_engine_that_failed_for_good_is_said_once_with_the_way_on(place, monkeypatch, capsys):
    taken = HfEngine.load_weights

    def refuses(engine, model, version):
        if version == 1:
            raise EngineError("it did not take them")
        taken(engine, model, version)

    monkeypatch.setattr(HfEngine, "load_weights", refuses)
    (place.path / "r.yaml").write_text(RECIPE)
    assert here("train", "r.yaml") == 2
    told = capsys.readouterr()
    assert (told.out + told.err).count("it did not take them") == 1
    assert "stopped after step 1; continue with: rlvr train --resume made/run" in told.err
