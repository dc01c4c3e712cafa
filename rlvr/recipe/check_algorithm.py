"""Checks of the `algorithm` section: see `check.py`."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.recipe.document import shown
from rlvr.recipe.load import Loaded
from rlvr.recipe.presets import PRESETS

Findings = Iterator[tuple[tuple[str, ...], str]]


def algorithm(loaded: Loaded) -> Findings:
    """Choices that contradict each other."""
    every = (_overlong, _oversample, _correction, _kl, _ratio, _baseline, _words, _band, _bonus, _credit)
    for each in every:
        yield from each(loaded)


def _overlong(loaded: Loaded) -> Findings:
    algorithm, tokens = loaded.recipe.algorithm, loaded.recipe.sampling.max_tokens
    if algorithm.overlong == "soft" and algorithm.overlong_buffer >= tokens:
        yield (
            ("algorithm.overlong_buffer", "sampling.max_tokens", "algorithm.overlong", "algorithm.preset"),
            f"`algorithm.overlong_buffer = {algorithm.overlong_buffer}` leaves no length free of penalty "
            f"within `sampling.max_tokens = {tokens}`; set overlong_buffer below {tokens}, for example "
            f"{max(tokens // 4, 1)}",
        )


def _oversample(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    if algorithm.oversample > 1 and algorithm.zero_variance == "keep":
        yield (
            ("algorithm.oversample", "algorithm.zero_variance", "algorithm.preset"),
            f"`algorithm.oversample = {shown(algorithm.oversample)}` replaces groups that were dropped, but "
            "`zero_variance = keep` drops none; set zero_variance to drop, or oversample to 1",
        )


def _correction(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    low, high = algorithm.correction_low, algorithm.correction_high
    example = "0.98 and 1.02" if algorithm.correction.startswith("geo") else "0.5 and 2"
    only_rejects = algorithm.correction in ("none", "geo_mask", "k3_mask")
    if algorithm.ratio_base == "rollout" and not only_rejects:
        yield (
            ("algorithm.ratio_base", "algorithm.correction", "algorithm.preset"),
            "`algorithm.ratio_base = rollout` already corrects for the engine; "
            f"`correction = {algorithm.correction}` would count it twice; "
            "set correction to none, or ratio_base to old",
        )
    banded = ("token_mask", "sequence_mask", "geo_mask", "geo_mask_token")
    if algorithm.correction in banded and low >= high:
        yield (
            ("algorithm.correction_low", "algorithm.correction_high", "algorithm.correction"),
            f"`algorithm.correction_low = {shown(low)}` is not below `correction_high = {shown(high)}`: "
            f"every token would be dropped; set for example {example}",
        )


def _kl(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    if algorithm.kl == "off" and algorithm.kl_coef > 0:
        yield (
            ("algorithm.kl_coef", "algorithm.kl", "algorithm.preset"),
            f"`algorithm.kl_coef = {shown(algorithm.kl_coef)}` has no effect while `kl = off`; "
            "set kl to k2 or k3, or kl_coef to 0",
        )
    if algorithm.kl != "off" and algorithm.kl_coef == 0:
        yield (
            ("algorithm.kl", "algorithm.kl_coef", "algorithm.preset"),
            f"`algorithm.kl = {algorithm.kl}` keeps a second model for a penalty of weight `kl_coef = 0`; "
            "set kl to off, or kl_coef above 0, for example 0.01",
        )
    if algorithm.kl != "off" and algorithm.kl_refresh and loaded.recipe.model.lora is not None:
        yield (
            ("algorithm.kl_refresh", "algorithm.preset", "model.lora"),
            f"`algorithm.kl_refresh = {algorithm.kl_refresh}` cannot be with `model.lora`: the reference is "
            "the model without its adapter; set kl_refresh to null",
        )


def _ratio(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    gate, level = algorithm.gate, algorithm.ratio_level
    keys = ("algorithm.ratio_level", "algorithm.gate", "algorithm.preset")
    if gate in LEVELS and level not in LEVELS[gate]:
        yield (
            keys,
            f"`algorithm.ratio_level = {level}` is not what `gate = {gate}` is defined on; "
            f"set ratio_level to {' or '.join(LEVELS[gate])}, or another gate",
        )
    elif gate != "none" and level == "none":
        yield (
            keys,
            f"`algorithm.ratio_level = none` makes every ratio 1, and `gate = {gate}` never acts; "
            "set gate to none, or ratio_level to token",
        )


def _baseline(loaded: Loaded) -> Findings:
    recipe = loaded.recipe
    algorithm, size = recipe.algorithm, recipe.sampling.group_size
    baseline, scale = algorithm.baseline, algorithm.scale
    drawn = _drawn(baseline)
    if drawn >= size:
        yield (
            ("sampling.group_size", "algorithm.baseline", "algorithm.preset"),
            f"`algorithm.baseline = {baseline}` draws {drawn} of `sampling.group_size = {size}` completions: "
            "no two draws to compare; set a larger group_size",
        )
    if baseline == "optimal_token" and scale not in ("none", "token_whiten"):
        yield (
            ("algorithm.scale", "algorithm.baseline", "algorithm.preset"),
            f"`algorithm.scale = {scale}` is of sequences, and `baseline = optimal_token` is of tokens; "
            "set scale to none or token_whiten",
        )
    if (drawn or baseline == "signed") and scale not in ("none", "token_whiten"):
        yield (
            ("algorithm.scale", "algorithm.baseline", "algorithm.preset"),
            f"`algorithm.baseline = {baseline}` yields advantages of a scale of its own; "
            f"`scale = {scale}` would undo it; set scale to none",
        )
    if baseline == "rl_zvp" and algorithm.zero_variance == "drop":
        yield (
            ("algorithm.zero_variance", "algorithm.baseline", "algorithm.preset"),
            "`algorithm.zero_variance = drop` drops the very groups that `baseline = rl_zvp` learns from; "
            "set zero_variance to keep, or baseline to group_mean",
        )
    if baseline == "rl_zvp" and scale == "token_whiten":
        yield (
            ("algorithm.scale", "algorithm.baseline", "algorithm.preset"),
            "`algorithm.scale = token_whiten` would move the entropy advantages of `baseline = rl_zvp`; "
            "set scale to group_std",
        )


def _drawn(baseline: str) -> int:
    """k of `pass_at_k`, else 0."""
    return int(baseline.removeprefix("pass_at_")) if baseline.startswith("pass_at_") else 0


def _words(loaded: Loaded) -> Findings:
    pivots = loaded.recipe.pivots
    if loaded.recipe.algorithm.entropy == "lp_reg_pivots" and not pivots.languages and not pivots.words:
        yield (
            ("pivots", "algorithm.entropy"),
            "`algorithm.entropy = lp_reg_pivots` has no word to protect; "
            "set pivots.languages to [en], or pivots.words",
        )


def _band(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    if algorithm.entropy == "clip_cov" and algorithm.cov_low >= algorithm.cov_high:
        yield (
            ("algorithm.cov_low", "algorithm.cov_high", "algorithm.entropy"),
            f"`algorithm.cov_low = {shown(algorithm.cov_low)}` is not below `cov_high = "
            f"{shown(algorithm.cov_high)}`: no covariance lies between; set for example 1 and 5",
        )


def _bonus(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    if algorithm.entropy == "bonus" and not algorithm.entropy_coef and algorithm.entropy_target is None:
        yield (
            ("algorithm.entropy_coef", "algorithm.entropy", "algorithm.preset"),
            "`algorithm.entropy = bonus` of `entropy_coef = 0` does nothing without an entropy_target; "
            "set entropy_coef above 0, for example 0.001, or an entropy_target, for example 0.2",
        )


def _credit(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    if algorithm.credit not in BY_STATES:
        return
    if algorithm.baseline not in ("group_mean", "leave_one_out"):
        yield (
            ("algorithm.baseline", "algorithm.credit", "algorithm.preset"),
            f"`algorithm.baseline = {algorithm.baseline}` is no value of the prompt, where `credit = "
            f"{algorithm.credit}` begins; set baseline to leave_one_out or group_mean",
        )
    if algorithm.scale == "batch_whiten":
        yield (
            ("algorithm.scale", "algorithm.credit", "algorithm.preset"),
            f"`algorithm.scale = batch_whiten` moves the advantages of whole completions, and `credit = "
            f"{algorithm.credit}` has none; set scale to none, group_std, batch_std or token_whiten",
        )


def algorithm_doubts(loaded: Loaded) -> Findings:
    """What works, but hardly as it is meant."""
    yield from _unread(loaded)
    algorithm = loaded.recipe.algorithm
    if algorithm.entropy == "bonus" and algorithm.entropy_coef >= LARGE_BONUS:
        yield (
            ("algorithm.entropy_coef", "algorithm.entropy", "algorithm.preset"),
            f"`algorithm.entropy_coef = {shown(algorithm.entropy_coef)}` is much for an entropy bonus: the "
            "policy may go random; 0.001 is usual",
        )
    drawn, size = _drawn(algorithm.baseline), loaded.recipe.sampling.group_size
    if drawn > 1 and size < 2 * drawn:
        yield (
            ("sampling.group_size", "algorithm.baseline", "algorithm.preset"),
            f"`algorithm.baseline = {algorithm.baseline}` learns from groups with at least {drawn} wrong "
            f"completions alone, of `sampling.group_size = {size}`: few have them; use {4 * drawn} or so",
        )
    if algorithm.baseline in ("none", "signed", "greedy") and algorithm.zero_variance == "drop":
        yield (
            ("algorithm.zero_variance", "algorithm.baseline", "algorithm.preset"),
            "`algorithm.zero_variance = drop` leaves out groups whose scores are all equal, from which "
            f"`baseline = {algorithm.baseline}` would learn; set zero_variance to keep",
        )


def _unread(loaded: Loaded) -> Findings:
    algorithm = loaded.recipe.algorithm
    row = {**PRESETS["default"], **PRESETS[algorithm.preset]}
    for leaf, (axis, readers) in READ_BY.items():
        key, chosen = f"algorithm.{leaf}", getattr(algorithm, axis)
        given = key in loaded.spots and getattr(algorithm, leaf) != row[leaf]
        if given and chosen not in readers:
            yield (
                (key,),
                f"`{key}` is not read: it needs `{axis} = {' or '.join(readers)}`, which is {chosen}",
            )


LARGE_BONUS = 0.1
"""Ours; trainers use 0.0001 to 0.01."""
BY_STATES = ("step_mc", "segment_mc")
"""Credit by values of states."""
MASKS = ("token_mask", "sequence_mask", "geo_mask", "geo_mask_token")
READ_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "clip_low": ("gate", ("clip", "gmpo")),
    "clip_high": ("gate", ("clip", "gmpo")),
    "dual_clip": ("gate", ("clip",)),
    "ratio_cap": ("gate", ("cispo", "dppo_tv", "dppo_kl")),
    "sapo_up": ("gate", ("sapo",)),
    "sapo_down": ("gate", ("sapo",)),
    "divergence_limit": ("gate", ("dppo_tv", "dppo_kl")),
    "zvp_alpha": ("baseline", ("rl_zvp",)),
    "credit_continuations": ("credit", BY_STATES),
    "credit_tokens_share": ("credit", BY_STATES),
    "credit_steps": ("credit", ("step_mc",)),
    "segment_tokens": ("credit", ("segment_mc",)),
    "segment_probability": ("credit", ("segment_mc",)),
    "self_logratio_weight": ("credit", ("self_logratio",)),
    "future_decay": ("credit", ("future_kl",)),
    "future_reach": ("credit", ("future_kl",)),
    "correction_low": ("correction", MASKS),
    "correction_high": ("correction", ("token_truncate", "sequence_truncate", "k3_mask", *MASKS)),
    "kl_refresh": ("kl", ("k1_reward", "k2", "k3", "k3_weighted")),
    "length_constant": ("aggregation", ("seq_mean_token_sum",)),
    "entropy_when": ("entropy", ("bonus", "top_entropy", "clip_cov", "kl_cov", "lp_reg", "lp_reg_pivots")),
    "entropy_share": ("entropy", ("top_entropy", "clip_cov", "kl_cov", "lp_reg")),
    "entropy_coef": ("entropy", ("bonus", "kl_cov", "lp_reg", "lp_reg_pivots")),
    "entropy_target": ("entropy", ("bonus",)),
    "entropy_step": ("entropy", ("bonus",)),
    "cov_low": ("entropy", ("clip_cov",)),
    "cov_high": ("entropy", ("clip_cov",)),
    "lp_reg_kappa": ("entropy", ("lp_reg", "lp_reg_pivots")),
    "overlong_buffer": ("overlong", ("soft",)),
}
"""Keys of the loss that only some choice of another key reads."""
LEVELS = {
    "gmpo": ("token",),
    "dppo_tv": ("token",),
    "dppo_kl": ("token",),
    "vespo": ("sequence_product",),
    "topr": ("sequence_product", "token"),
}
"""Gates that are defined on one level of the ratio."""
