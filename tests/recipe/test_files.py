"""What is proposed where a recipe names a file or a model that is not there."""

from __future__ import annotations

from pathlib import Path

from tests.recipe.test_check import refused


def test_only_models_are_proposed_for_a_model(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"a{number:02}.yaml").touch()
    (tmp_path / "tonny").mkdir()
    for name in ("large", "tiny"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    said = "a.yaml:1: model: {} does not exist; {}"
    assert refused(tmp_path, "model: ./tinny\nproblems: story\n") == [
        said.format("tinny", "did you mean `tiny`?")
    ]
    assert refused(tmp_path, "model: ./zzz\nproblems: story\n") == [
        said.format("zzz", "choose from: large, tiny")
    ]


def test_the_nearest_of_many_files_is_proposed(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"a{number:02}.py").touch()
    (tmp_path / "rows.jsonl").touch()
    said = "a.yaml:2: `problems.source`: {} does not exist; {}"
    assert refused(tmp_path, "model: some/model\nproblems: ./rowz.jsonl\n") == [
        said.format("rowz.jsonl", "did you mean `rows.jsonl`?")
    ]
