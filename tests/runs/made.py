"""Small runs for the tests of runs and view, made through the real record."""

import math
from collections.abc import Sequence
from pathlib import Path

from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import build_manifest, write_manifest
from rlvr.runs.writer import Record
from rlvr.types import Completion, Finish, Group, Message, Problem, ScoredGroup, Status, StepReport, Verdict


def scored(name: str, outcomes: Sequence[tuple[Status, Finish, int]], text: str = "so #### 4") -> ScoredGroup:
    """A group with these (status, finish, length) completions."""
    turns = (
        Message(role="system", content="Think."),
        Message(role="user", content=f"What is 2 + 2? ({name})"),
    )
    return ScoredGroup(
        group=Group(
            problem=Problem(id=name, messages=turns, answer={"value": 4}, source="sums:train"),
            prompt_ids=(1, 2, 3),
            completions=tuple(
                Completion(token_ids=(7,) * n, logprobs=(-0.5,) * n, text=text, finish=finish, version=(1, 2))
                for _, finish, n in outcomes
            ),
        ),
        verdicts=tuple(
            Verdict(score=float(s == "right"), status=s, found="4", why=f"rule {s}", parts={"math": 1.0})
            for s, _, _ in outcomes
        ),
        rewards=tuple(None if s == "error" else float(s == "right") for s, _, _ in outcomes),
    )


def folder(parent: Path, name: str = "made", steps: int = 40) -> RunFolder:
    """A new run folder with its manifest."""
    made = RunFolder.create(parent, name)
    manifest = build_manifest(
        name=name,
        recipe_text="model: x\n",
        command=["rlvr", "train", "a recipe.yaml"],
        steps=steps,
        seed=3,
        model_hash="m" * 64,
        data_hash="d" * 64,
    )
    write_manifest(made, manifest)
    return made


def report(step: int, **more: float) -> StepReport:
    """Numbers of a run that learns."""
    learned = 1 - math.exp(-step / 12)
    metrics = {
        "policy/entropy_nats": 1.1 * math.exp(-step / 25) + 0.05 * math.sin(step),
        "rollout/tokens_per_s": 9800.0,
        "rollout/length_mean_tokens": 12 + 25 * learned + math.sin(1.7 * step),
        "verify/right_share": min(1.0, 0.2 + 0.75 * learned + 0.03 * math.sin(2.3 * step)),
        "optim/grad_norm": 0.4,
        "time/sample_s": 0.4,
        "time/update_s": 0.2,
        "time/step_s": 0.61,
    }
    return StepReport(metrics={**metrics, **{k.replace("__", "/"): v for k, v in more.items()}})


def learning_run(parent: Path, name: str = "made", steps: int = 40, finished: bool = True) -> RunFolder:
    """A whole run: warm start, steps, evaluations."""
    made = folder(parent, name, steps)
    record = Record(made, None)
    for step in (50, 100):
        record.warm_start(step, {"loss_nats": 2.0 - step / 100, "tokens_per_s": 12100.0})
    for step in range(steps + 1):
        if step:
            groups = [scored("p1", [("right", "stop", 9), ("wrong", "stop", 11)])]
            record.step(step, groups, report(step))
        if step % 10 == 0:
            right = 0.2 + 0.75 * (1 - math.exp(-step / 12))
            values = {"avg_at_k": right, "ci_low": right - 0.04, "ci_high": min(1.0, right + 0.04)}
            record.eval(step, "story", values)
    if finished:
        record.finish("finished")
    return made
