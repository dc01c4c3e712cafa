"""`rlvr plan`: what it prints, and what it says to bad input."""

import json
import re

import pytest
import yaml

from rlvr.cli.app import answer, app
from rlvr.plan.assumed import Assumed
from tests.checkout import ROOT
from tests.plan.half_billion import CONFIG


@pytest.fixture
def recipe_file(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    path = tmp_path / "mine.yaml"
    path.write_text("model: ./model\nproblems: story\nverifier: story\noptim:\n  micro_batch_tokens: 16384\n")
    return path


def test_the_command_says_what_does_not_fit_and_the_line_to_change(recipe_file, capsys):
    assert answer(app, ["plan", str(recipe_file), "--gpu", "A10G", "--gpus", "1"]) == 1
    said = capsys.readouterr().out
    assert "494,032,768 parameters in float32" in said
    assert re.search(r"1 x A10G: update takes [\d.]+ GiB of 22.4 GiB, most of it activations", said)
    advised = re.search(rf"{recipe_file}:5: set `optim.micro_batch_tokens: (\d+)`", said)
    assert advised
    assert "NVIDIA A10G datasheet" in said
    change = ["--set", f"optim.micro_batch_tokens={advised[1]}"]
    assert answer(app, ["plan", str(recipe_file), "--gpu", "A10G", "--gpus", "1", *change]) == 0
    assert "1 x A10G" in capsys.readouterr().out


def test_the_command_speaks_json(recipe_file, capsys):
    assert answer(app, ["plan", str(recipe_file), "--gpu", "A10G,H100", "--gpus", "1,2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    plans = {(plan["gpu"], plan["gpus"]): plan for plan in said["plans"]}
    assert set(plans) == {("A10G", 1), ("A10G", 2), ("H100", 1), ("H100", 2)}
    assert list(plans["A10G", 1]["advice"][0]["set"]) == ["optim.micro_batch_tokens"]
    fits = plans["H100", 1]
    assert fits["fits"]
    assert max(phase["total"] for phase in fits["memory_bytes"].values()) < fits["room_bytes"]
    for phase in fits["memory_bytes"].values():
        assert phase["total"] == pytest.approx(sum(v for k, v in phase.items() if k != "total"), abs=20)
    seconds = fits["seconds"]
    assert seconds["step"] == pytest.approx(sum(seconds[k] for k in ("sample", "logprobs", "update", "sync")))


@pytest.mark.parametrize("count", ["0", "9", "two", "1,,2", "", "-1", "1.5", "1e0", "²", "99999999999999"])
def test_a_number_of_gpus_is_from_1_to_8(recipe_file, capsys, count):
    assert answer(app, ["plan", str(recipe_file), "--gpus", count]) == 2
    assert "is no number from 1 to 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpu", ""], "no kind is named"),
        (["--gpu", "H100", "--gpu", "X100"], "--gpu X100: no such kind is known"),
        (["--completion-tokens", "9999"], "`sampling.max_tokens = 512` is the longest"),
        (
            ["--set", 'model.lora={"targets": ["q"]}'],
            "names no module of the model's layers; choose from: all-linear",
        ),
        (["--set", 'model.lora={"targets": "("}'], "`model.lora.targets = (` is no pattern: missing )"),
        (["--set", f"optim.problems_per_step={10**400}"], "a number in it is beyond all measure"),
        (["--assume", "speed=1"], "`speed` is no assumption"),
    ],
)
def test_bad_input_is_told_in_one_line(recipe_file, capsys, options, said):
    assert answer(app, ["plan", str(recipe_file), *options]) == 2
    assert said in capsys.readouterr().err


def test_every_kind_that_is_asked_for_is_planned(recipe_file, capsys):
    asked = ["--gpu", "H200", "--gpu", "h100,B200", "--gpus", "2", "--gpus", "1", "--json"]
    assert answer(app, ["plan", str(recipe_file), *asked]) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert [(plan["gpu"], plan["gpus"]) for plan in plans] == [
        (kind, count) for kind in ("H200", "H100", "B200") for count in (1, 2)
    ]


def test_every_guess_is_printed(recipe_file, capsys):
    assert answer(app, ["plan", str(recipe_file), "--gpu", "H100", "--assume", "link=0.5"]) == 0
    said = capsys.readouterr().out
    for name, value in Assumed(link=0.5).model_dump().items():
        assert re.search(rf"^  {name} = {value:g}{re.escape('*' * (name == 'link'))}  \w", said, re.MULTILINE)
        assert f"`{name}`" in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_prompts_that_fill_the_context_are_said_to(recipe_file, capsys):
    asked = ["--gpu", "B200", "--gpus", "1", "--prompt-tokens", "32768"]
    assert answer(app, ["plan", str(recipe_file), *asked]) == 1
    assert "prompts alone fill the context" in capsys.readouterr().out


def test_host_memory_of_an_offloaded_optimizer_is_said(recipe_file, capsys):
    asked = ["--gpu", "H100", "--gpus", "1", "--set", "optim.offload=true"]
    answer(app, ["plan", str(recipe_file), *asked])
    assert "optim.offload: 7.4 GiB of host memory beside the GPU's" in capsys.readouterr().out


def test_a_recipe_on_servers_that_run_elsewhere(tmp_path, recipe_file, capsys):
    given = yaml.safe_load(recipe_file.read_text())
    given |= {"sampling": {"engine": "vllm_server"}, "vllm": {"servers": ["http://127.0.0.1:8000"]}}
    recipe_file.write_text(yaml.safe_dump(given))
    assert answer(app, ["plan", str(recipe_file), "--gpu", "H100", "--gpus", "1", "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert "KV cache" not in plan["memory_bytes"]["sampling"]
