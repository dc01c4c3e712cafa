"""Whatever is wrong is said in a few words, with a place and a mend; nothing is left behind; no traceback."""

import json
import shutil
from types import SimpleNamespace

import pytest

from tests.e2e.running import checkpoints, here, running, settings, small, status
from tests.tiny import saved

RECIPE = """\
model: {make: {hidden_size: 16, layers: 1, head_dim: 8, mlp_size: 16, context: 128, tokenizer: bytes}}
problems: {source: rows.jsonl, prompt: plain}
verifier: {name: exact}
sampling: {group_size: 2, max_tokens: 8}
optim: {learning_rate: 1e-3, problems_per_step: 2}
run: {steps: 1, dir: made, name: run, threads: 1, verify_workers: 1}
"""


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    """A folder with a recipe that works, and what its command says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLVR_DATA_DIR", raising=False)
    monkeypatch.delenv("RLVR_DEBUG", raising=False)
    (tmp_path / "rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n' * 4)

    def train(*changes, debug=False):
        """(exit code, stderr) after replacing parts of the recipe."""
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "r.yaml").write_text(text)
        capsys.readouterr()
        code = here(*(["--debug"] if debug else []), "train", "r.yaml")
        return code, capsys.readouterr().err

    return SimpleNamespace(path=tmp_path, train=train, runs=lambda: sorted((tmp_path / "made").glob("*")))


def test_the_recipe_of_these_tests_works(place):
    code, said = place.train()
    assert code == 0, said
    assert [path.name for path in place.runs()] == ["run"]


def refuse(place, *changes):
    """What is said about the changes, after the checks that hold for every refusal."""
    code, said = place.train(*changes)
    assert code not in (0, 70), said
    assert "Traceback" not in said
    assert place.runs() == []
    return said


@pytest.mark.parametrize(
    ("old", "new", "fragments"),
    [
        ("learning_rate", "learning_rat", ["r.yaml:5", "did you mean `learning_rate`"]),
        ("optim: {learning_rate: 1e-3,", "optim: {lr: 1e-6,", ["r.yaml:5", "`optim.lr`", "learning_rate"]),
        ("group_size: 2,", "group_size: 2, group_size: 4,", ["r.yaml:4", "group_size", "twice"]),
        ("group_size: 2", "group_size: 1", ["r.yaml:4", "sampling.group_size"]),
        ("rows.jsonl", "row.jsonl", ["r.yaml:2", "row.jsonl", "rows.jsonl"]),
        ("name: exact", "name: exakt", ["exakt", "did you mean `exact`"]),
        ("name: exact", "name: ./absent.py:f", ["r.yaml:3", "absent.py"]),
        ("name: exact", "name: exact, ignore_cas: true", ["ignore_case"]),
        ("max_tokens: 8", "max_tokens: 128", ["r.yaml:4", "128"]),
        ("tokenizer: bytes", "tokenizer: byte", ["did you mean `bytes`"]),
        ("steps: 1", "steps: yes", ["r.yaml:6", "run.steps"]),
    ],
)
def test_a_recipe_that_is_wrong(place, old, new, fragments):
    said = refuse(place, (old, new))
    for fragment in fragments:
        assert fragment in said, said


@pytest.mark.parametrize(
    ("rows", "fragments"),
    [
        ("", ["rows.jsonl", "holds no rows"]),
        ('{"question": "2+2?"}\n', ["rows.jsonl:1", "answer"]),
        ('{"question": "2+2?", "answer": "4"}\nnot json\n', ["rows.jsonl:2", "not JSON"]),
    ],
)
def test_data_that_is_wrong(place, rows, fragments):
    (place.path / "rows.jsonl").write_text(rows)
    said = refuse(place)
    for fragment in fragments:
        assert fragment in said, said


def test_prompts_too_long_for_the_context(place):
    """It shows with the first problem drawn, so there is a run, and it says why it stopped."""
    (place.path / "rows.jsonl").write_text(json.dumps({"question": "7" * 200, "answer": "4"}) + "\n")
    code, said = place.train()
    assert code == 2
    assert "1 problems in a row do not fit" in said
    assert "the model's context is 128" in said
    assert "Traceback" not in said
    (run,) = place.runs()
    assert (status(run)["state"], status(run)["step"]) == ("stopped", 0)
    assert "do not fit" in status(run)["outcome"]


def model_without(place, *names):
    """A change that names a saved model without these files."""
    folder = saved(place.path / "model", "bytes")
    for name in names:
        (folder / name).unlink()
    return RECIPE.splitlines()[0], "model: ./model"


@pytest.mark.parametrize(
    ("missing", "fragments"),
    [
        (("tokenizer.json", "tokenizer_config.json"), ["tokenizer", "save_pretrained"]),
        (("chat_template.jinja",), ["chat template"]),
        (("model.safetensors",), ["model.safetensors", "cannot be loaded"]),
        (("config.json",), ["config.json"]),
    ],
)
def test_a_model_folder_that_lacks_something(place, missing, fragments):
    said = refuse(place, model_without(place, *missing))
    for fragment in fragments:
        assert fragment in said, said


def test_a_model_folder_that_is_not_there(place):
    (_, new), old = ("", "model: ./modle"), RECIPE.splitlines()[0]
    saved(place.path / "model", "bytes")
    said = refuse(place, (old, new))
    assert "r.yaml:1" in said
    assert "did you mean `model`" in said


@pytest.mark.parametrize(
    ("source", "fragments"),
    [
        ("def f(completion) -> bool\n    return True\n", ["plugin.py:1", "expected ':'"]),
        (
            "from rlvr import verifier\n\n@verifier\ndef g(completion: str) -> bool:\n    return True\n",
            ["f", "g"],
        ),
        ("import no_such_module\n", ["plugin.py", "no_such_module"]),
        (
            "from rlvr import verifier\n\n@verifier\ndef f(completion: str, gold: str):\n    return True\n",
            ["f", "gold"],
        ),
    ],
)
def test_a_verifier_file_that_does_not_load(place, source, fragments):
    (place.path / "plugin.py").write_text(source)
    said = refuse(place, ("name: exact", "name: ./plugin.py:f"))
    for fragment in fragments:
        assert fragment in said, said


def test_debug_shows_where_it_came_from(place):
    code, said = place.train(("learning_rate", "learning_rat"), debug=True)
    assert code == 2
    assert "Traceback" in said
    assert "RecipeError" in said


def test_a_run_of_that_name_is_not_overwritten(place):
    assert place.train()[0] == 0
    before = sorted((p.name, p.stat().st_mtime_ns) for p in place.runs()[0].rglob("*"))
    code, said = place.train()
    assert code == 3
    assert "exists already" in said
    assert "--resume" in said
    assert sorted((p.name, p.stat().st_mtime_ns) for p in place.runs()[0].rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], "say what to train"),
        (["absent.yaml"], "absent.yaml"),
        (["--resume", "made/rum"], "did you mean `run`"),
        (["--resume", "made/run", "--set", "optim.learning_rate=1"], "a run goes on as it began"),
        (["r.yaml", "--set", "run.stpes=1"], "did you mean `steps`"),
        (["--resume", "made/run", "--set", "run.stpes=1"], "did you mean `steps`"),
    ],
)
def test_commands_that_are_wrong(place, capsys, arguments, fragment):
    assert place.train()[0] == 0
    capsys.readouterr()
    assert here("train", *arguments) not in (0, 70)
    said = capsys.readouterr().err
    assert fragment in said
    assert "Traceback" not in said


def test_data_that_changed_is_refused_at_a_resume(place, capsys):
    assert place.train()[0] == 0
    (place.path / "rows.jsonl").write_text('{"question": "2+3?", "answer": "5"}\n' * 4)
    assert here("train", "--resume", "made/run", *settings(run__steps=2)) == 3
    assert "has changed since the run began" in capsys.readouterr().err


def test_a_run_whose_every_checkpoint_is_damaged_keeps_its_record(place, capsys):
    assert place.train()[0] == 0
    run = place.path / "made" / "run"
    recorded = (run / "metrics.jsonl").read_bytes()
    for name in checkpoints(run):
        (run / "checkpoints" / name / "state.json").write_text("{}")
    capsys.readouterr()
    assert here("train", "--resume", run) == 3
    said = capsys.readouterr().err
    assert "no checkpoint to continue from" in said
    assert "state.json has changed" in said
    assert (run / "metrics.jsonl").read_bytes() == recorded


def test_more_steps_given_at_a_resume_are_remembered(place, capsys):
    assert place.train()[0] == 0
    assert here("train", "--resume", "made/run", *settings(run__steps=3)) == 0
    assert here("train", "--resume", "made/run") == 0
    assert "after step 3/3" in capsys.readouterr().out


def test_a_file_of_ones_own_is_checked_with_the_recipes_verifier(place, capsys):
    (place.path / "held.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    assert place.train(("run:", "eval: {benchmarks: [./held.jsonl]}\nrun:"))[0] == 0
    header = (
        next((place.path / "made" / "run" / "evals").glob("step-*-held.jsonl")).read_text().splitlines()[0]
    )
    assert json.loads(header)["header"]["verifier"] == "exact"
    capsys.readouterr()
    assert here("eval", "made/run", "-b", "held.jsonl", "--max-tokens", "8", "--json") == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["evidence"]["verifier"] == "exact"


def test_a_benchmark_that_is_trained_on_is_told_and_noted(place):
    (place.path / "easy.jsonl").write_text((place.path / "rows.jsonl").read_text())
    code, said = place.train(("run:", "eval: {benchmarks: [./easy.jsonl]}\nrun:"))
    assert code == 0, said
    note = "4 of the 4 questions of `easy` are among the problems trained on: it is not held out"
    manifest = json.loads((place.path / "made" / "run" / "manifest.json").read_text())
    assert sum(note in fallback for fallback in manifest["fallbacks"]) == 1


def test_eval_of_a_damaged_run(place, capsys):
    assert place.train()[0] == 0
    for folder in (place.path / "made" / "run" / "checkpoints").iterdir():
        shutil.rmtree(folder / "model")
    capsys.readouterr()
    assert here("eval", "made/run", "-b", "story", "--limit", "1") == 3
    assert "no whole checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("debug", [False, True])
def test_the_same_in_a_process_of_its_own(tmp_path, debug):
    """Exit code, message and the want of a traceback belong to the process, not to a function."""
    arguments = [*small(tmp_path), *settings(verifier="stroy")]
    with running(tmp_path, *(["--debug"] if debug else []), *arguments) as process:
        assert process.ends() == 2
        said = process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
    assert "did you mean `story`" in said
    assert ("Traceback" in said) is debug
    assert not (tmp_path / "run").exists()
