# ruff: noqa: E501 - exact messages stand on one line
from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.errors import RecipeError
from rlvr.recipe.keys import KEYS
from rlvr.recipe.load import find, load
from rlvr.recipe.schema import Recipe

HEAD = "model: tiny\nproblems: story\n"


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(path, settings)
    return str(caught.value).replace(f"{path.parent}/", "").split("\n")


def test_a_whole_recipe(tmp_path: Path) -> None:
    text = (
        HEAD
        + "verifier: {name: math, timeout: 200 ms, memory: 1 GiB, tolerance: 1e-4}\noptim: {learning_rate: 1e-6}\n"
    )
    loaded = load(write(tmp_path, text))
    assert loaded.recipe.model.name == "tiny"
    assert loaded.recipe.problems.source == "story"
    assert loaded.recipe.optim.learning_rate == 1e-6
    [verifier] = loaded.recipe.verifier
    assert (verifier.timeout, verifier.memory, verifier.model_extra) == (0.2, 2**30, {"tolerance": 1e-4})
    assert loaded.text == text
    assert loaded.lines["verifier.0.timeout"] == loaded.lines["verifier"] == 3
    assert loaded.lines["optim.learning_rate"] == 4
    assert loaded.given["optim"] == {"learning_rate": 1e-6}
    assert "sampling" not in loaded.given


def test_off_is_a_word_where_a_word_is_wanted(tmp_path: Path) -> None:
    assert load(write(tmp_path, HEAD + "algorithm: {kl: off}\n")).recipe.algorithm.kl == "off"


@pytest.mark.parametrize(
    ("key", "given_", "value"),
    [
        ("timeout", "200 ms", 0.2),
        ("timeout", "2min", 120.0),
        ("timeout", "1 h", 3600.0),
        ("timeout", "7", 7.0),
        ("memory", "2 GiB", 2**31),
        ("memory", "1.1 GiB", 1181116006),
        ("memory", "500 MB", 500_000_000),
        ("memory", "1e9", 10**9),
    ],
)
def test_units(tmp_path: Path, key: str, given_: str, value: float) -> None:
    [verifier] = load(write(tmp_path, f"{HEAD}verifier: {{name: math, {key}: {given_}}}\n")).recipe.verifier
    assert getattr(verifier, key) == value


def test_a_date_is_a_fine_revision(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {name: x, revision: 2024-01-01}\nproblems: story\n")
    assert load(path).recipe.model.revision == "2024-01-01"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode() + b"run: {stepz: 3}\r\n")
    assert faults(path) == ["a.yaml:3: `run.stepz` is no key of a recipe; did you mean `steps`?"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("algorithm:\n  clip_hgih: 0.3", "a.yaml:4: `algorithm.clip_hgih` is no key of a recipe; did you mean `clip_high`?"),
        ("optim: {lr: 1e-6}", "a.yaml:3: `optim.lr` is no key of a recipe; did you mean `learning_rate`?"),
        ("lr: 1e-6", "a.yaml:3: `lr` is no key of a recipe; did you mean `optim.learning_rate`?"),
        ("group_size: 4", "a.yaml:3: `group_size` is no key of a recipe; did you mean `sampling.group_size`?"),
        ("run.steps: 4", "a.yaml:3: `run.steps` is no single key; nest it: `run: {steps: ...}`"),
        (
            "zzz: 1",
            "a.yaml:3: `zzz` is no key of a recipe; choose from: algorithm, audit, data_dir, eval, model, optim, pivots, problems, run, "
            "sampling, sandbox, verifier, vllm, warm_start",
        ),
        (
            "sampling:\n\n  group_size: 1",
            "a.yaml:5: `sampling.group_size = 1`: must be a whole number ≥ 2 (advantages compare siblings); "
            "the default is 8",
        ),
        ("run: {seed: -1}", "a.yaml:3: `run.seed = -1`: must be a whole number ≥ 0; the default is 0"),
        ("run: {seed: true}", "a.yaml:3: `run.seed = true`: must be a whole number ≥ 0; the default is 0"),
        ("run: {seed: 1.5}", "a.yaml:3: `run.seed = 1.5`: must be a whole number ≥ 0; the default is 0"),
        ("run: {seed: }", "a.yaml:3: `run.seed` is empty: must be a whole number ≥ 0; the default is 0"),
        ("run: {threads: 0}", "a.yaml:3: `run.threads = 0`: must be a whole number ≥ 1 or null"),
        ("run: {name: 12e4567}", "a.yaml:3: `run.name = 12e4567`: must be text or null; put it in quotes"),
        ("optim: {learning_rate: .nan}", "a.yaml:3: `optim.learning_rate = .nan`: must be a number > 0; the default is 1e-6"),
        ("optim: {learning_rate: 1e-6 x}", "a.yaml:3: `optim.learning_rate = 1e-6 x`: must be a number > 0; the default is 1e-6"),
        ("optim: {betas: [1, 2]}", "a.yaml:3: `optim.betas.1 = 2`"),
        ("optim: {schedule: linaer}", "a.yaml:3: `optim.schedule = linaer`: must be one of `constant`, `linear`, `cosine`; "
         "did you mean `linear`?"),
        ("algorithm: {preset: grop}", "a.yaml:3: `grop` is no preset; did you mean `grpo`?"),
        ("sandbox: {remote: host:80}", "a.yaml:3: `sandbox.remote`: `host:80` is no address; write http://HOST:PORT"),
        ("sandbox: {remote: 'http://me@host:80'}", "a.yaml:3: `sandbox.remote`: `http://me@host:80` is no address"),
        ("sandbox: {remot: 'http://host'}", "a.yaml:3: `sandbox.remot` is no key of a recipe; did you mean `remote`?"),
        ("sandbox: {kind: pistn}", "a.yaml:3: `sandbox.kind = pistn`: must be one of `sandboxfusion`, `piston`; did you mean"),
        ("sandbox: http://host", "a.yaml:3: `sandbox = http://host`: must be a section of keys; write `sandbox: {remote: http"),
        ("algorithm: dapo", "a.yaml:3: `algorithm = dapo`: must be a section of keys; write `algorithm: {preset: dapo}`"),
        ("eval:", "a.yaml:3: `eval` is empty: must be a section of keys; give it keys, or leave it out"),
        ("eval: {benchmarks: gsm8k}", "a.yaml:3: `eval.benchmarks = gsm8k`: must be a list of texts"),
        ("verifier: {name: math, timeout: 5 parsec}", "a.yaml:3: `verifier.timeout`: `5 parsec` is not a duration such as `5 s` "
         "(units: ms, s, min, h)"),
        ("verifier: {name: math, timeout: -1}", "a.yaml:3: `verifier.timeout = -1`: must be a duration in seconds or as `5 s`"),
        ("verifier: {name: math, memory: 1e999}", "a.yaml:3: `verifier.memory = 1e999`: must be a size in bytes or as `2 GiB`"),
        ("verifier: {name: math, memory: 2 Gib}", "a.yaml:3: `verifier.memory`: `2 Gib` is not a size such as `2 GiB` (units: B,"),
        ("verifier: {timeout: 1 s}", "a.yaml:3: `verifier.name` is missing: give text (A registered name"),
        ("verifier:\n  - math\n  - {name: exact, weight: 0}", "a.yaml:5: `verifier.1.weight = 0`: must be a number > 0"),
        ("verifier: [math, {name: exact, role: gat}]", "a.yaml:3: `verifier.1.role = gat`: must be one of `reward`, `gate`, `bonus`; did you mean `gate`?"),
        ("audit: {name: exact, share: 2}", "a.yaml:3: `audit.share = 2`: must be a number > 0 and ≤ 1"),
        ("audit: {share: 0.5}", "a.yaml:3: `audit.name` is missing: give text"),
        ("audit: {name: exact, weight: 2}", "a.yaml:3: `audit`: an audit trains nothing, so it has no `weight`; take the key out"),
        ("verifier: []", "a.yaml:3: `verifier = []`: must be text or a section of keys, or a list of such"),
        ("data_dir: {x}", "a.yaml:3: `data_dir = {x}`: must be text or null; put it in quotes"),
        ("warm_start: {problems: rows.jsonl}", "a.yaml:3: `warm_start.problems = rows.jsonl`: must be a section of keys or null; "
         "write `warm_start.problems: {source: rows.jsonl}`"),
    ],
)  # fmt: skip
def test_one_fault(tmp_path: Path, lines: str, message: str) -> None:
    [fault] = faults(write(tmp_path, f"{HEAD}{lines}\n"))
    assert fault.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("problems: story", "a.yaml:1: `model` is missing: give text or a section of keys (The policy)"),
        ("model: x\nproblems:\n  split: test", "a.yaml:2: `problems.source` is missing: give text (Hub data set"),
        ("model: {dtype: float32}\nproblems: story", "a.yaml:1: `model`: give exactly one of `name`"),
        ("model: {name: x, make: {}}\nproblems: story", "a.yaml:1: `model`: give exactly one of `name`"),
        ("model: x\nproblems:\n  source: story\n  prompt: {question}", "a.yaml:4: `problems.prompt = {question}`: must be text; put"),
        ("model: {name: x, gradient_checkpointing: yes}\nproblems: story", "a.yaml:1: `model.gradient_checkpointing = yes`: must "
         "be true or false"),
        ("model: {name: x, lora: {targets: 3}}\nproblems: s", "a.yaml:1: `model.lora.targets = 3`: must be text or a list of texts"),
        ("", "a.yaml:1: the file is empty; a recipe is a mapping of keys and needs at least `model` and `problems`"),
        ("# only\n", "a.yaml:1: the file is empty;"),
        ("\n- a\n", "a.yaml:2: this is a list; a recipe is a mapping"),
        ("hello\n", "a.yaml:1: this is the value `hello`; a recipe is a mapping"),
        ("model: x\n\tproblems: y\n", "a.yaml:2: not valid YAML: found a tab"),
    ],
)  # fmt: skip
def test_one_fault_of_the_whole(tmp_path: Path, text: str, message: str) -> None:
    [fault] = faults(write(tmp_path, text))
    assert fault.startswith(message)


def test_all_faults_come_together_in_order_of_lines(tmp_path: Path) -> None:
    text = """\
model: {name: x, dtype: float61}
problems: {source: story}
sampling:
  group_size: 1
  group_size: 4
  temprature: 1.0
algorithm: {preset: grop, kl: k4, clip_hgih: 1}
optim: {minibatches: true}
model: y
"""
    got = faults(write(tmp_path, text), "run.steps=x", "foo")
    assert [fault.split(": ")[0] for fault in got] == [
        "a.yaml:5",
        "a.yaml:6",
        "a.yaml:7",
        "a.yaml:7",
        "a.yaml:7",
        "a.yaml:8",
        "a.yaml:9",
        "--set foo",
        "--set run.steps=x",
    ]


def test_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(HEAD.encode() + b"# caf\xe9\n")
    assert faults(path) == ["a.yaml:3: byte 0xe9 is not UTF-8; save the file as UTF-8"]


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, HEAD, "gsm8k.yaml")
    assert faults(tmp_path / "gms8k.yaml") == ["gms8k.yaml: no such recipe; did you mean `gsm8k.yaml`?"]
    with pytest.raises(RecipeError, match=r"is a folder; give a recipe in it: gsm8k\.yaml"):
        load(tmp_path)


def test_find_prefers_the_path_then_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    write(packaged, HEAD, "quickstart.yaml")
    monkeypatch.setattr("rlvr.recipe.find.folder", lambda: packaged)
    monkeypatch.chdir(tmp_path)
    assert find("quickstart") == find("quickstart.yaml") == packaged / "quickstart.yaml"
    with pytest.raises(RecipeError, match=r"^quikstart: no such recipe; did you mean `quickstart`\?$"):
        find("quikstart")
    with pytest.raises(RecipeError, match="the packaged recipe is called `quickstart`, without a folder"):
        find("no/such/folder/quickstart.yaml")
    with pytest.raises(RecipeError, match="give a path or a packaged recipe: quickstart"):
        find("zzz")
    write(tmp_path, HEAD, "quickstart.yaml")
    assert find("quickstart.yaml") == Path("quickstart.yaml")


def test_packaged_recipes_lie_beside_the_package_in_a_checkout() -> None:
    from rlvr.recipe.find import folder

    assert folder() in (
        Path(__file__).parents[2] / "recipes",
        Path(sys.modules["rlvr"].__file__ or "").parent / "_recipes",
    )


def test_every_key_has_a_line_of_documentation_and_words_for_what_it_takes() -> None:
    assert all(key.doc and key.takes for key in KEYS.values())
    assert {name.split(".")[0] for name in KEYS} == set(Recipe.model_fields)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(name for name, key in KEYS.items() if key.section is None and "." in name)),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=3),
)
def test_no_value_of_any_key_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    from rlvr.recipe.document import dump

    nested: object = value
    for part in reversed(name.split(".")):
        nested = {part: nested}
    assert isinstance(nested, dict)
    path = write(tmp_path_factory.mktemp("any"), dump({"model": "x", "problems": "story", **nested}))
    told: list[str] = []
    try:
        load(path)
    except RecipeError as error:
        told = str(error).split("\n")
    assert [line for line in told if not line.startswith(f"{path}:")] == []


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, rlvr.recipe.load, rlvr.recipe.check, rlvr.recipe.explain\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_quotes_for_a_shell_are_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: m\nproblems: story\n")
    with pytest.raises(RecipeError) as caught:
        load(path, ["problems.answer={test}"])
    command = str(caught.value).rpartition("put it in quotes, and the whole again for the shell: ")[2]
    assert command == """--set 'problems.answer="{test}"'"""
    assert load(path, shlex.split(command)[1:]).recipe.problems.answer == "{test}"
