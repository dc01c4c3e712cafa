"""Evaluation with the real verifier pool; the model follows a script or is a tiny random one."""

import json
import time
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from rlvr.errors import EngineError, ModelError, ProblemsError, RecipeError, RunError
from rlvr.eval.result import Result
from rlvr.eval.run import Measurement, evaluate
from rlvr.eval.table import render
from rlvr.policy.model import make_model
from rlvr.problems.prompts import Renderer
from rlvr.problems.sources import Table, open_source
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.rollout.hf import HfEngine
from rlvr.types import Completion, Group, Message, Problem, Sampling
from rlvr.verify.compose import Scorer
from rlvr.verify.pool import Pool, Spec

RIGHT, WRONG, SILENT, CUT = "<answer>{}</answer>", "<answer>never</answer>", "<think>", "cut"
SCRIPT = [
    (RIGHT,) * 4,
    (RIGHT, WRONG, WRONG, SILENT),
    (CUT, CUT, WRONG, RIGHT),
    (WRONG,) * 4,
    (RIGHT, RIGHT, WRONG, WRONG),
]


class Scripted:
    """An engine whose model follows a script: completion j of problem i is SCRIPT[i][j]; last group first."""

    name = "scripted"

    def __init__(self, script=SCRIPT, stop_after=None):
        self.script, self.stop_after = script, stop_after
        self.asked: dict[str, tuple[int, ...]] = {}

    def generate(self, requests, sampling):
        for place in reversed(range(len(requests))):
            request = requests[place]
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked[request.problem.id] = request.seeds
            texts = [text.format(request.problem.answer) for text in self.script[int(request.problem.id)]]
            yield (
                place,
                Group(
                    problem=request.problem,
                    prompt_ids=request.prompt_ids,
                    completions=tuple(
                        Completion(
                            token_ids=(1, 2),
                            logprobs=(0.0, 0.0),
                            text=t,
                            finish="length" if t == CUT else "stop",
                        )
                        for t in texts
                    ),
                ),
            )

    def load_weights(self, model, version):
        """Nothing to load."""

    def close(self):
        """Nothing to free."""


def table(n=5, question="q"):
    turn = (Message(role="user", content=question),)
    problems = tuple(Problem(id=str(i), messages=turn, answer=f"a{i}") for i in range(n))
    return Table(name="made:test", fingerprint="f" * 64, problems=problems)


def made(**keys):
    return Measurement(
        **{"benchmark": "made", "sampling": Sampling(max_tokens=8), "samples": 4, "seed": 0} | keys
    )


@pytest.fixture(scope="module")
def scorer():
    with Pool([Spec(name="rlvr_verifiers.exact:exact")], 2) as pool:
        yield Scorer(pool, [Spec(name="rlvr_verifiers.exact:exact")], "keep", 1, 64)


@pytest.fixture(scope="module")
def renderer():
    return Renderer(make_tokenizer("bytes"), 64)


@pytest.fixture
def run(scorer, renderer, tmp_path):
    def call(engine=None, source=None, sampling=None, **keys) -> Result:
        how = {"record_path": tmp_path / "made.jsonl"}
        how |= {key: keys.pop(key) for key in ("record_path", "progress", "fresh") if key in keys}
        what = made(**{"seed": 1, "sampling": sampling or Sampling(max_tokens=8), **keys})
        return evaluate(what, source or table(), renderer, engine or Scripted(), scorer, **how)

    return call


def shown(result: Result) -> str:
    console = Console(width=80, file=StringIO())
    console.print(render([result]))
    return console.file.getvalue()


def same(a: Result, b: Result) -> bool:
    evidence = [{k: v for k, v in r.evidence.items() if k != "resumed"} for r in (a, b)]
    return (
        replace(a, seconds=0, evidence={}) == replace(b, seconds=0, evidence={})
        and evidence[0] == evidence[1]
    )


def test_the_numbers_of_a_scripted_model(run):
    result = run()
    # right: 4, 1, 1, 0, 2 of 4 -> 8 / 20
    assert result.avg_at_k == pytest.approx(8 / 20)
    assert (result.n, result.k, result.complete) == (5, 4, True)
    assert result.shares == pytest.approx(
        {
            "right": 8 / 20,
            "wrong": 11 / 20,
            "no_answer": 1 / 20,
            "timeout": 0,
            "error": 0,
            "truncated": 2 / 20,
        }
    )
    # pass@2: 1, 1 - 3/6, 1 - 3/6, 0, 1 - 1/6; pass@4: 1, 1, 1, 0, 1
    assert result.pass_at_k == pytest.approx({1: 8 / 20, 2: (1 + 0.5 + 0.5 + 0 + 5 / 6) / 5, 4: 4 / 5})
    # majority: right; wrong; "cut" twice against one right; wrong; two against two
    assert result.maj_at_k == pytest.approx((1 + 0 + 0 + 0 + 0.5) / 5)
    assert result.interval is not None
    assert result.interval.kind == "t"
    assert result.tokens_mean == 2
    assert result.evidence["data"] == "f" * 64
    assert json.loads(json.dumps(result.to_json()))["pass_at_k"]["4"] == pytest.approx(4 / 5)


def test_a_verifier_that_breaks_counts_as_not_right_and_is_shown(renderer, tmp_path):
    (tmp_path / "odd.py").write_text(
        "from rlvr.verify.api import verifier\n\n\n"
        "@verifier\ndef odd(completion: str, answer: str) -> bool:\n"
        "    if 'never' in completion:\n        raise RuntimeError('lost')\n    return answer in completion\n"
    )
    spec = Spec(name="./odd.py:odd", base_dir=tmp_path)
    with Pool([spec], 1) as pool:
        judge = Scorer(pool, [spec], "keep", 1, 64)
        result = evaluate(made(), table(), renderer, Scripted(), judge)
    assert result.shares["error"] == pytest.approx(9 / 20)
    assert result.avg_at_k == pytest.approx(8 / 20)
    assert result.complete
    assert result.maj_at_k is None, "a verifier that names no answer gives no majority"


def test_records_hold_every_completion(run, tmp_path):
    run()
    header, *lines = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert header["header"]["sampling"]["max_tokens"] == 8
    by_index = {line["index"]: line for line in lines}
    assert sorted(by_index) == list(range(5))
    assert by_index[1]["problem"] == "1"
    assert by_index[1]["question"] == "q"
    assert by_index[1]["answer"] == "a1"
    assert [c["status"] for c in by_index[1]["completions"]] == ["right", "wrong", "wrong", "no_answer"]
    assert by_index[2]["completions"][0] == {
        **{"text": "cut", "status": "wrong", "score": 0.0, "found": "cut"},
        **{"why": "", "tokens": 2, "finish": "length"},
    }


def test_an_interrupted_evaluation_goes_on_where_it_stopped(run, tmp_path):
    whole = run(record_path=None)
    with pytest.raises(KeyboardInterrupt):
        run(Scripted(stop_after=3))
    kept = (tmp_path / "made.jsonl").read_text()
    done = {json.loads(line)["problem"] for line in kept.splitlines()[1:]}
    assert done == {"4", "3", "2"}
    (tmp_path / "made.jsonl").write_text(kept + '{"index": 1, "prob')
    engine = Scripted()
    resumed = run(engine)
    assert set(engine.asked) == {"0", "1"}
    assert same(resumed, whole)
    assert resumed.evidence["resumed"] == 3
    again = Scripted(stop_after=0)
    assert same(run(again), whole)


def test_seeds_depend_on_place_alone(run):
    few, many, other = Scripted(), Scripted(), Scripted()
    run(few, record_path=None, limit=2)
    run(many, record_path=None)
    run(other, record_path=None, seed=2)
    assert few.asked == {key: many.asked[key] for key in ("0", "1")}
    assert not set(sum(many.asked.values(), ())) & set(sum(other.asked.values(), ()))
    assert len(set(sum(many.asked.values(), ()))) == 20


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 2},
        {"samples": 2},
        {"model_hash": "other"},
        {"verifier": "math"},
        {"sampling": Sampling(max_tokens=9)},
        {"source": table(question="another prompt")},
    ],
)
def test_a_record_of_another_measurement_is_never_continued(run, tmp_path, changed):
    run()
    before = (tmp_path / "made.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"another measurement .*--fresh"):
        run(Scripted([row[:2] for row in SCRIPT]), **changed)
    assert (tmp_path / "made.jsonl").read_bytes() == before


def test_fresh_starts_anew_and_a_larger_limit_continues(run):
    assert run(limit=2).n == 2
    engine = Scripted()
    result = run(engine, limit=4)
    assert set(engine.asked) == {"2", "3"}
    assert result.n == 4
    assert run(limit=1).avg_at_k == 1.0
    engine = Scripted()
    run(engine, limit=2, seed=9, fresh=True)
    assert set(engine.asked) == {"0", "1"}


def test_a_damaged_line_is_named(run, tmp_path):
    run()
    path = tmp_path / "made.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:30]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=r"made.jsonl:3: damaged line"):
        run()


def test_two_evaluations_never_write_one_record(run, tmp_path):
    import fcntl

    with (tmp_path / "made.jsonl").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another evaluation is writing"):
            run()


def test_prompts_too_long_stay_in_the_denominator(run, renderer):
    problems = list(table().problems)
    problems[0] = replace(problems[0], messages=(Message(role="user", content="x" * 60),))
    engine = Scripted()
    result = run(engine, Table(name="made:test", fingerprint="", problems=tuple(problems)))
    assert "0" not in engine.asked
    assert result.avg_at_k == pytest.approx(4 / 20)
    assert result.shares["truncated"] == pytest.approx(6 / 20)
    assert "1 of 5 prompts do not fit" in result.warnings[0]


def test_an_engine_that_loses_groups_leaves_the_result_incomplete(run):
    class Lossy(Scripted):
        def generate(self, requests, sampling):
            yield from list(super().generate(requests, sampling))[:3]

    result = run(Lossy())
    assert not result.complete
    assert "incomplete" in shown(result)
    assert "40.0" not in shown(result)


def test_the_table_shows_scores_and_losses_in_80_columns(run):
    lines = [line.split() for line in shown(replace(run(), benchmark="olympiadbench")).splitlines()]
    assert lines[1][:5] == ["olympiadbench", "5", "x", "4", "40.0"]
    assert lines[1][-3:] == ["80.0", "@4", "30.0"]
    assert lines[4] == ["olympiadbench", "10.0", "5.0", "0.0", "0.0", "2"]


def test_an_engine_that_loses_completions_is_an_error(run):
    with pytest.raises(EngineError, match="4 completions asked, 2 sampled"):
        run(Scripted([row[:2] for row in SCRIPT]))


def test_what_cannot_be_measured_is_said_first(run, tmp_path):
    with pytest.raises(RecipeError, match="temperature 0"):
        run(sampling=Sampling(max_tokens=8, temperature=0))
    with pytest.raises(ModelError, match=r"max_tokens = 64 leaves no room .* 64; set it to 32"):
        run(sampling=Sampling(max_tokens=64))
    with pytest.raises(ProblemsError, match="endless"):
        run(source=open_source(source="story", split="test", base_dir=tmp_path))
    assert not (tmp_path / "made.jsonl").exists()


def test_another_count_than_the_published_one_is_a_warning(run):
    assert run(expected=6).warnings == ("5 problems, not the usual 6 (another version of the data)",)
    assert run(expected=5).warnings == ()
    assert run(expected=5, limit=3).warnings == ("3 problems, not the usual 5 (limit)",)


def test_progress_ends_at_the_end(run):
    seen = []
    run(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(6)]


def test_checking_overlaps_with_sampling(renderer, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\n\nfrom rlvr.verify.api import verifier\n\n\n@verifier\n"
        "def slow(completion: str) -> bool:\n    time.sleep(0.1)\n    return True\n"
    )

    class Slow(Scripted):
        def generate(self, requests, sampling):
            for found in super().generate(requests, sampling):
                time.sleep(0.3)
                yield found

    spec = Spec(name="./slow.py:slow", base_dir=tmp_path)
    with Pool([spec], 2) as pool:
        judge = Scorer(pool, [spec], "keep", 1, 64)
        result = evaluate(made(), table(), renderer, Slow(), judge)
    # 5 x 0.3 s of sampling, 20 x 0.1 / 2 s of checking: 2.5 s one after the other.
    assert result.seconds < 2.3


def test_a_real_model_evaluates_twice_alike(scorer):
    tokenizer = make_tokenizer("story")
    model = make_model(
        tokenizer,
        hidden_size=32,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=16,
        mlp_size=64,
        context=256,
        seed=0,
    )
    renderer = Renderer(tokenizer, 256, model.generation_config)
    source = open_source(source="story", split="test", base_dir=None, limit=6)
    results = [
        evaluate(
            made(sampling=Sampling(max_tokens=12), samples=3), source, renderer,
            HfEngine(model, tokenizer_decode(renderer), pad_id=tokenizer.pad_token_id, slots=slots), scorer,
        )
        for slots in (4, 18)
    ]  # fmt: skip
    assert same(*results)
    assert results[0].complete


def tokenizer_decode(renderer):
    return lambda sequences: [renderer.decode(ids) for ids in sequences]
