"""The start of a run judged by its own first completions: is there anything to learn from?

One right completion, or one group whose rewards differ, is enough to go on.  Without either, a verdict
waits until the sample is large enough, over several steps if need be:

    all cut, all without an answer, all failed checks    128 completions (at most 2.9 % could be otherwise)
    none right, for mixed reasons                        64 problems and 512 completions (at most 5.7 %
                                                         of such problems show a right one)

both as the upper end of Wilson's 95 % interval for 0 of n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlvr.errors import TrainingError
from rlvr.eval.stats import wilson
from rlvr.runs.alarms import Values, percent
from rlvr.runs.manifest import read_manifest
from rlvr.runs.reader import read_metrics
from rlvr.train.run import Run

UNIFORM_COMPLETIONS = 128
WRONG_PROBLEMS, WRONG_COMPLETIONS = 64, 512
FINE, REFUSED, GONE_ON = "there is something to learn from", "refused: ", "gone on nevertheless: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the first completions are like."""

    problems: int
    """Groups sampled."""
    completions: int
    """Completions, of all groups."""
    right: int
    """Completions judged right."""
    uniform: int
    """Groups whose rewards are all equal."""
    truncated: int
    """Completions cut at the limit."""
    no_answer: int
    """Completions without an answer to check."""
    error: int
    """Checks that failed on our side."""
    tokens: int
    """Tokens sampled."""

    @classmethod
    def of(cls, rows: Sequence[Values], group_size: int) -> Start:
        """From rows of metrics (rlvr/runs/accounting.py), `group_size` completions a problem."""

        def total(name: str) -> int:
            return round(sum(row.get(name) or 0.0 for row in rows))

        def times(share: str, whole: str) -> int:
            return round(sum((row.get(share) or 0.0) * (row.get(whole) or 0.0) for row in rows))

        return cls(
            problems=total("verify/issued") // group_size,
            completions=total("verify/issued"),
            right=times("verify/right_share", "verify/issued"),
            uniform=round(times("batch/zero_variance_share", "verify/issued") / group_size),
            truncated=total("verify/truncated"),
            no_answer=total("verify/no_answer"),
            error=total("verify/error"),
            tokens=total("rollout/tokens"),
        )

    @property
    def teaches(self) -> bool:
        """Whether anything was right, or any group had a contrast."""
        return self.right > 0 or self.uniform < self.problems

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the pass rate; problems are the trials, as if each had one completion."""
        return wilson(self.problems * self.right / self.completions, self.problems)

    @property
    def numbers(self) -> dict[str, float]:
        """For the manifest: counts, shares of completions or groups, and the interval of the pass rate."""
        n, (low, high) = self.completions, self.interval
        return {
            "problems": float(self.problems),
            "completions": float(n),
            "right_share": self.right / n,
            "ci_low": low,
            "ci_high": high,
            "zero_variance_share": self.uniform / self.problems,
            "truncated_share": self.truncated / n,
            "no_answer_share": self.no_answer / n,
            "error_share": self.error / n,
            "length_mean_tokens": self.tokens / n,
        }


def hopeless(start: Start, max_tokens: int) -> str | None:
    """Why nothing can be learned, and what to change; None while there is hope, or too little is seen."""
    n = start.completions
    if start.teaches or n < UNIFORM_COMPLETIONS:
        return None
    if start.truncated == n:
        return f"all of the first {n} completions are cut at {max_tokens} tokens: {_advice(start)}"
    if start.no_answer == n:
        return f"the verifier finds an answer in none of the first {n} completions: {_advice(start)}"
    if start.error == n:
        return (
            f"the verifier itself failed on all of the first {n} completions: read `why` with "
            "`rlvr runs show RUN --completions 5`, and try it with `rlvr verifier try`"
        )
    if start.problems < WRONG_PROBLEMS or n < WRONG_COMPLETIONS:
        return None
    return (
        f"none of the first {n} completions of {start.problems} problems is right, with "
        f"{percent(start.truncated / n)} cut and {percent(start.no_answer / n)} without an answer: "
        f"{_advice(start)}"
    )


def _advice(start: Start) -> str:
    if start.truncated > start.completions / 2:
        return "raise sampling.max_tokens, or use a model that ends its turn (an -Instruct model)"
    if start.no_answer > start.completions / 2:
        return (
            "let problems.prompt ask for the format that the verifier reads (`rlvr train RECIPE --probe` "
            "compares prompts), or warm-start on it"
        )
    return "use easier problems or a stronger model, or warm-start it"


def _bare_s(row: Values) -> float:
    """A step without the evaluation and checkpoint before it, which not every step has."""
    whole, *rare = (row.get(f"time/{name}_s") or 0.0 for name in ("step", "eval", "save"))
    return whole - sum(rare)


def is_decided(run: Run) -> bool:
    """Judge the steps recorded so far; True once there is a verdict, which is then in the manifest.

    Raises TrainingError for a hopeless start, unless `run.hopeless` says to go on.
    """
    verdict = str(read_manifest(run.folder).start.get("verdict", ""))
    if verdict.startswith((FINE, GONE_ON)):
        return True
    rows = [row.metrics for row in read_metrics(run.folder.path) if row.kind == "train"]
    if not any(row.get("verify/issued") for row in rows):
        return False
    start = Start.of(rows, run.recipe.sampling.group_size)
    reason = hopeless(start, run.recipe.sampling.max_tokens)
    if reason is None and not start.teaches:
        return False
    expected = {
        "expected_tokens": start.tokens / len(rows) * run.recipe.run.steps,
        "expected_s": sum(map(_bare_s, rows)) / len(rows) * run.recipe.run.steps,
    }
    goes_on = run.recipe.run.hopeless == "go_on"
    verdict = FINE if reason is None else f"{GONE_ON if goes_on else REFUSED}{reason}"
    run.record.start({**start.numbers, **expected, "verdict": verdict})
    if reason is None:
        return True
    if not goes_on:
        raise TrainingError(
            f"a hopeless start: {reason}. To go on nevertheless: "
            f"rlvr train --resume {run.folder.path} --set run.hopeless=go_on"
        )
    run.record.note(f"run.hopeless go_on: {reason}")
    return True
