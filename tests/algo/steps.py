"""A step's loss from plain tensors, as `rlvr/train/update.py` goes: advantages, selection, coefficients."""

import torch

from rlvr import build
from rlvr.algo.advantages import group_advantages
from rlvr.algo.channels import channel_advantages
from rlvr.algo.loss import Loss, Terms, Tokens, loss_terms
from rlvr.algo.ranks import ALONE, Ranks
from rlvr.algo.select import select, step_advantages
from rlvr.recipe.schema import Algorithm

OPTIONAL = {"reference": "ref", "entropy": "entropy", "log_proxy": "proxy", "pivot": "pivot"}


def loss_of(preset: str, **changes) -> Loss:
    """The loss of a preset, with changes."""
    return build.loss(Algorithm.model_validate({"preset": preset, **changes}))


def advantages_of(loss: Loss, x: dict, ranks: Ranks = ALONE) -> torch.Tensor:
    """float64 [B, T], 0 where the mask is False."""
    if loss.baseline == "gdpo":
        rewards = x.get("channels", x["rewards"][:, None])
        advantages = channel_advantages(
            rewards, torch.ones_like(rewards), x["group"], epsilon=loss.advantage_epsilon, ranks=ranks
        )
    else:
        advantages = group_advantages(
            x["rewards"], x["group"], x["mask"].sum(-1), baseline=loss.baseline, scale=loss.scale,
            epsilon=loss.advantage_epsilon, greedy_B=x.get("greedy"), ranks=ranks,
        )  # fmt: skip
    advantages = advantages[:, None].expand(x["mask"].shape).double()
    return step_advantages(
        loss, advantages, x["mask"], x["group"],
        old=x.get("old"), reference=x.get("ref"), entropy_BT=x.get("entropy"),
        collision=x.get("collision"), ranks=ranks,
    )  # fmt: skip


def terms_of(loss: Loss, x: dict, splits: list[list[int]] | None = None, ranks: Ranks = ALONE) -> Terms:
    """The terms of the whole step, computed micro-batch by micro-batch."""
    everything = list(range(len(x["mask"])))
    more = {name: x[key] for name, key in OPTIONAL.items() if key in x}
    full = {
        "mask": x["mask"], "group": x["group"], "advantages": advantages_of(loss, x, ranks),
        "logprobs": x["logp"], "old": x["old"], "rollout": x["mu"], **more,
    }  # fmt: skip
    chosen = select(loss, Tokens(**full), ranks)
    full |= {"kept": chosen.kept, "marked": chosen.marked}
    parts, order = [], []
    for rows in splits or [everything]:
        micro = Tokens(**{name: None if value is None else value[rows] for name, value in full.items()})
        parts.append(loss_terms(loss, micro, chosen.totals))
        order += rows
    back = torch.tensor(order).argsort()
    return Terms(
        **{
            name: torch.cat([getattr(part, name) for part in parts])[back]
            for name in Terms.__dataclass_fields__
        }
    )
