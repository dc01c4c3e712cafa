"""The entropy guard over a real run: it wakes, rests, and a run that was taken up does the same."""

import json

import pytest

from rlvr.runs.metrics import alarms
from rlvr.runs.reader import read_manifest, read_metrics
from rlvr.train.course import Course
from tests.e2e.running import PLUGINS, here, settings, small
from tests.plugins import NAMES

pytestmark = pytest.mark.slow

STEPS, SEEDS = 40, 8
CLOCKED = ("time/", "tokens_per_s", "memory/")


def guarded(folder, **changes):
    """A run whose rewards want names, then none, then names again; names are its pivot words."""
    keys = {
        "verifier": f"{PLUGINS}:tide",
        "pivots": json.dumps({"languages": [], "words": NAMES}),
        "algorithm__preset": "lp_reg",
        "algorithm__entropy_when": "alarm",
        "optim__learning_rate": 3e-3,
        "optim__packing": "off",
        "sampling__group_size": 8,
        "optim__minibatches": 1,
        "sampling__max_tokens": 16,
        "eval__every": 0,
        "eval__limit": 4,
        "run__steps": STEPS,
        "run__save_every": 0,
    }
    return small(folder, **keys | changes)


def seed_of(run):
    return read_manifest(run).recipe["run.seed"]


def steps(run):
    return {
        row.step: {n: v for n, v in row.metrics.items() if not any(part in n for part in CLOCKED)}
        for row in read_metrics(run)
        if row.kind == "train"
    }


def turns(run):
    """The steps that begin with the guard woken, or at rest again."""
    armed = {step: row["loss/guard"] for step, row in steps(run).items()}
    return [step for step in range(2, STEPS + 1) if armed[step] != armed[step - 1]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The first of a few runs whose guard wakes, stays awake for some steps, and rests.

    Whether the words come back is luck: at such a learning rate another order of sums is another course.
    """
    for seed in range(SEEDS):
        folder = tmp_path_factory.mktemp(f"guarded-{seed}")
        assert here(*guarded(folder, run__seed=seed)) == 0
        if len(found := turns(folder / "run")) >= 2 and found[1] - found[0] > 2:
            return folder / "run"
    raise AssertionError(f"in none of {SEEDS} runs the guard woke and rested")


def test_it_arms_on_an_alarm_and_rests_when_that_is_over(whole):
    rows = steps(whole)
    course, armed = Course([], when="alarm"), []
    for step in range(1, STEPS + 1):
        assert rows[step]["loss/guard"] == float(course.armed), step
        armed.append(course.armed)
        beside = course.follow(rows[step])
        assert beside.items() <= rows[step].items(), "what was written is what the record tells again"
        words = [said for said in alarms(rows[step]) if "of the run's start" in said]
        assert bool(words) <= course.armed, "an alarm stands and the guard sleeps"
    notes = [note for note in read_manifest(whole).fallbacks if "the guard" in note]
    assert [int(note.split()[1].rstrip(":")) for note in notes] == [step - 1 for step in turns(whole)]
    assert "arms: pivot words are down to" in notes[0]
    assert "rests" in notes[1]


def test_a_resumed_run_arms_and_rests_at_the_same_steps(whole, tmp_path):
    rows, stop = steps(whole), turns(whole)[0] + 1
    assert rows[stop]["loss/guard"] == rows[stop + 1]["loss/guard"] == 1.0, "stop where the guard is on"
    assert here(*guarded(tmp_path, run__steps=stop, run__seed=seed_of(whole))) == 0
    assert here("train", "--resume", tmp_path / "run", *settings(run__steps=STEPS)) == 0
    assert steps(tmp_path / "run") == rows
    assert read_manifest(tmp_path / "run").fallbacks == read_manifest(whole).fallbacks
    weights = [f"checkpoints/step-{STEPS:06d}/model/model.safetensors"] * 2
    ours, theirs = (
        (place / file).read_bytes() for place, file in zip((tmp_path / "run", whole), weights, strict=True)
    )
    assert ours == theirs


def test_armed_or_not_makes_a_difference(whole, tmp_path):
    """Else the equality above would say nothing of the guard."""
    changes = {"algorithm__entropy": "off", "algorithm__entropy_when": "always"}
    assert here(*guarded(tmp_path, run__seed=seed_of(whole), **changes)) == 0
    rows, unguarded = steps(whole), steps(tmp_path / "run")
    first = next(step for step in rows if rows[step]["loss/guard"])
    same = [n for n in rows[first] if n != "loss/guard"]
    assert all(
        rows[step][n] == unguarded[step][n] for step in range(1, first) for n in same if n in rows[step]
    )
    later = range(first + 1, STEPS + 1)
    assert any(rows[step]["policy/entropy_nats"] != unguarded[step]["policy/entropy_nats"] for step in later)
