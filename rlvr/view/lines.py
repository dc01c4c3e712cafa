"""Rows as plain text: one line a step, evaluation or warm-start interval, without colours; and sparklines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from statistics import median

from rlvr.runs.alarms import percent
from rlvr.runs.reader import Row

_BARS = "▁▂▃▄▅▆▇█"
ETA_WINDOW = 20
"""Steps whose median time foretells the rest."""


def step_line(row: Row, steps: int, eta_s: float | None) -> str:
    """`step 12/50  reward 0.41  right 41%  length 33 ...`; what is not known is left out."""
    shown = [f"step {row.step}/{steps}" if steps else f"step {row.step}"]
    for label, name, form in _STEP:
        if name in row.metrics:
            shown.append(f"{label} {form(row.metrics[name])}".strip())
    if eta_s is not None:
        shown.append(f"eta {clock(eta_s)}")
    return "  ".join(shown)


def eval_lines(row: Row) -> list[str]:
    """One line a benchmark of an evaluation."""
    return [
        "  ".join([f"eval after step {row.step}", name, *eval_parts(row, name)]) for name in benchmarks([row])
    ]


def eval_parts(row: Row, benchmark: str) -> list[str]:
    """`41.2% [38.0, 44.4]`, `greedy 40.1%`, ... of one benchmark."""
    values = {what: row.metrics.get(f"eval/{benchmark}/{what}") for what in _EVAL}
    shown: list[str] = []
    if values["avg_at_k"] is not None:
        shown.append(f"right {fine_share(values['avg_at_k'])}{interval(row, benchmark)}")
    if values["greedy"] is not None:
        shown.append(f"greedy {fine_share(values['greedy'])}")
    if values["length_mean_tokens"] is not None:
        shown.append(f"length {whole(values['length_mean_tokens'])}")
    for what, label in (
        ("truncated_share", "trunc"),
        ("no_answer_share", "no answer"),
        ("error_share", "error"),
    ):
        if values[what]:
            shown.append(f"{label} {share(values[what])}")
    return shown


def interval(row: Row, benchmark: str) -> str:
    """` [38.0, 44.4]`, in percent, or nothing where it is not known."""
    low, high = (row.metrics.get(f"eval/{benchmark}/{end}") for end in ("ci_low", "ci_high"))
    return "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"


def warm_start_line(row: Row, total: int | None) -> str:
    """`warm start 100/500  loss 0.52 nats  12.1k tok/s`."""
    shown = [f"warm start {row.step}/{total}" if total else f"warm start {row.step}"]
    if "warm_start/loss_nats" in row.metrics:
        shown.append(f"loss {decimal(row.metrics['warm_start/loss_nats'])}")
    if "warm_start/tokens_per_s" in row.metrics:
        shown.append(rate(row.metrics["warm_start/tokens_per_s"]))
    return "  ".join(shown)


def benchmarks(rows: Iterable[Row]) -> list[str]:
    """The benchmarks measured in these rows, in order of appearance."""
    names = (n for r in rows if r.kind == "eval" for n in r.metrics if n.startswith("eval/"))
    return list(dict.fromkeys(n.removeprefix("eval/").rpartition("/")[0] for n in names))


def eta_s(train: Sequence[Row], steps: int) -> float | None:
    """Seconds until the last step, from the median time of the newest steps; None where nothing is known."""
    times = [t for r in list(train)[-ETA_WINDOW:] if (t := r.metrics.get("time/step_s")) is not None]
    return median(times) * max(0, steps - train[-1].step) if times and steps else None


def sparkline(values: Sequence[float | None], width: int = 32) -> str:
    """The newest course of a number in `width` characters; longer courses are averaged, gaps stay blank."""
    if not values:
        return ""
    cells = min(width, len(values))
    means: list[float | None] = []
    for cell in range(cells):
        piece = values[cell * len(values) // cells : (cell + 1) * len(values) // cells]
        known = [v for v in piece if v is not None and math.isfinite(v)]
        means.append(sum(known) / len(known) if known else None)
    seen = [m for m in means if m is not None]
    low, span = (min(seen), max(seen) - min(seen)) if seen else (0.0, 0.0)
    return "".join(" " if m is None else _BARS[round(7 * (m - low) / span) if span else 3] for m in means)


def clock(seconds: float) -> str:
    """`0:23`, `12:05`, `3:04:05`."""
    total = max(0, round(seconds))
    hours, minutes = total // 3600, total // 60 % 60
    return f"{hours}:{minutes:02}:{total % 60:02}" if hours else f"{minutes}:{total % 60:02}"


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters, but line ends and tabs, become visible."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _visible, text)


def single(text: str) -> str:
    """The text on one line, as `printable`: its line ends but those at its ends become `\\n`."""
    return printable(text.strip("\r\n")).replace("\n", "\\n")


def alarm_kind(text: str) -> str:
    """An alarm without its numbers, to say each only once."""
    return re.sub(r"\d[\d.e+-]*", "#", text)


def decimal(value: float | None) -> str:
    """`0.41`; `-` where the number was not finite."""
    return "-" if value is None else f"{value:.3f}" if 0 < abs(value) < 0.1 else f"{value:.2f}"


def share(value: float | None) -> str:
    """`41%`."""
    return "-" if value is None else percent(value).replace(" ", "")


def fine_share(value: float | None) -> str:
    """`41.2%`."""
    return "-" if value is None else f"{100 * value:.1f}%"


def whole(value: float | None) -> str:
    """`33`."""
    return "-" if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """`9.8k tok/s`."""
    if value is None:
        return "- tok/s"
    return f"{value / 1000:.1f}k tok/s" if value >= 1000 else f"{value:.0f} tok/s"


def seconds(value: float | None) -> str:
    """`0.61 s`."""
    return "-" if value is None else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _visible(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


_STEP = (
    ("reward", "reward/mean", decimal),
    ("right", "verify/right_share", share),
    ("length", "rollout/length_mean_tokens", whole),
    ("entropy", "policy/entropy_nats", decimal),
    ("trunc", "rollout/truncated_share", share),
    ("", "rollout/tokens_per_s", rate),
    ("step", "time/step_s", seconds),
)
_EVAL = (
    "avg_at_k",
    "greedy",
    "length_mean_tokens",
    "truncated_share",
    "no_answer_share",
    "error_share",
)
