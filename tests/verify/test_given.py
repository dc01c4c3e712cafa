"""A problem of `rlvr verifier try` and `explain` is a file, or a row of a data set as it stands there."""

import json
import re
from pathlib import Path

import pytest

from rlvr.errors import ProblemsError
from tests.verify.test_cli import folder, refused, run

__all__ = ["folder"]

ROWS = [
    {"task_id": 7, "prompt": "Square.", "test_list": ["assert f(3) == 9", "assert f(-2) == 4"]},
    {"task_id": 8, "question": "?", "answer": "assert f(3) == 27", "meta": {"difficulty": "easy"}},
]
CUBE, SQUARE = "```python\ndef f(x): return x ** 3\n```", "```python\ndef f(x): return x * x\n```"


@pytest.mark.parametrize(
    ("name", "place", "completion", "status"),
    [
        ("rows.jsonl", "rows.jsonl:1", SQUARE, "right"),
        ("rows.jsonl", "rows.jsonl:1", CUBE, "wrong"),
        ("rows.jsonl", "rows.jsonl:3", CUBE, "right"),  # where `verifier check` says that it stands
        ("rows.json", "rows.json:2", CUBE, "right"),
        ("one.jsonl", "one.jsonl", SQUARE, "right"),
        ("one.json", "one.json", SQUARE, "right"),
    ],
)
def test_try_and_explain_take_a_row_of_a_data_set(folder, name, place, completion, status):
    texts = {
        "rows.jsonl": "\n\n".join(map(json.dumps, ROWS)),
        "rows.json": json.dumps(ROWS),
        "one.jsonl": json.dumps(ROWS[0]) + "\n",
        "one.json": json.dumps(ROWS[0], indent=1),
    }
    Path(name).write_text(texts[name])
    given = ["rlvr_verifiers.code:code", "--problem-json", place, "--completion", completion]
    assert run("try", *given).output.split()[1] == status
    explained = run("explain", *given)
    assert explained.exit_code == 0, explained.output
    assert re.search(rf"^verdict +{status},", explained.output, re.MULTILINE)


def test_a_row_that_is_not_there_is_told_with_those_that_are(folder):
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n{\n")
    Path("rows.json").write_text(json.dumps(ROWS))
    name = ["try", "rlvr_verifiers.code:code", "--completion", SQUARE, "--problem-json"]
    assert refused(*name, "rows.jsonl") == (
        "rows.jsonl: holds 3 rows; name one of rows.jsonl:1 to rows.jsonl:3"
    )
    assert refused(*name, "rows.jsonl:9").endswith("; name one of rows.jsonl:1 to rows.jsonl:3, not 9")
    assert refused(*name, "rows.jsonl:3").startswith("rows.jsonl:3: is not JSON")
    assert "of a list name the row, as in rows.json:1" in refused(*name, "rows.json")
    assert isinstance(run(*name, "row.jsonl:1").exception, ProblemsError)
