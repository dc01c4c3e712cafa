"""Named algorithms as rows of data over the axes of the loss.  A row says where it differs from `default`.

Formulas: rlvr/algo; `rlvr recipe explain algorithm.preset` shows both tables.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "baseline": "group_mean",
        "scale": "group_std",
        "advantage_epsilon": 1e-6,
        "ratio_level": "token",
        "ratio_base": "old",
        "gate": "clip",
        "clip_low": 0.2,
        "clip_high": 0.28,
        "dual_clip": None,
        "ratio_cap": 5.0,
        "correction": "token_truncate",
        "correction_low": 0.5,
        "correction_high": 2.0,
        "aggregation": "token_mean",
        "length_constant": None,
        "kl": "off",
        "kl_coef": 0.0,
        "zero_variance": "drop",
        "oversample": 1.0,
        "overlong": "keep",
        "overlong_buffer": 64,
    },
    "grpo": {
        "clip_high": 0.2,
        "correction": "none",
        "aggregation": "seq_mean_token_mean",
        "kl": "k3",
        "kl_coef": 0.04,
        "zero_variance": "keep",
    },
    "dr_grpo": {
        "scale": "none",
        "clip_high": 0.2,
        "correction": "none",
        "aggregation": "seq_mean_token_sum",
        "length_constant": 3000.0,
        "zero_variance": "keep",
    },
    "dapo": {"correction": "none", "oversample": 3.0, "overlong": "soft"},
    "rloo": {
        "baseline": "leave_one_out",
        "scale": "none",
        "ratio_level": "none",
        "gate": "none",
        "correction": "none",
        "aggregation": "seq_mean_token_sum",
        "zero_variance": "keep",
    },
    "reinforce_pp_baseline": {
        "scale": "token_whiten",
        "advantage_epsilon": 1e-8,
        "clip_high": 0.2,
        "correction": "none",
        "kl": "k2",
        "kl_coef": 0.01,
        "zero_variance": "keep",
    },
    "gspo": {
        "ratio_level": "sequence",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "correction": "none",
        "aggregation": "seq_mean_token_mean",
        "zero_variance": "keep",
    },
    "cispo": {"gate": "cispo", "ratio_cap": 5.0, "correction": "none", "zero_variance": "keep"},
}

SOURCES: dict[str, str] = {
    "default": "Group-normalised advantages, clip-higher, token mean, no KL, truncated correction.",
    "grpo": "DeepSeekMath, arXiv:2402.03300 eq. 3.",
    "dr_grpo": "Understanding R1-Zero-Like Training, arXiv:2503.20783: no length and no std normalisation.",
    "dapo": "DAPO, arXiv:2503.14476 eq. 8-13: clip-higher, dynamic sampling, token mean, soft overlong.",
    "rloo": "REINFORCE leave-one-out, arXiv:2402.14740 eq. 7 (the paper's KL in the reward is left off).",
    "reinforce_pp_baseline": "REINFORCE++ with group baseline, arXiv:2501.03262: whitened over tokens, k2.",
    "gspo": "GSPO, arXiv:2507.18071 eq. 5-7: the ratio of the whole sequence.",
    "cispo": "CISPO, MiniMax-M1, arXiv:2506.13585 eq. 4-5: the capped ratio is a constant weight.",
}
"""Where each row comes from, and how it departs from there."""
