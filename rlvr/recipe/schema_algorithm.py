"""The `algorithm` section of a recipe: the loss as independent choices.  Formulas: rlvr/algo."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from rlvr.recipe.presets import PRESETS
from rlvr.recipe.units import FROZEN, Fraction

STEPS = {"line": r"\n+", "sentence": r"[.!?]\s+|\n+"}
"""What ends a step, by name, as regular expressions."""


class Algorithm(BaseModel):
    """The loss as independent choices; `preset` fills in what is not said (`rlvr recipe show` expands it)."""

    model_config = FROZEN
    preset: str = "default"
    """Named row of choices: see `rlvr recipe explain algorithm.preset`."""
    baseline: Literal[
        "none",
        "group_mean",
        "leave_one_out",
        "length_weighted",
        "signed",
        "rl_zvp",
        "pass_at_2",
        "pass_at_4",
        "pass_at_8",
        "pass_at_16",
        "greedy",
        "optimal_token",
        "gdpo",
    ]
    """What a reward is compared with: group, siblings, a greedy completion, a token's; ±1; pass@k; GDPO."""
    scale: Literal[
        "none",
        "group_std",
        "group_std_population",
        "batch_std",
        "batch_whiten",
        "token_whiten",
        "group_mean",
    ]
    """What the difference is divided by; the `whiten` kinds also subtract the mean; `group_mean` is MaxRL."""
    advantage_epsilon: float = Field(gt=0)
    """Added to that divisor."""
    positive_weight: float = Field(ge=0)
    """Factor of positive advantages: 0.1 leaves learning mostly to mistakes (W-REINFORCE), 0 wholly."""
    zvp_alpha: float = Field(gt=0)
    """`rl_zvp`: advantage a nat of entropy in groups that are all right or all wrong."""
    credit: Literal["sequence", "future_kl", "step_mc", "segment_mc", "self_logratio"]
    """Which tokens it goes to: all alike, by FIPO, by continuations of steps or segments, or by SPRO."""
    credit_continuations: int = Field(ge=1)
    """`step_mc`, `segment_mc`: completions sampled from a state; their mean reward is its value."""
    credit_tokens_share: float = Field(gt=0, le=1)
    """`step_mc`, `segment_mc`: share of all tokens sampled that these may be; 1: no bound, every state."""
    credit_steps: str
    """`step_mc`: what ends a step: `line`, `sentence` or a regular expression over the completion's text."""
    segment_tokens: int = Field(ge=1)
    """`segment_mc`: a segment is cut before every so many-th token that counts."""
    segment_probability: float = Field(gt=0, le=1)
    """`segment_mc`: only tokens of at most this probability count, and have an advantage; 1: all."""
    self_logratio_weight: float = Field(gt=0)
    """`self_logratio`: weight of log pi / pi_ref."""
    future_decay: Fraction
    """`future_kl`: decay of the future a token; 0.5 ** (1 / 32) halves it in 32 tokens."""
    future_reach: float = Field(ge=0)
    """`future_kl`: an advantage grows to 1 + future_reach times itself at most."""
    ratio_level: Literal["token", "sequence", "sequence_product", "none"]
    """Importance ratio a token, the sequence's geometric mean (GSPO) or product, or none (REINFORCE)."""
    ratio_base: Literal["old", "rollout"]
    """Denominator of the ratio: the trainer's own log-probabilities before the update, or the engine's."""
    gate: Literal["none", "clip", "cispo", "sapo", "gmpo", "dppo_tv", "dppo_kl", "vespo", "topr"]
    """How far a push is trusted: PPO's clip, a cap (CISPO), a soft gate, a limit on moved probability, ..."""
    clip_low: float = Field(ge=0)
    """`clip`: no push down below ratio 1 - clip_low; `gmpo`: below exp(-clip_low)."""
    clip_high: float = Field(ge=0)
    """`clip`: no push up above ratio 1 + clip_high; `gmpo`: above exp(clip_high)."""
    dual_clip: float | None = Field(gt=1)
    """`clip`: no push down above this ratio; null is off."""
    ratio_cap: float = Field(gt=0)
    """`cispo`, `dppo_tv`, `dppo_kl`: the absolute cap of the ratio."""
    sapo_up: float = Field(gt=0)
    """`sapo`: steepness for positive advantages."""
    sapo_down: float = Field(gt=0)
    """`sapo`: steepness for negative advantages."""
    divergence_limit: float = Field(gt=0)
    """`dppo_tv`: probability a token may move by, away from the base; `dppo_kl`: its binary KL in nats."""
    correction: Literal[
        "none",
        "token_truncate",
        "token_mask",
        "sequence_truncate",
        "sequence_mask",
        "geo_mask",
        "geo_mask_token",
        "k3_mask",
    ]
    """Weight old/rollout for engine mismatch: cut at `correction_high`, or what is off the band dropped."""
    correction_low: float = Field(ge=0)
    """The masks, but `k3_mask`: lower end of the band."""
    correction_high: float = Field(gt=0)
    """Cap of the weight, or upper end of the band; of the mean k3 in nats for `k3_mask`."""
    m2_limit: float | None = Field(gt=0)
    """Drop the tokens of largest log(old/rollout)^2 until the mean is below this (M2PO); null is off."""
    opsm_delta: float | None = Field(ge=0)
    """Drop sequences of negative advantage whose mean log(rollout/pi) exceeds this; null is off."""
    veto: float | None = Field(gt=0, lt=1)
    """Drop sequences with a token whose old/rollout is below this (1e-4, say); null is off."""
    aggregation: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "prompt_mean_token_mean"]
    """How token losses become one number, over the whole optimizer step."""
    length_constant: float | None = Field(gt=0)
    """`seq_mean_token_sum`: divide by this length (Dr. GRPO); null divides by 1."""
    denominator: Literal["all", "kept"]
    """Whether tokens dropped by a mask, filter or rejection still count in those means."""
    kl: Literal["off", "k1_reward", "k2", "k3", "k3_weighted"]
    """Penalty towards the starting model, in reward or loss; k3's gradient is the forward KL (GRPO)."""
    kl_coef: float = Field(ge=0)
    """Weight of that penalty."""
    kl_refresh: int | None = Field(ge=1)
    """The policy becomes the penalty's reference every so many steps (R1-Zero: 400); null is never."""
    rollout_penalty: float = Field(ge=0)
    """Weight of log(pi/rollout)^2, a pull towards the policy that sampled; 0 is off."""
    entropy: Literal["off", "bonus", "top_entropy", "clip_cov", "kl_cov", "lp_reg", "lp_reg_pivots"]
    """Guard of exploration: reward entropy, learn at forks, hold back covariant tokens, spare rare ones."""
    entropy_when: Literal["always", "alarm", "below_start"]
    """That guard acts always, or only while entropy or pivot words have fallen (docs/exploration.md)."""
    entropy_share: float = Field(gt=0, le=1)
    """Share of tokens that the guard picks, over the whole step; `lp_reg`: of those with A < 0."""
    entropy_coef: float = Field(ge=0)
    """Weight of the bonus; of the penalty of `kl_cov` (idle where minibatches = 1) and `lp_reg*`."""
    entropy_target: float | None = Field(gt=0)
    """`bonus`: mean entropy in nats above which it pauses and its weight falls, else grows; null is off."""
    entropy_step: float = Field(gt=0)
    """`bonus` with a target: what its weight, at first `entropy_coef`, falls or grows by in a step."""
    cov_low: float = Field(ge=0)
    """`clip_cov`: lower end of the band of covariances."""
    cov_high: float = Field(gt=0)
    """`clip_cov`: upper end of the band."""
    lp_reg_kappa: float = Field(gt=0, lt=1)
    """`lp_reg*`: tokens below this share of the likeliest one's probability are noise, not protected."""
    zero_variance: Literal["keep", "drop"]
    """What to do with groups whose scores are all equal: they teach nothing but count in the averages."""
    oversample: float = Field(ge=1)
    """With `drop`: sample up to so many times `problems_per_step` to fill the batch (DAPO)."""
    overlong: Literal["keep", "mask", "soft"]
    """Truncated completions: scored as they are, out of the loss, or DAPO's soft penalty near the limit."""
    overlong_buffer: int = Field(ge=1)
    """`soft`: tokens before `max_tokens` over which the penalty rises from 0 to 1."""

    @field_validator("credit_steps")
    @classmethod
    def _is_rule(cls, given: str) -> str:
        try:
            empty = re.compile(STEPS.get(given, given)).fullmatch("")
        except re.error as error:
            raise ValueError(
                f"`{given}` is no regular expression ({error}); {' and '.join(STEPS)} have names"
            ) from error
        if empty:
            raise ValueError(f"`{given}` matches where there is nothing: no step would end there")
        return given

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        row = PRESETS.get(str(given.get("preset", "default")))
        if row is None:
            from rlvr.errors import near_miss

            name = given["preset"]
            raise ValueError(f"`{name}` is no preset{near_miss(str(name), PRESETS)}")
        return {**PRESETS["default"], **row, **given}
