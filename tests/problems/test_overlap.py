"""A benchmark that shares questions with the training problems is named, whatever prompts they wear."""

import pytest

from rlvr.problems.overlap import trained_on
from rlvr.problems.sources import open_source
from tests.problems.test_sources import write


@pytest.mark.parametrize(
    ("prompt", "other"), [("plain", "plain"), ("plain", "boxed"), ("Say: {question}", "boxed")]
)
def test_shared_questions_are_counted(tmp_path, prompt, other):
    rows = [{"question": f"{i}+1?", "answer": i + 1} for i in range(6)]
    write(tmp_path, "train.jsonl", *rows[:4])
    write(tmp_path, "test.jsonl", *rows[2:])
    write(tmp_path, "clean.jsonl", *rows[4:])

    def opened(name, worn):
        return open_source(source=name, base_dir=tmp_path, prompt=worn)

    measured = [(name, other, opened(f"{name}.jsonl", other)) for name in ("test", "clean")]
    (note,) = trained_on(opened("train.jsonl", prompt), prompt, measured)
    assert note.startswith("eval.benchmarks: 2 of the 4 questions of `test` are among the problems")


def test_generators_are_disjoint_by_construction(tmp_path):
    story = open_source(source="story", base_dir=tmp_path, limit=4)
    assert trained_on(story, "plain", [("story", "plain", story)]) == []
