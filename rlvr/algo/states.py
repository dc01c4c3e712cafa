"""Values of states within completions -> advantages of the tokens between them.

    prompt | step 1 | s_1 | step 2 | s_2 | ... | last step | reward
    advantage of a step = value of the state after it - value of the state before it

VinePPO, arXiv:2410.01679 section 4; SPO, arXiv:2505.23564: the same of segments, and along each path of a
tree.  The advantages of a completion's steps sum to its reward minus the value of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch


def value_changes(
    start_B: torch.Tensor, reward_B: torch.Tensor, states: Sequence[Sequence[tuple[int, float]]], columns: int
) -> torch.Tensor:
    """float64 [B, columns]: what the value changed by over the step that each token is in.

    `start_B` are the values of the prompts, `states` those known within each completion: (tokens before it,
    value), in order.  A completion without any is one step: reward - start.
    """
    changes_BC = start_B.new_zeros(len(states), columns, dtype=torch.float64)
    ends = zip(start_B.tolist(), reward_B.tolist(), states, strict=True)
    for row, (start, reward, known) in enumerate(ends):
        path = [(0, start), *known, (columns, reward)]
        for (begin, before), (end, after) in pairwise(path):
            changes_BC[row, begin:end] = after - before
    return changes_BC


def segment_ends(logprobs: Sequence[float], *, tokens: int, log_probability: float) -> list[int]:
    """Where a completion is cut, in tokens before the cut: each segment has `tokens` uncertain ones.

    Uncertain is a token of log-probability `log_probability` or less (0: every token).  A cut is as late as
    can be, right before the uncertain token that begins the next segment: the tokens between are all but
    certain, so the value is that of a cut anywhere among them (SPO's cut points, arXiv:2505.23564).
    """
    uncertain = [place for place, logprob in enumerate(logprobs) if logprob <= log_probability]
    return [place for place in uncertain[tokens::tokens] if place > 0]
