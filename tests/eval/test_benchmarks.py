from pathlib import Path

import pytest

from rlvr.errors import RecipeError
from rlvr.eval.benchmarks import BENCHMARKS, find, open_benchmark

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")
@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_opens_from_local_copies_with_the_expected_count(name):
    benchmark = BENCHMARKS[name]
    source = open_benchmark(benchmark, data_dir=DATA, base_dir=Path())
    assert source.size == benchmark.n
    problems = [source[i] for i in range(source.size)]
    assert len({p.id for p in problems}) == source.size
    assert all(p.answer not in ("", None) for p in problems)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")
def test_answers_are_cut_out_of_the_rows():
    first = {name: open_benchmark(BENCHMARKS[name], data_dir=DATA, base_dir=Path())[0] for name in BENCHMARKS}
    assert {
        name: first[name].answer for name in ("gsm8k", "aime24", "amc23", "minerva", "olympiadbench", "svamp")
    } == {
        "gsm8k": "18",
        "aime24": "204",
        "amc23": 27.0,
        "minerva": "1.6",
        "olympiadbench": "2",
        "svamp": 145.0,
    }
    assert first["countdown"].meta["nums"] == [47, 68, 67]
    assert first["countdown"].meta["target"] == first["countdown"].answer == 46
    assert "into 93 groups. How big" in first["svamp"].messages[0].content


def test_names_files_and_mistakes():
    assert find("gsm8k").n == 1319
    mine = find("folder/mine.jsonl")
    assert (mine.name, mine.source, mine.verifier, mine.n) == ("mine", "folder/mine.jsonl", "math", None)
    with pytest.raises(RecipeError, match="did you mean `gsm8k`"):
        find("gms8k")


def test_a_limit_sizes_a_generator_but_not_the_data(tmp_path):
    assert open_benchmark(BENCHMARKS["story"], data_dir=None, base_dir=tmp_path, limit=7).size == 7
    (tmp_path / "a.jsonl").write_text('{"question": "a", "answer": 1}\n{"question": "b", "answer": 2}\n')
    assert open_benchmark(find("a.jsonl"), data_dir=None, base_dir=tmp_path, limit=1).size == 2
