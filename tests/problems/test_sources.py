import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlvr.errors import ProblemsError
from rlvr.problems.sources import open_source, worked_source

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def write(folder, name, *rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return path


def opened(folder, **keys):
    return open_source(**{"source": "a.jsonl", "base_dir": folder, **keys})


def refused(folder, **keys):
    with pytest.raises(ProblemsError) as caught:
        opened(folder, **keys)
    return str(caught.value)


def test_rows_become_problems(tmp_path):
    tests = [["x" * 10**6], -math.inf]
    write(tmp_path, "a.jsonl", {"question": "1+1?", "answer": "so #### 2", "tests": tests})
    source = opened(tmp_path, answer_after="####", prompt="Solve: {question}", system="Be brief.")
    problem = source[0]
    assert source.size == 1
    assert source.name == "a.jsonl"
    assert [(m.role, m.content) for m in problem.messages] == [
        ("system", "Be brief."),
        ("user", "Solve: 1+1?"),
    ]
    assert (problem.id, problem.answer, problem.source) == ("a.jsonl:0", "2", "a.jsonl")
    assert problem.meta == {"answer": "so #### 2", "tests": tests}


def test_reader_takes_bom_crlf_blank_lines_and_line_separators_inside_text(tmp_path):
    first = b"\xef\xbb\xbf" + json.dumps({"question": "a", "answer": 1}).encode() + b"\r"
    second = '{"question": "b\u2028c", "answer": [1, 2]}'.encode()
    write(tmp_path, "a.jsonl", first, b"", b"  ", second, b"")
    source = opened(tmp_path)
    assert [source[i].messages[0].content for i in range(2)] == ["a", "b\u2028c"]
    assert source[1].answer == [1, 2]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (b'{"question": "x", "answer": }', "is not JSON: Expecting value at column 29"),
        (b'{"question": "\xff", "answer": 1}', "is not UTF-8 at byte 15"),
        (b'["question"]', "is a list, not an object"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"question": "x", "answer": NaN}', "the answer `{answer}` is NaN"),
        (b'{"question": "x", "answer": "\\ud800"}', "surrogate"),
        (
            {"question": "x", "anwser": 1},
            "no field `answer`; did you mean `anwser`? (the row has: question, anwser)",
        ),
        ({"question": "x", "answer": None}, "field `answer` is null"),
        ({"question": "x", "answer": " "}, "the answer `{answer}` is empty"),
        ({"question": "\n", "answer": 1}, "the question `{question}` is empty"),
        ({"question": 5, "answer": 1}, "the question `{question}` is no text"),
        ({"messages": "hi", "answer": 1}, "field `messages` is not a list"),
        ({"messages": [{"role": "user"}], "answer": 1}, "without the texts `role` and `content`"),
        (
            {
                "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "answer": 1,
            },
            "ends with the assistant's turn",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, row, fault):
    write(tmp_path, "a.jsonl", {"question": "fine", "answer": 1}, b"", row)
    message = refused(tmp_path)
    assert message.startswith("a.jsonl:3: ")
    assert fault in message


def test_five_bad_rows_are_shown_and_the_rest_counted(tmp_path):
    write(tmp_path, "a.jsonl", {"question": "q", "answer": 1}, *[{"question": "q"}] * 9)
    message = refused(tmp_path)
    assert "a.jsonl: 9 bad rows" in message
    assert all(f"a.jsonl:{line}: " in message for line in range(2, 7))
    assert "a.jsonl:7:" not in message
    assert "and 4 more" in message


def test_limit_reads_no_further(tmp_path):
    write(tmp_path, "a.jsonl", {"question": "q", "answer": 1}, b"broken")
    assert opened(tmp_path, limit=1).size == 1


def test_answer_marker_must_be_there(tmp_path):
    write(tmp_path, "a.jsonl", {"question": "q", "answer": "no marker"})
    assert "has no `####` in it" in refused(tmp_path, answer_after="####")


def test_empty_missing_and_unknown_files(tmp_path):
    write(tmp_path, "a.jsonl", b"", b"  ")
    assert "holds no rows" in refused(tmp_path)
    assert "no such file; did you mean `a.jsonl`?" in refused(tmp_path, source="aa.jsonl")
    assert "the folder" in refused(tmp_path, source="nowhere/aa.jsonl")
    assert "cannot read a `.csv` file" in refused(tmp_path, source="./a.csv")
    (tmp_path / "folder.jsonl").mkdir()
    assert "cannot be read" in refused(tmp_path, source="folder.jsonl")


def test_templates_without_a_field_and_unknown_prompts_are_refused_before_reading(tmp_path):
    assert "write `{final}`" in refused(tmp_path, answer="final")
    assert "did you mean `boxed`" in refused(tmp_path, prompt="boxd")
    assert "only a generator has settings" in refused(tmp_path, options={"seed": 1})


def test_json_and_parquet_read_the_same(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"question": "a", "answer": [1, 2]}, {"question": "b", "answer": [3]}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path, "a.jsonl", *rows)
    sources = [opened(tmp_path, source=f"a.{kind}") for kind in ("jsonl", "json", "parquet")]
    assert [[s[i].answer for i in range(2)] for s in sources] == [[[1, 2], [3]]] * 3
    assert len({s.fingerprint for s in sources}) == 1
    (tmp_path / "b.parquet").write_bytes(b"not at all")
    assert "is not a Parquet file" in refused(tmp_path, source="b.parquet")
    (tmp_path / "b.json").write_text('{"a": 1}')
    assert "expected a list of objects" in refused(tmp_path, source="b.json")
    (tmp_path / "c.json").write_text('[{"question": "a"}, 5]')
    message = refused(tmp_path, source="c.json")
    assert "c.json: row 1: no field `answer`" in message
    assert "c.json: row 2: is a number" in message


def test_ids_are_the_rows_own_only_if_unique(tmp_path):
    row = {"question": "q", "answer": 1}
    write(tmp_path, "a.jsonl", row | {"id": 1, "task_id": "x"}, row | {"id": 1, "task_id": "y"})
    assert [opened(tmp_path)[i].id for i in range(2)] == ["x", "y"]
    write(tmp_path, "a.jsonl", row | {"id": "1"}, row | {"id": 1})
    assert [opened(tmp_path)[i].id for i in range(2)] == ["a.jsonl:0", "a.jsonl:1"]


def test_fingerprint_follows_the_rows(tmp_path):
    write(tmp_path, "a.jsonl", {"question": "q", "answer": 1})
    before = opened(tmp_path).fingerprint
    assert opened(tmp_path).fingerprint == before
    write(tmp_path, "a.jsonl", {"question": "q", "answer": 2})
    assert opened(tmp_path).fingerprint != before


def test_messages_are_the_prompt_as_they_are(tmp_path):
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    write(tmp_path, "a.jsonl", {"messages": turns, "answer": 1})
    assert [(m.role, m.content) for m in opened(tmp_path, prompt="boxed")[0].messages] == [
        ("system", "s"),
        ("user", "u"),
    ]


@pytest.mark.parametrize(
    "place",
    [
        "openai/gsm8k/main/test.jsonl",
        "openai/gsm8k/test.jsonl",
        "openai__gsm8k/test.jsonl",
        "GSM-8K/test.jsonl",
        "gsm8k/main/TEST.jsonl",
        "my-copy/test.jsonl",
        "other/held_out.jsonl",
    ],
)
def test_data_dir_holds_copies_of_hub_sets(tmp_path, place):
    write(tmp_path, place, {"question": "q", "answer": 1})
    source = open_source(
        source="openai/gsm8k",
        subset="main",
        split="test",
        base_dir=tmp_path,
        data_dir=tmp_path,
        aliases=("my_copy", "other:held-out"),
    )
    assert source.name == "openai/gsm8k:test"
    assert source[0].id == "openai/gsm8k:test:0"


def test_a_train_file_never_stands_in_for_test(tmp_path):
    write(tmp_path, "gsm8k/train.jsonl", {"question": "q", "answer": 1})
    code = (
        "from pathlib import Path\n"
        "from rlvr.errors import ProblemsError\n"
        "from rlvr.problems.sources import open_source\n"
        "try:\n"
        "    open_source(source='openai/gsm8k', subset='main', split='test', base_dir='', data_dir=Path())\n"
        "except ProblemsError as error:\n"
        "    print(error)\n"
    )
    repo = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": f"{repo}",
        "HF_HOME": str(tmp_path / "hf"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "data set `openai/gsm8k, main, test`" in done.stdout, done.stderr
    assert "gsm8k/test.jsonl" in done.stdout


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path):
    """Its library would ask six times, a line each, with 23 s of pauses."""
    code = (
        "from rlvr.errors import ProblemsError\n"
        "from rlvr.problems.sources import open_source\n"
        "for name in ('some/set', 'other/set'):\n"
        "    try:\n"
        "        open_source(source=name, base_dir='.')\n"
        "    except ProblemsError as error:\n"
        "        print(error)\n"
        "from datasets import config\n"
        "from huggingface_hub import constants\n"
        "print(config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HF_HOME": str(tmp_path / "hf"),
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    told = done.stdout.splitlines()
    assert told[0].startswith(
        "data set `some/set, train`: not a file, not a generator, and the hub did not give it: "
        "http://127.0.0.1:1 does not answer: "
    )
    assert told[1].startswith("  without a network, put a copy at DATA_DIR/set/train.jsonl")
    assert told[-1] == "False False"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "what is wanted is taken from the cache of earlier downloads" in done.stderr


def test_missing_data_dir_is_said(tmp_path):
    assert "no such folder" in refused(tmp_path, source="a/b", data_dir=tmp_path / "nowhere")


def test_generators_take_their_options_and_a_limit(tmp_path):
    endless = open_source(source="story", split="test", base_dir=tmp_path, options={"seed": 3})
    assert endless.size is None
    first = open_source(source="story", split="test", base_dir=tmp_path, options={"seed": 3}, limit=2)
    assert first.size == 2
    assert first[1] == endless[1]
    assert first.fingerprint == endless.fingerprint
    with pytest.raises(IndexError):
        first[2]
    assert "did you mean `seed`" in refused(tmp_path, source="story", options={"sead": 3})
    assert "no split `validation`" in refused(tmp_path, source="story", split="validation")


def test_worked_solutions(tmp_path):
    write(
        tmp_path,
        "a.jsonl",
        {"question": "q", "trace": "t", "answer": 4, "weight": 3},
        {"question": "r", "trace": "u"},
    )
    worked = worked_source(source="a.jsonl", base_dir=tmp_path, solution="<think>{trace}</think>")
    assert [(w.solution, w.weight, w.problem.answer) for w in worked] == [
        ("<think>t</think>", 3.0, 4),
        ("<think>u</think>", 1.0, None),
    ]


@pytest.mark.parametrize("weight", [0, -1, "2", True, None])
def test_worked_weights_are_positive_numbers(tmp_path, weight):
    write(tmp_path, "a.jsonl", {"question": "q", "solution": "s", "weight": weight})
    with pytest.raises(ProblemsError, match=r"a.jsonl:1: weight = .*above 0"):
        worked_source(source="a.jsonl", base_dir=tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")
def test_gsm8k_train_reads_whole():
    source = open_source(
        source="openai/gsm8k",
        subset="main",
        split="train",
        answer_after="####",
        base_dir=Path(),
        data_dir=DATA,
    )
    assert source.size == 7473
    assert source[0].answer == "72"
    assert all("####" not in source[i].answer for i in range(7473))
