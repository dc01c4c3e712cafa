"""The choices that make a method, as values: a recipe's `algorithm` section says what each means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One method; the tables in advantages.py, gates.py and corrections.py say what each name computes."""

    baseline: str
    """What `advantages.group_advantages` compared with; `rl_zvp`, `optimal_token` have a second part here."""
    scale: str
    """What it divided by; `token_whiten` is done here."""
    advantage_epsilon: float
    """Added to the divisor."""
    positive_weight: float
    """Factor of positive advantages."""
    zvp_alpha: float
    """Weight of the entropy in `rl_zvp`."""
    credit: str
    """`sequence | future_kl | step_mc | segment_mc | self_logratio`; the `mc` kinds need nothing here."""
    self_logratio_weight: float
    """`self_logratio`: weight of log pi / pi_ref."""
    future_decay: float
    """`future_kl`: decay a token."""
    future_reach: float
    """`future_kl`: greatest gain."""
    ratio_level: str
    """`token | sequence | sequence_product | none`."""
    ratio_base: str
    """`old | rollout`."""
    gate: str
    """`none | clip | cispo | sapo | gmpo | dppo_tv | dppo_kl | vespo | topr`."""
    clip_low: float
    """Lower reach of `clip`, of `gmpo` in logarithms."""
    clip_high: float
    """Upper reach of the same."""
    dual_clip: float | None
    """Bound of `clip` for negative advantages, or None."""
    ratio_cap: float
    """Cap of `cispo` and `dppo`."""
    sapo_up: float
    """Temperature of `sapo` for positive advantages."""
    sapo_down: float
    """The same for negative ones."""
    divergence_limit: float
    """Reach of `dppo`."""
    correction: str
    """See `corrections.correction_weights`."""
    correction_low: float
    """Lower end of the band."""
    correction_high: float
    """Upper end of the band, or the cap."""
    m2_limit: float | None
    """Second moment of log(pi_old / mu) to keep below, or None."""
    opsm_delta: float | None
    """Divergence above which bad sequences are dropped, or None."""
    veto: float | None
    """pi_old / mu of a token below which its sequence is dropped, or None."""
    aggregation: str
    """See `aggregate.normaliser`."""
    length_constant: float | None
    """Divisor of `seq_mean_token_sum`."""
    denominator: str
    """`all | kept`."""
    kl: str
    """`off | k1_reward | k2 | k3 | k3_weighted`."""
    kl_coef: float
    """Weight of the penalty."""
    rollout_penalty: float
    """Weight of (log pi / mu)^2."""
    entropy: str
    """`off | bonus | top_entropy | clip_cov | kl_cov | lp_reg | lp_reg_pivots`."""
    entropy_share: float
    """Share of the tokens it is about."""
    entropy_coef: float
    """Weight of its penalty or bonus."""
    entropy_target: float | None
    """`bonus`: mean entropy in nats above which it pauses and its weight shrinks, or None: it is fixed."""
    entropy_step: float
    """`bonus`: what that weight grows or shrinks by in a step."""
    cov_low: float
    """Lower end of the band of `clip_cov`."""
    cov_high: float
    """Upper end of it."""
    lp_reg_kappa: float
    """Tokens less likely than this share of the likeliest are noise to `lp_reg`."""

    @property
    def needs_old(self) -> bool:
        """Whether the policy before the step must be known of the whole step before anything is learned."""
        return (
            self.shapes_by_reference
            or self.baseline in ("rl_zvp", "optimal_token")
            or self.needs_proxy
            or self.adapts
        )

    @property
    def needs_proxy(self) -> bool:
        """Whether Lp-Reg's proxy is asked for."""
        return self.entropy in ("lp_reg", "lp_reg_pivots")

    @property
    def adapts(self) -> bool:
        """Whether the weight of the entropy bonus follows the entropy, step by step (entropy.adapted)."""
        return self.entropy == "bonus" and self.entropy_target is not None

    @property
    def needs_reference(self) -> bool:
        """Whether a reference policy is read at all."""
        return self.kl != "off" or self.credit == "self_logratio"

    @property
    def shapes_by_reference(self) -> bool:
        """Whether the advantages of the whole step need the reference's log-probabilities."""
        return self.kl == "k1_reward" or self.credit == "self_logratio"

    @property
    def selects(self) -> bool:
        """Whether an update must see all of its tokens before it learns from the first (select.py)."""
        return (
            self.m2_limit is not None
            or self.entropy in ("top_entropy", "clip_cov", "kl_cov", "lp_reg", "lp_reg_pivots")
            or self.denominator == "kept"
        )
