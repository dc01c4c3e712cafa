"""The learning curve as a picture: accuracy (training and held out), response length, entropy."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr.errors import RunError
from rlvr.runs.atomic import write_bytes_atomic
from rlvr.runs.reader import Row, read_metrics
from rlvr.view import lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP"
_PANELS = (
    ("accuracy", "verify/right_share", 100.0, "%"),
    ("response length", "rollout/length_mean_tokens", 1.0, "tokens"),
    ("entropy", "policy/entropy_nats", 1.0, "nats"),
)
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "rlvr",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#333333",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
}
# No date and no version inside: the same runs give the same file.
_METADATA: dict[str, dict[str, None]] = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def plot(paths: Sequence[Path], out: Path) -> None:
    """Draw the runs at `paths` over each other into `out` (.svg or .png); the same runs give the same bytes.

    Raises RunError where a run has no finished step yet, or the suffix is another.
    """
    _kind(out)
    runs = [(path.resolve().name, read_metrics(path)) for path in paths]
    for (name, rows), path in zip(runs, paths, strict=True):
        if not any(r.kind in ("train", "eval") for r in rows):
            raise RunError(f"{path}: nothing to draw: {name} has no finished step yet")
    draw(out, lambda: _figure(runs))


def draw(out: Path, make: Callable[[], Figure]) -> None:
    """Write the figure that `make` draws in our style into `out`: the same figure, the same bytes.

    Raises RunError where the suffix is neither .svg nor .png.
    """
    import matplotlib as mpl

    kind = _kind(out)

    style: dict[Any, Any] = {**mpl.rcParamsDefault, "backend": "agg", **_STYLE}
    with mpl.rc_context(style):
        buffer = io.BytesIO()
        make().savefig(buffer, format=kind[1:], dpi=160, metadata=_METADATA[kind])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(out, buffer.getvalue())


def _kind(out: Path) -> str:
    kind = out.suffix.lower()
    if kind not in _METADATA:
        raise RunError(f"{out}: a picture ends in .svg or .png; try `{out.stem or 'curve'}.svg`")
    return kind


def _figure(runs: Sequence[tuple[str, list[Row]]]) -> Figure:
    # The object interface: no window system, no global state of pyplot, usable off the main thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.3), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(_PANELS))
    for index, (name, rows) in enumerate(runs):
        colour = _COLOURS[index % len(_COLOURS)]
        for ax, (_, metric, scale, _) in zip(axes, _PANELS, strict=True):
            _curve(ax, rows, metric, scale, colour, name)
        _held_out(axes[0], rows, colour, many=len(runs) > 1)
    for ax, (title, _, _, unit) in zip(axes, _PANELS, strict=True):
        ax.set_title(f"{title} ({unit})", loc="left", fontsize=11, color="#222222")
        ax.set_xlabel("step")
        ax.margins(x=0.03)
        ax.set_ylim(bottom=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylim(0, 103)
    if len(runs) > 1 and any(lines.benchmarks(rows) for _, rows in runs):
        axes[0].set_title("accuracy (%); points: held out", loc="left", fontsize=11, color="#222222")
    _legends(figure, axes[0], runs)
    return figure


def _curve(ax: Axes, rows: Sequence[Row], metric: str, scale: float, colour: str, name: str) -> None:
    """The raw course, faint, under its running mean."""
    points = [
        (r.step, v * scale) for r in rows if r.kind == "train" and (v := r.metrics.get(metric)) is not None
    ]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    half = max(0, min(5, len(values) // 20))
    smooth = [_mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    if half:
        ax.plot(steps, values, color=colour, alpha=0.25, linewidth=1.0)
    dot = "o" if len(values) == 1 else ""
    ax.plot(steps, smooth, color=colour, linewidth=2.0, solid_capstyle="round", label=name, marker=dot)


def _held_out(ax: Axes, rows: Sequence[Row], colour: str, *, many: bool) -> None:
    """Held-out accuracy as points with their 95 % interval; each benchmark has its marker."""
    for index, benchmark in enumerate(lines.benchmarks(rows)):
        prefix = f"eval/{benchmark}/"
        mine = [r for r in rows if r.kind == "eval" and r.metrics.get(f"{prefix}avg_at_k") is not None]
        if not mine:
            continue
        middle = [100 * (r.metrics[f"{prefix}avg_at_k"] or 0.0) for r in mine]
        below = [
            m - 100 * _or(r.metrics.get(f"{prefix}ci_low"), m / 100)
            for m, r in zip(middle, mine, strict=True)
        ]
        above = [
            100 * _or(r.metrics.get(f"{prefix}ci_high"), m / 100) - m
            for m, r in zip(middle, mine, strict=True)
        ]
        ax.errorbar(
            [r.step for r in mine],
            middle,
            yerr=[[max(0.0, b) for b in below], [max(0.0, a) for a in above]],
            fmt=_MARKERS[index % len(_MARKERS)],
            color=colour if many else _COLOURS[(index + 1) % len(_COLOURS)],
            markersize=6,
            markeredgecolor="white",
            capsize=3,
            linewidth=1.4,
            zorder=5,
            label=f"held out: {benchmark}",
        )


def _legends(figure: Figure, ax: Axes, runs: Sequence[tuple[str, list[Row]]]) -> None:
    """One run: what the marks are, in the first panel.  Several: which colour is which run, below."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    if len(runs) == 1:
        renamed = [label if label.startswith("held out: ") else "training" for label in labels]
        ax.legend(
            handles, renamed, loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9
        )
        return
    names = {name for name, _ in runs}
    pairs = [(h, label) for h, label in zip(handles, labels, strict=True) if label in names]
    figure.legend(
        [h for h, _ in pairs],
        [label for _, label in pairs],
        loc="outside lower center",
        ncols=min(5, max(1, len(pairs))),
        frameon=False,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
