"""Checks of `problems.curriculum` and `sampling.replay`: see `check.py`."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.recipe.document import shown
from rlvr.recipe.load import Loaded

Findings = Iterator[tuple[tuple[str, ...], str]]

WEIGHING = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geo_mask_token")
"""Corrections that weigh a token by pi_old / mu; the others only drop."""


def practice(loaded: Loaded) -> Findings:
    """What a curriculum or a replay cannot do."""
    warm = loaded.recipe.warm_start
    if warm is not None and warm.problems is not None and warm.problems.curriculum is not None:
        yield (
            ("warm_start.problems.curriculum",),
            "`warm_start.problems.curriculum` has no success rates to go by: the warm start samples nothing; "
            "set it under `problems`",
        )
    replay = loaded.recipe.sampling.replay
    if replay is None:
        return
    groups = loaded.recipe.optim.problems_per_step
    if replay.share * groups + 1e-9 < 1:
        yield (
            ("sampling.replay.share", "optim.problems_per_step", "sampling.replay"),
            f"`sampling.replay.share = {shown(replay.share)}` of `optim.problems_per_step = {groups}` is not "
            f"one group; set share to {shown(1 / groups)} or more",
        )
    yield from _uncorrected(loaded)


def _uncorrected(loaded: Loaded) -> Findings:
    """Replayed tokens were drawn by an old policy: something must weigh them by what became of it."""
    algorithm = loaded.recipe.algorithm
    keys = ("sampling.replay", "algorithm.preset")
    mend = (
        "set correction to token_truncate, or ratio_base to rollout with a gate; presets that do: default, "
        "areal, prorl_v2, scalerl, dppo, prime_rl"
    )
    if algorithm.gate == "topr":
        yield (
            ("algorithm.gate", *keys),
            "`sampling.replay` needs tokens weighed by pi / mu, and `algorithm.gate = topr` gives right "
            "completions weight 1 whoever drew them; set another gate",
        )
    elif algorithm.ratio_base == "rollout" and algorithm.ratio_level == "none":
        yield (
            ("algorithm.ratio_level", *keys),
            "`sampling.replay` needs tokens weighed by pi / mu, and `algorithm.ratio_level = none` takes "
            "every ratio for 1; set ratio_level to token",
        )
    elif algorithm.ratio_base == "old" and algorithm.correction not in WEIGHING:
        why = "takes no account of it" if algorithm.correction == "none" else "drops but does not weigh"
        yield (
            ("algorithm.correction", *keys),
            "`sampling.replay` trains on completions of older weights, and `algorithm.correction = "
            f"{algorithm.correction}` {why}; {mend}",
        )
