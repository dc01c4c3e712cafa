"""The rows that docs/code.md shows can be trained on as they stand there."""

import json
from pathlib import Path

import pytest
from rlvr_verifiers.code import code
from rlvr_verifiers.code.trials import trials

from rlvr.errors import ProblemsError
from rlvr.problems.sources import open_source
from rlvr.verify.pool import Pool, Spec

PAGE = (Path(__file__).parents[2] / "docs" / "code.md").read_text(encoding="utf-8")


def test_every_row_of_the_page_is_read_and_its_solution_is_right(sandbox, tmp_path):
    rows = PAGE.partition("```jsonl\n")[2].partition("```")[0]
    (tmp_path / "mine.jsonl").write_text(rows)
    problems = list(open_source(source="./mine.jsonl", answer=None, base_dir=tmp_path))
    assert len(problems) == 9
    for problem in problems:
        golds, probes, _ = trials(problem)
        assert code(golds[0], problem, sandbox).status == "right", problem.id
        assert not [label for label, text in probes.items() if code(text, problem, sandbox).score], problem.id
    with pytest.raises(ProblemsError, match="no field `answer`"):
        open_source(source="./mine.jsonl", base_dir=tmp_path)


def test_tests_of_a_megabyte_in_a_field_are_all_run(tmp_path):
    """Through a worker: rows of contests are that large, and none of their fields may vanish on the way."""
    texts = ["1\n", "7 " * 500_000 + "7\n"]
    row = {"question": "Sum.", "public_tests": {"input": texts[:1], "output": ["1\n"]}}
    row["private_tests"] = {"input": texts[1:], "output": [f"{7 * 500_001}\n"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    [problem] = open_source(source="./mine.jsonl", answer=None, base_dir=tmp_path)
    with Pool([Spec(name="rlvr_verifiers.code:code")], workers=1) as pool:
        sums = pool.submit(0, problem, "```python\nprint(sum(map(int, input().split())))\n```").result(120)
        first = pool.submit(0, problem, "```python\nprint(input()[:1])\n```").result(120)
    assert (sums.status, sums.why[:7]) == ("right", "2 tests")
    assert (first.status, first.why[:7]) == ("wrong", "test 2:")


def test_tests_in_the_meta_of_a_row_are_found(sandbox, tmp_path):
    row = '{"question": "?", "meta": {"test_list": ["assert f(1) == 2"]}}'
    (tmp_path / "mine.jsonl").write_text(row)
    [problem] = open_source(source="./mine.jsonl", answer=None, base_dir=tmp_path)
    assert problem.answer is None
    assert code("```python\ndef f(x): return x + 1\n```", problem, sandbox).status == "right"
    assert code("```python\ndef f(x): return x\n```", problem, sandbox).status == "wrong"
